//! What changes elsewhere voids what was answered before: events, and what they purge.
//!
//! ```text
//!  redis channel, stream; postgres channel ─▶ feed (a task each) ─┐
//!  POST /api/cache/events/NAME ──────────────────────────────────┴─▶ event ─▶ named ─▶ purges, audit line, counter
//! ```
//!
//! A source says in its own words what changed; the configuration says what that voids. Nothing that
//! comes in can name a target that no rule names, and what it fills in stands for itself, also in a
//! pattern. Every instance acts on what it hears: a purge that is made twice does no harm.
//!
//! **Invariant:** an event makes at most [`PURGES_MAX`] purges. One that would be about more, or
//! that was lost, is about what the source says of such events (`lost`).
//!
//! One more kind of source is one more way to call [`event`].

mod named;
mod pace;

pub(crate) use self::named::{Payload, Unclear};

use self::{named::named, pace::Pace};
use crate::{app::Parts, metrics::EventOutcome, purge::Aim, seldom::Seldom};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time;
use tollgate_cache::{
    postgres,
    shared::{self, FeedOf, Place, Said},
    tiers::Tiers,
};
use tollgate_config::{EventOrigin, EventPurge, EventSource};

/// The longest event. A change is named in a line.
pub(crate) const EVENT_BYTES_MAX: usize = 64 * 1024;
/// The most purges of one event.
pub(crate) const PURGES_MAX: usize = 256;
/// The most purges in one line of the log.
const LINE_PURGES_MAX: usize = 16;

/// The sources, as they are since the start.
#[derive(Debug, Default)]
pub(crate) struct Events {
    sources: Box<[Arc<Source>]>,
}

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) rule: EventSource,
    pace: Pace,
    /// Of events that it warned of.
    warned: Seldom,
}

/// What an event has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) purges: usize,
    /// The fleet will hear of them when its store is back.
    pub(crate) pending: bool,
}

impl Events {
    pub(crate) fn new(rules: &[EventSource]) -> Self {
        let source = |rule: &EventSource| {
            let (pace, warned) = (Pace::new(rule.interval), Seldom::new());
            Arc::new(Source { rule: rule.clone(), pace, warned })
        };
        Self { sources: rules.iter().map(source).collect() }
    }

    /// The webhook of that name.
    pub(crate) fn webhook(&self, name: &str) -> Option<&Arc<Source>> {
        let is_it = |source: &&Arc<Source>| {
            source.rule.name == name && matches!(source.rule.origin, EventOrigin::Webhook { .. })
        };
        self.sources.iter().find(is_it)
    }
}

impl Source {
    /// Whether one more event may be acted upon now; if not, after how long.
    pub(crate) fn may(&self) -> Result<(), Duration> {
        self.pace.take()
    }
}

/// Listens to every source that does not come by itself, until the end.
pub(crate) fn begin(parts: &Arc<Parts>) {
    for source in &parts.events.sources {
        let Some(feed) = Feed::of(&parts.cache.tiers, &source.rule) else { continue };
        let listening = listen(Arc::downgrade(parts), source.clone(), feed);
        let over = parts.shutdown.over.clone();
        parts.tasks.spawn(async move {
            over.run_until_cancelled(listening).await;
        });
    }
}

/// What is listened to.
enum Feed {
    Redis(shared::Feed),
    Postgres(postgres::Feed),
}

impl Feed {
    /// `None`: it comes by itself, or its store is none of ours.
    fn of(tiers: &Tiers, rule: &EventSource) -> Option<Self> {
        let of_redis = |of| tiers.redis().map(|redis| Self::Redis(redis.feed(&rule.name, of)));
        match &rule.origin {
            EventOrigin::Channel(channel) => of_redis(FeedOf::Channel(channel.clone())),
            EventOrigin::Stream { name, .. } => of_redis(FeedOf::Stream(name.clone())),
            EventOrigin::Postgres { channel } => {
                tiers.postgres().map(|it| Self::Postgres(it.feed(&rule.name, channel)))
            }
            EventOrigin::Webhook { .. } => None,
        }
    }

    async fn next(&mut self) -> Said {
        match self {
            Self::Redis(feed) => feed.next().await,
            Self::Postgres(feed) => feed.next().await,
        }
    }

    async fn done(&mut self, place: Place) {
        match self {
            Self::Redis(feed) => feed.done(place).await,
            // A channel has no places.
            Self::Postgres(_) => {}
        }
    }
}

async fn listen(parts: Weak<Parts>, source: Arc<Source>, mut feed: Feed) {
    loop {
        let said = feed.next().await;
        let Some(parts) = parts.upgrade() else { return };
        // What it reads next waits there, or in the feed.
        while let Err(wait) = source.may() {
            time::sleep(wait).await;
        }
        let place = act(&parts, &source, said).await;
        if let Some(place) = place {
            feed.done(place).await;
        }
    }
}

/// Does what was said. The place that is done with, if there is one.
async fn act(parts: &Parts, source: &Source, said: Said) -> Option<Place> {
    let (payload, place) = match said {
        Said::Lost(messages) => {
            let purges = source.rule.lost.is_some();
            tracing::warn!(
                events = source.rule.name,
                messages,
                purges,
                "events may have been lost"
            );
            lost(parts, source, EventOutcome::Lost).await;
            return None;
        }
        Said::Message(message) => (Payload::read(&message), None),
        Said::Entry { place, fields } => {
            let field = match &source.rule.origin {
                EventOrigin::Stream { field, .. } => field.as_deref(),
                EventOrigin::Channel(_)
                | EventOrigin::Postgres { .. }
                | EventOrigin::Webhook { .. } => None,
            };
            (Payload::of_fields(&fields, field), Some(place))
        }
    };
    let done = match payload {
        Ok(payload) => event(parts, source, &payload).await,
        Err(unclear) => Err(unclear),
    };
    match done {
        Ok(done) => place.filter(|_| !done.pending),
        Err(unclear) => {
            refused(parts, source, &unclear);
            place
        }
    }
}

/// An event that says nothing.
pub(crate) fn refused(parts: &Parts, source: &Source, unclear: &Unclear) {
    parts.metrics.heard_event(&source.rule.name, EventOutcome::Unclear);
    if let Some(not_logged) = source.warned.now() {
        let events = &*source.rule.name;
        tracing::warn!(events, %unclear, not_logged, "an event was not understood");
    }
}

/// Purges what an event is about.
///
/// # Errors
/// It is about nothing that a purge could name.
pub(crate) async fn event(
    parts: &Parts,
    source: &Source,
    payload: &Payload,
) -> Result<Done, Unclear> {
    let rule = &source.rule;
    let aims = match named(&rule.purges, payload) {
        Ok(aims) => aims,
        Err(unclear @ (Unclear::Much | Unclear::Name(_))) if rule.lost.is_some() => {
            if let Some(not_logged) = source.warned.now() {
                let events = &*rule.name;
                tracing::warn!(events, %unclear, not_logged, "an event counts as one that was lost");
            }
            return Ok(lost(parts, source, EventOutcome::Unnamed).await);
        }
        Err(unclear) => return Err(unclear),
    };
    if aims.is_empty() {
        parts.metrics.heard_event(&rule.name, EventOutcome::Nothing);
        return Ok(Done { purges: 0, pending: false });
    }
    let done = purge(parts, &aims).await;
    parts.metrics.heard_event(&rule.name, EventOutcome::Purged);
    let (events, purges, pending) = (&*rule.name, done.purges, done.pending);
    for aims in aims.chunks(LINE_PURGES_MAX) {
        let aims = listed(aims);
        tracing::info!(events, purges, aims, pending, "the cache was purged by an event");
    }
    Ok(done)
}

/// For the log. Names are quoted: they come from the event.
fn listed(aims: &[(Aim, bool)]) -> String {
    let aims = aims.iter().map(|(aim, soft)| {
        let soft = if *soft { " softly" } else { "" };
        format!("{} {:?}{soft}", aim.kind(), aim.to_string())
    });
    aims.collect::<Vec<_>>().join(", ")
}

/// What the source says of events that nobody heard, or that are about more than can be named.
async fn lost(parts: &Parts, source: &Source, why: EventOutcome) -> Done {
    let rule = &source.rule;
    parts.metrics.heard_event(&rule.name, why);
    let Some(rest) = &rule.lost else { return Done { purges: 0, pending: false } };
    let aims = named(std::slice::from_ref::<EventPurge>(rest), &Payload::Nothing);
    let aims = aims.unwrap_or_default();
    let done = purge(parts, &aims).await;
    for (aim, soft) in &aims {
        let (by, name, events) = (aim.kind(), aim.to_string(), &*rule.name);
        tracing::warn!(events, %by, name, soft, "the cache was purged for events that were lost");
    }
    done
}

async fn purge(parts: &Parts, aims: &[(Aim, bool)]) -> Done {
    let tiers = &parts.cache.tiers;
    let mut pending = false;
    for (aim, soft) in aims {
        let target = aim.target();
        let purged =
            if *soft { tiers.purge_softly(target).await } else { tiers.purge(target).await };
        pending |= purged.pending;
    }
    Done { purges: aims.len(), pending }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_config::PurgeKind;

    #[test]
    fn every_purge_of_an_event_stands_in_the_log_and_a_name_cannot_end_its_line() {
        let aim = |kind, name| Aim::new(kind, name).unwrap();
        let aims = [
            (aim(PurgeKind::Tag, "kb:1\n2 ERROR"), false),
            (aim(PurgeKind::Pattern, "kb:*"), true),
            (aim(PurgeKind::All, ""), false),
        ];
        let expected = r#"tag "kb:1\n2 ERROR", pattern "kb:*" softly, all """#;
        assert_eq!(listed(&aims), expected);
    }
}
