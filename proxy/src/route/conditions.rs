//! `when` and how long: what must hold of a call and its answer, made ready once.
//!
//! What is said of request bodies is found when a body is first known, and remembered with it: a
//! bypass, or a bit for each rule about times that still may fit. What is said of the answer's head
//! is looked at when that comes, and of its body at its end, off the caller's path. Values are
//! compared in their canonical form, so that numbers are compared exactly.

use super::millis;
use http::{HeaderMap, HeaderName, StatusCode, response};
use std::{borrow::Cow, fmt, sync::Arc};
use tollgate_cache::{
    canonical::{Bounds, canonicalise, canonicalise_without},
    entry::Form,
    key::CacheKey,
    omit::Omit,
    pointer::Pointer,
    rfc9111::store::{Times, shared_lifetime_ms},
};
use tollgate_config::{self as config, CachePolicy, KeyPart, KeyPolicy, TTL_RULES_MAX, Wants};
use tollgate_core::{
    dialect::Operation,
    form::{self, RequestFacts},
    usage::writes_text,
};

/// What every dialect takes for one that says none.
const TEMPERATURE_DEFAULT: f64 = 1.0;

/// What holds for a route's answers.
#[derive(Debug)]
pub(crate) struct Conditions {
    temperature_max: Option<f64>,
    n_max: Option<u64>,
    tools: bool,
    finish_reasons: Option<Box<[Box<[u8]>]>>,
    statuses: Box<[u16]>,
    body_bytes_max: Option<u64>,
    request: Box<[Test]>,
    answer: Box<[Test]>,
    ttl_ms: u64,
    /// Of answers that no rule fits, whatever was learned of them.
    ttl_max_ms: u64,
    rules: Box<[TtlRule]>,
    upstream: bool,
    jitter_percent: u8,
    /// Callers of one entry may fit different rules.
    differ: bool,
}

#[derive(Debug)]
struct Test {
    text: Arc<str>,
    pointer: Pointer,
    wants: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// Canonical forms.
    OneOf(Box<[Vec<u8>]>),
    Exists(bool),
}

#[derive(Debug)]
struct TtlRule {
    request: Box<[Test]>,
    answer: Box<[Test]>,
    headers: Box<[(HeaderName, Box<[u8]>)]>,
    statuses: Box<[u16]>,
    ttl_ms: u64,
}

/// Which rules about times may still fit: a bit for each, and one above them for `ttl` itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fitting(u64);

/// What a request is not, that the route wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unmet {
    Temperature {
        asked: f64,
        max: f64,
    },
    Choices {
        asked: u64,
        max: u64,
    },
    Tools,
    Test(Arc<str>),
    /// The rule about times that fits says zero.
    Unkept {
        rule: usize,
    },
}

/// For how long an answer is kept, as far as its head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    fitting: Fitting,
    /// What the upstream allows.
    pub(crate) cap_ms: Option<u64>,
    /// Who brings the answer says for how long instead of the rules.
    pub(crate) said_ms: Option<u64>,
}

impl Unmet {
    /// The closed, short name for `cache-status`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unkept { .. } => "ttl-zero",
            Self::Temperature { .. } | Self::Choices { .. } | Self::Tools | Self::Test(_) => "when",
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Temperature { asked, max } => {
                write!(f, "temperature is {asked}, when.temperature_max {max}")
            }
            Self::Choices { asked, max } => write!(f, "n is {asked}, when.n_max {max}"),
            Self::Tools => f.write_str("it offers tools, when.tools is false"),
            Self::Test(test) => write!(f, "when.request wants {test}"),
            Self::Unkept { rule } => write!(f, "ttl_rules[{rule}] fits and says 0s"),
        }
    }
}

impl Conditions {
    pub(crate) fn new(policy: &CachePolicy) -> Self {
        let (when, lifetime) = (&policy.when, &policy.lifetime);
        let finish = when.finish_reasons.as_ref().map(|words| {
            words.iter().map(|word| canonical(&word.as_str().into()).into()).collect()
        });
        Self {
            temperature_max: when.temperature_max.as_ref().and_then(serde_json::Number::as_f64),
            n_max: when.n_max,
            tools: when.tools,
            finish_reasons: finish,
            statuses: when.statuses.as_slice().into(),
            body_bytes_max: when.body_bytes_max,
            request: tests(&when.request),
            answer: tests(&when.answer),
            ttl_ms: millis(policy.ttl),
            ttl_max_ms: millis(policy.upkeep.adapt.map_or(policy.ttl, |adapt| adapt.max)),
            rules: lifetime.rules.iter().take(TTL_RULES_MAX).map(TtlRule::new).collect(),
            upstream: lifetime.upstream,
            jitter_percent: lifetime.jitter_percent,
            differ: lifetime.rules.iter().any(|rule| is_unbound(rule, &policy.key)),
        }
    }

    /// For how long at most an answer with this status is kept for a caller that fits these rules:
    /// it was perhaps kept by another's. (What its answer says may only make it less.)
    pub(crate) fn allowed_ms(&self, fitting: Fitting, status: u16) -> u64 {
        if !self.differ {
            return u64::MAX;
        }
        let mut longest_ms = 0;
        for (_, rule) in self.fitting(fitting) {
            if rule.statuses.is_empty() || rule.statuses.contains(&status) {
                longest_ms = longest_ms.max(rule.ttl_ms);
                if rule.answer.is_empty() {
                    return longest_ms;
                }
            }
        }
        longest_ms.max(self.ttl_max_ms)
    }

    /// What a request body decides: which rules about times may fit, or why nothing is kept.
    pub(crate) fn of_request(
        &self,
        operation: Operation,
        facts: &RequestFacts<'_>,
        body: &[u8],
    ) -> Result<Fitting, Unmet> {
        let writes = operation == Operation::Other || writes_text(operation);
        if let Some(max) = self.temperature_max.filter(|_| writes) {
            let asked = facts.temperature.unwrap_or(TEMPERATURE_DEFAULT);
            if asked > max {
                return Err(Unmet::Temperature { asked, max });
            }
        }
        if let Some(max) = self.n_max.filter(|_| writes) {
            let asked = facts.n.unwrap_or(1);
            if asked > max {
                return Err(Unmet::Choices { asked, max });
            }
        }
        let reads =
            !self.tools || !self.request.is_empty() || self.rules.iter().any(TtlRule::reads);
        // What has no form is looked at as if nothing were in it.
        let form = reads.then(|| canonicalise(body, &[], Bounds::default()).ok()).flatten();
        let form = form.as_deref().unwrap_or_default();
        if !self.tools && offers_tools(form) {
            return Err(Unmet::Tools);
        }
        if let Some(test) = self.request.iter().find(|test| !test.holds(form)) {
            return Err(Unmet::Test(test.text.clone()));
        }
        let rules = self.rules.iter().enumerate();
        let fitting = rules.filter(|(_, rule)| rule.request.iter().all(|test| test.holds(form)));
        let fitting = Fitting::of(fitting.map(|(place, _)| place));
        match self.fitting(fitting).next() {
            Some((place, rule))
                if rule.ttl_ms == 0 && rule.headers.is_empty() && rule.is_of_request() =>
            {
                Err(Unmet::Unkept { rule: place })
            }
            Some(_) | None => Ok(fitting),
        }
    }

    /// Without the rules that want other fields of the request.
    ///
    /// # Errors
    /// The request says all that the first of them wants, and it says not to keep anything.
    pub(crate) fn of_head(&self, fitting: Fitting, headers: &HeaderMap) -> Result<Fitting, Unmet> {
        let fits = |rule: &TtlRule| {
            rule.headers.iter().all(|(name, value)| {
                headers.get_all(name).iter().any(|line| line.as_bytes() == &**value)
            })
        };
        let mut fitting = self.fitting(fitting).filter(|(_, rule)| fits(rule)).peekable();
        if let Some((rule, first)) = fitting.peek()
            && first.ttl_ms == 0
            && first.is_of_request()
        {
            return Err(Unmet::Unkept { rule: *rule });
        }
        Ok(Fitting::of(fitting.map(|(place, _)| place)))
    }

    pub(crate) fn take(&self, status: StatusCode) -> bool {
        self.statuses.contains(&status.as_u16())
    }

    /// Whether an answer with this head may be kept, and for how long.
    pub(crate) fn of_answer(
        &self,
        fitting: Fitting,
        (asked_ms, now_ms): (u64, u64),
        answer: &response::Parts,
    ) -> Option<Life> {
        let status = answer.status.as_u16();
        if !self.take(answer.status) {
            return None;
        }
        let cap_ms = if self.upstream {
            let times = Times { request_ms: asked_ms, response_ms: now_ms };
            shared_lifetime_ms(&answer.headers, times).ok()?
        } else {
            None
        };
        let fits = |rule: &TtlRule| rule.statuses.is_empty() || rule.statuses.contains(&status);
        let left = self.fitting(fitting).filter(|(_, rule)| fits(rule));
        let fitting = Fitting::of(left.map(|(place, _)| place));
        let life = Life { fitting, cap_ms, said_ms: None };
        (cap_ms != Some(0)).then_some(life)
    }

    /// How many bytes of an answer are worth recording.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
    }

    /// For how many milliseconds the whole answer may be kept; never zero. `adapted` is told what
    /// its rule says, and says what was learned instead.
    ///
    /// # Errors
    /// It may not be kept.
    pub(crate) fn of_body(
        &self,
        life: Life,
        operation: Operation,
        (form, body): (Form, &[u8]),
        key: &CacheKey,
        adapted: impl FnOnce(u64) -> u64,
    ) -> Result<u64, Unkept> {
        if body.len() > self.body_bytes_max() {
            return Err(Unkept::Said);
        }
        let wants_reason = self.finish_reasons.as_ref().filter(|_| writes_text(operation));
        let reads = wants_reason.is_some()
            || !self.answer.is_empty()
            || self.fitting(life.fitting).any(|(_, rule)| !rule.answer.is_empty());
        let answer = reads.then(|| whole_form(operation, form, body, &Omit::default())).flatten();
        let said = answer.as_deref();
        let no = if reads && said.is_none() { Unkept::Unread } else { Unkept::Said };
        if wants_reason.is_some_and(|words| !said.is_some_and(|said| ended_for(said, words))) {
            return Err(no);
        }
        // Of an answer that cannot be read nothing holds, not even that something is not there.
        let holds = |test: &Test| said.is_some_and(|said| test.holds(said));
        if !self.answer.iter().all(holds) {
            return Err(no);
        }
        let mut left = self.fitting(life.fitting).map(|(_, rule)| rule);
        let ttl_ms = if no == Unkept::Unread {
            // Any that would look at it may be the one that is meant, up to the first that need
            // not: the shortest is safe.
            let mut least_ms = u64::MAX;
            loop {
                let Some(rule) = left.next() else { break least_ms.min(self.ttl_ms) };
                least_ms = least_ms.min(rule.ttl_ms);
                if rule.answer.is_empty() {
                    break least_ms;
                }
            }
        } else {
            let rule = left.find(|rule| rule.answer.iter().all(holds));
            rule.map_or(self.ttl_ms, |rule| rule.ttl_ms)
        };
        let ttl_ms = if ttl_ms == 0 { 0 } else { adapted(ttl_ms) };
        let ttl_ms = ttl_ms.min(life.cap_ms.unwrap_or(u64::MAX));
        Some(self.shortened(ttl_ms, key)).filter(|ttl_ms| *ttl_ms > 0).ok_or(no)
    }

    /// By the same for one key every time, and by others for others.
    fn shortened(&self, ttl_ms: u64, key: &CacheKey) -> u64 {
        let [first, second, ..] = *key.as_bytes();
        let share = u128::from(u16::from_le_bytes([first, second]));
        let less = u128::from(ttl_ms) * u128::from(self.jitter_percent) * share / (100 * 65_536);
        ttl_ms.saturating_sub(u64::try_from(less).unwrap_or(0))
    }

    fn fitting(&self, fitting: Fitting) -> impl Iterator<Item = (usize, &TtlRule)> {
        let rules = self.rules.iter().enumerate();
        rules.filter(move |(place, _)| fitting.0 >> place & 1 == 1)
    }

    /// How long an answer will be kept, for people.
    pub(crate) fn explain(&self, fitting: Fitting) -> Vec<String> {
        let mut lines = Vec::new();
        let mut is_decided = false;
        for (place, rule) in self.fitting(fitting) {
            is_decided = rule.answer.is_empty() && rule.statuses.is_empty();
            let length = config::show_duration(std::time::Duration::from_millis(rule.ttl_ms));
            let wants = rule.answer.iter().map(|test| test.text.to_string());
            let statuses = rule.statuses.iter().map(|status| format!("status {status}"));
            let wants = wants.chain(statuses).collect::<Vec<_>>().join(", ");
            let condition =
                if is_decided { String::new() } else { format!(" if the answer fits: {wants}") };
            lines.push(format!("{length} by ttl_rules[{place}]{condition}"));
            if is_decided {
                break;
            }
        }
        if !is_decided {
            let length = config::show_duration(std::time::Duration::from_millis(self.ttl_ms));
            lines.push(format!("{length} by ttl"));
        }
        if self.upstream {
            lines.push("less where the upstream says so, none where it forbids it".to_owned());
        }
        if self.jitter_percent > 0 {
            lines.push(format!("and up to {} % less, by the key", self.jitter_percent));
        }
        lines
    }
}

impl Fitting {
    fn of(places: impl Iterator<Item = usize>) -> Self {
        Self(places.fold(0, |bits, place| bits | 1 << place.min(TTL_RULES_MAX)))
    }
}

impl Test {
    fn holds(&self, form: &[u8]) -> bool {
        let found = self.pointer.find(form);
        match &self.wants {
            Wanted::Exists(exists) => found.is_some() == *exists,
            Wanted::OneOf(values) => found.is_some_and(|found| values.iter().any(|v| v == found)),
        }
    }
}

impl TtlRule {
    fn new(rule: &config::TtlRule) -> Self {
        let headers = rule.headers.iter().filter_map(|(name, value)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.as_bytes().into()))
        });
        Self {
            request: tests(&rule.request),
            answer: tests(&rule.answer),
            headers: headers.collect(),
            statuses: rule.statuses.as_slice().into(),
            ttl_ms: millis(rule.ttl),
        }
    }

    fn reads(&self) -> bool {
        !self.request.is_empty()
    }

    /// The request alone decides.
    fn is_of_request(&self) -> bool {
        self.statuses.is_empty() && self.answer.is_empty()
    }
}

fn tests(tests: &[config::Test]) -> Box<[Test]> {
    let test = |test: &config::Test| {
        let wants = match &test.wants {
            Wants::Exists(exists) => Wanted::Exists(*exists),
            Wants::OneOf(values) => Wanted::OneOf(values.iter().map(canonical).collect()),
        };
        let pointer = Pointer::parse(&test.pointer).ok()?;
        Some(Test { text: test.to_string().into(), pointer, wants })
    };
    tests.iter().filter_map(test).collect()
}

fn canonical(value: &serde_json::Value) -> Vec<u8> {
    let text = value.to_string().into_bytes();
    canonicalise(&text, &[], Bounds::default()).unwrap_or(text)
}

fn offers_tools(form: &[u8]) -> bool {
    ["/tools", "/functions"].iter().any(|text| {
        let found = Pointer::parse(text).ok().and_then(|pointer| pointer.find(form));
        found.is_some_and(|found| !matches!(found, b"null" | b"[]" | b"{}"))
    })
}

/// The canonical form of an answer, or of the one that a stream of it comes to, without what `omit`
/// names.
pub(crate) fn whole_form(
    operation: Operation,
    form: Form,
    body: &[u8],
    omit: &Omit,
) -> Option<Vec<u8>> {
    let whole = match form {
        Form::Whole => Cow::Borrowed(body),
        Form::Stream => Cow::Owned(form::stream_to_read(operation, body)?),
    };
    canonicalise_without(&whole, omit, Bounds::default()).ok()
}

/// Why a whole answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    /// For what it says, is or is long.
    Said,
    /// A condition or a rule would have to read it, and nobody can: a stream that has no whole form.
    Unread,
}

/// Whether a rule looks at something that two callers of one entry may say differently.
fn is_unbound(rule: &config::TtlRule, key: &KeyPolicy) -> bool {
    let of = key.of.iter().flatten();
    let is_in_key = |name: &String| {
        key.include_headers.contains(name)
            || key.versions.iter().any(|version| version.header == *name)
            || of.clone().any(|part| matches!(part, KeyPart::Header(own) if own == name))
    };
    // The form that is wanted leaves the key where there is a converter.
    let is_of_form = |test: &config::Test| test.pointer.starts_with("/stream");
    let may_be_left_out = !key.ignore.is_empty() || key.of.is_some();
    rule.headers.iter().any(|(name, _)| !is_in_key(name))
        || rule.request.iter().any(|test| may_be_left_out || is_of_form(test))
}

/// Whether every choice of an answer ended for one of `words`, wherever its dialect says that.
fn ended_for(answer: &[u8], words: &[Box<[u8]>]) -> bool {
    let find = |text: &str| Pointer::parse(text).ok().and_then(|pointer| pointer.find(answer));
    let lists = [("/choices", "finish_reason"), ("/candidates", "finishReason")];
    let mut reasons: Vec<Option<&[u8]>> = Vec::new();
    for (list, name) in lists {
        let mut place = 0_usize;
        while find(&format!("{list}/{place}")).is_some() {
            reasons.push(find(&format!("{list}/{place}/{name}")));
            place += 1;
        }
    }
    let own = ["/stop_reason", "/done_reason", "/finish_reason", "/details/finish_reason"]
        .iter()
        .filter_map(|at| find(at));
    reasons.extend(own.map(Some));
    if reasons.is_empty() {
        reasons.push(find("/status"));
    }
    let is_wanted = |reason: &[u8]| words.iter().any(|word| **word == *reason);
    reasons.iter().all(|reason| reason.is_some_and(is_wanted))
}

#[cfg(test)]
mod tests;
