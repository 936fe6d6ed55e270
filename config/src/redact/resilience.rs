//! What is done about an upstream that fails, written back.

use crate::{
    BreakerRule, Config, Fallback, Retries, RetryCause,
    text::{show_duration, show_ppm},
};
use serde_json::{Value, json};

pub(super) fn retries(one: &Retries) -> Value {
    let cause = |cause: &RetryCause| match cause.name().parse::<u16>() {
        Ok(status) => json!(status),
        Err(_) => json!(cause.name()),
    };
    json!({
        "attempts": one.attempts,
        "for": one.causes.iter().map(cause).collect::<Vec<_>>(),
        "budget": show_ppm(one.budget_ppm),
    })
}

pub(super) fn breaker(one: BreakerRule) -> Value {
    json!({
        "consecutive_failures": one.failures_max,
        "open_for": show_duration(one.open_for),
    })
}

pub(super) fn fallback(config: &Config, one: &Fallback) -> Value {
    let name = config.upstream(one.upstream).map(|upstream| &upstream.name);
    match &one.model {
        None => json!(name),
        Some(model) => json!({ "upstream": name, "model": model }),
    }
}
