//! For tests: an instance's tier before a real PostgreSQL.

#[expect(unreachable_pub, reason = "it is a part of the scenarios' crate, and public there")]
#[path = "../../../../tests/src/postgres.rs"]
mod server;

pub(super) use server::Postgres as Server;

use super::{PostgresSettings, PostgresTier};
use crate::{
    entry::Entry,
    generations::{Generations, Target},
    outer::{
        LinkState, Role,
        stage::{NOW_MS, PATIENCE, Question, limits, purge_here, wait_until},
    },
    tiers::Owed,
    versions::Versions,
};
use std::{sync::Arc, time::Duration};
use tokio::time;
use tokio_postgres::{Client, NoTls};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Of the socket's name alone.
pub(super) const PORT: u16 = 5432;

pub(super) fn server() -> Server {
    Server::start(PORT, &[], &[])
}

/// A connection past the tier.
pub(super) async fn client(server: &Server) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&server.url(), NoTls).await.expect("it answers");
    TaskTracker::new().spawn(connection);
    client
}

/// Asks until the answer is yes.
pub(super) async fn wait_for(server: &Server, sql: &str) {
    let client = client(server).await;
    // What is waited for may be work on a table as long as it may be, on a machine that is busy.
    let end = time::Instant::now() + 4 * PATIENCE;
    loop {
        let row = client.query_one(sql, &[]).await.expect("it answers");
        if row.get(0) {
            return;
        }
        assert!(time::Instant::now() < end, "never: {sql}");
    }
}

/// One proxy's tier.
pub(super) struct Instance {
    pub(super) tier: PostgresTier,
    pub(super) generations: Arc<Generations>,
    pub(super) versions: Arc<Versions>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    _stop: DropGuard,
}

pub(super) fn settings(url: String) -> PostgresSettings {
    PostgresSettings {
        limits: limits(),
        sweep_interval: Duration::from_millis(20),
        ..PostgresSettings::new(url, "test", Role::Keeper)
    }
}

impl Instance {
    pub(super) fn start(settings: PostgresSettings) -> Self {
        let (generations, versions) = (Arc::<Generations>::default(), Arc::<Versions>::default());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let tier =
            PostgresTier::start(settings, generations.clone(), versions.clone(), &tasks, &stop);
        let _stop = stop.clone().drop_guard();
        Self { tier: tier.expect("a URL"), generations, versions, tasks, _stop, stop }
    }

    pub(super) async fn up(server: &Server) -> Self {
        Self::up_with(settings(server.url())).await
    }

    pub(super) async fn up_with(settings: PostgresSettings) -> Self {
        let keeps = settings.role == Role::Keeper;
        let instance = Self::start(settings);
        instance.wait_for(LinkState::Up).await;
        assert!(!keeps || instance.generations.stamp().fleet.epoch != 0);
        instance
    }

    pub(super) async fn wait_for(&self, wanted: LinkState) {
        let mut state = self.tier.state();
        let change = state.wait_for(|state| *state == wanted);
        time::timeout(PATIENCE, change).await.expect("in time").expect("the tier lives");
    }

    pub(super) fn store(&self, question: &Question, body: &'static [u8], ttl_ms: u64) {
        let entry = Arc::new(question.entry(body, &self.generations));
        self.tier.store(question.key, entry, ttl_ms, Owed::default());
    }

    /// Stores, and waits until PostgreSQL has it.
    pub(super) async fn share(&self, question: &Question, body: &'static [u8]) {
        let stored = self.tier.counters().stored.value();
        self.store(question, body, 60_000);
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
