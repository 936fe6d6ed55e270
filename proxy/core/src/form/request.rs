//! What Tollgate must know of a model request before it can decide anything.
//!
//! One pass that borrows from the body and skips what it does not need without
//! building it. A member of the wrong type counts as absent: judging requests is
//! the provider's business, and its error is better than ours. Of members that come
//! twice the last one counts here; the cache does not key such a body at all.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::dialect::Operation;

/// The longest model name that is kept, in bytes; a longer one counts as absent.
pub const MODEL_LEN_MAX: usize = 128;

/// The facts of one request, borrowed from its body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts<'a> {
    /// As the caller wrote it, at most [`MODEL_LEN_MAX`] bytes.
    pub model: Option<Cow<'a, str>>,
    /// The caller wants a stream.
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
    Ok(RequestFacts {
        not_pure: members
            .kept
            .why_not_pure(operation)
            .or((!form_is_clear).then_some(NotPure::Form)),
        model: members.model.string().filter(|model| model.len() <= MODEL_LEN_MAX),
        stream: members.stream.is_true(),
        include_usage: options.is_some_and(|options| options.include_usage),
        temperature: members.temperature.number(),
        n: members.n.count(),
        max_tokens: members.max_tokens.into_iter().find_map(|bound| bound.count()),
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
    kept: Kept,
}

/// Which members that point at something the provider keeps are there.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    previous_response: bool,
    conversation: bool,
    background: bool,
}

impl Kept {
    fn why_not_pure(self, operation: Operation) -> Option<NotPure> {
        if !operation.is_pure() {
            return Some(NotPure::Operation);
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
                // Of the wrong type they still may mean something to the provider.
                "previous_response_id" => {
                    members.kept.previous_response = !map.next_value::<Loose<'_>>()?.is_null();
                }
                "conversation" => {
                    members.kept.conversation = !map.next_value::<Loose<'_>>()?.is_null();
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

/// A member's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(LooseVisitor)
            .map(|name| Self(name.string().unwrap_or_default()))
    }
}

/// A value of any type, as far as we look into values.
#[derive(Clone, Debug, Default)]
enum Loose<'a> {
    /// Or absent.
    #[default]
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(Cow<'a, str>),
    Object(Nested<'a>),
    Array,
}

/// What we look for inside of members.
#[derive(Clone, Debug)]
struct Nested<'a> {
    include_usage: bool,
    /// `include_usage` is a boolean, or not there.
    form_is_clear: bool,
    user_id: Option<Cow<'a, str>>,
}

impl<'a> Loose<'a> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    fn string(self) -> Option<Cow<'a, str>> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    fn object(self) -> Option<Nested<'a>> {
        if let Self::Object(nested) = self { Some(nested) } else { None }
    }

    fn integer(self) -> Option<i64> {
        if let Self::Integer(number) = self { i64::try_from(number).ok() } else { None }
    }

    fn count(self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(number).ok() } else { None }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(number),
            // Whoever writes a larger whole number does not mean a temperature.
            Self::Integer(number) => i32::try_from(number).ok().map(f64::from),
            Self::Null | Self::Bool(_) | Self::String(_) | Self::Object(_) | Self::Array => None,
        }
    }
}

impl<'de> Deserialize<'de> for Loose<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Loose::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Loose::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Loose::Integer(i128::from(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Loose::Integer(i128::from(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Loose::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Loose::String(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Loose::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut nested = Nested { include_usage: false, form_is_clear: true, user_id: None };
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "include_usage" => {
                    let wanted = map.next_value::<Loose<'_>>()?;
                    nested.include_usage = wanted.is_true();
                    nested.form_is_clear = matches!(wanted, Loose::Null | Loose::Bool(_));
                }
                "user_id" => nested.user_id = map.next_value::<Loose<'_>>()?.string(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Loose::Object(nested))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(operation: Operation, body: &str) -> RequestFacts<'_> {
        read_request(operation, body.as_bytes()).unwrap()
    }

    #[test]
    fn the_facts_of_a_chat_are_read() {
        let body = r#"{"model":"gpt-5","messages":[{"role":"user","content":"stream"}],"n":2,
            "stream":true,"stream_options":{"x":[1],"include_usage":true},"temperature":0,
            "max_tokens":7,"max_completion_tokens":5,"user":"ann","priority":-3,
            "service_tier":"flex","tools":[{"a":{"b":[{}]}}]}"#;
        let expected = RequestFacts {
            model: Some("gpt-5".into()),
            stream: true,
            include_usage: true,
            temperature: Some(0.0),
            n: Some(2),
            max_tokens: Some(5),
            user: Some("ann".into()),
            priority: Some(-3),
            service_tier: Some("flex".into()),
            not_pure: None,
        };
        let facts = read(Operation::OpenAiChat, body);
        assert_eq!(facts, expected);
        assert!(matches!(facts.model, Some(Cow::Borrowed(_))), "no copy where none is needed");
    }

    #[test]
    fn the_user_of_a_message_is_in_its_metadata() {
        let body = r#"{"user":"no","metadata":{"user_id":"bob"},"max_tokens":9,"temperature":0.5}"#;
        let facts = read(Operation::AnthropicMessages, body);
        assert_eq!((facts.user.as_deref(), facts.max_tokens), (Some("bob"), Some(9)));
        assert_eq!(facts.temperature, Some(0.5));
        assert_eq!(read(Operation::OpenAiChat, body).user.as_deref(), Some("no"));
    }

    #[test]
    fn a_member_of_the_wrong_type_counts_as_absent() {
        let body = r#"{"model":{"a":1},"stream":"true","stream_options":[{"include_usage":true}],
            "temperature":"0","n":1.5,"max_tokens":-1,"max_output_tokens":8,"user":7,
            "priority":99999999999999999999,"service_tier":false,"metadata":"x"}"#;
        let expected = RequestFacts {
            max_tokens: Some(8),
            not_pure: Some(NotPure::Form),
            ..RequestFacts::default()
        };
        assert_eq!(read(Operation::OpenAiChat, body), expected);
    }

    #[test]
    fn a_name_written_with_escapes_is_the_same_name() {
        let facts = read(Operation::OpenAiChat, r#"{"mod\u0065l":"g\u0070t","stream":true}"#);
        assert_eq!((facts.model.as_deref(), facts.stream), (Some("gpt"), true));
    }

    #[test]
    fn a_model_longer_than_the_bound_counts_as_absent() {
        for (len, kept) in [(MODEL_LEN_MAX, true), (MODEL_LEN_MAX + 1, false)] {
            let body = format!(r#"{{"model":"{}"}}"#, "m".repeat(len));
            assert_eq!(read(Operation::OpenAiChat, &body).model.is_some(), kept);
        }
    }

    #[test]
    fn a_response_that_goes_on_from_a_kept_one_is_not_pure() {
        for (body, reason) in [
            (r#"{"previous_response_id":"r"}"#, Some(NotPure::PreviousResponse)),
            (r#"{"previous_response_id":5}"#, Some(NotPure::PreviousResponse)),
            (r#"{"conversation":{"id":"c"}}"#, Some(NotPure::Conversation)),
            (r#"{"background":true}"#, Some(NotPure::Background)),
            (r#"{"background":false,"conversation":null,"previous_response_id":null}"#, None),
            (r#"{"store":true}"#, None),
        ] {
            assert_eq!(read(Operation::OpenAiResponses, body).not_pure, reason, "{body}");
            assert_eq!(read(Operation::OpenAiChat, body).not_pure, None, "{body}");
            let other = read(Operation::Other, body);
            assert_eq!((other.not_pure, other.is_pure()), (Some(NotPure::Operation), false));
        }
    }

    #[test]
    fn whoever_asks_for_a_form_in_the_wrong_type_is_kept_from_the_cache() {
        for (body, expected) in [
            (r#"{"stream":"true"}"#, Some(NotPure::Form)),
            (r#"{"stream":1}"#, Some(NotPure::Form)),
            (r#"{"stream_options":"x"}"#, Some(NotPure::Form)),
            (r#"{"stream_options":{"include_usage":"true"}}"#, Some(NotPure::Form)),
            (r#"{"stream":null,"stream_options":null}"#, None),
            (r#"{"stream":false,"stream_options":{"include_usage":null}}"#, None),
            (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
        ] {
            assert_eq!(read(Operation::OpenAiChat, body).not_pure, expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_an_error() {
        for body in ["", "[]", "1", "\"a\"", "{", "{}{}", "{\"model\":}", "\u{feff}{}"] {
            assert!(read_request(Operation::OpenAiChat, body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(read_request(Operation::OpenAiChat, &bytes).is_err());
        }
    }
}
