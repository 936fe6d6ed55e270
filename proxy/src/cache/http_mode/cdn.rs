//! Whether a CDN before us is told anything of the answer to a call by URL.
//!
//! Only of what everybody is given: not where the operator says who tenants are, nor of a call with
//! credentials, even if RFC 9111 would let its answer be shared. What it is told is for
//! [`tollgate_cache::rfc9111::cdn`] to say.

use super::bound;
use crate::route::{Route, millis};
use http::{HeaderMap, HeaderName};
use tollgate_cache::{
    key::Scope,
    rfc9111::{
        cdn::{Control, Telling},
        request::{Kind, Request},
        store::Stored,
    },
};
use tollgate_config::{Cdn, CdnControl};

/// What it is told of the answers to one call.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    telling: Telling,
    /// What services choose by in silence, as far as this call says it.
    depends: Box<[HeaderName]>,
}

impl Told {
    /// `None`: nothing.
    pub(super) fn of(
        route: &Route,
        headers: &HeaderMap,
        request: &Request,
        scope: Scope<'_>,
    ) -> Option<Box<Self>> {
        let rule = route.config.cache.http.cdn.as_ref()?;
        let reads = matches!(request.kind, Kind::Get | Kind::Head);
        if !reads || scope != Scope::Shared || request.authorized {
            return None;
        }
        let depends = bound::chosen_by().filter(|name| headers.contains_key(*name));
        Some(Box::new(Self { telling: telling(rule), depends: depends.cloned().collect() }))
    }

    /// Says it in the head of an answer that lacks a part of `whole`, the head it was kept with.
    pub(super) fn say_of_part(
        &self,
        of: (&mut HeaderMap, &HeaderMap),
        stored: &Stored,
        tags: &[Box<str>],
        now_ms: u64,
    ) {
        self.telling.say_of_part(of, stored, tags, &self.depends, now_ms);
    }

    /// Says it in the head of an answer.
    pub(super) fn say(
        &self,
        headers: &mut HeaderMap,
        stored: &Stored,
        tags: &[Box<str>],
        now_ms: u64,
    ) {
        self.telling.say(headers, stored, tags, &self.depends, now_ms);
    }
}

fn telling(rule: &Cdn) -> Telling {
    Telling {
        control: match rule.control {
            CdnControl::Targeted => Control::Targeted,
            CdnControl::Surrogate => Control::Surrogate,
            CdnControl::Shared => Control::Shared,
        },
        tags: rule.tags.map(|tags| (HeaderName::from_static(tags.name()), tags.separator())),
        held_max_ms: rule.ttl_max.map(millis),
    }
}
