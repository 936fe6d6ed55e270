//! For tests: a real memcached of one's own, and an instance's tier before it.
//!
//! Everything is on unix sockets in a directory of the test: no port can be taken by another.

use super::{
    Address, MemcachedSettings, MemcachedTier,
    line::{self, Line},
    wire::Answer,
};
use crate::{
    entry::Entry,
    generations::{Generations, Target},
    outer::{
        LinkState, Role,
        stage::{NOW_MS, PATIENCE, Question, limits, purge_here, signal, wait_until},
    },
    tiers::Owed,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(super) struct Server {
    dir: TempDir,
    pub(super) child: Child,
}

impl Server {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let child = spawn(dir.path());
        Self { dir, child }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("memcached.sock")
    }

    pub(super) fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    pub(super) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(super) fn start_again(&mut self) {
        self.child = spawn(self.dir.path());
    }

    /// Asks memcached directly.
    pub(super) async fn ask(&self, command: impl AsRef<[u8]>) -> Answer {
        let (line, connection) = line::connect(&self.address(), 1 << 20).await.expect("it is up");
        let mut running = JoinSet::new();
        running.spawn(connection.run());
        let command = bytes::Bytes::copy_from_slice(command.as_ref());
        Line::ask(&line, command).await.expect("it answers")
    }

    /// What lies under a question's key.
    pub(super) async fn value_of(&self, question: &Question) -> Option<Vec<u8>> {
        let answer = self.ask(format!("mg {} v\r\n", name(question))).await;
        if let Answer::Value { bytes, .. } = answer { Some(bytes.to_vec()) } else { None }
    }

    /// Puts a value there.
    pub(super) async fn put(&self, question: &Question, value: &[u8]) {
        let head = format!("ms {} {} T0\r\n", name(question), value.len());
        let stored = self.ask([head.as_bytes(), value, b"\r\n"].concat()).await;
        assert_eq!(stored, Answer::Done { cas: 0 });
    }
}

pub(super) fn name(question: &Question) -> String {
    format!("tollgate:test:e:{}", question.key.to_hex())
}

/// As root it wants to be told so; otherwise it does not listen to that.
fn spawn(dir: &Path) -> Child {
    Command::new("memcached")
        .args(["-u", "root", "-s"])
        .arg(dir.join("memcached.sock"))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("memcached is installed (Debian: apt-get install memcached)")
}

/// One proxy's tier.
pub(super) struct Instance {
    pub(super) tier: MemcachedTier,
    pub(super) generations: Arc<Generations>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    _stop: DropGuard,
}

pub(super) fn settings(servers: Vec<Address>) -> MemcachedSettings {
    MemcachedSettings { limits: limits(), ..MemcachedSettings::new(servers, "test") }
}

impl Instance {
    pub(super) fn start(settings: MemcachedSettings) -> Self {
        let generations = Arc::<Generations>::default();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let tier = MemcachedTier::start(settings, generations.clone(), &tasks, &stop);
        Self { tier, generations, tasks, _stop: stop.clone().drop_guard(), stop }
    }

    pub(super) async fn up(address: Address) -> Self {
        Self::up_with(settings(vec![address])).await
    }

    pub(super) async fn up_with(settings: MemcachedSettings) -> Self {
        let keeps = settings.role == Role::Keeper;
        let count = settings.servers.len();
        let instance = Self::start(settings);
        instance.wait_for(LinkState::Up).await;
        wait_until(|| instance.servers_up(), |up| *up == count).await;
        assert!(!keeps || instance.generations.stamp().fleet.epoch != 0);
        instance
    }

    pub(super) fn servers_up(&self) -> usize {
        self.tier.cluster.servers.iter().filter(|server| server.gate.is_open()).count()
    }

    pub(super) async fn wait_for(&self, wanted: LinkState) {
        let mut state = self.tier.state();
        let change = state.wait_for(|state| *state == wanted);
        time::timeout(PATIENCE, change).await.expect("in time").expect("the tier lives");
    }

    pub(super) fn store(&self, question: &Question, body: &'static [u8]) {
        let entry = Arc::new(question.entry(body, &self.generations));
        self.tier.store(question.key, entry, 60_000, Owed::default());
    }

    /// Stores, and waits until memcached has it.
    pub(super) async fn share(&self, question: &Question, body: &'static [u8]) {
        let stored = self.tier.counters().stored.value();
        self.store(question, body);
        wait_until(|| self.tier.counters().stored.value(), |now| *now > stored).await;
    }

    pub(super) async fn find(&self, question: &Question) -> Option<Entry> {
        self.tier.look_up(question.key, &question.check, NOW_MS).await
    }

    /// As the tiers do it.
    pub(super) async fn purge(&self, target: Target<'_>) -> bool {
        self.tier.purge(&[purge_here(&self.generations, target)]).await
    }
}
