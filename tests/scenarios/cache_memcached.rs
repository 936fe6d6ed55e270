//! Answers that a fleet shares through real memcached servers, which are stopped, killed, flushed
//! and cut off here. Nothing of that may fail a call or give a wrong answer.

use crate::{
    cache_redis::{Line, detail, provider, stopped},
    cache_stage::{
        CHAT, assert_hit, assert_miss, cached_is, chat, content, is_cached, outcome, purge,
        record_of,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{Reply, World, standin::Options, until};

const UP: &str = "tollgate_store_up{store=\"memcached\"}";

pub(crate) struct Server {
    dir: TempDir,
    child: Child,
    megabytes: &'static str,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::of("64").await
    }

    /// Of so many megabytes.
    pub(crate) async fn of(megabytes: &'static str) -> Self {
        let dir = TempDir::new().unwrap();
        let child = Self::spawn(&dir, megabytes);
        let server = Self { dir, child, megabytes };
        server.answers().await;
        server
    }

    /// As root it wants to be told so; otherwise it does not listen to that.
    fn spawn(dir: &TempDir, megabytes: &str) -> Child {
        Command::new("memcached")
            .args(["-u", "root", "-m", megabytes, "-s"])
            .arg(dir.path().join("memcached.sock"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("memcached is installed (Debian: apt-get install memcached)")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("memcached.sock")
    }

    async fn answers(&self) {
        let look = || async { UnixStream::connect(self.socket()).await.is_ok() };
        until("memcached", look, |connected| *connected).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Returns when none of its threads runs any more.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::STOP);
        stopped(self.child.id().unwrap()).await;
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        std::fs::remove_file(self.socket()).ok();
        self.child = Self::spawn(&self.dir, self.megabytes);
        self.answers().await;
    }

    /// What it says to `commands`, and to a last one that says nothing.
    pub(crate) async fn ask(&self, commands: &[u8]) -> Vec<u8> {
        let mut said = self.said(&[commands, b"mn\r\n"].concat(), b"MN\r\n").await;
        said.truncate(said.len() - 4);
        said
    }

    /// What it says to `commands` up to `end`.
    pub(crate) async fn said(&self, commands: &[u8], end: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(commands).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(end) {
            assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0);
        }
        said
    }

    /// The names of all entries.
    async fn keys(&self) -> Vec<String> {
        // It forgets what comes after this command.
        let dump = self.said(b"lru_crawler metadump all\r\n", b"END\r\n").await;
        let dump = String::from_utf8(dump).unwrap();
        let keys = dump.lines().filter_map(|line| line.strip_prefix("key="));
        let keys =
            keys.filter_map(|line| line.split(' ').next()).map(|key| key.replace("%3A", ":"));
        keys.filter(|key| key.contains(":e:")).collect()
    }

    async fn only_key(&self) -> String {
        let keys = until("an entry", || self.keys(), |keys: &Vec<_>| keys.len() == 1).await;
        keys[0].clone()
    }
}

pub(crate) async fn member(line: &Line, upstream: &str, timeout: &'static str) -> World {
    let cache = json!({ "tiers": ["memory", "memcached"], "tags": ["kb:{header.x-kb}"] });
    member_with(vec![line.addr.to_string()], upstream, timeout, cache, Value::Null).await
}

async fn member_with(
    servers: Vec<String>,
    upstream: &str,
    timeout: &'static str,
    cache: Value,
    entries: Value,
) -> World {
    let world = content(cache)
        .upstream(upstream)
        .config(move |settings| {
            settings
                .set("stores.memcached", json!({ "servers": servers, "timeout": timeout }))
                .set("cache.namespace", json!("fleet"));
            if !entries.is_null() {
                settings.set("cache.memcached", entries);
            }
        })
        .start()
        .await;
    world.metric_when(UP, 1.0).await;
    world
}

fn look_ups(world: &World, wanted: &str) -> f64 {
    let series = format!("tollgate_cache_lookups_total{{tier=\"memcached\",outcome=\"{wanted}\"}}");
    world.metric(&series).unwrap_or_default()
}

/// Which version of the model there is, an instance learns from its own first answer.
pub(crate) async fn learn_version(world: &World) {
    assert_eq!(world.client.post(CHAT, &chat("which version")).await.status, 200);
}

#[tokio::test]
async fn a_repeat_is_answered_from_memcached_by_another_instance_and_after_a_restart() {
    let server = Server::start().await;
    let provider = provider(Options::default()).await;
    let line = Line::to_socket(server.socket()).await;
    let a = member(&line, &provider.url(), "2s").await;
    learn_version(&a).await;
    let first = a.client.post(CHAT, &chat("a")).await;
    assert_miss(&first);
    // Another beside it, and one after it.
    let beside = member(&line, &provider.url(), "2s").await;
    learn_version(&beside).await;
    cached_is(&beside.client, &chat("a"), true).await;
    drop((a, beside));
    let b = member(&line, &provider.url(), "2s").await;
    learn_version(&b).await;
    let second = b.client.post(CHAT, &chat("a")).await;
    assert_eq!((detail(&second), &second.body), ("memcached", &first.body));
    assert_eq!(detail(&b.client.post(CHAT, &chat("a")).await), "memory");
    assert_eq!(provider.counts().calls, 4, "each asked once which version there is");
    let hit = record_of(&b, &second).await;
    assert_eq!(outcome(&hit), (CacheOutcome::Hit, "memcached"));
    let series = "tollgate_cache_requests_total{route=\"all\",tier=\"memcached\",outcome=\"hit\"}";
    assert!(b.metric(series).unwrap_or_default() >= 1.0);
}

#[tokio::test]
async fn a_purge_on_one_instance_reaches_the_others() {
    let server = Server::start().await;
    let provider = provider(Options::default()).await;
    let line = Line::to_socket(server.socket()).await;
    let a = member(&line, &provider.url(), "2s").await;
    let b = member(&line, &provider.url(), "2s").await;
    learn_version(&b).await;
    for target in
        [json!({ "tag": "kb:7" }), json!({ "model": "gpt-4o-mini" }), json!({ "all": true })]
    {
        a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
        cached_is(&b.client, &chat("a"), true).await;
        let said = purge(&a, target.clone()).await;
        assert_eq!(said, json!({ "purged": null, "reach": "fleet", "pending": false }));
        assert!(!is_cached(&a.client, CHAT, &chat("a")).await, "{target}");
        cached_is(&b.client, &chat("a"), false).await;
    }
}

#[tokio::test]
async fn a_purge_while_memcached_is_cut_off_is_in_force_here_and_told_when_it_is_back() {
    let server = Server::start().await;
    let provider = provider(Options::default()).await;
    let (line, away) =
        (Line::to_socket(server.socket()).await, Line::to_socket(server.socket()).await);
    let a = member(&away, &provider.url(), "2s").await;
    let b = member(&line, &provider.url(), "2s").await;
    learn_version(&b).await;
    a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;
    away.cut();
    a.metric_when(UP, 0.0).await;
    let said = purge(&a, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": true }));
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await);
    away.mend();
    cached_is(&b.client, &chat("a"), false).await;
    a.metric_when(UP, 1.0).await;
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await, "not brought back from memcached");
}

#[tokio::test]
async fn a_memcached_that_stands_still_costs_a_few_time_outs_and_is_used_again_when_it_goes_on() {
    let server = Server::start().await;
    let provider = provider(Options::default()).await;
    let line = Line::to_socket(server.socket()).await;
    let patient = member(&line, &provider.url(), "2s").await;
    patient.client.post(CHAT, &chat("shared")).await;
    let hasty = member(&line, &provider.url(), "100ms").await;
    hasty.client.post(CHAT, &chat("mine")).await;
    server.stop().await;
    for n in 0..20 {
        let reply = hasty.client.post(CHAT, &chat(&format!("question {n}"))).await;
        assert_eq!(reply.status, 200);
        assert_hit(&hasty.client.post(CHAT, &chat("mine")).await);
    }
    // Nobody waited but the five who found out, if a probe did not before, and they once.
    assert!(look_ups(&hasty, "timeout") <= 5.0, "{}", hasty.app.metrics_text());
    assert!(look_ups(&hasty, "skipped") >= 15.0, "{}", hasty.app.metrics_text());
    assert_eq!(hasty.metric(UP), Some(0.0));
    server.signal(Signal::CONT);
    hasty.metric_when(UP, 1.0).await;
    let only = [("cache-control", "only-if-cached")];
    let look = || async { hasty.client.post_with(CHAT, &only, &chat("shared")).await };
    let found = until("a hit in memcached", look, |reply: &Reply| reply.status == 200).await;
    assert_eq!(detail(&found), "memcached");
}

#[tokio::test]
async fn no_call_fails_and_no_answer_is_wrong_while_memcached_is_killed_flushed_and_cut_off() {
    let mut server = Server::start().await;
    let provider = provider(Options::default()).await;
    let line = Line::to_socket(server.socket()).await;
    let a = member(&line, &provider.url(), "100ms").await;
    let b = member(&line, &provider.url(), "100ms").await;
    let mut answers = std::collections::HashMap::new();
    for round in 0..8 {
        match round {
            1 => server.kill().await,
            2 => server.start_again().await,
            3 => drop(server.ask(b"flush_all\r\n").await),
            4 => line.cut(),
            5 => line.mend(),
            6 => server.stop().await,
            7 => server.signal(Signal::CONT),
            _ => {}
        }
        for n in 0..10 {
            for world in [&a, &b] {
                let reply = world.client.post(CHAT, &chat(&n.to_string())).await;
                assert_eq!(reply.status, 200, "round {round}");
                let text = reply.json()["choices"][0]["message"]["content"].clone();
                assert_eq!(answers.entry(n).or_insert(text.clone()), &text, "round {round}");
            }
        }
    }
    a.metric_when(UP, 1.0).await;
}

#[tokio::test]
async fn a_value_that_is_corrupt_cut_or_anothers_is_a_counted_miss() {
    let server = Server::start().await;
    let provider = provider(Options::default()).await;
    let cache = json!({ "tiers": ["memcached"] });
    let servers = vec![format!("unix:{}", server.socket().display())];
    let a = member_with(servers, &provider.url(), "2s", cache, Value::Null).await;
    a.client.post(CHAT, &chat("a")).await;
    let key = server.only_key().await;
    cached_is(&a.client, &chat("a"), true).await;
    let said = server.ask(format!("mg {key} v\r\n").as_bytes()).await;
    let begin = said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let value = said[begin..said.len() - 2].to_vec();
    let mut corrupt = value.clone();
    corrupt[50] ^= 1;
    for (n, bad) in [corrupt.as_slice(), &value[..20], b"foreign"].into_iter().enumerate() {
        let set = format!("ms {key} {} T0\r\n", bad.len());
        server.ask(&[set.as_bytes(), bad, b"\r\n"].concat()).await;
        assert!(!is_cached(&a.client, CHAT, &chat("a")).await);
        let counted = look_ups(&a, "foreign") - f64::from(u32::try_from(n).unwrap());
        assert!((0.5..1.5).contains(&counted), "{n}: {counted}");
    }
    assert_miss(&a.client.post(CHAT, &chat("a")).await);
    cached_is(&a.client, &chat("a"), true).await;
}

#[tokio::test]
async fn a_sealed_answer_does_not_lie_in_the_clear_and_two_servers_share_the_keys() {
    let (one, other) = (Server::start().await, Server::start().await);
    let provider = provider(Options::default()).await;
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("key"), "9e".repeat(32)).unwrap();
    let entries = json!({
        "compression": "zstd",
        "encryption": { "key": { "file": dir.path().join("key") } },
    });
    let servers: Vec<_> =
        [&one, &other].map(|server| format!("unix:{}", server.socket().display())).into();
    let cache = json!({ "tiers": ["memory", "memcached"] });
    let start = async || {
        let (servers, url) = (servers.clone(), provider.url());
        member_with(servers, &url, "2s", cache.clone(), entries.clone()).await
    };
    let (a, b) = (start().await, start().await);
    learn_version(&b).await;
    for n in 0..20 {
        a.client.post(CHAT, &chat(&n.to_string())).await;
        cached_is(&b.client, &chat(&n.to_string()), true).await;
    }
    for server in [&one, &other] {
        let keys = server.keys().await;
        assert!(!keys.is_empty());
        for key in keys {
            let value = server.ask(format!("mg {key} v\r\n").as_bytes()).await;
            for clear in ["gpt-4o-mini", "application/json", "TGE", "choices", "anonymous"] {
                assert!(memchr_in(&value, clear).is_none(), "{clear} in {key}");
            }
        }
    }
}

fn memchr_in(value: &[u8], text: &str) -> Option<usize> {
    value.windows(text.len()).position(|window| window == text.as_bytes())
}
