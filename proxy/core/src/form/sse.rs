//! Server-sent events: a complete recording cut into events.
//!
//! Strict where the incremental filter is not: a recording is converted only if
//! every line of it is understood. Comments are keep-alives and mean nothing, by
//! the format's own definition; `id`, `retry` and names unknown to it mean
//! something that a whole answer has no place for.

use super::raw::Raw;

/// What ends a stream of OpenAI's.
pub(super) const DONE: &str = "[DONE]";

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The `event` field.
    pub(super) name: Option<String>,
    /// The `data` fields, joined by line feeds.
    pub(super) data: String,
}

/// The lines of `text`, ended by LF, CRLF or CR, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, end_and_rest) = rest.split_at(end);
        rest = end_and_rest
            .strip_prefix(b"\r\n")
            .or_else(|| end_and_rest.get(1..))
            .unwrap_or_default();
        Some(line)
    })
}

/// A line's field name and value; the name of a comment is empty.
pub(super) fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let (name, rest) = line.split_at(colon);
    let value = rest.get(1..).unwrap_or_default();
    (name, value.strip_prefix(b" ").unwrap_or(value))
}

/// The events of a complete stream. The last one counts without its blank line
/// too: whether it is a whole one shows in its data. `None` for what is not UTF-8
/// or has fields other than `event` and `data`.
pub(super) fn events(stream: &[u8]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    let mut current: Option<Event> = None;
    for line in lines(stream) {
        if line.is_empty() {
            events.extend(current.take());
            continue;
        }
        let (name, value) = field(line);
        let value = std::str::from_utf8(value).ok()?;
        match name {
            b"" => {}
            b"event" => current.get_or_insert_default().name = Some(value.to_owned()),
            b"data" => append_line(&mut current.get_or_insert_default().data, value),
            _ => return None,
        }
    }
    events.extend(current);
    Some(events)
}

fn append_line(data: &mut String, line: &str) {
    if !data.is_empty() {
        data.push('\n');
    }
    data.push_str(line);
}

/// Hands on the chunks of a stream of OpenAI's, each with its JSON. `None`: one of them was refused,
/// or its last event, and no other, is not [`DONE`].
pub(super) fn chunks(stream: &[u8], mut take: impl FnMut(Raw<'_>) -> Option<()>) -> Option<()> {
    let mut done = false;
    for event in events(stream)? {
        if done || event.name.is_some_and(|name| name != "message") {
            return None;
        }
        if event.data == DONE {
            done = true;
        } else {
            take(Raw::parse(event.data.as_bytes())?)?;
        }
    }
    done.then_some(())
}

/// `json` as one event. `json` must have no line break.
pub(super) fn frame(name: Option<&str>, json: &str) -> Vec<u8> {
    debug_assert!(!json.contains(['\n', '\r']), "a frame is one line of data");
    match name {
        Some(name) => format!("event: {name}\ndata: {json}\n\n").into_bytes(),
        None => format!("data: {json}\n\n").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: Option<&str>, data: &str) -> Event {
        Event { name: name.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn every_line_end_of_the_format_is_read() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = "\u{feff}: hello\nevent: a\ndata: 1\ndata:2\n\n\n\ndata: 3\n\n";
            let events = events(stream.replace('\n', end).as_bytes()).unwrap();
            assert_eq!(events, [event(Some("a"), "1\n2"), event(None, "3")], "{end:?}");
        }
    }

    #[test]
    fn the_last_event_counts_without_its_blank_line() {
        assert_eq!(events(b"data: 1\n\ndata: [DONE]").unwrap()[1], event(None, "[DONE]"));
    }

    #[test]
    fn fields_with_a_meaning_of_their_own_are_refused() {
        assert_eq!(events(b"id: 7\ndata: 1\n\n"), None);
        assert_eq!(events(b"retry: 7\n\n"), None);
        assert_eq!(events(b"data: \xff\n\n"), None);
    }
}
