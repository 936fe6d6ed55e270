//! `routes[].cache.key`: what of a call makes its key.

use crate::{
    KeyPart, KeyPolicy, KeyVersion,
    defaults::PARAMETER_BYTES_MAX,
    problem::{member, quoted},
    raw::RawKey,
    review::{Review, is_token},
};
use std::collections::HashSet;

use super::tag::{POINTER_IS, SEGMENTS_MAX, is_pointer};

const KNOWN: &str = "body body./json/pointer part.NAME header.N query.N path.N";

pub(super) fn policy(review: &mut Review<'_>, path: &str, raw: RawKey) -> KeyPolicy {
    let versions = raw.versions.into_iter().flatten().map(|(name, source)| {
        let path = member(&format!("{path}.versions"), &name);
        let header = review.header(format!("{path}.header"), source.header.as_deref());
        KeyVersion { name: review.name(path, Some(name), "._-"), header }
    });
    let versions = versions.collect();
    let ignore = raw.ignore.unwrap_or_default();
    for (i, pointer) in ignore.iter().enumerate() {
        if !is_pointer(pointer) {
            review.report(format!("{path}.ignore[{i}]"), not_a_pointer(pointer));
        }
    }
    none_twice(review, &format!("{path}.ignore"), &ignore);
    let headers = raw.include_headers.into_iter().flatten().enumerate();
    let include_headers: Vec<String> = headers
        .map(|(i, name)| review.header(format!("{path}.include_headers[{i}]"), Some(&name)))
        .collect();
    none_twice(review, &format!("{path}.include_headers"), &include_headers);
    let policy = KeyPolicy {
        versions,
        include_headers,
        of: raw.of.map(|names| parts(review, &format!("{path}.of"), &names)),
        ignore,
    };
    if let Some(parts) = &policy.of {
        fit(review, path, parts, &policy);
        advise(review, path, parts);
    }
    policy
}

fn not_a_pointer(text: &str) -> String {
    format!("must be {POINTER_IS}, not {}", quoted(text))
}

fn none_twice(review: &mut Review<'_>, path: &str, all: &[String]) {
    for (i, one) in all.iter().enumerate() {
        if all.iter().take(i).any(|other| other == one) {
            review.report(format!("{path}[{i}]"), format!("{one} appears twice"));
        }
    }
}

fn parts(review: &mut Review<'_>, path: &str, names: &[String]) -> Vec<KeyPart> {
    let mut parts: Vec<KeyPart> = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match part(name) {
            Ok(part) if parts.contains(&part) => {
                review.report(format!("{path}[{i}]"), format!("{part} appears twice"));
            }
            Ok(part) => parts.push(part),
            Err(message) => review.report(format!("{path}[{i}]"), message),
        }
    }
    parts
}

fn part(name: &str) -> Result<KeyPart, String> {
    let unknown = || format!("unknown part {}; known are {KNOWN}", quoted(name));
    let (source, argument) = name.split_once('.').unwrap_or((name, ""));
    let is_name = !argument.is_empty()
        && argument.len() <= PARAMETER_BYTES_MAX
        && !argument.chars().any(char::is_control);
    match (source, argument) {
        ("body", "") if !name.contains('.') => Ok(KeyPart::Bytes),
        ("body", pointer) if pointer.split('/').any(|step| step == "*") => {
            Err("* stands for any member only in ignore; name one value".to_owned())
        }
        ("body", pointer) if is_pointer(pointer) => Ok(KeyPart::Body(pointer.to_owned())),
        ("body", pointer) => Err(not_a_pointer(pointer)),
        ("part", _) if is_name => Ok(KeyPart::Field(argument.to_owned())),
        ("header", header) if is_token(header) => Ok(KeyPart::Header(header.to_ascii_lowercase())),
        ("query", _) if is_name => Ok(KeyPart::Query(argument.to_owned())),
        ("path", place) => match place.parse() {
            Ok(place) if (1..=SEGMENTS_MAX).contains(&place) => Ok(KeyPart::Segment(place - 1)),
            Ok(_) | Err(_) => {
                Err(format!("the segments of a path are path.1 to path.{SEGMENTS_MAX}"))
            }
        },
        _ => Err(unknown()),
    }
}

/// Whether the parts can all be had of one body.
fn fit(review: &mut Review<'_>, path: &str, parts: &[KeyPart], policy: &KeyPolicy) {
    let json = parts.iter().any(|part| matches!(part, KeyPart::Body(_)));
    let form = parts.iter().any(|part| matches!(part, KeyPart::Field(_)));
    if json && form {
        let message = "body./pointer is of a JSON body and part.NAME of a form: no call has both";
        review.report(format!("{path}.of"), message);
    }
    if parts.contains(&KeyPart::Bytes) && (json || form) {
        review.report(
            format!("{path}.of"),
            "body is all of it: leave out its parts, or name only them",
        );
    }
    if !policy.ignore.is_empty() && !json {
        let message = "has no meaning with an of that names no body./pointer";
        review.report(format!("{path}.ignore"), message);
    }
}

/// Says what a template leaves out: whatever that changes, callers will be given the same answer.
fn advise(review: &mut Review<'_>, path: &str, parts: &[KeyPart]) {
    let mut left_out = HashSet::new();
    for part in parts {
        left_out.insert(match part {
            KeyPart::Bytes => "the content-type",
            KeyPart::Body(_) => "the rest of the body",
            KeyPart::Field(_) => "the other parts of the form and the names of files",
            KeyPart::Query(_) => "the rest of the query",
            KeyPart::Segment(_) => "the rest of the path",
            KeyPart::Header(_) => continue,
        });
    }
    let of_body =
        |part: &KeyPart| matches!(part, KeyPart::Bytes | KeyPart::Body(_) | KeyPart::Field(_));
    if !parts.iter().any(of_body) {
        left_out.insert("the body");
    }
    let mut left_out: Vec<&str> = left_out.into_iter().collect();
    left_out.sort_unstable();
    let message =
        format!("leaves out {}: calls that differ only there get one answer", left_out.join(", "));
    review.advise(format!("{path}.of"), message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_is_named_by_where_it_stands() {
        for (name, expected) in [
            ("body", KeyPart::Bytes),
            ("body./a~1b/0", KeyPart::Body("/a~1b/0".into())),
            ("part.image", KeyPart::Field("image".into())),
            ("header.X-Kb", KeyPart::Header("x-kb".into())),
            ("query.q", KeyPart::Query("q".into())),
            ("path.2", KeyPart::Segment(1)),
        ] {
            assert_eq!(part(name), Ok(expected));
        }
        for wrong in [
            "",
            "body.",
            "body.a",
            "body./~2",
            "body./a/*",
            "part",
            "part.",
            "header.",
            "header.a b",
            "query.",
            "path.0",
            "path.65",
            "path.x",
            "tenant",
            "user",
            "cookie.a",
            "part.a\n",
        ] {
            assert!(part(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_part_reads_back_as_it_is_shown(name in "(body|part|header|query|path)(\\.[a-z1-9/~]{1,4})?") {
            if let Ok(read) = part(&name) {
                prop_assert_eq!(read.to_string(), name);
            }
        }
    }
}
