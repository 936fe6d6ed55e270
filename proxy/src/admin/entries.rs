//! `GET /api/cache/entries`: what lies in memory; `PUT /api/cache/entries`: puts one there.
//!
//! No content is shown: keys are digests, and of an answer there is only what a purge could name and
//! how it fares. What is put is judged as the upstream's answer would be, so that it cannot lie where
//! no caller's call would have left it; who may is who may purge.

use super::{Ask, Problem, explain, query::Query};
use crate::{
    app::{Parts, Snapshot},
    cache::{self, Brought, InTier, Lacks, NotPut, Placed, now_ms},
    explain::{Arrived, arrive},
    respond, written,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{sync::Arc, time::Duration};
use tollgate_cache::{
    entry::{Entry, Form, Rule},
    freshness::{Left, Terms},
    key::CacheKey,
    rfc9111::store::Stored,
    tiers::{Listed, Wanted},
};
use tollgate_config::Scope;

pub(super) const LIST_QUERY: &[&str] =
    &["key", "route", "model", "tenant", "tag", "limit", "after"];
pub(super) const PUT_QUERY: &[&str] = &["peer"];

/// The longest order to put an answer: an answer of 16 MiB as base64, and its request.
pub(super) const PUT_BYTES_MAX: usize = 32 * 1024 * 1024;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// The most bytes of tags on a page: callers name them.
const TAGS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// As many as a call's own templates may make of one field, and as long.
const TAGS_MAX: usize = 64;
const TAG_BYTES_MAX: usize = 256;
/// As of what an upstream says.
const VERSION_BYTES_MAX: usize = 128;
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A page of what lies in memory.
pub(super) async fn list(parts: &Arc<Parts>, query: &Query) -> Result<Value, Problem> {
    let key = |name: &str| {
        let key = query.get(name).map(|hex| CacheKey::from_hex(hex).ok_or(name));
        key.transpose()
            .map_err(|name| Problem::bad(format!("{name}: must be 64 hexadecimal digits")))
    };
    let (key, after) = (key("key")?, key("after")?);
    let limit = match query.get("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => {
            let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| Problem::bad(format!("limit: a number from 1 to {LIMIT_MAX}")))?
        }
    };
    let word = |name: &str| query.get(name).map(str::to_owned);
    let words = [word("route"), word("model"), word("tenant"), word("tag")];
    let (own, now_ms) = (parts.clone(), now_ms());
    // It looks at every entry there is.
    let looking = tokio::task::spawn_blocking(move || {
        let [route, model, tenant, tag] = words.each_ref().map(Option::as_deref);
        own.cache.tiers.list(
            &Wanted { key, route, model, tenant, tag },
            after.as_ref(),
            limit,
            now_ms,
        )
    });
    let listed = looking.await.map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the look at memory ended: {error}"),
        )
    })?;
    Ok(page(&parts.snapshot.load(), &listed, limit, now_ms))
}

fn page(snapshot: &Snapshot, listed: &[Listed], limit: usize, now_ms: u64) -> Value {
    let mut tags_bytes = 0_usize;
    let fits = |one: &&Listed| {
        let is_first = tags_bytes == 0;
        tags_bytes += one.entry.tags.iter().map(|tag| tag.len()).sum::<usize>();
        is_first || tags_bytes <= TAGS_BYTES_MAX
    };
    let shown: Vec<&Listed> = listed.iter().take_while(fits).collect();
    let is_last = shown.len() == listed.len() && listed.len() < limit;
    let next = shown.last().filter(|_| !is_last).map(|last| last.key.to_hex());
    let entries = shown.into_iter().map(|one| show(snapshot, one, now_ms));
    json!({ "entries": entries.collect::<Vec<_>>(), "next": next })
}

fn show(snapshot: &Snapshot, listed: &Listed, now_ms: u64) -> Value {
    let Listed { key, entry, until_ms, soft_since_ms } = listed;
    let route = snapshot.routes.iter().find(|route| *route.name == *entry.route);
    let scope = match (&entry.rule, route) {
        (Rule::Http(_) | Rule::Variants(_), _) if snapshot.config.identity.tenant.is_some() => {
            Some("tenant")
        }
        (Rule::Http(_) | Rule::Variants(_), _) => Some("shared"),
        (Rule::Ttl | Rule::Timed(_), None) => None,
        (Rule::Ttl | Rule::Timed(_), Some(route)) => Some(match route.config.cache.scope {
            Scope::Tenant => "tenant",
            Scope::User => "user",
            Scope::Shared => "shared",
        }),
    };
    let terms = route.map(|route| route.freshness.terms).unwrap_or_default();
    let until_ms = entry.stored_at_ms.saturating_add(entry.ttl_ms).min(*until_ms);
    json!({
        "key": key.to_hex(),
        "kind": match (&entry.rule, entry.form) {
            (Rule::Variants(_), _) => "variants",
            (_, Form::Whole) => "whole",
            (_, Form::Stream) => "stream",
        },
        "route": &*entry.route,
        "scope": scope,
        "tenant": &*entry.tenant,
        "model": &*entry.model,
        "model_version": &*entry.model_version,
        "status": entry.status,
        "tags": entry.tags,
        "bytes": entry.weight(),
        "body_bytes": entry.body.len(),
        "age_ms": entry.age_ms(now_ms),
        "left_ms": left_ms(entry, *soft_since_ms, &terms, now_ms),
        "kept_ms": until_ms.saturating_sub(now_ms),
        "soft_purged": soft_since_ms.is_some(),
        "hits": entry.hits.value(),
    })
}

/// Of its time; below 0 for what is past it. `None`: it is no answer.
fn left_ms(entry: &Entry, soft_since_ms: Option<u64>, terms: &Terms, now_ms: u64) -> Option<i64> {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    match &entry.rule {
        Rule::Variants(_) => None,
        Rule::Http(rule) => {
            let Stored { made_at_ms, lifetime_ms, .. } = rule.stored;
            let until_ms = made_at_ms.saturating_add(lifetime_ms);
            let until_ms = until_ms.min(soft_since_ms.unwrap_or(u64::MAX));
            Some(signed(until_ms).saturating_sub(signed(now_ms)))
        }
        Rule::Ttl | Rule::Timed(_) => Some(match entry.left(soft_since_ms, terms, now_ms) {
            Left::Fresh { for_ms, .. } => signed(for_ms),
            Left::Stale { by_ms } => -signed(by_ms),
        }),
    }
}

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(borrow)]
    answer: &'a RawValue,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    tags: Vec<Box<str>>,
    #[serde(default)]
    model_version: Option<String>,
}

/// Puts an answer where the request's own would lie.
pub(super) async fn put(parts: &Arc<Parts>, ask: &Ask, query: &Query) -> Result<Value, Problem> {
    if !ask.body.trim_ascii_start().starts_with(b"{") {
        // serde takes a list for the members in their order.
        return Err(Problem::bad("body: not a JSON object"));
    }
    let order: Order<'_> = serde_json::from_slice(&ask.body)
        .map_err(|error| Problem::bad(format!("body: {error}")))?;
    let (head, body, peer) = explain::read(order.request.get().as_bytes(), query)
        .map_err(|problem| Problem::bad(problem.detail.replacen("body: ", "request: ", 1)))?;
    let brought = order.brought()?;
    let snapshot = parts.snapshot.load_full();
    let arrived = arrive(parts, &snapshot, head, body, peer).map_err(|error| {
        let verdict = respond::verdict(&error);
        let detail = format!("request: it would be refused: {}", verdict.reason);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let Arrived { head, route, caller, ask, is_held, .. } = arrived;
    let (bytes, status) = (brought.answer.body().len(), brought.answer.status().as_u16());
    let placed = match is_held {
        true => Box::pin(cache::put(parts, &route, &ask, &head, &caller, brought)).await,
        false => Err(NotPut::Bypass("body-too-large")),
    };
    let placed = placed.map_err(refused)?;
    if placed.is_nowhere() {
        return Err(nowhere(&placed));
    }
    let Placed { key, items, tiers, pending } = placed;
    let tiers: Vec<Value> = tiers.iter().map(in_tier).collect();
    let (key, route, tenant) = (key.to_hex(), &*route.name, caller.tenant.as_str());
    tracing::info!(
        key,
        route,
        tenant,
        status,
        bytes,
        items,
        tiers = %json!(tiers),
        "an answer was put into the cache by an administrator"
    );
    Ok(json!({
        "key": key,
        "route": route,
        "tenant": tenant,
        "items": items,
        "tiers": tiers,
        "pending": pending,
    }))
}

fn in_tier(one: &InTier) -> Value {
    let why = one.why.map(Lacks::as_str);
    json!({ "tier": one.tier.as_str(), "kept": one.kept, "why": why })
}

/// No tier has it.
fn nowhere(placed: &Placed) -> Problem {
    let problem = |one: &InTier| {
        let what_to_do = match one.why? {
            Lacks::Down => "it is away; put it again when it is back",
            Lacks::TooLarge => "it is too large; see the tier's size and max_entry",
            Lacks::Around => "it is written around; see writes of the route",
            Lacks::Outranked => "it is full of what is worth more; see cache.memory",
            Lacks::Refused => {
                "it has not taken it; see dropped_writes in /api/cache/stats and the log"
            }
        };
        Some(format!("{}: {what_to_do}", one.tier.as_str()))
    };
    let problems = placed.tiers.iter().filter_map(problem).collect();
    let detail = "no tier of the route has taken the answer; what was there before it is void";
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail).with_problems(problems)
}

fn refused(why: NotPut) -> Problem {
    let status = match why {
        NotPut::VersionUnknown | NotPut::VersionOther => StatusCode::CONFLICT,
        NotPut::Away => StatusCode::SERVICE_UNAVAILABLE,
        NotPut::Long(_) => StatusCode::PAYLOAD_TOO_LARGE,
        NotPut::Bypass(_) | NotPut::NotKept(_) | NotPut::VersionOfUrl => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    };
    Problem::new(status, why.to_string())
}

impl Order<'_> {
    fn brought(&self) -> Result<Brought, Problem> {
        let answer = written::read_answer(self.answer.get().as_bytes())
            .map_err(|error| Problem::bad(format!("answer: {error}")))?;
        let ttl = self.ttl.as_deref().map(|text| {
            let ttl = tollgate_config::duration(text);
            ttl.filter(|ttl| (Duration::from_secs(1)..=TTL_MAX).contains(ttl))
        });
        if ttl == Some(None) {
            return Err(Problem::bad("ttl: must be 1s to 366d, like 90s, 5m or 1h"));
        }
        let is_tag = |tag: &str| {
            (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.chars().any(char::is_control)
        };
        if self.tags.len() > TAGS_MAX || !self.tags.iter().all(|tag| is_tag(tag)) {
            let what = format!("1 to {TAG_BYTES_MAX} bytes, no control characters");
            return Err(Problem::bad(format!("tags: at most {TAGS_MAX}, each {what}")));
        }
        let version = self.model_version.as_deref();
        let is_version = |version: &str| {
            version.len() <= VERSION_BYTES_MAX
                && version.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        if version.is_some_and(|version| !is_version(version)) {
            let what = format!("at most {VERSION_BYTES_MAX} visible ASCII characters");
            return Err(Problem::bad(format!("model_version: {what}")));
        }
        Ok(Brought {
            answer,
            ttl: ttl.flatten(),
            tags: self.tags.clone(),
            version: version.map(Arc::from),
        })
    }
}
