//! What holds of which call and answer.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::Path;
use tollgate_config::{Overrides, ProcessEnvironment, load};

fn conditions(rule: &str) -> Conditions {
    // Plain answers do not say how they ended; those of a dialect are all 200.
    let dialect = if rule.contains("finish_reasons") { "openai" } else { "http" };
    let text = format!(
        "upstreams: {{ m: {{ endpoints: [{{ url: 'http://127.0.0.1:1' }}] }} }}
routes: [{{ name: r, upstream: m, dialect: {dialect}, cache: {{ mode: content, {rule} }} }}]"
    );
    let (config, _) =
        load(&text, Path::new("."), &Overrides::default(), &ProcessEnvironment).unwrap();
    Conditions::new(&config.routes[0].cache)
}

fn asked(conditions: &Conditions, operation: Operation, body: &str) -> Result<Fitting, Unmet> {
    let facts = form::read_request(operation, body.as_bytes()).unwrap_or_default();
    conditions.of_request(operation, &facts, body.as_bytes())
}

/// The milliseconds for which an answer is kept.
fn kept(conditions: &Conditions, request: &str, form: Form, answer: &str) -> Option<u64> {
    let operation = Operation::OpenAiChat;
    let fitting = asked(conditions, operation, request).ok()?;
    let fitting = conditions.of_head(fitting, &HeaderMap::new()).unwrap_or_default();
    let life = Life { fitting, cap_ms: None, said_ms: None };
    let kept =
        conditions.of_body(life, operation, (form, answer.as_bytes()), &key(0), |ttl_ms| ttl_ms);
    kept.ok()
}

fn key(n: u8) -> CacheKey {
    CacheKey::from_hex(&format!("{n:02x}").repeat(32)).unwrap()
}

#[test]
fn what_a_request_says_is_held_against_what_is_wanted() {
    let conditions = conditions(
        "when: { temperature_max: 0.5, n_max: 1, tools: false,
           request: [{ pointer: /a, in: [1, x, true] }, { pointer: /b, exists: false }] }",
    );
    let chat = |body: &str| {
        asked(&conditions, Operation::OpenAiChat, body).map_err(|unmet| unmet.to_string())
    };
    let fits = r#"{"temperature":0.5,"a":1.0,"tools":[],"n":1}"#;
    assert!(chat(fits).is_ok());
    for (body, why) in [
        (r#"{"a":1}"#, "temperature is 1, when.temperature_max 0.5"),
        (r#"{"a":1,"temperature":"0"}"#, "temperature is 1, when.temperature_max 0.5"),
        (r#"{"a":1,"temperature":0,"n":2}"#, "n is 2, when.n_max 1"),
        (r#"{"a":1,"temperature":0,"tools":[{}]}"#, "it offers tools, when.tools is false"),
        (r#"{"a":1,"temperature":0,"functions":[{}]}"#, "it offers tools, when.tools is false"),
        (r#"{"a":2,"temperature":0}"#, "when.request wants /a = 1 or \"x\" or true"),
        (r#"{"temperature":0}"#, "when.request wants /a = 1 or \"x\" or true"),
        (r#"{"a":"x","b":null,"temperature":0}"#, "when.request wants /b is not there"),
    ] {
        assert_eq!(chat(body), Err(why.to_owned()), "{body}");
    }
    // An embedding has no temperature.
    assert!(asked(&conditions, Operation::OpenAiEmbeddings, r#"{"a":true}"#).is_ok());
}

#[test]
fn an_answer_is_held_against_what_is_wanted() {
    let conditions = conditions(
        "when: { finish_reasons: [stop], body_max: 200B, answer: [{ pointer: /ok, equals: true }] }",
    );
    let answer = |reason: &str, more: &str| {
        format!(
            r#"{{"ok":true,"choices":[{{"finish_reason":"stop"}},{{"finish_reason":"{reason}"}}]{more}}}"#
        )
    };
    let kept = |answer: &str| kept(&conditions, "{}", Form::Whole, answer).is_some();
    assert!(kept(&answer("stop", "")));
    assert!(!kept(&answer("length", "")));
    assert!(!kept(&answer("stop", "").replace("true", "false")));
    assert!(!kept(&answer("stop", "").replace("\"ok\":true,", "")));
    assert!(!kept(r#"{"ok":true}"#));
    assert!(!kept(r#"{"ok":true,"choices":[{}]}"#));
    assert!(kept(r#"{"ok":true,"stop_reason":"stop"}"#));
    assert!(!kept("no json"));
    assert!(!kept(&answer("stop", &format!(",\"x\":\"{}\"", "y".repeat(200)))));
}

#[test]
fn the_first_rule_that_fits_says_how_long() {
    let conditions = conditions(
        "ttl: 1h, ttl_rules: [
           { request: { /kind: order, /live: true }, ttl: 0s },
           { request: { /kind: order }, answer: { /state: [open, new] }, ttl: 5m },
           { request: { /kind: [order, faq] }, ttl: 24h },
           { answer: { /n: 1 }, ttl: 7d } ]",
    );
    let kept = |request: &str, answer: &str| kept(&conditions, request, Form::Whole, answer);
    const MINUTE: u64 = 60_000;
    assert_eq!(kept(r#"{"kind":"order"}"#, r#"{"state":"new"}"#), Some(5 * MINUTE));
    assert_eq!(kept(r#"{"kind":"order"}"#, r#"{"state":"done"}"#), Some(24 * 60 * MINUTE));
    assert_eq!(kept(r#"{"kind":"faq"}"#, "no json"), Some(24 * 60 * MINUTE));
    assert_eq!(kept(r#"{"kind":"x"}"#, r#"{"n":1.0}"#), Some(7 * 24 * 60 * MINUTE));
    assert_eq!(kept("{}", r#"{"n":2}"#), Some(60 * MINUTE));
    let live = asked(&conditions, Operation::OpenAiChat, r#"{"kind":"order","live":true}"#);
    assert_eq!(live.map_err(|unmet| unmet.reason()), Err("ttl-zero"));
}

const DONE: &str = "data: [DONE]\n\n";

fn chunk(delta: &str, end: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
         \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{end}}}]}}\n\n"
    )
}

#[test]
fn a_stream_that_says_no_usage_is_judged_too_and_one_that_nobody_can_read_is_kept_least_long() {
    const HOUR: u64 = 3_600_000;
    let rules = conditions(
        "ttl: 1h, ttl_rules: [{ answer: { /model: m }, ttl: 5m }, { answer: { /model: n }, ttl: 2m },
           { request: { /a: 1 }, ttl: 7d }]",
    );
    let silent = chunk("{\"role\":\"assistant\",\"content\":\"x\"}", "\"stop\"") + DONE;
    let of = |request: &str, answer: &str| kept(&rules, request, Form::Stream, answer);
    assert_eq!(of("{}", &silent), Some(HOUR / 12));
    assert_eq!(of("{}", "data: what no converter knows\n\n"), Some(HOUR / 30));
    let plain = conditions(
        "ttl: 1h, ttl_rules: [{ request: { /a: 1 }, ttl: 7d }, { answer: { /model: n }, ttl: 2m }]",
    );
    let of = |request: &str, answer: &str| kept(&plain, request, Form::Stream, answer);
    // Whatever it says, the first rule is about it.
    assert_eq!(of(r#"{"a":1}"#, "data: ?\n\n"), Some(7 * 24 * HOUR));
    assert_eq!(of("{}", "data: ?\n\n"), Some(HOUR / 30));
    let never = conditions("ttl: 1h, ttl_rules: [{ answer: { /model: n }, ttl: 0s }]");
    assert_eq!(kept(&never, "{}", Form::Stream, "data: ?\n\n"), None);
    let ended = conditions("when: { finish_reasons: [stop] }");
    assert!(kept(&ended, "{}", Form::Stream, &silent).is_some());
}

#[test]
fn a_stream_is_judged_by_the_answer_it_comes_to() {
    let conditions = conditions("when: { finish_reasons: [stop] }");
    let usage = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
        \"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\ndata: [DONE]\n\n";
    let stream = |end: &str| {
        let first = chunk("{\"role\":\"assistant\",\"content\":\"x\"}", "null");
        first + &chunk("{}", end) + usage
    };
    let kept = |answer: &str| kept(&conditions, "{}", Form::Stream, answer).is_some();
    assert!(kept(&stream("\"stop\"")));
    assert!(!kept(&stream("\"length\"")));
    assert!(!kept("data: what no converter knows\n\n"));
}

#[test]
fn the_upstream_may_shorten_and_forbid() {
    let conditions = conditions("ttl: 1h, upstream_ttl: true");
    let said = |fields: &[(&str, &str)]| {
        let mut response = http::Response::builder();
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (head, _) = response.body(Bytes::new()).unwrap().into_parts();
        let life = conditions.of_answer(Fitting::default(), (7_000, 7_000), &head)?;
        let kept =
            conditions
                .of_body(life, Operation::Other, (Form::Whole, b"x"), &key(0), |ttl_ms| ttl_ms);
        kept.ok()
    };
    assert_eq!(said(&[]), Some(3_600_000));
    assert_eq!(said(&[("cache-control", "max-age=60")]), Some(60_000));
    assert_eq!(said(&[("cache-control", "max-age=60, s-maxage=7200")]), Some(3_600_000));
    assert_eq!(said(&[("cache-control", "s-maxage=60"), ("age", "20")]), Some(40_000));
    for forbids in ["no-cache", "private", "no-store", "max-age=0", "private=\"etag\""] {
        assert_eq!(said(&[("cache-control", forbids)]), None, "{forbids}");
    }
    assert_eq!(said(&[("expires", "0")]), None);
}

proptest! {
    #[test]
    fn jitter_shortens_by_the_key_and_never_beyond_its_share(n in any::<u8>(), percent in 0..=90_u64, minutes in 1..10_000_u64) {
        let conditions = conditions(&format!("ttl: {minutes}m, jitter_percent: {percent}"));
        let life = Life { fitting: Fitting::default(), cap_ms: None, said_ms: None };
        let of = |key: &CacheKey| conditions.of_body(life, Operation::Other, (Form::Whole, b"x"), key, |ttl_ms| ttl_ms).unwrap();
        let ttl_ms = minutes * 60_000;
        let found = of(&key(n));
        prop_assert_eq!(found, of(&key(n)));
        prop_assert!((ttl_ms - ttl_ms * percent / 100..=ttl_ms).contains(&found), "{}", found);
        prop_assert_eq!(of(&key(0)), ttl_ms);
        if percent > 0 {
            prop_assert!(of(&key(255)) < ttl_ms);
        }
    }
}
