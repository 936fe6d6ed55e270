//! As much of HTTP/1.1 as the two sides need of each other.

use std::{
    io::{self, BufRead, Read},
    net::SocketAddr,
};

/// The longest head or body that is read; a caller of this bench sends a kilobyte.
const LENGTH_MAX: u64 = 1024 * 1024;

/// A call with `body`, as text.
pub(crate) fn post(to: SocketAddr, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {to}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request: its head and body; `None` when the caller has hung up between two.
pub(crate) fn request(from: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let Some(head) = head(from)? else { return Ok(None) };
    let length = head.lines().find_map(content_length).unwrap_or(0).min(LENGTH_MAX);
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    Ok(Some((head, body)))
}

/// A whole answer that is a stream of `events`; an error for anything else.
pub(crate) fn stream(from: &mut impl BufRead, events: u32) -> io::Result<usize> {
    let head = head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    is_fine(&head)?;
    // A cache that has all of it may say its length.
    let Some(length) = head.lines().find_map(content_length) else {
        return self::events(from, events);
    };
    let mut body = Vec::new();
    from.take(length.min(LENGTH_MAX)).read_to_end(&mut body)?;
    counted(&body, events)
}

/// The chunked body of a stream of `events`; how many there were, with the closing one.
pub(crate) fn events(from: &mut impl BufRead, events: u32) -> io::Result<usize> {
    let mut body = Vec::new();
    while chunk(from, &mut body)? {}
    counted(&body, events)
}

fn counted(body: &[u8], events: u32) -> io::Result<usize> {
    let count = body.windows(6).filter(|window| *window == b"data: ").count();
    // The last one is `[DONE]`, which is no event of the model's.
    let complete = u32::try_from(count).ok() == events.checked_add(1);
    if complete && body.ends_with(b"data: [DONE]\n\n") {
        return Ok(count);
    }
    Err(io::Error::other(format!("{count} events, not {events} and the end")))
}

/// An error for a head that is not of a 200.
pub(crate) fn is_fine(head: &str) -> io::Result<()> {
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other(head.to_owned())) }
}

/// Everything up to and with the empty line; `None` at a clean end.
pub(crate) fn head(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    let mut limited = from.take(LENGTH_MAX);
    while limited.read_line(&mut head)? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Ok(Some(head));
        }
    }
    if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn content_length(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

/// One chunk of a chunked body, appended; `false` when it was the last, empty one.
pub(crate) fn chunk(from: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    from.take(64).read_line(&mut line)?;
    let length = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
    let read = from.take(length).read_to_end(into)?;
    line.clear();
    from.take(2).read_line(&mut line)?;
    if u64::try_from(read).ok() != Some(length) || line != "\r\n" {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(length > 0)
}
