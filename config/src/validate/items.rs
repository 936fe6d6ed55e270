//! `routes[].cache.items`: whose items are answered one by one.

use super::tag::{POINTER_IS, is_pointer};
use crate::{
    Items, KeyPolicy,
    problem::quoted,
    raw::{RawItems, RawItemsRule, RawItemsWord},
    review::Review,
};

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
