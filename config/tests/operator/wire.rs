//! What a cache rule may say about how stored answers go out.

use super::*;
use std::{num::NonZeroU32, time::Duration};
use tollgate_config::{CachePolicy, Coding, Encodings, Pacing, redacted};

fn file(rule: &str) -> String {
    SMALLEST.replace("upstream: model", &format!("upstream: model, cache: {{ {rule} }}"))
}

#[track_caller]
fn policy(rule: &str) -> CachePolicy {
    valid(&file(rule)).routes.remove(0).cache
}

fn without_path(rule: &str) -> String {
    problems(&file(rule)).replace("routes[0].cache.", "")
}

#[test]
fn answers_go_out_as_they_are_kept_unless_codings_are_offered() {
    for rule in ["", "encodings: off", "encodings: false, mode: http"] {
        assert_eq!(policy(rule).encodings, None, "{rule}");
    }
    let all = vec![Coding::Zstd, Coding::Br, Coding::Gzip];
    let auto = Some(Encodings { codings: all, bytes_min: 1024 });
    for rule in ["auto", "{}", "[zstd, br, gzip]", "{ min: 1KiB }"] {
        assert_eq!(policy(&format!("encodings: {rule}")).encodings, auto, "{rule}");
    }
    let some = Encodings { codings: vec![Coding::Gzip, Coding::Br], bytes_min: 64 };
    let rule = "mode: http, encodings: { offer: [gzip, br], min: 64B }";
    assert_eq!(policy(rule).encodings, Some(some));
}

#[test]
fn what_cannot_be_meant_by_codings_is_said() {
    insta::assert_snapshot!(without_path("encodings: true"), @"encodings: must be off, auto or a list of zstd, br and gzip, not true");
    insta::assert_snapshot!(without_path("encodings: [gzip, gzip]"), @"encodings: gzip appears twice");
    insta::assert_snapshot!(without_path("encodings: { min: 1B }"), @"encodings.min: must be 64B to 16MiB, not 1B");
    insta::assert_snapshot!(without_path("mode: off, encodings: auto"), @"encodings: has no meaning where nothing is cached");
}

#[test]
fn what_is_shown_of_it_means_the_same() {
    for rule in [
        "encodings: auto, pacing: original",
        "mode: content, pacing: { tokens_per_second: 7, max: 90s }",
        "mode: http, encodings: { offer: [br], min: 2KiB }",
    ] {
        let config = valid(&file(rule));
        let again = valid(&redacted(&config).to_string());
        assert_eq!(config.routes, again.routes, "{rule}");
    }
}

#[test]
fn a_stored_stream_is_given_at_once_unless_a_pace_is_said() {
    for rule in ["", "pacing: none"] {
        assert_eq!(policy(rule).pacing, None, "{rule}");
    }
    let minute = Duration::from_secs(60);
    let original = Some(Pacing { tokens_per_second: None, max: minute });
    for rule in ["original", "{}", "{ max: 1m }"] {
        assert_eq!(policy(&format!("pacing: {rule}")).pacing, original, "{rule}");
    }
    let even = Pacing { tokens_per_second: NonZeroU32::new(50), max: Duration::from_secs(5) };
    assert_eq!(policy("pacing: { tokens_per_second: 50, max: 5s }").pacing, Some(even));
    insta::assert_snapshot!(without_path("pacing: { tokens_per_second: 0, max: 1h }"), @r"
    pacing.tokens_per_second: must be 1 to 100000
    pacing.max: must be 10ms to 10m, not 1h
    ");
    insta::assert_snapshot!(without_path("mode: http, pacing: original"), @"pacing: has no meaning in mode http, which keeps no streams");
}
