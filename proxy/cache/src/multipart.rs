//! Reads the parts of a `multipart/form-data` body (RFC 7578), for keys.
//!
//! What counts is what a part says, not the boundary between parts, which every caller draws
//! afresh. Read strictly: a body that two readers could take apart in two ways (bytes before the
//! first boundary, line ends of one byte, a boundary inside of a part, escapes in a name) has no
//! parts here, so that nobody can show one picture to the key and another to the service.

use crate::rfc9111::fields;
use memchr::memmem;

/// More than any form has.
pub const PARTS_MAX: usize = 256;
/// Of one part.
const FIELDS_MAX: usize = 16;
/// Of the fields of one part, in bytes.
const HEAD_LEN_MAX: usize = 8 * 1024;
/// RFC 2046 §5.1.1.
const BOUNDARY_LEN_MAX: usize = 70;

/// The body is not a form that can be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMultipart {
    #[error("the content-type is not one multipart/form-data with a boundary")]
    ContentType,
    #[error("the form is not as RFC 7578 has it, at byte {at}")]
    Form { at: usize },
    #[error("the form has more than {PARTS_MAX} parts, or one of them a longer head than is read")]
    TooMuch,
}

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub name: &'a [u8],
    /// Its other fields in their order, `content-type` among them; names in lower case. Not the
    /// name that its file has at the caller's.
    pub fields: Vec<(Vec<u8>, &'a [u8])>,
    /// How it was introduced, names of files included, as it was written.
    pub disposition: &'a [u8],
    pub content: &'a [u8],
}

/// The parts of `body`, in the order in which they came. `content_type` is the request's.
///
/// # Errors
/// [`NotMultipart`].
pub fn parts<'a>(content_type: &[u8], body: &'a [u8]) -> Result<Vec<Part<'a>>, NotMultipart> {
    let mut line = b"--".to_vec();
    line.extend_from_slice(&boundary(content_type).ok_or(NotMultipart::ContentType)?);
    let wrong = |at| NotMultipart::Form { at };
    let mut at = body.starts_with(&line).then_some(line.len()).ok_or(wrong(0))?;
    let finder = memmem::Finder::new(&line);
    let mut parts = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix(b"--") {
            let ends = matches!(after, b"" | b"\r\n") && !parts.is_empty();
            return if ends { Ok(parts) } else { Err(wrong(at)) };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(wrong(at))?;
        let len = finder.find(part).ok_or(wrong(at))?;
        let (inside, _) = part.split_at_checked(len).ok_or(wrong(at))?;
        if parts.len() == PARTS_MAX {
            return Err(NotMultipart::TooMuch);
        }
        parts.push(read(inside.strip_suffix(b"\r\n").ok_or(wrong(at))?, at)?);
        at += 2 + len + line.len();
    }
}

/// What is between two boundaries.
fn read(part: &[u8], at: usize) -> Result<Part<'_>, NotMultipart> {
    let wrong = NotMultipart::Form { at };
    let end = memmem::find(part, b"\r\n\r\n").ok_or(wrong)?;
    let (head, content) = part.split_at_checked(end).ok_or(wrong)?;
    if head.len() > HEAD_LEN_MAX {
        return Err(NotMultipart::TooMuch);
    }
    let (mut name, mut introduced, mut fields) = (None, b"".as_slice(), Vec::new());
    for line in split_lines(head) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(field), Some(value)) = (halves.next(), halves.next()) else { return Err(wrong) };
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let is_text = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
        if field.is_empty() || !field.iter().all(is_token) || !value.iter().all(is_text) {
            return Err(wrong);
        }
        let (field, value) = (field.to_ascii_lowercase(), value.trim_ascii());
        if field == b"content-disposition" {
            let said = disposition(value).ok_or(wrong)?;
            if name.replace(said).is_some() {
                return Err(wrong);
            }
            introduced = value;
        } else if fields.iter().any(|(other, _)| *other == field) {
            return Err(wrong);
        } else if fields.len() == FIELDS_MAX {
            return Err(NotMultipart::TooMuch);
        } else {
            fields.push((field, value));
        }
    }
    let content = content.get(4..).unwrap_or_default();
    Ok(Part { name: name.ok_or(wrong)?, fields, disposition: introduced, content })
}

fn split_lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(end) = memmem::find(text, b"\r\n") else { return Some(text) };
        rest = text.get(end + 2..);
        text.get(..end)
    })
}

/// The name in `form-data; name="…"; filename="…"`.
fn disposition(value: &[u8]) -> Option<&[u8]> {
    // An escape means one thing to a browser and another to RFC 9110.
    if value.contains(&b'\\') {
        return None;
    }
    let mut members = fields::split(value, b';').map(<[u8]>::trim_ascii);
    if !members.next()?.eq_ignore_ascii_case(b"form-data") {
        return None;
    }
    let (mut name, mut seen) = (None, Vec::new());
    for member in members {
        let mut halves = member.splitn(2, |byte| *byte == b'=');
        let (key, value) = (halves.next()?.to_ascii_lowercase(), halves.next()?);
        if !matches!(&*key, b"name" | b"filename" | b"filename*") || seen.contains(&key) {
            return None;
        }
        let quoted = value.strip_prefix(b"\"").map(|value| value.strip_suffix(b"\""));
        let value = match quoted {
            Some(value) => value?,
            None if value.is_empty() => return None,
            None => value,
        };
        if value.contains(&b'"') {
            return None;
        }
        if key == b"name" {
            name = Some(value);
        }
        seen.push(key);
    }
    name
}

fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    if content_type.contains(&b'\\') {
        return None;
    }
    let mut members = fields::split(content_type, b';').map(<[u8]>::trim_ascii);
    if !members.next()?.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let mut found = None;
    for member in members {
        let mut halves = member.splitn(2, |byte| *byte == b'=');
        let (key, value) = (halves.next()?, halves.next()?);
        let value = match value.strip_prefix(b"\"") {
            Some(rest) => rest.strip_suffix(b"\"")?,
            None => value,
        };
        if key.eq_ignore_ascii_case(b"boundary") && found.replace(value.to_vec()).is_some() {
            return None;
        }
    }
    // RFC 2046's bchars without the space, which would be ambiguous at an end.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(byte);
    let is_long_enough = |boundary: &Vec<u8>| (1..=BOUNDARY_LEN_MAX).contains(&boundary.len());
    found.filter(|boundary| boundary.iter().all(is_plain)).filter(is_long_enough)
}

/// What must hold for every body whatsoever: what was read is in it, and reading it again between
/// other boundaries says the same. Used by property tests and the fuzz target.
///
/// # Panics
/// When it does not hold.
#[doc(hidden)]
pub fn assert_boundaries_do_not_matter(body: &[u8]) {
    const KIND: &[u8] = b"multipart/form-data; boundary=b";
    let Ok(found) = parts(KIND, body) else { return };
    let mut again = Vec::new();
    for part in &found {
        again.extend_from_slice(b"--another.boundary\r\ncontent-disposition: ");
        again.extend_from_slice(part.disposition);
        again.extend_from_slice(b"\r\n");
        for (name, value) in &part.fields {
            again.extend_from_slice(&[name, b": ".as_slice(), value, b"\r\n"].concat());
        }
        again.extend_from_slice(b"\r\n");
        again.extend_from_slice(part.content);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"--another.boundary--\r\n");
    let kind = b"multipart/form-data; boundary=\"another.boundary\"";
    if memmem::find(body, b"--another.boundary").is_none() {
        assert_eq!(parts(kind, &again).as_ref(), Ok(&found), "another boundary, another form");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: &[u8] = b"multipart/form-data; boundary=b";

    fn names(body: &str) -> Option<Vec<&str>> {
        let found = parts(KIND, body.as_bytes()).ok()?;
        Some(found.iter().map(|part| str::from_utf8(part.name).unwrap()).collect())
    }

    #[test]
    fn a_form_is_its_parts() {
        let body =
            b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a;b.png\"\r\n\
            Content-Type: image/png\r\n\r\n\x89PNG\r\n\r\n--\r\n\r\n--b\r\n\
            content-disposition: form-data; name=prompt\r\n\r\n\r\n--b--\r\n";
        let found = parts(KIND, body).unwrap();
        assert_eq!(
            found,
            [
                Part {
                    name: b"image",
                    fields: vec![(b"content-type".to_vec(), b"image/png")],
                    disposition: b"form-data; name=\"image\"; filename=\"a;b.png\"",
                    content: b"\x89PNG\r\n\r\n--\r\n",
                },
                Part {
                    name: b"prompt",
                    fields: vec![],
                    disposition: b"form-data; name=prompt",
                    content: b"",
                },
            ]
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        let part = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nx\r\n";
        assert_eq!(names(&format!("{part}--b--")), Some(vec!["a"]));
        assert_eq!(names(&format!("{part}{part}--b--\r\n")), Some(vec!["a", "a"]));
        for wrong in [
            String::new(),
            "--b--".into(),
            part.into(),
            format!("{part}--b"),
            format!("preamble\r\n{part}--b--"),
            format!("{part}--b--\r\nepilogue"),
            format!("{part}--b--\r\n{part}--b--"),
            part.replace("\r\n", "\n") + "--b--",
            part.replace('x', "x\n--b\ny") + "--b--",
            part.replace('x', "x--by") + "--b--",
            part.replace("--b\r", "--b \r") + "--b--",
            part.replace("name=\"a\"", "name=\"a\"; name=\"c\"") + "--b--",
            part.replace("name=\"a\"", "name=\"a\\\"; filename=\"") + "--b--",
            part.replace("name=\"a\"", "filename=\"a\"") + "--b--",
            part.replace("name=\"a\"", "name=\"a") + "--b--",
            part.replace("form-data", "attachment") + "--b--",
            part.replace("\r\n\r\n", "\r\ncontent-disposition: form-data; name=\"c\"\r\n\r\n")
                + "--b--",
            part.replace("\r\n\r\n", "\r\ncontent-type: a/b\r\ncontent-type: c/d\r\n\r\n")
                + "--b--",
            part.replace("\r\n\r\n", "\r\n folded: x\r\n\r\n") + "--b--",
            part.replace("\r\n\r\n", "\r\nx: a\nb\r\n\r\n") + "--b--",
        ] {
            assert_eq!(names(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_content_type_has_one_plain_boundary() {
        let check = |kind: &str| boundary(kind.as_bytes());
        assert_eq!(check("Multipart/Form-Data;Boundary=\"a b\""), None);
        assert_eq!(
            check("Multipart/Form-Data;Boundary=\"a.b\"; charset=utf-8"),
            Some(b"a.b".to_vec())
        );
        for wrong in [
            "",
            "multipart/form-data",
            "multipart/mixed; boundary=a",
            "text/plain",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
        ] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
        assert_eq!(check(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
    }

    #[test]
    fn it_never_reads_more_than_it_may() {
        let part = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n\r\n";
        let form = |n| part.repeat(n) + "--b--";
        assert!(parts(KIND, form(PARTS_MAX).as_bytes()).is_ok());
        assert_eq!(parts(KIND, form(PARTS_MAX + 1).as_bytes()), Err(NotMultipart::TooMuch));
        let long =
            part.replace("\r\n\r\n\r\n", &format!("\r\nx: {}\r\n\r\n\r\n", "y".repeat(9000)));
        assert_eq!(parts(KIND, (long + "--b--").as_bytes()), Err(NotMultipart::TooMuch));
    }

    proptest! {
        #[test]
        fn the_boundary_is_no_part_of_what_is_said(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "--b", "--", "\r\n", "\n", "content-disposition: form-data; name=\"a\"", "; filename=x",
                "content-type: a/b", "x", ";", "\"", "\\", "\r\n\r\n", "--b\r\ncontent-disposition: form-data; name=",
            ]), 0..14),
        ) {
            assert_boundaries_do_not_matter(pieces.concat().as_bytes());
            let form = format!("--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n{}\r\n--b--", pieces.concat());
            assert_boundaries_do_not_matter(form.as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..80), kind in any::<Vec<u8>>()) {
            parts(&kind, &body).ok();
            assert_boundaries_do_not_matter(&body);
        }
    }
}
