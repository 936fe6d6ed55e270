//! Questions of callers, each with a few milliseconds.
//!
//! In a cluster a question can be answered with "that is elsewhere": for good (MOVED) or while a
//! slot is on its way (ASK). It is asked there once, in what is left of its time; the map is read
//! again behind its back.

use super::{link::Link, node::Line};
use crate::key::CacheKey;
use bytes::Bytes;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};
use tokio::time::{self, Instant};

/// Why a caller goes on without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The breaker is open.
    Skipped,
    Late,
    Failed,
}

impl Link {
    /// What lies under `key`; `None` where nothing does, or nothing came in time.
    pub(super) async fn read(&self, key: CacheKey) -> Option<Bytes> {
        let name = self.names.entry(key);
        // Not GET: a foreign value of half a gigabyte must not become ours. A cut value is no
        // entry.
        let mut command = redis::cmd("GETRANGE");
        command.arg(&name).arg(0).arg(self.settings.value_bytes_max);
        let value: Bytes = match self.ask(&name, &command).await {
            Ok(value) => value,
            Err(why) => {
                match why {
                    Unanswered::Skipped => &self.values.counters.skipped,
                    Unanswered::Late => &self.values.counters.timeouts,
                    Unanswered::Failed => &self.values.counters.errors,
                }
                .add_one();
                return None;
            }
        };
        if value.is_empty() {
            self.values.counters.misses.add_one();
            return None;
        }
        Some(value)
    }

    /// Asks who serves `name`, within the read time-out.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        name: &str,
        command: &Cmd,
    ) -> Result<T, Unanswered> {
        let Some(mut line) = self.quick(name) else { return Err(Unanswered::Skipped) };
        let end = Instant::now() + self.settings.read_timeout;
        let mut redirected = false;
        loop {
            let answer = async {
                if !redirected {
                    return command.query_async(&mut line.connection).await;
                }
                let mut both = redis::pipe();
                both.cmd("ASKING").ignore().add_command(command.clone());
                both.query_async(&mut line.connection).await.map(|(answer,): (T,)| answer)
            };
            let error = match time::timeout_at(end, answer).await {
                Ok(Ok(answer)) => {
                    line.node.in_time();
                    return Ok(answer);
                }
                Ok(Err(error)) => error,
                Err(_elapsed) => {
                    self.late(&line);
                    return Err(Unanswered::Late);
                }
            };
            match self.redirected(&error) {
                Some(other) if !redirected => {
                    line = other;
                    redirected = true;
                }
                _ => {
                    if error.is_unrecoverable_error() {
                        self.trip(&line);
                    }
                    return Err(Unanswered::Failed);
                }
            }
        }
    }

    /// A line to the node that an answer named instead of answering.
    pub(super) fn redirected(&self, error: &RedisError) -> Option<Line> {
        let (there, _slot) = error.redirect_node()?;
        if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
            self.doubt_map();
        }
        self.nodes()?.at(there)?.quick(0)
    }
}
