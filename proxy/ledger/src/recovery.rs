//! What a start does with what the last run left in the segments.
//!
//! Segments are read as plain files: whatever a crash made of them, reading is
//! safe code over bytes. Entries above the watermark go into the database in one
//! transaction together with a watermark beyond them, so a crash *during* recovery
//! is recovered from by doing it again. Calls that were open are closed as
//! unknown, with what was known of them – after a look into the blocks: a power cut
//! may leave a segment without the close whose record is in the database.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::ErrorKind,
    path::Path,
};

use uuid::Uuid;

use crate::{
    batch::{Batch, Watermark},
    dimension::OTHER_TEXT,
    entry::{self, Entry, Image},
    error::LedgerError,
    record::OpenCall,
    store::Store,
};

/// Brings the database up to date. Gives the first lap that was never used, and
/// how many calls were closed as unknown.
pub(crate) fn recover(store: &mut Store, paths: [&Path; 2]) -> Result<(u64, usize), LedgerError> {
    let watermark = store.watermark()?;
    let mut laps = Vec::new();
    for path in paths {
        if let Some(lap) = read(path)?.filter(|(epoch, _)| *epoch >= watermark.epoch) {
            laps.push(lap);
        }
    }
    laps.sort_by_key(|(epoch, _)| *epoch);
    let last = laps.last().map_or(watermark.epoch, |(epoch, _)| *epoch);

    let mut batch = Batch::default();
    let mut open: HashMap<Uuid, OpenCall> =
        store.open_calls()?.into_iter().map(|call| (call.id, call)).collect();
    batch.open_to_forget = open.keys().copied().collect();
    let mut closed = HashSet::new();
    for (epoch, entries) in laps {
        for (offset, entry) in entries {
            let stored = Watermark { epoch, offset } < watermark;
            match entry {
                Entry::Open(call) => {
                    open.insert(call.id, call);
                }
                Entry::Close(record) => {
                    closed.insert(record.id);
                    if !stored {
                        batch.records.push(record);
                    }
                }
                Entry::Definition(id, text) => batch.definitions.push((id, text)),
                Entry::End => {}
            }
        }
    }
    let mut unknown = 0;
    for call in open.into_values().filter(|call| !closed.contains(&call.id)) {
        if !store.has_record(call.id)? {
            batch.records.push(call.closed_unknown());
            unknown += 1;
        }
    }
    reserve_undefined(store, &mut batch)?;
    batch.watermark = Watermark { epoch: last + 1, offset: 0 };
    store.commit(&batch)?;
    Ok((last + 1, unknown))
}

/// A power cut may keep a record and lose a word that it names. The word is gone,
/// but its number must not be given to another one.
fn reserve_undefined(store: &Store, batch: &mut Batch) -> Result<(), LedgerError> {
    let (_, next) = store.dictionary(0)?;
    let defined = batch.definitions.iter().map(|(id, _)| *id).max().unwrap_or_default();
    let named = batch.records.iter().flat_map(|record| record.dims.as_array()).max();
    let named = named.unwrap_or_default();
    if named.0 >= next && named > defined {
        batch.definitions.push((named, OTHER_TEXT.to_owned()));
    }
    Ok(())
}

/// The lap and the entries of a segment file, if there are any.
#[expect(clippy::type_complexity, reason = "used twice, ten lines apart")]
fn read(path: &Path) -> Result<Option<(u64, Vec<(usize, Entry)>)>, LedgerError> {
    let image = match fs::read(path) {
        Ok(image) => image,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LedgerError::io("read", path)(error)),
    };
    match entry::read_image(&image) {
        Image::Blank => Ok(None),
        Image::Foreign => Err(LedgerError::ForeignSegment { path: path.to_owned() }),
        Image::Entries { epoch, entries } => Ok(Some((epoch, entries))),
    }
}
