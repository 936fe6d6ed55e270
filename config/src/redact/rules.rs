//! What a route's cache rule says about keys and times, and an upstream's about its model, written back.

use crate::{
    Cdn, CdnTags, Encodings, Items, Join, KeyPart, KeyPolicy, ModelVersion, Pacing, Share, Stale,
    Test, Trust, TtlRule, Upstream, VoteOut, Wants, When,
    text::{show_duration, show_size},
};
use serde_json::{Map, Value, json};

pub(super) fn cdn(one: &Cdn) -> Value {
    json!({
        "control": one.control.name(),
        "tags": one.tags.map(CdnTags::name),
        "ttl_max": one.ttl_max.map(show_duration),
    })
}

/// `None`: nothing is limited.
pub(super) fn concurrency(one: &Upstream) -> Option<Value> {
    let adaptive = one.adaptive.map(|range| json!({ "min": range.min, "max": range.max }));
    let share = match one.share {
        Share::Calls => "calls",
        Share::Time => "time",
        Share::Tokens => "tokens",
    };
    let limit = match (one.concurrency_limit, adaptive) {
        (Some(limit), _) => ("limit", json!(limit)),
        (None, Some(adaptive)) => ("adaptive", adaptive),
        (None, None) => return None,
    };
    let mut shown = json!({ "queue": one.queue_max, "reserve": one.reserve,
        "preempt": one.preempt_per_s, "share": share, "tokens": one.tokens_max,
        "weights": one.tenant_weights });
    if let Some(members) = shown.as_object_mut() {
        members.insert(limit.0.to_owned(), limit.1);
    }
    Some(shown)
}

pub(super) fn key(one: &KeyPolicy) -> Value {
    let versions: Map<_, _> = one
        .versions
        .iter()
        .map(|version| (version.name.clone(), json!({ "header": version.header })))
        .collect();
    let of = one.of.as_ref();
    let mut shown = json!({ "versions": versions });
    let lists = [
        ("ignore", (!one.ignore.is_empty()).then(|| json!(one.ignore))),
        ("include_headers", (!one.include_headers.is_empty()).then(|| json!(one.include_headers))),
        ("of", of.map(|parts| parts.iter().map(KeyPart::to_string).collect())),
    ];
    for (name, list) in lists {
        if let (Some(list), Some(members)) = (list, shown.as_object_mut()) {
            members.insert(name.to_owned(), list);
        }
    }
    shown
}

pub(super) fn join(one: &Join) -> Value {
    json!({ "within": show_duration(one.within), "items_max": one.items_max })
}

pub(super) fn items(one: &Items) -> Value {
    match one {
        Items::Off => "off".into(),
        Items::Embeddings => "embeddings".into(),
        Items::Auto => "auto".into(),
        Items::Named { list, answers, index } => {
            json!({ "list": list, "answers": answers, "index": index })
        }
    }
}

pub(super) fn when(one: &When) -> Value {
    json!({
        "temperature_max": one.temperature_max,
        "n_max": one.n_max,
        "tools": one.tools,
        "finish_reasons": one.finish_reasons,
        "statuses": one.statuses,
        "body_max": one.body_bytes_max.map(show_size),
        "request": one.request.iter().map(test).collect::<Vec<_>>(),
        "answer": one.answer.iter().map(test).collect::<Vec<_>>(),
    })
}

fn test(one: &Test) -> Value {
    match &one.wants {
        Wants::OneOf(values) => json!({ "pointer": one.pointer, "in": values }),
        Wants::Exists(exists) => json!({ "pointer": one.pointer, "exists": exists }),
    }
}

pub(super) fn stale(one: &Stale) -> Value {
    json!({
        "while_revalidate": show_duration(one.while_revalidate),
        "if_error": show_duration(one.if_error),
        "degrade": show_duration(one.degrade),
    })
}

pub(super) fn ttl_rule(one: &TtlRule) -> Value {
    let values = |tests: &[Test]| -> Map<_, _> {
        let values = tests.iter().filter_map(|test| match &test.wants {
            Wants::OneOf(values) => Some((test.pointer.clone(), json!(values))),
            Wants::Exists(_) => None,
        });
        values.collect()
    };
    let headers: Map<_, _> =
        one.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "request": values(&one.request),
        "answer": values(&one.answer),
        "headers": headers,
        "statuses": (!one.statuses.is_empty()).then_some(&one.statuses),
        "ttl": show_duration(one.ttl),
    })
}

pub(super) fn model_version(one: &ModelVersion) -> Value {
    match one {
        ModelVersion::Static(value) => json!({ "from": "static", "value": value }),
        ModelVersion::Header(header) => json!({ "from": "header", "header": header }),
        ModelVersion::Body(pointer) => json!({ "from": "body", "pointer": pointer }),
        ModelVersion::Poll(poll) => json!({
            "from": "poll",
            "path": poll.path,
            "pointer": poll.pointer,
            "list": poll.list.as_ref().map(|list| &list.pointer),
            "id": poll.list.as_ref().map(|list| &list.id),
            "interval": show_duration(poll.interval),
        }),
    }
}

pub(super) fn vote_out(one: &VoteOut) -> Value {
    let trust = match &one.trust {
        Trust::Anyone => None,
        Trust::Only(tenants) => Some(tenants),
    };
    json!({ "trust": trust, "per_minute": one.per_minute })
}

pub(super) fn encodings(one: &Encodings) -> Value {
    let offer: Vec<_> = one.codings.iter().map(|coding| coding.name()).collect();
    json!({ "offer": offer, "min": show_size(one.bytes_min) })
}

pub(super) fn pacing(one: Pacing) -> Value {
    json!({ "tokens_per_second": one.tokens_per_second, "max": show_duration(one.max) })
}
