//! What callers say of codings, and what they get for it.

use super::*;
use proptest::{collection::vec, prelude::*};
use std::io::Read as _;

fn chosen(lines: &[&str]) -> Option<&'static str> {
    let lines = lines.iter().map(|line| line.as_bytes());
    choose(lines, &Coding::ALL).map(Coding::name)
}

#[test]
fn a_caller_gets_what_it_prefers_of_what_is_offered() {
    for (line, expected) in [
        ("gzip", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate", Some("gzip")),
        ("GZIP;Q=1", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("br;q=0.9, gzip;q=1.0", Some("gzip")),
        ("br;q=0.9 , zstd;q=0.899", Some("br")),
        ("*", Some("zstd")),
        ("zstd;q=0, *", Some("br")),
        ("*;q=0.1, gzip;q=0.2", Some("gzip")),
        ("gzip;q=0.001", Some("gzip")),
        ("identity;q=0, gzip", Some("gzip")),
        ("identity, gzip", Some("gzip")),
        ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
    ] {
        assert_eq!(chosen(&[line]), expected, "{line}");
    }
    assert_eq!(chosen(&["deflate", "br"]), Some("br"));
}

#[test]
fn who_says_nothing_or_likes_it_better_gets_it_as_it_is() {
    for line in [
        "",
        "identity",
        "deflate",
        "compress, snappy",
        "gzip;q=0",
        "gzip;q=0.000, br;q=0",
        "*;q=0",
        "identity;q=0",
        "*;q=0, identity;q=0",
        "identity;q=1, gzip;q=0.5",
        "*;q=0.5, gzip;q=0.1, br;q=0, zstd;q=0",
        // What cannot be read says nothing.
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=",
        "gzip;q=0.1234",
        "gzip;level=9",
        "gzip br",
        "\"gzip\"",
    ] {
        assert_eq!(chosen(&[line]), None, "{line}");
    }
    assert_eq!(chosen(&[]), None);
    assert_eq!(chosen(&["gzip;q=0", "gzip"]), None, "the first word counts");
}

#[test]
fn only_what_is_offered_is_given() {
    let of = |offered: &[Coding]| choose([b"gzip, br, zstd".as_slice()], offered);
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[Coding::Gzip]), Some(Coding::Gzip));
    assert_eq!(of(&[Coding::Br, Coding::Zstd]), Some(Coding::Br), "of equals, the first offered");
}

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Coding::Zstd => return zstd::decode_all(bytes).unwrap(),
        Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain).unwrap(),
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap(),
    };
    plain
}

#[test]
fn what_does_not_get_smaller_is_left_as_it_is() {
    let noise: Vec<u8> = blake3::hash(b"noise").as_bytes().to_vec();
    for coding in Coding::ALL {
        assert_eq!(coding.encode(&noise), None, "{coding:?}");
        assert_eq!(coding.encode(b""), None, "{coding:?}");
    }
}

#[test]
fn text_is_compressible_and_pictures_and_streams_are_not() {
    for kind in [
        "text/plain; charset=utf-8",
        "Application/JSON",
        "application/problem+json",
        "image/svg+xml",
        "application/x-ndjson",
    ] {
        assert!(is_compressible(kind.as_bytes()), "{kind}");
    }
    for kind in ["", "image/png", "text/event-stream; charset=utf-8", "application/octet-stream"] {
        assert!(!is_compressible(kind.as_bytes()), "{kind}");
    }
}

proptest! {
    #[test]
    fn whatever_is_coded_reads_back(piece in vec(any::<u8>(), 1..40), times in 20_usize..200) {
        let plain = piece.repeat(times);
        for coding in Coding::ALL {
            if let Some(coded) = coding.encode(&plain) {
                prop_assert!(coded.len() < plain.len());
                prop_assert_eq!(decoded(coding, &coded), &plain[..]);
            }
        }
    }

    /// Whatever the bytes are: no panic, and nobody is given what it has refused.
    #[test]
    fn nobody_is_given_what_it_refuses(line in ".{0,80}", refused in 0_usize..3) {
        let refused = Coding::ALL[refused];
        let line = format!("{};q=0, {line}", refused.name());
        prop_assert_ne!(choose([line.as_bytes()], &Coding::ALL), Some(refused));
    }
}
