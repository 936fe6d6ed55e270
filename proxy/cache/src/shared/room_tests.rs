//! What making room in Redis' table of purges costs.

use super::server::{Instance, Question, Server, wait_until};
use crate::generations::{SUBJECTS_MAX, Subject, Target};

#[tokio::test]
async fn of_too_many_purges_redis_forgets_the_oldest_and_what_is_younger_stays() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let (old, young) = (Question::new("old"), Question::new("young"));
    a.share(&old, b"answer").await;
    // As if others had purged as much as there is room for.
    let most = SUBJECTS_MAX.to_string();
    let script = "for n = 1, tonumber(ARGV[1]) do \
        redis.call('HSET', KEYS[1], string.format('%016d', n), n) end \
        return redis.call('HSET', KEYS[1], 'sequence', ARGV[1])";
    let table: &[u8] = b"tollgate:{test}:purges";
    let _: i64 = server.ask(&[b"EVAL", script.as_bytes(), b"1", table, most.as_bytes()]).await;
    let most = u64::try_from(SUBJECTS_MAX).unwrap();
    wait_until(|| a.generations.stamp().fleet.sequence, |sequence| *sequence == most).await;
    a.share(&young, b"answer").await;

    for tag in ["one", "two"] {
        // The second is numbered after there was made room for the first.
        a.tiers.purge(Target::Tag(tag)).await;
    }
    let fields: u64 = server.ask(&[b"HLEN", table]).await;
    assert!((most / 4 * 3 - 10..most / 4 * 3 + 10).contains(&fields), "{fields}");
    let floor: u64 = server.ask(&[b"HGET", table, Subject::ALL.as_bytes()]).await;
    assert_eq!(floor, most / 4 + 1);
    assert!(a.in_memory(&young).is_some(), "who heard of all loses nothing");
    let b = Instance::up(server.url()).await;
    assert!(b.in_redis(&young).await.is_some() && b.in_redis(&old).await.is_none());
    a.tiers.purge(Target::Tag("young")).await;
    assert!(a.in_memory(&young).is_none());
    let sequence = a.generations.stamp().fleet.sequence;
    wait_until(|| b.generations.stamp().fleet.sequence, |heard| *heard == sequence).await;
    assert!(b.in_redis(&young).await.is_none());
}
