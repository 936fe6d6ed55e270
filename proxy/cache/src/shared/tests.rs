//! What the Redis tier promises, against a real server.

use super::server::{Instance, NOW_MS, Question, Server, plan, settings, url_of, wait_until};
use crate::{
    generations::{Subject, Target},
    journal::WaitingPurges,
    key::{CacheKey, Check},
    outer::lateness::LATE_IN_A_ROW_MAX,
    shared::{LinkState, RedisSettings},
    tiers::{Hot, Purged, Reach, TierName},
    versions::{Current, Observed, Said},
};
use std::time::Duration;

const FLEET: Purged = Purged { reach: Reach::Fleet, pending: false };
const KEPT: Purged = Purged { reach: Reach::Instance, pending: true };

#[tokio::test]
async fn what_one_instance_stored_another_finds_and_keeps_in_memory() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(server.url()).await);
    let question = Question::new("question");
    a.share(&question, b"answer").await;

    assert!(b.in_memory(&question).is_none());
    let found = b.in_redis(&question).await.expect("Redis has it");
    assert_eq!((found.tier, &*found.entry.body), (TierName::Redis, b"answer".as_slice()));
    assert_eq!(&*found.entry.note, b"note");
    let again = b.in_memory(&question).expect("it was copied");
    assert_eq!(again.tier, TierName::Memory);
    assert!(b.in_redis(&Question::new("another")).await.is_none());
    assert_eq!(b.redis().counters().misses.value(), 1);
}

#[tokio::test]
async fn redis_forgets_an_entry_when_its_time_is_over() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    a.share(&Question::new("question"), b"answer").await;
    let keys: Vec<Vec<u8>> = server.ask(&[b"KEYS", b"tollgate:test:e:*"]).await;
    let left_ms: i64 = server.ask(&[b"PTTL", &keys[0]]).await;
    // 60 s from 1 s after the epoch on, seen at 5 s.
    assert!((1..=56_000).contains(&left_ms), "{left_ms}");
}

#[tokio::test]
async fn a_redis_that_is_late_once_is_asked_again_at_once() {
    let server = Server::start();
    let question = Question::new("question");
    Instance::up(server.url()).await.share(&question, b"answer").await;
    let hasty = Instance::start(RedisSettings {
        read_timeout: Duration::from_millis(100),
        probe_interval: Duration::from_secs(3600),
        ..settings(server.url())
    });
    hasty.wait_for(LinkState::Up).await;
    // The probe at the start of serving is over when a purge was numbered.
    assert_eq!(hasty.tiers.purge(Target::Tag("x")).await, FLEET);
    server.signal("STOP").await;
    assert!(hasty.in_redis(&question).await.is_none());
    let counters = hasty.redis().counters();
    assert_eq!(counters.timeouts.value(), 1, "{counters:?}");
    assert!(hasty.redis().is_up(), "{counters:?}");
    assert_eq!(counters.breaker_opened.value(), 0);
    server.signal("CONT").await;
}

#[tokio::test]
async fn a_stalled_redis_costs_a_few_time_outs_and_is_used_again_when_it_goes_on() {
    let server = Server::start();
    let patient = Instance::up(server.url()).await;
    let question = Question::new("question");
    patient.share(&question, b"answer").await;
    let hasty = Instance::start(RedisSettings {
        read_timeout: Duration::from_millis(100),
        probe_timeout: Duration::from_millis(300),
        ..settings(server.url())
    });
    hasty.wait_for(LinkState::Up).await;

    server.signal("STOP").await;
    // A probe may be the one to notice; then a reader is not even asked to wait.
    for _ in 0..LATE_IN_A_ROW_MAX {
        assert!(hasty.in_redis(&question).await.is_none());
    }
    hasty.wait_for(LinkState::Down).await;
    for _ in 0..100 {
        assert!(hasty.in_redis(&question).await.is_none());
    }
    let counters = hasty.redis().counters();
    assert!(counters.timeouts.value() <= LATE_IN_A_ROW_MAX.into(), "{counters:?}");
    assert!(counters.skipped.value() >= 100, "{counters:?}");
    assert_eq!(hasty.tiers.purge(Target::Tag("x")).await, KEPT);

    server.signal("CONT").await;
    hasty.wait_for(LinkState::Up).await;
    assert_eq!(hasty.redis().purges_pending(), 0);
    // Up again, though a busy machine may still be late once.
    for _ in 0..50 {
        hasty.wait_for(LinkState::Up).await;
        if hasty.in_redis(&question).await.is_some() {
            return;
        }
    }
    panic!("never found again: {counters:?}");
}

#[tokio::test]
async fn a_hot_set_of_any_size_is_noted_and_read_in_pieces_that_fit() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    for most in [20_000_u32, 10_000] {
        let hot = |n: u32| Hot {
            key: CacheKey::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()),
            check: Check::default(),
            route: Subject::of(Target::Route("chat")),
            hits: u32::MAX - n,
        };
        let (own, len) = ((0..most).map(hot).collect(), usize::try_from(most).unwrap());
        let patience = Duration::from_secs(30);
        a.tiers.note_hot("test", own, (len, NOW_MS), patience).await;
        let noted = a.tiers.noted_hot("test", NOW_MS).await;
        assert_eq!(noted.len(), len);
        let keys: Vec<Vec<u8>> = server.ask(&[b"KEYS", b"tollgate:test:e:*"]).await;
        assert_eq!(keys.len(), 5, "of 4,096 each");
        for key in keys {
            let len: usize = server.ask(&[b"STRLEN", &key]).await;
            assert!(len < 512 * 1024, "{len}");
        }
    }
}

#[tokio::test]
async fn no_call_waits_for_the_disk_where_what_it_purges_waits_for_redis() {
    let (mut server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    server.kill().await;
    let mut a = Instance::start(settings(server.url()));
    let waiting = WaitingPurges::open(dir.path()).unwrap();
    let stalled = waiting.stall();
    a.tiers = a.tiers.with_waiting(Some(waiting));
    assert_eq!(a.tiers.purge_beside(Target::Tag("one")).await, KEPT);
    drop(stalled);
    assert_eq!(a.tiers.purge(Target::Tag("another")).await, KEPT);
    drop(a);
    assert_eq!(WaitingPurges::open(dir.path()).unwrap().take_left().len(), 2);
}

#[tokio::test]
async fn callers_that_wait_together_open_the_breaker_once() {
    let server = Server::start();
    let a = Instance::start(RedisSettings {
        read_timeout: Duration::from_millis(50),
        probe_interval: Duration::from_secs(3600),
        ..settings(server.url())
    });
    a.wait_for(LinkState::Up).await;
    // The probe at the start of serving is over when a purge was numbered.
    assert_eq!(a.tiers.purge(Target::Tag("x")).await, FLEET);
    let opened = a.redis().counters().breaker_opened.value();
    server.signal("STOP").await;
    let mut waiting = tokio::task::JoinSet::new();
    let a = std::sync::Arc::new(a);
    for _ in 0..20 {
        let a = a.clone();
        waiting.spawn(async move { a.in_redis(&Question::new("question")).await.is_none() });
    }
    assert!(waiting.join_all().await.into_iter().all(|none| none));
    let counters = a.redis().counters();
    assert_eq!(counters.breaker_opened.value(), opened + 1);
    assert_eq!(counters.timeouts.value() + counters.skipped.value(), 20, "{counters:?}");
    server.signal("CONT").await;
}

#[tokio::test]
async fn a_killed_redis_is_used_again_when_it_is_back() {
    let mut server = Server::start();
    let a = Instance::up(server.url()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    server.kill().await;
    a.wait_for(LinkState::Down).await;
    assert!(a.in_redis(&question).await.is_none());
    assert!(a.in_memory(&question).is_some(), "memory goes on alone");

    server.start_again();
    a.wait_for(LinkState::Up).await;
    assert!(a.in_memory(&question).is_none(), "purges may have been lost with the old Redis");
    a.share(&question, b"answer").await;
    assert!(a.in_redis(&question).await.is_some());
}

#[tokio::test]
async fn an_instance_that_starts_before_redis_uses_it_when_it_comes() {
    let mut server = Server::start();
    server.kill().await;
    let a = Instance::start(settings(server.url()));
    let question = Question::new("question");
    a.store(&question, b"answer");
    assert_eq!(a.redis().counters().dropped_down.value(), 1);
    server.start_again();
    a.wait_for(LinkState::Up).await;
    let found = a.in_memory(&question).expect("nobody purged it");
    // Whether it is void to others cannot be told: it began before any purge was heard of.
    assert!(a.tiers.store(question.key, found.entry, &plan(), NOW_MS).is_kept());
    wait_until(|| a.redis().counters().dropped_void.value(), |dropped| *dropped == 1).await;
    assert_eq!(a.redis().counters().stored.value(), 0);
}

#[tokio::test]
async fn a_purge_reaches_everybody_and_spares_what_comes_after() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(server.url()).await);
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    a.share(&other, b"answer").await;
    assert!(b.in_redis(&question).await.is_some());

    assert_eq!(a.tiers.purge(Target::Tag("question")).await, FLEET);
    assert!(a.in_memory(&question).is_none());
    assert!(a.in_redis(&question).await.is_none());
    wait_until(|| b.in_memory(&question).is_some(), |there| !there).await;
    assert!(b.in_redis(&question).await.is_none());
    assert!(b.in_redis(&other).await.is_some());

    // The echo of our own purge must not void what we stored after it.
    a.share(&question, b"new answer").await;
    assert_eq!(a.tiers.purge(Target::Tag("unrelated")).await, FLEET);
    wait_until(|| b.generations.stamp().fleet.sequence, |sequence| *sequence == 2).await;
    assert!(a.in_memory(&question).is_some());
    assert!(b.in_redis(&question).await.is_some());

    for target in [
        Target::Route("chat"),
        Target::Model("m"),
        Target::Tenant("acme"),
        Target::Key(question.key),
        Target::All,
    ] {
        b.share(&question, b"answer").await;
        a.in_redis(&question).await.expect("shared");
        assert_eq!(b.tiers.purge(target).await, FLEET, "{target:?}");
        wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
        assert!(a.in_redis(&question).await.is_none(), "{target:?}");
    }
}

#[tokio::test]
async fn a_fill_that_began_before_a_purge_is_not_kept() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let question = Question::new("question");
    let before = a.tiers.stamp();
    a.tiers.purge(Target::Tag("question")).await;
    a.share(&question, b"answer").await;
    let found = a.in_memory(&question).expect("it began after");
    let mut late = (*found.entry).clone();
    late.stamp = before;
    assert!(!a.tiers.store(question.key, late.into(), &plan(), NOW_MS).is_kept());
}

#[tokio::test]
async fn a_purge_reaches_an_instance_that_was_away() {
    let server = Server::start();
    let mut line = server.cable();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(url_of(&line.socket())).await);
    let (question, other) = (Question::new("question"), Question::new("other"));
    b.share(&question, b"answer").await;
    b.share(&other, b"answer").await;
    line.cut().await;
    b.wait_for(LinkState::Down).await;
    assert_eq!(a.tiers.purge(Target::Tag("question")).await, FLEET);
    assert!(b.in_memory(&question).is_some(), "it cannot know yet");

    line.mend();
    b.wait_for(LinkState::Up).await;
    assert!(b.in_memory(&question).is_none());
    assert!(b.in_memory(&other).is_some());
}

#[tokio::test]
async fn a_purge_made_while_redis_was_away_reaches_the_others_when_it_is_back() {
    let server = Server::start();
    let mut line = server.cable();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(url_of(&line.socket())).await);
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    b.in_redis(&question).await.expect("shared");
    line.cut().await;
    b.wait_for(LinkState::Down).await;
    assert_eq!(b.tiers.purge(Target::Tag("question")).await, KEPT);
    assert!(b.in_memory(&question).is_none(), "here it is in force at once");
    assert_eq!(b.redis().purges_pending(), 1);

    line.mend();
    b.wait_for(LinkState::Up).await;
    assert_eq!(b.redis().purges_pending(), 0);
    assert!(b.in_redis(&question).await.is_none());
    wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
}

#[tokio::test]
async fn more_purges_than_can_wait_become_one_of_everything() {
    let server = Server::start();
    let mut line = server.cable();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(url_of(&line.socket())).await);
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    line.cut().await;
    b.wait_for(LinkState::Down).await;
    for n in 0..=4096 {
        b.tiers.purge(Target::Tag(&n.to_string())).await;
    }
    assert_eq!(b.redis().purges_pending(), 1);
    line.mend();
    b.wait_for(LinkState::Up).await;
    wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
}

#[tokio::test]
async fn a_lost_message_is_found_by_the_probe() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let subject = Subject::of(Target::Tag("question"));
    let script = "local n = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
        return redis.call('HSET', KEYS[1], ARGV[1], n)";
    let key = b"tollgate:{test}:purges";
    let _: i64 = server.ask(&[b"EVAL", script.as_bytes(), b"1", key, subject.as_bytes()]).await;
    wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
}

#[tokio::test]
async fn a_flushed_redis_voids_what_purges_may_have_been_lost_for() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let epoch = a.generations.stamp().fleet.epoch;
    let _: String = server.ask(&[b"FLUSHALL"]).await;
    wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
    assert_ne!(a.generations.stamp().fleet.epoch, epoch);
    a.share(&question, b"answer").await;
    assert!(a.in_redis(&question).await.is_some());
}

#[tokio::test]
async fn a_redis_restored_from_an_older_state_gives_nothing_purged_since() {
    let mut server = Server::start();
    let a = Instance::up(server.url()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let _: String = server.ask(&[b"SAVE"]).await;
    assert_eq!(a.tiers.purge(Target::Tag("question")).await, FLEET);
    server.kill().await;
    a.wait_for(LinkState::Down).await;
    server.start_again();
    a.wait_for(LinkState::Up).await;
    let keys: Vec<Vec<u8>> = server.ask(&[b"KEYS", b"tollgate:test:e:*"]).await;
    assert_eq!(keys.len(), 1, "the entry itself was restored");
    assert!(a.in_redis(&question).await.is_none());
    let newcomer = Instance::up(server.url()).await;
    assert!(newcomer.in_redis(&question).await.is_none());
}

#[tokio::test]
async fn a_value_that_is_no_entry_of_the_key_is_a_counted_miss() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let b = Instance::up(server.url()).await;
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    let keys: Vec<Vec<u8>> = server.ask(&[b"KEYS", b"tollgate:test:e:*"]).await;
    let value: Vec<u8> = server.ask(&[b"GET", &keys[0]]).await;
    let other_key = format!("tollgate:test:e:{}", other.key.to_hex());

    let mut corrupt = value.clone();
    corrupt[100] ^= 1;
    for (n, bad) in
        [corrupt.as_slice(), &value[..value.len() - 1], b"x", b"*3\r\n"].into_iter().enumerate()
    {
        let _: String = server.ask(&[b"SET", &keys[0], bad]).await;
        assert!(b.in_redis(&question).await.is_none());
        assert_eq!(b.redis().counters().foreign.value(), u64::try_from(n).unwrap() + 1);
    }
    let _: String = server.ask(&[b"SET", other_key.as_bytes(), &value]).await;
    assert!(b.in_redis(&other).await.is_none(), "another key's answer is nobody's");
    let _: i64 = server.ask(&[b"DEL", &keys[0]]).await;
    let _: i64 = server.ask(&[b"LPUSH", &keys[0], b"x"]).await;
    assert!(b.in_redis(&question).await.is_none());
    assert_eq!(b.redis().counters().errors.value(), 1);
    assert!(b.redis().is_up(), "one odd key is no outage");
    b.share(&question, b"answer").await;
    assert!(a.in_redis(&question).await.is_some(), "it was written over");
}

#[tokio::test]
async fn writes_that_find_the_queue_full_are_dropped_and_counted() {
    let server = Server::start();
    let a = Instance::start(RedisSettings {
        queue_entries_max: 2,
        queue_bytes_max: 1 << 20,
        ..settings(server.url())
    });
    a.wait_for(LinkState::Up).await;
    let question = Question::new("question");
    // Nothing is awaited in between: the writer has no turn.
    for _ in 0..10 {
        a.store(&question, b"answer");
    }
    assert_eq!(a.redis().counters().dropped_full.value(), 8);
    wait_until(|| a.redis().queued_bytes(), |bytes| *bytes == 0).await;
    assert_eq!(a.redis().counters().stored.value(), 2);
    a.store(&question, Box::leak(vec![0; 2 << 20].into_boxed_slice()));
    assert_eq!(a.redis().counters().dropped_full.value(), 9, "bytes are bounded too");
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_end() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let questions: Vec<_> = (0..100).map(|n| Question::new(&n.to_string())).collect();
    for question in &questions {
        a.store(question, b"answer");
    }
    a.stop.cancel();
    a.tasks.close();
    a.tasks.wait().await;
    assert_eq!(a.redis().counters().stored.value(), 100);
}

#[tokio::test]
async fn a_models_version_is_known_to_the_fleet() {
    let server = Server::start();
    let mut line = server.cable();
    let (a, b) = (Instance::up(server.url()).await, Instance::up(url_of(&line.socket())).await);
    let current = |instance: &Instance| instance.tiers.versions().current("u", "m");
    let known = |version: &str| Current::Known(version.into());
    a.tiers.versions().observe("u", "m", Said::Version("1"), NOW_MS);
    wait_until(|| current(&b), |now| *now == known("1")).await;

    line.cut().await;
    b.wait_for(LinkState::Down).await;
    a.tiers.versions().observe("u", "m", Said::Version("2"), NOW_MS);
    let newcomer = async || Instance::up(server.url()).await;
    wait_until(|| current(&a), |now| *now == known("2")).await;
    line.mend();
    wait_until(|| current(&b), |now| *now == known("2")).await;
    assert_eq!(
        b.tiers.versions().observe("u", "m", Said::Version("1"), NOW_MS),
        Observed::DoNotStore
    );
    assert_eq!(current(&newcomer().await), known("2"));

    // Seen while Redis was away: told when it is back.
    line.cut().await;
    b.wait_for(LinkState::Down).await;
    b.tiers.versions().observe("u", "m", Said::Version("3"), NOW_MS);
    b.tiers.versions().observe("u", "n", Said::Nothing, NOW_MS);
    line.mend();
    wait_until(|| current(&a), |now| *now == known("3")).await;
    let other = || a.tiers.versions().current("u", "n");
    wait_until(other, |now| *now == known("")).await;
}

#[tokio::test]
async fn namespaces_are_apart() {
    let server = Server::start();
    let a = Instance::up(server.url()).await;
    let b = Instance::start(RedisSettings { namespace: "b".into(), ..settings(server.url()) });
    b.wait_for(LinkState::Up).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    assert!(b.in_redis(&question).await.is_none());
    assert_eq!(b.tiers.purge(Target::All).await, FLEET);
    assert_eq!(a.tiers.purge(Target::Tag("x")).await, FLEET);
    assert!(a.in_memory(&question).is_some());
}

#[tokio::test]
async fn a_password_and_a_database_in_the_url_are_used_and_not_shown() {
    let server = Server::with(&["--requirepass", "s3cret"]);
    let url = format!("{}?db=1&pass=s3cret", server.url());
    assert!(!format!("{:?}", settings(url.clone())).contains("s3cret"));
    let a = Instance::up(url).await;
    assert!(!format!("{:?}", a.redis()).contains("s3cret"));
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    assert!(a.in_redis(&question).await.is_some());
}
