//! Reads of the ledger on behalf of an administrator: on threads that may block, a few
//! at a time, so that somebody's report over a year is not everybody's pause.

use super::Problem;
use crate::app::Parts;
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tokio::time;
use tollgate_ledger::{LedgerError, Reader};

/// Reads under way at one time. They compete with the ledger's writer for the disk.
pub(super) const READS_MAX: usize = 2;

/// How long a read waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Does `work` with a reader. What has ended within the last 250 ms may not be seen yet.
pub(crate) async fn read_ledger<T: Send + 'static>(
    parts: &Parts,
    work: impl FnOnce(&Reader) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, Problem> {
    let turn = time::timeout(WAIT_MAX, parts.admin.ledger_reads.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Problem::busy("other reads of the ledger are under way: ask again later"));
    };
    let meter = Arc::clone(&parts.meter);
    let reading = tokio::task::spawn_blocking(move || {
        // Held by the thread: who hangs up does not make room for one more thread.
        let _turn = turn;
        work(&Reader::of(&meter.ledger)?)
    });
    match reading.await {
        Ok(read) => read.map_err(|error| problem(&error)),
        Err(error) => {
            tracing::error!(%error, "a read of the ledger ended early");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the read of the ledger failed"))
        }
    }
}

/// Whose fault a failed read is.
pub(super) fn problem(error: &LedgerError) -> Problem {
    match error {
        LedgerError::UnknownDimension { .. } | LedgerError::RepeatedDimension { .. } => {
            Problem::bad(format!("by: {error}"))
        }
        LedgerError::BadStep { .. } => Problem::bad(format!("step: {error}")),
        LedgerError::BadTime { .. } => Problem::bad(error.to_string()),
        LedgerError::Io { .. }
        | LedgerError::Locked { .. }
        | LedgerError::ForeignSegment { .. }
        | LedgerError::ForeignSchema { .. }
        | LedgerError::Missing { .. }
        | LedgerError::Database(_)
        | LedgerError::NotFlushed { .. }
        | LedgerError::Thread(_) => {
            tracing::error!(%error, "the ledger cannot be read");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    }
}
