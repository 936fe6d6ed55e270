//! As much of HTTP/1.1 as the two sides need of each other.

use std::io::{self, BufRead, Read};

/// The longest head or body that is read; a caller of this bench sends a kilobyte.
const LENGTH_MAX: u64 = 1024 * 1024;

/// One request's body; `None` when the caller has hung up between two requests.
pub(crate) fn request(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = head(from)? else { return Ok(None) };
    let length = head.lines().find_map(content_length).unwrap_or(0).min(LENGTH_MAX);
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    Ok(Some(body))
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
