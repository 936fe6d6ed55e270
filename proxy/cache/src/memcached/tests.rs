//! What the Memcached tier promises, against real servers.

use super::{
    MemcachedSettings,
    stage::{Instance, Server, name, settings},
    wire::Answer,
};
use crate::{
    generations::{Subject, Target},
    outer::{
        Limits, LinkState, Role,
        lateness::LATE_IN_A_ROW_MAX,
        stage::{Cable, NOW_MS, Question, is_valid, limits, wait_until},
    },
    tiers::Owed,
    wrap::{SealKey, Seals},
};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn what_one_instance_stored_another_finds_also_after_a_restart() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.address()).await, Instance::up(server.address()).await);
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let found = b.find(&question).await.expect("memcached has it");
    assert_eq!((&*found.body, &*found.note), (b"answer".as_slice(), b"note".as_slice()));
    drop((a, b));
    let again = Instance::up(server.address()).await;
    assert!(again.find(&question).await.is_some());
    assert!(again.find(&Question::new("another")).await.is_none());
    let counters = again.tier.counters();
    assert_eq!((counters.hits.value(), counters.misses.value()), (1, 1));
}

#[tokio::test]
async fn memcached_forgets_an_entry_when_its_time_is_over() {
    let server = Server::start();
    let a = Instance::up(server.address()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let left = server.ask(format!("mg {} t\r\n", name(&question))).await;
    assert_eq!(left, Answer::Done { cas: 0 });
    let entry = Arc::new(question.entry(b"answer", &a.generations));
    // More than 30 days would be a date to memcached, long gone.
    a.tier.store(question.key, entry, u64::MAX, Owed::default());
    wait_until(|| a.tier.counters().stored.value(), |stored| *stored == 2).await;
    assert!(a.find(&question).await.is_some());
    let late = a.tier.look_up(question.key, &question.check, 10_000_000).await;
    assert!(late.is_none(), "the entry knows its own time");
    assert_eq!(a.tier.counters().expired.value(), 1);
}

#[tokio::test]
async fn a_memcached_that_is_late_once_is_asked_again_at_once() {
    let server = Server::start();
    let question = Question::new("question");
    let hasty = Instance::up_with(MemcachedSettings {
        limits: Limits {
            read_timeout: Duration::from_millis(100),
            probe_interval: Duration::from_secs(3600),
            ..limits()
        },
        ..settings(vec![server.address()])
    })
    .await;
    assert!(hasty.purge(Target::Tag("x")).await);
    server.signal("STOP").await;
    assert!(hasty.find(&question).await.is_none());
    let counters = hasty.tier.counters();
    assert_eq!(counters.timeouts.value(), 1, "{counters:?}");
    assert!(hasty.tier.is_up(), "{counters:?}");
    assert_eq!(counters.breaker_opened.value(), 0);
    server.signal("CONT").await;
}

#[tokio::test]
async fn a_stalled_memcached_costs_a_few_time_outs_and_is_used_again_when_it_goes_on() {
    let server = Server::start();
    let question = Question::new("question");
    Instance::up(server.address()).await.share(&question, b"answer").await;
    let hasty = Instance::up_with(MemcachedSettings {
        limits: Limits {
            read_timeout: Duration::from_millis(100),
            probe_timeout: Duration::from_millis(300),
            ..limits()
        },
        ..settings(vec![server.address()])
    })
    .await;

    server.signal("STOP").await;
    // A probe may be the one to notice; then a reader is not even asked to wait.
    for _ in 0..LATE_IN_A_ROW_MAX {
        assert!(hasty.find(&question).await.is_none());
    }
    hasty.wait_for(LinkState::Down).await;
    for _ in 0..100 {
        assert!(hasty.find(&question).await.is_none());
    }
    let counters = hasty.tier.counters();
    assert!(counters.timeouts.value() <= LATE_IN_A_ROW_MAX.into(), "{counters:?}");
    assert!(counters.skipped.value() >= 100, "{counters:?}");
    assert!(!hasty.purge(Target::Tag("x")).await);
    assert_eq!(hasty.tier.purges_pending(), 1);

    server.signal("CONT").await;
    hasty.wait_for(LinkState::Up).await;
    wait_until(|| hasty.tier.purges_pending(), |pending| *pending == 0).await;
    // Up again, though a busy machine may still be late once.
    for _ in 0..50 {
        hasty.wait_for(LinkState::Up).await;
        if hasty.find(&question).await.is_some() {
            return;
        }
    }
    panic!("never found again: {counters:?}");
}

/// Goal: who gives up waiting does not cost the others the connection, nor get them another's
/// answer.
#[tokio::test]
async fn callers_that_give_up_leave_the_order_of_answers_as_it_is() {
    let server = Server::start();
    let a = Arc::new(Instance::up(server.address()).await);
    let questions: Vec<_> = (0..64).map(|n| Question::new(&n.to_string())).collect();
    for question in &questions {
        a.share(question, b"answer").await;
    }
    let questions = Arc::new(questions);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..640 {
        let (a, questions) = (a.clone(), questions.clone());
        asking.spawn(async move {
            let question = &questions[n % questions.len()];
            // Every other caller is gone at its first wait.
            if n % 2 == 0 {
                tokio::select! { biased; _ = a.find(question) => {}, () = std::future::ready(()) => {} }
                return true;
            }
            a.find(question).await.is_some()
        });
    }
    assert!(asking.join_all().await.into_iter().all(|found| found));
    let counters = a.tier.counters();
    assert_eq!((counters.foreign.value(), counters.errors.value()), (0, 0), "{counters:?}");
}

#[tokio::test]
async fn a_killed_memcached_is_used_again_when_it_is_back_and_what_was_before_is_void() {
    let mut server = Server::start();
    let a = Instance::up(server.address()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let held = a.find(&question).await.expect("shared");
    server.kill().await;
    a.wait_for(LinkState::Down).await;
    assert!(a.find(&question).await.is_none());
    assert!(is_valid(&a.generations, &held), "memory goes on alone");

    server.start_again();
    a.wait_for(LinkState::Up).await;
    assert!(!is_valid(&a.generations, &held), "purges may have been lost with the old one");
    a.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
}

#[tokio::test]
async fn an_instance_that_starts_before_memcached_uses_it_when_it_comes() {
    let mut server = Server::start();
    server.kill().await;
    let a = Instance::start(settings(vec![server.address()]));
    let question = Question::new("question");
    a.store(&question, b"answer");
    assert_eq!(a.tier.counters().dropped_down.value(), 1);
    let begun_before = Arc::new(question.entry(b"answer", &a.generations));
    server.start_again();
    a.wait_for(LinkState::Up).await;
    // Whether it is void to others cannot be told: it began before any purge was heard of.
    a.tier.store(question.key, begun_before, 60_000, Owed::default());
    wait_until(|| a.tier.counters().dropped_void.value(), |dropped| *dropped == 1).await;
    assert_eq!(a.tier.counters().stored.value(), 0);
}

#[tokio::test]
async fn a_purge_reaches_everybody_and_spares_what_comes_after() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.address()).await, Instance::up(server.address()).await);
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    a.share(&other, b"answer").await;
    let held = b.find(&question).await.expect("shared");

    assert!(a.purge(Target::Tag("question")).await);
    assert!(a.find(&question).await.is_none());
    wait_until(|| is_valid(&b.generations, &held), |valid| !valid).await;
    assert!(b.find(&question).await.is_none());
    assert!(b.find(&other).await.is_some());

    // The look at our own change must not void what we stored after it.
    a.share(&question, b"new answer").await;
    let held = a.find(&question).await.expect("stored after");
    assert!(b.purge(Target::Tag("unrelated")).await);
    wait_until(|| a.generations.stamp().fleet.sequence, |sequence| *sequence == 2).await;
    assert!(is_valid(&a.generations, &held));
    assert!(b.find(&question).await.is_some());

    for target in [
        Target::Route("chat"),
        Target::Model("m"),
        Target::Tenant("acme"),
        Target::Key(question.key),
        Target::All,
    ] {
        b.share(&question, b"answer").await;
        let held = a.find(&question).await.expect("shared");
        assert!(b.purge(target).await, "{target:?}");
        wait_until(|| is_valid(&a.generations, &held), |valid| !valid).await;
        assert!(a.find(&question).await.is_none(), "{target:?}");
    }
}

#[tokio::test]
async fn purges_of_many_at_one_time_are_all_numbered() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.address()).await, Instance::up(server.address()).await);
    let (a, b) = (Arc::new(a), Arc::new(b));
    let mut purging = tokio::task::JoinSet::new();
    for n in 0..100 {
        let one = if n % 2 == 0 { a.clone() } else { b.clone() };
        purging.spawn(async move { one.purge(Target::Tag(&n.to_string())).await });
    }
    assert!(purging.join_all().await.into_iter().all(|numbered| numbered));
    for one in [&a, &b] {
        wait_until(|| one.generations.stamp().fleet.sequence, |sequence| *sequence == 100).await;
    }
}

#[tokio::test]
async fn a_purge_made_while_memcached_was_away_reaches_the_others_when_it_is_back() {
    let server = Server::start();
    let mut cable = Cable::to(server.socket(), "cable.sock");
    let a = Instance::up(server.address()).await;
    let b = Instance::up(super::Address::Unix(cable.socket())).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let (of_a, of_b) = (a.find(&question).await.unwrap(), b.find(&question).await.unwrap());
    cable.cut().await;
    b.wait_for(LinkState::Down).await;
    assert!(!b.purge(Target::Tag("question")).await);
    assert!(!is_valid(&b.generations, &of_b), "here it is in force at once");
    assert!(is_valid(&a.generations, &of_a));

    cable.mend();
    b.wait_for(LinkState::Up).await;
    assert_eq!(b.tier.purges_pending(), 0);
    assert!(b.find(&question).await.is_none());
    wait_until(|| is_valid(&a.generations, &of_a), |valid| !valid).await;
}

#[tokio::test]
async fn a_purge_reaches_an_instance_that_was_away() {
    let server = Server::start();
    let mut cable = Cable::to(server.socket(), "cable.sock");
    let a = Instance::up(server.address()).await;
    let b = Instance::up(super::Address::Unix(cable.socket())).await;
    let (question, other) = (Question::new("question"), Question::new("other"));
    b.share(&question, b"answer").await;
    b.share(&other, b"answer").await;
    let held = (b.find(&question).await.unwrap(), b.find(&other).await.unwrap());
    cable.cut().await;
    b.wait_for(LinkState::Down).await;
    assert!(a.purge(Target::Tag("question")).await);
    cable.mend();
    b.wait_for(LinkState::Up).await;
    assert!(!is_valid(&b.generations, &held.0));
    assert!(is_valid(&b.generations, &held.1));
}

#[tokio::test]
async fn a_flushed_memcached_voids_what_purges_may_have_been_lost_for() {
    let server = Server::start();
    let a = Instance::up(server.address()).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let held = a.find(&question).await.expect("shared");
    let epoch = a.generations.stamp().fleet.epoch;
    let value = server.value_of(&question).await.expect("it is there");
    let flush = "md tollgate:test:purges\r\n";
    assert_eq!(server.ask(flush).await, Answer::Done { cas: 0 });
    wait_until(|| is_valid(&a.generations, &held), |valid| !valid).await;
    assert_ne!(a.generations.stamp().fleet.epoch, epoch);
    // Even what was evicted alone: the entry is still there.
    server.put(&question, &value).await;
    assert!(a.find(&question).await.is_none());
    assert_eq!(a.tier.counters().purged.value(), 1);
    a.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
}

#[tokio::test]
async fn a_table_that_is_damaged_or_older_than_what_was_heard_begins_anew() {
    let server = Server::start();
    let a = Instance::up(server.address()).await;
    let question = Question::new("question");
    let table = || server.ask("mg tollgate:test:purges v\r\n");
    let Answer::Value { bytes: older, .. } = table().await else { panic!("a table") };
    a.share(&question, b"answer").await;
    assert!(a.purge(Target::Tag("question")).await);
    for bad in [older.to_vec(), b"x".to_vec()] {
        let epoch = a.generations.stamp().fleet.epoch;
        let head = format!("ms tollgate:test:purges {} T0\r\n", bad.len());
        server.ask([head.as_bytes(), &bad, b"\r\n"].concat()).await;
        wait_until(|| a.generations.stamp().fleet.epoch, |now| *now != epoch).await;
        assert!(a.find(&question).await.is_none(), "purged, and not to be brought back");
    }
    let newcomer = Instance::up(server.address()).await;
    assert!(newcomer.find(&question).await.is_none());
}

#[tokio::test]
async fn a_value_that_is_no_entry_of_the_key_is_a_counted_miss() {
    let server = Server::start();
    let (a, b) = (Instance::up(server.address()).await, Instance::up(server.address()).await);
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    let value = server.value_of(&question).await.expect("it is there");
    let mut corrupt = value.clone();
    corrupt[100] ^= 1;
    let bad = [corrupt.as_slice(), &value[..value.len() - 1], b"", b"x", b"EN\r\nVA 1\r\n"];
    for (n, bad) in bad.into_iter().enumerate() {
        server.put(&question, bad).await;
        assert!(b.find(&question).await.is_none());
        assert_eq!(b.tier.counters().foreign.value(), u64::try_from(n).unwrap() + 1);
    }
    server.put(&other, &value).await;
    assert!(b.find(&other).await.is_none(), "another key's answer is nobody's");
    assert!(b.tier.is_up(), "one odd value is no outage");
    b.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some(), "it was written over");
}

#[tokio::test]
async fn a_value_larger_than_we_read_is_read_over() {
    let server = Server::start();
    let limits = Limits { value_bytes_max: 10_000, ..limits() };
    let a = Instance::up_with(MemcachedSettings { limits, ..settings(vec![server.address()]) });
    let (a, question, other) = (a.await, Question::new("question"), Question::new("other"));
    a.share(&other, b"answer").await;
    server.put(&question, &[b'x'; 500_000]).await;
    assert!(a.find(&question).await.is_none());
    assert_eq!(a.tier.counters().oversized.value(), 1);
    assert!(a.find(&other).await.is_some(), "the connection goes on");
}

#[tokio::test]
async fn an_answer_larger_than_the_servers_items_is_dropped_and_counted() {
    let server = Server::start();
    let a = Instance::up(server.address()).await;
    a.store(&Question::new("large"), Box::leak(vec![7; 1024 * 1024].into_boxed_slice()));
    wait_until(|| a.tier.counters().dropped_large.value(), |dropped| *dropped == 1).await;
    let fits = Question::new("fits");
    a.share(&fits, Box::leak(vec![7; 1000 * 1024].into_boxed_slice())).await;
    assert!(a.find(&fits).await.is_some());
    assert!(a.tier.is_up());
}

#[tokio::test]
async fn one_dead_server_of_three_costs_only_its_share() {
    let mut servers = [Server::start(), Server::start(), Server::start()];
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    let a = Instance::up_with(settings(addresses.clone())).await;
    let questions: Vec<_> = (0..60).map(|n| Question::new(&n.to_string())).collect();
    for question in &questions {
        a.share(question, b"answer").await;
    }
    let mut shares = [0; 3];
    for question in &questions {
        shares[a.tier.cluster.places.of(question.key.as_bytes())] += 1;
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    // One that has no table of purges.
    let table = blake3::hash(a.tier.cluster.names.table.as_bytes());
    let home = a.tier.cluster.places.of(table.as_bytes());
    let dead = (home + 1) % 3;
    servers[dead].kill().await;
    wait_until(|| a.servers_up(), |up| *up == 2).await;
    assert!(!a.tier.is_up(), "an operator sees it");
    let mut found = 0;
    for question in &questions {
        found += usize::from(a.find(question).await.is_some());
    }
    assert_eq!(found, 60 - shares[dead]);
    assert!(a.purge(Target::Tag("0")).await, "purges go on");

    servers[dead].start_again();
    wait_until(|| a.servers_up(), |up| *up == 3).await;
    // With the table's home away, what is purged here does not come back from the others.
    servers[home].kill().await;
    wait_until(|| a.servers_up(), |up| *up == 2).await;
    let places = &a.tier.cluster.places;
    let place = |question: &&Question| places.of(question.key.as_bytes());
    let left =
        questions.iter().rfind(|question| place(question) != home && place(question) != dead);
    let left = left.expect("the third has some");
    assert!(a.find(left).await.is_some());
    assert!(!a.purge(Target::Key(left.key)).await);
    assert!(a.find(left).await.is_none());
}

#[tokio::test]
async fn a_shelf_believes_the_keeper_and_touches_no_table() {
    let server = Server::start();
    let role = Role::Shelf;
    let a = Instance::up_with(MemcachedSettings { role, ..settings(vec![server.address()]) }).await;
    let question = Question::new("question");
    a.store(&question, b"answer");
    wait_until(|| a.tier.counters().dropped_void.value(), |dropped| *dropped == 1).await;
    // The keeper is heard, wherever that is.
    let table = |sequence, purges| crate::generations::FleetTable {
        at: crate::generations::FleetStamp { epoch: 7, sequence },
        purges,
    };
    a.generations.adopt(&table(0, Vec::new()));
    a.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
    a.generations.adopt(&table(1, vec![(Subject::of(Target::Tag("question")), 1)]));
    assert!(a.find(&question).await.is_none());
    assert_eq!(server.ask("mg tollgate:test:purges v\r\n").await, Answer::Missing);
}

#[tokio::test]
async fn writes_that_find_the_queue_full_are_dropped_and_what_is_queued_is_written_before_the_end()
{
    let server = Server::start();
    let limits = Limits { queue_entries_max: 20, ..limits() };
    let a = Instance::up_with(MemcachedSettings { limits, ..settings(vec![server.address()]) });
    let a = a.await;
    // Nothing is awaited in between: the writer has no turn.
    for n in 0..30 {
        a.store(&Question::new(&n.to_string()), b"answer");
    }
    assert_eq!(a.tier.counters().dropped_full.value(), 10);
    assert!(a.tier.queued_bytes() > 0);
    a.stop.cancel();
    a.tasks.close();
    a.tasks.wait().await;
    assert_eq!(a.tier.counters().stored.value(), 20);
    assert_eq!(a.tier.queued_bytes(), 0);
}

#[tokio::test]
async fn with_encryption_nothing_of_an_entry_lies_in_the_clear_and_no_other_key_opens_it() {
    let server = Server::start();
    let sealing = async |n: u8| {
        let seals = Seals { current: SealKey::new([n; 32]), previous: [].into() };
        let limits = Limits { compress: true, seals: Some(seals), ..limits() };
        Instance::up_with(MemcachedSettings { limits, ..settings(vec![server.address()]) }).await
    };
    let question = Question::new("mark-tag");
    let clear = Instance::up(server.address()).await;
    let marks = async || {
        let value = server.value_of(&question).await.expect("it is there");
        let lies = |mark: &&str| memchr::memmem::find(&value, mark.as_bytes()).is_some();
        ["mark-body", "mark-tag", "note", "TGE"].iter().filter(|mark| lies(mark)).count()
    };
    clear.share(&question, b"mark-body").await;
    assert_eq!(marks().await, 4, "the scan finds what is there");
    let (a, b) = (sealing(1).await, sealing(2).await);
    a.share(&question, b"mark-body").await;
    assert_eq!(marks().await, 0);
    assert_eq!(&*a.find(&question).await.expect("its own").body, b"mark-body");
    assert!(b.find(&question).await.is_none());
    assert_eq!(b.tier.counters().locked.value(), 1);
    assert!(clear.find(&question).await.is_none());
}

#[tokio::test]
async fn namespaces_are_apart() {
    let server = Server::start();
    let a = Instance::up(server.address()).await;
    let namespace = "b c".to_owned(); // no key of memcached has a space
    let b = Instance::up_with(MemcachedSettings { namespace, ..settings(vec![server.address()]) });
    let (b, question) = (b.await, Question::new("question"));
    a.share(&question, b"answer").await;
    assert!(b.find(&question).await.is_none());
    b.share(&question, b"answer").await;
    assert!(b.purge(Target::All).await);
    assert!(a.purge(Target::Tag("x")).await);
    assert!(a.find(&question).await.is_some());
    let late = a.tier.look_up(question.key, &question.check, NOW_MS).await;
    assert!(late.is_some());
}
