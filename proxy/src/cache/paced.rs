//! A stored stream at its route's pace (`routes[].cache.pacing`).
//!
//! Only for callers who want a stream: whoever wants the whole answer has it at once. What was kept
//! before its route asked for the times of its frames has none, and is given at once.

use super::{
    answer::{self, Served},
    decode_bill,
};
use crate::{
    body::{Body, len_u64},
    relay::{Pace, Replay, Score, count_units},
};
use std::{num::NonZeroU32, sync::Arc};
use tollgate_cache::entry::{Entry, Form};
use tollgate_config::Pacing;
use tollgate_core::dialect::Framing;

/// `wanted` is a stream.
pub(super) fn body(
    entry: Arc<Entry>,
    form: Served,
    (wanted, hides_usage): (Framing, bool),
    Pacing { tokens_per_second, max }: Pacing,
) -> Body {
    let even = |rate: NonZeroU32, bytes: usize, units: u64| {
        let tokens = tokens(&entry).unwrap_or(units);
        Pace::new(Score::even(tokens, rate.get(), len_u64(bytes), max))
    };
    let replay = match (form, tokens_per_second) {
        (Served::Frames(frames), Some(rate)) => {
            let bytes = frames.iter().map(Vec::len).sum();
            let pace = even(rate, bytes, len_u64(frames.len()));
            Replay::made(frames, hides_usage).paced(Some(pace))
        }
        (Served::AsRecorded, Some(rate)) if entry.form == Form::Stream => {
            let pace = even(rate, entry.body.len(), count_units(&entry.body, wanted));
            Replay::by_units(entry.body.clone(), wanted, hides_usage).paced(Some(pace))
        }
        (Served::AsRecorded, None) if entry.form == Form::Stream => {
            let gaps = entry.delivery.gaps_ms();
            let pace = gaps.map(|gaps_ms| Pace::new(Score::original(gaps_ms, max)));
            Replay::recorded(entry, hides_usage).paced(pace)
        }
        (form, _) => return answer::body(entry, form, hides_usage),
    };
    Body::Replay(Box::new(replay))
}

/// What the answer's usage says was written; `None`: it says nothing.
fn tokens(entry: &Entry) -> Option<u64> {
    let usage = decode_bill(&entry.note)?.usage;
    Some(usage.output.saturating_add(usage.reasoning)).filter(|tokens| *tokens > 0)
}
