//! For tests: a real redis-server of one's own, and an instance's tiers before it.
//!
//! Everything is on unix sockets in a directory of the test: no port can be taken by another.

use crate::{
    generations::Generations,
    memory::MemoryTier,
    outer::stage::{PATIENCE, limits, signal},
    shared::{LinkState, RedisSettings, RedisTier},
    tiers::{Found, Outer, Plan, TierName, TierUse, Tiers},
    versions::Versions,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(super) use crate::outer::stage::{Cable, NOW_MS, Question, wait_until};

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
        url_of(&self.socket())
    }

    /// A line to it that can be cut.
    pub(super) fn cable(&self) -> Cable {
        Cable::to(self.socket(), "line.sock")
    }

    pub(super) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
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

pub(super) fn url_of(socket: &Path) -> String {
    format!("redis+unix://{}", socket.display())
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
        let entry = Arc::new(question.entry(body, &self.generations));
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
    let quick = limits();
    RedisSettings {
        read_timeout: quick.read_timeout,
        write_timeout: quick.write_timeout,
        probe_timeout: quick.probe_timeout,
        probe_interval: quick.probe_interval,
        reconnect_interval: quick.reconnect_interval,
        ..RedisSettings::new(url, "test")
    }
}
