//! Where the events of a stream begin and end, however the network cut it.
//!
//! Only blank lines matter here, so this reads no fields. A carriage return ends a
//! line at once, and a line feed behind it is given to the same unit when it comes:
//! waiting for it would delay an event, and guessing would make cuts matter.

use memchr::memchr2;

/// Where in the stream the next byte stands. A *unit* is an event with its blank
/// line, or a comment or blank line between events.
#[derive(Clone, Copy, Debug)]
pub(super) enum Boundary {
    Unit,
    /// As `Unit`, but a line feed would belong to the carriage return before.
    UnitAfterCr,
    /// At a line inside an event.
    Line,
    LineAfterCr,
    InLine,
    InComment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The unit goes on behind these bytes.
    Open,
    /// The unit ends with these bytes.
    Ended,
    /// The line feed of a unit that ended with a carriage return.
    Tail,
}

impl Boundary {
    /// Up to where `rest`, which must not be empty, belongs to one unit.
    pub(super) fn advance(&mut self, rest: &[u8]) -> (usize, Step) {
        let mut at = 0;
        while let Some(&byte) = rest.get(at) {
            match (*self, byte) {
                (Self::UnitAfterCr, b'\n') => {
                    *self = Self::Unit;
                    return (at + 1, Step::Tail);
                }
                (Self::Unit | Self::UnitAfterCr | Self::Line, b'\n' | b'\r') => {
                    *self = Self::unit_after(byte);
                    return (at + 1, Step::Ended);
                }
                (Self::Unit | Self::UnitAfterCr, b':') => *self = Self::InComment,
                (Self::LineAfterCr, b'\n') => {
                    *self = Self::Line;
                    at += 1;
                }
                (Self::LineAfterCr, b'\r') => *self = Self::Line,
                (Self::Unit | Self::UnitAfterCr | Self::Line | Self::LineAfterCr, _) => {
                    *self = Self::InLine;
                }
                (Self::InLine | Self::InComment, _) => {
                    let here = rest.get(at..).unwrap_or_default();
                    let Some(len) = memchr2(b'\n', b'\r', here) else { break };
                    let end = here.get(len).copied().unwrap_or(b'\n');
                    at += len + 1;
                    if matches!(self, Self::InComment) {
                        *self = Self::unit_after(end);
                        return (at, Step::Ended);
                    }
                    *self = if end == b'\r' { Self::LineAfterCr } else { Self::Line };
                }
            }
        }
        (rest.len(), Step::Open)
    }

    fn unit_after(end: u8) -> Self {
        if end == b'\r' { Self::UnitAfterCr } else { Self::Unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of `stream`, pushed in chunks of `chunk_len` bytes.
    fn units(stream: &str, chunk_len: usize) -> Vec<String> {
        let mut boundary = Boundary::Unit;
        let mut units = vec![String::new()];
        for mut chunk in stream.as_bytes().chunks(chunk_len) {
            while !chunk.is_empty() {
                let (len, step) = boundary.advance(chunk);
                let (piece, rest) = chunk.split_at(len);
                let piece = std::str::from_utf8(piece).unwrap();
                chunk = rest;
                if step == Step::Tail {
                    let before = units.len() - 2;
                    units[before].push_str(piece);
                    continue;
                }
                units.last_mut().unwrap().push_str(piece);
                if step == Step::Ended {
                    units.push(String::new());
                }
            }
        }
        units
    }

    #[test]
    fn a_unit_is_an_event_or_a_comment_or_a_blank_line() {
        let expected = ["a: 1\r\nb\r\n\r\n", ": c\r\n", "\r\n", "\n", ":\r", "d\n: e\r\r", "f\n"];
        let stream = expected.concat();
        for chunk_len in 1..=stream.len() {
            assert_eq!(units(&stream, chunk_len), expected, "{chunk_len}");
        }
    }
}
