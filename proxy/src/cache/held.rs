//! What is found under a call's key in content mode: given, given while it is renewed, or held back
//! in case there will be nothing else.

use super::{
    Given,
    answer::{Hit, Wanted},
    http_mode::{Asked, How},
};
use crate::{
    body::Body,
    meter::Call,
    route::{Fitting, Route},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::sync::Arc;
use tollgate_cache::{
    cache_control::RequestControl,
    entry::{Entry, Rule},
    freshness::{Left, RENEWAL_PAUSE_MS, Terms, Trouble, Verdict},
    rfc9111::reuse::Failure,
    tiers::Found,
};

/// Who looks, and what for.
#[derive(Clone, Copy)]
pub(super) struct Looking<'a> {
    pub(super) route: &'a Route,
    pub(super) fitting: Fitting,
    pub(super) wanted: Wanted,
    pub(super) wish: &'a RequestControl,
    /// What would be renewed is not wanted.
    pub(super) only_new: bool,
    /// Nor what was stored then or before.
    pub(super) after_ms: Option<u64>,
    /// What was stored then is at hand: it is not copied to nearer tiers again.
    pub(super) known_ms: Option<u64>,
    pub(super) now_ms: u64,
}

/// What an entry is to who looks.
pub(super) enum Use {
    Given(Hit),
    /// It is given, and this caller begins to renew it.
    Renewed(Hit),
    Held(Found),
    Nothing,
}

impl Use {
    pub(super) fn given(self) -> Option<Hit> {
        match self {
            Self::Given(hit) => Some(hit),
            Self::Renewed(_) | Self::Held(_) | Self::Nothing => None,
        }
    }
}

impl Looking<'_> {
    pub(super) fn at(&self, found: Found) -> Use {
        let Found { ref entry, soft_since_ms, .. } = found;
        if self.after_ms.is_some_and(|after_ms| entry.stored_at_ms <= after_ms) {
            return Use::Nothing;
        }
        let terms = terms(self.route, self.fitting, entry);
        let left = entry.left(soft_since_ms, &terms, self.now_ms);
        let windows = self.route.freshness.windows;
        let (how, renews) = match entry.judge(left, self.wish, windows, self.now_ms) {
            Verdict::Fresh { .. } => (How::Hit, !self.only_new && self.begins_ahead(entry, left)),
            Verdict::Stale { renew, .. } if !(renew && self.only_new) => {
                (How::Stale, renew && self.begins(entry, RENEWAL_PAUSE_MS))
            }
            Verdict::Held if matches!(left, Left::Fresh { .. }) => return Use::Nothing,
            Verdict::Held if windows.longest_ms() == 0 => return Use::Nothing,
            Verdict::Stale { .. } | Verdict::Held => return Use::Held(found),
        };
        match Hit::of(&found, self.wanted, (how, left), self.now_ms) {
            Some(hit) if renews => Use::Renewed(hit),
            Some(hit) => Use::Given(hit),
            None => Use::Nothing,
        }
    }

    /// Tries that fail become more frequent as the end comes nearer.
    fn begins_ahead(&self, entry: &Entry, left: Left) -> bool {
        match left {
            Left::Fresh { for_ms, is_ending: true } => {
                self.begins(entry, RENEWAL_PAUSE_MS.max(for_ms / 4))
            }
            Left::Fresh { .. } | Left::Stale { .. } => false,
        }
    }

    fn begins(&self, entry: &Entry, pause_ms: u64) -> bool {
        match &entry.rule {
            Rule::Timed(times) => times.given.renews(pause_ms, self.now_ms),
            // It was purged softly before its route had any windows.
            Rule::Ttl | Rule::Http(_) | Rule::Variants(_) => true,
        }
    }
}

/// On what terms this caller is given an entry.
pub(super) fn terms(route: &Route, fitting: Fitting, entry: &Entry) -> Terms {
    let allowed_ms = route.conditions.allowed_ms(fitting, entry.status);
    Terms { allowed_ms, ..route.freshness.terms }
}

/// Something past its time, for a caller who may be given it if there is nothing else.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) route: Arc<Route>,
    pub(super) fitting: Fitting,
    pub(super) found: Found,
    pub(super) wanted: Wanted,
    pub(super) wish: RequestControl,
}

impl Held {
    pub(super) fn new(
        found: Found,
        route: &Arc<Route>,
        (fitting, wanted, wish): (Fitting, Wanted, RequestControl),
    ) -> Arc<Self> {
        Arc::new(Self { route: route.clone(), fitting, found, wanted, wish })
    }

    /// What is given in place of this status of the upstream, or of no answer.
    pub(crate) fn instead(&self, trouble: Trouble, status: Option<StatusCode>) -> Option<Hit> {
        let now_ms = super::now_ms();
        let Self { route, fitting, found, wanted, wish } = self;
        let terms = terms(route, *fitting, &found.entry);
        let left = found.entry.left(found.soft_since_ms, &terms, now_ms);
        let windows = route.freshness.windows;
        if !found.entry.stands_in(left, wish, windows, trouble, now_ms) {
            return None;
        }
        let how = match trouble {
            Trouble::Upstream => How::Instead(status),
            Trouble::Shed => How::Degraded,
        };
        Hit::of(found, *wanted, (how, left), now_ms)
    }

    /// What is given in place of an answer with this status.
    pub(crate) fn instead_of_status(&self, status: StatusCode) -> Option<Hit> {
        if is_trouble(status) { self.instead(Trouble::Upstream, Some(status)) } else { None }
    }
}

/// It says nothing of what was asked, only that the upstream cannot answer now (RFC 5861 §4).
pub(super) fn is_trouble(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What a caller is given of what is held.
#[derive(Debug)]
pub(crate) enum Instead {
    Given(Given),
    Hit(Hit),
}

impl Instead {
    /// The record, then the answer.
    pub(crate) fn serve(self, call: Call) -> Response<Body> {
        match self {
            Self::Given(given) => given.serve(call),
            Self::Hit(hit) => hit.serve(call),
        }
    }

    /// Writes the call's record.
    pub(crate) fn book(&self, call: Call) {
        match self {
            Self::Given(given) => given.book(call),
            Self::Hit(hit) => hit.book(call),
        }
    }

    /// The answer, where the record was written by who asked the upstream.
    pub(crate) fn respond(&self) -> Response<Body> {
        match self {
            Self::Given(given) => given.respond(),
            Self::Hit(hit) => hit.clone().respond(),
        }
    }

    pub(crate) fn body(&self) -> &Bytes {
        match self {
            Self::Given(given) => given.body(),
            Self::Hit(hit) => &hit.entry().body,
        }
    }

    /// Others who asked the same are told the same: that each is to give what it holds itself.
    pub(crate) fn is_leaders_own(&self) -> bool {
        match self {
            Self::Given(given) => given.is_degraded(),
            Self::Hit(hit) => !hit.is_of_upstream(),
        }
    }
}

/// What there is for a call, should the upstream have nothing.
#[derive(Clone, Debug)]
pub(crate) enum Spare {
    /// And for how long past its time it is given in place of being shed, in milliseconds.
    Asked(Arc<Asked>, u64),
    Held(Arc<Held>),
}

impl Spare {
    /// What its caller is given in place of a failure, if that is allowed.
    pub(crate) fn instead_of(&self, trouble: Trouble) -> Option<Instead> {
        match (self, trouble) {
            (Self::Held(held), trouble) => held.instead(trouble, None).map(Instead::Hit),
            (Self::Asked(asked, _), Trouble::Upstream) => {
                asked.instead_of_nothing(Failure::Unreachable).map(Instead::Given)
            }
            (Self::Asked(asked, window_ms), Trouble::Shed) => {
                let failure = Failure::Shed { window_ms: *window_ms };
                asked.instead_of_nothing(failure).map(Instead::Given)
            }
        }
    }
}
