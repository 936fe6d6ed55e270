//! `GET /api/queue`: who runs and waits at each upstream, how long, for what, and what was
//! decided of late.
//!
//! Exact at one moment for each upstream, and bounded: a class names so many tenants, and of those
//! that wait so many are looked at; what is left out is counted.

use crate::{
    admission::{ClassCounts, ClassLook, Decided, LimitFrom, RECENT, Share, Shed, TenantLook, Way},
    app::{Destination, Parts},
};
use serde_json::{Map, Value, json};

/// The answer.
pub(super) fn queue(parts: &Parts) -> Value {
    let snapshot = parts.snapshot.load();
    let upstreams = snapshot.destinations.iter().map(|to| of(to));
    json!({ "upstreams": upstreams.collect::<Vec<_>>() })
}

fn of(to: &Destination) -> Value {
    let look = to.admission.look();
    let seen = &look.snapshot;
    let classes = seen.by_class().zip(&look.classes);
    let classes = classes.map(|((name, counts), class)| class_of(name, counts, class));
    let share = match look.share {
        Share::Calls => "calls",
        Share::Time => "time",
        Share::Tokens => "tokens",
    };
    json!({
        "upstream": to.config.name,
        "limit": seen.limit,
        "limit_from": limit_from(look.limit_from),
        "share": share,
        "budget": to.config.tokens_max,
        "inflight": seen.inflight,
        "inflight_cost": look.inflight_cost,
        "waiting": seen.waiting,
        "waiting_cost": look.waiting_cost,
        "waiting_left": look.waiting_left,
        "oldest_s": seen.oldest_wait.map(|wait| wait.as_secs_f64()),
        "lifted": seen.lifted,
        "preempted": seen.preempted,
        "permits_leaked": seen.leaked,
        "classes": classes.collect::<Vec<_>>(),
    })
}

/// `none`, `configuration`, or `adaptive` with its bounds and why it is what it is.
fn limit_from(from: LimitFrom) -> Value {
    match from {
        LimitFrom::Nothing | LimitFrom::Configuration => json!({ "source": from.name() }),
        LimitFrom::Answers { range, why } => json!({
            "source": from.name(),
            "min": range.min,
            "max": range.max,
            "why": why.name(),
        }),
    }
}

fn class_of(name: &str, counts: &ClassCounts, class: &ClassLook) -> Value {
    json!({
        "class": name,
        "inflight": counts.inflight,
        "waiting": counts.waiting,
        "waiting_cost": counts.waiting_cost,
        "waits_for": class.why.map(crate::admission::Why::name),
        "oldest_s": class.oldest_wait.map(|wait| wait.as_secs_f64()),
        "retry_after_s": class.retry_after.as_secs(),
        "tenants": class.tenants.iter().map(tenant).collect::<Vec<_>>(),
        "tenants_left": class.tenants_left,
        "recent": recent(&class.decided),
    })
}

fn tenant(tenant: &TenantLook) -> Value {
    json!({
        "tenant": &*tenant.tenant,
        "waiting": tenant.waiting,
        "cost": tenant.cost,
        "oldest_s": tenant.oldest_wait.as_secs_f64(),
    })
}

/// Each decision by its name, those that were not made left out.
fn recent(decided: &Decided) -> Value {
    let named = |names: &[&str], counts: &[u64]| -> Map<String, Value> {
        let counts = names.iter().zip(counts).filter(|(_, count)| 0 < **count);
        counts.map(|(name, count)| ((*name).to_owned(), (*count).into())).collect()
    };
    json!({
        "window_s": RECENT.as_secs(),
        "granted": named(&Way::ALL.map(Way::label), &decided.granted),
        "shed": named(&Shed::ALL.map(Shed::reason), &decided.shed),
        "left": decided.left,
    })
}
