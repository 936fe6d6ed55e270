//! What is valid but deserves a word.

use super::*;

#[test]
fn what_is_valid_but_unwise_is_said() {
    let text = r#"
listeners: [{ address: 0.0.0.0:8080 }, { address: 0.0.0.0:8081, trusted: [] }, { address: 127.0.0.1:8082 }]
stores: { redis: { urls: ["redis://:pw@a"] } }
upstreams:
  model: { endpoints: [{ url: "http://x" }], tls: { ca: ca.pem } }
  idle: { endpoints: [{ url: "http://y" }] }
identity: { tenant: { header: x-tenant }, user: { header: x-user } }
routes:
  - { name: v1, upstream: model, match: { path_prefix: /v1 }, cache: on, class: { map: { vip: vip } } }
  - { name: chat, upstream: model, match: { path: /v1/chat, methods: [POST] } }
  - { name: all, upstream: model, cache: { mode: content } }
prices: { book: none }
resources: [{ name: rent, kind: compute, hourly: "4000" }, { name: air, kind: compute, hourly: "0" }]
"#;
    let (_, warnings) = load(text, &Table::default()).unwrap();
    insta::assert_snapshot!(lines(&warnings), @r#"
    Missing upstreams.model.tls.ca: no such file: /etc/tollgate/ca.pem
    Advice listeners[0]: anyone who reaches this address may claim x-priority, x-tenant, x-user; set trusted or tls.client_ca
    Advice stores.redis.urls[0]: a password stands in the configuration; a reference like { env: NAME } keeps it out
    Advice stores.redis: no route's cache.tiers names redis
    Advice upstreams.model.tls: has no effect: the endpoints are http
    Advice upstreams.idle: no route leads to it
    Advice routes: sampled answers are reused, too: an equal question gets the first answer, whatever its temperature (on v1, all)
    Advice routes[1]: is never reached: v1 takes all its calls
    Advice cache.namespace: not set while Redis is shared: instances whose upstreams have equal names share their entries; set it, or TOLLGATE_NAMESPACE
    Advice prices: no book and no files: every call will be unpriced
    Advice resources[0].hourly: 4000 US dollars an hour for one replica; is it per month?
    Advice resources[1].hourly: costs nothing
    "#);
}

#[test]
fn a_database_that_answers_would_go_to_in_the_clear_deserves_a_word() {
    let of = |postgres: &str| {
        let text = format!(
            "{SMALLEST}\nstores: {{ postgres: {{ {postgres} }} }}\ncache: {{ namespace: n }}"
        );
        let (_, warnings) = load(&text, &Table::default().file("/etc/tollgate/ca", "")).unwrap();
        lines(&warnings)
    };
    insta::assert_snapshot!(of(r#"url: "postgres://db/d""#), @"
    Advice stores.postgres.url: says no sslmode: answers go in the clear; add sslmode=verify-full, or sslmode=disable where the network is your own
    Advice stores.postgres: no route's cache.tiers names postgres
    ");
    insta::assert_snapshot!(of(r#"url: "postgres://u:geheim@db/d?sslmode=disable", tls: { ca: ca }"#), @"
    Advice stores.postgres.url: a password stands in the configuration; a reference like { env: NAME } keeps it out
    Advice stores.postgres.tls: has no effect: the URL says sslmode=disable
    Advice stores.postgres: no route's cache.tiers names postgres
    ");
    insta::assert_snapshot!(of(r#"url: "postgres://db/d", tls: { ca: ca }"#), @"Advice stores.postgres: no route's cache.tiers names postgres");
    insta::assert_snapshot!(of(r#"url: "postgres://localhost/d""#), @"Advice stores.postgres: no route's cache.tiers names postgres");
}

#[test]
fn a_plain_set_up_is_warned_of_nothing() {
    let (_, warnings) = load(SMALLEST, &Table::default()).unwrap();
    assert_eq!(lines(&warnings), "");
}

#[test]
fn a_route_behind_one_that_takes_less_is_reached() {
    let text = r#"
upstreams: { m: { endpoints: [{ url: "http://m" }] } }
routes:
  - { name: a, upstream: m, match: { path_prefix: /v1, methods: [POST] } }
  - { name: b, upstream: m, match: { path_prefix: /v1, headers: { x: y } } }
  - { name: c, upstream: m, match: { path: /v1 } }
  - { name: d, upstream: m, match: { path_prefix: /v1x } }
  - { name: e, upstream: m, match: { host: h } }
  - { name: f, upstream: m }
"#;
    let (_, warnings) = load(text, &Table::default()).unwrap();
    assert_eq!(lines(&warnings), "");
}

#[test]
fn what_is_ignored_in_vain_is_said() {
    let of = |dialect: &str| {
        let cache = "mode: content, key: { ignore: [/model, /stream, /user] }";
        let text = format!(
            "
upstreams: {{ model: {{ endpoints: [{{ url: 'http://x' }}] }} }}
routes: [{{ name: all, upstream: model{dialect}, cache: {{ {cache} }} }}]
"
        );
        let (_, warnings) = load(&text, &Table::default()).unwrap();
        lines(&warnings)
    };
    insta::assert_snapshot!(of(""), @r"
    Advice routes: sampled answers are reused, too: an equal question gets the first answer, whatever its temperature (on all)
    Advice routes[0].cache.key.ignore[0]: does nothing: the model and its version are part of every key; calls that name another model are another question
    Advice routes[0].cache.key.ignore[1]: does nothing: one entry serves both forms where one can be made of the other, and where none can, they are two answers
    ");
    assert!(!of(", dialect: http").contains("ignore"), "{}", of(", dialect: http"));
}

#[test]
fn a_limit_of_money_for_what_has_no_price_deserves_a_word() {
    let text = r#"
upstreams: { model: { endpoints: [{ url: "http://127.0.0.1:1" }] } }
identity: { user: { header: x-user } }
routes:
  - name: all
    upstream: model
    cache: { mode: content, prefetch: { per: user, budget: { calls_per_minute: 30, money_per_hour: "0.50" } } }
"#;
    let of = |prices: &str| {
        let (_, warnings) = load(&format!("{text}{prices}"), &Table::default()).unwrap();
        let lines = lines(&warnings);
        lines.lines().filter(|line| line.contains("money_per_hour")).collect::<String>()
    };
    assert_eq!(of(""), "");
    insta::assert_snapshot!(of("prices: { book: none }\n"), @"Advice routes[0].cache.prefetch.budget.money_per_hour: nothing has a price (prices), and a call that nobody can price takes the rest of the hour: one in an hour is asked ahead");
}
