//! For tests: a real redis-server of one's own, and a line to it that can be cut.
//!
//! Everything is on unix sockets in a directory of the test: no port can be taken by another.

use crate::{
    entry::{Entry, subjects, tests::entry},
    generations::Generations,
    key::{BodyDigest, CacheKey, Check, KeyParts, Scope},
    memory::MemoryTier,
    shared::{LinkState, RedisSettings, RedisTier},
    tiers::{Found, Outer, Plan, TierName, TierUse, Tiers},
    versions::Versions,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    task::JoinSet,
    time,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Generous: it is only reached when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const NOW_MS: u64 = 5_000;
pub(super) fn plan() -> Plan {
    Plan::new([TierUse::new(TierName::Memory, 600_000), TierUse::new(TierName::Redis, 600_000)])
}

pub(super) struct Server {
    dir: TempDir,
    child: Child,
    arguments: Vec<String>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(&[])
    }

    pub(super) fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(dir.path(), &arguments);
        Self { dir, child, arguments }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(super) async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs");
        let done = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status().await;
        assert!(done.expect("sh runs").success());
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(super) fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), &self.arguments);
    }

    /// Asks Redis directly.
    pub(super) async fn ask<T: redis::FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it is up");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut connection).await.expect("it answers")
    }
}

fn spawn(dir: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(dir.join("redis.sock"))
        .arg("--dir")
        .arg(dir)
        .args(arguments)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed (Debian: apt-get install redis-server)")
}

/// A line to a server, which can be cut and mended.
pub(super) struct Line {
    dir: TempDir,
    server: PathBuf,
    relay: JoinSet<()>,
}

impl Line {
    pub(super) fn to(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut line = Self { dir, server: server.socket(), relay: JoinSet::new() };
        line.mend();
        line
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.path().join("line.sock").display())
    }

    pub(super) async fn cut(&mut self) {
        self.relay.shutdown().await;
        std::fs::remove_file(self.dir.path().join("line.sock")).expect("it was there");
    }

    pub(super) fn mend(&mut self) {
        let listener = UnixListener::bind(self.dir.path().join("line.sock")).expect("bound");
        let server = self.server.clone();
        self.relay.spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                calls.spawn(async move {
                    if let Ok(mut far) = UnixStream::connect(server).await {
                        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
    }
}

/// One proxy's cache.
pub(super) struct Instance {
    pub(super) tiers: Tiers,
    pub(super) generations: Arc<Generations>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    _stop: DropGuard,
}

impl Instance {
    pub(super) fn start(settings: RedisSettings) -> Self {
        let (generations, versions) = (Arc::<Generations>::default(), Arc::<Versions>::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let redis =
            RedisTier::start(settings, generations.clone(), versions.clone(), &tasks, &stop);
        let tiers = Tiers::new(
            MemoryTier::new(8 << 20),
            vec![Outer::Redis(redis.expect("a URL"))],
            generations.clone(),
            versions,
        );
        Self { tiers, generations, tasks, _stop: stop.clone().drop_guard(), stop }
    }

    pub(super) async fn up(url: String) -> Self {
        let instance = Self::start(settings(url));
        instance.wait_for(LinkState::Up).await;
        instance
    }

    pub(super) fn redis(&self) -> &RedisTier {
        self.tiers.redis().expect("it has one")
    }

    pub(super) async fn wait_for(&self, wanted: LinkState) {
        let mut state = self.redis().state();
        let change = state.wait_for(|state| *state == wanted);
        time::timeout(PATIENCE, change).await.expect("in time").expect("the tier lives");
    }

    pub(super) fn store(&self, question: &Question, body: &'static [u8]) {
        let entry = Arc::new(question.entry(body, self));
        assert!(self.tiers.store(question.key, entry, &plan(), NOW_MS).is_kept());
    }

    /// Stores, and waits until Redis has it.
    pub(super) async fn share(&self, question: &Question, body: &'static [u8]) {
        let stored = self.redis().counters().stored.value();
        self.store(question, body);
        wait_until(|| self.redis().counters().stored.value(), |now| *now > stored).await;
    }

    pub(super) fn in_memory(&self, question: &Question) -> Option<Found> {
        self.tiers.look_up_now(&question.key, &question.check, NOW_MS)
    }

    pub(super) async fn in_redis(&self, question: &Question) -> Option<Found> {
        let (key, check) = (question.key, &question.check);
        self.tiers.look_up_rest(key, check, &plan(), NOW_MS, |_, _| {}).await
    }
}

/// Quick to notice and to come back, patient with a busy test machine.
pub(super) fn settings(url: String) -> RedisSettings {
    RedisSettings {
        read_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        probe_timeout: Duration::from_secs(10),
        probe_interval: Duration::from_millis(20),
        reconnect_interval: Duration::from_millis(5),
        ..RedisSettings::new(url, "test")
    }
}

/// A question with its key.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) key: CacheKey,
    pub(super) check: Check,
    tag: Box<str>,
}

impl Question {
    /// With an answer that has a tag of the same name.
    pub(super) fn new(text: &str) -> Self {
        let parts = KeyParts {
            namespace: "test",
            upstream: "u",
            method: "POST",
            path: "/",
            query: None,
            model: "m",
            model_version: "",
            versions: &[],
            scope: Scope::Tenant("acme"),
            headers: &[],
            body: &BodyDigest::of(text.as_bytes()),
        };
        let (key, check) = parts.key();
        Self { key, check, tag: text.into() }
    }

    fn entry(&self, body: &'static [u8], filler: &Instance) -> Entry {
        let tags = vec![self.tag.clone()];
        Entry {
            check: self.check,
            stamp: filler.tiers.stamp(),
            subjects: subjects(self.key, "chat", "m", "acme", &tags),
            tags,
            ..entry(self.key, body)
        }
    }
}

/// Looks until `done`, and says what it saw last if that does not come.
pub(super) async fn wait_until<T: std::fmt::Debug>(
    mut look: impl FnMut() -> T,
    done: impl Fn(&T) -> bool,
) {
    let end = time::Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if done(&seen) {
            return;
        }
        assert!(time::Instant::now() < end, "it never came; last seen: {seen:?}");
        time::sleep(Duration::from_millis(2)).await;
    }
}
