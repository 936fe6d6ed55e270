//! Answers from the database, beside a running instance or after it.
//!
//! A running instance is at most 250 ms ahead of what is read here. When none
//! runs, opening a reader first stores what a killed one left in its segments.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    busy::{self, Ran},
    dimension::{DimId, OTHER_TEXT},
    error::LedgerError,
    ledger::{self, Ledger, SEGMENT_FILES},
    query::{self, Facts, Piece, UsageQuery, UsageRow},
    recovery, runs,
    store::{self, DATABASE_FILE, Store},
    sums::Sums,
};

/// Rows of one answer; calls that would make more of them are one `~other` row.
const ROWS_MAX: usize = 50_000;
/// Words kept between queries of one reader.
const WORDS_MAX: usize = 65_536;
/// Calls whose times are compared at once: 40 MB. They come in the order they ended, so
/// that of longer lists only those count twice that ran where two parts meet.
const RAN_MAX: usize = 1_000_000;

/// Reads a ledger. Every method blocks on the disk; none waits for the writer.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    words: RefCell<HashMap<DimId, String>>,
    /// A process is writing to it.
    is_live: bool,
}

impl Reader {
    /// Opens the ledger in `dir`. Where no process holds it, what the last one left
    /// in its segments is stored first, so that a report after `kill -9` is whole.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let exists =
            [DATABASE_FILE, SEGMENT_FILES[0]].into_iter().any(|file| dir.join(file).exists());
        if !exists {
            return Err(LedgerError::Missing { dir: dir.to_owned() });
        }
        match ledger::lock(dir) {
            Ok(_lock) => {
                let mut store = Store::open(dir)?;
                let [first, second] = SEGMENT_FILES.map(|file| dir.join(file));
                recovery::recover(&mut store, [&first, &second])?;
                // Opened while the writing side is: so the log's files are there.
                return Self::read_only(dir, false);
            }
            Err(LedgerError::Locked { .. }) => return Self::read_only(dir, true),
            Err(error) => {
                tracing::debug!(%error, "ledger: read as it is, the directory cannot be written");
            }
        }
        Self::read_only(dir, false)
    }

    /// Beside a ledger of this process: no look at the lock, nothing to recover.
    pub fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        Self::read_only(ledger.dir(), true)
    }

    fn read_only(dir: &Path, is_live: bool) -> Result<Self, LedgerError> {
        let connection = store::open_for_reading(dir)?;
        Ok(Self { connection, words: RefCell::default(), is_live })
    }

    /// Sums of the calls that started in the query's time, dearest rows first
    /// (steps in their order). Exact: whole 5 minutes come from rollups where these
    /// know all dimensions asked for, everything else from the records.
    pub fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
        query.check()?;
        // One snapshot, so that rollups and records agree.
        let snapshot = self.connection.unchecked_transaction()?;
        let mut groups = Groups { query, sums: HashMap::new(), key: Vec::new() };
        for piece in query.pieces() {
            if piece.rollups {
                groups.add_sums(&snapshot, Table::Rollup, piece)?;
            } else {
                groups.add_records(&snapshot, piece)?;
                groups.add_sums(&snapshot, Table::Collapsed, piece)?;
            }
        }
        let groups = groups.sums;
        let mut named: BTreeMap<(u32, Vec<String>), Sums> = BTreeMap::new();
        for (key, sums) in &groups {
            let (step, numbers) = key.split_first().map_or((0, &[][..]), |(s, n)| (*s, n));
            let mut words = Vec::with_capacity(numbers.len());
            for (dim, number) in query.by.iter().zip(numbers) {
                words.push(query::text(*dim, *number, |id| self.word(id))?);
            }
            *named.entry((step, words)).or_default() += sums;
        }
        let mut rows: Vec<UsageRow> = named
            .into_iter()
            .map(|((step, dims), sums)| UsageRow {
                at_ms: query.step_ms.map(|length| query.from_ms + i64::from(step) * length),
                dims,
                sums,
            })
            .collect();
        let dear = |row: &UsageRow| (row.sums.cost_known().unwrap_or(0), row.sums.calls);
        rows.sort_by(|one, two| one.at_ms.cmp(&two.at_ms).then(dear(two).cmp(&dear(one))));
        Ok(rows)
    }

    /// How many milliseconds of a time some process ran in, until `now_ms` at most.
    pub(crate) fn run_ms(&self, from_ms: i64, to_ms: i64, now_ms: i64) -> Result<u64, LedgerError> {
        let until_ms = self.is_live.then_some(now_ms);
        runs::time_ms(&self.connection, (from_ms, to_ms.min(now_ms)), until_ms)
    }

    /// The time in which calls that started in `from_ms..to_ms` ran at the upstream, in
    /// microseconds by route; calls that ran at once share it. Reads every record.
    pub(crate) fn shared_busy(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<(String, u64)>, LedgerError> {
        let sql = "SELECT records FROM block WHERE to_ms >= ?1 AND from_ms < ?2 ORDER BY seq";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![from_ms, to_ms])?;
        let mut owners: Vec<DimId> = Vec::new();
        let (mut ran, mut shares) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let block = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            let records = store::decode_block(block);
            for record in records.filter(|it| (from_ms..to_ms).contains(&it.started_at_ms)) {
                let route = record.dims.route;
                let place = owners.iter().position(|owner| *owner == route);
                let place = place.unwrap_or_else(|| {
                    owners.push(route);
                    owners.len() - 1
                });
                ran.push(Ran::of(&record, u32::try_from(place).unwrap_or(u32::MAX)));
            }
            if ran.len() >= RAN_MAX {
                busy::add_shares(&mut ran, &mut shares);
            }
        }
        busy::add_shares(&mut ran, &mut shares);
        let named = owners.into_iter().zip(shares);
        let busy = named.filter(|(_, share)| *share > 0);
        busy.map(|(route, share)| Ok((self.word(route)?, busy::micros(share)))).collect()
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The word of a number.
    pub(crate) fn word(&self, id: DimId) -> Result<String, LedgerError> {
        match id {
            DimId::NONE => return Ok(String::new()),
            DimId::OTHER => return Ok(OTHER_TEXT.to_owned()),
            DimId(_) => {}
        }
        if let Some(word) = self.words.borrow().get(&id) {
            return Ok(word.clone());
        }
        let sql = "SELECT text FROM dictionary WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let word: Option<String> = statement.query_row([id.0], |row| row.get(0)).optional()?;
        let word = word.unwrap_or_else(|| OTHER_TEXT.to_owned());
        let mut words = self.words.borrow_mut();
        if words.len() < WORDS_MAX {
            words.insert(id, word.clone());
        }
        Ok(word)
    }
}

#[derive(Clone, Copy)]
enum Table {
    Rollup,
    Collapsed,
}

/// Sums by step and numbers, before numbers become words.
struct Groups<'a> {
    query: &'a UsageQuery,
    sums: HashMap<Vec<u32>, Sums>,
    /// The key that is being looked up; kept for its allocation.
    key: Vec<u32>,
}

impl Groups<'_> {
    fn add(&mut self, at_ms: i64, facts: &Facts, sums: &Sums) {
        self.key.clear();
        self.key.push(self.query.step(at_ms));
        self.key.extend(self.query.by.iter().map(|dim| facts.number(*dim)));
        if let Some(group) = self.sums.get_mut(&self.key) {
            *group += sums;
            return;
        }
        if self.sums.len() >= ROWS_MAX {
            for number in self.key.iter_mut().skip(1) {
                *number = DimId::OTHER.0;
            }
        }
        *self.sums.entry(self.key.clone()).or_default() += sums;
    }

    fn add_records(&mut self, snapshot: &Transaction<'_>, piece: Piece) -> Result<(), LedgerError> {
        let sql = "SELECT records FROM block WHERE to_ms >= ?1 AND from_ms < ?2";
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(params![piece.from_ms, piece.to_ms])?;
        while let Some(row) = rows.next()? {
            let block = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            for record in store::decode_block(block) {
                if (piece.from_ms..piece.to_ms).contains(&record.started_at_ms) {
                    self.add(record.started_at_ms, &Facts::from(&record), &Sums::from(&record));
                }
            }
        }
        Ok(())
    }

    fn add_sums(
        &mut self,
        snapshot: &Transaction<'_>,
        table: Table,
        piece: Piece,
    ) -> Result<(), LedgerError> {
        let sql = match table {
            Table::Rollup => {
                "SELECT start_ms, key, sums FROM rollup WHERE start_ms >= ?1 AND start_ms < ?2"
            }
            Table::Collapsed => {
                "SELECT start_ms, key, sums FROM collapsed WHERE start_ms >= ?1 AND start_ms < ?2"
            }
        };
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(params![piece.from_ms, piece.to_ms])?;
        while let Some(row) = rows.next()? {
            let start_ms: i64 = row.get(0)?;
            let blob = |column| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
            self.add(start_ms, &Facts::of_key(blob(1)?), &Sums::decode(blob(2)?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
