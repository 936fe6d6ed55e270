//! The shape of what `cache.events` says: who tells of changes, and what they void; see `raw`.

use crate::{raw::RawSecret, text::RateText};
use schemars::JsonSchema;
use serde::Deserialize;

/// Who tells that something has changed: exactly one of redis, postgres and webhook. Each event is a JSON
/// document, or text that is none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEventSource {
    /// Of metrics, the log and the webhook's path. Each its own.
    #[schemars(required)]
    pub(crate) name: Option<String>,
    pub(crate) redis: Option<RawEventRedis>,
    pub(crate) postgres: Option<RawEventPostgres>,
    pub(crate) webhook: Option<RawWebhook>,
    /// What each event voids. A purge whose name needs something that the event has not is left out.
    #[schemars(required, length(min = 1, max = 16))]
    pub(crate) purge: Option<Vec<RawEventPurge>>,
    /// What is purged when events may have been lost, or one is about more than can be named; no
    /// { }. Default: of a stream everything, softly; else nothing.
    pub(crate) lost: Option<RawEventPurge>,
    /// How many events are acted upon in a time, in each instance. Those of stores wait, a webhook's are
    /// refused. Default: 100/s.
    pub(crate) rate: Option<RateText>,
}

/// In the Redis of `stores`: exactly one of channel and stream.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEventRedis {
    /// Of PUBLISH. What is said while nobody listens is lost.
    pub(crate) channel: Option<String>,
    /// Of XADD. What was added meanwhile is caught up with.
    pub(crate) stream: Option<String>,
    /// The field of an entry that holds the event. Default: the entry's fields are its members.
    pub(crate) field: Option<String>,
}

/// In the PostgreSQL of `stores`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEventPostgres {
    /// Of NOTIFY, as in double quotes: `NOTIFY Kb` without them is to the channel kb. What is said
    /// while nobody listens is lost.
    #[schemars(required)]
    pub(crate) channel: Option<String>,
}

/// `POST /api/cache/events/NAME` at the admin address.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWebhook {
    /// Of `authorization: Bearer …`, good for nothing else. Absent: only administrators may send.
    pub(crate) token: Option<RawSecret>,
}

/// One target, as of `tollgate purge`. Names are text with {/json/pointer} into the event, {} for an
/// event that is text or a number itself; a list makes a purge for each of its items.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEventPurge {
    pub(crate) key: Option<String>,
    pub(crate) tag: Option<String>,
    /// A glob over tags. What comes from the event stands for itself. Of patterns that something
    /// stored may be older than, 256 are told apart; with more, whatever has tags and is older than
    /// the first 128 is void, or renewed where they were soft. Tags have no such bound.
    pub(crate) pattern: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) all: Option<bool>,
    /// Not void but past its time. Default: false.
    pub(crate) soft: Option<bool>,
}
