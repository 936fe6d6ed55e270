//! What stands in a real Redis when values are compressed, and what of it is believed.

use super::server::{Instance, Question, Server, settings, wait_until};
use crate::shared::{LinkState, RedisSettings};
use std::time::Duration;

/// 200 KiB that say little.
const LONG: &[u8] = &[b'a'; 200 * 1024];

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
