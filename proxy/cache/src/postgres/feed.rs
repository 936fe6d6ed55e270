//! What others say through the same PostgreSQL: `NOTIFY` on a channel of theirs.
//!
//! It has a connection of its own, so that neither the tier's purges nor a flood of theirs waits for
//! the other, and finds its server as the tier does: the one of several that takes writes, as
//! notifications come from no standby. What is said while nobody listens is lost; a connection that
//! broke and one that had no room are both said to be ([`Said::Lost`]).

use super::{
    Store,
    connect::{SessionError, connect, within},
    outages::Outages,
};
use crate::{outer::losses::Losses, shared::Said};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
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
    losses: Losses,
    outages: Outages,
    /// How often it was connected.
    sessions: u64,
}

#[derive(Debug)]
struct Line {
    messages: mpsc::Receiver<String>,
    client: Client,
    /// Ends with the connection, and ends it when this is dropped.
    driver: JoinSet<()>,
    probes: Interval,
}

impl Feed {
    pub(super) fn new(store: Arc<Store>, name: String, channel: String) -> Self {
        let (losses, outages) = (Losses::default(), Outages::default());
        Self { store, name, channel, line: None, losses, outages, sessions: 0 }
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
        self.losses.was_away();
        let events = &*self.name;
        let slower = self.outages.failed(self.sessions, error, |cause| {
            tracing::warn!(%error, cause, events, "no events are heard");
        });
        time::sleep(self.store.limits.reconnect_interval * slower).await;
    }

    async fn try_next(&mut self) -> Result<Said, SessionError> {
        let timeout = self.store.limits.probe_timeout;
        if self.line.is_none() {
            let missed = self.losses.counter();
            self.line = Some(Line::connect(&self.store, &self.channel, missed).await?);
            self.sessions += 1;
            tracing::info!(events = self.name, "events are heard");
        }
        let Some(line) = &mut self.line else { return Err(SessionError::Lost) };
        loop {
            if let Some(messages) = self.losses.take() {
                return Ok(Said::Lost(messages));
            }
            tokio::select! {
                message = line.messages.recv() => {
                    let message = message.ok_or(SessionError::Lost)?;
                    return Ok(Said::Message(message.into_bytes()));
                }
                () = self.losses.due() => {}
                _ = line.driver.join_next() => return Err(SessionError::Lost),
                // A connection that died without a word would be waited for until the end.
                _ = line.probes.tick() => within(timeout, line.client.batch_execute("")).await?,
            }
        }
    }
}

impl Line {
    /// What finds no room is counted in `missed`.
    async fn connect(
        store: &Store,
        channel: &str,
        missed: Arc<AtomicU64>,
    ) -> Result<Self, SessionError> {
        let (said, messages) = mpsc::channel(MESSAGES_MAX);
        let hear = move |note: Notification| {
            if said.try_send(note.payload().to_owned()).is_err() {
                missed.fetch_add(1, Ordering::Relaxed);
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
        Ok(Self { messages, client, driver, probes })
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
