//! TGI's answers, as far as they say what was used and how they ended.
//!
//! They say it only to who asks for `details`, and how long the input was only in a
//! stream's last event, or in the head of a whole answer. Shapes: text-generation-inference
//! `router/src/lib.rs`, `GenerateResponse` and `StreamResponse`.

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess};

use super::probe::{Count, Flag, Leaf, Object, Objects, Weight};
use super::reason;
use super::said::{Said, Tally};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    token: Object<Token>,
    generated_text: Told,
    details: Object<Details>,
    error: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Token {
    text: Weight,
    special: Flag,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    generated_tokens: Count,
    input_length: Count,
    prefill: Length,
}

/// The bytes of a text; none for what is none.
#[derive(Clone, Copy, Debug, Default)]
struct Told(Option<u64>);

/// Of a list.
#[derive(Clone, Copy, Debug, Default)]
struct Length(u64);

impl Leaf for Told {
    fn text(value: &str) -> Self {
        Self(Some(u64::try_from(value.len()).unwrap_or(u64::MAX)))
    }
}

impl Leaf for Length {
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut items_n = 0_u64;
        while items.next_element::<IgnoredAny>()?.is_some() {
            items_n = items_n.saturating_add(1);
        }
        Ok(Self(items_n))
    }
}

super::probe::impl_leaf!(Told, Length);

pub(super) fn read(json: &[u8]) -> Option<Said> {
    serde_json::from_slice::<Object<Answer>>(json).ok()?.0.map(|answer| said(&answer))
}

/// A whole answer that is a list of one, or an error.
pub(super) fn read_list(json: &[u8]) -> Option<Said> {
    if json.trim_ascii_start().starts_with(b"{") {
        return read(json);
    }
    match serde_json::from_slice::<Objects<Answer>>(json).ok()?.0.as_slice() {
        [answer] => Some(said(answer)),
        _ => None,
    }
}

fn said(answer: &Answer) -> Said {
    let details = answer.details.0.as_ref();
    let of = |read: fn(&Details) -> Option<u64>| Count(details.and_then(read));
    let token = answer.token.0.as_ref();
    // A stream's last event has all of its text again.
    let weight = match token {
        Some(token) if token.special.0 => 0,
        Some(token) => token.text.0,
        None => answer.generated_text.0.unwrap_or(0),
    };
    Said {
        tally: Tally {
            input: of(|details| {
                let prefill = Some(details.prefill.0).filter(|tokens| *tokens > 0);
                details.input_length.0.or(prefill)
            }),
            output: of(|details| details.generated_tokens.0),
            ..Tally::default()
        },
        weight,
        has_answer: weight > 0,
        is_delta: token.is_some(),
        seen: 1,
        ended: u64::from(answer.generated_text.0.is_some()),
        fault: answer.error.is_some().then_some(reason::ERROR),
        model: None,
    }
}
