//! Bytes kept whole up to a limit, and beyond it their beginning and their end.
//!
//! Usage stands at the end of an answer in every dialect. So what is too long to
//! be parsed can still be metered from its end, with bounded memory.

use serde::Deserialize;

use super::probe::{Counts, Object, Text};

/// How often `"usage"` is looked for from the end before giving up.
const CANDIDATES_MAX: usize = 8;

/// **Invariant:** what it shows depends on all bytes pushed, not on their cuts.
#[derive(Debug, Default)]
pub(super) struct TailBuffer {
    kept: Vec<u8>,
    head: Vec<u8>,
    is_cut: bool,
}

impl TailBuffer {
    pub(super) const WHOLE_LEN_MAX: usize = 1024 * 1024;
    const TAIL_LEN: usize = 64 * 1024;
    const HEAD_LEN: usize = 4 * 1024;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.is_cut && self.kept.len().saturating_add(bytes.len()) > Self::WHOLE_LEN_MAX {
            self.is_cut = true;
            let start = self.kept.iter().chain(bytes).take(Self::HEAD_LEN);
            self.head = start.copied().collect();
        }
        if self.is_cut {
            self.kept.extend_from_slice(last(bytes, Self::TAIL_LEN));
            // Amortised: each byte is moved once per `TAIL_LEN` bytes.
            if self.kept.len() > 2 * Self::TAIL_LEN {
                self.kept.drain(..self.kept.len() - Self::TAIL_LEN);
                self.kept.shrink_to(3 * Self::TAIL_LEN);
            }
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// There were more bytes than are kept whole.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// All bytes, or the last of them if there were too many.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.is_cut { last(&self.kept, Self::TAIL_LEN) } else { &self.kept }
    }

    /// Empties it; a usual size of memory is kept for the next use.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.kept.shrink_to(Self::TAIL_LEN);
        self.head = Vec::new();
        self.is_cut = false;
    }

    /// The model's name, from the beginning or the end of what was cut.
    pub(super) fn model(&self) -> Option<String> {
        [self.head.as_slice(), self.bytes()].into_iter().find_map(|part| {
            let at = memchr::memmem::find(part, b"\"model\"")?;
            value_after::<Text>(part.get(at + b"\"model\"".len()..)?)?.filled()
        })
    }
}

/// The last `usage` object in a piece of JSON that begins anywhere.
pub(super) fn usage_at_the_end(json: &[u8]) -> Option<Counts> {
    let mut found = values_from_the_end::<Object<Counts>>(json, b"\"usage\"");
    found.find_map(|usage| usage.0.filter(Counts::has_any))
}

/// The last value of the member `name` (with its quotes) in such a piece.
pub(super) fn value_at_the_end<'a, T: Deserialize<'a>>(json: &'a [u8], name: &[u8]) -> Option<T> {
    values_from_the_end(json, name).next()
}

fn values_from_the_end<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    name: &[u8],
) -> impl Iterator<Item = T> {
    let places = memchr::memmem::rfind_iter(json, name).take(CANDIDATES_MAX);
    let places: Vec<usize> = places.map(|at| at + name.len()).collect();
    places.into_iter().filter_map(|at| value_after(json.get(at..)?))
}

/// The value behind a member's name; what follows it does not matter.
fn value_after<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let value = json.trim_ascii_start().strip_prefix(b":")?;
    T::deserialize(&mut serde_json::Deserializer::from_slice(value)).ok()
}

fn last(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(len)..).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_does_not_depend_on_the_cuts() {
        let len = TailBuffer::WHOLE_LEN_MAX + 200_001;
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for chunk_len in [997, 65_536, 100_000, 1_048_576, 1_048_577, len] {
            let mut buffer = TailBuffer::default();
            for chunk in bytes.chunks(chunk_len) {
                buffer.push(chunk);
                let bound = TailBuffer::WHOLE_LEN_MAX + TailBuffer::TAIL_LEN;
                assert!(buffer.kept.len() <= bound, "holds {}", buffer.kept.len());
            }
            assert!(buffer.is_cut());
            assert_eq!(buffer.bytes(), &bytes[len - TailBuffer::TAIL_LEN..]);
            assert_eq!(buffer.head, &bytes[..TailBuffer::HEAD_LEN]);
        }
    }

    #[test]
    fn the_last_usage_with_numbers_is_the_usage() {
        let json = br#"oken":1},"usage":{"prompt_tokens":3},"x":["usage"],"usage":{},"n":1}"#;
        let counts = usage_at_the_end(json).unwrap();
        assert_eq!(counts.prompt_tokens.0, Some(3));
        assert!(usage_at_the_end(br#""usage":{"prompt_tok"#).is_none());
    }
}
