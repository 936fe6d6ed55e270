//! What is written is read, what is torn is read up to there, and nothing of a key is to be found.

use super::{
    codec::{self, BLOCK_HEAD_LEN, Block, Counts, HEAD_LEN},
    *,
};
use crate::{entry::tests::key, key::CacheKey};
use proptest::{collection::vec, option, prelude::*};
use std::{collections::BTreeMap, fs, sync::Arc};
use tempfile::TempDir;

fn settings(dir: &TempDir) -> Settings {
    Settings {
        dir: dir.path().join("trace"),
        bytes_max: 1 << 20,
        sample_ppm: 1_000_000,
        memory_bytes_max: 64 << 20,
        policy: Policy::Cost,
        held_bytes: 0,
        now_ms: 1_000,
    }
}

fn begin(settings: &Settings) -> Trace {
    Trace::begin(settings, Arc::default()).unwrap()
}

fn line(at_ms: u64, outcome: Outcome) -> Line<Arc<str>> {
    Line {
        at_ms,
        digest: 0,
        route: "chat".into(),
        outcome,
        is_stale: false,
        by_content: true,
        asks_memory: true,
        kept: None,
    }
}

/// A key of a question of its own.
fn numbered(n: u64) -> CacheKey {
    CacheKey::of_record(&n.to_le_bytes())
}

fn lines() -> impl Strategy<Value = Vec<Line<u16>>> {
    use Outcome::{Anew, Behind, Joined, Memory, Missed, Passed, Renewed};
    let outcome = prop_oneof![
        Just(Memory),
        Just(Behind),
        Just(Joined),
        Just(Missed),
        Just(Anew),
        Just(Renewed),
        Just(Passed)
    ];
    let kept = any::<(u64, u64, bool, u64, u64, u64)>().prop_map(
        |(weight, worth, is_priced, ttl_ms, after_ms, took_ms)| Kept {
            weight,
            worth,
            is_priced,
            ttl_ms,
            after_ms,
            took_ms,
        },
    );
    let line = (any::<(u64, u64, u16, bool, bool, bool)>(), outcome, option::of(kept));
    let line = line.prop_map(
        |((at_ms, digest, route, is_stale, by_content, asks_memory), outcome, kept)| Line {
            at_ms,
            digest,
            route,
            outcome,
            is_stale,
            by_content,
            asks_memory,
            kept,
        },
    );
    vec(line, 0..20)
}

proptest! {
    #[test]
    fn a_block_reads_as_it_was_written(lines in lines(), names in vec("\\PC{0,12}", 0..4)) {
        let mut block = Block::default();
        let names: BTreeMap<u16, Box<str>> =
            (7..).zip(names.into_iter().map(String::into_boxed_str)).collect();
        names.iter().for_each(|(number, name)| block.name(*number, name));
        lines.iter().for_each(|line| block.line(line, line.route));
        let counts = Counts { asked: 9, answered: 5, lost: 1 };
        let bytes = block.finish(counts);
        let (start, body) = bytes.split_first_chunk::<BLOCK_HEAD_LEN>().unwrap();
        let head = codec::read_block_head(start).unwrap();
        let (mut read, mut read_names) = (Vec::new(), BTreeMap::new());
        codec::read_block(&head, body, &mut read_names, |line| read.push(line)).unwrap();
        prop_assert_eq!((read, read_names, head.counts), (lines, names, counts));
        assert_reads_what_was_written(&[vec![0; HEAD_LEN], bytes].concat());
    }

    #[test]
    fn foreign_bytes_are_read_without_harm(bytes in vec(any::<u8>(), 0..400)) {
        assert_reads_what_was_written(&bytes);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("foreign");
        fs::write(&path, &bytes).unwrap();
        prop_assert!(read(&path).is_err());
    }
}

#[test]
fn what_was_noted_is_read_with_the_names_of_its_routes() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let trace = begin(&settings);
    let kept = Kept { weight: 700, worth: 3, is_priced: true, ttl_ms: 9, after_ms: 8, took_ms: 7 };
    trace.write(&key(1), Line { kept: Some(kept), ..line(5, Outcome::Missed) });
    trace.write(&key(1), line(9, Outcome::Memory));
    trace.write(&key(2), Line { route: "docs".into(), ..line(7, Outcome::Passed) });
    trace.end();
    for path in [settings.dir.clone(), settings.dir.join(CURRENT)] {
        let read = read(&path).unwrap();
        let [one, again, other] = &read.lines[..] else { panic!("{read:?}") };
        assert_eq!((one.kept, one.at_ms), (Some(kept), 5));
        assert_eq!((one.digest, again.outcome, again.at_ms), (again.digest, Outcome::Memory, 9));
        assert_ne!(one.digest, other.digest);
        let names = [one, again, other].map(|line| &*read.routes[&line.route]);
        assert_eq!(names, ["chat", "chat", "docs"]);
        assert_eq!((read.asked, read.answered, read.lost, read.unread_bytes), (2, 1, 0, 0));
        let Head { memory_bytes_max, policy, sample, part, .. } = read.head;
        assert_eq!((memory_bytes_max, policy), (64 << 20, Policy::Cost));
        assert_eq!((sample, part), (SAMPLE_ALL, 0));
    }
}

#[test]
fn neither_a_key_nor_what_another_trace_makes_of_it_is_in_a_trace() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let digests = dirs.each_ref().map(|dir| {
        let trace = begin(&settings(dir));
        trace.write(&numbered(1), line(5, Outcome::Missed));
        trace.end();
        let bytes = fs::read(settings(dir).dir.join(CURRENT)).unwrap();
        let own = numbered(1);
        assert!(!bytes.windows(8).any(|some| own.as_bytes().windows(8).any(|key| key == some)));
        read(&settings(dir).dir).unwrap().lines[0].digest
    });
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn a_file_is_read_up_to_where_it_was_torn_off() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let trace = begin(&settings);
    trace.write(&key(1), line(5, Outcome::Missed));
    trace.end();
    let file = settings.dir.join(CURRENT);
    let one = fs::read(&file).unwrap();
    // The same block once more, as if it had been killed while it wrote it.
    let block = &one[HEAD_LEN..];
    for end in 1..block.len() {
        fs::write(&file, [&one, &block[..end]].concat()).unwrap();
        let read = read(&file).unwrap();
        assert_eq!((read.lines.len(), read.unread_bytes), (1, u64::try_from(end).unwrap()));
    }
    for at in HEAD_LEN..one.len() {
        let mut damaged = one.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert!(matches!(read(&file), Err(TraceError::Empty(_))), "byte {at}");
    }
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    assert!(matches!(read(dir.path()), Err(TraceError::Nothing(_))));
    assert!(matches!(read(&settings.dir), Err(TraceError::Nothing(_))));
    begin(&settings).end();
    assert!(matches!(read(&settings.dir), Err(TraceError::Empty(_))));
    let file = settings.dir.join(CURRENT);
    let head = fs::read(&file).unwrap();
    let mut other = head.clone();
    other[3] = 2;
    fs::write(&file, &other).unwrap();
    assert!(matches!(read(&file), Err(TraceError::Version { format: 2, .. })));
    for at in 4..HEAD_LEN {
        let mut damaged = head.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        assert!(matches!(read(&file), Err(TraceError::Damaged(_))), "byte {at}");
    }
    fs::write(&file, b"%PDF-1.7 and so on").unwrap();
    let foreign = read(&file).unwrap_err().to_string();
    assert!(foreign.contains("not a key trace; cache.trace writes them"), "{foreign}");
}

#[test]
fn of_a_sampled_key_all_calls_are_noted_and_of_another_none() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { sample_ppm: 250_000, ..settings(&dir) };
    let trace = begin(&settings);
    for round in 0..3 {
        for n in 0..2_000 {
            trace.write(&numbered(n), line(round, Outcome::Memory));
        }
    }
    trace.end();
    let read = read(&settings.dir).unwrap();
    assert_eq!((read.asked, read.answered, read.lost), (6_000, 6_000, 0));
    let mut calls: BTreeMap<u64, u32> = BTreeMap::new();
    for line in &read.lines {
        *calls.entry(line.digest).or_default() += 1;
    }
    assert!(calls.values().all(|calls| *calls == 3));
    // Five standard deviations around 500.
    assert!((400..600).contains(&calls.len()), "{}", calls.len());
}

#[test]
fn of_too_many_calls_those_of_fewer_keys_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let trace = begin(&settings);
    for n in 0..4_000 {
        trace.write(&numbered(n / 2), line(n, Outcome::Missed));
    }
    trace.end();
    let all = read(&settings.dir).unwrap();
    let few = reader::read_bounded(&settings.dir, 600).unwrap();
    assert!(few.lines.len() <= 600, "{}", few.lines.len());
    assert!(few.head.sample < SAMPLE_ALL);
    let expected = all.lines.iter().filter(|line| line.digest >> 32 < few.head.sample);
    assert!(few.lines.iter().eq(expected));
    assert_eq!((few.asked, all.asked), (4_000, 4_000));
}

#[test]
fn a_start_keeps_the_trace_of_the_one_before_and_does_not_mix_them() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    for at_ms in [5, 6] {
        let trace = begin(&settings);
        trace.write(&key(1), line(at_ms, Outcome::Missed));
        trace.end();
    }
    let times = |path: &Path| {
        let read = read(path).unwrap();
        (read.lines.iter().map(|line| line.at_ms).collect::<Vec<_>>(), read.left_alone)
    };
    assert_eq!(times(&settings.dir), (vec![6], true));
    assert_eq!(times(&settings.dir.join(PREVIOUS)), (vec![5], false));
    // Nobody has called since.
    begin(&settings).end();
    assert_eq!(times(&settings.dir), (vec![6], false));
    begin(&settings).end();
    assert_eq!(times(&settings.dir), (vec![6], false), "an empty file pushes nothing out");
}

#[test]
fn what_comes_after_the_end_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let counters = Arc::new(TraceCounters::default());
    let trace = Trace::begin(&settings(&dir), counters.clone()).unwrap();
    trace.write(&key(1), line(5, Outcome::Missed));
    trace.end();
    trace.write(&key(1), line(6, Outcome::Memory));
    trace.end();
    assert_eq!((counters.written.value(), counters.dropped.value()), (1, 1));
}
