//! What the PostgreSQL tier promises, against a real server.

use super::{
    PostgresSettings,
    stage::{Instance, PORT, Server, client, server, settings, wait_for},
};
use crate::{
    generations::{FleetTable, Generations, Subject, Target},
    outer::{
        Limits, LinkState, Role,
        lateness::LATE_IN_A_ROW_MAX,
        stage::{Cable, Question, is_valid, limits, wait_until},
    },
    tiers::Owed,
    versions::{Current, Said},
    wrap::{SealKey, Seals},
};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn what_one_instance_stored_another_finds_also_after_a_restart() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    let found = b.find(&question).await.expect("postgresql has it");
    assert_eq!((&*found.body, &*found.note), (b"answer".as_slice(), b"note".as_slice()));
    drop((a, b));
    let again = Instance::up(&server).await;
    assert!(again.find(&question).await.is_some());
    assert!(again.find(&Question::new("another")).await.is_none());
    let counters = again.tier.counters();
    assert_eq!((counters.hits.value(), counters.misses.value()), (1, 1));
}

#[tokio::test]
async fn a_stored_entry_is_replaced_and_two_of_one_batch_do_not_clash() {
    let server = server();
    let a = Instance::up(&server).await;
    let (question, other) = (Question::new("question"), Question::new("other"));
    for body in [b"one".as_slice(), b"two", b"three"] {
        a.store(&question, body, 60_000);
        a.store(&other, body, 60_000);
    }
    wait_until(|| a.tier.counters().stored.value(), |stored| *stored == 6).await;
    for question in [question, other] {
        assert_eq!(&*a.find(&question).await.expect("stored").body, b"three");
    }
}

#[tokio::test]
async fn what_is_past_its_time_is_neither_given_nor_kept_and_room_is_made() {
    let server = server();
    let a = Instance::up(&server).await;
    let (question, lasting) = (Question::new("question"), Question::new("lasting"));
    a.store(&question, b"answer", 1);
    a.share(&lasting, b"answer").await;
    wait_until(|| a.tier.counters().evicted_expired.value(), |gone| *gone == 1).await;
    assert!(a.find(&question).await.is_none());
    assert!(a.find(&lasting).await.is_some());
    drop(a);
    let full = PostgresSettings { size_max: 100_000, ..settings(server.url()) };
    let a = Instance::up_with(full).await;
    for n in 0..30 {
        a.share(&Question::new(&n.to_string()), &[b'x'; 10_000]).await;
    }
    wait_until(|| a.tier.counters().evicted_for_room.value(), |gone| *gone > 0).await;
    let fits = a.tier.store.sql.size.replacen("SELECT ", "SELECT 100000 >= ", 1);
    wait_for(&server, &fits).await;
}

/// Who hears of nothing by itself must not give what was purged either.
#[tokio::test]
async fn a_purge_is_in_force_everywhere_once_it_is_answered_though_its_message_is_lost() {
    let server = server();
    let mut deaf = settings(server.url());
    deaf.limits.probe_interval = Duration::from_secs(3600);
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up_with(deaf));
    let (question, other) = (Question::new("question"), Question::new("other"));
    let client = client(&server).await;
    for n in 0..20 {
        a.share(&question, b"answer").await;
        a.share(&other, b"answer").await;
        assert!(b.find(&question).await.is_some(), "{n}");
        if n % 2 == 0 {
            assert!(a.purge(Target::Tag("question")).await);
        } else {
            // Numbered, and told to nobody.
            let subject = Subject::of(Target::Tag("question"));
            let (names, nobody) = (vec![subject.as_bytes().as_slice()], "nobody");
            let all = Subject::ALL.as_bytes().as_slice();
            client.query(&a.tier.store.sql.purge, &[&"test", &names, &nobody, &all]).await.unwrap();
            // What is begun from now on is after it.
            let sequence = || a.generations.stamp().fleet.sequence;
            wait_until(sequence, |sequence| *sequence == n + 1).await;
        }
        assert!(b.find(&question).await.is_none(), "{n}");
        assert!(b.find(&other).await.is_some(), "{n}");
        assert_eq!(b.tier.counters().purged.value(), n + 1);
    }
}

#[tokio::test]
async fn a_purge_reaches_everybody_and_spares_what_comes_after() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
    let question = Question::new("question");
    for target in [
        Target::Tag("question"),
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
    b.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
    // Softly: past its time, and given while a stale answer may be.
    let soft = Subject::of(Target::Tag("question")).softly();
    b.generations.purge_here(soft);
    assert!(b.tier.purge(&[soft]).await);
    assert!(a.find(&question).await.expect("not void").stamp.soft_since_ms.is_some());
    // Everything stands for all before it.
    let rows = client(&server).await.query("SELECT subject FROM tollgate_purges", &[]).await;
    assert_eq!(rows.unwrap().len(), 2);
}

#[tokio::test]
async fn purges_of_many_at_one_time_are_all_numbered_and_of_too_many_the_oldest_are_forgotten() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
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
    server.sql(
        "INSERT INTO tollgate_purges SELECT 'test', decode(lpad(to_hex(n), 32, '0'), 'hex'), 1 \
             FROM generate_series(1, 65536) n",
    );
    let question = Question::new("question");
    b.share(&question, b"answer").await;
    assert!(a.purge(Target::Tag("one more")).await);
    // Those with the number 1 are the oldest, and everything before them is void.
    let floor = "subject = decode(repeat('00', 16), 'hex') AND sequence = 1";
    let sql = format!("SELECT count(*) = 1 FROM tollgate_purges WHERE {floor}");
    wait_for(&server, &sql).await;
    wait_for(&server, "SELECT count(*) BETWEEN 100 AND 102 FROM tollgate_purges").await;
    assert!(b.find(&question).await.is_some(), "what is younger than the oldest stays");
    let c = Instance::up(&server).await;
    assert!(c.find(&question).await.is_some());
    assert!(a.purge(Target::Tag("question")).await);
    assert!(b.find(&question).await.is_none());
}

#[tokio::test]
async fn a_postgresql_that_is_late_once_is_asked_again_at_once() {
    let server = server();
    let limits = Limits {
        read_timeout: Duration::from_millis(100),
        probe_interval: Duration::from_secs(3600),
        ..limits()
    };
    let hasty = Instance::up_with(PostgresSettings { limits, ..settings(server.url()) }).await;
    assert!(hasty.purge(Target::Tag("x")).await);
    server.signal("STOP");
    assert!(hasty.find(&Question::new("question")).await.is_none());
    let counters = hasty.tier.counters();
    assert_eq!(counters.timeouts.value(), 1, "{counters:?}");
    assert!(hasty.tier.is_up(), "{counters:?}");
    assert_eq!(counters.breaker_opened.value(), 0);
    server.signal("CONT");
}

#[tokio::test]
async fn a_stalled_postgresql_costs_a_few_time_outs_and_is_used_again_when_it_goes_on() {
    let server = server();
    let patient = Instance::up(&server).await;
    let question = Question::new("question");
    patient.share(&question, b"answer").await;
    let hasty = Limits {
        read_timeout: Duration::from_millis(100),
        probe_timeout: Duration::from_millis(300),
        ..limits()
    };
    let hasty = PostgresSettings { limits: hasty, ..settings(server.url()) };
    let hasty = Instance::up_with(hasty).await;

    server.signal("STOP");
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

    server.signal("CONT");
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

#[tokio::test]
async fn after_a_crash_its_purges_are_remembered_and_its_entries_are_not() {
    let mut server = server();
    let a = Instance::up(&server).await;
    let (purged, other) = (Question::new("purged"), Question::new("other"));
    a.share(&purged, b"answer").await;
    a.share(&other, b"answer").await;
    let held = (a.find(&purged).await.unwrap(), a.find(&other).await.unwrap());
    let epoch = a.generations.stamp().fleet.epoch;
    assert!(a.purge(Target::Tag("purged")).await);
    server.kill();
    a.wait_for(LinkState::Down).await;
    assert!(a.find(&other).await.is_none());
    assert!(!a.purge(Target::Tag("while it was away")).await);

    server.start_again();
    a.wait_for(LinkState::Up).await;
    wait_until(|| a.tier.purges_pending(), |pending| *pending == 0).await;
    assert_eq!(a.generations.stamp().fleet.epoch, epoch);
    assert!(is_valid(&a.generations, &held.1) && !is_valid(&a.generations, &held.0));
    assert!(a.find(&other).await.is_none(), "the table is not logged");
    a.share(&other, b"answer").await;
    assert!(a.find(&other).await.is_some());
    let b = Instance::up(&server).await;
    assert_eq!(b.generations.stamp().fleet, a.generations.stamp().fleet);
    assert!(b.find(&other).await.is_some());
}

#[tokio::test]
async fn purges_reach_over_a_line_that_was_cut_in_both_directions() {
    let server = server();
    let mut cable = Cable::to(server.socket(), ".s.PGSQL.5432");
    let near = Server::url_of(cable.socket().parent().unwrap(), PORT);
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up_with(settings(near)));
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    a.share(&other, b"answer").await;
    let of_a = a.find(&question).await.unwrap();
    let of_b = (b.find(&question).await.unwrap(), b.find(&other).await.unwrap());
    cable.cut().await;
    b.wait_for(LinkState::Down).await;
    assert!(!b.purge(Target::Tag("question")).await);
    assert!(!is_valid(&b.generations, &of_b.0), "here it is in force at once");
    assert!(is_valid(&a.generations, &of_a));
    assert!(a.purge(Target::Tag("other")).await);

    cable.mend();
    b.wait_for(LinkState::Up).await;
    wait_until(|| b.tier.purges_pending(), |pending| *pending == 0).await;
    assert!(!is_valid(&b.generations, &of_b.1));
    assert!(b.find(&question).await.is_none() && a.find(&question).await.is_none());
    assert!(!is_valid(&a.generations, &of_a), "the read has heard of it");
}

#[tokio::test]
async fn a_server_that_has_forgotten_purges_begins_an_epoch() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
    let question = Question::new("question");
    assert!(a.purge(Target::Tag("x")).await);
    for lost in [
        "DELETE FROM tollgate_purges; UPDATE tollgate_fleet SET sequence = 0",
        "DELETE FROM tollgate_fleet",
        "DROP TABLE tollgate_fleet",
        "DROP TABLE tollgate_entries, tollgate_purges; TRUNCATE tollgate_fleet",
    ] {
        for one in [&a, &b] {
            one.wait_for(LinkState::Up).await;
        }
        let epoch = a.generations.stamp().fleet.epoch;
        wait_until(|| b.generations.stamp().fleet.epoch, |now| *now == epoch).await;
        a.share(&question, b"answer").await;
        let held = b.find(&question).await.expect(lost);
        server.sql(lost);
        wait_until(|| is_valid(&b.generations, &held), |valid| !valid).await;
        wait_until(|| a.generations.stamp().fleet.epoch, |now| *now != epoch).await;
        let epoch = a.generations.stamp().fleet.epoch;
        wait_until(|| b.generations.stamp().fleet.epoch, |now| *now == epoch).await;
    }
}

#[tokio::test]
async fn a_value_that_is_no_entry_of_the_key_is_a_counted_miss() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
    let (question, other) = (Question::new("question"), Question::new("other"));
    a.share(&question, b"answer").await;
    let client = client(&server).await;
    let key = question.key.as_bytes().as_slice();
    let read = "SELECT value FROM tollgate_entries WHERE key = $1";
    let value: Vec<u8> = client.query_one(read, &[&key]).await.unwrap().get(0);
    let mut corrupt = value.clone();
    corrupt[100] ^= 1;
    let put = "INSERT INTO tollgate_entries VALUES ($1, $2, 'infinity') \
        ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
    for (n, bad) in [corrupt.as_slice(), &value[..value.len() - 1], b"", b"x"].iter().enumerate() {
        client.execute(put, &[&key, bad]).await.unwrap();
        assert!(b.find(&question).await.is_none());
        assert_eq!(b.tier.counters().foreign.value(), u64::try_from(n).unwrap() + 1);
    }
    let elsewhere = other.key.as_bytes().as_slice();
    client.execute(put, &[&elsewhere, &value]).await.unwrap();
    assert!(b.find(&other).await.is_none(), "another key's answer is nobody's");
    assert!(b.tier.is_up(), "one odd value is no outage");
    b.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some(), "it was written over");

    let limits = Limits { value_bytes_max: 10_000, ..limits() };
    let modest = Instance::up_with(PostgresSettings { limits, ..settings(server.url()) }).await;
    client.execute(put, &[&elsewhere, &[b'x'; 500_000].as_slice()]).await.unwrap();
    assert!(modest.find(&other).await.is_none());
    assert_eq!(modest.tier.counters().oversized.value(), 1);
    assert!(modest.find(&question).await.is_some());
}

#[tokio::test]
async fn what_is_sealed_lies_nowhere_in_the_clear_and_needs_its_key() {
    let server = server();
    let seals = |byte| Some(Seals { current: SealKey::new([byte; 32]), previous: Vec::new() });
    let sealing = |byte| Limits { compress: true, seals: seals(byte), ..limits() };
    let with = |byte| PostgresSettings { limits: sealing(byte), ..settings(server.url()) };
    let (a, b) = tokio::join!(Instance::up_with(with(1)), Instance::up_with(with(2)));
    let question = Question::new("question");
    a.share(&question, b"an answer that nobody else is to read").await;
    assert!(a.find(&question).await.is_some());
    assert!(b.find(&question).await.is_none());
    assert_eq!(b.tier.counters().locked.value(), 1);
    let row = client(&server).await.query_one("SELECT value FROM tollgate_entries", &[]).await;
    let value: Vec<u8> = row.unwrap().get(0);
    assert!(memchr::memmem::find(&value, b"answer").is_none());
}

#[tokio::test]
async fn a_shelf_gives_what_the_keeper_admits_and_keeps_no_purges() {
    let server = server();
    let shelf = || PostgresSettings { role: Role::Shelf, ..settings(server.url()) };
    let a = Instance::up_with(shelf()).await;
    let question = Question::new("question");
    // As long as no keeper was heard nothing that a store has is believed.
    a.tier.store(
        question.key,
        Arc::new(question.entry(b"x", &a.generations)),
        60_000,
        Owed::default(),
    );
    wait_until(|| a.tier.counters().dropped_void.value(), |dropped| *dropped == 1).await;
    a.generations.adopt(&FleetTable::new(7));
    a.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
    let rows = client(&server).await.query("SELECT 1 FROM tollgate_fleet", &[]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn versions_of_models_are_the_fleets() {
    let server = server();
    let (a, b) = tokio::join!(Instance::up(&server), Instance::up(&server));
    let known = |version: &str| Current::Known(version.into());
    a.versions.observe("u", "m", Said::Version("1"), 1);
    wait_until(|| b.versions.current("u", "m"), |now| *now == known("1")).await;
    b.versions.observe("u", "m", Said::Version("2"), 2);
    wait_until(|| a.versions.current("u", "m"), |now| *now == known("2")).await;
    for n in 3..15 {
        a.versions.observe("u", "m", Said::Version(&n.to_string()), n);
    }
    wait_until(|| b.versions.current("u", "m"), |now| *now == known("14")).await;
    let client = client(&server).await;
    let row = client.query_one("SELECT cardinality(seen) FROM tollgate_versions", &[]).await;
    assert_eq!(row.unwrap().get::<_, i32>(0), 8);
    let late = Instance::up(&server).await;
    assert_eq!(late.versions.current("u", "m"), known("14"));
}

#[tokio::test]
async fn a_user_who_may_create_nothing_is_told_what_is_to_be_made_and_uses_it_then() {
    let server = server();
    server.sql("CREATE USER least PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let url = server.url().replace("tollgate@", "least:secret@");
    let least = PostgresSettings { schema: Some("cache".to_owned()), ..settings(url) };
    let a = Instance::start(least);
    let sql = a.tier.store.sql.create.clone();
    assert!(!a.tier.is_up());
    server.sql(&sql);
    server.sql(
        "GRANT USAGE ON SCHEMA cache TO least; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cache TO least",
    );
    a.wait_for(LinkState::Up).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    assert!(a.find(&question).await.is_some());
    assert!(a.purge(Target::Tag("question")).await);
    a.store(&Question::new("brief"), b"answer", 1);
    wait_until(|| a.tier.counters().evicted_expired.value(), |gone| *gone == 1).await;
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_end_and_nothing_is_kept_while_it_is_away() {
    let mut server = server();
    let a = Instance::up(&server).await;
    let questions: Vec<_> = (0..100).map(|n| Question::new(&n.to_string())).collect();
    for question in &questions {
        a.store(question, b"answer", 60_000);
    }
    a.stop.cancel();
    a.tasks.close();
    a.tasks.wait().await;
    assert_eq!((a.tier.counters().stored.value(), a.tier.queued_bytes()), (100, 0));

    server.kill();
    let a = Instance::start(settings(server.url()));
    a.store(&questions[0], b"answer", 60_000);
    assert_eq!(a.tier.counters().dropped_down.value(), 1);
    let generations: &Generations = &a.generations;
    assert_eq!(generations.stamp().fleet.epoch, 0);
}
