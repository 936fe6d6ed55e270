//! What a body was found to ask, and its share of the key.
//!
//! Found once: a byte-identical repeat is recognised by its digest and never parsed again. What is
//! found depends on the operation it was read for and on the route's own rules, so it is remembered
//! under these, too; of a body that no dialect knows, also on the `content-type` it came with.

use crate::route::{Conditions, Fitting, KeyRule, Unmet};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header, request};
use memchr::memmem;
use std::{borrow::Cow, sync::Arc};
use tollgate_cache::{key::BodyDigest, memo::RawDigest, share::NoShare};
use tollgate_core::{
    dialect::{Framing, Operation},
    form::{self, RequestFacts},
    items::bare_as_list,
};

/// What a body was found to ask.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its share of the key, or why it has none.
    pub(super) digest: Result<BodyDigest, &'static str>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) framing: Framing,
    /// How many tokens its answer may have, as it says.
    pub(crate) output_max: Option<u64>,
    /// Where the path is form too: the path without it.
    pub(super) key_path: Option<Arc<str>>,
    /// The caller asked for usage in its stream.
    pub(crate) include_usage: bool,
    /// Which of the route's rules about times may fit.
    pub(super) fitting: Fitting,
    /// What the route wants of a request, and this one is not.
    pub(crate) unmet: Option<Unmet>,
}

/// What of a question is not in its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    pub(super) operation: Operation,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    /// The caller takes server-sent events, where that makes a difference.
    pub(super) takes_events: bool,
}

/// A body to be known, and what it is read by.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) address: Address<'a>,
    pub(super) rule: &'a KeyRule,
    pub(super) conditions: &'a Conditions,
    pub(super) headers: &'a HeaderMap,
    pub(super) bytes: &'a Bytes,
}

impl Known {
    /// Held against what the route wants.
    fn held_against(mut self, asked: &Asked<'_>, facts: &RequestFacts<'_>) -> Self {
        match asked.conditions.of_request(asked.address.operation, facts, asked.bytes) {
            Ok(fitting) => self.fitting = fitting,
            Err(unmet) => {
                self.digest = self.digest.and(Err(unmet.reason()));
                self.unmet = Some(unmet);
            }
        }
        self
    }
}

impl<'a> Address<'a> {
    pub(super) fn of(operation: Operation, path: &'a str, head: &'a request::Parts) -> Self {
        let takes_events = operation.asks_accept() && takes_events(&head.headers);
        Self { operation, path, query: head.uri.query(), takes_events }
    }

    fn framing(&self, stream: bool) -> Framing {
        let framing = self.operation.framing(self.path, self.query, stream);
        self.operation.framing_accepted(framing, self.takes_events)
    }

    fn model(&self) -> Option<&str> {
        let model = self.operation.model_in_path(self.path);
        model.filter(|model| model.len() <= form::MODEL_LEN_MAX)
    }

    /// What is known without the body.
    pub(super) fn unread(&self) -> Known {
        Known {
            digest: Err("body-too-large"),
            model: self.model().map(Arc::from),
            framing: self.framing(false),
            output_max: None,
            key_path: None,
            include_usage: false,
            fitting: Fitting::default(),
            unmet: None,
        }
    }

    /// Of a call that is not cached by what it asks.
    pub(super) fn unkeyed(&self, bytes: &Bytes) -> Known {
        match form::read_request(self.operation, bytes) {
            Ok(facts) => self.read(Err("not-pure"), &facts),
            Err(_) => Known { digest: Err("not-json"), ..self.unread() },
        }
    }

    fn read(&self, digest: Result<BodyDigest, &'static str>, facts: &RequestFacts<'_>) -> Known {
        let key_path = match self.operation.key_path(self.path) {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(Arc::from(path)),
        };
        Known {
            digest,
            model: self.model().or(facts.model.as_deref()).map(Arc::from),
            framing: self.framing(facts.stream),
            output_max: facts.max_tokens,
            key_path,
            include_usage: facts.include_usage,
            ..self.unread()
        }
    }
}

impl Asked<'_> {
    /// What the body is recognised by.
    pub(super) fn raw(&self) -> RawDigest {
        if self.address.operation == Operation::Other {
            return RawDigest::of_kind(self.kind().as_deref(), self.bytes);
        }
        RawDigest::of(self.bytes)
    }

    /// What is found in it depends on the operation it was read for and on the route's rules, and
    /// on the path where that says the model or the form.
    pub(super) fn context(&self) -> u64 {
        let Address { operation, path, takes_events, .. } = self.address;
        let form = if takes_events {
            operation_context(operation) + 1
        } else {
            operation_context(operation)
        };
        let context = self.rule.context | form;
        if !operation.is_said_in_path() {
            return context;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&context.to_le_bytes());
        // The query says the form only.
        hasher.update(self.address.framing(false).content_type().as_bytes());
        hasher.update(path.as_bytes());
        let digest = hasher.finalize();
        u64::from_le_bytes(digest.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    pub(super) fn know(&self) -> Known {
        let Self { address, rule, bytes, .. } = *self;
        let operation = address.operation;
        if operation == Operation::Other {
            let digest = rule.share.of_any(self.kind().as_deref(), bytes);
            let known = Known { digest: digest.map_err(NoShare::reason), ..address.unread() };
            // Whose model and stream are nobody's here still may say how warm its answer is to be.
            let facts = form::read_request(operation, bytes).unwrap_or_default();
            return known.held_against(self, &facts);
        }
        let Ok(facts) = form::read_request(operation, bytes) else {
            return Known { digest: Err("not-json"), ..address.unread() };
        };
        if !facts.is_pure() {
            return address.read(Err("not-pure"), &facts);
        }
        // Where no converter makes one form of the other, they are two questions.
        let is_stream = address.framing(facts.stream).is_stream();
        let own = [u8::from(is_stream), u8::from(facts.include_usage)];
        let own = if operation.has_converter() { &[][..] } else { &own };
        let omit = rule.without(operation.form_members());
        let bytes = &*bare_as_list(operation, bytes);
        let digest = rule.share.of_json(bytes, &omit, own);
        address.read(digest.map_err(NoShare::reason), &facts).held_against(self, &facts)
    }

    /// The `content-type`; of several lines none is one that is understood.
    fn kind(&self) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.headers.get_all(header::CONTENT_TYPE).iter();
        let first = lines.next()?.as_bytes();
        let rest: Vec<&[u8]> = lines.map(HeaderValue::as_bytes).collect();
        if rest.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        Some(Cow::Owned([&[first], &*rest].concat().join(b", ".as_slice())))
    }
}

/// It names their type; a weight of 0 nobody gives to what it names. `accepts` is how the one API
/// that asks writes it; who writes it as everybody does can read them, too.
fn takes_events(headers: &HeaderMap) -> bool {
    let of = |name| headers.get_all(name).iter();
    let mut lines = of(header::ACCEPT).chain(of(HeaderName::from_static("accepts")));
    lines.any(|line| memmem::find(line.as_bytes(), b"text/event-stream").is_some())
}

/// A number for every operation, for good.
fn operation_context(operation: Operation) -> u64 {
    match operation {
        Operation::OpenAiChat => 1,
        Operation::OpenAiCompletions => 2,
        Operation::OpenAiResponses => 3,
        Operation::OpenAiEmbeddings => 4,
        Operation::OpenAiModerations => 5,
        Operation::OpenAiRerank => 6,
        Operation::AnthropicMessages => 7,
        Operation::AnthropicCountTokens => 8,
        Operation::Other => 9,
        Operation::GeminiGenerate => 10,
        Operation::GeminiCountTokens => 11,
        Operation::GeminiEmbed => 12,
        Operation::OllamaChat => 13,
        Operation::OllamaGenerate => 14,
        Operation::OllamaEmbed => 15,
        Operation::CohereChat => 16,
        Operation::CohereEmbed => 17,
        Operation::CohereRerank => 18,
        Operation::TgiGenerate => 19,
        Operation::TgiRoot => 20,
        // And 22, for who takes events.
        Operation::CohereChatV1 => 21,
    }
}
