//! Faults on request: the words of magic by which a call says how it wants to be
//! failed. The table is in the [module above](super).

use http::StatusCode;

/// A way to answer badly, or oddly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of this status, shaped as the dialect shapes it.
    Fail(StatusCode),
    /// The connection closes after `cut_after` events, or half a body.
    CutMidstream,
    /// `content-length` promises more than comes.
    CutLength,
    /// 200, and then an error instead of the rest.
    ErrorEvent,
    /// The answer ends by the provider's filter.
    ContentFilter,
    /// An answer without content.
    Empty,
    /// No usage, also if asked for.
    NoUsage,
    /// Half of the input from the prompt cache (and of the Anthropic input an
    /// eighth written to it), half of the output reasoning.
    CachedUsage,
    /// The head comes after `slow_head`.
    SlowHead,
    /// The head never comes.
    Hang,
    /// After `cut_after` events nothing comes any more.
    Stall,
    /// The connection closes before the head.
    Reset,
    /// A clean end of the body, but not of the answer.
    Unfinished,
    /// Something that is no JSON where JSON should be.
    BadJson,
}

/// A fault with the suffixes of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Magic {
    pub(super) fault: Fault,
    /// Only the first time this question is asked.
    pub(super) once: bool,
    /// What `x-should-retry` says.
    pub(super) should_retry: Option<bool>,
}

impl From<Fault> for Magic {
    fn from(fault: Fault) -> Self {
        Self { fault, once: false, should_retry: None }
    }
}

impl Magic {
    /// Reads one word, `None` if it is none of the table's.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (word, once) = match word.strip_suffix("-once") {
            Some(rest) => (rest, true),
            None => (word, false),
        };
        let (word, should_retry) = if let Some(rest) = word.strip_suffix("-final") {
            (rest, Some(false))
        } else if let Some(rest) = word.strip_suffix("-retry") {
            (rest, Some(true))
        } else {
            (word, None)
        };
        let fault = Fault::parse(word)?;
        Some(Self { fault, once, should_retry })
    }

    /// Splits `gpt-4o-mini+fail-429` into the model to name and its magic. A name
    /// that is all magic stays the name.
    pub(super) fn of_model(model: &str) -> (&str, Option<Self>) {
        if let Some(magic) = Self::parse(model) {
            return (model, Some(magic));
        }
        if let Some((name, word)) = model.rsplit_once('+')
            && let Some(magic) = Self::parse(word)
        {
            return (name, Some(magic));
        }
        (model, None)
    }
}

impl Fault {
    fn parse(word: &str) -> Option<Self> {
        if let Some(status) = word.strip_prefix("fail-") {
            let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
            let is_error = status.is_client_error() || status.is_server_error();
            return is_error.then_some(Self::Fail(status));
        }
        Some(match word {
            "cut-midstream" => Self::CutMidstream,
            "cut-length" => Self::CutLength,
            "error-event" => Self::ErrorEvent,
            "content-filter" => Self::ContentFilter,
            "empty" => Self::Empty,
            "no-usage" => Self::NoUsage,
            "cached-usage" => Self::CachedUsage,
            "slow-head" => Self::SlowHead,
            "hang" => Self::Hang,
            "stall" => Self::Stall,
            "reset" => Self::Reset,
            "unfinished" => Self::Unfinished,
            "bad-json" => Self::BadJson,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_magic_is_read_from_a_model_with_or_without_a_name_before_it() {
        let (name, magic) = Magic::of_model("gpt-4o-mini+fail-429-final-once");
        assert_eq!(name, "gpt-4o-mini");
        let wanted = Magic {
            fault: Fault::Fail(StatusCode::TOO_MANY_REQUESTS),
            once: true,
            should_retry: Some(false),
        };
        assert_eq!(magic, Some(wanted));
        assert_eq!(Magic::of_model("reset"), ("reset", Some(Fault::Reset.into())));
    }

    #[test]
    fn names_that_only_look_like_magic_are_plain_models() {
        for name in ["gpt-4o", "fail-200", "fail-", "a+b", "fail-99", "+", "once"] {
            assert_eq!(Magic::of_model(name), (name, None));
        }
    }
}
