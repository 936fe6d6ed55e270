//! The meta protocol of memcached (its doc/protocol.txt, 1.6.6 or newer), as far as we speak it.
//!
//! ```text
//!   mg KEY [c] v      → VA LEN [cN] / data      EN          there is none
//!   mg KEY c          → HD cN                   EN
//!   ms KEY LEN TS …   → HD [cN]                 NS, EX, NF  not stored: CN is not its number, or ME and it is there
//!   mn                → MN
//! ```
//!
//! Pure: bytes in, answers out. What a server says is foreign: a line or a length beyond its bound
//! never makes us allocate, and what is not of the protocol ends the connection.

use bytes::{Buf, Bytes, BytesMut};

/// Of a line of an answer; ours are 30 bytes, an error says what is wrong in a sentence.
const LINE_BYTES_MAX: usize = 2048;

/// What a server says to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value {
        bytes: Bytes,
        cas: u64,
    },
    /// A value beyond what may be; it was read over.
    Oversized,
    /// Done; with the number of the value where it was asked for.
    Done {
        cas: u64,
    },
    Missing,
    /// Another was faster.
    NotStored,
    Alive,
    /// An error in words.
    Refused(Box<str>),
}

/// Something that memcached does not say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of memcached 1.6.6 or newer")]
pub(super) struct Foreign;

/// Reads answers, one after the other, out of what has come.
#[derive(Debug)]
pub(super) struct Reader {
    bytes_max: usize,
    at: At,
}

#[derive(Debug)]
enum At {
    Line,
    /// So many bytes, and a line's end.
    Value {
        len: usize,
        cas: u64,
    },
    /// So many bytes still to be read over.
    Skip(usize),
}

impl Reader {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, at: At::Line }
    }

    /// The next answer; `None` until more has come.
    pub(super) fn next(&mut self, came: &mut BytesMut) -> Result<Option<Answer>, Foreign> {
        loop {
            match self.at {
                At::Line => {
                    let Some(line) = take_line(came)? else { return Ok(None) };
                    match read_line(&line)? {
                        Line::Answer(answer) => return Ok(Some(answer)),
                        Line::ValueOf { len, cas } if len <= self.bytes_max => {
                            self.at = At::Value { len, cas };
                        }
                        Line::ValueOf { len, .. } => {
                            self.at = At::Skip(len.checked_add(2).ok_or(Foreign)?);
                        }
                    }
                }
                At::Value { len, cas } => {
                    if came.len() < len + 2 {
                        return Ok(None);
                    }
                    let bytes = came.split_to(len).freeze();
                    if came.split_to(2) != b"\r\n".as_slice() {
                        return Err(Foreign);
                    }
                    self.at = At::Line;
                    return Ok(Some(Answer::Value { bytes, cas }));
                }
                At::Skip(left) => {
                    let now = left.min(came.len());
                    came.advance(now);
                    self.at = At::Skip(left - now);
                    if left > now {
                        return Ok(None);
                    }
                    self.at = At::Line;
                    return Ok(Some(Answer::Oversized));
                }
            }
        }
    }
}

enum Line {
    Answer(Answer),
    ValueOf { len: usize, cas: u64 },
}

fn take_line(came: &mut BytesMut) -> Result<Option<BytesMut>, Foreign> {
    match memchr::memchr(b'\n', came) {
        Some(end) => {
            let mut line = came.split_to(end + 1);
            let len = line.strip_suffix(b"\r\n").ok_or(Foreign)?.len();
            line.truncate(len);
            Ok(Some(line))
        }
        None if came.len() > LINE_BYTES_MAX => Err(Foreign),
        None => Ok(None),
    }
}

fn read_line(line: &[u8]) -> Result<Line, Foreign> {
    let line = std::str::from_utf8(line).map_err(|_| Foreign)?;
    let mut words = line.split_ascii_whitespace();
    let answer = match words.next() {
        Some("VA") => {
            let len = words.next().and_then(|len| len.parse().ok()).ok_or(Foreign)?;
            return Ok(Line::ValueOf { len, cas: cas_of(words)? });
        }
        // HD also without a number, where none was asked for.
        Some("HD") => Answer::Done { cas: cas_of(words)? },
        Some("EN") => Answer::Missing,
        Some("NS" | "EX" | "NF") => Answer::NotStored,
        Some("MN") => Answer::Alive,
        Some("SERVER_ERROR" | "CLIENT_ERROR") => Answer::Refused(line.into()),
        // ERROR: it does not know the command, so it is older.
        Some(_) | None => return Err(Foreign),
    };
    Ok(Line::Answer(answer))
}

fn cas_of<'a>(words: impl Iterator<Item = &'a str>) -> Result<u64, Foreign> {
    let mut numbers = words.filter_map(|word| word.strip_prefix('c'));
    numbers.next().map_or(Ok(0), |number| number.parse().map_err(|_| Foreign))
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum If {
    /// Nobody else has.
    Absent,
    /// It still has this number.
    Number(u64),
}

pub(super) fn get(key: &str) -> Bytes {
    format!("mg {key} v\r\n").into()
}

pub(super) fn get_with_number(key: &str) -> Bytes {
    format!("mg {key} c v\r\n").into()
}

pub(super) fn number(key: &str) -> Bytes {
    format!("mg {key} c\r\n").into()
}

pub(super) fn noop() -> Bytes {
    Bytes::from_static(b"mn\r\n")
}

pub(super) fn set(key: &str, value: &[u8], ttl_s: u64) -> Bytes {
    let head = format!("ms {key} {} T{ttl_s}\r\n", value.len());
    [head.as_bytes(), value, b"\r\n"].concat().into()
}

/// For ever, and asks for the number that the value then has.
pub(super) fn set_if(key: &str, value: &[u8], when: If) -> Bytes {
    let when = match when {
        If::Absent => "ME".to_owned(),
        If::Number(number) => format!("C{number}"),
    };
    let head = format!("ms {key} {} T0 c {when}\r\n", value.len());
    [head.as_bytes(), value, b"\r\n"].concat().into()
}

/// `item_size_max` in an answer to `stats settings`, once it is whole.
pub(super) fn item_bytes_max(came: &[u8]) -> Result<Option<usize>, Foreign> {
    if !came.ends_with(b"END\r\n") {
        // What is older or something else does not know it.
        let odd = came.starts_with(b"ERROR") || came.starts_with(b"CLIENT_ERROR");
        return if odd { Err(Foreign) } else { Ok(None) };
    }
    let text = std::str::from_utf8(came).map_err(|_| Foreign)?;
    let said = text.lines().find_map(|line| line.strip_prefix("STAT item_size_max "));
    said.and_then(|number| number.trim().parse().ok()).map(Some).ok_or(Foreign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn read_all(text: &[u8], piece: usize) -> Result<Vec<Answer>, Foreign> {
        let (mut reader, mut came, mut answers) = (Reader::new(10), BytesMut::new(), Vec::new());
        for piece in text.chunks(piece) {
            came.extend_from_slice(piece);
            while let Some(answer) = reader.next(&mut came)? {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    #[test]
    fn answers_are_read_in_whatever_pieces_they_come() {
        let text =
            b"VA 2 c7\r\nhi\r\nEN\r\nHD\r\nVA 12\r\n0123456789\r\n\r\nHD c9\r\nNS\r\nEX\r\nNF\r\n\
            SERVER_ERROR out of memory\r\nMN\r\n";
        let value = |bytes| Answer::Value { bytes: Bytes::from_static(bytes), cas: 7 };
        let expected = vec![
            value(b"hi"),
            Answer::Missing,
            Answer::Done { cas: 0 },
            Answer::Oversized,
            Answer::Done { cas: 9 },
            Answer::NotStored,
            Answer::NotStored,
            Answer::NotStored,
            Answer::Refused("SERVER_ERROR out of memory".into()),
            Answer::Alive,
        ];
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(read_all(text, piece), Ok(expected.clone()), "{piece}");
        }
    }

    #[test]
    fn what_memcached_does_not_say_is_foreign() {
        for text in [
            "ERROR\r\n".to_owned(),
            "HTTP/1.1 400 Bad Request\r\n".to_owned(),
            "VA x\r\n".to_owned(),
            "VA -1\r\n".to_owned(),
            "HD cx\r\n".to_owned(),
            "EN\n".to_owned(),
            "VA 2\r\nhiya".to_owned(),
            format!("VA {}\r\n", usize::MAX),
            "x".repeat(LINE_BYTES_MAX + 1),
        ] {
            assert_eq!(read_all(text.as_bytes(), 1000), Err(Foreign), "{text}");
        }
    }

    #[test]
    fn the_largest_item_is_what_the_server_says() {
        let text = b"STAT maxbytes 5\r\nSTAT item_size_max 1048576\r\nEND\r\n";
        assert_eq!(item_bytes_max(text), Ok(Some(1_048_576)));
        assert_eq!(item_bytes_max(&text[..20]), Ok(None));
        assert_eq!(item_bytes_max(b"ERROR\r\n"), Err(Foreign));
        assert_eq!(item_bytes_max(b"END\r\n"), Err(Foreign));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(text in vec(any::<u8>(), 0..200), piece in 1..50_usize) {
            for text in [text.clone(), [b"VA ", text.as_slice()].concat()] {
                let answers = read_all(&text, piece).unwrap_or_default();
                prop_assert!(answers.len() <= text.len());
            }
            prop_assert!(item_bytes_max(&text).is_ok_and(|bytes| bytes.is_none()));
        }
    }
}
