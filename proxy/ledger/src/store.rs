//! The database: blocks of records, 5-minute rollups and the watermark, together
//! in one transaction. That is what makes every record count exactly once.
//!
//! A block is one row of up to 512 records: a row per call would cost a third of
//! what a cache hit costs. Sums are added in Rust (`i128`), not by SQL, whose
//! `sum()` fails beyond nine million dollars in pico units.

use std::{collections::HashMap, path::Path};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use uuid::Uuid;

use crate::{
    batch::{Batch, Watermark},
    dimension::DimId,
    error::LedgerError,
    record::{OPEN_BYTES, OpenCall, RECORD_BYTES, UsageRecord},
    runs,
    sums::{RollupKey, Sums},
};

pub(crate) const DATABASE_FILE: &str = "ledger.sqlite";
pub(crate) const BLOCK_RECORDS_MAX: usize = 512;

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE watermark(one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, offset INTEGER NOT NULL);
CREATE TABLE dictionary(id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE block(
    seq INTEGER PRIMARY KEY, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
    min_id BLOB NOT NULL, max_id BLOB NOT NULL, records BLOB NOT NULL);
CREATE INDEX block_by_time ON block(to_ms, from_ms);
CREATE INDEX block_by_id ON block(max_id, min_id);
CREATE TABLE rollup(start_ms INTEGER NOT NULL, key BLOB NOT NULL, sums BLOB NOT NULL, PRIMARY KEY (start_ms, key)) WITHOUT ROWID;
CREATE TABLE collapsed(start_ms INTEGER NOT NULL, key BLOB NOT NULL, sums BLOB NOT NULL, PRIMARY KEY (start_ms, key)) WITHOUT ROWID;
CREATE TABLE open_call(id BLOB PRIMARY KEY, call BLOB NOT NULL) WITHOUT ROWID;
";

/// The writing side. One exists per data directory (`flock`).
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    /// The row of this process among those that ran; a mere reader has none.
    run: Option<i64>,
    /// Lets a test fill the disk: pages beyond which SQLite says that it is full.
    #[cfg(test)]
    pub(crate) pages_max: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

/// Which table of sums.
#[derive(Clone, Copy, Debug)]
enum SumsTable {
    Rollup,
    /// Calls that have no record: blocks and these together are the rollups.
    Collapsed,
}

impl SumsTable {
    const fn select(self) -> &'static str {
        match self {
            Self::Rollup => "SELECT sums FROM rollup WHERE start_ms = ?1 AND key = ?2",
            Self::Collapsed => "SELECT sums FROM collapsed WHERE start_ms = ?1 AND key = ?2",
        }
    }

    const fn replace(self) -> &'static str {
        match self {
            Self::Rollup => "REPLACE INTO rollup (start_ms, key, sums) VALUES (?1, ?2, ?3)",
            Self::Collapsed => "REPLACE INTO collapsed (start_ms, key, sums) VALUES (?1, ?2, ?3)",
        }
    }
}

impl Store {
    pub(crate) fn open(dir: &Path) -> Result<Self, LedgerError> {
        let path = dir.join(DATABASE_FILE);
        let connection = Connection::open(&path)?;
        // FULL: a commit is on the disk when it returns, so segments may be reused.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let found = schema_version(&connection)?;
        if found == 0 {
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} INSERT INTO watermark VALUES (1, 0, 0); \
                 PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
        } else if found != SCHEMA_VERSION {
            return Err(LedgerError::ForeignSchema { path, found, expected: SCHEMA_VERSION });
        }
        connection.execute_batch(runs::TABLE)?;
        Ok(Self {
            connection,
            run: None,
            #[cfg(test)]
            pages_max: std::sync::Arc::new(i64::from(u32::MAX / 2).into()),
        })
    }

    pub(crate) fn watermark(&self) -> Result<Watermark, LedgerError> {
        let sql = "SELECT epoch, offset FROM watermark";
        let (epoch, offset) = self
            .connection
            .query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(Watermark {
            epoch: u64::try_from(epoch).unwrap_or(0),
            offset: usize::try_from(offset).unwrap_or(0),
        })
    }

    /// The newest `words_max` words, and the first number that was never used.
    pub(crate) fn dictionary(
        &self,
        words_max: usize,
    ) -> Result<(Vec<(u32, String)>, u32), LedgerError> {
        let sql = "SELECT id, text FROM dictionary ORDER BY id DESC LIMIT ?1";
        let mut statement = self.connection.prepare(sql)?;
        let limit = i64::try_from(words_max).unwrap_or(i64::MAX);
        let words: Vec<(u32, String)> = statement
            .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let sql = "SELECT coalesce(max(id), 0) FROM dictionary";
        let last: u32 = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok((words, last.saturating_add(1).max(DimId::FIRST)))
    }

    pub(crate) fn open_calls(&self) -> Result<Vec<OpenCall>, LedgerError> {
        let mut statement = self.connection.prepare("SELECT call FROM open_call")?;
        let calls = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut open = Vec::new();
        for call in calls {
            if let Ok(bytes) = <[u8; OPEN_BYTES]>::try_from(call?) {
                open.push(OpenCall::decode(&bytes));
            }
        }
        Ok(open)
    }

    /// Whether a record of that id is in a block.
    pub(crate) fn has_record(&self, id: Uuid) -> Result<bool, LedgerError> {
        let sql = "SELECT records FROM block WHERE max_id >= ?1 AND min_id <= ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([id.as_bytes().as_slice()])?;
        while let Some(row) = rows.next()? {
            let records = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            if decode_block(records).any(|record| record.id == id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), LedgerError> {
        #[cfg(test)]
        self.connection.pragma_update(
            None,
            "max_page_count",
            self.pages_max.load(std::sync::atomic::Ordering::SeqCst),
        )?;
        let transaction = self.connection.transaction()?;
        insert_definitions(&transaction, &batch.definitions)?;
        insert_blocks(&transaction, &batch.records)?;
        let mut sums: HashMap<RollupKey, Sums> = batch.sums.clone();
        add_sums(&transaction, SumsTable::Collapsed, &sums)?;
        for record in &batch.records {
            *sums.entry(RollupKey::of(record)).or_default() += &Sums::from(record);
        }
        add_sums(&transaction, SumsTable::Rollup, &sums)?;
        update_open_calls(&transaction, batch)?;
        let Watermark { epoch, offset } = batch.watermark;
        transaction
            .prepare_cached("UPDATE watermark SET epoch = ?1, offset = ?2 WHERE one = 1")?
            .execute(params![
            i64::try_from(epoch).unwrap_or(i64::MAX),
            i64::try_from(offset).unwrap_or(i64::MAX)
        ])?;
        if let Some(run) = self.run {
            runs::go_on(&transaction, run, runs::now_ms())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// From here on the time counts that this process runs.
    pub(crate) fn begin_run(&mut self) -> Result<(), LedgerError> {
        self.run = Some(runs::begin(&self.connection, runs::now_ms())?);
        Ok(())
    }

    /// The process ends now, and not with the last thing it stored.
    pub(crate) fn end_run(&mut self) -> Result<(), LedgerError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let transaction = self.connection.transaction()?;
        runs::go_on(&transaction, run, runs::now_ms())?;
        transaction.commit()?;
        Ok(())
    }

    /// Puts everything into the main file, so that a copy of it is the ledger.
    pub(crate) fn checkpoint(&self) -> Result<(), LedgerError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// A connection that can only read, beside a running instance or alone.
pub(crate) fn open_for_reading(dir: &Path) -> Result<Connection, LedgerError> {
    let path = dir.join(DATABASE_FILE);
    if !path.exists() {
        return Err(LedgerError::Missing { dir: dir.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let found = schema_version(&connection)?;
    if found != SCHEMA_VERSION {
        return Err(LedgerError::ForeignSchema { path, found, expected: SCHEMA_VERSION });
    }
    Ok(connection)
}

/// The records of a block, in the order they ended.
pub(crate) fn decode_block(records: &[u8]) -> impl Iterator<Item = UsageRecord> {
    let (records, _cut) = records.as_chunks::<RECORD_BYTES>();
    records.iter().map(UsageRecord::decode)
}

fn schema_version(connection: &Connection) -> Result<i64, LedgerError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn insert_definitions(
    transaction: &Transaction<'_>,
    definitions: &[(DimId, String)],
) -> Result<(), LedgerError> {
    let sql = "INSERT OR IGNORE INTO dictionary (id, text) VALUES (?1, ?2)";
    let mut statement = transaction.prepare_cached(sql)?;
    for (DimId(id), text) in definitions {
        statement.execute(params![id, text])?;
    }
    Ok(())
}

fn insert_blocks(
    transaction: &Transaction<'_>,
    records: &[UsageRecord],
) -> Result<(), LedgerError> {
    let sql =
        "INSERT INTO block (from_ms, to_ms, min_id, max_id, records) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = transaction.prepare_cached(sql)?;
    for block in records.chunks(BLOCK_RECORDS_MAX) {
        let times = || block.iter().map(|record| record.started_at_ms);
        let ids = || block.iter().map(|record| record.id);
        let bytes: Vec<u8> = block.iter().flat_map(UsageRecord::encode).collect();
        statement.execute(params![
            times().min(),
            times().max(),
            ids().min().unwrap_or_default().as_bytes().as_slice(),
            ids().max().unwrap_or_default().as_bytes().as_slice(),
            bytes
        ])?;
    }
    Ok(())
}

fn add_sums(
    transaction: &Transaction<'_>,
    table: SumsTable,
    parts: &HashMap<RollupKey, Sums>,
) -> Result<(), LedgerError> {
    let mut select = transaction.prepare_cached(table.select())?;
    let mut replace = transaction.prepare_cached(table.replace())?;
    for (RollupKey { start_ms, key }, part) in parts {
        let key = key.as_slice();
        let stored: Option<Vec<u8>> =
            select.query_row(params![start_ms, key], |row| row.get(0)).optional()?;
        let mut sums = stored.as_deref().map(Sums::decode).unwrap_or_default();
        sums += part;
        replace.execute(params![start_ms, key, sums.encode().as_slice()])?;
    }
    Ok(())
}

fn update_open_calls(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), LedgerError> {
    let mut insert = transaction
        .prepare_cached("INSERT OR REPLACE INTO open_call (id, call) VALUES (?1, ?2)")?;
    for call in &batch.open_to_store {
        insert.execute(params![call.id.as_bytes().as_slice(), call.encode().as_slice()])?;
    }
    let mut delete = transaction.prepare_cached("DELETE FROM open_call WHERE id = ?1")?;
    for id in &batch.open_to_forget {
        delete.execute([id.as_bytes().as_slice()])?;
    }
    Ok(())
}
