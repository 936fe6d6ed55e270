//! Takes the usage chunk out of an OpenAI stream for a caller that did not ask for
//! it, without copying and without delaying anything else.
//!
//! We ask upstreams for usage because we bill by it; most callers did not ask, and
//! some index `choices[0]` of every chunk. The filter sees the bytes as the network
//! cut them and says which of them to forward, so that the caller can slice its own
//! buffers. It holds bytes back only while an event is incomplete *and* may still
//! turn out to be the usage chunk, which the first `"choices":[{` rules out.
//!
//! ```text
//!  event begins ─▶ undecided ─┬─ "choices":[ not followed by ] ─▶ passing ─▶ its end
//!                 (bytes held)├─ longer than HELD_MAX ──────────▶ passing
//!                             └─ blank line ─▶ usage chunk? removed : released
//! ```
//!
//! **Invariant:** whether an event goes depends on its bytes alone, never on where
//! they were cut ([`assert_filter_cuts_do_not_matter`]). A comment between events
//! passes; one inside the usage event goes with it.

use std::ops::Range;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::boundary::{Boundary, Step};
use super::sse;

/// What of a pushed chunk the caller forwards, after [`Filtered::released`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The whole chunk, unchanged.
    All,
    /// These parts, in order; may be none.
    Ranges(Vec<Range<usize>>),
}

/// What to forward now.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Filtered {
    /// Bytes of earlier chunks that are let go; they come first. Mostly empty.
    pub released: Vec<u8>,
    pub keep: Keep,
}

impl Filtered {
    /// Appends what is to be forwarded of `chunk`, the one that was pushed.
    pub fn append_to(&self, chunk: &[u8], forwarded: &mut Vec<u8>) {
        forwarded.extend_from_slice(&self.released);
        match &self.keep {
            Keep::All => forwarded.extend_from_slice(chunk),
            Keep::Ranges(ranges) => {
                for range in ranges {
                    forwarded.extend_from_slice(chunk.get(range.clone()).unwrap_or_default());
                }
            }
        }
    }
}

/// Removes the usage chunk from one stream of chat or completion chunks.
#[derive(Debug)]
pub struct UsageFilter {
    boundary: Boundary,
    /// All of the current event, while it is undecided and incomplete.
    held: Vec<u8>,
    /// The current event is going through.
    passing: bool,
    /// The next byte begins a new unit.
    fresh: bool,
    /// The unit before was removed.
    removed: bool,
    probe: Probe,
}

impl Default for UsageFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageFilter {
    /// An event longer than this many bytes is no usage chunk.
    pub const HELD_MAX: usize = 64 * 1024;

    pub fn new() -> Self {
        Self {
            boundary: Boundary::Unit,
            held: Vec::new(),
            passing: false,
            fresh: true,
            removed: false,
            probe: Probe::default(),
        }
    }

    /// Says what to forward now that `chunk` has come.
    pub fn push(&mut self, chunk: &[u8]) -> Filtered {
        let mut out = Out::default();
        let mut from = 0;
        while let Some(rest) = chunk.get(from..).filter(|rest| !rest.is_empty()) {
            let (len, step) = self.boundary.advance(rest);
            let piece = rest.get(..len).unwrap_or(rest);
            let keep = match step {
                Step::Tail => !self.removed,
                Step::Open => self.part(piece, &mut out),
                Step::Ended => self.end(piece, &mut out),
            };
            let range = from..from + piece.len();
            from = range.end;
            if keep {
                out.keep(range);
            }
        }
        out.filtered(chunk.len())
    }

    /// The stream is over. Returns what was held: an event without its blank line,
    /// and nothing if that is the usage chunk.
    pub fn finish(self) -> Vec<u8> {
        if self.probe.may_be_usage() && is_usage_chunk(&self.held) { Vec::new() } else { self.held }
    }

    /// Some bytes of a unit that goes on. Whether to forward them.
    fn part(&mut self, piece: &[u8], out: &mut Out) -> bool {
        self.begin(piece);
        if self.passing {
            return true;
        }
        let was_held = !self.held.is_empty();
        if was_held {
            self.held.extend_from_slice(piece);
        }
        let event = if was_held { &self.held } else { piece };
        self.probe.read(event);
        if self.may_be_usage(event.len()) {
            if !was_held {
                self.held.extend_from_slice(piece);
            }
            return false;
        }
        self.passing = true;
        self.release(out);
        !was_held
    }

    /// The last bytes of a unit. Whether to forward them.
    fn end(&mut self, piece: &[u8], out: &mut Out) -> bool {
        self.begin(piece);
        self.fresh = true;
        self.removed = false;
        if self.passing {
            return true;
        }
        let was_held = !self.held.is_empty();
        if was_held {
            self.held.extend_from_slice(piece);
        }
        let event = if was_held { &self.held } else { piece };
        self.probe.read(event);
        self.removed = self.may_be_usage(event.len()) && is_usage_chunk(event);
        if self.removed {
            self.held.clear();
            return false;
        }
        self.release(out);
        !was_held
    }

    /// Lets go what is held. An event is held to the end of a chunk, so it can only
    /// be the first thing of the next one: nothing of `out` comes before it.
    fn release(&mut self, out: &mut Out) {
        if !self.held.is_empty() {
            debug_assert!(out.released.is_empty() && out.first.is_empty());
            out.released = std::mem::take(&mut self.held);
        }
    }

    /// If a unit begins here: comments and stray blank lines go through.
    fn begin(&mut self, piece: &[u8]) {
        if self.fresh {
            self.fresh = false;
            self.probe = Probe::default();
            self.passing = matches!(piece.first(), Some(b':' | b'\n' | b'\r'));
        }
    }

    fn may_be_usage(&self, event_len: usize) -> bool {
        event_len <= Self::HELD_MAX && self.probe.may_be_usage()
    }
}

/// Collects what one push lets through.
#[derive(Default)]
struct Out {
    released: Vec<u8>,
    /// Adjacent ranges are joined, so one range from 0 to the end is all.
    first: Range<usize>,
    more: Vec<Range<usize>>,
}

impl Out {
    fn keep(&mut self, range: Range<usize>) {
        if self.first.is_empty() {
            self.first = range;
            return;
        }
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.end == range.start {
            last.end = range.end;
        } else {
            self.more.push(range);
        }
    }

    fn filtered(self, chunk_len: usize) -> Filtered {
        let keep = if self.first == (0..chunk_len) {
            Keep::All
        } else {
            let first = Some(self.first).filter(|range| !range.is_empty());
            Keep::Ranges(first.into_iter().chain(self.more).collect())
        };
        Filtered { released: self.released, keep }
    }
}

/// Looks for the first member called `choices` and whether it is `[]`. In JSON text
/// these bytes are no part of a longer string, since its quotes would be escaped.
/// Reads every byte of an event once, however it was cut.
#[derive(Debug, Default)]
struct Probe {
    /// How far the event was read.
    at: usize,
    expect: Expect,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Name,
    Colon,
    Open,
    Close,
    Empty,
    NotEmpty,
}

impl Probe {
    const NAME: &'static [u8] = b"\"choices\"";

    /// `event` is all of the current event so far.
    fn read(&mut self, event: &[u8]) {
        loop {
            let rest = event.get(self.at..).unwrap_or_default();
            if self.expect == Expect::Name {
                let Some(place) = memmem::find(rest, Self::NAME) else {
                    // The name may be cut here.
                    self.at += (rest.len() + 1).saturating_sub(Self::NAME.len());
                    return;
                };
                self.at += place + Self::NAME.len();
                self.expect = Expect::Colon;
                continue;
            }
            let Some(skipped) = rest.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                self.at += rest.len();
                return;
            };
            let byte = rest.get(skipped).copied();
            self.at += skipped;
            self.expect = match (self.expect, byte) {
                (Expect::Colon, Some(b':')) => Expect::Open,
                // A string with this text, not a member.
                (Expect::Colon, _) => Expect::Name,
                (Expect::Open, Some(b'[')) => Expect::Close,
                (Expect::Close, Some(b']')) => Expect::Empty,
                (Expect::Open | Expect::Close, _) => Expect::NotEmpty,
                (Expect::Name | Expect::Empty | Expect::NotEmpty, _) => return,
            };
            if self.expect != Expect::Name {
                self.at += 1;
            }
        }
    }

    fn may_be_usage(&self) -> bool {
        self.expect != Expect::NotEmpty
    }
}

/// The members that make a chunk the usage chunk.
#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
    usage: Option<IgnoredAny>,
    /// A failure is never removed, whatever else its event says.
    error: Option<IgnoredAny>,
}

fn is_usage_chunk(event: &[u8]) -> bool {
    let mut data = Vec::with_capacity(event.len());
    for line in sse::lines(event) {
        if let (b"data", value) = sse::field(line) {
            data.extend_from_slice(value);
            data.push(b'\n');
        }
    }
    serde_json::from_slice::<Chunk>(&data).is_ok_and(|chunk| {
        chunk.choices.is_empty() && chunk.usage.is_some() && chunk.error.is_none()
    })
}

/// What the network's cuts of `stream`, into chunks of `chunk_len` bytes, must not
/// change: the bytes that go through. Used by the properties and the fuzz target.
///
/// # Panics
/// If they do.
pub fn assert_filter_cuts_do_not_matter(stream: &[u8], chunk_len: usize) {
    let forward = |chunk_len: usize| {
        let mut filter = UsageFilter::new();
        let mut forwarded = Vec::new();
        for chunk in stream.chunks(chunk_len.max(1)) {
            filter.push(chunk).append_to(chunk, &mut forwarded);
            assert!(filter.held.len() <= UsageFilter::HELD_MAX, "more is held than allowed");
        }
        forwarded.extend(filter.finish());
        forwarded
    };
    let whole = forward(stream.len());
    assert!(forward(chunk_len) == whole, "chunks of {chunk_len} bytes changed what goes through");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"say \\\"choices\\\":[]\"}}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[track_caller]
    fn check(stream: &str, expected: &str) {
        let mut filter = UsageFilter::new();
        let mut forwarded = Vec::new();
        filter.push(stream.as_bytes()).append_to(stream.as_bytes(), &mut forwarded);
        forwarded.extend(filter.finish());
        assert_eq!(String::from_utf8(forwarded).unwrap(), expected);
        for chunk_len in 1..=stream.len() {
            assert_filter_cuts_do_not_matter(stream.as_bytes(), chunk_len);
        }
    }

    #[test]
    fn only_the_usage_chunk_goes_wherever_it_stands() {
        check(&[TEXT, USAGE, DONE].concat(), &[TEXT, DONE].concat());
        check(&[USAGE, TEXT, USAGE].concat(), TEXT);
        check(USAGE, "");
        check("", "");
    }

    #[test]
    fn every_way_to_write_the_usage_chunk_is_known() {
        for usage in [
            USAGE.replace('\n', "\r\n"),
            USAGE.replace('\n', "\r"),
            "data:{ \"usage\" : {} , \"choices\" : [ ] }\n\n".to_owned(),
            "event: message\ndata: {\"choices\":[],\ndata: \"usage\":{}}\n\n".to_owned(),
            "data: {\"\\u0063hoices\":[],\"usage\":{}}\n\n".to_owned(),
            "data: {\"model\":\"choices\",\"choices\":[],\"usage\":{}}\n\n".to_owned(),
            "data: {\"object\":\"text_completion\",\"choices\":[],\"usage\":{}}\n\n".to_owned(),
        ] {
            check(&[TEXT, &usage, DONE].concat(), &[TEXT, DONE].concat());
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for stream in [
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[],\"usage\":{},\"error\":{\"message\":\"no\"}}\n\n",
            "data: {\"choices\":[{}],\"usage\":{}}\n\n",
            "data: {\"choices\":null,\"usage\":{}}\n\n",
            "data: {\"choices\":[],\"usage\":{}\n\n",
            "data: {\"a\":{\"choices\":[],\"usage\":{}}}\n\n",
            "event: x\r\n\r\n\r\n: hello\r\n\n\r",
            "\u{0}\u{0}data",
        ] {
            check(stream, stream);
        }
    }

    #[test]
    fn comments_and_blank_lines_between_events_stay() {
        check(
            &[": a\n\n\n: b\n", USAGE, ": c\r\n", DONE].concat(),
            &[": a\n\n\n: b\n: c\r\n", DONE].concat(),
        );
    }

    #[test]
    fn the_usage_chunk_goes_without_its_blank_line_too() {
        check(&[TEXT, USAGE.trim_end()].concat(), TEXT);
        check(
            &[TEXT, "data: {\"choices\":[],\"us"].concat(),
            &[TEXT, "data: {\"choices\":[],\"us"].concat(),
        );
    }

    #[test]
    fn a_chunk_of_which_nothing_goes_is_forwarded_as_it_is() {
        let chunk = [TEXT, ": keep-alive\n\n", TEXT, DONE].concat();
        let filtered = UsageFilter::new().push(chunk.as_bytes());
        assert_eq!(filtered, Filtered { released: Vec::new(), keep: Keep::All });
    }

    #[test]
    fn an_event_that_cannot_be_the_usage_chunk_is_not_held() {
        let cut = TEXT.find("index").unwrap();
        let mut filter = UsageFilter::new();
        assert_eq!(filter.push(&TEXT.as_bytes()[..cut]).keep, Keep::All);
        assert_eq!(filter.push(&TEXT.as_bytes()[cut..]).keep, Keep::All);

        // Undecided bytes are held, and let go with the byte that decides.
        let decides = TEXT.find("[{").unwrap() + 1;
        for cut in 1..=decides {
            let mut filter = UsageFilter::new();
            assert_eq!(filter.push(&TEXT.as_bytes()[..cut]).keep, Keep::Ranges(Vec::new()));
            let filtered = filter.push(&TEXT.as_bytes()[cut..=decides]);
            assert_eq!(filtered.released, &TEXT.as_bytes()[..=decides]);
            assert_eq!(filtered.keep, Keep::Ranges(Vec::new()));
            assert_eq!(filter.push(&TEXT.as_bytes()[decides + 1..]).keep, Keep::All);
        }
    }

    #[test]
    fn no_more_than_the_bound_is_held() {
        let prefix = "data: {\"choices\":[],\"usage\":{\"a\":\"";
        let suffix = "\"}}\n\n";
        let room = UsageFilter::HELD_MAX - prefix.len() - suffix.len();
        let event = |len: usize| [prefix, &"x".repeat(len), suffix].concat();
        let forward = |event: &str, chunk_len: usize| {
            assert_filter_cuts_do_not_matter(event.as_bytes(), chunk_len);
            let mut filter = UsageFilter::new();
            filter.push(event.as_bytes()).keep
        };
        assert_eq!(forward(&event(room), 1000), Keep::Ranges(Vec::new()));
        assert_eq!(forward(&event(room + 1), 1000), Keep::All);
        let endless = "data: ".to_owned() + &"x".repeat(2 * UsageFilter::HELD_MAX);
        assert_eq!(forward(&endless, 7), Keep::All);
    }

    /// Pieces of streams, whole and broken.
    fn stream() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(TEXT),
            Just(USAGE),
            Just(DONE),
            Just("\n"),
            Just("\r"),
            Just("\r\n"),
            Just("data: "),
            Just("{\"choices\""),
            Just(":[]"),
            Just(",\"usage\":{}}"),
            Just(" "),
            Just(": c"),
            Just("x"),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn where_the_network_cuts_does_not_matter(stream in stream(), chunk_len in 1_usize..40) {
            assert_filter_cuts_do_not_matter(stream.as_bytes(), chunk_len);
        }

        #[test]
        fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..200), chunk_len in 1_usize..9) {
            assert_filter_cuts_do_not_matter(&bytes, chunk_len);
        }
    }
}
