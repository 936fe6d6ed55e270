//! What can go wrong while a ledger is opened, flushed or read.

use std::{io, path::PathBuf};

/// Each says what, where, and what to do. Storing a record never fails.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} is in use by another process{holder}: stop it, or give this one another data_dir",
        dir.display()
    )]
    Locked { dir: PathBuf, holder: String },
    #[error("{} is not a segment of this version's ledger: move it away to start without it", path.display())]
    ForeignSegment { path: PathBuf },
    #[error("{} is a ledger of schema {found}, this version reads {expected}: use the version that wrote it", path.display())]
    ForeignSchema { path: PathBuf, found: i64, expected: i64 },
    #[error("no ledger in {}: name the data_dir of an instance that has run", dir.display())]
    Missing { dir: PathBuf },
    #[error("the ledger's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("records are not in the database yet ({reason}): they are kept and tried again")]
    NotFlushed { reason: String },
    #[error("cannot start the ledger's writer thread: {0}")]
    Thread(io::Error),
    #[error("not a dimension: {name:?}: use one of {known}")]
    UnknownDimension { name: String, known: &'static str },
    #[error("{name} stands there twice: name every dimension once")]
    RepeatedDimension { name: &'static str },
    #[error(
        "a step must be a whole number of milliseconds, at least 1, and give at most {rows_max} rows"
    )]
    BadStep { rows_max: i64 },
    #[error("not a period, date or time zone: {text:?}: {reason}")]
    BadTime { text: String, reason: String },
}

impl LedgerError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
