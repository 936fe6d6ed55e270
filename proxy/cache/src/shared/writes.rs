//! What the queue of writes ([`crate::outer::queue`]) gives Redis: grouped by node, a pipeline each,
//! under the fleet's leases.

use super::{fleet::Names, lease::Lease, link::Link, node::Node};
use crate::{
    outer::queue::{self, Packed, Queued},
    wrap::Wrapper,
};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::Arc;
use tokio::{task::JoinSet, time};
use tokio_util::sync::CancellationToken;

/// Writes until `stop`, then what is queued by then.
pub(super) async fn write_all(mut queued: Queued, link: Arc<Link>, stop: CancellationToken) {
    let mut wrapper = Wrapper::new(link.values.wrapping.clone());
    while let Some(mut batch) = queued.next(&stop).await {
        if link.nodes().is_none() {
            // Nothing is packed for nobody.
            link.values.counters.dropped_down.add(count(batch.writes.len()));
            continue;
        }
        let packed;
        (wrapper, packed) = queue::pack(&link.values, wrapper, &mut batch).await;
        write(&link, packed).await;
    }
}

async fn write(link: &Arc<Link>, packed: Vec<Packed>) {
    let counters = &link.values.counters;
    let Some(nodes) = link.nodes() else {
        counters.dropped_down.add(count(packed.len()));
        return;
    };
    // One round trip to each node: a pipeline cannot span two.
    let mut groups = Vec::<(&Arc<Node>, Vec<Leaving>)>::new();
    for value in packed {
        let value = Leaving::new(&link.names, value);
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
}

/// Writes what one node serves.
async fn send(link: Arc<Link>, node: Arc<Node>, values: Vec<Leaving>) {
    let counters = &link.values.counters;
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
            link.takes_nothing(&error);
            tracing::debug!(%error, "redis refused a write");
            return;
        }
        Err(_elapsed) => {
            counters.dropped_down.add(count(values.len()));
            link.late(&line);
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
        link.takes_nothing(&error);
        tracing::debug!(%error, "redis refused a write");
    }
}

/// Writes a value where an answer says that it belongs. Whether it is there.
async fn send_elsewhere(link: &Link, value: &Leaving, error: &RedisError) -> bool {
    let Some(mut line) = link.redirected(error) else { return false };
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").ignore().add_command(value.command(&link.names));
    let sent = pipeline.query_async::<(Value,)>(&mut line.connection);
    let answer = time::timeout(link.settings.write_timeout, sent).await;
    let Ok(Ok((answer,))) = answer else { return false };
    value.is_written(link, &answer);
    true
}

/// An entry as it goes out to Redis.
struct Leaving {
    /// Its key there.
    name: String,
    bytes: Vec<u8>,
    ttl_ms: u64,
    version: Arc<str>,
    /// Under which it is written, and only then.
    lease: Option<Arc<Lease>>,
    /// Of another key: the answer says another version than was asked for. Told when it is done.
    beside: Option<Arc<Lease>>,
}

impl Leaving {
    fn new(names: &Names, Packed { mut write, bytes }: Packed) -> Self {
        let (lease, beside) = match write.owed.lease.take() {
            Some(lease) if lease.is_of(write.key) => (Some(lease), None),
            other => (None, other),
        };
        let version = write.entry.model_version.as_ref().into();
        let (name, ttl_ms) = (names.entry(write.key), write.ttl_ms);
        Self { name, bytes, ttl_ms, version, lease, beside }
    }

    fn command(&self, names: &Names) -> Cmd {
        if let Some(lease) = &self.lease {
            return lease.store(names, &self.bytes, self.ttl_ms, &self.version);
        }
        let mut command = redis::cmd("SET");
        command.arg(&self.name).arg(&self.bytes).arg("PX").arg(self.ttl_ms);
        command
    }

    /// Redis has answered: it has it, or somebody else's.
    fn is_written(&self, link: &Link, answer: &Value) {
        if let Some(lease) = &self.lease {
            lease.settled();
            if *answer == Value::Int(0) {
                link.leases.fenced.add_one();
                link.values.counters.dropped_void.add_one();
                return;
            }
        }
        if let Some(lease) = &self.beside {
            lease.stored(self.version.clone());
        }
        link.values.counters.stored.add_one();
    }
}

fn count(writes: usize) -> u64 {
    u64::try_from(writes).unwrap_or(u64::MAX)
}
