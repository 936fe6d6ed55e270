//! `upstreams.*.model_version`: how the version of a model is known.

use crate::{
    ModelVersion, VersionList, VersionPoll,
    defaults::{self, DURATION_MAX},
    problem::quoted,
    raw::{RawModelVersion, RawVersionFrom},
    review::Review,
};
use std::time::Duration;

use super::tag::{POINTER_IS, is_pointer};

/// A version is part of keys and records.
const VERSION_BYTES_MAX: usize = 256;
/// Oftener would be a load of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

pub(super) fn model_version(
    review: &mut Review<'_>,
    path: &str,
    raw: RawModelVersion,
) -> ModelVersion {
    let from = raw.from.unwrap_or(RawVersionFrom::Header);
    misplaced(review, path, from, &raw);
    match from {
        RawVersionFrom::Static => {
            let message = match raw.value.as_deref().map(str::len) {
                None => Some("missing: from: static needs the version".to_owned()),
                Some(1..=VERSION_BYTES_MAX) => None,
                Some(_) => Some(format!("must be 1 to {VERSION_BYTES_MAX} bytes")),
            };
            if let Some(message) = message {
                review.report(format!("{path}.value"), message);
            }
            let value = raw.value.unwrap_or_default();
            ModelVersion::Static(value)
        }
        RawVersionFrom::Header => {
            let header = raw.header.as_deref().unwrap_or(defaults::MODEL_VERSION_HEADER);
            ModelVersion::Header(review.header(format!("{path}.header"), Some(header)))
        }
        RawVersionFrom::Body => ModelVersion::Body(pointer(review, path, "pointer", raw.pointer)),
        RawVersionFrom::Poll => ModelVersion::Poll(poll(review, path, raw)),
    }
}

/// Reports what is written and means nothing.
fn misplaced(review: &mut Review<'_>, path: &str, from: RawVersionFrom, raw: &RawModelVersion) {
    use RawVersionFrom::{Body, Header, Poll, Static};
    let written: [(&str, bool, &[RawVersionFrom], &str); 7] = [
        ("value", raw.value.is_some(), &[Static], "static"),
        ("header", raw.header.is_some(), &[Header], "header"),
        ("pointer", raw.pointer.is_some(), &[Body, Poll], "body or poll"),
        ("path", raw.path.is_some(), &[Poll], "poll"),
        ("list", raw.list.is_some(), &[Poll], "poll"),
        ("id", raw.id.is_some(), &[Poll], "poll"),
        ("interval", raw.interval.is_some(), &[Poll], "poll"),
    ];
    for (key, is_written, of, name) in written {
        if is_written && !of.contains(&from) {
            review.report(format!("{path}.{key}"), format!("needs from: {name}"));
        }
    }
    if from == Poll && raw.id.is_some() && raw.list.is_none() {
        review.report(format!("{path}.id"), "needs list");
    }
}

fn poll(review: &mut Review<'_>, path: &str, raw: RawModelVersion) -> VersionPoll {
    let target = raw.path.unwrap_or_else(|| defaults::MODEL_VERSION_PATH.to_owned());
    let is_target = target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte));
    if !is_target {
        let message = format!("must be a path like /v1/models, not {}", quoted(&target));
        review.report(format!("{path}.path"), message);
    }
    let id = raw.id.or_else(|| Some("/id".to_owned()));
    VersionPoll {
        path: target,
        pointer: pointer(review, path, "pointer", raw.pointer),
        list: raw.list.map(|list| VersionList {
            pointer: pointer(review, path, "list", Some(list)),
            id: pointer(review, path, "id", id),
        }),
        interval: review.duration_within(
            format!("{path}.interval"),
            raw.interval.as_ref(),
            defaults::MODEL_VERSION_INTERVAL,
            INTERVAL_MIN..=DURATION_MAX,
        ),
    }
}

fn pointer(review: &mut Review<'_>, path: &str, key: &str, raw: Option<String>) -> String {
    let text = raw.unwrap_or_default();
    if !is_pointer(&text) {
        let message = format!("must be {POINTER_IS}, not {}", quoted(&text));
        review.report(format!("{path}.{key}"), message);
    }
    text
}
