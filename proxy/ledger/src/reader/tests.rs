//! What a reader says is what was closed: by any dimension, over any time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    codes::CacheOutcome,
    dimension::DIM_TEXT_BYTES_MAX,
    id::mint_id,
    ledger::Options,
    query::Dim,
    record::{Dims, UsageRecord},
    sums::tests::any_record,
};

fn all_time(by: &[Dim]) -> UsageQuery {
    UsageQuery { from_ms: -1, to_ms: 1 << 40, by: by.to_vec(), step_ms: None }
}

fn ledger() -> (TempDir, Ledger) {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(dir.path(), Options::default()).unwrap();
    (dir, ledger)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Σ rows = Σ records, whatever the time, the step and the dimensions are, and
    /// so whether rollups or records answer.
    #[test]
    fn rows_add_up_to_the_records_of_the_time(
        mut records in prop::collection::vec(any_record(), 0..80),
        from_ms in 0..8_000_000i64, length in 0..8_000_000i64,
        whole in any::<bool>(), step in prop::option::of(1..30i64),
        dims in prop::sample::subsequence(Dim::ALL.to_vec(), 0..4),
    ) {
        let (dir, ledger) = ledger();
        let words = ["", "~other", "chat", "embed"].map(|word| ledger.dim(word));
        for record in &mut records {
            let ids = record.dims.as_array().map(|DimId(n)| words[usize::try_from(n).unwrap()]);
            record.dims = Dims::from_array(ids);
            ledger.close(record);
        }
        ledger.flush().unwrap();
        let unit = if whole { 300_000 } else { 1 };
        let query = UsageQuery {
            from_ms: from_ms / unit * unit,
            to_ms: (from_ms + length) / unit * unit,
            by: dims,
            step_ms: step.map(|step| step * 300_000),
        };
        let mut expected: BTreeMap<Option<i64>, Sums> = BTreeMap::new();
        for record in records {
            if (query.from_ms..query.to_ms).contains(&record.started_at_ms) {
                let step = query.step_ms.map(|step| {
                    query.from_ms + (record.started_at_ms - query.from_ms) / step * step
                });
                *expected.entry(step).or_default() += &Sums::from(&record);
            }
        }
        let mut got: BTreeMap<Option<i64>, Sums> = BTreeMap::new();
        for row in Reader::open(dir.path()).unwrap().usage(&query).unwrap() {
            prop_assert_eq!(row.dims.len(), query.by.len());
            *got.entry(row.at_ms).or_default() += &row.sums;
        }
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn rows_are_told_apart_by_word_also_when_a_word_has_two_numbers() {
    let (dir, ledger) = ledger();
    let long = "x".repeat(DIM_TEXT_BYTES_MAX + 1);
    for (n, user) in ["ann", "ben", "ann", &long].into_iter().enumerate() {
        let dims = Dims { user: ledger.dim(user), ..Dims::default() };
        let mut record = UsageRecord::new(Uuid::from_u128(u128::try_from(n).unwrap()), 5, dims);
        record.cost.output = 1 + i64::try_from(n).unwrap();
        ledger.close(&record);
    }
    ledger.flush().unwrap();
    let second = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    second.execute("UPDATE dictionary SET text = 'ann' WHERE text = 'ben'", []).unwrap();
    let rows = Reader::open(dir.path()).unwrap().usage(&all_time(&[Dim::User])).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].dims, ["ann"]);
    assert_eq!(rows[0].sums.cost_known(), Some(6));
    assert!(rows[1].dims[0].starts_with("xxx"));
}

#[test]
fn calls_without_a_price_cost_nothing_known_rather_than_nothing() {
    let (dir, ledger) = ledger();
    let mut record = UsageRecord::new(Uuid::from_u128(1), 5, Dims::default());
    record.unpriced = true;
    record.outcome = CacheOutcome::Miss;
    ledger.close(&record);
    ledger.flush().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let sums = reader.usage(&all_time(&[])).unwrap()[0].sums.clone();
    assert_eq!((sums.cost_known(), sums.unpriced_calls), (None, 1));
    assert_eq!(sums.saved_known(), Some(0), "no hit: certainly nothing was saved");
    let json = serde_json::to_value(&reader.records(1, None).unwrap()[0]).unwrap();
    assert_eq!(json["cost"], serde_json::Value::Null);
}

/// Method: calls that end in another order than they started, over several blocks;
/// pages of three, each beginning where the last one ended.
#[test]
fn pages_of_records_are_newest_first_without_a_gap_or_a_double() {
    const CALLS: u64 = 1500;
    let (dir, ledger) = ledger();
    let ids: Vec<Uuid> = (0..CALLS).map(|n| mint_id(1_000 + n)).collect();
    let mut by_end = ids.clone();
    by_end.sort_by_key(|id| (id.as_u128() % 7, *id));
    for id in &by_end {
        ledger.close(&UsageRecord::new(*id, 1_000, Dims::default()));
    }
    ledger.flush().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = reader.records(97, before).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.record.id);
        seen.extend(page.into_iter().map(|view| view.record.id));
    }
    let newest_first: Vec<Uuid> = ids.into_iter().rev().collect();
    assert_eq!(seen, newest_first);
}

#[test]
fn a_reader_where_no_ledger_is_says_so_and_makes_none() {
    let dir = TempDir::new().unwrap();
    let error = Reader::open(&dir.path().join("nothing")).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. }), "{error}");
    let error = Reader::open(dir.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Missing { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn too_many_steps_are_refused() {
    let (dir, _ledger) = ledger();
    let query = UsageQuery { step_ms: Some(1), ..all_time(&[]) };
    assert!(Reader::open(dir.path()).unwrap().usage(&query).is_err());
    let query = UsageQuery { step_ms: Some(0), ..all_time(&[]) };
    assert!(Reader::open(dir.path()).unwrap().usage(&query).is_err());
}
