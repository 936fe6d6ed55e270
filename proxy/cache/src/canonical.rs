//! The canonical form of a JSON body: equal questions, equal bytes.
//!
//! Callers spell the same question differently: members in another order, other
//! white space, `1.0` for `1`, `\u0041` for `A`. Keys are made of this form, so that
//! such calls meet in the cache.
//!
//! Why not `serde_json::Value` or RFC 8785: both read numbers as `f64` and keep the last of two
//! members of one name. 9007199254740993 and …992 would be one key, and so would
//! two bodies which some upstream reads differently. Here numbers are exact decimals, and a
//! body with duplicate members has no canonical form at all: the call bypasses the cache.
//!
//! Why one pass over bytes: the form is written while the body is read. An object's members are
//! written as they come and put in order when it closes; values are never built.
//!
//! **Invariant:** two bodies have one form only if they say the same (`injective`).
//! **Invariant:** the form of a form is itself ([`assert_canonical_is_stable`]).

use crate::{number, omit::Omit, pointer::push_char};
use std::cmp::Ordering;

/// How long a body and how deep its nesting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub body_len_max: usize,
    /// Arrays and objects inside each other. More than [`DEPTH_LIMIT`] counts as that.
    pub depth_max: usize,
}

/// Deeper bodies have no canonical form whatever [`Bounds`] says: the writer recurses, and a
/// worker's stack is 2 MiB.
pub const DEPTH_LIMIT: usize = 512;

/// How often the bytes of a body may be moved to put members in order, on average. A call moves
/// what it says once per level, some five; a body made to be moved at each of 128 levels would cost
/// seconds.
const MOVES_MAX: usize = 16;

impl Default for Bounds {
    /// 32 MiB as the listener's default body limit; 128 levels as `serde_json`.
    fn default() -> Self {
        Self { body_len_max: 32 * 1024 * 1024, depth_max: 128 }
    }
}

/// Why a body has no canonical form. The call goes on without the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    #[error("the body is longer than keys are made of; raise limits.body or leave it uncached")]
    TooLong,
    #[error("the body nests too deep, or too deep for its disorder, at byte {at}")]
    TooDeep { at: usize },
    #[error("an object has two members of one name before byte {at}")]
    DuplicateMember { at: usize },
    #[error("the body is not UTF-8 after byte {at}")]
    NotUtf8 { at: usize },
    #[error("the body is not JSON at byte {at}")]
    NotJson { at: usize },
    #[error("half a surrogate pair, or an exponent out of reach, at byte {at}")]
    Unrepresentable { at: usize },
}

impl NotCanonical {
    /// The closed, short name for `cache-status` and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "body-too-large",
            Self::TooDeep { .. } => "body-too-deep",
            Self::DuplicateMember { .. } => "duplicate-member",
            Self::NotUtf8 { .. } | Self::NotJson { .. } => "not-json",
            Self::Unrepresentable { .. } => "not-canonical",
        }
    }
}

/// Writes the canonical form of `body`, without the top-level members named in `drop`.
///
/// `drop` holds plain member names. A dropped member must still be well-formed and occur once.
pub fn canonicalise(body: &[u8], drop: &[&str], bounds: Bounds) -> Result<Vec<u8>, NotCanonical> {
    canonicalise_without(body, &Omit::members(drop), bounds)
}

/// Writes the canonical form of `body`, without what `omit` names, at whatever depth. An element of
/// a list that is left out is as if the list were shorter.
pub fn canonicalise_without(
    body: &[u8],
    omit: &Omit,
    bounds: Bounds,
) -> Result<Vec<u8>, NotCanonical> {
    if body.len() > bounds.body_len_max {
        return Err(NotCanonical::TooLong);
    }
    if let Err(error) = std::str::from_utf8(body) {
        return Err(NotCanonical::NotUtf8 { at: error.valid_up_to() });
    }
    let mut writer = Writer {
        body,
        at: 0,
        depth_left: bounds.depth_max.min(DEPTH_LIMIT),
        moves_left: body.len().saturating_mul(MOVES_MAX),
        out: Vec::with_capacity(body.len()),
        members: Vec::new(),
        scratch: Vec::new(),
    };
    writer.skip_space();
    writer.value(Some(omit))?;
    writer.skip_space();
    if writer.at != body.len() {
        return Err(writer.not_json());
    }
    Ok(writer.out)
}

/// What must hold for every input whatsoever. Used by property tests and the fuzz target.
///
/// # Panics
/// When the form is not stable: not readable again, or another the second time.
#[expect(clippy::panic, reason = "the report of a property, never called by the proxy")]
pub fn assert_canonical_is_stable(body: &[u8]) {
    let bounds = Bounds::default();
    let Ok(form) = canonicalise(body, &[], bounds) else { return };
    if canonicalise(&form, &[], bounds).as_deref() != Ok(form.as_slice()) {
        panic!("the form of the form differs: {:?}", String::from_utf8_lossy(&form));
    }
}

/// Where one member of an open object stands in the output.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

struct Writer<'a> {
    body: &'a [u8],
    at: usize,
    depth_left: usize,
    /// Bytes.
    moves_left: usize,
    out: Vec<u8>,
    /// The members of all open objects; each object owns the tail since it was opened.
    members: Vec<Member>,
    scratch: Vec<u8>,
}

impl Writer<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn not_json(&self) -> NotCanonical {
        NotCanonical::NotJson { at: self.at }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotCanonical> {
        if self.peek() != Some(byte) {
            return Err(self.not_json());
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, omit: Option<&Omit>) -> Result<(), NotCanonical> {
        match self.peek() {
            Some(b'{') => self.nested(|writer| writer.object(omit)),
            Some(b'[') => self.nested(|writer| writer.array(omit)),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) | None => Err(self.not_json()),
        }
    }

    fn nested(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<(), NotCanonical>,
    ) -> Result<(), NotCanonical> {
        let Some(left) = self.depth_left.checked_sub(1) else {
            return Err(NotCanonical::TooDeep { at: self.at });
        };
        self.depth_left = left;
        self.at += 1;
        inner(self)?;
        self.depth_left += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotCanonical> {
        if !self.body.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.not_json());
        }
        self.out.extend_from_slice(word);
        self.at += word.len();
        Ok(())
    }

    fn array(&mut self, omit: Option<&Omit>) -> Result<(), NotCanonical> {
        self.out.push(b'[');
        let start = self.out.len();
        self.skip_space();
        if self.peek() != Some(b']') {
            for place in 0_usize.. {
                let before = self.out.len();
                if before > start {
                    self.out.push(b',');
                }
                let inner = omit.and_then(|omit| omit.element(place));
                self.value(inner)?;
                if inner.is_some_and(|inner| inner.whole) {
                    self.out.truncate(before);
                }
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.skip_space();
            }
        }
        self.expect(b']')?;
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, omit: Option<&Omit>) -> Result<(), NotCanonical> {
        self.out.push(b'{');
        let first = self.members.len();
        let members_start = self.out.len();
        let mut left_out = Vec::new();
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                self.member(first, omit, &mut left_out)?;
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.skip_space();
            }
        }
        self.expect(b'}')?;
        left_out.sort_unstable();
        if left_out.windows(2).any(|pair| matches!(pair, [left, right] if left == right)) {
            return Err(NotCanonical::DuplicateMember { at: self.at });
        }
        self.put_in_order(first, members_start)?;
        self.out.push(b'}');
        Ok(())
    }

    fn member(
        &mut self,
        first: usize,
        omit: Option<&Omit>,
        left_out: &mut Vec<Box<[u8]>>,
    ) -> Result<(), NotCanonical> {
        let before = self.out.len();
        if self.members.len() > first {
            self.out.push(b',');
        }
        let start = self.out.len();
        if self.peek() != Some(b'"') {
            return Err(self.not_json());
        }
        self.string()?;
        let key_end = self.out.len();
        self.skip_space();
        self.expect(b':')?;
        self.out.push(b':');
        self.skip_space();
        let name = self.out.get(start + 1..key_end - 1).unwrap_or_default();
        let inner = omit.and_then(|omit| omit.member(name));
        if inner.is_some_and(|inner| inner.whole) {
            left_out.push(name.into());
            self.value(None)?;
            self.out.truncate(before);
        } else {
            self.value(inner)?;
            self.members.push(Member { start, key_end, end: self.out.len() });
        }
        Ok(())
    }

    /// Sorts the members since `first` by name and forgets them.
    fn put_in_order(&mut self, first: usize, members_start: usize) -> Result<(), NotCanonical> {
        let out = &self.out;
        let name = |member: &Member| out.get(member.start..member.key_end).unwrap_or_default();
        let open = self.members.get_mut(first..).unwrap_or_default();
        // Many clients send sorted members, and most objects have one or two.
        let mut sorted = true;
        for pair in open.windows(2) {
            if let [left, right] = pair {
                sorted &= name(left).cmp(name(right)) == Ordering::Less;
            }
        }
        if !sorted {
            open.sort_unstable_by(|left, right| name(left).cmp(name(right)));
            for pair in open.windows(2) {
                if let [left, right] = pair
                    && name(left) == name(right)
                {
                    return Err(NotCanonical::DuplicateMember { at: self.at });
                }
            }
            let moved = out.len().saturating_sub(members_start);
            let Some(left) = self.moves_left.checked_sub(moved) else {
                return Err(NotCanonical::TooDeep { at: self.at });
            };
            self.moves_left = left;
            self.scratch.clear();
            for (place, member) in open.iter().enumerate() {
                if place > 0 {
                    self.scratch.push(b',');
                }
                let written = out.get(member.start..member.end).unwrap_or_default();
                self.scratch.extend_from_slice(written);
            }
            self.out.truncate(members_start);
            self.out.extend_from_slice(&self.scratch);
        }
        self.members.truncate(first);
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotCanonical> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let lexeme = rest.get(..len).unwrap_or_default();
        number::write(lexeme, &mut self.out).map_err(|bad| match bad {
            number::BadNumber::Grammar => NotCanonical::NotJson { at: self.at },
            number::BadNumber::Exponent => NotCanonical::Unrepresentable { at: self.at },
        })?;
        self.at += len;
        Ok(())
    }

    /// A string, quotes included, with only the escapes that must be.
    fn string(&mut self) -> Result<(), NotCanonical> {
        self.at += 1;
        self.out.push(b'"');
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                return Err(NotCanonical::NotJson { at: self.body.len() });
            };
            let plain = rest.get(..len).unwrap_or_default();
            // All of them before any of them: many bytes at a time.
            if plain.iter().fold(false, |control, byte| control | (*byte < 0x20)) {
                let place = plain.iter().position(|byte| *byte < 0x20).unwrap_or_default();
                return Err(NotCanonical::NotJson { at: self.at + place });
            }
            self.out.extend_from_slice(plain);
            let quote = rest.get(len) == Some(&b'"');
            self.at += len + 1;
            if quote {
                self.out.push(b'"');
                return Ok(());
            }
            self.escape()?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), NotCanonical> {
        let Some(byte) = self.peek() else { return Err(self.not_json()) };
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let character = self.unicode_escape()?;
                push_char(&mut self.out, character);
                return Ok(());
            }
            _ => return Err(self.not_json()),
        };
        self.at += 1;
        push_char(&mut self.out, character);
        Ok(())
    }

    /// The four digits after `\u`, and the second half of a pair.
    fn unicode_escape(&mut self) -> Result<char, NotCanonical> {
        let at = self.at;
        let unrepresentable = NotCanonical::Unrepresentable { at };
        let high = self.four_hex_digits()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high).ok_or(unrepresentable);
        }
        if high >= 0xdc00 || self.body.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(unrepresentable);
        }
        self.at += 2;
        let low = self.four_hex_digits()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(unrepresentable);
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(unrepresentable)
    }

    fn four_hex_digits(&mut self) -> Result<u32, NotCanonical> {
        let digits = self.body.get(self.at..self.at + 4).ok_or(self.not_json())?;
        let mut value = 0;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16).ok_or(self.not_json())?;
            value = value * 16 + digit;
        }
        self.at += 4;
        Ok(value)
    }
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
