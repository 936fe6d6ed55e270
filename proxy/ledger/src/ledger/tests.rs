//! The ledger as a whole: crashes, full disks, many tasks.

use std::collections::HashSet;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    codes::{Quality, Reason},
    entry::tests::record,
    record::Dims,
    store::{decode_block, open_for_reading},
    sums::Sums,
};

pub(crate) fn open_call(record: &UsageRecord) -> OpenCall {
    OpenCall {
        id: record.id,
        started_at_ms: record.started_at_ms,
        dims: record.dims,
        outcome: record.outcome,
        unpriced: record.unpriced,
        own: record.own,
        input_tokens: 0,
        cost: record.cost,
    }
}

/// Small segments, so that a few records go through many laps.
fn small() -> Options {
    Options { segment_bytes: 4096, overflow_records_max: 8, ..Options::default() }
}

fn stored(dir: &Path) -> Vec<UsageRecord> {
    let connection = open_for_reading(dir).unwrap();
    let mut statement = connection.prepare("SELECT records FROM block ORDER BY seq").unwrap();
    let blocks = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    blocks.flat_map(|block| decode_block(&block.unwrap()).collect::<Vec<_>>()).collect()
}

fn table_sums(dir: &Path, table: &str) -> Sums {
    let connection = open_for_reading(dir).unwrap();
    let mut statement = connection.prepare(&format!("SELECT sums FROM {table}")).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let mut all = Sums::default();
    for row in rows {
        all += &Sums::decode(&row.unwrap());
    }
    all
}

fn sum(records: &[UsageRecord]) -> Sums {
    let mut all = Sums::default();
    for record in records {
        all += &Sums::from(record);
    }
    all
}

#[test]
fn what_is_closed_is_in_the_database_after_a_flush() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
    let dims = Dims { route: ledger.dim("chat"), ..Dims::default() };
    let record = UsageRecord { dims, ..record(1) };
    ledger.open_call(&open_call(&record));
    ledger.close(&record);
    ledger.flush().unwrap();
    assert_eq!(stored(dir.path()), [record]);
    assert_eq!(ledger.stats(), Stats::default());
    drop(ledger);
    let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
    assert_eq!(ledger.dim("chat"), dims.route, "a word keeps its number");
    assert_eq!(stored(dir.path()), [record], "a clean start adds nothing");
}

#[test]
fn a_second_ledger_on_one_directory_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let first = Ledger::open(dir.path(), small()).unwrap();
    let second = Ledger::open(dir.path(), small()).unwrap_err();
    assert!(matches!(second, LedgerError::Locked { .. }));
    let pid = std::process::id().to_string();
    assert!(second.to_string().contains(&pid), "{second}");
    drop(first);
    Ledger::open(dir.path(), small()).unwrap();
}

#[test]
fn many_tasks_through_many_laps_lose_nothing_and_count_nothing_twice() {
    const THREADS: u16 = 4;
    const EACH: u16 = 2000;
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), small()).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0..EACH {
                    let record = record(thread * EACH + n);
                    ledger.open_call(&open_call(&record));
                    ledger.close(&record);
                }
            });
        }
    });
    ledger.shutdown().unwrap();
    let records = stored(dir.path());
    let ids: HashSet<Uuid> = records.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), records.len(), "a record was stored twice");
    let rollups = table_sums(dir.path(), "rollup");
    assert_eq!(rollups.calls, u64::from(THREADS * EACH));
    let mut all = sum(&records);
    all += &table_sums(dir.path(), "collapsed");
    assert_eq!(all, rollups);
    drop(ledger);
    let again = Ledger::open(dir.path(), small()).unwrap();
    assert_eq!(again.stats().recovered_unknown, 0);
}

/// Method: the files of a running ledger are copied, which is what a crash leaves.
fn crash(ledger: &Ledger) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(ledger.dir()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A ledger whose writer does nothing unless it is asked to.
fn lazy() -> Options {
    Options { transfer_ms: u64::MAX, ..Options::default() }
}

#[test]
fn a_crash_before_the_database_loses_no_closed_call_and_no_word() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), lazy()).unwrap();
    ledger.close(&record(1));
    ledger.flush().unwrap();
    let route = ledger.dim("chat");
    let record_2 = UsageRecord { dims: Dims { route, ..Dims::default() }, ..record(2) };
    ledger.close(&record_2);

    let copy = crash(&ledger);
    let recovered = Ledger::open(copy.path(), lazy()).unwrap();
    assert_eq!(stored(copy.path()), [record(1), record_2]);
    assert_eq!(recovered.dim("chat"), route);
}

#[test]
fn recovering_twice_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), lazy()).unwrap();
    for n in 0..50 {
        ledger.open_call(&open_call(&record(n)));
        ledger.close(&record(n));
    }
    ledger.open_call(&open_call(&record(99)));
    let copy = crash(&ledger);
    for _ in 0..2 {
        let [first, second] = SEGMENT_FILES.map(|file| copy.path().join(file));
        let mut store = Store::open(copy.path()).unwrap();
        recovery::recover(&mut store, [&first, &second]).unwrap();
        assert_eq!(stored(copy.path()).len(), 51);
        assert_eq!(table_sums(copy.path(), "rollup").calls, 51);
    }
}

#[test]
fn a_call_that_was_open_in_a_crash_is_unknown_and_costs_its_question() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), small()).unwrap();
    let mut early = open_call(&record(60_000));
    early.input_tokens = 12;
    early.cost.input = 34;
    ledger.open_call(&early);
    // So many laps that the open entry's segment was given back long ago.
    for n in 0..500 {
        ledger.open_call(&open_call(&record(n)));
        ledger.close(&record(n));
        if n % 50 == 0 {
            ledger.flush().unwrap();
        }
    }
    ledger.flush().unwrap();
    let copy = crash(&ledger);
    let recovered = Ledger::open(copy.path(), small()).unwrap();
    assert_eq!(recovered.stats().recovered_unknown, 1);
    let records = stored(copy.path());
    let unknown: Vec<_> = records.iter().filter(|record| record.id == early.id).collect();
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].quality, Quality::Estimated);
    assert_eq!(unknown[0].reason, Reason::ProcessDied);
    assert_eq!((unknown[0].tokens.input, unknown[0].cost.input), (12, 34));
}

#[test]
fn a_segment_cut_anywhere_still_opens() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), Options { segment_bytes: 4096, ..lazy() }).unwrap();
    for n in 0..4 {
        ledger.close(&record(n));
    }
    let copy = crash(&ledger);
    let segment = fs::read(copy.path().join(SEGMENT_FILES[0])).unwrap();
    // Every byte is tested on the parser; here, around where something begins.
    for cut in (0..=4).flat_map(|n| [63 + n * 192, 64 + n * 192, 65 + n * 192]) {
        let torn = TempDir::new().unwrap();
        let path = torn.path().join(SEGMENT_FILES[0]);
        fs::write(&path, &segment[..cut]).unwrap();
        let mut store = Store::open(torn.path()).unwrap();
        let other = torn.path().join(SEGMENT_FILES[1]);
        recovery::recover(&mut store, [&path, &other]).unwrap();
        let whole = cut.saturating_sub(64) / 192;
        assert_eq!(stored(torn.path()).len(), whole, "cut at {cut}");
    }
}

#[test]
fn somebody_elses_file_in_the_place_of_a_segment_is_not_overwritten() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(SEGMENT_FILES[0]);
    fs::write(&path, [b'x'; 9000]).unwrap();
    let error = Ledger::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, LedgerError::ForeignSegment { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), [b'x'; 9000]);
}

/// Method: `max_page_count` makes SQLite say "database or disk is full".
#[test]
fn a_full_disk_loses_no_money() {
    const CALLS: u16 = 2000;
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pages_max = Arc::clone(&store.pages_max);
    pages_max.store(1, Ordering::SeqCst);
    let ledger = Ledger::start(dir.path(), lock(dir.path()).unwrap(), store, small()).unwrap();
    let mut expected = Sums::default();
    for n in 0..CALLS {
        let mut record = record(n);
        record.cost.output = i64::from(n);
        ledger.close(&record);
        expected += &Sums::from(&record);
    }
    let error = ledger.flush().unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    let stats = ledger.stats();
    assert!(stats.dropped > 0 && stats.failures > 0, "{stats:?}");
    let stored_so_far = table_sums(dir.path(), "rollup").calls;
    assert_eq!(stats.queue_records + stored_so_far, u64::from(CALLS));

    pages_max.store(1 << 20, Ordering::SeqCst);
    ledger.flush().unwrap();
    assert_eq!(table_sums(dir.path(), "rollup"), expected);
    let mut all = sum(&stored(dir.path()));
    all += &table_sums(dir.path(), "collapsed");
    assert_eq!(all, expected);
}

/// Method: no flush, which would wake the writer by itself.
#[test]
fn a_record_alone_wakes_a_sleeping_writer() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), Options { transfer_ms: 1, ..small() }).unwrap();
    for n in 0..100 {
        while !ledger.shared.wake.is_asleep() {
            thread::yield_now();
        }
        ledger.close(&record(n));
        while ledger.stats().queue_records > 0 {
            thread::yield_now();
        }
    }
    assert_eq!(stored(dir.path()).len(), 100);
}

/// Method: of two entries the first, a word's definition, is spoiled.
#[test]
fn the_number_of_a_lost_word_is_not_given_to_another() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), lazy()).unwrap();
    let lost = ledger.dim("lost");
    ledger.close(&UsageRecord { dims: Dims { user: lost, ..Dims::default() }, ..record(1) });
    let copy = crash(&ledger);
    let path = copy.path().join(SEGMENT_FILES[0]);
    let mut segment = fs::read(&path).unwrap();
    segment[64] ^= 1;
    fs::write(&path, segment).unwrap();
    let recovered = Ledger::open(copy.path(), lazy()).unwrap();
    assert_eq!(stored(copy.path()).len(), 1);
    assert!(recovered.dim("new") > lost);
}

/// Method: the record is in the database; in the segment only its open entry is
/// whole, as after a power cut between the two.
#[test]
fn a_call_whose_record_is_stored_is_not_counted_again_as_unknown() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), lazy()).unwrap();
    ledger.open_call(&open_call(&record(1)));
    ledger.close(&record(1));
    ledger.flush().unwrap();
    let copy = crash(&ledger);
    let path = copy.path().join(SEGMENT_FILES[0]);
    let mut segment = fs::read(&path).unwrap();
    segment[64 + 128..].fill(0);
    fs::write(&path, segment).unwrap();
    let recovered = Ledger::open(copy.path(), lazy()).unwrap();
    assert_eq!(recovered.stats().recovered_unknown, 0);
    assert_eq!(stored(copy.path()), [record(1)]);
}

/// Over many laps of small segments, so that their heads and ends would show.
#[test]
fn bytes_wait_until_they_are_in_the_database_and_then_none_do() {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), small()).unwrap();
    let waiting = || ledger.stats().wal_bytes;
    assert_eq!(waiting(), 0);
    for n in 1..100 {
        let mut record = record(n);
        record.dims.model = ledger.dim(&format!("model {n}"));
        ledger.open_call(&open_call(&record));
        ledger.close(&record);
        ledger.flush().unwrap();
        assert_eq!(waiting(), 0, "after call {n}");
    }
}
