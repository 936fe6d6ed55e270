//! What is typed, and what is printed about it.

use super::*;
use clap::Parser as _;

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    what_if: WhatIf,
}

const WAS: Setting = Setting { memory_bytes_max: 64 << 20, policy: Policy::Lru, ttl_ms: None };

fn typed(words: &str) -> WhatIf {
    Typed::parse_from(["what-if"].into_iter().chain(words.split_whitespace())).what_if
}

fn wrong(words: &str) -> String {
    match typed(words).settings(WAS) {
        Err(Failure::Input(lines)) => lines.join("\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_combination_is_a_row_and_what_is_left_out_is_as_it_was() {
    let all = typed("--size 128MiB,1GiB --ttl 10m,1h --policy lfu,cost").settings(WAS).unwrap();
    assert_eq!(all.len(), 8);
    let last = Setting { memory_bytes_max: 1 << 30, policy: Policy::Cost, ttl_ms: Some(3_600_000) };
    assert_eq!(all.last(), Some(&last));
    let all = typed("").settings(WAS).unwrap();
    let sizes: Vec<u64> = all.iter().map(|setting| setting.memory_bytes_max >> 20).collect();
    assert_eq!(sizes, [32, 64, 128, 256]);
    assert!(all.iter().all(|setting| setting.policy == Policy::Lru && setting.ttl_ms.is_none()));
}

#[test]
fn what_cannot_be_is_said_with_what_can() {
    assert_eq!(wrong("--size 5"), "--size: must be a size from 1MiB to 1TiB, like 256MiB, not 5");
    assert_eq!(wrong("--ttl soon"), "--ttl: must be a time like 10m, 1h or 7d, not soon");
    assert_eq!(wrong("--policy fifo"), "--policy: must be lfu, lru or cost, not fifo");
    let sizes = ["8MiB"; 201].join(",");
    assert_eq!(wrong(&format!("--size {sizes}")), "201 combinations: give fewer, at most 200");
}

#[test]
fn how_far_it_is_goes_from_nothing_to_all() {
    let mut progress = Progress::new(4, 1_000);
    assert_eq!(progress.line(0), "what-if: 0 % (0 of 4 replays)");
    progress.done = 3;
    assert_eq!(progress.line(1_000), "what-if: 100 % (3 of 4 replays)");
    assert_eq!(Progress::new(1, 0).line(0), "what-if: 0 % (0 of 1 replays)");
}

#[test]
fn a_file_that_is_none_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = typed(&format!("--trace {}", dir.path().display())).execute();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "not a trace, but long enough to be the head of one; or so it seems")
        .unwrap();
    let foreign = typed(&format!("--trace {}", file.display())).execute();
    for (outcome, said) in [(nothing, ": no key trace; set"), (foreign, ": not a key trace; ")] {
        let Err(Failure::Input(lines)) = outcome else { panic!("{outcome:?}") };
        assert!(lines[0].contains(said), "{lines:?}");
    }
}
