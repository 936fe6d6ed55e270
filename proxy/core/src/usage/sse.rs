//! Splits a stream of server-sent events, cut anywhere, into events.
//!
//! Feeds on bytes as they pass and copies only what a cut or a second `data:`
//! line forces it to: an event that lies whole in one chunk is handed on as a
//! slice of it. Lines end in `\n` or `\r\n`; a bare `\r`, which the format also
//! allows, does not end a line: no provider we meter sends it. A byte-order mark,
//! comments and a missing last blank line are fine.

use super::tail::TailBuffer;

/// What an `event:` line says, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Name {
    /// There was no such line.
    #[default]
    Unnamed,
    Error,
    /// A piece of what the model says.
    Delta,
    Other,
}

#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) name: Name,
    /// All of the data, or the end of it where it is longer than is kept.
    pub(super) data: &'a [u8],
    pub(super) is_cut: bool,
}

/// **Invariant:** holds at most two [`TailBuffer`]s, whatever comes.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of a line that the last chunk ended in.
    line: TailBuffer,
    /// Earlier `data:` lines of the event that is under way.
    data: TailBuffer,
    has_data: bool,
    name: Name,
    /// Past the first line, where a byte-order mark may stand.
    is_under_way: bool,
}

impl Splitter {
    pub(super) fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = split_after(rest, at);
            rest = after;
            if self.line.is_empty() {
                rest = self.take_line(line, rest, &mut on_event);
            } else {
                let mut held = std::mem::take(&mut self.line);
                held.push(line);
                if held.is_cut() {
                    self.take_long_line(&held, &mut on_event);
                } else {
                    rest = self.take_line(held.bytes(), rest, &mut on_event);
                }
                held.clear();
                self.line = held; // and with it its memory
            }
        }
        self.line.push(rest);
    }

    /// The stream is over; an unfinished last event counts as an event.
    pub(super) fn finish(mut self, mut on_event: impl FnMut(Event<'_>)) {
        let held = std::mem::take(&mut self.line);
        if held.is_cut() {
            self.take_long_line(&held, &mut on_event);
        } else if !held.is_empty() {
            self.take_line(held.bytes(), b"", &mut on_event);
        }
        self.end_event(&mut on_event);
    }

    /// Takes a line (without its `\n`), knowing what already is there of the
    /// `rest`; returns what to go on with.
    fn take_line<'a>(
        &mut self,
        line: &[u8],
        rest: &'a [u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> &'a [u8] {
        if line.len() > TailBuffer::WHOLE_LEN_MAX {
            let mut long = TailBuffer::default();
            long.push(line);
            self.take_long_line(&long, on_event);
            return rest;
        }
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.is_under_way {
            self.is_under_way = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.end_event(on_event);
        } else if let Some(value) = field(line, b"data") {
            let after_event = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r\n"));
            if let (false, Some(after_event)) = (self.has_data, after_event) {
                on_event(Event { name: self.name, data: value, is_cut: false });
                self.name = Name::Unnamed;
                return after_event;
            }
            if self.has_data {
                self.data.push(b"\n");
            }
            self.data.push(value);
            self.has_data = true;
        } else if let Some(value) = field(line, b"event") {
            self.name = Name::of(value);
        }
        rest
    }

    /// A line longer than is kept is data: nothing else is ever that long.
    fn take_long_line(&mut self, line: &TailBuffer, on_event: &mut impl FnMut(Event<'_>)) {
        self.is_under_way = true;
        let name = self.name;
        self.end_event(on_event);
        on_event(Event { name, data: line.bytes(), is_cut: true });
    }

    fn end_event(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        if self.has_data {
            let is_cut = self.data.is_cut();
            on_event(Event { name: self.name, data: self.data.bytes(), is_cut });
            self.data.clear();
            self.has_data = false;
        }
        self.name = Name::Unnamed;
    }
}

impl Name {
    fn of(value: &[u8]) -> Self {
        match value {
            b"error" => Self::Error,
            b"content_block_delta" => Self::Delta,
            name if name.ends_with(b".delta") => Self::Delta,
            _ => Self::Other,
        }
    }
}

/// The value of a line of the field `name`. One space after the colon is not part of it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// What is before the `\n` at `at`, and what is after it.
fn split_after(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    let (line, rest) = bytes.split_at_checked(at).unwrap_or((bytes, b""));
    (line, rest.split_first().map_or(b"", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event as `name|data`; `…` before what is only the end of the data.
    fn split(stream: &[u8], chunk_len: usize) -> Vec<String> {
        let mut events = Vec::new();
        let mut note = |event: Event<'_>| {
            let cut = if event.is_cut { "…" } else { "" };
            let data = String::from_utf8_lossy(event.data);
            let end: String = data.chars().rev().take(40).collect();
            let end: String = end.chars().rev().collect();
            events.push(format!("{:?}|{cut}{end}", event.name));
        };
        let mut splitter = Splitter::default();
        for chunk in stream.chunks(chunk_len) {
            splitter.push(chunk, &mut note);
        }
        splitter.finish(&mut note);
        events
    }

    #[track_caller]
    fn check(stream: &str, expected: &[&str]) {
        for chunk_len in [1, 2, 3, 7, 64 * 1024, usize::MAX] {
            if chunk_len > 7 || stream.len() < 10_000 {
                assert_eq!(split(stream.as_bytes(), chunk_len), expected, "by {chunk_len}");
            }
        }
    }

    #[test]
    fn events_are_what_the_format_says() {
        check("data: a\n\ndata:b\r\n\r\n", &["Unnamed|a", "Unnamed|b"]);
        check("data: a\ndata: b\n\n", &["Unnamed|a\nb"]);
        check("\u{feff}data:  a\n\n", &["Unnamed| a"]);
        check(": a\nid: 1\nretry: 2\n\n\n", &[]);
        check("data: a", &["Unnamed|a"]);
        check("data: a\ndata: b\r\n", &["Unnamed|a\nb"]);
        check("data\ndatax: a\n\n", &[]);
    }

    #[test]
    fn a_name_is_good_for_one_event() {
        check("event: error\ndata: a\n\ndata: b\n\n", &["Error|a", "Unnamed|b"]);
        check("event: error\n\ndata: b\n\n", &["Unnamed|b"]);
        check("data: a\nevent: x.delta\n\n", &["Delta|a"]);
        check("event: content_block_delta\ndata: a\n\n", &["Delta|a"]);
        check("event: ping\ndata: a\n\n", &["Other|a"]);
    }

    #[test]
    fn an_event_too_long_to_keep_shows_its_end() {
        let long = "x".repeat(TailBuffer::WHOLE_LEN_MAX);
        let end = format!("Error|…{}", "x".repeat(38) + "yz");
        check(&format!("event: error\ndata: {long}yz\n\ndata: b\n\n"), &[&end, "Unnamed|b"]);
        let end = format!("Unnamed|…{}", "x".repeat(33) + "\nyyyyyy");
        check(&format!("data: {}\ndata: yyyyyy\n\n", &long.replacen("xxxxxx", "", 1)), &[&end]);
    }
}
