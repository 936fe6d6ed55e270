//! Answers that a fleet shares through a real redis-server, which is stopped, killed and
//! cut off here. Nothing of that may cost a caller more than one time-out, or more than a few callers that.
//!
//! The server listens on a socket in a directory of the scenario's; a relay on a port that
//! the system chose leads there, so that no port can be taken and a line can be cut.

use crate::cache_stage::{
    CHAT, Told as _, assert_hit, assert_miss, cached_is, chat, content, is_cached, outcome, purge,
    record_of,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{path::PathBuf, process::Stdio};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixStream},
    process::{Child, Command},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Authority, Reply, TlsFront, World, WorldBuilder,
    standin::{Options, StandIn},
    until,
};

pub(crate) use crate::line::{Line, stopped};

pub(crate) const UP: &str = "tollgate_store_up{store=\"redis\"}";

pub(crate) struct Server {
    dir: TempDir,
    child: Child,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let child = Self::spawn(&dir.path().join("redis.sock"));
        let server = Self { dir, child };
        server.answers().await;
        server
    }

    fn spawn(socket: &std::path::Path) -> Child {
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(socket)
            .arg("--dir")
            .arg(socket.parent().unwrap())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed (Debian: apt-get install redis-server)")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Waits until it does.
    async fn answers(&self) {
        let look = || async { UnixStream::connect(self.socket()).await.is_ok() };
        until("redis-server", look, |connected| *connected).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Returns when it stands still.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::STOP);
        stopped(self.child.id().unwrap()).await;
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        std::fs::remove_file(self.socket()).ok();
        self.child = Self::spawn(&self.socket());
        self.answers().await;
    }

    /// What is in it, as the server's own command says it: keys and values.
    pub(crate) async fn all_there_is(&self) -> String {
        let script = "local all = '' for _, key in ipairs(redis.call('KEYS', '*')) do \
            local kind = redis.call('TYPE', key).ok \
            local value = kind == 'string' and redis.call('GET', key) \
                or table.concat(redis.call('HGETALL', key), ' ') \
            all = all .. key .. ' ' .. value .. '\\n' end return all";
        self.cli(&["EVAL", script, "0"]).await
    }

    /// What redis-cli prints.
    pub(crate) async fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .args(words)
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A proxy of the fleet, once it has found Redis.
pub(crate) async fn member(line: &Line, upstream: &str) -> World {
    let world = member_at_once(line, upstream, "2s").await;
    world.metric_when(UP, 1.0).await;
    world
}

async fn member_at_once(line: &Line, upstream: &str, timeout: &'static str) -> World {
    let cache = json!({ "tiers": ["memory", "redis"], "tags": ["kb:{header.x-kb}"] });
    member_with(content(cache), line, upstream, timeout).await
}

pub(crate) async fn member_with(
    builder: WorldBuilder,
    line: &Line,
    upstream: &str,
    timeout: &'static str,
) -> World {
    let url = line.url();
    builder
        .upstream(upstream)
        .config(move |settings| {
            settings
                .set("stores.redis", json!({ "urls": [url], "timeout": timeout }))
                .set("cache.namespace", json!("fleet"));
        })
        .start()
        .await
}

/// One provider for all of a fleet.
pub(crate) async fn provider(options: Options) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    StandIn::start(options, listener, &TaskTracker::new(), CancellationToken::new())
}

fn look_ups(world: &World, wanted: &str) -> f64 {
    let series = format!("tollgate_cache_lookups_total{{tier=\"redis\",outcome=\"{wanted}\"}}");
    world.metric(&series).unwrap_or_default()
}

pub(crate) fn detail(reply: &Reply) -> &str {
    reply.cache_status().rsplit_once("detail=").map_or("", |(_, detail)| detail)
}

#[tokio::test]
async fn what_one_instance_was_answered_another_gives_from_redis_and_then_from_memory() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    let first = a.client.post(CHAT, &chat("a")).await;
    assert_miss(&first);

    // It is written behind the caller's back; the version of the model comes along.
    let only = [("cache-control", "only-if-cached")];
    let look = || async { b.client.post_with(CHAT, &only, &chat("a")).await };
    let second = until("the answer in redis", look, |reply: &Reply| reply.status == 200).await;
    assert_eq!(detail(&second), "redis");
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("content-type"), first.header("content-type"));
    let third = b.client.post(CHAT, &chat("a")).await;
    assert_eq!((detail(&third), &third.body), ("memory", &first.body));
    assert_eq!(provider.counts().calls, 1);

    let hit = record_of(&b, &second).await;
    assert_eq!(outcome(&hit), (CacheOutcome::Hit, "redis"));
    // What it saved is known to who never paid for it.
    let paid = a.record().await;
    assert_eq!(hit.record.saved_pico, crate::cache_stage::cost_pico(&paid));
    let redis = "tollgate_cache_requests_total{route=\"all\",tier=\"redis\",outcome=\"hit\"}";
    assert_eq!(b.metric(redis), Some(1.0));
}

#[tokio::test]
async fn no_credential_and_no_question_goes_to_redis() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    let headers = [("authorization", "Bearer sk-very-secret")];
    a.client.post_with(CHAT, &headers, &chat("my question")).await;
    let wish = [headers[0], ("cache-control", "only-if-cached")];
    let look = || async { b.client.post_with(CHAT, &wish, &chat("my question")).await };
    until("the answer in redis", look, |reply: &Reply| reply.status == 200).await;

    let all = server.all_there_is().await;
    assert!(all.contains("tollgate:fleet:e:"), "{all}");
    assert!(!all.contains("very-secret") && !all.contains("my question"), "{all}");
}

/// Goal: what the configuration says of TLS, user, compression and encryption is done.
/// Method: a server that lets the user in behind TLS only, and a look at all that is in it.
#[tokio::test]
async fn a_fleet_shares_sealed_answers_behind_tls_as_a_user_who_may_do_the_least() {
    const COMMANDS: &str = "+hello +select +getrange +set +eval +hget +hset +hmget +hgetall \
        +hincrby +hlen +hdel +del +publish +subscribe +get +append +exists +pttl +pexpire";
    let server = Server::start().await;
    let user =
        "ACL SETUSER tollgate on >s3cret resetkeys ~tollgate:* resetchannels &tollgate:* -@all";
    let words: Vec<&str> = user.split(' ').chain(COMMANDS.split_whitespace()).collect();
    assert_eq!(server.cli(&words).await, "OK\n");
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let (own, line) = (authority.sign("127.0.0.1"), Line::to(&server).await);
    let front = TlsFront::start(&own, line.addr).await;
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        json!({ "file": dir.path().join(name) })
    };
    let stores = json!({
        "urls": [format!("rediss://{}", front.addr())],
        "timeout": "2s",
        "user": "tollgate",
        "password": file("password", "s3cret\n"),
        "tls": {
            "ca": &authority.file,
            "client_certificate": &own.certificate,
            "client_key": &own.private_key,
        },
    });
    let sealed = json!({
        "compression": "zstd",
        "encryption": { "key": file("cache-key", &"9e".repeat(32)) },
    });
    let provider = provider(Options::default()).await;
    let member = async || {
        let (stores, sealed) = (stores.clone(), sealed.clone());
        let world = content(json!({ "tiers": ["memory", "redis"] }))
            .upstream(provider.url())
            .config(move |settings| {
                settings
                    .set("stores.redis", stores)
                    .set("cache.redis", sealed)
                    .set("cache.namespace", json!("fleet"));
            })
            .start()
            .await;
        world.metric_when(UP, 1.0).await;
        world
    };
    let (a, b) = (member().await, member().await);
    let first = a.client.post(CHAT, &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;
    assert_eq!(b.client.post(CHAT, &chat("a")).await.body, first.body);
    assert!(front.opened() >= 8, "four connections each");
    assert_eq!(a.metric("tollgate_cache_leases_total{outcome=\"taken\"}"), Some(1.0));

    let all = server.all_there_is().await;
    assert!(all.contains("tollgate:fleet:e:"), "{all}");
    for clear in ["gpt-4o-mini", "application/json", "TGE", "choices", "anonymous"] {
        assert!(!all.contains(clear), "{clear} in {all}");
    }
}

#[tokio::test]
async fn a_purge_on_one_instance_reaches_the_others() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    for target in
        [json!({ "tag": "kb:7" }), json!({ "model": "gpt-4o-mini" }), json!({ "all": true })]
    {
        a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
        cached_is(&b.client, &chat("a"), true).await;

        let said = purge(&a, target.clone()).await;
        assert_eq!(said, json!({ "purged": null, "reach": "fleet", "pending": false }));
        assert!(!is_cached(&a.client, CHAT, &chat("a")).await, "{target}");
        // In its memory, too, and in Redis.
        cached_is(&b.client, &chat("a"), false).await;
    }
}

#[tokio::test]
async fn a_purge_by_key_takes_that_entry_everywhere() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    a.client.post(CHAT, &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;
    let all = server.all_there_is().await;
    let key = all.split("tollgate:fleet:e:").nth(1).and_then(|rest| rest.get(..64)).unwrap();
    a.client.post(CHAT, &chat("b")).await;
    cached_is(&b.client, &chat("b"), true).await;

    purge(&b, json!({ "key": key })).await;
    assert!(!is_cached(&b.client, CHAT, &chat("a")).await);
    cached_is(&a.client, &chat("a"), false).await;
    for world in [&a, &b] {
        assert!(is_cached(&world.client, CHAT, &chat("b")).await);
    }
}

#[tokio::test]
async fn a_purge_reaches_also_who_was_cut_off_when_it_came() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let away = Line::to(&server).await;
    let (a, b) = (member(&line, &provider.url()).await, member(&away, &provider.url()).await);
    a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
    a.client.post_with(CHAT, &[("x-kb", "8")], &chat("b")).await;
    cached_is(&b.client, &chat("a"), true).await;
    cached_is(&b.client, &chat("b"), true).await;

    away.cut();
    b.metric_when(UP, 0.0).await;
    purge(&a, json!({ "tag": "kb:7" })).await;
    assert!(is_cached(&b.client, CHAT, &chat("a")).await, "it cannot know");
    away.mend();
    b.metric_when(UP, 1.0).await;
    assert!(!is_cached(&b.client, CHAT, &chat("a")).await, "when it is back it does");
    assert!(is_cached(&b.client, CHAT, &chat("b")).await);
}

#[tokio::test]
async fn a_purge_while_redis_is_away_is_in_force_here_and_told_when_it_is_back() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let away = Line::to(&server).await;
    let (a, b) = (member(&away, &provider.url()).await, member(&line, &provider.url()).await);
    a.client.post_with(CHAT, &[("x-kb", "7")], &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;

    away.cut();
    a.metric_when(UP, 0.0).await;
    let said = purge(&a, json!({ "tag": "kb:7" })).await;
    assert_eq!(said, json!({ "purged": null, "reach": "instance", "pending": true }));
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await);
    assert!(is_cached(&b.client, CHAT, &chat("a")).await);
    away.mend();
    cached_is(&b.client, &chat("a"), false).await;
    a.metric_when(UP, 1.0).await;
    assert!(!is_cached(&a.client, CHAT, &chat("a")).await, "not brought back from redis");
}

#[tokio::test]
async fn a_version_that_one_instance_hears_of_is_the_fleets() {
    let server = Server::start().await;
    let options = Options { model_version: Some("v1".to_owned()), ..Options::default() };
    let (provider, line) = (provider(options).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    a.client.post(CHAT, &chat("a")).await;
    cached_is(&b.client, &chat("a"), true).await;

    provider.set_model_version(Some("v2"));
    a.client.post(CHAT, &chat("b")).await;
    // Nobody has told B but the fleet.
    cached_is(&b.client, &chat("a"), false).await;
    cached_is(&b.client, &chat("b"), true).await;
    assert_eq!(provider.counts().calls, 2);
}

#[tokio::test]
async fn a_redis_that_stands_still_costs_a_few_time_outs_and_is_used_again_when_it_goes_on() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let patient = member(&line, &provider.url()).await;
    patient.client.post(CHAT, &chat("shared")).await;
    let hasty = member_at_once(&line, &provider.url(), "100ms").await;
    hasty.metric_when(UP, 1.0).await;
    hasty.client.post(CHAT, &chat("mine")).await;

    server.signal(Signal::STOP);
    for n in 0..20 {
        let reply = hasty.client.post(CHAT, &chat(&format!("question {n}"))).await;
        assert_eq!(reply.status, 200);
        assert_hit(&hasty.client.post(CHAT, &chat("mine")).await);
    }
    // Nobody waited but the five who found out, if a probe did not before, and they once.
    assert!(look_ups(&hasty, "timeout") <= 5.0, "{}", hasty.app.metrics_text());
    assert!(look_ups(&hasty, "skipped") >= 15.0, "{}", hasty.app.metrics_text());
    assert_eq!(hasty.metric(UP), Some(0.0));
    for n in 0..20 {
        assert_hit(&hasty.client.post(CHAT, &chat(&format!("question {n}"))).await);
    }

    server.signal(Signal::CONT);
    hasty.metric_when(UP, 1.0).await;
    let only = [("cache-control", "only-if-cached")];
    let look = || async { hasty.client.post_with(CHAT, &only, &chat("shared")).await };
    let found = until("a hit in redis", look, |reply: &Reply| reply.status == 200).await;
    assert_eq!(detail(&found), "redis");
}

#[tokio::test]
async fn a_redis_that_dies_costs_nothing_and_is_used_again_when_it_is_back() {
    let mut server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let (a, b) = (member(&line, &provider.url()).await, member(&line, &provider.url()).await);
    a.client.post(CHAT, &chat("before")).await;
    cached_is(&b.client, &chat("before"), true).await;

    server.kill().await;
    for world in [&a, &b] {
        world.metric_when(UP, 0.0).await;
        assert_hit(&world.client.post(CHAT, &chat("before")).await);
        let reply = world.client.post(CHAT, &chat("meanwhile")).await;
        assert_eq!(reply.status, 200);
        assert_hit(&world.client.post(CHAT, &chat("meanwhile")).await);
    }
    // Each on its own.
    assert_eq!(provider.counts().calls, 3);

    server.start_again().await;
    for world in [&a, &b] {
        world.metric_when(UP, 1.0).await;
    }
    a.client.post(CHAT, &chat("after")).await;
    cached_is(&b.client, &chat("after"), true).await;
    assert_eq!(provider.counts().calls, 4);
}

#[tokio::test]
async fn an_instance_that_starts_without_redis_serves_and_uses_it_when_it_comes() {
    let mut server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    server.kill().await;
    let a = member_at_once(&line, &provider.url(), "2s").await;
    assert_eq!(a.metric(UP), Some(0.0));
    assert_eq!(a.telemetry.get("/readyz").await.status, 200);
    assert_miss(&a.client.post(CHAT, &chat("a")).await);
    assert_hit(&a.client.post(CHAT, &chat("a")).await);

    server.start_again().await;
    a.metric_when(UP, 1.0).await;
    a.client.post(CHAT, &chat("b")).await;
    let b = member(&line, &provider.url()).await;
    cached_is(&b.client, &chat("b"), true).await;
}

#[tokio::test]
async fn a_route_that_does_not_name_redis_does_not_use_it() {
    let server = Server::start().await;
    let (provider, line) = (provider(Options::default()).await, Line::to(&server).await);
    let mut a = member(&line, &provider.url()).await;
    a.reload(|settings| {
        settings.set("routes.0.cache.tiers", json!(["memory"]));
    })
    .unwrap();
    a.client.post(CHAT, &chat("a")).await;
    assert_hit(&a.client.post(CHAT, &chat("a")).await);
    let asked: f64 =
        ["hit", "miss", "timeout", "error", "skipped"].iter().map(|o| look_ups(&a, o)).sum();
    assert!(asked < 0.5, "{}", a.app.metrics_text());
}
