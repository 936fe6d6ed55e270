//! What a cache rule may say about keys, conditions and times.

use super::*;
use std::time::Duration;
use tollgate_config::{CachePolicy, Forward, Items, Join, KeyPart, redacted};

fn file(rule: &str) -> String {
    SMALLEST.replace("upstream: model", &format!("upstream: model, cache: {rule}"))
}

#[track_caller]
fn policy(rule: &str) -> CachePolicy {
    valid(&file(rule)).routes.remove(0).cache
}

fn without_path(rule: &str) -> String {
    problems(&file(rule)).replace("routes[0].cache.key.", "")
}

#[test]
fn a_key_is_of_what_the_rule_names() {
    let rule = "{ mode: content, key: { ignore: [/user, '/m/*/id'], include_headers: [X-Session],
        of: [body./q, header.X-Kb, query.lang, path.2] } }";
    let key = policy(rule).key;
    assert_eq!(key.ignore, ["/user", "/m/*/id"]);
    assert_eq!(key.include_headers, ["x-session"]);
    let of = [
        KeyPart::Body("/q".into()),
        KeyPart::Header("x-kb".into()),
        KeyPart::Query("lang".into()),
        KeyPart::Segment(1),
    ];
    assert_eq!(key.of.as_deref(), Some(of.as_slice()));
    assert!(policy("{ mode: content }").key.is_default());
    assert!(policy("{ mode: content, key: {} }").key.is_default());
}

#[test]
fn mistakes_in_keys_are_told_apart() {
    let rule =
        "{ mode: content, key: { ignore: [user, '/a~', /b, /b], include_headers: ['a b', x, X],
        of: [body, body./a, part.b, body./c/*, path.0, session, header.h, header.H] } }";
    insta::assert_snapshot!(without_path(rule), @r#"
    ignore[0]: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not "user"
    ignore[1]: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not "/a~"
    ignore[3]: /b appears twice
    include_headers[0]: must be the name of a header, not "a b"
    include_headers[2]: x appears twice
    of[3]: * stands for any member only in ignore; name one value
    of[4]: the segments of a path are path.1 to path.64
    of[5]: unknown part "session"; known are body body./json/pointer part.NAME header.N query.N path.N
    of[7]: header.h appears twice
    of: body./pointer is of a JSON body and part.NAME of a form: no call has both
    "#);
    insta::assert_snapshot!(without_path("{ mode: content, key: { of: [] } }"), @"of: needs at least 1");
    insta::assert_snapshot!(without_path("{ mode: content, key: { ignore: [/a], of: [header.x] } }"), @"ignore: has no meaning with an of that names no body./pointer");
    insta::assert_snapshot!(problems(&file("{ mode: http, key: { ignore: [/a] } }")), @"routes[0].cache.key: has no meaning in mode http, where the answer's headers decide");
}

#[test]
fn what_a_template_leaves_out_is_said() {
    let said = |of: &str| {
        let text = file(&format!("{{ mode: content, key: {{ of: {of} }} }}"));
        let (_, warnings) = load(&text, &Table::default()).unwrap();
        let all: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        all.into_iter().filter(|text| text.contains(".of")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(said("[body./q, query.lang]"), @"routes[0].cache.key.of: leaves out the rest of the body, the rest of the query: calls that differ only there get one answer");
    insta::assert_snapshot!(said("[part.image, header.x-prompt, path.2]"), @"routes[0].cache.key.of: leaves out the other parts of the form and the names of files, the rest of the path: calls that differ only there get one answer");
    insta::assert_snapshot!(said("[body]"), @"routes[0].cache.key.of: leaves out the content-type: calls that differ only there get one answer");
    insta::assert_snapshot!(said("[header.x-file]"), @"routes[0].cache.key.of: leaves out the body: calls that differ only there get one answer");
}

#[test]
fn what_goes_on_is_what_the_key_is_of_where_a_route_says_so() {
    assert_eq!(policy("{ mode: content }").forward, Forward::All);
    assert_eq!(policy("{ mode: http, forward: keyed }").forward, Forward::Keyed);
    let rule = "{ mode: content, forward: keyed, key: { of: [part.image] } }";
    let refused = load(&file(rule), &Table::default()).unwrap_err();
    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(refused.join("\n"), @"routes[0].cache.forward: keyed does not go with part.NAME in key.of: what divides a form's parts stands in its content-type, which is another in each call and so in no key");
}

#[test]
fn a_rule_about_keys_is_shown_as_it_was_written() {
    let rule = "{ mode: content, key: { versions: { kb: { header: x-kb } }, ignore: [/user],
        include_headers: [x-session], of: [body./q, path.3] }, forward: keyed }";
    let config = valid(&file(rule));
    assert_eq!(valid(&redacted(&config).to_string()).routes, config.routes);
}

#[test]
fn conditions_and_times_mean_what_they_say() {
    let rule = "{ mode: content, ttl: 1h, tiers: [{ name: memory }],
        when: { temperature_max: 0, n_max: 1, tools: false, finish_reasons: [stop], body_max: 64KiB,
          request: [{ pointer: /a, equals: 1 }, { pointer: /b, exists: false }],
          answer: [{ pointer: /c, in: [x, true] }] },
        ttl_rules: [{ request: { /kind: [faq, help] }, headers: { X-Kind: a }, ttl: 24h },
          { answer: { /state: open }, statuses: [200], ttl: 0s }],
        upstream_ttl: true, jitter_percent: 10 }";
    let config = valid(&file(rule));
    let policy = &config.routes[0].cache;
    let tests: Vec<_> = policy.when.request.iter().map(ToString::to_string).collect();
    assert_eq!(tests, ["/a = 1", "/b is not there"]);
    assert_eq!(policy.when.body_bytes_max, Some(64 << 10));
    assert_eq!(policy.lifetime.rules[0].headers, [("x-kind".into(), "a".into())]);
    assert!(policy.lifetime.rules[1].ttl.is_zero());
    // A tier that says nothing does not cut what lives longest.
    assert_eq!(policy.tiers[0].ttl.as_secs(), 24 * 3600);
    assert_eq!(valid(&redacted(&config).to_string()).routes, config.routes);
}

#[test]
fn mistakes_in_conditions_and_times_are_told_apart() {
    let rule = "{ mode: content,
        when: { temperature_max: 3, tools: maybe, finish_reasons: [], statuses: [99, 206, 404], body_max: 0B,
          request: [{ pointer: a, equals: 1 }, { pointer: /b }, { pointer: /c, equals: 1, exists: true }, { equals: 1 }] },
        ttl_rules: [{ request: { a: 1, /b: [] }, headers: { 'x y': a }, statuses: [404] }],
        jitter_percent: 91 }";
    let shown = problems(&file(rule)).replace("routes[0].cache.", "");
    insta::assert_snapshot!(shown, @r#"
    jitter_percent: must be 0 to 90
    ttl_rules[0].ttl: missing
    when.finish_reasons: needs at least 1
    when.request[3].pointer: missing
    when.temperature_max: must be 0 to 2
    when.tools: must be true or false, not "maybe"
    ttl_rules[0].headers."x y": must be the name of a header, not "x y"
    ttl_rules[0].request."/b": must be a value or some values
    ttl_rules[0].request.a: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not "a"
    when.body_max: must be 1B to 1TiB, not 0B
    when.statuses[0]: 99 must be a final status, 200 to 599
    when.statuses[1]: 206 is part of an answer, and cannot be kept
    when.request[0].pointer: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not "a"
    when.request[1]: must say exactly one of equals, in and exists
    when.request[2]: must say exactly one of equals, in and exists
    when.statuses: others than 200 need dialect: http: of model calls only whole answers are kept
    ttl_rules[0].statuses: others than 200 need dialect: http: of model calls only whole answers are kept
    "#);
    let rule = "{ mode: http, when: {}, ttl_rules: [], upstream_ttl: true, jitter_percent: 1 }";
    insta::assert_snapshot!(problems(&file(rule)), @r#"
    routes[0].cache.when: has no meaning in mode http, where the answer's headers decide
    routes[0].cache.ttl_rules: has no meaning in mode http, where the answer's headers decide
    routes[0].cache.upstream_ttl: has no meaning in mode http, where the answer's headers decide
    routes[0].cache.jitter_percent: has no meaning in mode http, where the answer's headers decide
    "#);
}

#[test]
fn whose_items_are_told_apart_means_what_it_says() {
    let plain =
        |rule: &str| file(rule).replace("upstream: model,", "upstream: model, dialect: http,");
    let items = |items: &str| policy(&format!("{{ mode: content, items: {items} }}")).items;
    assert_eq!(policy("{ mode: content }").items, Items::Embeddings);
    assert_eq!((items("off"), items("false")), (Items::Off, Items::Off));
    assert_eq!((items("embeddings"), items("auto")), (Items::Embeddings, Items::Auto));
    for list in ["{ list: /a/b, answers: '', index: place }", "{ list: '', answers: /labels }"] {
        let config = valid(&plain(&format!("{{ mode: content, items: {list} }}")));
        assert!(matches!(config.routes[0].cache.items, Items::Named { .. }));
        assert_eq!(valid(&redacted(&config).to_string()).routes, config.routes);
    }
    let joined = policy("{ mode: content, join: { within: 5ms } }").join;
    assert_eq!(joined, Some(Join { within: Duration::from_millis(5), items_max: 64 }));
    let config = valid(&file("{ mode: content, join: { within: 1s, items_max: 2 } }"));
    assert_eq!(valid(&redacted(&config).to_string()).routes, config.routes);
    let said = |text: String| problems(&text).replace("routes[0].cache.", "");
    insta::assert_snapshot!(said(file("{ items: off, join: { within: 2s, items_max: 1 } }")), @"
    join.items_max: must be 2 to 2048
    join: needs items: calls are joined item by item
    join.within: must be 1ms to 1s, not 2s
    ");
    insta::assert_snapshot!(said(file("{ join: {} }")), @"join.within: missing");
    let rule = "{ mode: content, key: { ignore: [/texts/*/id] }, items: { list: /texts, answers: 'a*', index: '' } }";
    insta::assert_snapshot!(said(plain(rule)), @r#"
    items.answers: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, without *, not "a*"
    items.index: must be the name of a member
    items.list: cannot be told apart by the key of this route: it names parts of the body, or ignores what is in the list
    "#);
    insta::assert_snapshot!(said(plain("{ mode: content, items: { list: /a } }")), @"items.answers: missing");
    insta::assert_snapshot!(said(plain("{ mode: content, items: auto }")), @"items: has no meaning with dialect: http: name the list and its answers");
    insta::assert_snapshot!(said(file("{ items: { list: /a, answers: /b } }")), @"items: needs dialect: http: where calls of a dialect have their lists is known");
    insta::assert_snapshot!(said(file("{ items: true }")), @"items: must be off, embeddings, auto or a list and its answers, not true");
    insta::assert_snapshot!(said(file("{ mode: http, items: auto }")), @"items: has no meaning in mode http, where the answer's headers decide");
}

#[test]
fn a_models_version_may_be_said_in_bodies_or_be_asked_for() {
    let upstream = |version: &str| {
        SMALLEST.replace("endpoints:", &format!("model_version: {version}, endpoints:"))
    };
    for version in [
        "{ from: body, pointer: /system_fingerprint }",
        "{ from: poll, pointer: /model_sha, path: '/info?x=1', interval: 5s }",
        "{ from: poll, list: /data, pointer: /root }",
        "{ from: poll, list: /data, id: /name, pointer: /root }",
    ] {
        let config = valid(&upstream(version));
        assert_eq!(valid(&redacted(&config).to_string()).upstreams, config.upstreams, "{version}");
    }
    let all: Vec<String> = [
        "{ from: body }",
        "{ from: body, pointer: x, path: /a, header: y }",
        "{ from: poll, pointer: /a, id: /b, path: 'a b', interval: 1ms }",
        "{ from: header, pointer: /a }",
        "{ from: static, interval: 5s }",
    ]
    .iter()
    .map(|version| problems(&upstream(version)).replace("upstreams.model.model_version.", ""))
    .collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    pointer: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not ""
    header: needs from: header
    path: needs from: poll
    pointer: must be a JSON pointer like /metadata/topic, of at most 32 steps, with ~ as ~0 and / in a name as ~1, not "x"
    id: needs list
    path: must be a path like /v1/models, not "a b"
    interval: must be 10ms to 366d, not 1ms
    pointer: needs from: body or poll
    interval: needs from: poll
    value: missing: from: static needs the version
    "#);
}
