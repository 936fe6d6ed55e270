//! Random callers, random routes, lookalikes; and the judge itself, held against what it is to see.

use super::*;
use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use std::cell::RefCell;

const CHAT: &str = "/v1/chat/completions";

/// Lines that may stand in a head. Values are made to be mistaken for each other.
fn line() -> impl Strategy<Value = String> {
    let name = select(vec![
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "x-tenant",
        "x-key",
        "x-user",
        "X-User",
        "x-route",
        "content-type",
        "accept-language",
        "x-vary",
        "x-http-method-override",
        "x-original-url",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "x-flavour",
        "x-kb",
        "x-app",
        "openai-organization",
        "openai-beta",
        "anthropic-version",
        "content-encoding",
        "accept",
        "user-agent",
        "via",
        "traceparent",
        "x-forwarded-for",
        "connection",
        "cache-control",
        "host",
    ]);
    let value = select(vec![
        "a",
        "b",
        "ab",
        "",
        "a, b",
        "key-0000000000000000",
        "anonymous",
        "application/json",
        "text/plain",
        "x-user",
        "x-tenant, authorization",
        "accept-language, x-flavour",
        "origin",
        "/v1/embeddings",
        "PUT",
        "max-age=60",
    ]);
    prop_oneof![
        8 => (name, value).prop_map(|(name, value)| format!("{name}: {value}")),
        3 => select(vec!["user", "shared", "http", "disk", "ruled", "named", "bytes"])
            .prop_map(|route| format!("x-route: {route}")),
        2 => select(vec!["sealed", "sealed-user", "sealed-shared", "sealed-bytes", "sealed-http"])
            .prop_map(|route| format!("x-route: {route}")),
        2 => select(vec!["a", "b"]).prop_map(|user| format!("x-user: {user}")),
        2 => select(vec!["a", "b"]).prop_map(|tenant| format!("x-tenant: {tenant}")),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let message = select(vec!["a", "b", "\\u0061", "a\\\",\\\"user\\\":\\\"b", "key=a"]);
    let more = select(vec![
        "",
        ",\"user\":\"a\"",
        ",\"user\":\"b\"",
        ",\"stream\":true",
        ",\"temperature\":1",
        ",\"temperature\":1.0",
        ",\"temperature\":0",
        ",\"n\":9007199254740993",
        ",\"n\":9007199254740992",
        ",\"messages\":[]",
    ]);
    (message, more).prop_map(|(message, more)| {
        format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{message}\"}}]{more}}}")
    })
}

fn call() -> impl Strategy<Value = String> {
    let target = select(vec![
        CHAT,
        CHAT,
        CHAT,
        CHAT,
        "/v1/chat/%63ompletions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions?",
        "/v1/chat/completions?a=b",
        "/v1/chat/completions?key=a",
        "/v1/embeddings",
        "/page",
    ]);
    let method = select(vec!["POST", "POST", "POST", "POST", "GET", "QUERY"]);
    let marks = select(vec!["", "@", "", "@", "~", "~@"]);
    (method, target, prop::collection::vec(line(), 0..5), body(), marks).prop_map(
        |(method, target, lines, body, mark)| {
            let has_host = lines.iter().any(|line| line.starts_with("host:"));
            let host = if has_host { "" } else { "host: h\n" };
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let body = if method == "GET" { "" } else { &*body };
            format!("{mark}{method} {target} HTTP/1.1\n{host}{lines}\n{body}")
        },
    )
}

#[test]
fn no_caller_is_ever_given_an_answer_of_another_tenant_user_or_question() {
    let laboratory = RefCell::new(Laboratory::new().unwrap());
    let calls = (0..3_u8, prop::collection::vec(call(), 1..8));
    TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_500)
    })
    .run(&calls, |(setting, calls)| {
        let input = format!("{setting}{}", calls.join("\n====\n"));
        laboratory.borrow_mut().assert_no_answer_crosses(input.as_bytes());
        Ok(())
    })
    .unwrap();
    let Laboratory { hits, misses, .. } = &*laboratory.borrow();
    assert!(*hits > 100 && *misses > 500, "{hits} hits, {misses} misses: nothing was tried");
}

/// The judge's word on two requests of one setting.
#[track_caller]
fn check(setting: u8, one: &str, other: &str, expected: Option<&str>) {
    let identity = SETTINGS[usize::from(setting)].1;
    let sent = |text: &str| {
        let route =
            text.split("x-route: ").nth(1).map_or("tenant", |it| it.lines().next().unwrap());
        let is_trusted = text.starts_with('@');
        let read = request::read(text.trim_start_matches('@').as_bytes()).unwrap();
        Sent::new(identity, is_trusted, route, read)
    };
    assert_eq!(oracle::apart(&sent(one), &sent(other)), expected, "{one}\n{other}");
}

#[test]
fn the_judge_sees_what_it_is_there_to_see() {
    let ask = |lines: &str| format!("POST {CHAT} HTTP/1.1\nhost: h\n{lines}\n{{\"a\":1}}");
    check(0, &ask("authorization: a\n"), &ask("authorization: a\n"), None);
    check(0, &ask("authorization: a\n"), &ask("authorization: b\n"), Some("another's answer"));
    check(0, &ask("authorization: a\n"), &ask("x-api-key: a\n"), None);
    check(0, &ask("cookie: a\n"), &ask(""), Some("another's answer"));
    let tenant = |lines: &str| format!("@{}", ask(lines));
    check(1, &tenant("x-tenant: a\n"), &tenant("x-tenant: b\n"), Some("another's answer"));
    check(1, &tenant("x-tenant: a\n"), &ask("x-tenant: a\n"), Some("another's answer"));
    check(2, &ask("x-key: a\n"), &ask("x-key: b\n"), Some("another's answer"));
    let user = |user: &str| tenant(&format!("x-route: user\nx-tenant: t\nx-user: {user}\n"));
    check(1, &user("a"), &user("b"), Some("another's answer"));
    check(0, &ask("x-route: shared\n"), &ask("x-route: shared\nauthorization: b\n"), None);
    check(0, &ask(""), &ask("").replace("{\"a\":1}", "{\"a\": 1.0}"), None);
    check(0, &ask(""), &ask("").replace("{\"a\":1}", "{\"a\":2}"), Some("another question"));
    check(
        0,
        &ask(""),
        &ask("x-original-url: /\n"),
        Some("a field that overrules the request line"),
    );
    check(
        0,
        &ask("x-route: shared\n"),
        &ask("x-route: shared\n").replace("host: h", "host: evil"),
        Some("a field that says which place is meant"),
    );
    check(
        0,
        &ask("x-vary: accept-language\naccept-language: de\n"),
        &ask("accept-language: fr\n"),
        Some("a field that the answer says to depend on"),
    );
}

#[test]
fn what_is_given_past_its_time_is_nobody_elses_either() {
    let mut laboratory = Laboratory::new().unwrap();
    let ask = |key: &str, mark: &str| {
        format!("0{mark}POST {CHAT} HTTP/1.1\nhost: h\nauthorization: {key}\n\n{{\"messages\":[]}}")
    };
    for (call, hits, misses) in [(ask("a", ""), 0, 1), (ask("b", "~"), 0, 2), (ask("a", ""), 1, 2)]
    {
        laboratory.assert_no_answer_crosses(call.as_bytes());
        assert_eq!((laboratory.hits, laboratory.misses), (hits, misses), "{call}");
    }
}

/// Goal: the property is not empty: with a scope taken out of the keys it does not hold.
#[test]
fn the_laboratory_notices_an_answer_that_crosses() {
    let mut laboratory = Laboratory::new().unwrap();
    let ask = |key: &str| {
        format!("0POST {CHAT} HTTP/1.1\nhost: h\nauthorization: {key}\n\n{{\"messages\":[]}}")
    };
    laboratory.assert_no_answer_crosses(ask("a").as_bytes());
    laboratory.assert_no_answer_crosses(ask("a").as_bytes());
    assert_eq!((laboratory.hits, laboratory.misses), (1, 1));
    // As if it had been made for somebody else.
    let other = request::read(&ask("b").as_bytes()[1..]).unwrap();
    let other = Sent::new(Identity::Credential, false, "tenant", other);
    laboratory.labs[0].calls.insert(0, Arc::new(other));
    let judged =
        std::panic::AssertUnwindSafe(|| laboratory.assert_no_answer_crosses(ask("a").as_bytes()));
    assert!(std::panic::catch_unwind(judged).is_err());
}

/// Goal: the other property is not empty either: with one field let through that no key binds it does
/// not hold.
#[test]
fn the_laboratory_notices_a_field_that_goes_on_and_is_in_no_key() {
    let mut laboratory = Laboratory::new().unwrap();
    let ask = |language: &str| {
        let lines = format!("host: h\nx-route: sealed-shared\naccept-language: {language}\n");
        format!("0POST {CHAT} HTTP/1.1\n{lines}\n{{\"messages\":[]}}")
    };
    laboratory.assert_no_answer_crosses(ask("de").as_bytes());
    laboratory.assert_no_answer_crosses(ask("fr").as_bytes());
    assert_eq!((laboratory.hits, laboratory.misses), (1, 1));
    let sent = laboratory.labs[0].sealed.values_mut().next().unwrap();
    assert!(!sent.contains_key("accept-language"), "{sent:?}");
    sent.insert("accept-language", http::HeaderValue::from_static("de"));
    let purged = ask("fr").replacen('0', "0~", 1);
    let asked = std::panic::AssertUnwindSafe(|| {
        laboratory.assert_no_answer_crosses(purged.as_bytes());
    });
    assert!(std::panic::catch_unwind(asked).is_err());
}
