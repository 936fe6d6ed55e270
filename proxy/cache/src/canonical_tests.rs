//! The canonical form: what must be one, and what must stay two.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[track_caller]
fn form(body: &str) -> String {
    let form = canonicalise(body.as_bytes(), &["stream", "stream_options"], Bounds::default());
    String::from_utf8(form.expect("the body has a form")).expect("forms are UTF-8")
}

#[track_caller]
fn check_refused(body: &[u8], reason: &str) {
    let bounds = Bounds { body_len_max: 4096, depth_max: 16 };
    let refused = canonicalise(body, &["stream"], bounds).expect_err("no form");
    assert_eq!(refused.reason(), reason, "{refused}");
}

#[test]
fn order_space_escapes_and_number_spelling_do_not_matter() {
    let tidy = r#"{"model":"m","n":1,"messages":[{"content":"A/b","role":"user"}]}"#;
    let odd = "\t{ \"messages\" : [ {\"role\":\"\\u0075ser\",\r\n \"content\":\"\\u0041\\/b\"} ] , \"n\":1.0, \"model\":\"m\"}\n";
    assert_eq!(form(tidy), form(odd));
    assert_eq!(form(tidy), r#"{"messages":[{"content":"A/b","role":"user"}],"model":"m","n":1}"#);
}

#[test]
fn top_level_members_are_dropped_and_only_those() {
    let with = r#"{"stream":true,"a":{"stream":1},"stream_options":{"include_usage":true},"b":2}"#;
    assert_eq!(form(with), r#"{"a":{"stream":1},"b":2}"#);
    assert_eq!(form(r#"{"stream":true}"#), "{}");
    assert_eq!(form(r#"{"b":2,"stream":true}"#), r#"{"b":2}"#);
}

#[test]
fn an_escaped_quote_or_control_cannot_forge_structure() {
    assert_ne!(form(r#"{"a":"b\",\"c\":\"d"}"#), form(r#"{"a":"b","c":"d"}"#));
    assert_eq!(form(r#""\u000a\u001F\b""#), r#""\u000a\u001f\u0008""#);
    assert_eq!(form(r#""\ud83d\ude00""#), "\"\u{1f600}\"");
}

#[test]
fn what_some_reader_may_read_differently_has_no_form() {
    check_refused(br#"{"a":1,"a":1}"#, "duplicate-member");
    check_refused(br#"{"x":[{"a":1,"b":2,"\u0061":1}]}"#, "duplicate-member");
    check_refused(br#"{"stream":true,"stream":false}"#, "duplicate-member");
    check_refused(br#""\ud800""#, "not-canonical");
    check_refused(br#""\udc00\ud800""#, "not-canonical");
    check_refused(b"1e99999999999", "not-canonical");
    for broken in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "nul",
        "\"\n\"",
        "1 2",
        "\"\\x\"",
        "\"\\u12\"",
        "\u{feff}1",
        "01",
        "{1:2}",
    ] {
        check_refused(broken.as_bytes(), "not-json");
    }
    check_refused(b"\"\xff\"", "not-json");
    check_refused("[".repeat(17).as_bytes(), "body-too-deep");
    check_refused(&[b' '; 4097], "body-too-large");
}

#[test]
fn the_depth_limit_is_reached_without_overflowing_a_stack() {
    let deep = format!("{}{}", "[".repeat(DEPTH_LIMIT), "]".repeat(DEPTH_LIMIT));
    let bounds = Bounds { body_len_max: usize::MAX, depth_max: usize::MAX };
    assert!(canonicalise(deep.as_bytes(), &[], bounds).is_ok());
    let deeper = format!("[{deep}]");
    let refused = canonicalise(deeper.as_bytes(), &[], bounds);
    assert!(matches!(refused, Err(NotCanonical::TooDeep { .. })), "{refused:?}");
}

#[test]
fn a_body_made_to_be_moved_again_and_again_is_refused() {
    let nested = |levels: usize| {
        let payload = "x".repeat(10_000);
        let (open, close) = (r#"{"b":"#.repeat(levels), r#","a":0}"#.repeat(levels));
        canonicalise(format!("{open}\"{payload}\"{close}").as_bytes(), &[], Bounds::default())
    };
    assert!(nested(12).is_ok());
    assert!(matches!(nested(100), Err(NotCanonical::TooDeep { .. })));
}

/// A JSON value with numbers as (mantissa, power of ten), which is what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Json {
    Null,
    Bool(bool),
    Number(i64, i32),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

fn number(mantissa: i64, power: i32) -> Json {
    let (mut mantissa, mut power) = (mantissa, power);
    while mantissa != 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        power += 1;
    }
    Json::Number(mantissa, if mantissa == 0 { 0 } else { power })
}

fn json() -> impl Strategy<Value = Json> {
    let text = prop_oneof!["[a-c\"\\\\/\n\u{1}é😀]{0,3}", "a{0,2}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-30_i64..30, -2_i32..3).prop_map(|(m, p)| number(m, p)),
        (any::<i64>(), -3_i32..3).prop_map(|(m, p)| number(m, p)),
        text.clone().prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::btree_map(text.clone(), inner, 0..4).prop_map(Json::Object),
        ]
    })
}

/// Spells `json` in one of many ways, chosen by the bits of `style`.
fn spell(json: &Json, style: &mut impl Iterator<Item = u8>, out: &mut String) {
    let space = |style: &mut dyn Iterator<Item = u8>, out: &mut String| {
        out.push_str(["", " ", "\n\t", "\r"][usize::from(style.next().unwrap_or(0) % 4)]);
    };
    space(style, out);
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(mantissa, power) => match style.next().unwrap_or(0) % 3 {
            0 => out.push_str(&format!("{mantissa}e{power}")),
            1 => out.push_str(&format!("{mantissa}.000E{power:+}")),
            _ if *power >= 0 => {
                let zeros = if *mantissa == 0 { 0 } else { usize::try_from(*power).unwrap() };
                out.push_str(&format!("{mantissa}{}", "0".repeat(zeros)));
            }
            _ => out.push_str(&format!("{mantissa}00e{}", power - 2)),
        },
        Json::Text(text) => spell_text(text, style, out),
        Json::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                spell(item, style, out);
            }
            space(style, out);
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            let turn = usize::from(style.next().unwrap_or(0));
            if !members.is_empty() {
                let middle = turn % members.len();
                members.rotate_left(middle);
            }
            if turn % 2 == 1 {
                members.reverse();
            }
            out.push('{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                space(style, out);
                spell_text(name, style, out);
                space(style, out);
                out.push(':');
                spell(value, style, out);
            }
            space(style, out);
            out.push('}');
        }
    }
    space(style, out);
}

fn spell_text(text: &str, style: &mut impl Iterator<Item = u8>, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let must = matches!(character, '"' | '\\') || u32::from(character) < 0x20;
        if must || style.next().unwrap_or(0).is_multiple_of(3) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

fn spelled(json: &Json, style: &[u8]) -> String {
    let mut out = String::new();
    spell(json, &mut style.iter().copied().cycle(), &mut out);
    out
}

fn style() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..40)
}

proptest! {
    #[test]
    fn however_it_is_spelled_it_is_one(json in json(), one in style(), other in style()) {
        let (one, other) = (spelled(&json, &one), spelled(&json, &other));
        let bounds = Bounds::default();
        let form = canonicalise(one.as_bytes(), &[], bounds);
        prop_assert!(form.is_ok(), "{form:?} {one}");
        prop_assert_eq!(form, canonicalise(other.as_bytes(), &[], bounds));
    }

    #[test]
    fn injective(one in json(), other in json(), style in style()) {
        let forms = [&one, &other]
            .map(|json| canonicalise(spelled(json, &style).as_bytes(), &[], Bounds::default()));
        prop_assert_eq!(one == other, forms[0] == forms[1]);
    }

    #[test]
    fn forms_are_stable_and_agree_with_serde_json_on_what_is_json(body in ".{0,40}", json in json(), style in style()) {
        assert_canonical_is_stable(body.as_bytes());
        let body = spelled(&json, &style);
        assert_canonical_is_stable(body.as_bytes());
        let form = canonicalise(body.as_bytes(), &[], Bounds::default()).unwrap();
        let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        // The oracle reads numbers as doubles, so equality is all it can say.
        prop_assert_eq!(read(&form).is_object(), read(body.as_bytes()).is_object());
        if let (Some(form), Some(body)) = (read(&form).as_str(), read(body.as_bytes()).as_str()) {
            prop_assert_eq!(form, body);
        }
    }

    #[test]
    fn torn_and_twisted_bodies_never_panic(json in json(), style in style(), cut in any::<prop::sample::Index>(), twist in any::<u8>()) {
        let mut body = spelled(&json, &style).into_bytes();
        let place = cut.index(body.len());
        assert_canonical_is_stable(&body[..place]);
        body[place] = twist;
        assert_canonical_is_stable(&body);
    }
}
