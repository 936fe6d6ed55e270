//! JSON values of whatever type, borrowed from the body, as far as a request's facts need.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member's name, borrowed where it has no escapes.
pub(super) struct Name<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(LooseVisitor)
            .map(|name| Self(name.string().unwrap_or_default()))
    }
}

/// A value of any type, as far as we look into values.
#[derive(Clone, Debug, Default)]
pub(super) enum Loose<'a> {
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
pub(super) struct Nested<'a> {
    pub(super) include_usage: bool,
    /// `include_usage` is a boolean, or not there.
    pub(super) form_is_clear: bool,
    pub(super) user_id: Option<Cow<'a, str>>,
    /// Of a dialect's object of settings; `None` too where it is of the wrong type.
    pub(super) temperature: Option<f64>,
    pub(super) n: Option<u64>,
    pub(super) max_tokens: Option<u64>,
}

impl<'a> Loose<'a> {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub(super) fn object(self) -> Option<Nested<'a>> {
        if let Self::Object(nested) = self { Some(nested) } else { None }
    }

    pub(super) fn integer(self) -> Option<i64> {
        if let Self::Integer(number) = self { i64::try_from(number).ok() } else { None }
    }

    pub(super) fn count(self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(number).ok() } else { None }
    }

    pub(super) fn number(self) -> Option<f64> {
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
        let mut nested = Nested {
            include_usage: false,
            form_is_clear: true,
            user_id: None,
            temperature: None,
            n: None,
            max_tokens: None,
        };
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "include_usage" => {
                    let wanted = map.next_value::<Loose<'_>>()?;
                    nested.include_usage = wanted.is_true();
                    nested.form_is_clear = matches!(wanted, Loose::Null | Loose::Bool(_));
                }
                "user_id" => nested.user_id = map.next_value::<Loose<'_>>()?.string(),
                "temperature" => nested.temperature = map.next_value::<Loose<'_>>()?.number(),
                "candidateCount" | "candidate_count" | "best_of" => {
                    nested.n = map.next_value::<Loose<'_>>()?.count();
                }
                "maxOutputTokens" | "max_output_tokens" | "num_predict" | "max_new_tokens" => {
                    nested.max_tokens = map.next_value::<Loose<'_>>()?.count();
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Loose::Object(nested))
    }
}
