//! `routes[].cache.items`: whose items are answered one by one.

use super::tag::{POINTER_IS, is_pointer};
use crate::{
    Items, Join, KeyPolicy,
    problem::quoted,
    raw::{RawItems, RawItemsRule, RawItemsWord, RawJoin},
    review::Review,
};
use std::time::Duration;

pub(super) fn items(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawItemsRule>,
    key: &KeyPolicy,
) -> Items {
    match raw {
        None => Items::default(),
        Some(RawItemsRule::Bool(false) | RawItemsRule::Word(RawItemsWord::Off)) => Items::Off,
        Some(RawItemsRule::Bool(true)) => {
            review
                .report(path, "must be off, embeddings, auto or a list and its answers, not true");
            Items::Off
        }
        Some(RawItemsRule::Word(RawItemsWord::Embeddings)) => Items::Embeddings,
        Some(RawItemsRule::Word(RawItemsWord::Auto)) => Items::Auto,
        Some(RawItemsRule::Lists(raw)) => named(review, path, raw, key),
    }
}

/// How long a caller may be kept waiting for others at most.
const JOIN_WITHIN_MAX: Duration = Duration::from_secs(1);
/// As many as are told apart in one call.
const JOIN_ITEMS_MAX: usize = 2048;
const JOIN_ITEMS: usize = 64;

pub(super) fn join(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawJoin>,
    items: &Items,
) -> Option<Join> {
    let raw = raw?;
    if *items == Items::Off {
        review.report(path, "needs items: calls are joined item by item");
    }
    if raw.within.is_none() {
        review.report(format!("{path}.within"), "missing");
    }
    let range = Duration::from_millis(1)..=JOIN_WITHIN_MAX;
    let within = review.duration_within(
        format!("{path}.within"),
        raw.within.as_ref(),
        Duration::from_millis(1),
        range,
    );
    let items_max = raw.items_max.unwrap_or(JOIN_ITEMS);
    if !(2..=JOIN_ITEMS_MAX).contains(&items_max) {
        review.report(format!("{path}.items_max"), format!("must be 2 to {JOIN_ITEMS_MAX}"));
    }
    Some(Join { within, items_max })
}

/// What would be accepted and never do anything.
pub(super) fn idle(review: &mut Review<'_>, path: &str, items: &Items, is_plain: bool) {
    let message = match items {
        Items::Named { .. } if !is_plain => {
            "needs dialect: http: where calls of a dialect have their lists is known"
        }
        Items::Auto if is_plain => {
            "has no meaning with dialect: http: name the list and its answers"
        }
        Items::Off | Items::Embeddings | Items::Auto | Items::Named { .. } => return,
    };
    review.report(path, message);
}

fn named(review: &mut Review<'_>, path: &str, raw: RawItems, key: &KeyPolicy) -> Items {
    let mut pointer = |name: &str, text: Option<String>| {
        let Some(text) = text else {
            review.report(format!("{path}.{name}"), "missing");
            return String::new();
        };
        // The empty one is the whole document: a body may be a list.
        let is_good =
            text.is_empty() || (is_pointer(&text) && !text.split('/').any(|it| it == "*"));
        if !is_good {
            let message = format!("must be {POINTER_IS}, without *, not {}", quoted(&text));
            review.report(format!("{path}.{name}"), message);
        }
        text
    };
    let list = pointer("list", raw.list);
    let answers = pointer("answers", raw.answers);
    if raw.index.as_ref().is_some_and(String::is_empty) {
        review.report(format!("{path}.index"), "must be the name of a member");
    }
    if key.of.is_some() || key.ignore.iter().any(|ignored| reaches(ignored, &list)) {
        let message = "cannot be told apart by the key of this route: it names parts of the body, \
            or ignores what is in the list";
        review.report(format!("{path}.list"), message);
    }
    Items::Named { list, answers, index: raw.index }
}

/// Whether what is ignored may lie within the list, or hold it.
fn reaches(ignored: &str, list: &str) -> bool {
    let first = |text: &str| text.split('/').nth(1).map(str::to_owned);
    list.is_empty() || first(ignored) == first(list) || first(ignored).as_deref() == Some("*")
}
