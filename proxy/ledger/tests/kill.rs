//! `kill -9` in the middle of the work: what was acknowledged is there afterwards.
//!
//! The test starts itself once more as the victim, so that the process that dies
//! is a real one with real mappings.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;
use tollgate_ledger::{
    CacheOutcome, Cost, Dims, Ledger, OpenCall, Options, Quality, Reader, RecordView, UsageQuery,
    UsageRecord, Uuid, mint_id,
};

const TEST: &str = "what_was_acknowledged_survives_kill_9_and_counts_once";
const VICTIM: &str = "TOLLGATE_LEDGER_VICTIM_DIR";
/// After how many acknowledgements a victim is killed.
const KILLS: [usize; 4] = [1, 700, 50, 3000];
const THREADS: u64 = 3;
const USERS: u64 = 50;
/// Small, so that the segments change places all the time.
const SEGMENT_BYTES: u64 = 32 << 10;

/// Goal: every acknowledged call is in the ledger once, with its words; others are
/// there as unknown at most.
/// Method: several victims on one directory, each killed at another moment.
#[test]
fn what_was_acknowledged_survives_kill_9_and_counts_once() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        work_until_killed(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    let mut acknowledged = HashSet::new();
    for acks in KILLS {
        acknowledged.extend(kill_after(dir.path(), acks));
    }
    let reader = Reader::open(dir.path()).unwrap();
    let records = all_records(&reader);
    for id in &acknowledged {
        let view = records.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
        assert_eq!(view.record.quality, Quality::Reported, "{id} came back as unknown");
        assert_eq!(view.words[2], format!("user-{}", view.record.status));
    }
    let unknown = records.values().filter(|view| view.record.quality == Quality::Estimated);
    assert!(unknown.count() <= usize::try_from(THREADS).unwrap() * KILLS.len());

    let query = UsageQuery { from_ms: 0, to_ms: i64::MAX / 2, by: Vec::new(), step_ms: None };
    let rows = reader.usage(&query).unwrap();
    assert_eq!(rows[0].sums.calls, u64::try_from(records.len()).unwrap());
    let cost: i128 = records.values().map(|view| view.record.cost.total()).sum();
    assert_eq!(rows[0].sums.cost_known(), Some(cost));
}

/// Runs a victim, kills it after so many acknowledgements; gives all it made.
fn kill_after(dir: &Path, acks: usize) -> Vec<Uuid> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ids = Vec::new();
    let output = BufReader::new(victim.stdout.take().unwrap());
    // After the kill the pipe still holds what was acknowledged before.
    for line in output.lines() {
        let Some(id) = line.unwrap().strip_prefix("ack ").and_then(|id| id.parse().ok()) else {
            continue;
        };
        ids.push(id);
        if ids.len() == acks {
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    assert!(ids.len() >= acks, "the victim ended by itself");
    ids
}

fn work_until_killed(dir: &Path) -> ! {
    let segment_bytes = usize::try_from(SEGMENT_BYTES).unwrap();
    let options = Options { segment_bytes, ..Options::default() };
    let ledger = Ledger::open(dir, options).unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for n in 0.. {
                    call(&ledger, n);
                }
            });
        }
    });
    unreachable!("the threads never end")
}

fn call(ledger: &Ledger, n: u64) {
    let user = u16::try_from(n % USERS).unwrap();
    // Slower than the disk: what finds both segments full is in memory only (the
    // statistics say so), and not what this test is about.
    while ledger.stats().wal_bytes > SEGMENT_BYTES / 2 {
        thread::yield_now();
    }
    let dims = Dims {
        route: ledger.dim("chat"),
        user: ledger.dim(&format!("user-{user}")),
        ..Dims::default()
    };
    let mut record = UsageRecord::new(mint_id(1_000_000 + n), 1_000_000, dims);
    record.status = user;
    record.outcome = CacheOutcome::Miss;
    record.quality = Quality::Reported;
    record.cost.output = i64::from(user);
    ledger.open_call(&OpenCall {
        id: record.id,
        started_at_ms: record.started_at_ms,
        dims,
        outcome: record.outcome,
        unpriced: false,
        own: false,
        input_tokens: 1,
        cost: Cost::default(),
    });
    ledger.close(&record);
    assert_eq!(ledger.stats().unguarded, 0, "the segments were full");
    // One write per line: a line is acknowledged whole or not at all.
    let line = format!("ack {}\n", record.id);
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn all_records(reader: &Reader) -> HashMap<Uuid, RecordView> {
    let (mut records, mut before) = (HashMap::new(), None);
    loop {
        let page = reader.records(10_000, before).unwrap();
        let Some(last) = page.last() else { return records };
        before = Some(last.record.id);
        for view in page {
            let id = view.record.id;
            assert!(records.insert(id, view).is_none(), "{id} is there twice");
        }
    }
}
