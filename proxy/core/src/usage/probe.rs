//! The few members of an answer that say what it used and how it ended.
//!
//! One typed shape for all dialects, whole bodies and single events alike. It
//! must read whatever a server sends: every leaf takes any JSON value and keeps
//! only what it understands, so that a string where a number belongs costs that
//! number and not the whole answer. Texts are cut at 128 bytes; what is not named
//! here is skipped without being kept.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

const TEXT_LEN_MAX: usize = 128;

/// Members around what a model says that are not said by it.
const LABELS: [&str; 9] = [
    "type",
    "id",
    "role",
    "status",
    "object",
    "call_id",
    "item_id",
    "signature",
    "thoughtSignature",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Probe {
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) object: Text,
    pub(super) model: Text,
    pub(super) service_tier: Text,
    pub(super) status: Text,
    pub(super) stop_reason: Text,
    pub(super) error: Option<IgnoredAny>,
    pub(super) usage: Object<Counts>,
    pub(super) choices: Objects<Choice>,
    /// Anthropic: `message_delta`. (A text in a Responses event: then none.)
    pub(super) delta: Object<Delta>,
    /// Anthropic: `message_start`.
    pub(super) message: Object<Inner>,
    /// Responses: every event about the response as a whole.
    pub(super) response: Object<Inner>,
    /// Anthropic messages.
    pub(super) content: Weight,
    /// Responses.
    pub(super) output: Weight,
    /// Embeddings.
    pub(super) data: Filled,
    /// Moderations, rerank.
    pub(super) results: Filled,
    /// Anthropic `count_tokens`.
    pub(super) input_tokens: Count,
}

/// The answer inside of an event about it. A type of its own, and not another
/// `Probe`, so that nested JSON does not nest on our stack.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Inner {
    pub(super) model: Text,
    pub(super) service_tier: Text,
    pub(super) status: Text,
    pub(super) error: Option<IgnoredAny>,
    pub(super) output: Weight,
    pub(super) usage: Object<Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    pub(super) index: Count,
    pub(super) finish_reason: Text,
    /// Completions.
    pub(super) text: Weight,
    pub(super) message: Object<Delta>,
    pub(super) delta: Object<Delta>,
}

/// What a model said, whole (`message`) or in part (`delta`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta {
    content: Weight,
    reasoning_content: Weight,
    reasoning: Weight,
    refusal: Weight,
    tool_calls: Weight,
    function_call: Weight,
    audio: Weight,
    pub(super) stop_reason: Text,
}

/// A `usage` object of any dialect; see `normal` for what the names mean.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub(super) prompt_tokens: Count,
    pub(super) completion_tokens: Count,
    pub(super) total_tokens: Count,
    pub(super) input_tokens: Count,
    pub(super) output_tokens: Count,
    pub(super) prompt_tokens_details: Object<Details>,
    pub(super) input_tokens_details: Object<Details>,
    pub(super) completion_tokens_details: Object<Details>,
    pub(super) output_tokens_details: Object<Details>,
    pub(super) prompt_cache_hit_tokens: Count,
    pub(super) cache_read_input_tokens: Count,
    pub(super) cache_creation_input_tokens: Count,
    pub(super) cache_creation: Object<CacheCreation>,
    pub(super) service_tier: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) cached_tokens: Count,
    pub(super) cache_write_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) reasoning_tokens: Count,
    pub(super) thinking_tokens: Count,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CacheCreation {
    pub(super) ephemeral_5m_input_tokens: Count,
    pub(super) ephemeral_1h_input_tokens: Count,
}

/// A number of tokens; none where it is missing, null or no whole number ≥ 0.
/// An explicit zero is `Some(0)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count(pub(super) Option<u64>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Option<String>);

/// An object of a known shape; none for anything else.
#[derive(Clone, Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

/// A list of such objects; empty for anything else.
#[derive(Clone, Debug)]
pub(super) struct Objects<T>(pub(super) Vec<T>);

/// The bytes of all texts in a value, however deep, without the [`LABELS`]: a
/// `{"type":"text","text":""}` says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight(pub(super) u64);

/// A list with something in it. The items are skipped: an embedding is a
/// thousand numbers that nobody here looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled(pub(super) bool);

/// `true`; anything else is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

impl Probe {
    /// The one JSON value in `json`; none if it is not one (or not an object).
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Object<Self>>(json).ok()?.0
    }

    /// An error in place of an answer, however the dialect says it.
    pub(super) fn is_error(&self) -> bool {
        self.error.is_some()
            || self.kind.is("error")
            || self.object.is("error")
            || self.choices.0.iter().any(|choice| choice.finish_reason.is("error"))
    }

    /// The bytes of what the model said in this body or event.
    pub(super) fn weight(&self) -> u64 {
        let choices = self.choices.0.iter().map(Choice::weight);
        choices.fold(self.content.0.saturating_add(self.output.0), u64::saturating_add)
    }
}

impl Choice {
    fn weight(&self) -> u64 {
        let said =
            [&self.message, &self.delta].map(|part| part.0.as_ref().map_or(0, Delta::weight));
        said.into_iter().fold(self.text.0, u64::saturating_add)
    }
}

impl Delta {
    fn weight(&self) -> u64 {
        let parts = [
            self.content,
            self.reasoning_content,
            self.reasoning,
            self.refusal,
            self.tool_calls,
            self.function_call,
            self.audio,
        ];
        parts.into_iter().fold(0, |sum, Weight(bytes)| sum.saturating_add(bytes))
    }
}

impl Counts {
    /// Takes every number that `later` has: running totals replace each other,
    /// field by field, and are never added.
    pub(super) fn replace_with(&mut self, later: Self) {
        self.prompt_tokens.replace_with(later.prompt_tokens);
        self.completion_tokens.replace_with(later.completion_tokens);
        self.total_tokens.replace_with(later.total_tokens);
        self.input_tokens.replace_with(later.input_tokens);
        self.output_tokens.replace_with(later.output_tokens);
        self.prompt_cache_hit_tokens.replace_with(later.prompt_cache_hit_tokens);
        self.cache_read_input_tokens.replace_with(later.cache_read_input_tokens);
        self.cache_creation_input_tokens.replace_with(later.cache_creation_input_tokens);
        self.prompt_tokens_details.replace_with(later.prompt_tokens_details);
        self.input_tokens_details.replace_with(later.input_tokens_details);
        self.completion_tokens_details.replace_with(later.completion_tokens_details);
        self.output_tokens_details.replace_with(later.output_tokens_details);
        self.cache_creation.replace_with(later.cache_creation);
        if later.service_tier.0.is_some() {
            self.service_tier = later.service_tier;
        }
    }

    /// The object says anything about tokens. (`"usage":{}` does not.)
    pub(super) fn has_any(&self) -> bool {
        [
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_input_tokens,
        ]
        .iter()
        .any(|count| count.0.is_some())
    }
}

impl Count {
    pub(super) fn or_zero(self) -> u64 {
        self.0.unwrap_or(0)
    }

    pub(super) fn replace_with(&mut self, later: Self) {
        self.0 = later.0.or(self.0);
    }
}

impl<T> Object<T> {
    fn replace_with(&mut self, later: Self) {
        if later.0.is_some() {
            self.0 = later.0;
        }
    }
}

impl Text {
    pub(super) fn is(&self, text: &str) -> bool {
        self.0.as_deref() == Some(text)
    }

    pub(super) fn is_filled(&self) -> bool {
        self.0.as_deref().is_some_and(|text| !text.is_empty())
    }

    /// The text, unless it is empty.
    pub(super) fn filled(self) -> Option<String> {
        self.0.filter(|text| !text.is_empty())
    }
}

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// What a leaf makes of each kind of JSON value. Whatever it does not override
/// is read to its end and is the default.
pub(super) trait Leaf: Sized + Default {
    fn truth(_: bool) -> Self {
        Self::default()
    }

    fn number(_: u64) -> Self {
        Self::default()
    }

    fn float(_: f64) -> Self {
        Self::default()
    }

    fn text(_: &str) -> Self {
        Self::default()
    }

    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn map<'de, A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl Leaf for Count {
    fn number(value: u64) -> Self {
        Self(Some(value))
    }
}

impl Leaf for Flag {
    fn truth(value: bool) -> Self {
        Self(value)
    }
}

impl Leaf for Text {
    fn text(value: &str) -> Self {
        let mut end = value.len().min(TEXT_LEN_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        Self(value.get(..end).map(str::to_owned))
    }
}

impl<T: for<'de> Deserialize<'de>> Leaf for Object<T> {
    fn map<'de, A: MapAccess<'de>>(members: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(|object| Self(Some(object)))
    }
}

impl<T: for<'de> Deserialize<'de>> Leaf for Objects<T> {
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut objects = Vec::new();
        while let Some(Object(item)) = items.next_element::<Object<T>>()? {
            objects.extend(item);
        }
        Ok(Self(objects))
    }
}

impl Leaf for Weight {
    fn text(value: &str) -> Self {
        Self(u64::try_from(value.len()).unwrap_or(u64::MAX))
    }

    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut sum = 0_u64;
        while let Some(Self(bytes)) = items.next_element()? {
            sum = sum.saturating_add(bytes);
        }
        Ok(Self(sum))
    }

    fn map<'de, A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        let mut sum = 0_u64;
        while let Some((name, Self(bytes))) = members.next_entry::<Text, Self>()? {
            if !name.0.is_some_and(|name| LABELS.contains(&name.as_str())) {
                sum = sum.saturating_add(bytes);
            }
        }
        Ok(Self(sum))
    }
}

impl Leaf for Filled {
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut filled = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            filled = true;
        }
        Ok(Self(filled))
    }
}

struct LeafVisitor<L>(PhantomData<L>);

impl<'de, L: Leaf> Visitor<'de> for LeafVisitor<L> {
    type Value = L;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<L, E> {
        Ok(L::truth(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<L, E> {
        Ok(L::number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<L, E> {
        Ok(u64::try_from(value).map_or_else(|_| L::default(), L::number))
    }

    fn visit_f64<E>(self, value: f64) -> Result<L, E> {
        Ok(L::float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<L, E> {
        Ok(L::text(value))
    }

    fn visit_unit<E>(self) -> Result<L, E> {
        Ok(L::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<L, A::Error> {
        L::list(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<L, A::Error> {
        L::map(members)
    }
}

pub(super) fn leaf<'de, L: Leaf, D: Deserializer<'de>>(value: D) -> Result<L, D::Error> {
    value.deserialize_any(LeafVisitor(PhantomData))
}

/// Reads leaves by what they make of each kind of value.
macro_rules! impl_leaf {
    ($($leaf:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $leaf {
            fn deserialize<D: serde::Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
                $crate::usage::probe::leaf(value)
            }
        }
    )+};
}

pub(super) use impl_leaf;

impl_leaf!(Count, Text, Weight, Filled, Flag);

impl<'de, T: for<'any> Deserialize<'any>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        leaf(value)
    }
}

impl<'de, T: for<'any> Deserialize<'any>> Deserialize<'de> for Objects<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        leaf(value)
    }
}
