//! What Tollgate must know of a model request before it can decide anything.
//!
//! One pass that borrows from the body and skips what it does not need without
//! building it. A member of the wrong type counts as absent: judging requests is
//! the provider's business, and its error is better than ours. Of members that come
//! twice the last one counts here; the cache does not key such a body at all.

mod loose;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;

use self::loose::{Loose, Name};
use crate::dialect::{Dialect, Operation};

/// The longest model name that is kept, in bytes; a longer one counts as absent.
pub const MODEL_LEN_MAX: usize = 128;

/// The facts of one request, borrowed from its body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts<'a> {
    /// As the caller wrote it, at most [`MODEL_LEN_MAX`] bytes.
    pub model: Option<Cow<'a, str>>,
    /// The caller wants a stream, as far as the body says it (see `Operation::framing`).
    pub stream: bool,
    /// The caller asked for usage in its stream.
    pub include_usage: bool,
    pub temperature: Option<f64>,
    /// How many choices.
    pub n: Option<u64>,
    /// The bound on output tokens, by whichever of its names.
    pub max_tokens: Option<u64>,
    /// Whom the caller asks for: `user`, of Anthropic `metadata.user_id`.
    pub user: Option<Cow<'a, str>>,
    /// Lower is more urgent.
    pub priority: Option<i64>,
    pub service_tier: Option<Cow<'a, str>>,
    /// Why the answer depends on more than what is asked, if it does.
    pub not_pure: Option<NotPure>,
}

impl RequestFacts<'_> {
    /// The answer may come from a cache.
    pub fn is_pure(&self) -> bool {
        self.not_pure.is_none()
    }
}

/// Why an answer depends on more than what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPure {
    /// No call that its dialect lists as pure.
    Operation,
    /// It goes on from a response that the provider keeps.
    PreviousResponse,
    /// It goes on with a conversation that the provider keeps.
    Conversation,
    /// Its answer is a receipt.
    Background,
    /// It asks about content that the provider keeps.
    KeptContent,
    /// Which form it wants is said in a type that its dialect does not have.
    Form,
}

/// The body is no JSON object.
#[derive(Debug, Error)]
#[error("the request body is not a JSON object")]
pub struct NotJson(#[source] serde_json::Error);

/// Reads what matters of the request `body` of a call for `operation`.
///
/// # Errors
/// [`NotJson`] if it is not one JSON object.
pub fn read_request(operation: Operation, body: &[u8]) -> Result<RequestFacts<'_>, NotJson> {
    let members: Members<'_> = serde_json::from_slice(body).map_err(NotJson)?;
    let is_anthropic =
        matches!(operation, Operation::AnthropicMessages | Operation::AnthropicCountTokens);
    let metadata_user = members.metadata.object().and_then(|metadata| metadata.user_id);
    let form_is_clear = matches!(members.stream, Loose::Null | Loose::Bool(_))
        && match &members.stream_options {
            Loose::Null => true,
            Loose::Object(options) => options.form_is_clear,
            Loose::Bool(_)
            | Loose::Integer(_)
            | Loose::Float(_)
            | Loose::String(_)
            | Loose::Array => false,
        };
    let options = members.stream_options.object();
    let user = members.user.string();
    let [gemini, ollama, tgi] = members.settings;
    let settings = match operation.dialect() {
        Dialect::Gemini => gemini.object(),
        Dialect::Ollama => ollama.object(),
        Dialect::Tgi => tgi.object(),
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Cohere | Dialect::Http => None,
    };
    let settings = settings.as_ref();
    // What these servers do not read decides nothing: they take no sampling parameter beside the
    // object of them (Ollama's ChatRequest and GenerateRequest, TGI's GenerateRequest).
    let is_beside = matches!(operation.dialect(), Dialect::Ollama | Dialect::Tgi);
    let top = |number: Option<f64>| number.filter(|_| !is_beside);
    // Ollama streams unless it is told not to.
    let streams_unasked = matches!(operation, Operation::OllamaChat | Operation::OllamaGenerate)
        && members.stream.is_null();
    Ok(RequestFacts {
        not_pure: members
            .kept
            .why_not_pure(operation)
            .or((!form_is_clear).then_some(NotPure::Form)),
        model: members.model.string().filter(|model| model.len() <= MODEL_LEN_MAX),
        stream: members.stream.is_true() || streams_unasked,
        include_usage: options.is_some_and(|options| options.include_usage),
        temperature: top(members.temperature.number())
            .or_else(|| settings.and_then(|settings| settings.temperature)),
        n: members
            .n
            .count()
            .filter(|_| !is_beside)
            .or_else(|| settings.and_then(|settings| settings.n)),
        max_tokens: members
            .max_tokens
            .into_iter()
            .find_map(Loose::count)
            .or_else(|| settings.and_then(|settings| settings.max_tokens)),
        user: if is_anthropic { metadata_user } else { user },
        priority: members.priority.integer(),
        service_tier: members.service_tier.string(),
    })
}

/// The members that matter, of whatever type they are.
#[derive(Default)]
struct Members<'a> {
    model: Loose<'a>,
    stream: Loose<'a>,
    stream_options: Loose<'a>,
    temperature: Loose<'a>,
    n: Loose<'a>,
    /// By preference: `max_completion_tokens`, `max_tokens`, `max_output_tokens`.
    max_tokens: [Loose<'a>; 3],
    user: Loose<'a>,
    metadata: Loose<'a>,
    priority: Loose<'a>,
    service_tier: Loose<'a>,
    /// Where a dialect keeps its settings: Gemini, Ollama, TGI.
    settings: [Loose<'a>; 3],
    kept: Kept,
}

/// Which members that point at something the provider keeps are there.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    previous_response: bool,
    conversation: bool,
    conversation_id: bool,
    background: bool,
    content: bool,
}

impl Kept {
    fn why_not_pure(self, operation: Operation) -> Option<NotPure> {
        if !operation.is_pure() {
            return Some(NotPure::Operation);
        }
        if operation.dialect() == Dialect::Gemini && self.content {
            return Some(NotPure::KeptContent);
        }
        if operation == Operation::CohereChatV1 && self.conversation_id {
            return Some(NotPure::Conversation);
        }
        // Elsewhere these are members like any other, and part of the key.
        if operation != Operation::OpenAiResponses {
            return None;
        }
        if self.previous_response {
            Some(NotPure::PreviousResponse)
        } else if self.conversation {
            Some(NotPure::Conversation)
        } else if self.background {
            Some(NotPure::Background)
        } else {
            None
        }
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let [max_completion_tokens, max_tokens, max_output_tokens] = &mut members.max_tokens;
        let [gemini, ollama, tgi] = &mut members.settings;
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "model" => members.model = map.next_value()?,
                "stream" => members.stream = map.next_value()?,
                "stream_options" => members.stream_options = map.next_value()?,
                "temperature" => members.temperature = map.next_value()?,
                "n" => members.n = map.next_value()?,
                "max_completion_tokens" => *max_completion_tokens = map.next_value()?,
                "max_tokens" => *max_tokens = map.next_value()?,
                "max_output_tokens" => *max_output_tokens = map.next_value()?,
                "user" => members.user = map.next_value()?,
                "metadata" => members.metadata = map.next_value()?,
                "priority" => members.priority = map.next_value()?,
                "service_tier" => members.service_tier = map.next_value()?,
                "generationConfig" | "generation_config" => *gemini = map.next_value()?,
                "options" => *ollama = map.next_value()?,
                "parameters" => *tgi = map.next_value()?,
                // Of the wrong type they still may mean something to the provider.
                "previous_response_id" => {
                    members.kept.previous_response = !map.next_value::<Loose<'_>>()?.is_null();
                }
                "cachedContent" | "cached_content" => {
                    members.kept.content = !map.next_value::<Loose<'_>>()?.is_null();
                }
                "conversation" => {
                    members.kept.conversation = !map.next_value::<Loose<'_>>()?.is_null();
                }
                "conversation_id" => {
                    members.kept.conversation_id = !map.next_value::<Loose<'_>>()?.is_null();
                }
                "background" => {
                    let background: Loose<'_> = map.next_value()?;
                    members.kept.background =
                        !matches!(background, Loose::Null | Loose::Bool(false));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
