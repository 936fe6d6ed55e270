//! What others say through the same PostgreSQL: `NOTIFY` on a channel of theirs.
//!
//! It has a connection of its own, so that neither the tier's purges nor a flood of theirs waits for
//! the other, and finds its server as the tier does: the one of several that takes writes, as
//! notifications come from no standby. What is said while nobody listens is lost; a connection that
//! broke and one that had no room are both said to be ([`Said::Lost`]).

use super::{
    Store,
    connect::{SessionError, connect, within},
    outages::{SLOWER_MAX, cause},
};
use crate::shared::Said;
use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Interval},
};
use tokio_postgres::{Client, Notification};

/// Messages not looked at yet, each of less than 8,000 bytes; more are lost, and that is said.
const MESSAGES_MAX: usize = 1024;
/// As `pg_stat_activity` shows its connection.
const APPLICATION: &str = "tollgate events";

/// One channel. Goes on for as long as it is asked.
#[derive(Debug)]
pub struct Feed {
    store: Arc<Store>,
    /// Of the log.
    name: String,
    channel: String,
    line: Option<Line>,
    /// It was connected once.
    was_up: bool,
    /// The first failure of an outage is told, the attempts after it are not.
    is_told: bool,
    /// How many times the first interval the next attempt waits.
    slower: u32,
}

#[derive(Debug)]
struct Line {
    messages: mpsc::Receiver<String>,
    missed: Arc<AtomicBool>,
    client: Client,
    /// Ends with the connection, and ends it when this is dropped.
    driver: JoinSet<()>,
    probes: Interval,
}

impl Feed {
    pub(super) fn new(store: Arc<Store>, name: String, channel: String) -> Self {
        let (was_up, is_told) = (false, false);
        Self { store, name, channel, line: None, was_up, is_told, slower: 1 }
    }

    /// Whatever comes next. Waits for as long as nothing does.
    pub async fn next(&mut self) -> Said {
        loop {
            match self.try_next().await {
                Ok(said) => return said,
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn pause(&mut self, error: &SessionError) {
        self.line = None;
        // What is said until it is heard is gone, also before the first time.
        self.was_up = true;
        if !self.is_told {
            let cause = error.source().map(cause);
            tracing::warn!(%error, cause, events = self.name, "no events are heard");
            self.is_told = true;
        }
        time::sleep(self.store.limits.reconnect_interval * self.slower).await;
        self.slower = (self.slower * 2).min(SLOWER_MAX);
    }

    async fn try_next(&mut self) -> Result<Said, SessionError> {
        let timeout = self.store.limits.probe_timeout;
        let line = match &mut self.line {
            Some(line) => line,
            none => {
                let line = Line::connect(&self.store, &self.channel).await?;
                let line = none.insert(line);
                tracing::info!(events = self.name, "events are heard");
                (self.is_told, self.slower) = (false, 1);
                // At the start nobody can say; the others of the fleet have listened.
                if std::mem::replace(&mut self.was_up, true) {
                    return Ok(Said::Lost);
                }
                line
            }
        };
        loop {
            if line.missed.swap(false, Ordering::Relaxed) {
                return Ok(Said::Lost);
            }
            tokio::select! {
                message = line.messages.recv() => {
                    let message = message.ok_or(SessionError::Lost)?;
                    return Ok(Said::Message(message.into_bytes()));
                }
                _ = line.driver.join_next() => return Err(SessionError::Lost),
                // A connection that died without a word would be waited for until the end.
                _ = line.probes.tick() => within(timeout, line.client.batch_execute("")).await?,
            }
        }
    }
}

impl Line {
    async fn connect(store: &Store, channel: &str) -> Result<Self, SessionError> {
        let (said, messages) = mpsc::channel(MESSAGES_MAX);
        let missed = Arc::<AtomicBool>::default();
        let push_missed = missed.clone();
        let hear = move |note: Notification| {
            if said.try_send(note.payload().to_owned()).is_err() {
                push_missed.store(true, Ordering::Relaxed);
            }
        };
        let mut driver = JoinSet::new();
        let client = connect(store, &mut driver, hear).await?;
        // By this name an operator sees that it listens: apart, or it would be so called before.
        for say in [
            format!("LISTEN {}", quoted(channel)),
            format!("SET application_name = '{APPLICATION}'"),
        ] {
            within(store.limits.probe_timeout, client.batch_execute(&say)).await?;
        }
        let mut probes = time::interval(store.limits.probe_interval);
        probes.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        Ok(Self { messages, missed, client, driver, probes })
    }
}

/// As a name that stands for itself, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_channel_stands_for_itself() {
        assert_eq!(quoted("kb-changes"), "\"kb-changes\"");
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
    }
}
