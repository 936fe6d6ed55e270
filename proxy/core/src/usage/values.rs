//! Splits a stream of JSON objects, cut anywhere, into objects: one a line, or the
//! elements of one array.
//!
//! As with events, an object that lies whole in one chunk is handed on as a slice of it.
//! Between objects only white space and, in an array, its brackets and commas are fine;
//! anything else is handed on as an event that nobody can read.

use super::sse::{Event, Name};
use super::tail::TailBuffer;

/// **Invariant:** holds at most one [`TailBuffer`], whatever comes.
#[derive(Debug)]
pub(super) struct Values {
    in_array: bool,
    array: Array,
    /// The beginning of an object that the last chunk ended in.
    held: TailBuffer,
    /// Open objects and lists.
    depth: u64,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Array {
    Before,
    Open,
    Closed,
}

impl Values {
    pub(super) fn new(in_array: bool) -> Self {
        Self {
            in_array,
            array: Array::Before,
            held: TailBuffer::default(),
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// The array, where there is one, was closed.
    pub(super) fn is_closed(&self) -> bool {
        !self.in_array || self.array == Array::Closed
    }

    pub(super) fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut start = 0;
        for (place, byte) in chunk.iter().enumerate() {
            if self.depth == 0 {
                start = place;
                self.between(*byte, &mut on_event);
            } else if self.inside(*byte) {
                let end = place.saturating_add(1);
                self.emit(chunk.get(start..end).unwrap_or_default(), &mut on_event);
                start = end;
            }
        }
        if self.depth > 0 {
            self.held.push(chunk.get(start..).unwrap_or_default());
        }
    }

    /// The stream is over; an object that is not is handed on as it is.
    pub(super) fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        if self.depth > 0 {
            on_event(event(self.held.bytes(), self.held.is_cut()));
        }
    }

    fn between(&mut self, byte: u8, on_event: &mut impl FnMut(Event<'_>)) {
        match (byte, self.array) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'{', array) if !self.in_array || array == Array::Open => self.depth = 1,
            (b'[', Array::Before) if self.in_array => self.array = Array::Open,
            (b',', Array::Open) => {}
            (b']', Array::Open) => self.array = Array::Closed,
            _ => on_event(event(b"?", false)),
        }
    }

    /// Whether the object ends with this byte.
    fn inside(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if self.in_string {
            self.escaped = byte == b'\\';
            self.in_string = byte != b'"';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth == 0
    }

    fn emit(&mut self, rest: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if self.held.is_empty() && rest.len() <= TailBuffer::WHOLE_LEN_MAX {
            on_event(event(rest, false));
            return;
        }
        self.held.push(rest);
        on_event(event(self.held.bytes(), self.held.is_cut()));
        self.held.clear();
    }
}

fn event(data: &[u8], is_cut: bool) -> Event<'_> {
    Event { name: Name::Unnamed, data, is_cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(in_array: bool, stream: &str, expected: &[&str], is_closed: bool) {
        for chunk_len in 1..=stream.len().max(1) {
            let mut events = Vec::new();
            let mut note = |event: Event<'_>| {
                assert!(!event.is_cut);
                events.push(String::from_utf8_lossy(event.data).into_owned());
            };
            let mut values = Values::new(in_array);
            for chunk in stream.as_bytes().chunks(chunk_len) {
                values.push(chunk, &mut note);
            }
            values.finish(&mut note);
            assert_eq!(events, expected, "by {chunk_len}");
            assert_eq!(values.is_closed(), is_closed);
        }
    }

    #[test]
    fn objects_are_told_one_by_one_in_lines_and_in_an_array() {
        check(
            false,
            "{\"a\":\"}\\\"\"}\n\n{\"b\":[{}]}",
            &[r#"{"a":"}\""}"#, r#"{"b":[{}]}"#],
            true,
        );
        check(true, "[{\"a\":1}\n,\r\n{\"b\":[]}]\n", &[r#"{"a":1}"#, r#"{"b":[]}"#], true);
        check(true, "[{\"a\":1}", &[r#"{"a":1}"#], false);
        check(true, "[]", &[], true);
        check(false, "", &[], true);
    }

    #[test]
    fn what_stands_between_them_is_told_as_what_it_is_not() {
        check(false, "{}x", &["{}", "?"], true);
        check(false, "[{}", &["?", "{}"], true);
        check(true, "{}", &["?", "?"], false);
        check(true, "[{}]{", &["{}", "?"], true);
        check(false, "{\"a\":", &["{\"a\":"], true);
    }

    #[test]
    fn an_object_too_long_to_keep_shows_its_end() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(TailBuffer::WHOLE_LEN_MAX));
        for chunk_len in [1000, 65_537, long.len()] {
            let mut cut = 0;
            let mut values = Values::new(false);
            for chunk in long.as_bytes().chunks(chunk_len) {
                values.push(chunk, |event| {
                    assert!(event.is_cut && event.data.ends_with(b"x\"}"));
                    cut += 1;
                });
            }
            assert_eq!(cut, 1, "by {chunk_len}");
        }
    }
}
