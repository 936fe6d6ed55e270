//! What changes elsewhere voids what was answered before: events, and what they purge.
//!
//! ```text
//!  redis channel, stream ─▶ feed (a task each) ─┐
//!  POST /api/cache/events/NAME ─────────────────┴─▶ event ─▶ named ─▶ purges, audit line, counter
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
use crate::{app::Parts, metrics::EventOutcome, purge::Aim};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time;
use tollgate_cache::shared::{Feed, FeedOf, Place, Said};
use tollgate_config::{EventOrigin, EventPurge, EventSource};

/// The longest event. A change is named in a line.
pub(crate) const EVENT_BYTES_MAX: usize = 64 * 1024;
/// The most purges of one event.
pub(crate) const PURGES_MAX: usize = 256;

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
            Arc::new(Source { rule: rule.clone(), pace: Pace::new(rule.interval) })
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
    let Some(redis) = parts.cache.tiers.redis() else { return };
    for source in &parts.events.sources {
        let of = match &source.rule.origin {
            EventOrigin::Channel(channel) => FeedOf::Channel(channel.clone()),
            EventOrigin::Stream { name, .. } => FeedOf::Stream(name.clone()),
            EventOrigin::Webhook { .. } => continue,
        };
        let feed = redis.feed(&source.rule.name, of);
        let listening = listen(Arc::downgrade(parts), source.clone(), feed);
        let over = parts.shutdown.over.clone();
        parts.tasks.spawn(async move {
            over.run_until_cancelled(listening).await;
        });
    }
}

async fn listen(parts: Weak<Parts>, source: Arc<Source>, mut feed: Feed) {
    loop {
        let said = feed.next().await;
        let Some(parts) = parts.upgrade() else { return };
        // What it reads next waits in Redis.
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
        Said::Lost => {
            tracing::warn!(events = source.rule.name, "events may have been lost");
            lost(parts, source).await;
            return None;
        }
        Said::Message(message) => (Payload::read(&message), None),
        Said::Entry { place, fields } => {
            let field = match &source.rule.origin {
                EventOrigin::Stream { field, .. } => field.as_deref(),
                EventOrigin::Channel(_) | EventOrigin::Webhook { .. } => None,
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
            refused(parts, source, unclear);
            place
        }
    }
}

/// An event that says nothing.
pub(crate) fn refused(parts: &Parts, source: &Source, unclear: Unclear) {
    parts.metrics.heard_event(&source.rule.name, EventOutcome::Unclear);
    tracing::warn!(events = source.rule.name, %unclear, "an event was not understood");
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
        Err(Unclear::Much) if rule.lost.is_some() => return Ok(lost(parts, source).await),
        Err(unclear) => return Err(unclear),
    };
    let Some((first, _)) = aims.first() else {
        parts.metrics.heard_event(&rule.name, EventOutcome::Nothing);
        return Ok(Done { purges: 0, pending: false });
    };
    let (by, name) = (first.kind(), first.to_string());
    let done = purge(parts, &aims).await;
    parts.metrics.heard_event(&rule.name, EventOutcome::Purged);
    let (events, purges, pending) = (&*rule.name, done.purges, done.pending);
    tracing::info!(events, purges, %by, name, pending, "the cache was purged by an event");
    Ok(done)
}

/// What the source says of events that nobody heard.
async fn lost(parts: &Parts, source: &Source) -> Done {
    let rule = &source.rule;
    parts.metrics.heard_event(&rule.name, EventOutcome::Lost);
    let Some(rest) = &rule.lost else { return Done { purges: 0, pending: false } };
    let aims = named(std::slice::from_ref::<EventPurge>(rest), &Payload::nothing());
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
