//! What `cache.events` may say.

use super::*;
use tollgate_config::{EventOrigin, EventPart, PurgeKind, redacted};

fn file(sources: &str) -> String {
    let stores = "stores: { redis: { urls: [redis://localhost] }, postgres: { url: 'postgres://u@localhost/d' } }";
    format!("{SMALLEST}\n{stores}\ncache: {{ namespace: a, events: {sources} }}\n")
}

#[test]
fn a_source_says_where_events_come_from_and_what_they_void() {
    let sources = "[{ name: kb, redis: { stream: s, field: f }, purge: [{ tag: 'kb:{/a~1b/0}' }] },
        { name: two, redis: { channel: c }, purge: [{ pattern: '{}:*', soft: true }], rate: 20/m },
        { name: three, webhook: {}, purge: [{ all: true }], lost: { route: chat } },
        { name: four, postgres: { channel: 'Kb \"1\"' }, purge: [{ tag: '{}' }] }]";
    let config = valid(&file(sources));
    let [stream, channel, webhook, listened] = config.cache.events.as_slice() else { panic!() };
    let at = EventOrigin::Stream { name: "s".into(), field: Some("f".into()) };
    assert_eq!(stream.origin, at);
    let name = [EventPart::Literal("kb:".into()), EventPart::Pointer("/a~1b/0".into())];
    assert_eq!(
        (stream.purges[0].kind, stream.purges[0].name.as_slice()),
        (PurgeKind::Tag, &name[..])
    );
    let lost = stream.lost.as_ref().unwrap();
    assert_eq!((lost.kind, lost.soft), (PurgeKind::All, true), "by default everything, softly");
    assert_eq!(stream.interval.as_millis(), 10);
    assert_eq!((channel.lost.as_ref(), channel.interval.as_secs()), (None, 3));
    assert_eq!(channel.purges[0].name[0], EventPart::Pointer(String::new()));
    assert_eq!(webhook.origin, EventOrigin::Webhook { token: None });
    assert_eq!(webhook.lost.as_ref().unwrap().kind, PurgeKind::Route);
    assert_eq!(listened.origin, EventOrigin::Postgres { channel: "Kb \"1\"".into() });
    assert_eq!(listened.lost, None, "as of a channel");

    let shown = serde_json::to_string(&redacted(&config)).unwrap();
    assert_eq!(valid(&shown).cache.events, config.cache.events, "shown as it was written");
}

/// Goal: nobody learns from a log that there are tables to be made.
#[test]
fn a_store_that_is_there_for_events_alone_is_said_to_keep_the_purges() {
    let of = |stores: &str, source: &str| {
        let text = format!(
            "{SMALLEST}\nstores: {{ {stores} }}\ncache: {{ namespace: a, events: [{{ name: a, {source}, purge: [{{ all: true }}] }}] }}"
        );
        let (_, warnings) = load(&text, &Table::default()).unwrap();
        lines(&warnings)
    };
    let postgres = "postgres: { url: 'postgres://localhost/d' }";
    let listens = "postgres: { channel: c }";
    let keeps = of(postgres, listens);
    assert!(
        keeps.contains("and keeps the fleet's purges, for which it needs its tables"),
        "{keeps}"
    );
    let redis = "redis: { urls: ['redis://localhost'] }";
    let beside = of(&format!("{redis}, {postgres}"), listens);
    assert!(beside.contains("names postgres; it is listened to all the same, for"), "{beside}");
    let used = SMALLEST.replace(
        "upstream: model",
        "upstream: model, cache: { mode: content, tiers: [memory, postgres] }",
    );
    let text = format!(
        "{used}\nstores: {{ {postgres} }}\ncache: {{ namespace: a, events: [{{ name: a, {listens}, purge: [{{ all: true }}] }}] }}"
    );
    let (_, warnings) = load(&text, &Table::default()).unwrap();
    assert!(!lines(&warnings).contains("stores.postgres"), "{}", lines(&warnings));
}

#[test]
fn mistakes_in_sources_are_told_apart() {
    let sources = "[{ name: a b, purge: [{ tag: x }] },
        { name: a, redis: {}, purge: [{}] },
        { name: a, redis: { channel: c, stream: s }, purge: [{ tag: x, all: true }] },
        { name: c, redis: { channel: c, field: f }, webhook: {}, purge: [{ tag: '{id}' }] },
        { name: d, redis: { channel: c, field: f }, purge: [{ tag: '' }, { all: false }] },
        { name: e, webhook: {}, purge: [{ tag: '{/a' }], lost: { tag: '{/a}' }, rate: 0/s },
        { name: f, webhook: {} },
        { name: g, postgres: {}, purge: [{ all: true }] },
        { name: h, postgres: { channel: '' }, purge: [{ all: true }] },
        { name: i, postgres: { channel: c }, redis: { channel: c }, purge: [{ all: true }] }]";
    insta::assert_snapshot!(problems(&file(sources)), @r#"
    cache.events[6].purge: missing
    cache.events[7].postgres.channel: missing
    cache.events[0]: must have one of redis, postgres and webhook
    cache.events[0].name: must be 1 to 64 letters, digits or - _, not "a b"
    cache.events[1].redis: must have one of channel and stream
    cache.events[1].purge[0]: must have exactly one of key, tag, pattern, route, model, tenant, all: true
    cache.events[2].redis: must have one of channel and stream
    cache.events[2].purge[0]: must have exactly one of key, tag, pattern, route, model, tenant, all: true
    cache.events[2].name: is another source's, too
    cache.events[3]: must have one of redis, postgres and webhook
    cache.events[3].purge[0].tag: unknown part "id"; known are {} and {/json/pointer}
    cache.events[4].redis.field: is of a stream's entries
    cache.events[4].purge[0].tag: must be 1 to 256 bytes
    cache.events[4].purge[1]: must have exactly one of key, tag, pattern, route, model, tenant, all: true
    cache.events[5].purge[0].tag: { without }: "{/a"
    cache.events[5].lost: is purged without an event: it can have no { }
    cache.events[5].rate: must be a rate like 5/s, 100/m or 20/h, at most 10000/s, not "0/s"
    cache.events[8].postgres.channel: must be 1 to 63 bytes, no control characters
    cache.events[9]: must have one of redis, postgres and webhook
    "#);
    let long = "a".repeat(129);
    let sources = format!(
        "[{{ name: a, webhook: {{}}, purge: [{{ key: 'kb:{{/id}}' }}, {{ key: '{{/id}}' }}] }},
        {{ name: b, webhook: {{}}, purge: [{{ key: 'ab{{}}' }}], lost: {{ key: abc }} }},
        {{ name: c, webhook: {{}}, purge: [{{ pattern: '{long}' }}], lost: {{ pattern: '{long}' }} }}]"
    );
    insta::assert_snapshot!(problems(&file(&sources)), @r"
    cache.events[0].purge[0].key: must be the 64 hexadecimal digits that explain shows, or {} for them
    cache.events[1].lost.key: must be the 64 hexadecimal digits that explain shows, or {} for them
    cache.events[2].purge[0].pattern: must be at most 128 bytes
    cache.events[2].lost.pattern: must be at most 128 bytes
    ");
    let without = format!(
        "{SMALLEST}\ncache: {{ events: [{{ name: a, redis: {{ channel: c }}, purge: [{{ all: true }}] }},
            {{ name: b, postgres: {{ channel: c }}, purge: [{{ all: true }}] }}] }}\n"
    );
    insta::assert_snapshot!(problems(&without), @r"
    cache.events[0].redis: needs stores.redis
    cache.events[1].postgres: needs stores.postgres
    ");
}
