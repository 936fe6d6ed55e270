//! When instances ran: what is paid by the hour is paid for these times and no others.
//!
//! A start leaves a row; every transaction and an orderly end move its end on. So the
//! times of a process that was killed end with the last thing it stored, and nothing
//! wakes an idle process only to say that it is there.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::LedgerError;

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS \
    run(start_ms INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL) WITHOUT ROWID;";

/// Starts that are remembered: a process that crashes every minute, for two months.
const RUNS_MAX: i64 = 100_000;

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A process has begun; gives the name of its row.
pub(crate) fn begin(connection: &Connection, now_ms: i64) -> Result<i64, LedgerError> {
    connection.execute("INSERT OR IGNORE INTO run VALUES (?1, ?1)", [now_ms])?;
    let oldest = "SELECT start_ms FROM run ORDER BY start_ms DESC LIMIT 1 OFFSET ?1";
    connection.execute(
        &format!("DELETE FROM run WHERE start_ms <= coalesce(({oldest}), -1)"),
        [RUNS_MAX],
    )?;
    Ok(now_ms)
}

/// The process of that row is still there.
pub(crate) fn go_on(
    transaction: &Transaction<'_>,
    run: i64,
    now_ms: i64,
) -> Result<(), LedgerError> {
    transaction
        .prepare_cached("UPDATE run SET end_ms = max(end_ms, ?2) WHERE start_ms = ?1")?
        .execute(params![run, now_ms])?;
    Ok(())
}

/// How many milliseconds of a time were run in. `until_ms`: the last run goes on till then.
pub(crate) fn time_ms(
    connection: &Connection,
    (from_ms, to_ms): (i64, i64),
    until_ms: Option<i64>,
) -> Result<u64, LedgerError> {
    let named = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'run'";
    if connection.query_row(named, [], |_| Ok(())).optional()?.is_none() {
        // Written by a version that did not say: nothing is known to have run.
        return Ok(0);
    }
    let mut statement =
        connection.prepare_cached("SELECT start_ms, end_ms FROM run ORDER BY start_ms")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut runs: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
    if let (Some((_, end_ms)), Some(until_ms)) = (runs.last_mut(), until_ms) {
        *end_ms = until_ms.max(*end_ms);
    }
    // A clock that was set back may make two overlap; no moment counts twice.
    let mut counted_ms = from_ms;
    let mut sum_ms = 0_u64;
    for (start_ms, end_ms) in runs {
        let (start_ms, end_ms) = (start_ms.max(counted_ms), end_ms.min(to_ms));
        if start_ms < end_ms {
            sum_ms = sum_ms.saturating_add(start_ms.abs_diff(end_ms));
            counted_ms = end_ms;
        }
    }
    Ok(sum_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(runs: &[(i64, i64)]) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        for (start_ms, end_ms) in runs {
            let run = begin(&connection, *start_ms).unwrap();
            let transaction = connection.transaction().unwrap();
            go_on(&transaction, run, *end_ms).unwrap();
            transaction.commit().unwrap();
        }
        connection
    }

    #[track_caller]
    fn check(runs: &[(i64, i64)], until_ms: Option<i64>, expected: u64) {
        assert_eq!(time_ms(&connection(runs), (100, 200), until_ms).unwrap(), expected);
    }

    #[test]
    fn only_the_time_of_runs_within_the_window_counts_and_no_moment_twice() {
        check(&[], None, 0);
        check(&[(50, 60), (210, 220)], None, 0);
        check(&[(50, 120), (150, 160), (190, 300)], None, 20 + 10 + 10);
        check(&[(110, 150), (120, 160), (130, 140)], None, 50);
        check(&[(110, 120), (150, 155)], Some(180), 10 + 30);
        check(&[(10, 20)], Some(1000), 100);
    }

    #[test]
    fn a_database_without_runs_says_nothing_of_them() {
        let connection = Connection::open_in_memory().unwrap();
        assert_eq!(time_ms(&connection, (0, 100), Some(50)).unwrap(), 0);
    }

    #[test]
    fn a_process_that_crashes_on_and_on_does_not_fill_the_disk() {
        let connection = connection(&[]);
        let count = || {
            let sql = "SELECT count(*) FROM run";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RUNS_MAX}) \
                 INSERT INTO run SELECT i, i FROM n"
            ))
            .unwrap();
        begin(&connection, RUNS_MAX + 1).unwrap();
        assert_eq!(count(), RUNS_MAX);
    }
}
