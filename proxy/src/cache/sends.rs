//! Which fields of a call's head the upstream sees, where its route forwards only what is keyed.
//!
//! What reaches the upstream, could change its answer and is in no key lets one caller make the
//! answer of another (decision 0031). A route that says `forward: keyed` is kept from that by
//! construction: two calls with one key are sent with one head, whatever their callers say. What is
//! sent is what the key was made of, who the scope is, and what is the same in every call; only the
//! `traceparent` tells calls apart, which has no room for anything but digits.
//!
//! Calls that are not kept go on as they came.

use super::{
    Mode, Question,
    bound::{self, is_plain_json},
    question::OwnedScope,
};
use crate::identity::is_empty_credential;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::sync::Arc;
use tollgate_core::dialect::Operation;

const AGENT: HeaderValue = HeaderValue::from_static("tollgate");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// What says on whose behalf, or for which call, this is asked.
static WHOSE: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-request-id")];

/// The fields that go on; by default all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sends(Option<Arc<[HeaderName]>>);

impl Question {
    pub(crate) fn forwards_all(&self) -> bool {
        self.route.keyed_only.is_none()
    }

    /// What of its call's head may be sent.
    pub(crate) fn sends(&self) -> Sends {
        let Some(identity) = &self.route.keyed_only else { return Sends::default() };
        let mut names: Vec<HeaderName> = self.headers.keys().cloned().collect();
        if self.mode == Mode::Http {
            names.extend(bound::chosen_by().cloned());
            names.push(header::HOST);
        }
        match self.scope {
            OwnedScope::Shared => {}
            OwnedScope::Tenant | OwnedScope::User(_) => {
                names.extend(self.credentials.iter().chain(&identity.tenant).cloned());
            }
        }
        if matches!(self.scope, OwnedScope::User(_)) {
            names.extend(identity.user.clone());
        }
        Sends(Some(names.into()))
    }
}

impl Sends {
    /// Leaves of a head what may be sent, before ours is added.
    pub(crate) fn keep(&self, headers: &mut HeaderMap, operation: Operation) {
        let Some(names) = &self.0 else { return };
        // Calls about the same in JSON have one key, however they say that it is JSON.
        let reads = operation != Operation::Other;
        let says_json = !headers.contains_key(header::CONTENT_TYPE) || is_plain_json(headers);
        let is_kept =
            |name: &HeaderName| names.contains(name) && !is_empty_credential(headers, name);
        let others = headers.keys().filter(|name| !is_kept(name));
        for name in others.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        if reads && says_json {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        headers.insert(header::USER_AGENT, AGENT);
    }

    /// Takes out what we say of a call's caller.
    pub(crate) fn unname(&self, headers: &mut HeaderMap) {
        if self.0.is_some() {
            for name in &WHOSE {
                headers.remove(name);
            }
        }
    }
}
