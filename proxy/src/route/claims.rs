//! Which class a call is of: who asks, then what it claims where the route looks for that, and never
//! above its caller's ceiling.
//!
//! The order is the route's: the tenant, the header of words, the sources as they are written. The
//! first that says a class counts. What says none that the route knows, or is said by who is not
//! believed, is counted and taken as not said.
//!
//! **Invariant:** nobody becomes more important by saying more: of several lines of one header the least
//! important claim counts, and one that is not known is of the default class.

use super::Route;
use crate::{identity::Caller, metrics::ClaimOutcome};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, fmt};
use tollgate_config::{self as config, ClaimedIn, ClassRule, Says};
use tollgate_core::class::ClassId;

/// RFC 9218.
const PRIORITY: &str = "priority";

/// The headers of a rule, made ready.
#[derive(Debug)]
pub(super) struct Headers {
    words: Option<HeaderName>,
    /// One for each source; `None`: it is no header.
    sources: Box<[Option<HeaderName>]>,
}

/// A call, as far as it may say its class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) caller: &'a Caller,
    /// Normalised.
    pub(crate) path: &'a str,
    /// Its peer is believed: of others the headers that claim anything are gone already.
    pub(crate) is_trusted: bool,
    /// `None`: not read yet, or not to its end.
    pub(crate) body: Option<&'a [u8]>,
}

/// The class of a call, and how it came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classed {
    pub(crate) class: ClassId,
    pub(crate) by: By,
    /// Its caller may be of no more important one.
    pub(crate) is_lowered: bool,
    /// Something was claimed that the route does not know.
    is_unknown: bool,
    /// Something was claimed by who is not believed.
    is_untrusted: bool,
}

/// What has said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Nothing,
    Tenant,
    Header,
    /// The source at that place of the route's.
    Source(usize),
}

impl Headers {
    pub(super) fn new(rule: &ClassRule) -> Self {
        let parse = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        let header = |source: &config::ClassSource| match &source.from {
            ClaimedIn::Header(name) => parse(name),
            ClaimedIn::Body(_)
            | ClaimedIn::Path
            | ClaimedIn::User
            | ClaimedIn::Tier
            | ClaimedIn::Project
            | ClaimedIn::Business => None,
        };
        Self {
            words: rule.header.as_deref().and_then(parse),
            sources: rule.sources.iter().map(header).collect(),
        }
    }
}

impl<'a> Claimant<'a> {
    pub(crate) fn new(
        headers: &'a HeaderMap,
        caller: &'a Caller,
        path: &'a str,
        is_trusted: bool,
    ) -> Self {
        Self { headers, caller, path, is_trusted, body: None }
    }

    /// With its body, as far as that is held.
    pub(crate) fn with_body(self, body: Option<&'a [u8]>) -> Self {
        Self { body, ..self }
    }
}

impl Classed {
    /// What is counted of it: nothing, where nothing was claimed.
    pub(crate) fn outcomes(self) -> impl Iterator<Item = ClaimOutcome> {
        let is_claimed = matches!(self.by, By::Header | By::Source(_));
        let obeyed = if self.is_lowered { ClaimOutcome::Lowered } else { ClaimOutcome::Obeyed };
        let counted = [
            (is_claimed, obeyed),
            (self.is_unknown, ClaimOutcome::Unknown),
            (self.is_untrusted, ClaimOutcome::Untrusted),
        ];
        counted.into_iter().filter(|(is_so, _)| *is_so).map(|(_, outcome)| outcome)
    }
}

impl Route {
    /// Whether a call's body may say its class.
    pub(crate) fn claims_in_body(&self) -> bool {
        self.config.class.reads_body()
    }

    /// The class of a call.
    pub(crate) fn classed(&self, call: &Claimant<'_>) -> Classed {
        let (rule, default) = (&self.config.class, self.classes.default_class());
        let mut classed = Classed {
            class: default,
            by: By::Nothing,
            is_lowered: false,
            is_unknown: false,
            is_untrusted: false,
        };
        let tenant = call.caller.tenant.as_str();
        let by_tenant = rule.tenants.iter().find(|(name, _)| name == tenant);
        let said = match by_tenant {
            Some((_, class)) => Some((*class, By::Tenant)),
            None => self.claimed(call, &mut classed),
        };
        if let Some((class, by)) = said {
            (classed.class, classed.by) = (class, by);
        }
        if let Some(ceiling) = rule.ceiling_of(tenant).filter(|ceiling| classed.class < *ceiling) {
            (classed.class, classed.is_lowered) = (ceiling, true);
        }
        classed
    }

    fn claimed(&self, call: &Claimant<'_>, classed: &mut Classed) -> Option<(ClassId, By)> {
        let rule = &self.config.class;
        let is_believed = rule.trust.believes(call.caller.tenant.as_str());
        if let Some(name) = &self.class_headers.words {
            let words = call.headers.get_all(name).iter().map(|value| {
                let word = value.to_str().ok()?;
                rule.map.iter().find(|(known, _)| known == word).map(|(_, class)| *class)
            });
            if let Some(class) = self.least(words, is_believed, classed) {
                return Some((class, By::Header));
            }
        }
        let sources = rule.sources.iter().zip(&self.class_headers.sources).enumerate();
        for (place, (source, header)) in sources {
            let found = match (&source.from, header) {
                (ClaimedIn::Header(_), Some(name)) => {
                    let values = call.headers.get_all(name).iter();
                    let values = values.map(|value| source.says.class(&in_header(name, value)?));
                    self.least(values, is_believed, classed)
                }
                (ClaimedIn::Body(name), _) => {
                    let word = call.body.and_then(|body| in_body(body, name));
                    let said = word.iter().map(|word| source.says.class(word));
                    self.least(said, is_believed && call.is_trusted, classed)
                }
                (ClaimedIn::Path, _) => source.says.class_of_path(call.path),
                (ClaimedIn::User, _) => of_caller(&call.caller.user, &source.says, classed),
                (ClaimedIn::Tier, _) => of_caller(&call.caller.tier, &source.says, classed),
                (ClaimedIn::Project, _) => of_caller(&call.caller.project, &source.says, classed),
                (ClaimedIn::Business, _) => of_caller(&call.caller.business, &source.says, classed),
                (ClaimedIn::Header(_), None) => None,
            };
            if let Some(class) = found {
                return Some((class, By::Source(place)));
            }
        }
        None
    }

    /// The least important of several claims, of which those that are not known are of the default
    /// class. `None`: nothing that is known was said.
    fn least(
        &self,
        said: impl Iterator<Item = Option<ClassId>>,
        is_believed: bool,
        classed: &mut Classed,
    ) -> Option<ClassId> {
        let default = self.classes.default_class();
        let (mut least, mut is_known) = (None, false);
        for claim in said {
            if !is_believed {
                classed.is_untrusted = true;
                return None;
            }
            is_known |= claim.is_some();
            classed.is_unknown |= claim.is_none();
            least = least.max(Some(claim.unwrap_or(default)));
        }
        least.filter(|_| is_known)
    }
}

fn of_caller(value: &Option<HeaderValue>, says: &Says, classed: &mut Classed) -> Option<ClassId> {
    let class = says.class(value.as_ref()?.to_str().ok()?);
    classed.is_unknown |= class.is_none();
    class
}

/// What a header says, as it is looked up.
fn in_header<'a>(name: &HeaderName, value: &'a HeaderValue) -> Option<Cow<'a, str>> {
    let text = value.to_str().ok()?;
    if name.as_str() != PRIORITY {
        return Some(Cow::Borrowed(text));
    }
    // `u=1, i`: of members that are repeated the last counts (RFC 8941 §3.2).
    let mut members = text.split(',').filter_map(|member| member.trim().strip_prefix("u="));
    let urgency = members.next_back()?.split(';').next()?;
    Some(Cow::Borrowed(urgency.trim()))
}

/// The word or whole number that a member of a JSON object has; the last, if it is there twice.
fn in_body(body: &[u8], name: &str) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_map(Members(name)).ok().flatten()
}

/// Reads past everything but one member.
struct Members<'a>(&'a str);

/// A value, if it is a word or a whole number.
struct Word;

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            if name == self.0 {
                found = members.next_value_seed(Word)?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

impl<'de> DeserializeSeed<'de> for Word {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Word {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, word: &str) -> Result<Self::Value, E> {
        Ok(Some(word.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_a_body_the_last_such_member_of_the_object_itself_is_read() {
        let word = |body: &str| in_body(body.as_bytes(), "priority");
        assert_eq!(word(r#"{"a":{"priority":9},"priority":-3}"#).as_deref(), Some("-3"));
        assert_eq!(word(r#"{"priority":1,"priority":"flex"}"#).as_deref(), Some("flex"));
        assert_eq!(word(r#"{"p\u0072iority":7}"#).as_deref(), Some("7"), "however it is spelt");
        for nothing in ["", "[]", "null", "{", r#"{"priority":[1]}"#, r#"{"priority":1.5}"#] {
            assert_eq!(word(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn of_the_priority_header_its_urgency_is_read() {
        let said = |text: &'static str| {
            let (name, value) = (HeaderName::from_static(PRIORITY), HeaderValue::from_static(text));
            in_header(&name, &value).map(Cow::into_owned)
        };
        for (text, urgency) in [("u=1", "1"), ("i, u=5", "5"), ("u=5, u=2;x", "2")] {
            assert_eq!(said(text).as_deref(), Some(urgency), "{text}");
        }
        assert_eq!((said("i"), said("")), (None, None));
    }

    proptest! {
        #[test]
        fn foreign_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = in_body(&body, "priority");
        }
    }
}
