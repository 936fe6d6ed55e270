//! What a route's cache rule says about mode http.
//!
//! Mode absent is http for the calls that no dialect knows, so what is only about HTTP is taken
//! there, too.

use crate::{
    CacheMode, Cdn, CdnControl, CdnTags, Heuristic, HttpPolicy, QueryPolicy, SetCookie,
    defaults::{DURATION_MAX, PARAMETER_BYTES_MAX},
    problem::quoted,
    raw::{RawCdn, RawCdnControl, RawCdnTags, RawHeuristicRule, RawQuery, RawSetCookie},
    review::Review,
};
use std::{collections::HashSet, time::Duration};

use super::upstream::is_on;

/// The keys of a cache rule that are about mode http.
pub(super) struct Written {
    pub(super) heuristic: Option<RawHeuristicRule>,
    pub(super) set_cookie: Option<RawSetCookie>,
    pub(super) query: Option<RawQuery>,
    pub(super) cdn: Option<RawCdn>,
}

/// The default where `mode` has no use for it.
pub(super) fn policy(
    review: &mut Review<'_>,
    path: &str,
    mode: CacheMode,
    raw: Written,
) -> HttpPolicy {
    // With a mode that nobody can read, nothing can be said of what goes with it.
    if !review.is_reported(&format!("{path}.mode")) {
        misplaced(review, path, mode, &raw);
    }
    HttpPolicy {
        heuristic: heuristic(review, &format!("{path}.heuristic"), raw.heuristic),
        set_cookie: match raw.set_cookie {
            Some(RawSetCookie::Strip) | None => SetCookie::Strip,
            Some(RawSetCookie::Bypass) => SetCookie::Bypass,
            Some(RawSetCookie::Keep) => SetCookie::Keep,
        },
        query: query(review, &format!("{path}.query"), raw.query.unwrap_or_default()),
        cdn: raw.cdn.map(|raw| cdn(review, &format!("{path}.cdn"), raw)),
    }
}

fn misplaced(review: &mut Review<'_>, path: &str, mode: CacheMode, raw: &Written) {
    let name = mode.name();
    let is_for_http = format!("is of mode http (RFC 9111) and has no meaning in mode {name}");
    if matches!(mode, CacheMode::Http | CacheMode::Auto) {
        return;
    }
    let written = [
        ("heuristic", raw.heuristic.is_some()),
        ("set_cookie", raw.set_cookie.is_some()),
        ("query", raw.query.is_some()),
        ("cdn", raw.cdn.is_some()),
    ];
    for (key, _) in written.iter().filter(|(_, is_written)| *is_written) {
        review.report(format!("{path}.{key}"), &is_for_http);
    }
}

fn cdn(review: &mut Review<'_>, path: &str, raw: RawCdn) -> Cdn {
    let ttl_max = raw.ttl_max.map(|ttl| {
        let range = Duration::from_secs(1)..=DURATION_MAX;
        review.duration_within(format!("{path}.ttl_max"), Some(&ttl), DURATION_MAX, range)
    });
    Cdn {
        control: match raw.control {
            None | Some(RawCdnControl::Targeted) => CdnControl::Targeted,
            Some(RawCdnControl::Surrogate) => CdnControl::Surrogate,
            Some(RawCdnControl::Shared) => CdnControl::Shared,
        },
        tags: raw.tags.map(|tags| match tags {
            RawCdnTags::SurrogateKey => CdnTags::SurrogateKey,
            RawCdnTags::CacheTag => CdnTags::CacheTag,
            RawCdnTags::Xkey => CdnTags::Xkey,
        }),
        ttl_max,
    }
}

fn heuristic(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawHeuristicRule>,
) -> Option<Heuristic> {
    let default = Heuristic::default();
    match raw {
        None => Some(default),
        Some(RawHeuristicRule::Switch(switch)) => is_on(switch).then_some(default),
        Some(RawHeuristicRule::With(raw)) => Some(Heuristic {
            percent: raw.percent.unwrap_or(default.percent),
            max: review.duration(format!("{path}.max"), raw.max.as_ref(), default.max),
            negative: raw.negative.unwrap_or(default.negative),
        }),
    }
}

fn query(review: &mut Review<'_>, path: &str, raw: RawQuery) -> QueryPolicy {
    let ignore = raw.ignore.unwrap_or_default();
    parameters(review, &format!("{path}.ignore"), &ignore);
    parameters(review, &format!("{path}.only"), raw.only.as_deref().unwrap_or_default());
    QueryPolicy { sort: raw.sort.unwrap_or(false), ignore, only: raw.only }
}

fn parameters(review: &mut Review<'_>, path: &str, names: &[String]) {
    let mut seen = HashSet::new();
    for (i, name) in names.iter().enumerate() {
        let message = match parameter_mistake(name) {
            Some(message) => format!("{message}: {}", quoted(name)),
            None if !seen.insert(name) => format!("{name} appears twice"),
            None => continue,
        };
        review.report(format!("{path}[{i}]"), message);
    }
}

/// A name that is not written as calls' queries are, could never match.
fn parameter_mistake(name: &str) -> Option<String> {
    let start = name.strip_suffix('*').unwrap_or(name);
    if name.is_empty() || name.len() > PARAMETER_BYTES_MAX {
        Some(format!("must be the name of a parameter, 1 to {PARAMETER_BYTES_MAX} bytes long"))
    } else if start.contains('*') {
        Some("must have a * only at the end".to_owned())
    } else if !start.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#".contains(&byte)) {
        Some(
            "must be printable ASCII without & = #; write anything else as %XX, as callers do"
                .into(),
        )
    } else {
        None
    }
}
