//! What a route's cache rule says about answers that are looked after, written back.

use super::prefetch::prefetch;
use crate::{
    Upkeep,
    text::{show_duration, show_ppm},
};
use serde_json::{Value, json};

/// Adds what is there to a rule as it is shown: what is not written is not done.
pub(super) fn with(mut rule: Value, one: &Upkeep) -> Value {
    let hot = one.hot.map(|hot| {
        json!({
            "hits": hot.hits,
            "extend": show_duration(hot.extend),
            "refresh_ahead": show_ppm(hot.refresh_ahead_ppm),
        })
    });
    let shadow = (one.shadow_ppm > 0).then(|| json!({ "share": show_ppm(one.shadow_ppm) }));
    let adapt = one
        .adapt
        .map(|adapt| json!({ "min": show_duration(adapt.min), "max": show_duration(adapt.max) }));
    let ahead = one.prefetch.as_ref().map(prefetch);
    let shown = [("hot", hot), ("shadow", shadow), ("adapt", adapt), ("prefetch", ahead)];
    if let Some(members) = rule.as_object_mut() {
        let written = shown.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        members.extend(written);
    }
    rule
}
