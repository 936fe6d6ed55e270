//! Asks for usage, or for another model, in a caller's own request, byte for byte otherwise.
//!
//! A stream says its usage only if the request asks for it. The member is spliced
//! into the bytes the caller wrote: writing the body anew could change what the
//! provider sees (numbers, the order that its prompt cache works by).

use super::raw::Raw;

const ASK: &str = r#""include_usage":true"#;

/// `body` with `"stream_options":{"include_usage":true}` set in it.
///
/// `None` when there is nothing to do or nothing we may touch: not a JSON object,
/// not `"stream":true`, usage is asked for already, or `stream` or `stream_options`
/// come twice or are of a type on which the provider should speak for itself.
pub fn inject_usage(body: &[u8]) -> Option<Vec<u8>> {
    let request = Raw::parse(body)?;
    let members = request.members()?;
    if only(&members, "stream")??.text() != "true" {
        return None;
    }
    match only(&members, "stream_options")? {
        None => {
            let member = format!(r#""stream_options":{{{ASK}}},"#);
            Some(splice(body, request.start() + 1, request.start() + 1, &member))
        }
        Some(options) if options.is_null() => {
            Some(splice(body, options.start(), options.end(), &format!("{{{ASK}}}")))
        }
        Some(options) => inject_into(body, options),
    }
}

/// `body` with `model` as the member of that name.
///
/// `None` where it says none, or says it twice: then there is nothing to rename, and it is for
/// the provider to speak.
pub fn rename_model(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let request = Raw::parse(body)?;
    let said = only(&request.members()?, "model")??;
    let name = serde_json::to_string(model).ok()?;
    Some(splice(body, said.start(), said.end(), &name))
}

fn inject_into(body: &[u8], options: Raw<'_>) -> Option<Vec<u8>> {
    let members = options.members()?;
    let Some(said) = only(&members, "include_usage")? else {
        let comma = if members.is_empty() { "" } else { "," };
        let start = options.start() + 1;
        return Some(splice(body, start, start, &format!("{ASK}{comma}")));
    };
    matches!(said.text(), "false" | "null").then(|| splice(body, said.start(), said.end(), "true"))
}

/// The member `name`, if there is one; `None` if there are several.
fn only<'a>(members: &[(String, Raw<'a>)], name: &str) -> Option<Option<Raw<'a>>> {
    let mut named = members.iter().filter(|(member, _)| member == name);
    let first = named.next().map(|(_, value)| *value);
    named.next().is_none().then_some(first)
}

fn splice(body: &[u8], start: usize, end: usize, with: &str) -> Vec<u8> {
    let before = body.get(..start).unwrap_or_default();
    let after = body.get(end..).unwrap_or_default();
    [before, with.as_bytes(), after].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Option<&str>) {
        let injected = inject_usage(body.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(injected.as_deref(), expected);
    }

    #[test]
    fn the_rest_of_the_body_keeps_every_byte() {
        check(
            " {\"n\" : 1.0, \"stream\":true}\n",
            Some(" {\"stream_options\":{\"include_usage\":true},\"n\" : 1.0, \"stream\":true}\n"),
        );
        check(
            "{\"stream_options\": null ,\"stream\": true}",
            Some("{\"stream_options\": {\"include_usage\":true} ,\"stream\": true}"),
        );
        check(
            "{\"stream\":true,\"stream_options\":{ }}",
            Some("{\"stream\":true,\"stream_options\":{\"include_usage\":true }}"),
        );
        check(
            "{\"stream\":true,\"stream_options\":{ \"include_obfuscation\":false}}",
            Some(
                "{\"stream\":true,\"stream_options\":{\"include_usage\":true, \"include_obfuscation\":false}}",
            ),
        );
        for said in ["false", "null"] {
            let body = format!(
                "{{\"stream_options\":{{\"a\":1,\"include_usage\" : {said} }},\"stream\":true}}"
            );
            check(&body, Some(&body.replace(said, "true")));
        }
        check(
            "{\"str\\u0065am\":true}",
            Some("{\"stream_options\":{\"include_usage\":true},\"str\\u0065am\":true}"),
        );
    }

    #[test]
    fn only_the_models_name_is_another() {
        let renamed = |body: &str| {
            rename_model(body.as_bytes(), "a\"b").map(|it| String::from_utf8(it).unwrap())
        };
        let body = "{ \"n\":1.0,\"model\" : \"gpt\", \"messages\":[{\"model\":\"x\"}]}";
        let expected = body.replacen("\"gpt\"", "\"a\\\"b\"", 1);
        assert_eq!(renamed(body), Some(expected));
        for body in ["{}", "[]", "", "{\"model\":\"a\",\"model\":\"b\"}"] {
            assert_eq!(renamed(body), None, "{body}");
        }
    }

    #[test]
    fn where_there_is_nothing_to_do_nothing_is_done() {
        for body in [
            "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
            "{\"stream\":false}",
            "{\"stream\":\"true\"}",
            "{}",
            "[]",
            "",
            "{\"stream\":true",
            "{\"messages\":[{\"stream\":true}]}",
        ] {
            check(body, None);
        }
    }

    #[test]
    fn what_the_provider_should_refuse_is_left_for_it_to_refuse() {
        for body in [
            "{\"stream\":true,\"stream\":false}",
            "{\"stream\":true,\"stream_options\":{},\"stream_options\":{}}",
            "{\"stream\":true,\"stream_options\":{\"include_usage\":false,\"include_usage\":false}}",
            "{\"stream\":true,\"stream_options\":\"all\"}",
            "{\"stream\":true,\"stream_options\":{\"include_usage\":1}}",
        ] {
            check(body, None);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_result_is_the_request_with_the_member_set(
            rest in prop::collection::hash_map("[a-z{}\":,\\\\]{0,5}", any_value(), 0..4),
            options in prop_oneof![
                Just(None),
                Just(Some(Value::Null)),
                prop::collection::hash_map("[a-c]{1}", any_value(), 0..3)
                    .prop_map(|members| Some(Value::Object(members.into_iter().collect()))),
            ],
            pretty in any::<bool>(),
        ) {
            let mut request = Value::Object(rest.into_iter().collect());
            request["stream"] = json!(true);
            if let Some(options) = options {
                request["stream_options"] = options;
            }
            let body = if pretty { format!("{request:#}") } else { request.to_string() };
            let injected = inject_usage(body.as_bytes()).unwrap();
            request["stream_options"]["include_usage"] = json!(true);
            prop_assert_eq!(serde_json::from_slice::<Value>(&injected).unwrap(), request);
            prop_assert_eq!(inject_usage(&injected), None);
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(inject_usage(&bytes), None);
        }
    }
}
