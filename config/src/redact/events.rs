//! Who tells of changes, written back.

use super::{list, secret};
use crate::{EventOrigin, EventPurge, EventSource, PurgeKind, text::show_rate};
use serde_json::{Value, json};

pub(super) fn source(source: &EventSource) -> Value {
    let (of, origin) = match &source.origin {
        EventOrigin::Channel(channel) => ("redis", json!({ "channel": channel })),
        EventOrigin::Stream { name, field } => ("redis", json!({ "stream": name, "field": field })),
        EventOrigin::Postgres { channel } => ("postgres", json!({ "channel": channel })),
        EventOrigin::Webhook { token } => {
            ("webhook", json!({ "token": token.as_ref().map(secret) }))
        }
    };
    json!({
        "name": source.name,
        of: origin,
        "purge": list(&source.purges, purge),
        "lost": source.lost.as_ref().map(purge),
        "rate": show_rate(source.interval),
    })
}

fn purge(purge: &EventPurge) -> Value {
    let name: String = purge.name.iter().map(ToString::to_string).collect();
    let target = if purge.kind == PurgeKind::All { Value::Bool(true) } else { name.into() };
    json!({ purge.kind.to_string(): target, "soft": purge.soft })
}
