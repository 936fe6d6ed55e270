//! A look-up: one statement, which says as well how far the fleet's purges are.
//!
//! A purge that was answered may be told late (the message is on its way) or never (it was lost).
//! So whoever finds a value also finds the number of the last purge, in the same snapshot; if that
//! one was not heard here, it is, before the value is judged. A caller waits for that within the
//! time of the read, and finds nothing where it does not come.

use super::Store;
use crate::{generations::FleetStamp, key::CacheKey};
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{self, Instant};
use tokio_postgres::{Client, Error, Row, Statement};

/// The connections of one session.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) quick: Box<[Reader]>,
    pub(super) turns: AtomicUsize,
    /// For values on their way out: a megabyte before a small question is ten milliseconds.
    pub(super) bulk: Client,
    pub(super) write: Statement,
}

/// One that answers look-ups, in the order in which they come.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) read: Statement,
}

/// What one look-up said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of the keeper; `None`: it has no epoch.
    pub(super) at: Option<FleetStamp>,
    pub(super) there: There,
}

#[derive(Debug)]
pub(super) enum There {
    Value(Bytes),
    Nothing,
    Oversized,
}

impl Lines {
    /// They take turns.
    fn quick(&self) -> Option<&Reader> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.quick.get(turn.checked_rem(self.quick.len())?)
    }
}

impl Store {
    /// The value under `key`; what became of the look-up is counted if there is none.
    pub(super) async fn read(&self, key: CacheKey) -> Option<Bytes> {
        let counters = &self.values.counters;
        let Some((session, lines)) = self.gate.pass() else {
            counters.skipped.add_one();
            return None;
        };
        let until = Instant::now() + self.limits.read_timeout;
        let reader = lines.quick()?;
        let answer = match time::timeout_at(until, self.ask(reader, key.as_bytes())).await {
            Ok(Ok(answer)) => {
                self.gate.in_time();
                answer
            }
            Ok(Err(error)) => {
                counters.errors.add_one();
                self.failed(session, &error);
                return None;
            }
            Err(_elapsed) => {
                counters.timeouts.add_one();
                self.leaves(session, true);
                return None;
            }
        };
        if answer.at.is_some_and(|at| !self.values.generations.is_complete(at)) {
            // Memory has entries, too.
            self.behind.notify_one();
        }
        match answer.there {
            There::Value(value) if self.has_heard(answer.at, until).await => return Some(value),
            // Late, but not the way's fault.
            There::Value(_) => counters.timeouts.add_one(),
            There::Nothing => counters.misses.add_one(),
            There::Oversized => counters.oversized.add_one(),
        }
        None
    }

    pub(super) async fn ask(&self, reader: &Reader, key: &[u8]) -> Result<Answer, Error> {
        let most = i32::try_from(self.limits.value_bytes_max).unwrap_or(i32::MAX);
        let row = reader.client.query_opt(&reader.read, &[&self.namespace, &key, &most]).await?;
        match row {
            Some(row) => read_answer(&row),
            None => Ok(Answer { at: None, there: There::Nothing }),
        }
    }

    /// Whether every purge up to `at` has been heard by `until`.
    async fn has_heard(&self, at: Option<FleetStamp>, until: Instant) -> bool {
        let generations = &self.values.generations;
        let Some(at) = at else { return !self.keeps() };
        if generations.is_complete(at) {
            return true;
        }
        let mut heard = self.heard.subscribe();
        let complete = heard.wait_for(|()| generations.is_complete(at));
        matches!(time::timeout_at(until, complete).await, Ok(Ok(_)))
    }
}

fn read_answer(row: &Row) -> Result<Answer, Error> {
    let (epoch, sequence): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let (is_there, value): (bool, Option<&[u8]>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Answer {
        at: epoch.zip(sequence).map(|(epoch, sequence)| stamp(epoch, sequence)),
        there: match value {
            Some(value) => There::Value(Bytes::copy_from_slice(value)),
            None if is_there => There::Oversized,
            None => There::Nothing,
        },
    })
}

/// As the tables have it: their numbers have a sign, and an epoch is any number.
pub(super) fn stamp(epoch: i64, sequence: i64) -> FleetStamp {
    FleetStamp { epoch: epoch.cast_unsigned(), sequence: sequence.cast_unsigned() }
}
