//! How routes find the classes of calls.

use super::{no_such, route::Known};
use crate::{
    ClaimedIn, ClassRule, ClassSource, Config, Says, Trust, defaults,
    problem::{member, quoted},
    raw::{RawClaimedIn, RawClassRule, RawClassSource},
    review::Review,
};
use std::{cmp::Reverse, collections::BTreeMap};
use tollgate_core::class::ClassId;

const MEMBER_BYTES_MAX: usize = 128;

type Names = Option<BTreeMap<String, String>>;

pub(super) fn rule(
    review: &mut Review<'_>,
    path: &str,
    raw: RawClassRule,
    known: &Known<'_>,
) -> ClassRule {
    if raw.map.is_none() && raw.tenants.is_none() && raw.sources.is_none() {
        review.report(path, "says no class: give it map, tenants or sources");
    }
    if raw.map.is_none() && raw.header.is_some() {
        review.report(format!("{path}.header"), "needs map: from a word of it to a class");
    }
    let header = raw.map.is_some().then(|| {
        let header = raw.header.as_deref().unwrap_or(defaults::CLASS_HEADER);
        review.header(format!("{path}.header"), Some(header))
    });
    let sources = raw.sources.into_iter().flatten().enumerate();
    ClassRule {
        tenants: named(review, &format!("{path}.tenants"), raw.tenants, known),
        header,
        map: named(review, &format!("{path}.map"), raw.map, known),
        sources: sources
            .map(|(i, raw)| source(review, &format!("{path}.sources[{i}]"), raw, known))
            .collect(),
        trust: raw.trust.map_or(Trust::Anyone, Trust::Only),
        ceiling: raw.ceiling.map(|name| class(review, format!("{path}.ceiling"), &name, known)),
        ceilings: named(review, &format!("{path}.ceilings"), raw.ceilings, known),
    }
}

fn class(review: &mut Review<'_>, path: String, name: &str, known: &Known<'_>) -> ClassId {
    match known.classes.iter().find(|class| class.name == name) {
        Some(class) => class.id,
        None => {
            let names = known.classes.iter().map(|class| class.name.as_str());
            review.report(path, no_such("class", name, names));
            ClassId::default()
        }
    }
}

fn named(
    review: &mut Review<'_>,
    path: &str,
    raw: Names,
    known: &Known<'_>,
) -> Vec<(String, ClassId)> {
    let words = raw.into_iter().flatten();
    words
        .map(|(word, name)| {
            let class = class(review, member(path, &word), &name, known);
            (word, class)
        })
        .collect()
}

fn source(
    review: &mut Review<'_>,
    path: &str,
    raw: RawClassSource,
    known: &Known<'_>,
) -> ClassSource {
    let from = from(review, path, raw.from, raw.name.as_deref());
    let written = [raw.map.is_some(), raw.at_least.is_some(), raw.at_most.is_some()];
    if written.iter().filter(|is_written| **is_written).count() != 1 {
        review.report(path, "needs one of map (words), at_least and at_most (numbers)");
    }
    let says = if let Some(steps) = raw.at_least {
        let mut steps = numbered(review, &format!("{path}.at_least"), steps, known);
        steps.sort_by_key(|(number, _)| Reverse(*number));
        Says::AtLeast(steps)
    } else if let Some(steps) = raw.at_most {
        let mut steps = numbered(review, &format!("{path}.at_most"), steps, known);
        steps.sort_by_key(|(number, _)| *number);
        Says::AtMost(steps)
    } else {
        let mut words = named(review, &format!("{path}.map"), raw.map, known);
        // Of two that a path begins with the longer is meant.
        words.sort_by_key(|(word, _)| Reverse(word.len()));
        Says::Words(words)
    };
    goes_that_way(review, path, &from, &says);
    ClassSource { from, says }
}

fn from(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawClaimedIn>,
    name: Option<&str>,
) -> ClaimedIn {
    let from = match raw.unwrap_or(RawClaimedIn::Path) {
        RawClaimedIn::Header => {
            return ClaimedIn::Header(review.header(format!("{path}.name"), name));
        }
        RawClaimedIn::Body => {
            let name = name.unwrap_or_default();
            if name.is_empty() || name.len() > MEMBER_BYTES_MAX {
                let message = format!(
                    "must be the name of a member of the body, of at most {MEMBER_BYTES_MAX} bytes"
                );
                review.report(format!("{path}.name"), message);
            }
            return ClaimedIn::Body(name.to_owned());
        }
        RawClaimedIn::Path => ClaimedIn::Path,
        RawClaimedIn::User => ClaimedIn::User,
        RawClaimedIn::Tier => ClaimedIn::Tier,
        RawClaimedIn::Project => ClaimedIn::Project,
        RawClaimedIn::Business => ClaimedIn::Business,
    };
    if name.is_some() {
        review.report(format!("{path}.name"), "is for from: header and from: body");
    }
    from
}

fn numbered(
    review: &mut Review<'_>,
    path: &str,
    raw: BTreeMap<String, String>,
    known: &Known<'_>,
) -> Vec<(i64, ClassId)> {
    let mut steps = Vec::new();
    for (number, name) in raw {
        let path = member(path, &number);
        match number.parse() {
            Ok(step) => steps.push((step, class(review, path, &name, known))),
            Err(_) => {
                review.report(path, format!("must be a whole number, not {}", quoted(&number)))
            }
        }
    }
    steps
}

/// What others have agreed on is not turned around by a slip of the pen.
fn goes_that_way(review: &mut Review<'_>, path: &str, from: &ClaimedIn, says: &Says) {
    let wanted = match from {
        ClaimedIn::Header(name) => match name.as_str() {
            "x-dynamo-request-priority" => "at_least",
            "priority" => "at_most",
            "x-priority" | "x-llm-d-inference-objective" | "x-gateway-inference-objective" => "map",
            _ => return,
        },
        ClaimedIn::Body(name) => match name.as_str() {
            "priority" => "at_most",
            "service_tier" => "map",
            _ => return,
        },
        ClaimedIn::Path => "map",
        ClaimedIn::User | ClaimedIn::Tier | ClaimedIn::Project | ClaimedIn::Business => return,
    };
    let written = match says {
        Says::Words(map) => {
            let is_path = |word: &str| *from != ClaimedIn::Path || word.starts_with('/');
            for (word, _) in map.iter().filter(|(word, _)| !is_path(word)) {
                review.report(member(&format!("{path}.map"), word), "must be a path: /v1/batches");
            }
            "map"
        }
        Says::AtLeast(_) => "at_least",
        Says::AtMost(_) => "at_most",
    };
    if written != wanted {
        let what = from.name().unwrap_or(from.kind());
        let why = match wanted {
            "at_least" => "a number of which more is more urgent",
            "at_most" => "a number of which less is more urgent",
            _ => "a word",
        };
        review.report(format!("{path}.{written}"), format!("{what} is {why}: use {wanted}"));
    }
}

/// Sources that can say nothing.
pub(super) fn idle(review: &mut Review<'_>, config: &Config) {
    let identity = &config.identity;
    for (i, route) in config.routes.iter().enumerate() {
        for (k, source) in route.class.sources.iter().enumerate() {
            let is_set = match &source.from {
                ClaimedIn::User => identity.user.is_some(),
                ClaimedIn::Tier => identity.tier.is_some(),
                ClaimedIn::Project => identity.project.is_some(),
                ClaimedIn::Business => identity.business.is_some(),
                ClaimedIn::Header(_) | ClaimedIn::Body(_) | ClaimedIn::Path => true,
            };
            if !is_set {
                let message = format!("says nothing: identity.{} is not set", source.from.kind());
                review.advise(format!("routes[{i}].class.sources[{k}]"), message);
            }
        }
    }
}
