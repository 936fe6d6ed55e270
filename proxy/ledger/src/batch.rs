//! What one transaction puts into the database, gathered from entries in order.
//!
//! Also the memory of calls that are open: they reach the database only when the
//! segment that holds their open entry is given back, so a call that ends within a
//! segment's lap (nearly all) never costs a row.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::{
    dimension::DimId,
    entry::Entry,
    record::{OpenCall, UsageRecord},
    sums::{RollupKey, Sums},
};

/// How far segments are in the database: all entries of earlier laps, and those of
/// `epoch` that begin before `offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Watermark {
    pub(crate) epoch: u64,
    pub(crate) offset: usize,
}

/// Goes into the database as one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) definitions: Vec<(DimId, String)>,
    pub(crate) records: Vec<UsageRecord>,
    pub(crate) opened: Vec<OpenCall>,
    /// Sums of calls whose records were given up.
    pub(crate) sums: HashMap<RollupKey, Sums>,
    /// Calls that are finished though their record is not in `records`.
    pub(crate) collapsed: Vec<Uuid>,
    pub(crate) watermark: Watermark,
    /// Open calls to write down, because their segment is given back.
    pub(crate) open_to_store: Vec<OpenCall>,
    /// Open calls written down earlier that are finished now.
    pub(crate) open_to_forget: Vec<Uuid>,
}

/// Open calls by id.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls(HashMap<Uuid, Opened>);

#[derive(Debug)]
struct Opened {
    call: OpenCall,
    /// It has a row in the database.
    stored: bool,
}

impl Batch {
    pub(crate) fn add(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Definition(id, text) => self.definitions.push((id, text)),
                Entry::Open(call) => self.opened.push(call),
                Entry::Close(record) => self.records.push(record),
                Entry::End => {}
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.definitions.is_empty()
            && self.records.is_empty()
            && self.opened.is_empty()
            && self.sums.is_empty()
    }

    fn finished(&self) -> impl Iterator<Item = Uuid> {
        self.records.iter().map(|record| record.id).chain(self.collapsed.iter().copied())
    }
}

impl OpenCalls {
    /// Fills in what the batch has to do about open calls. `ended`: their segment
    /// is given back after it. Changes nothing here, so that a failed transaction
    /// can be tried again.
    pub(crate) fn prepare(&self, batch: &mut Batch, ended: bool) {
        let stored = |id: &Uuid| self.0.get(id).is_some_and(|opened| opened.stored);
        batch.open_to_forget = batch.finished().filter(stored).collect();
        if ended {
            let finished: HashSet<Uuid> = batch.finished().collect();
            let unstored = self.0.values().filter(|opened| !opened.stored);
            let calls = unstored.map(|opened| opened.call).chain(batch.opened.iter().copied());
            batch.open_to_store = calls.filter(|call| !finished.contains(&call.id)).collect();
        }
    }

    /// The batch is in the database.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for call in &batch.opened {
            self.0.insert(call.id, Opened { call: *call, stored: false });
        }
        for call in &batch.open_to_store {
            self.0.insert(call.id, Opened { call: *call, stored: true });
        }
        for id in batch.finished() {
            self.0.remove(&id);
        }
    }
}
