//! Answers on a local disk: what a process leaves there the next one gives, unless it was purged,
//! and whatever happens to the files, nobody gets a wrong answer.

use crate::{
    cache_redis::detail,
    cache_stage::{CHAT, assert_hit, assert_miss, chat, is_cached},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tollgate_tests::{Client, Process, Settings, World, standin::Options, until};

/// A provider (with a proxy of its own that nobody calls) and the configuration of processes that
/// keep answers on a disk.
pub(crate) async fn house(disk: Value) -> (World, Settings) {
    let world = World::builder().standin(Options::default()).start().await;
    let mut settings = Settings::new(&world.standin.url(), &world.dir().join("process-data"));
    let cache =
        json!({ "mode": "content", "tiers": ["memory", "disk"], "tags": ["kb:{header.x-kb}"] });
    // What a read may take is not what these are about, and the machine may be busy.
    settings
        .set("cache.disk", disk)
        .set("cache.disk.timeout", json!("5s"))
        // Processes are called by one name, and these have a port each.
        .set("upstreams.model.host", json!("upstream"))
        .set("routes.0.cache", cache);
    (world, settings)
}

/// A process whose disk tier is up.
pub(crate) async fn process(world: &World, settings: &Settings) -> (Process, Client) {
    let process = Process::start(world.dir(), settings).await;
    process.says("the disk tier is up").await;
    let client = Client::new(process.addr);
    (process, client)
}

pub(crate) async fn end(mut process: Process) {
    process.signal(Signal::TERM);
    assert!(process.gone().await.success(), "{:#?}", process.log());
}

/// The files of entries, wherever they lie.
pub(crate) fn entries(world: &World) -> Vec<PathBuf> {
    let within = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).unwrap().map(|found| found.unwrap().path()).collect()
    };
    let dirs = within(&world.dir().join("process-data/cache/entries"));
    dirs.iter().filter(|dir| dir.is_dir()).flat_map(|dir| within(dir)).collect()
}

pub(crate) async fn purge(process: &Process, what: Value) -> Value {
    let reply = Client::new(process.admin).post("/api/cache/purge", &what).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test]
async fn what_was_answered_before_a_restart_is_given_after_it_without_asking() {
    let (world, settings) = house(json!({})).await;
    let (first, client) = process(&world, &settings).await;
    let asked = client.post(CHAT, &chat("a")).await;
    assert_miss(&asked);
    end(first).await;

    let (second, client) = process(&world, &settings).await;
    let found = client.post(CHAT, &chat("a")).await;
    assert_hit(&found);
    assert_eq!((detail(&found), &found.body), ("disk", &asked.body));
    assert_eq!(detail(&client.post(CHAT, &chat("a")).await), "memory");
    assert_eq!(world.standin.counts().calls, 1);
    end(second).await;
}

/// Goal: after a restart nobody waits for the disk, or for a server far away, for what is asked all
/// the time.
#[tokio::test]
async fn what_was_asked_for_most_is_in_memory_after_a_restart() {
    let (world, mut settings) = house(json!({})).await;
    settings.set("cache.warm", json!({ "restore_hot": 2 }));
    let (first, client) = process(&world, &settings).await;
    for (question, asked) in [("often", 4), ("now and then", 3), ("seldom", 2), ("once", 1)] {
        for _ in 0..asked {
            client.post(CHAT, &chat(question)).await;
        }
    }
    end(first).await;
    let restored = async || {
        let (process, client) = process(&world, &settings).await;
        let said = process.says("the hot set was restored").await;
        assert!(said.contains("\"wanted\":2,\"found\":2"), "{said}");
        (process, client)
    };
    let (second, client) = restored().await;
    end(second).await;
    // Of a process that nobody asked anything the note stays as it was.
    let (third, client_of_third) = restored().await;
    drop(client);
    let client = client_of_third;
    for (question, tier) in
        [("often", "memory"), ("now and then", "memory"), ("seldom", "disk"), ("once", "disk")]
    {
        assert_eq!(detail(&client.post(CHAT, &chat(question)).await), tier, "{question}");
    }
    assert_eq!(world.standin.counts().calls, 4);
    purge(&third, json!({ "all": true })).await;
    end(third).await;
    let (last, client) = process(&world, &settings).await;
    let said = last.says("the hot set was restored").await;
    assert!(said.contains("\"noted\":0"), "what was purged is not brought back: {said}");
    assert_miss(&client.post(CHAT, &chat("often")).await);
    end(last).await;
}

#[tokio::test]
async fn what_was_purged_stays_away_after_a_restart() {
    let (world, settings) = house(json!({})).await;
    let (first, client) = process(&world, &settings).await;
    for (kb, text) in [("7", "a"), ("8", "b")] {
        client.post_with(CHAT, &[("x-kb", kb)], &chat(text)).await;
    }
    let written = || async { entries(&world).len() };
    until("both entries on the disk", written, |there| *there == 2).await;
    let said = purge(&first, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": false }));
    // The purge has been answered, so not even this may bring it back.
    let mut first = first;
    first.signal(Signal::KILL);
    first.gone().await;

    let (second, client) = process(&world, &settings).await;
    assert!(!is_cached(&client, CHAT, &chat("a")).await);
    assert!(is_cached(&client, CHAT, &chat("b")).await);
    end(second).await;
}

#[tokio::test]
async fn damaged_files_are_misses_and_are_counted() {
    let (world, settings) = house(json!({})).await;
    let (first, client) = process(&world, &settings).await;
    client.post(CHAT, &chat("a")).await;
    end(first).await;
    let [file] = &*entries(&world) else { panic!("{:?}", entries(&world)) };
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();

    let (second, client) = process(&world, &settings).await;
    assert_miss(&client.post(CHAT, &chat("a")).await);
    let metrics = Client::new(second.metrics).get("/metrics").await.text();
    let counted = "tollgate_cache_lookups_total{outcome=\"foreign\",tier=\"disk\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(world.standin.counts().calls, 2);
    end(second).await;
}

#[tokio::test]
async fn sealed_files_hold_nothing_that_can_be_read() {
    let (world, mut settings) = house(json!({})).await;
    let key = world.dir().join("cache-key");
    fs::write(&key, "9e".repeat(32)).unwrap();
    settings.set("cache.disk.encryption", json!({ "key": { "file": key } }));
    let (first, client) = process(&world, &settings).await;
    let asked = client.post(CHAT, &chat("a")).await;
    end(first).await;
    let [file] = &*entries(&world) else { panic!("{:?}", entries(&world)) };
    let bytes = fs::read(file).unwrap();
    for clear in ["gpt-4o-mini", "application/json", "choices", "anonymous"] {
        assert!(!bytes.windows(clear.len()).any(|part| part == clear.as_bytes()), "{clear}");
    }
    let (second, client) = process(&world, &settings).await;
    assert_eq!(client.post(CHAT, &chat("a")).await.body, asked.body);
    end(second).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_costs_no_call() {
    let (world, settings) = house(json!({})).await;
    let (first, client) = process(&world, &settings).await;
    // Even root cannot write a file where a directory is.
    fs::create_dir(world.dir().join("process-data/cache/entries/new/0")).unwrap();
    for n in 0..5 {
        let reply = client.post(CHAT, &chat(&n.to_string())).await;
        assert_eq!(reply.status, 200);
        assert_hit(&client.post(CHAT, &chat(&n.to_string())).await);
    }
    first.says("the disk takes no entries").await;
    end(first).await;
    assert!(entries(&world).iter().all(|path| path.ends_with("new/0")));
}
