//! `routes[].cache.when` and how long answers are kept: what must hold of a call and its answer.

use crate::{
    CachePolicy, Lifetime, Test, TtlRule, Wants, When,
    defaults::DURATION_MAX,
    problem::{member, quoted},
    raw::{RawScalar, RawScalars, RawTest, RawTtlRule, RawWhen},
    review::Review,
    text::SizeText,
};
use serde_json::{Number, Value};
use std::{collections::BTreeMap, time::Duration};

use super::tag::{POINTER_IS, is_pointer};

/// Larger than any answer.
const BODY_BYTES_MAX: u64 = 1 << 40;

pub(super) fn when(review: &mut Review<'_>, path: &str, raw: RawWhen) -> When {
    let default = When::default();
    let body_bytes_max = raw.body_max.as_ref().map(|size: &SizeText| {
        review.size_within(format!("{path}.body_max"), Some(size), 1, 1..=BODY_BYTES_MAX)
    });
    let statuses = raw.statuses.map(|all| statuses(review, &format!("{path}.statuses"), all));
    When {
        temperature_max: raw.temperature_max.and_then(Number::from_f64),
        n_max: raw.n_max,
        tools: raw.tools.unwrap_or(default.tools),
        finish_reasons: raw.finish_reasons,
        statuses: statuses.unwrap_or(default.statuses),
        body_bytes_max,
        request: tests(review, &format!("{path}.request"), raw.request.unwrap_or_default()),
        answer: tests(review, &format!("{path}.answer"), raw.answer.unwrap_or_default()),
    }
}

/// Of the keys about times, what is beside `ttl`.
pub(super) struct Times {
    pub(super) rules: Option<Vec<RawTtlRule>>,
    pub(super) upstream: Option<bool>,
    pub(super) jitter_percent: Option<u8>,
}

pub(super) fn lifetime(review: &mut Review<'_>, path: &str, raw: Times) -> Lifetime {
    let rules = raw.rules.into_iter().flatten().enumerate();
    let rules: Vec<TtlRule> =
        rules.map(|(i, raw)| rule(review, &format!("{path}.ttl_rules[{i}]"), raw)).collect();
    for (i, rule) in rules.iter().enumerate().skip(1) {
        let fits_all = |rule: &TtlRule| {
            rule.request.is_empty()
                && rule.answer.is_empty()
                && rule.headers.is_empty()
                && rule.statuses.is_empty()
        };
        if fits_all(rule) || rules.iter().take(i).any(fits_all) {
            // Below it is `ttl`, which says the same.
            review.advise(format!("{path}.ttl_rules[{i}]"), "is the same as ttl, or never reached");
        }
    }
    Lifetime {
        rules,
        upstream: raw.upstream.unwrap_or(false),
        jitter_percent: raw.jitter_percent.unwrap_or(0),
    }
}

/// The statuses that no dialect of a model has for a finished answer.
pub(super) fn only_of_plain_calls(review: &mut Review<'_>, path: &str, policy: &CachePolicy) {
    const MESSAGE: &str =
        "others than 200 need dialect: http: of model calls only whole answers are kept";
    if policy.when.statuses != [200] {
        review.report(format!("{path}.when.statuses"), MESSAGE);
    }
    for (i, rule) in policy.lifetime.rules.iter().enumerate() {
        if rule.statuses.iter().any(|status| *status != 200) {
            review.report(format!("{path}.ttl_rules[{i}].statuses"), MESSAGE);
        }
    }
}

/// What would be accepted and never do anything where no dialect reads the answer, or at all.
pub(super) fn idle(review: &mut Review<'_>, path: &str, policy: &CachePolicy, is_plain: bool) {
    if is_plain && policy.when.finish_reasons.is_some() {
        let message = "has no meaning with dialect: http, whose answers do not say how they ended; \
            use when.answer";
        review.report(format!("{path}.when.finish_reasons"), message);
    }
    for (i, rule) in policy.lifetime.rules.iter().enumerate() {
        let kept = |status: &u16| policy.when.statuses.contains(status);
        if !rule.statuses.is_empty() && !rule.statuses.iter().any(kept) {
            let message = "never fits: when.statuses keeps no answer with any of these";
            review.report(format!("{path}.ttl_rules[{i}].statuses"), message);
        }
    }
}

fn rule(review: &mut Review<'_>, path: &str, raw: RawTtlRule) -> TtlRule {
    let headers = raw.headers.unwrap_or_default().into_iter().map(|(name, value)| {
        (review.header(member(&format!("{path}.headers"), &name), Some(&name)), value)
    });
    let headers = headers.collect();
    TtlRule {
        headers,
        request: values(review, &format!("{path}.request"), raw.request),
        answer: values(review, &format!("{path}.answer"), raw.answer),
        statuses: statuses(review, &format!("{path}.statuses"), raw.statuses.unwrap_or_default()),
        ttl: review.duration_within(
            format!("{path}.ttl"),
            raw.ttl.as_ref(),
            Duration::ZERO,
            Duration::ZERO..=DURATION_MAX,
        ),
    }
}

fn statuses(review: &mut Review<'_>, path: &str, all: Vec<u16>) -> Vec<u16> {
    for (i, status) in all.iter().enumerate() {
        let message = match status {
            206 | 304 => "is part of an answer, and cannot be kept",
            200..=599 => continue,
            _ => "must be a final status, 200 to 599",
        };
        review.report(format!("{path}[{i}]"), format!("{status} {message}"));
    }
    all
}

fn pointer(review: &mut Review<'_>, path: &str, text: &str) {
    if !is_pointer(text) {
        review.report(path, format!("must be {POINTER_IS}, not {}", quoted(text)));
    }
}

fn tests(review: &mut Review<'_>, path: &str, raws: Vec<RawTest>) -> Vec<Test> {
    let mut tests = Vec::new();
    for (i, raw) in raws.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Some(text) = raw.pointer else { continue };
        pointer(review, &format!("{path}.pointer"), &text);
        let wants = match (raw.equals, raw.one_of, raw.exists) {
            (Some(value), None, None) => Wants::OneOf(vec![scalar(value)]),
            (None, Some(values), None) => Wants::OneOf(values.into_iter().map(scalar).collect()),
            (None, None, Some(exists)) => Wants::Exists(exists),
            (None, None, None) if review.is_reported(&path) => continue,
            _ => {
                review.report(path, "must say exactly one of equals, in and exists");
                continue;
            }
        };
        tests.push(Test { pointer: text, wants });
    }
    tests
}

fn values(
    review: &mut Review<'_>,
    path: &str,
    raws: Option<BTreeMap<String, RawScalars>>,
) -> Vec<Test> {
    let mut tests = Vec::new();
    for (text, value) in raws.unwrap_or_default() {
        pointer(review, &member(path, &text), &text);
        let values = match value {
            RawScalars::Bool(word) => vec![Value::from(word)],
            RawScalars::Number(number) => vec![Value::from(number)],
            RawScalars::Text(text) => vec![Value::from(text)],
            RawScalars::OneOf(all) => all.into_iter().map(scalar).collect(),
        };
        if values.is_empty() {
            review.report(member(path, &text), "must be a value or some values");
        }
        tests.push(Test { pointer: text, wants: Wants::OneOf(values) });
    }
    tests
}

fn scalar(raw: RawScalar) -> Value {
    match raw {
        RawScalar::Bool(word) => Value::from(word),
        RawScalar::Number(number) => Value::from(number),
        RawScalar::Text(text) => Value::from(text),
    }
}
