//! One server, its connections and its breaker; and who serves which key.
//!
//! With one server there is one node. In a cluster each has a breaker of its own: a node that is
//! dead or stands still costs a few time-outs at most, and only what it serves is skipped until it, or
//! the replica in its place, answers again.
//!
//! Home's connections are the session's ([`super::session`]); each other node has a task
//! ([`Node::keep`]) that connects, probes, and tells the session when it is lost.

use super::{
    link::Link,
    site::{Address, Clients},
    slots::SlotMap,
};
use crate::outer::lateness::Lateness;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError, aio::MultiplexedConnection};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time,
};

/// Commands in the crate's pipeline; its default of 50 makes bursts wait.
const PIPELINE_MAX: usize = 1024;

/// Two connections for what must be quick, one for values on their way out: a connection
/// answers in order, and a megabyte in front of a small question is ten milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) quick: [MultiplexedConnection; 2],
    pub(super) bulk: MultiplexedConnection,
}

/// A server that holds entries.
#[derive(Debug, Default)]
pub(super) struct Node {
    up: RwLock<Option<Published>>,
    /// Whether `up` is there, for those who wait for its end. Written under its lock.
    is_up: watch::Sender<bool>,
    opened: Notify,
    tripped: Notify,
    lateness: Lateness,
}

/// Connections that callers may use.
#[derive(Debug)]
struct Published {
    /// Distinguishes a failure of now from one of before the last reconnect.
    ticket: u64,
    connections: Connections,
}

/// A connection to a node, and what it takes to say that it failed.
pub(super) struct Line {
    pub(super) connection: MultiplexedConnection,
    pub(super) node: Arc<Node>,
    ticket: u64,
}

/// Who serves what.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// Of a cluster.
    map: Option<SlotMap>,
    /// In the order of the map's. Without a map only home.
    all: Vec<Arc<Node>>,
    home: Arc<Node>,
}

/// The nodes of a cluster but home, and the tasks that keep them. Dropped, they end.
#[derive(Default)]
pub(super) struct Neighbours {
    known: HashMap<Address, (Arc<Node>, tokio::task::AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// `config` as [`config`] gives it.
    pub(super) async fn open(
        to: &Clients,
        config: &AsyncConnectionConfig,
    ) -> Result<Self, RedisError> {
        let one = || to.commands.get_multiplexed_async_connection_with_config(config);
        Ok(Self { quick: [one().await?, one().await?], bulk: one().await? })
    }

    /// The two take turns.
    fn quick(&self, turn: u64) -> MultiplexedConnection {
        let [even, odd] = &self.quick;
        if turn.is_multiple_of(2) { even.clone() } else { odd.clone() }
    }
}

/// How every connection of the tier is opened.
pub(super) fn config(link: &Link) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(link.settings.probe_timeout))
        .set_response_timeout(Some(link.settings.probe_timeout))
        .set_pipeline_buffer_size(PIPELINE_MAX)
}

impl Node {
    /// A connection for a small question. Never waits.
    pub(super) fn quick(self: &Arc<Self>, turn: u64) -> Option<Line> {
        self.line(|connections| connections.quick(turn))
    }

    /// A connection for values.
    pub(super) fn bulk(self: &Arc<Self>) -> Option<Line> {
        self.line(|connections| connections.bulk.clone())
    }

    fn line(
        self: &Arc<Self>,
        choose: impl Fn(&Connections) -> MultiplexedConnection,
    ) -> Option<Line> {
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner);
        let up = up.as_ref()?;
        let connection = choose(&up.connections);
        Some(Line { connection, node: self.clone(), ticket: up.ticket })
    }

    /// Closes the breaker.
    pub(super) fn open(&self, ticket: u64, connections: &Connections) {
        let published = Published { ticket, connections: connections.clone() };
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        *up = Some(published);
        self.is_up.send_replace(true);
        drop(up);
        self.opened.notify_one();
    }

    fn is_open(&self) -> bool {
        self.up.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The connections are lost.
    pub(super) fn close(&self) {
        self.lateness.forget();
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        *up = None;
        self.is_up.send_replace(false);
    }

    /// Waits until nobody asks it: what it was to tell is not told.
    pub(super) async fn away(&self) {
        let mut is_up = self.is_up.subscribe();
        // Its sender is ours.
        let _never = is_up.wait_for(|is_up| !is_up).await;
    }

    /// Opens the breaker, unless the failure is an old one. Whether it did.
    pub(super) fn trip(&self, line: &Line) -> bool {
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        if up.as_ref().is_none_or(|up| up.ticket != line.ticket) {
            return false;
        }
        *up = None;
        self.lateness.suspect();
        self.is_up.send_replace(false);
        self.tripped.notify_one();
        true
    }

    /// An answer came in its time.
    pub(super) fn in_time(&self) {
        self.lateness.in_time();
    }

    /// One did not. Whether the node is to be left alone for it.
    pub(super) fn is_too_late(&self, line: &Line) -> bool {
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner);
        let is_now = up.as_ref().is_some_and(|up| up.ticket == line.ticket);
        drop(up);
        is_now && self.lateness.is_too_late()
    }

    /// The last answer did not come in time.
    pub(super) fn is_suspected(&self) -> bool {
        self.lateness.is_suspected()
    }

    pub(super) async fn tripped(&self) {
        self.tripped.notified().await;
    }

    /// Keeps the connections to a neighbour until it is dropped.
    async fn keep(self: Arc<Self>, link: Arc<Link>, server: ConnectionInfo) {
        loop {
            let lost = self.serve(&link, &server).await;
            self.close();
            // The cluster may be putting another in its place.
            link.doubt_map();
            tracing::debug!(error = ?lost, "a node of the redis cluster is away");
            time::sleep(link.settings.reconnect_interval).await;
        }
    }

    /// Until the connections are lost.
    async fn serve(&self, link: &Link, server: &ConnectionInfo) -> Option<RedisError> {
        let opened = async {
            let clients = Clients::of(server)?;
            Connections::open(&clients, &config(link)).await
        };
        let connections = match opened.await {
            Ok(connections) => connections,
            Err(error) => return Some(error),
        };
        self.open(link.ticket(), &connections);
        let mut probes = time::interval(link.settings.probe_interval);
        probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let was_tripped = tokio::select! {
                _ = probes.tick() => false,
                () = self.tripped() => true,
            };
            let [connection, _] = &connections.quick;
            let mut connection = connection.clone();
            let ping = redis::cmd("PING");
            let answer = ping.exec_async(&mut connection);
            match time::timeout(link.settings.probe_timeout, answer).await {
                Ok(Ok(())) if was_tripped => self.open(link.ticket(), &connections),
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(error),
                Err(_elapsed) => return None,
            }
        }
    }
}

impl Nodes {
    /// Of one server.
    pub(super) fn alone(home: Arc<Node>) -> Self {
        Self { map: None, all: Vec::new(), home }
    }

    /// Of a cluster. The node at `home_address` is `home`; `neighbours` learns of the others, and
    /// forgets those that left.
    pub(super) fn of_cluster(
        map: SlotMap,
        home: Arc<Node>,
        home_address: &Address,
        neighbours: &mut Neighbours,
        link: &Arc<Link>,
    ) -> Self {
        let all = map.nodes.iter().map(|address| {
            if address == home_address { home.clone() } else { neighbours.node(address, link) }
        });
        let all = all.collect();
        neighbours.keep_only(&map.nodes);
        Self { map: Some(map), all, home }
    }

    pub(super) fn home(&self) -> &Arc<Node> {
        &self.home
    }

    /// Who serves `key`; `None` where nobody does.
    pub(super) fn of(&self, key: &[u8]) -> Option<&Arc<Node>> {
        match &self.map {
            None => Some(&self.home),
            Some(map) => self.all.get(map.owner(key)?),
        }
    }

    /// The node that another one named, as `HOST:PORT`.
    pub(super) fn at(&self, named: &str) -> Option<&Arc<Node>> {
        let (map, (host, port)) = (self.map.as_ref()?, named.rsplit_once(':')?);
        let port: u16 = port.parse().ok()?;
        let place = map.nodes.iter().position(|(name, number)| name == host && *number == port)?;
        self.all.get(place)
    }

    /// Waits until every neighbour was reached once. Of those that are away nothing can be waited
    /// for: the caller sets a limit.
    pub(super) async fn reached(&self) {
        for node in self.all.iter().filter(|node| !Arc::ptr_eq(node, &self.home)) {
            while !node.is_open() {
                node.opened.notified().await;
            }
        }
    }

    pub(super) fn has_map(&self, map: Option<&SlotMap>) -> bool {
        self.map.as_ref() == map
    }
}

impl Neighbours {
    fn node(&mut self, address: &Address, link: &Arc<Link>) -> Arc<Node> {
        if let Some((node, _)) = self.known.get(address) {
            return node.clone();
        }
        let node = Arc::<Node>::default();
        let task = self.tasks.spawn(node.clone().keep(link.clone(), link.site.at(address)));
        self.known.insert(address.clone(), (node.clone(), task));
        node
    }

    fn keep_only(&mut self, addresses: &[Address]) {
        self.known.retain(|address, (node, task)| {
            let stays = addresses.contains(address);
            if !stays {
                task.abort();
                node.close();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
    }
}
