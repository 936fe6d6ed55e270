//! What a route's cache rule says about what is asked ahead, written back.

use crate::{
    Prefetch, Succession,
    text::{show_duration, show_ppm, show_usd},
};
use serde_json::{Value, json};

pub(super) fn prefetch(one: &Prefetch) -> Value {
    let per = match &one.per {
        Succession::User => "user".into(),
        Succession::Header(name) => json!({ "header": name }),
    };
    json!({
        "per": per,
        "within": show_duration(one.within),
        "successors_max": one.successors_max,
        "precision_min": show_ppm(one.precision_min_ppm),
        "budget": {
            "calls_per_minute": one.calls_per_minute,
            "money_per_hour": one.hourly_pico_usd.map(show_usd),
        },
    })
}
