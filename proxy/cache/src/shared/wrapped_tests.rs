//! What stands in a real Redis when values are compressed and sealed, and what of it is believed.

use super::server::{Instance, NOW_MS, Question, Server, plan, settings, wait_until};
use crate::{
    entry::{Entry, subjects, tests::entry},
    generations::Target,
    shared::{LinkState, RedisSettings},
    wrap::{SealKey, Seals, Wrapping},
};
use bytes::Bytes;
use std::time::Duration;

/// 200 KiB that say little.
const LONG: &[u8] = &[b'a'; 200 * 1024];

/// What a provider answers.
const CHAT: &[u8] = br#"{"id":"chatcmpl-9kQ2","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Zwei Boxkampfer jagen Viktor.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12},"system_fingerprint":"fp_1"}"#;

fn compressing(server: &Server) -> RedisSettings {
    RedisSettings { compress: true, ..settings(server.url()) }
}

async fn up(settings: RedisSettings) -> Instance {
    let instance = Instance::start(settings);
    instance.wait_for(LinkState::Up).await;
    instance
}

async fn only_key(server: &Server) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = server.ask(&[b"KEYS", b"tollgate:test:e:*"]).await;
    assert_eq!(keys.len(), 1);
    keys[0].clone()
}

#[tokio::test]
async fn compressed_and_plain_values_are_read_by_everybody() {
    let server = Server::start();
    let (compresses, plain) = (up(compressing(&server)).await, Instance::up(server.url()).await);
    let question = Question::new("question");
    compresses.share(&question, LONG).await;
    let key = only_key(&server).await;
    let len: usize = server.ask(&[b"STRLEN", &key]).await;
    assert!(len < 2048, "{len}");
    assert_eq!(&*plain.in_redis(&question).await.expect("it is there").entry.body, LONG);

    plain.share(&question, LONG).await;
    let len: usize = server.ask(&[b"STRLEN", &key]).await;
    assert!(len > LONG.len(), "{len}");
    assert_eq!(&*compresses.in_redis(&question).await.expect("it is there").entry.body, LONG);
}

/// Goal: who has the dictionary reads what was packed before there was one, and what needs another
/// dictionary is no answer.
#[tokio::test]
async fn values_of_before_the_dictionary_are_read_and_of_another_one_are_counted_misses() {
    let server = Server::start();
    let (compresses, plain) = (up(compressing(&server)).await, Instance::up(server.url()).await);
    let question = Question::new("question");
    compresses.share(&question, CHAT).await;
    let key = only_key(&server).await;
    let packed: Vec<u8> = server.ask(&[b"GET", &key]).await;
    assert!(packed.len() < CHAT.len() * 8 / 10, "{} of {} bytes", packed.len(), CHAT.len());
    assert_eq!(&*plain.in_redis(&question).await.expect("it is there").entry.body, CHAT);

    let wrapping = Wrapping { compress: false, seals: None, bytes_max: 1 << 20 };
    let value = wrapping.unwrap(question.key, packed.clone().into()).expect("it is ours");
    let frame = zstd::bulk::compress(&value, 1).expect("it is small");
    let before = [&packed[..4], &[1], &packed[5..9], &frame].concat();
    let _: String = server.ask(&[b"SET", &key, &before]).await;
    assert_eq!(&*compresses.in_redis(&question).await.expect("it is there").entry.body, CHAT);
    assert_eq!(compresses.redis().counters().foreign.value(), 0);

    // Behind our header of nine bytes, the frame's magic and its descriptor.
    let mut of_another = packed;
    assert_eq!(of_another[14..16], 40001_u16.to_le_bytes());
    of_another[14] += 1;
    let _: String = server.ask(&[b"SET", &key, &of_another]).await;
    assert!(compresses.in_redis(&question).await.is_none());
    assert_eq!(compresses.redis().counters().foreign.value(), 1);
    assert!(compresses.redis().is_up(), "one odd value is no outage");
}

#[tokio::test]
async fn a_bomb_is_a_counted_miss() {
    let server = Server::start();
    let writes = up(compressing(&server)).await;
    let reads = up(RedisSettings { value_bytes_max: 100 * 1024, ..compressing(&server) }).await;
    let question = Question::new("question");
    writes.share(&question, LONG).await;
    assert!(reads.in_redis(&question).await.is_none());
    assert_eq!(reads.redis().counters().oversized.value(), 1);
    assert!(reads.redis().is_up(), "one odd value is no outage");

    let key = only_key(&server).await;
    let mut liar: Vec<u8> = server.ask(&[b"GET", &key]).await;
    liar[5..9].copy_from_slice(&100_u32.to_le_bytes());
    let _: String = server.ask(&[b"SET", &key, &liar]).await;
    assert!(reads.in_redis(&question).await.is_none());
    assert_eq!(reads.redis().counters().oversized.value(), 2);
}

/// Goal: packing is not done by a caller.
/// Method: on a runtime of one thread a store of much returns before anything of it was packed.
#[tokio::test]
async fn nobody_waits_while_a_value_is_packed() {
    let server = Server::start();
    let a = up(compressing(&server)).await;
    let question = Question::new("question");
    let before = a.redis().counters().stored.value();
    a.store(&question, LONG);
    assert!(a.redis().queued_bytes() > 200 * 1024, "as it is, not packed");
    wait_until(|| a.redis().counters().stored.value(), |now| *now > before).await;
    wait_until(|| a.redis().queued_bytes(), |bytes| *bytes == 0).await;
}

#[tokio::test]
async fn what_is_queued_and_large_is_packed_and_written_before_the_end() {
    let server = Server::start();
    let a =
        up(RedisSettings { write_timeout: Duration::from_secs(10), ..compressing(&server) }).await;
    let questions: Vec<_> = (0..20).map(|n| Question::new(&n.to_string())).collect();
    for question in &questions {
        a.store(question, LONG);
    }
    a.stop.cancel();
    a.tasks.close();
    a.tasks.wait().await;
    assert_eq!(a.redis().counters().stored.value(), 20);
    let b = Instance::up(server.url()).await;
    for question in &questions {
        assert_eq!(&*b.in_redis(question).await.expect("it is there").entry.body, LONG);
    }
}

fn seals(current: u8, previous: &[u8]) -> Seals {
    let previous = previous.iter().map(|n| SealKey::new([*n; 32])).collect();
    Seals { current: SealKey::new([current; 32]), previous }
}

async fn sealing(server: &Server, current: u8, previous: &[u8]) -> Instance {
    let seals = Some(seals(current, previous));
    up(RedisSettings { seals, ..compressing(server) }).await
}

#[tokio::test]
async fn keys_can_be_changed_while_the_fleet_runs() {
    let server = Server::start();
    let question = Question::new("question");
    let (old, knows_both) = (sealing(&server, 1, &[2]).await, sealing(&server, 2, &[1]).await);
    let new = sealing(&server, 2, &[]).await;
    old.share(&question, b"answer").await;
    assert!(knows_both.in_redis(&question).await.is_some());
    assert!(new.in_redis(&question).await.is_none());
    assert_eq!(new.redis().counters().locked.value(), 1);
    knows_both.share(&question, b"answer").await;
    assert!(new.in_redis(&question).await.is_some());
    assert!(old.in_redis(&question).await.is_some());
}

#[tokio::test]
async fn a_sealed_value_tampered_with_moved_or_replaced_is_a_counted_miss() {
    let server = Server::start();
    let a = sealing(&server, 1, &[]).await;
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    let key = only_key(&server).await;
    let value: Vec<u8> = server.ask(&[b"GET", &key]).await;
    let locked = || a.redis().counters().locked.value();

    let elsewhere = format!("tollgate:test:e:{}", other.key.to_hex());
    let _: String = server.ask(&[b"SET", elsewhere.as_bytes(), &value]).await;
    assert!(a.in_redis(&other).await.is_none());
    assert_eq!(locked(), 1);
    for place in [5, 13, 25, value.len() - 1] {
        let mut twisted = value.clone();
        twisted[place] ^= 1;
        let _: String = server.ask(&[b"SET", &key, &twisted]).await;
        assert!(a.in_redis(&question).await.is_none(), "{place}");
    }
    assert_eq!(locked(), 5);
    // One who may write to Redis but has no key.
    Instance::up(server.url()).await.share(&question, b"planted").await;
    assert!(a.in_redis(&question).await.is_none());
    assert_eq!(locked(), 6);
}

/// Everything that makes the entry: no two alike, and none to be met by chance.
const MARKS: [&str; 8] = [
    "mark-body",
    "mark-header",
    "mark-tag",
    "mark-tenant",
    "mark-model",
    "mark-route",
    "mark-note",
    "mark-version",
];

/// What of [`MARKS`] lies in the server, which writes all it has to a file, after an entry made
/// of them was stored and its tag purged.
async fn marks_in(server: &Server, a: &Instance) -> Vec<&'static str> {
    let question = Question::new("mark-question");
    let tags = vec!["mark-tag".into()];
    let entry = Entry {
        check: question.check,
        body: Bytes::from("mark-body ".repeat(200)),
        headers: vec![(Bytes::from_static(b"x"), Bytes::from_static(b"mark-header"))],
        subjects: subjects(question.key, "mark-route", "mark-model", "mark-tenant", &tags),
        tags,
        tenant: "mark-tenant".into(),
        model: "mark-model".into(),
        model_version: "mark-version".into(),
        route: "mark-route".into(),
        note: Bytes::from_static(b"mark-note"),
        stamp: a.tiers.stamp(),
        ..entry(question.key, b"")
    };
    let before = a.redis().counters().stored.value();
    assert!(a.tiers.store(question.key, entry.into(), &plan(), NOW_MS).is_kept());
    wait_until(|| a.redis().counters().stored.value(), |now| *now > before).await;
    assert!(a.in_redis(&question).await.is_some());
    a.tiers.purge(Target::Tag("mark-tag")).await;
    a.tiers.purge(Target::Tenant("mark-tenant")).await;
    let _: String = server.ask(&[b"SAVE"]).await;
    let all = std::fs::read(server.socket().with_file_name("dump.rdb")).expect("it was saved");
    let lies = |mark: &str| memchr::memmem::find(&all, mark.as_bytes()).is_some();
    MARKS.into_iter().filter(|mark| lies(mark)).collect()
}

#[tokio::test]
async fn with_encryption_nothing_of_an_entry_lies_in_the_clear() {
    // Not compressed by Redis itself: then a scan would prove nothing.
    let server = Server::with(&["--rdbcompression", "no"]);
    let open = Instance::up(server.url()).await;
    assert_eq!(marks_in(&server, &open).await, MARKS, "the scan finds what is there");
    let _: String = server.ask(&[b"FLUSHALL"]).await;
    let a = sealing(&server, 1, &[]).await;
    assert_eq!(marks_in(&server, &a).await, [""; 0]);
    let a =
        up(RedisSettings { compress: false, seals: Some(seals(1, &[])), ..settings(server.url()) });
    assert_eq!(marks_in(&server, &a.await).await, [""; 0]);
}
