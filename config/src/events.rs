//! Who tells of changes, and what they void.

use crate::{PurgeKind, Secret, Tier};
use std::{fmt, time::Duration};

/// A source of `cache.events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSource {
    /// Each source's own; a metric label.
    pub name: String,
    pub origin: EventOrigin,
    /// At least one.
    pub purges: Vec<EventPurge>,
    /// What is purged when events may have been lost, or one is about more than can be named.
    /// `None`: nothing.
    pub lost: Option<EventPurge>,
    /// From one event to the next, on the average of a second.
    pub interval: Duration,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOrigin {
    /// A channel of the Redis that is a store.
    Channel(String),
    /// A stream there.
    Stream {
        name: String,
        /// `None`: the entry's fields are the event's members.
        field: Option<String>,
    },
    /// A channel of the PostgreSQL that is a store.
    Postgres { channel: String },
    /// They are posted to the admin address.
    Webhook {
        /// `None`: only administrators may.
        token: Option<Secret>,
    },
}

impl EventOrigin {
    /// The store that tells of them, by the name of its tier; `None`: they are posted.
    pub(crate) fn store(&self) -> Option<Tier> {
        match self {
            Self::Channel(_) | Self::Stream { .. } => Some(Tier::Redis),
            Self::Postgres { .. } => Some(Tier::Postgres),
            Self::Webhook { .. } => None,
        }
    }
}

/// A purge whose name an event fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPurge {
    pub kind: PurgeKind,
    /// Empty where everything is meant.
    pub name: Vec<EventPart>,
    pub soft: bool,
}

/// A piece of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPart {
    Literal(String),
    /// A JSON pointer (RFC 6901) into the event. Empty: the event itself.
    Pointer(String),
}

impl fmt::Display for EventPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Pointer(pointer) => write!(f, "{{{pointer}}}"),
        }
    }
}
