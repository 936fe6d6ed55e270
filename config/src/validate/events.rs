//! Who tells of changes, and what they void.

use super::tag::{self, is_pointer};
use crate::{
    EventOrigin, EventPart, EventPurge, EventSource, Postgres, PurgeKind, Redis, Tier, defaults,
    problem::quoted,
    raw_events::{RawEventPostgres, RawEventPurge, RawEventRedis, RawEventSource},
    review::Review,
    text::{self, RATE_IS},
};
use std::{collections::HashSet, time::Duration};

/// Longer names of channels, streams and fields are a mistake.
const NAME_BYTES_MAX: usize = 512;
/// Of a key, as it is shown.
const KEY_DIGITS: usize = 64;
/// The longest pattern that can be purged by.
const PATTERN_BYTES_MAX: usize = 128;
/// PostgreSQL cuts off what is longer (`NAMEDATALEN`), and `pg_notify` refuses it.
const POSTGRES_NAME_BYTES_MAX: usize = 63;

pub(super) fn sources(
    review: &mut Review<'_>,
    raws: Vec<RawEventSource>,
    (redis, postgres): (Option<&Redis>, Option<&Postgres>),
) -> Vec<EventSource> {
    let mut names = HashSet::new();
    let mut sources = Vec::new();
    for (i, raw) in raws.into_iter().enumerate() {
        let path = format!("cache.events[{i}]");
        let source = source(review, &path, raw);
        if !names.insert(source.name.clone()) {
            review.report(format!("{path}.name"), "is another source's, too");
        }
        let store = source.origin.store().map(|store| {
            let is_there = match store {
                Tier::Redis => redis.is_some(),
                Tier::Postgres => postgres.is_some(),
                Tier::Memory | Tier::Memcached | Tier::Disk => false,
            };
            (store.name(), is_there)
        });
        if let Some((store, false)) = store {
            review.report(format!("{path}.{store}"), format!("needs stores.{store}"));
        }
        sources.push(source);
    }
    sources
}

fn source(review: &mut Review<'_>, path: &str, raw: RawEventSource) -> EventSource {
    let origin = match (raw.redis, raw.postgres, raw.webhook) {
        (None, Some(postgres), None) => {
            of_postgres(review, &format!("{path}.postgres.channel"), postgres)
        }
        (Some(redis), None, None) => of_redis(review, &format!("{path}.redis"), redis),
        (None, None, Some(webhook)) => {
            let token = webhook.token.as_ref();
            let token = token.map(|token| review.secret(&format!("{path}.webhook.token"), token));
            EventOrigin::Webhook { token }
        }
        _ => {
            review.report(path, "must have one of redis, postgres and webhook");
            EventOrigin::Webhook { token: None }
        }
    };
    let name = review.name(format!("{path}.name"), raw.name, "-_");
    let purges = raw.purge.unwrap_or_default().into_iter().enumerate();
    let purges =
        purges.filter_map(|(i, raw)| purge(review, &format!("{path}.purge[{i}]"), raw)).collect();
    let lost = match raw.lost {
        Some(raw) => lost(review, &format!("{path}.lost"), raw),
        None => matches!(origin, EventOrigin::Stream { .. }).then(everything_softly),
    };
    let interval = match &raw.rate {
        None => defaults::EVENT_INTERVAL,
        Some(rate) => interval(review, &format!("{path}.rate"), &rate.0),
    };
    EventSource { name, origin, purges, lost, interval }
}

fn everything_softly() -> EventPurge {
    EventPurge { kind: PurgeKind::All, name: Vec::new(), soft: true }
}

fn of_redis(review: &mut Review<'_>, path: &str, raw: RawEventRedis) -> EventOrigin {
    let mut named = |key: &str, name: String| {
        let is_plain = !name.chars().any(char::is_control);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_plain {
            let message = format!("must be 1 to {NAME_BYTES_MAX} bytes, no control characters");
            review.report(format!("{path}.{key}"), message);
        }
        name
    };
    let field = raw.field.map(|field| named("field", field));
    match (raw.channel, raw.stream) {
        (Some(channel), None) => {
            let channel = named("channel", channel);
            if field.is_some() {
                review.report(format!("{path}.field"), "is of a stream's entries");
            }
            EventOrigin::Channel(channel)
        }
        (None, Some(stream)) => EventOrigin::Stream { name: named("stream", stream), field },
        (None, None) | (Some(_), Some(_)) => {
            review.report(path, "must have one of channel and stream");
            EventOrigin::Webhook { token: None }
        }
    }
}

fn of_postgres(review: &mut Review<'_>, path: &str, raw: RawEventPostgres) -> EventOrigin {
    let channel = raw.channel.unwrap_or_default();
    let is_plain = !channel.chars().any(char::is_control);
    if channel.is_empty() || channel.len() > POSTGRES_NAME_BYTES_MAX || !is_plain {
        let message =
            format!("must be 1 to {POSTGRES_NAME_BYTES_MAX} bytes, no control characters");
        review.report(path, message);
    }
    EventOrigin::Postgres { channel }
}

fn interval(review: &mut Review<'_>, path: &str, written: &str) -> Duration {
    let interval = text::interval(written);
    if interval.is_none_or(|interval| interval < defaults::EVENT_INTERVAL_MIN) {
        let message = format!("must be {RATE_IS}, at most 10000/s, not {}", quoted(written));
        review.report(path, message);
    }
    interval.unwrap_or(defaults::EVENT_INTERVAL)
}

/// `None`: it was reported.
fn purge(review: &mut Review<'_>, path: &str, raw: RawEventPurge) -> Option<EventPurge> {
    let named = [
        (PurgeKind::Key, raw.key),
        (PurgeKind::Tag, raw.tag),
        (PurgeKind::Pattern, raw.pattern),
        (PurgeKind::Route, raw.route),
        (PurgeKind::Model, raw.model),
        (PurgeKind::Tenant, raw.tenant),
        (PurgeKind::All, raw.all.filter(|all| *all).map(|_| String::new())),
    ];
    let mut named = named.into_iter().filter_map(|(kind, name)| Some((kind, name?)));
    let (Some((kind, name)), None) = (named.next(), named.next()) else {
        let message = "must have exactly one of key, tag, pattern, route, model, tenant, all: true";
        review.report(path, message);
        return None;
    };
    let soft = raw.soft.unwrap_or(false);
    if kind == PurgeKind::All {
        return Some(EventPurge { kind, name: Vec::new(), soft });
    }
    let parts = tag::pieces(&name, EventPart::Literal, part, "{} and {/json/pointer}");
    let parts = parts.and_then(|parts| {
        is_possible(kind, &parts).map_err(str::to_owned)?;
        Ok(parts)
    });
    match parts {
        Ok(name) => Some(EventPurge { kind, name, soft }),
        Err(message) => {
            review.report(format!("{path}.{kind}"), message);
            None
        }
    }
}

/// Whether there can be such a name, whatever an event fills in.
fn is_possible(kind: PurgeKind, parts: &[EventPart]) -> Result<(), &'static str> {
    let literals = || {
        parts.iter().filter_map(|part| match part {
            EventPart::Literal(text) => Some(text),
            EventPart::Pointer(_) => None,
        })
    };
    let len: usize = literals().map(String::len).sum();
    let is_whole = literals().count() == parts.len();
    let is_hex = || literals().flat_map(|text| text.bytes()).all(|byte| byte.is_ascii_hexdigit());
    match kind {
        PurgeKind::Key if !is_hex() || len > KEY_DIGITS || (is_whole && len < KEY_DIGITS) => {
            Err("must be the 64 hexadecimal digits that explain shows, or {} for them")
        }
        PurgeKind::Pattern if len > PATTERN_BYTES_MAX => Err("must be at most 128 bytes"),
        PurgeKind::Key
        | PurgeKind::Pattern
        | PurgeKind::Tag
        | PurgeKind::Route
        | PurgeKind::Model
        | PurgeKind::Tenant
        | PurgeKind::All => Ok(()),
    }
}

fn lost(review: &mut Review<'_>, path: &str, raw: RawEventPurge) -> Option<EventPurge> {
    let purge = purge(review, path, raw)?;
    if purge.name.iter().any(|part| matches!(part, EventPart::Pointer(_))) {
        review.report(path, "is purged without an event: it can have no { }");
    }
    Some(purge)
}

/// `{}` or `{/pointer}`.
fn part(name: &str) -> Option<EventPart> {
    (name.is_empty() || is_pointer(name)).then(|| EventPart::Pointer(name.to_owned()))
}
