//! Entries on their way to Redis: a queue bounded in entries and bytes, and the task that empties
//! it.
//!
//! Nobody waits for a write. What does not fit is dropped and counted: the next asker of any
//! instance only finds a miss. Entries are encoded, compressed and sealed here, off the caller's path; while
//! queued they share their bytes with the memory tier.

use super::{fleet::Names, lease::Lease, link::Link, node::Node};
use crate::{codec, entry::Entry, key::CacheKey, tiers::Owed, wrap::Wrapper};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;

/// Small entries share a round trip, up to so many …
const BATCH_MAX: usize = 32;
/// … and so many bytes: what is in one pipeline is in memory twice.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;

/// A larger batch is packed by a thread of its own.
const PACK_BYTES_MAX: u64 = 128 * 1024;

/// The callers' end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    writes: mpsc::Sender<Write>,
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// One entry to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) key: CacheKey,
    pub(super) entry: Arc<Entry>,
    pub(super) ttl_ms: u64,
    /// Paid when this has been written, or given up.
    pub(super) owed: Owed,
}

/// The task's end.
#[derive(Debug)]
pub(super) struct Queued {
    writes: mpsc::Receiver<Write>,
    bytes: Arc<AtomicU64>,
}

pub(super) fn queue(entries_max: usize, bytes_max: u64) -> (Queue, Queued) {
    let (sender, receiver) = mpsc::channel(entries_max.max(1));
    let bytes = Arc::<AtomicU64>::default();
    let queue = Queue { writes: sender, bytes: bytes.clone(), bytes_max };
    (queue, Queued { writes: receiver, bytes })
}

impl Queue {
    /// Whether there was room.
    pub(super) fn push(&self, write: Write) -> bool {
        let weight = write.entry.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        if before.saturating_add(weight) > self.bytes_max || self.writes.try_send(write).is_err() {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Bytes waiting or under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Queued {
    /// Writes until `stop`, then what is queued by then.
    pub(super) async fn write_all(
        mut self,
        mut wrapper: Wrapper,
        link: Arc<Link>,
        stop: CancellationToken,
    ) {
        loop {
            let first = tokio::select! {
                first = self.writes.recv() => first,
                () = stop.cancelled() => {
                    // From here on nothing comes in, and `recv` ends when it is empty.
                    self.writes.close();
                    self.writes.recv().await
                }
            };
            let Some(first) = first else { return };
            let mut weight = first.entry.weight();
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && weight < BATCH_BYTES_MAX
                && let Ok(next) = self.writes.try_recv()
            {
                weight += next.entry.weight();
                batch.push(next);
            }
            // Whoever waits, waits until it has been written.
            let acks: Vec<_> = batch.iter_mut().map(|write| write.owed.ack.take()).collect();
            wrapper = self.write(&link, wrapper, batch).await;
            drop(acks);
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    async fn write(&self, link: &Arc<Link>, wrapper: Wrapper, batch: Vec<Write>) -> Wrapper {
        let counters = &link.counters;
        let Some(nodes) = link.nodes() else {
            counters.dropped_down.add(count(batch.len()));
            return wrapper;
        };
        let (wrapper, values) = packed(link, wrapper, batch).await;
        // One round trip to each node: a pipeline cannot span two.
        let mut groups = Vec::<(&Arc<Node>, Vec<Packed>)>::new();
        for value in values {
            let Some(node) = nodes.of(value.name.as_bytes()) else {
                link.doubt_map();
                counters.dropped_down.add_one();
                continue;
            };
            match groups.iter_mut().find(|(other, _)| Arc::ptr_eq(other, node)) {
                Some((_, group)) => group.push(value),
                None => groups.push((node, vec![value])),
            }
        }
        let mut under_way = JoinSet::new();
        for (node, group) in groups {
            under_way.spawn(send(link.clone(), node.clone(), group));
        }
        // A node that stands still holds the others' next batch up once: then its breaker is open.
        while under_way.join_next().await.is_some() {}
        wrapper
    }
}

/// Writes what one node serves.
async fn send(link: Arc<Link>, node: Arc<Node>, values: Vec<Packed>) {
    let counters = &link.counters;
    let Some(mut line) = node.bulk() else {
        counters.dropped_down.add(count(values.len()));
        return;
    };
    let mut pipeline = redis::pipe();
    for value in &values {
        pipeline.add_command(value.command(&link.names));
    }
    pipeline.ignore_errors();
    let sent = pipeline.query_async::<Vec<Result<Value, RedisError>>>(&mut line.connection);
    let answers = match time::timeout(link.settings.write_timeout, sent).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            counters.dropped_down.add(count(values.len()));
            if error.is_unrecoverable_error() {
                link.trip(&line);
            }
            tracing::debug!(%error, "redis refused a write");
            return;
        }
        Err(_elapsed) => {
            counters.dropped_down.add(count(values.len()));
            link.trip(&line);
            return;
        }
    };
    for (value, answer) in values.iter().zip(answers) {
        let error = match answer {
            Ok(answer) => {
                value.is_written(&link, &answer);
                continue;
            }
            Err(error) => error,
        };
        if send_elsewhere(&link, value, &error).await {
            continue;
        }
        counters.dropped_down.add_one();
        if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
            // It was a master. The session finds out who is.
            link.trip(&line);
        }
        tracing::debug!(%error, "redis refused a write");
    }
}

/// Writes a value where an answer says that it belongs. Whether it is there.
async fn send_elsewhere(link: &Link, value: &Packed, error: &RedisError) -> bool {
    let Some(mut line) = link.redirected(error) else { return false };
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").ignore().add_command(value.command(&link.names));
    let sent = pipeline.query_async::<(Value,)>(&mut line.connection);
    let answer = time::timeout(link.settings.write_timeout, sent).await;
    let Ok(Ok((answer,))) = answer else { return false };
    value.is_written(link, &answer);
    true
}

/// An entry as it goes out.
struct Packed {
    /// Its key in Redis.
    name: String,
    bytes: Vec<u8>,
    ttl_ms: u64,
    version: Arc<str>,
    /// Under which it is written, and only then.
    lease: Option<Arc<Lease>>,
    /// Of another key: the answer says another version than was asked for. Told when it is done.
    beside: Option<Arc<Lease>>,
}

impl Packed {
    fn command(&self, names: &Names) -> Cmd {
        if let Some(lease) = &self.lease {
            return lease.store(names, &self.bytes, self.ttl_ms, &self.version);
        }
        let mut command = redis::cmd("SET");
        command.arg(&self.name).arg(&self.bytes).arg("PX").arg(self.ttl_ms);
        command
    }
}

impl Packed {
    /// Redis has answered: it has it, or somebody else's.
    fn is_written(&self, link: &Link, answer: &Value) {
        if let Some(lease) = &self.lease {
            lease.settled();
            if *answer == Value::Int(0) {
                link.leases.fenced.add_one();
                link.counters.dropped_void.add_one();
                return;
            }
        }
        if let Some(lease) = &self.beside {
            lease.stored(self.version.clone());
        }
        link.counters.stored.add_one();
    }
}

/// Packs a batch, on a thread of its own where that takes a while: the runtime's threads are the
/// callers'.
async fn packed(
    link: &Arc<Link>,
    mut wrapper: Wrapper,
    batch: Vec<Write>,
) -> (Wrapper, Vec<Packed>) {
    if batch.iter().map(|write| write.entry.weight()).sum::<u64>() < PACK_BYTES_MAX {
        let values = pack(link, &mut wrapper, &batch);
        return (wrapper, values);
    }
    let link_there = link.clone();
    let packed = task::spawn_blocking(move || {
        let values = pack(&link_there, &mut wrapper, &batch);
        (wrapper, values)
    });
    // It fails only where the runtime is being taken down.
    packed.await.unwrap_or_else(|_| (Wrapper::new(link.wrapping.clone()), Vec::new()))
}

fn pack(link: &Link, wrapper: &mut Wrapper, batch: &[Write]) -> Vec<Packed> {
    let mut values = Vec::with_capacity(batch.len());
    for write in batch {
        // Purged while it was queued, or begun before Redis was heard: void to everybody.
        let (stamp, subjects) = (write.entry.stamp.fleet, &write.entry.subjects);
        if link.generations.admit(stamp, subjects).is_none() {
            link.counters.dropped_void.add_one();
            continue;
        }
        match wrapper.wrap(write.key, codec::encode(write.key, &write.entry)) {
            Ok(bytes) => {
                let name = link.names.entry(write.key);
                let (lease, beside) = match write.owed.lease.clone() {
                    Some(lease) if lease.is_of(write.key) => (Some(lease), None),
                    other => (None, other),
                };
                let version = write.entry.model_version.as_ref().into();
                let ttl_ms = write.ttl_ms;
                values.push(Packed { name, bytes, ttl_ms, version, lease, beside });
            }
            Err(error) => {
                link.counters.dropped_down.add_one();
                tracing::warn!(%error, "an entry stays out of redis");
            }
        }
    }
    values
}

fn count(writes: usize) -> u64 {
    u64::try_from(writes).unwrap_or(u64::MAX)
}
