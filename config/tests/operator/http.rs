//! What a cache rule may say about mode http, and where.

use super::*;
use std::time::Duration;
use tollgate_config::{
    CachePolicy, Heuristic, HttpPolicy, QueryPolicy, SetCookie, Stale, Tier, TierUse, Trust,
    redacted,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn file(rule: &str) -> String {
    let text = SMALLEST.replace("upstream: model", &format!("upstream: model, cache: {rule}"));
    format!("stores: {{ redis: {{ urls: ['redis://a'] }} }}\n{text}")
}

#[track_caller]
fn policy(rule: &str) -> CachePolicy {
    valid(&file(rule)).routes.remove(0).cache
}

fn without_path(rule: &str) -> String {
    problems(&file(rule)).replace("routes[0].cache.", "")
}

#[test]
fn a_rule_that_says_nothing_leaves_it_to_the_answers_headers() {
    let expected = HttpPolicy {
        heuristic: Some(Heuristic { percent: 10, max: DAY, negative: true }),
        set_cookie: SetCookie::Strip,
        query: QueryPolicy { sort: false, ignore: Vec::new(), only: None },
        cdn: None,
    };
    assert_eq!(HttpPolicy::default(), expected);
    let empty = "{ mode: http, stale: {}, heuristic: {}, query: {} }";
    for rule in ["{ mode: http }", "on", "off", "{ mode: content }", empty] {
        assert_eq!(policy(rule).http, expected, "{rule}");
    }
}

#[test]
fn what_is_said_of_http_holds() {
    let rule = "{ mode: http,
        heuristic: { percent: 100, max: 1h, negative: false }, set_cookie: keep,
        query: { sort: true, ignore: [utm_*, gclid, '*'], only: [q, 'a%5B*'] } }";
    let expected = HttpPolicy {
        heuristic: Some(Heuristic { percent: 100, max: HOUR, negative: false }),
        set_cookie: SetCookie::Keep,
        query: QueryPolicy {
            sort: true,
            ignore: vec!["utm_*".into(), "gclid".into(), "*".into()],
            only: Some(vec!["q".into(), "a%5B*".into()]),
        },
        cdn: None,
    };
    assert_eq!(policy(rule).http, expected);
}

#[test]
fn what_is_only_about_http_may_stand_without_a_mode() {
    let http = policy("{ heuristic: off, set_cookie: bypass, query: { only: [] } }").http;
    assert_eq!(http.heuristic, None);
    assert_eq!(http.set_cookie, SetCookie::Bypass);
    assert_eq!(http.query.only, Some(Vec::new()), "none is not all");
    assert_eq!(policy("{ heuristic: false }").http.heuristic, None);
    assert_eq!(policy("{ heuristic: true }").http.heuristic, Some(Heuristic::default()));
}

#[test]
fn every_mode_that_keeps_anything_may_give_what_is_past_its_time() {
    for mode in ["", "mode: content,", "mode: http,"] {
        let stale = "stale: { while_revalidate: 30s, if_error: 1h, degrade: 10m }";
        let stale = policy(&format!("{{ {mode} {stale} }}")).stale;
        let expected = Stale {
            while_revalidate: Duration::from_secs(30),
            if_error: HOUR,
            degrade: Duration::from_secs(600),
        };
        assert_eq!(stale, expected, "{mode}");
        assert_eq!(policy(&format!("{{ {mode} tags: [] }}")).stale, Stale::default(), "{mode}");
    }
}

#[test]
fn what_a_mode_has_no_use_for_is_refused() {
    let rule = |mode: &str| {
        format!("{{ {mode} stale: {{}}, heuristic: off, set_cookie: strip, query: {{}} }}")
    };
    insta::assert_snapshot!(without_path(&rule("mode: content,")), @r"
    heuristic: is of mode http (RFC 9111) and has no meaning in mode content
    set_cookie: is of mode http (RFC 9111) and has no meaning in mode content
    query: is of mode http (RFC 9111) and has no meaning in mode content
    ");
    insta::assert_snapshot!(without_path(&rule("mode: off,")), @r"
    stale: has no meaning in mode off, which keeps nothing
    heuristic: is of mode http (RFC 9111) and has no meaning in mode off
    set_cookie: is of mode http (RFC 9111) and has no meaning in mode off
    query: is of mode http (RFC 9111) and has no meaning in mode off
    ");
}

#[test]
fn of_a_mode_that_nobody_can_read_only_the_mode_is_reported() {
    for mode in ["htp", "true"] {
        let problems = without_path(&format!("{{ mode: {mode}, stale: {{}}, set_cookie: keep }}"));
        assert!(problems.starts_with("mode: must be"), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn every_mistake_about_http_has_its_path() {
    let long = "a".repeat(129);
    let rule = format!(
        "{{ mode: http, stale: {{ while_revalidate: 30, if_error: 400d, if_errors: 1h }},
        heuristic: {{ percent: 0, max: 0s, negative: 1 }}, set_cookie: drop,
        query: {{ sort: 'on', ignore: ['', 'a*b', '**', 'a=b', '{long}'], only: [q, 'a b', q, 'ü'] }} }}"
    );
    insta::assert_snapshot!(without_path(&rule), @r#"
    heuristic.negative: must be true or false, not the number 1
    heuristic.percent: must be 1 to 100
    query.sort: must be true or false, not "on"
    set_cookie: must be one of strip, bypass, keep, not "drop"
    stale.if_errors: unknown key; did you mean if_error?
    stale.while_revalidate: must be a duration like 10ms, 5s, 2m, 1h or 7d, not the number 30
    stale.if_error: must be 0s to 366d, not 400d
    heuristic.max: must be 1ms to 366d, not 0s
    query.ignore[0]: must be the name of a parameter, 1 to 128 bytes long: ""
    query.ignore[1]: must have a * only at the end: "a*b"
    query.ignore[2]: must have a * only at the end: "**"
    query.ignore[3]: must be printable ASCII without & = #; write anything else as %XX, as callers do: "a=b"
    query.ignore[4]: must be the name of a parameter, 1 to 128 bytes long: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"…
    query.only[1]: must be printable ASCII without & = #; write anything else as %XX, as callers do: "a b"
    query.only[2]: q appears twice
    query.only[3]: must be printable ASCII without & = #; write anything else as %XX, as callers do: "ü"
    "#);
    insta::assert_snapshot!(without_path("{ mode: http, heuristic: { percent: 101 } }"), @"heuristic.percent: must be 1 to 100");
    insta::assert_snapshot!(without_path("{ mode: http, heuristic: 10 }"), @"heuristic: must be true or false or on, off or a mapping, not the number 10");
}

#[test]
fn a_list_of_parameters_ends_at_64() {
    let names = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(", ");
    for list in ["ignore", "only"] {
        let rule = |n| format!("{{ mode: http, query: {{ {list}: [{}] }} }}", names(n));
        policy(&rule(64));
        assert_eq!(without_path(&rule(65)), format!("query.{list}: takes at most 64"));
    }
    policy(&format!("{{ query: {{ only: ['{}*'] }} }}", "a".repeat(127)));
}

#[test]
fn only_a_ttl_that_is_written_at_a_tier_caps_what_the_headers_say() {
    let memory =
        |ttl, ttl_written| TierUse { tier: Tier::Memory, ttl, ttl_written, entry_bytes_max: None };
    let redis =
        |ttl, ttl_written| TierUse { tier: Tier::Redis, ttl, ttl_written, entry_bytes_max: None };
    assert_eq!(
        policy("{ mode: http, tiers: [memory, { name: redis, ttl: 7d }] }").tiers,
        [memory(HOUR, None), redis(7 * DAY, Some(7 * DAY))],
        "longer than content mode's ttl, which is not meant here"
    );
    assert_eq!(
        policy("{ ttl: 24h, tiers: [{ name: memory, ttl: 1h }, { name: redis }] }").tiers,
        [memory(HOUR, Some(HOUR)), redis(DAY, None)]
    );
    assert_eq!(
        without_path("{ tiers: [{ name: memory, ttl: 7d }] }"),
        "tiers[0].ttl: must not be longer than the ttl of the cache"
    );
}

#[test]
fn what_is_shown_of_a_cache_rule_is_the_same_rule() {
    for rule in [
        "on",
        "{ mode: content, tiers: [memory, { name: redis, ttl: 1h }], stale: { degrade: 10m } }",
        "{ heuristic: off, set_cookie: bypass, query: { only: [] }, tiers: [redis],
           stale: { while_revalidate: 1s, if_error: 1h } }",
        "{ mode: http, stale: { if_error: 1d }, tiers: [memory, { name: redis, ttl: 7d }],
           heuristic: { percent: 1, max: 1ms, negative: false }, set_cookie: keep,
           query: { sort: true, ignore: [utm_*], only: ['*', q] },
           cdn: { control: cache-control, tags: cache-tag, ttl_max: 1h } }",
        "{ cdn: {} }",
    ] {
        let config = valid(&file(rule));
        let again = valid(&redacted(&config).to_string());
        assert_eq!(config.routes, again.routes, "{rule}");
    }
    let shown = redacted(&valid(&file("{ mode: http, heuristic: false }")));
    insta::assert_snapshot!(shown.pointer("/routes/0/cache").unwrap(), @r#"{"forward":"all","heuristic":"off","mode":"http","promote":true,"query":{"ignore":[],"sort":false},"set_cookie":"strip","stale":{"degrade":"0s","if_error":"0s","while_revalidate":"0s"},"tags":[],"tiers":[{"name":"memory"}],"writes":"back"}"#);
}

#[test]
fn who_may_vote_out_what_is_everybodys_must_be_named() {
    let rule = |rule: &str| without_path(&format!("{{ {rule} }}"));
    insta::assert_snapshot!(rule("mode: http, vote_out: {}"), @"vote_out.trust: is needed where answers are everybody's: name the tenants that may");
    insta::assert_snapshot!(rule("mode: content, scope: shared, vote_out: {}"), @"vote_out.trust: is needed where answers are everybody's: name the tenants that may");
    insta::assert_snapshot!(rule("mode: off, vote_out: {}"), @"vote_out: has no meaning where nothing is cached");
    insta::assert_snapshot!(rule("mode: content, vote_out: { per_minute: 0, trusts: [a] }"), @r"
    vote_out.per_minute: must be 1 to 600
    vote_out.trusts: unknown key; did you mean trust?
    ");
    insta::assert_snapshot!(rule("mode: content, vote_out: { per_minute: 601 }"), @"vote_out.per_minute: must be 1 to 600");
}

#[test]
fn a_vote_out_that_says_nothing_believes_each_tenant_ten_times_a_minute() {
    assert_eq!(policy("{ mode: content }").vote_out, None);
    let vote_out = |rule: &str| policy(rule).vote_out.unwrap();
    let silent = vote_out("{ mode: content, vote_out: {} }");
    assert_eq!((silent.trust, silent.per_minute.get()), (Trust::Anyone, 10));
    let named = vote_out("{ mode: http, vote_out: { trust: [a], per_minute: 600 } }");
    assert_eq!((named.trust, named.per_minute.get()), (Trust::Only(vec!["a".into()]), 600));
}

#[test]
fn a_cdn_is_told_nothing_unless_a_route_says_so_and_by_rfc_9213_unless_it_says_how() {
    use tollgate_config::{Cdn, CdnControl, CdnTags};
    assert_eq!(policy("{ mode: http }").http.cdn, None);
    let default = Cdn { control: CdnControl::Targeted, tags: None, ttl_max: None };
    assert_eq!(policy("{ mode: http, cdn: {} }").http.cdn, Some(default));
    let all = "{ cdn: { control: surrogate-control, tags: xkey, ttl_max: 5m } }";
    let ttl_max = Some(Duration::from_secs(300));
    let all_said = Cdn { control: CdnControl::Surrogate, tags: Some(CdnTags::Xkey), ttl_max };
    assert_eq!(policy(all).http.cdn, Some(all_said));
    insta::assert_snapshot!(without_path("{ mode: content, cdn: {} }"),
        @"cdn: is of mode http (RFC 9111) and has no meaning in mode content");
    insta::assert_snapshot!(
        without_path("{ mode: http, cdn: { control: no, tags: keys, ttl_max: 0s, purge: x } }"), @r#"
    cdn.control: must be one of cdn-cache-control, surrogate-control, cache-control, not "no"
    cdn.purge: unknown key; known here: control, tags, ttl_max
    cdn.tags: must be one of surrogate-key, cache-tag, xkey, not "keys"
    cdn.ttl_max: must be 1s to 366d, not 0s
    "#);
}
