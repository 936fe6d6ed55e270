//! `POST /api/cache/explain`: what would happen to a request, and why; `GET …?record=ID`: why a call
//! of late was not answered from the cache.
//!
//! Nothing is sent and nothing kept of what is asked. What questions are made of is compared within
//! one tenant's or user's scope only.

use super::{Ask, Problem, query::Query};
use crate::{
    app::Parts,
    cache::{Explained, Nearest, Place, Story, Was, now_ms},
    explain::{self, Asked},
    respond, written,
};
use bytes::Bytes;
use http::{HeaderValue, header, request};
use serde_json::{Map, Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use tollgate_ledger::Uuid;

pub(super) const REQUEST_QUERY: &[&str] = &["peer"];
pub(super) const RECORD_QUERY: &[&str] = &["record"];

/// The longest request that is asked about, as it is written.
pub(super) const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What would happen to the request in the body.
pub(super) async fn request(
    parts: &Arc<Parts>,
    ask: &Ask,
    query: &Query,
) -> Result<Value, Problem> {
    let (head, body, peer) = read(&ask.body, query)?;
    let snapshot = parts.snapshot.load_full();
    let asked = match explain::ask(parts, &snapshot, head, body, peer).await {
        Ok(asked) => asked,
        Err(error) => {
            let verdict = respond::verdict(&error);
            let status = verdict.status.as_u16();
            return Ok(json!({ "outcome": "refused", "status": status, "why": verdict.reason }));
        }
    };
    let notes = snapshot.config.cache.explain_entries_max > 0;
    Ok(shown(&asked, notes))
}

/// A request that is asked about, as its caller would have sent it, and from where.
pub(super) fn read(text: &[u8], query: &Query) -> Result<(request::Parts, Bytes, IpAddr), Problem> {
    let peer = match query.get("peer").map(str::parse::<IpAddr>) {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(Ok(peer)) => peer,
        Some(Err(_)) => return Err(Problem::bad("peer: must be an IP address")),
    };
    let mut request =
        written::read(text).map_err(|error| Problem::bad(format!("body: {error}")))?;
    if !request.headers().contains_key(header::HOST) && request.uri().authority().is_none() {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    let (head, body) = request.into_parts();
    Ok((head, body, peer))
}

/// Why the call with this record was a miss or passed the cache by.
pub(super) fn record(parts: &Parts, query: &Query) -> Result<Value, Problem> {
    let Some(id) = query.get("record") else {
        return Err(Problem::bad("record: missing; POST a request to ask about it"));
    };
    let id: Uuid = id.parse().map_err(|_| Problem::bad("record: must be a record's id"))?;
    let entries_max = parts.snapshot.load().config.cache.explain_entries_max;
    if entries_max == 0 {
        let why = "no call is remembered: cache.explain.entries is 0, the default";
        return Err(Problem::not_found(why));
    }
    let neighbours = &parts.cache.neighbours;
    let missed = neighbours.recall(id).ok_or_else(|| {
        Problem::not_found(format!(
            "not among the last {entries_max} calls that missed or passed the cache by; what became of a hit is in /api/usage/records"
        ))
    })?;
    let mut answer = json!({
        "record": id.hyphenated().to_string(),
        "route": &*missed.route,
        "outcome": if missed.is_bypass { "bypass" } else { "miss" },
        "why": missed.why,
        "ago_ms": now_ms().saturating_sub(missed.at_ms),
    });
    if let (Some(asked), Some(answer)) = (&missed.question, answer.as_object_mut()) {
        let story = neighbours.story(asked, &parts.cache.tiers, missed.at_ms);
        answer.insert("key".to_owned(), asked.key.to_hex().into());
        tell(answer, &story);
    }
    Ok(answer)
}

fn shown(asked: &Asked, notes: bool) -> Value {
    let Asked { route, caller, would, .. } = asked;
    let mut answer = json!({
        "route": &*route.name,
        "upstream": &*route.destination.upstream.name,
        "tenant": caller.tenant.as_str(),
        "outcome": would.outcome,
        "why": would.why,
        "notes": notes,
    });
    let Some(answer_of) = answer.as_object_mut() else { return answer };
    if let Some(Explained { key, members, kept_for }) = &would.explained {
        let members = members.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        answer_of.insert("key".to_owned(), key.to_hex().into());
        answer_of.insert("members".to_owned(), members.collect());
        answer_of.insert("kept_for".to_owned(), json!(kept_for));
        answer_of.insert("tags".to_owned(), json!(would.tags));
        answer_of.insert("tiers".to_owned(), would.tiers.iter().map(place).collect());
    }
    if let Some((known, all)) = would.items {
        answer_of.insert("items".to_owned(), json!({ "known": known, "of": all }));
    }
    if let Some(story) = &would.story {
        tell(answer_of, story);
    }
    answer
}

fn place(place: &Place) -> Value {
    let Place { tier, is_up, lies } = place;
    let mut shown = json!({ "tier": tier.as_str(), "up": is_up, "found": lies.is_some() });
    if let (Some(lies), Some(shown)) = (lies, shown.as_object_mut()) {
        shown.insert("age_ms".to_owned(), lies.age_ms.into());
        shown.insert("left_ms".to_owned(), lies.left_ms.into());
        shown.insert("soft_purged".to_owned(), lies.is_soft.into());
        shown.insert("verdict".to_owned(), lies.verdict.into());
    }
    shown
}

fn tell(answer: &mut Map<String, Value>, story: &Story) {
    let ago = |at_ms: u64| now_ms().saturating_sub(at_ms);
    let was = story.was.as_ref().map(|Was { stored_at_ms, ended }| {
        json!({ "stored_ago_ms": ago(*stored_at_ms), "ended": ended })
    });
    let nearest = story.nearest.as_ref().map(|nearest| {
        let Nearest { key, stored_at_ms, differs } = nearest;
        let differs = differs.iter().map(|(part, how)| json!({ "part": part, "how": how }));
        json!({
            "key": key.to_hex(),
            "stored_ago_ms": ago(*stored_at_ms),
            "differs": differs.collect::<Vec<_>>(),
        })
    });
    answer.insert("was".to_owned(), was.into());
    answer.insert("nearest".to_owned(), nearest.into());
}
