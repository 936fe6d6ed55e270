//! The purges of an instance that has no store to keep them: a file.
//!
//! Entries on disk outlive the process, so the purges that void them must, too. Each purge is one
//! record at the end of a file, and on disk before it is answered; purges that come together are
//! synced together. The file is the fleet's numbering for a fleet of one ([`crate::generations`]):
//! it has an epoch, and when it is lost or unreadable a new one begins and everything older is void.
//!
//! ```text
//!   "TGP\x01" epoch u64 │ (sequence u64 │ subject 16 │ check 8)*          little-endian
//! ```
//!
//! **Invariant:** a record that is torn was never answered; the file is cut before it.

mod waiting;

pub use self::waiting::Waiting as WaitingPurges;

use crate::{
    generations::{FleetStamp, FleetTable, Generations, SUBJECTS_MAX, Subject, forget_oldest},
    outer::new_epoch,
};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::oneshot, task};

const MAGIC: &[u8; 4] = b"TGP\x01";
const HEAD_LEN: usize = 12;
const CHECK_LEN: usize = 8;
const RECORD_LEN: usize = 8 + 16 + CHECK_LEN;
/// Beyond so many records the file is written anew with the newest of each subject.
const RECORDS_MAX: usize = 2 * SUBJECTS_MAX;
/// Purges that could not be written; more become one purge of everything.
const WAITING_MAX: usize = 4096;
const FILE: &str = "purges";
const FILE_NEW: &str = "purges.new";

/// Numbers purges and keeps them on disk.
#[derive(Debug)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    generations: Arc<Generations>,
    /// Not written yet, with those who wait for it. Nothing about them comes in from a disk.
    waiting: Mutex<Vec<Waiting>>,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    /// Taken when its first try has failed: from then on nobody waits.
    noted: Option<oneshot::Sender<bool>>,
}

/// The file, and what is in it.
#[derive(Debug)]
struct Book {
    file: File,
    epoch: u64,
    sequence: u64,
    /// The newest purge of each subject.
    newest: HashMap<Subject, u64>,
    records: usize,
    /// A write failed: what the file ends with is not known.
    is_torn: bool,
    /// How often something was appended.
    #[cfg(test)]
    syncs: usize,
}

impl Journal {
    /// Reads the journal in `dir`, or begins one; `generations` know its purges when this returns.
    ///
    /// # Errors
    /// The directory cannot be written. (A file that cannot be understood is begun anew.)
    pub fn open(dir: &Path, generations: Arc<Generations>) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let book = Book::read(dir, "entries on disk are void")?;
        generations.adopt(&book.table());
        let (dir, waiting) = (dir.to_owned(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { dir, generations, waiting, book: Mutex::new(book) }) })
    }

    /// Notes a purge ([`Subject::told`]). Whether it is on disk.
    pub async fn purge(&self, subjects: &[Subject]) -> bool {
        let (noted, heard) = oneshot::channel();
        let mut noted = Some(noted);
        // The last stands for those before it: they are written with it, or sooner.
        for (place, subject) in subjects.iter().enumerate() {
            let is_last = place + 1 == subjects.len();
            let noted = if is_last { noted.take() } else { None };
            self.inner.put(Waiting { subject: *subject, noted });
        }
        let inner = self.inner.clone();
        // It goes on though its asker leaves; who comes meanwhile is written with the next.
        task::spawn_blocking(move || inner.write());
        heard.await.unwrap_or(false)
    }

    /// Tries again what could not be written. For a task that runs now and then.
    pub fn retry(&self) {
        if self.pending() > 0 {
            let inner = self.inner.clone();
            task::spawn_blocking(move || inner.write());
        }
    }

    /// Purges that are in force and not on disk.
    pub fn pending(&self) -> usize {
        lock(&self.inner.waiting).len()
    }
}

impl Inner {
    fn put(&self, purge: Waiting) {
        self.generations.await_number(purge.subject);
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            // Nothing is lost: one purge of everything stands for all that waited.
            self.generations.await_number(Subject::ALL);
            for gone in waiting.drain(..) {
                self.generations.number_came(gone.subject);
            }
            waiting.push(Waiting { subject: Subject::ALL, noted: None });
        }
        waiting.push(purge);
    }

    /// Writes everything that waits, and syncs once.
    fn write(&self) {
        let mut book = lock(&self.book);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        if waiting.is_empty() {
            return;
        }
        let subjects: Vec<Subject> = waiting.iter().map(|waiting| waiting.subject).collect();
        let first = book.sequence;
        if let Err(error) = book.append(&self.dir, &subjects) {
            tracing::warn!(%error, "purges are in force, and would be forgotten by a restart");
            drop(book);
            self.keep(waiting);
            return;
        }
        // In force they are already; this puts them in their order.
        for (sequence, subject) in (first.saturating_add(1)..).zip(subjects) {
            self.generations.hear(FleetStamp { epoch: book.epoch, sequence }, subject);
            self.generations.number_came(subject);
        }
        drop(book);
        for noted in waiting.into_iter().filter_map(|waiting| waiting.noted) {
            // The asker may have gone; the purge is done all the same.
            let _gone = noted.send(true);
        }
    }

    /// To be tried again, before what came meanwhile.
    fn keep(&self, mut failed: Vec<Waiting>) {
        let noted = failed.iter_mut().filter_map(|waiting| waiting.noted.take());
        let noted: Vec<_> = noted.collect();
        let mut waiting = lock(&self.waiting);
        failed.append(&mut waiting);
        *waiting = failed;
        drop(waiting);
        for noted in noted {
            let _gone = noted.send(false);
        }
    }
}

impl Book {
    /// `lost`: what it means that a file is none that can be read, for the log.
    fn read(dir: &Path, lost: &str) -> io::Result<Self> {
        let path = dir.join(FILE);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => {
                // One that is longer than any of ours is not one of ours.
                let most = HEAD_LEN + RECORD_LEN * (RECORDS_MAX + SUBJECTS_MAX);
                file.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let Some((epoch, records)) = parse(&bytes) else {
            if !bytes.is_empty() {
                tracing::warn!(path = %path.display(), "no journal of purges that can be read: {lost}");
            }
            return Self::begin(dir, new_epoch(), 0, HashMap::new());
        };
        let mut newest = HashMap::new();
        for (sequence, subject) in &records {
            newest.insert(*subject, *sequence);
        }
        let sequence = records.last().map_or(0, |(sequence, _)| *sequence);
        let whole = HEAD_LEN + RECORD_LEN * records.len();
        let file = OpenOptions::new().append(true).open(&path)?;
        file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))?;
        Ok(Self {
            file,
            epoch,
            sequence,
            newest,
            records: records.len(),
            is_torn: false,
            #[cfg(test)]
            syncs: 0,
        })
    }

    /// A file with the newest purge of each subject, in the place of what there is.
    fn begin(
        dir: &Path,
        epoch: u64,
        sequence: u64,
        newest: HashMap<Subject, u64>,
    ) -> io::Result<Self> {
        let mut purges: Vec<(u64, Subject)> =
            newest.iter().map(|(subject, sequence)| (*sequence, *subject)).collect();
        purges.sort_unstable();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&epoch.to_le_bytes());
        for (sequence, subject) in &purges {
            bytes.extend_from_slice(&record(*sequence, *subject));
        }
        let (path, path_new) = (dir.join(FILE), dir.join(FILE_NEW));
        let mut file = File::create(&path_new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&path_new, &path)?;
        File::open(dir)?.sync_all()?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self {
            file,
            epoch,
            sequence,
            newest,
            records: purges.len(),
            is_torn: false,
            #[cfg(test)]
            syncs: 0,
        })
    }

    fn append(&mut self, dir: &Path, subjects: &[Subject]) -> io::Result<()> {
        // A number is given with the record: one that a restart would give again must not be in
        // any entry's stamp.
        let purges = || (self.sequence.saturating_add(1)..).zip(subjects.iter().copied());
        let sequence = purges().last().map_or(self.sequence, |(sequence, _)| sequence);
        let records = self.records.saturating_add(subjects.len());
        if self.is_torn || records > RECORDS_MAX {
            // What there is stays as it is until the new file is whole.
            let mut newest = self.newest.clone();
            note(&mut newest, purges());
            self.is_torn = true;
            *self = Self::begin(dir, self.epoch, sequence, newest)?;
            return Ok(());
        }
        let bytes: Vec<u8> =
            purges().flat_map(|(number, subject)| record(number, subject)).collect();
        self.is_torn = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        #[cfg(test)]
        {
            self.syncs += 1;
        }
        let first = self.sequence.saturating_add(1);
        note(&mut self.newest, (first..).zip(subjects.iter().copied()));
        (self.sequence, self.records) = (sequence, records);
        self.is_torn = false;
        Ok(())
    }

    fn table(&self) -> FleetTable {
        FleetTable {
            at: FleetStamp { epoch: self.epoch, sequence: self.sequence },
            purges: self.newest.iter().map(|(subject, sequence)| (*subject, *sequence)).collect(),
        }
    }
}

/// Takes note of purges that are on disk, or are about to be.
fn note(newest: &mut HashMap<Subject, u64>, purges: impl Iterator<Item = (u64, Subject)>) {
    for (sequence, subject) in purges {
        if subject == Subject::ALL {
            newest.clear();
        }
        newest.insert(subject, sequence);
    }
    if newest.len() > SUBJECTS_MAX {
        forget_oldest(newest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(sequence: u64, subject: Subject) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    let (fields, check) = record.split_at_mut(RECORD_LEN - CHECK_LEN);
    let (number, name) = fields.split_at_mut(8);
    number.copy_from_slice(&sequence.to_le_bytes());
    name.copy_from_slice(subject.as_bytes());
    check.copy_from_slice(&check_of(fields));
    record
}

fn check_of(fields: &[u8]) -> [u8; CHECK_LEN] {
    blake3::hash(fields).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The epoch and the whole records; `None`: it is none of ours.
fn parse(bytes: &[u8]) -> Option<(u64, Vec<(u64, Subject)>)> {
    let (epoch, records) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    let epoch = u64::from_le_bytes(*epoch);
    let mut whole = Vec::new();
    let mut before = 0;
    for record in records.chunks(RECORD_LEN) {
        let Some((fields, check)) = record.split_at_checked(RECORD_LEN - CHECK_LEN) else { break };
        let Some((sequence, subject)) = fields.split_first_chunk() else { break };
        let sequence = u64::from_le_bytes(*sequence);
        let Ok(subject) = <[u8; 16]>::try_from(subject) else { break };
        if check != check_of(fields) || sequence <= before {
            break;
        }
        before = sequence;
        whole.push((sequence, Subject::from_bytes(subject)));
    }
    (epoch != 0).then_some((epoch, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::{About, Target};
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn open(dir: &TempDir) -> (Journal, Arc<Generations>) {
        let generations = Arc::<Generations>::default();
        (Journal::open(dir.path(), generations.clone()).unwrap(), generations)
    }

    fn tag(name: &str) -> Subject {
        Subject::of(Target::Tag(name))
    }

    fn is_void(generations: &Generations, stamp: FleetStamp, name: &str) -> bool {
        generations.admit(stamp, About { subjects: &[tag(name)], tags: &[] }).is_none()
    }

    #[tokio::test]
    async fn what_was_purged_is_void_after_a_restart_and_nothing_else_is() {
        let dir = TempDir::new().unwrap();
        let (journal, generations) = open(&dir);
        let before = generations.stamp().fleet;
        assert!(!is_void(&generations, before, "a"));
        generations.purge_here(tag("a"));
        assert!(journal.purge(&[tag("a")]).await);
        let after = generations.stamp().fleet;
        assert!(is_void(&generations, before, "a") && !is_void(&generations, after, "a"));
        drop(journal);

        let (_journal, generations) = open(&dir);
        assert!(is_void(&generations, before, "a"));
        assert!(!is_void(&generations, after, "a") && !is_void(&generations, before, "b"));
    }

    /// A purge that could not be written must not lend its number to entries: after a restart the
    /// number is given again, to a purge that these entries would seem to be younger than.
    #[tokio::test]
    async fn a_purge_that_could_not_be_written_has_no_number_and_is_tried_again() {
        let dir = TempDir::new().unwrap();
        let (journal, generations) = open(&dir);
        let before = generations.stamp().fleet;
        // Even root cannot make a file of that name while a directory has it.
        lock(&journal.inner.book).is_torn = true;
        fs::create_dir(dir.path().join(FILE_NEW)).unwrap();
        generations.purge_here(tag("a"));
        assert!(!journal.purge(&[tag("a")]).await);
        assert_eq!((journal.pending(), generations.stamp().fleet), (1, before));
        assert!(is_void(&generations, before, "a"), "in force all the same");
        assert!(!is_void(&generations, before, "b"));

        fs::remove_dir(dir.path().join(FILE_NEW)).unwrap();
        assert!(journal.purge(&[tag("b")]).await);
        assert_eq!(journal.pending(), 0);
        drop(journal);
        let (_journal, generations) = open(&dir);
        assert!(is_void(&generations, before, "a") && is_void(&generations, before, "b"));
    }

    #[tokio::test]
    async fn a_lost_journal_voids_everything() {
        let dir = TempDir::new().unwrap();
        let (_journal, generations) = open(&dir);
        let before = generations.stamp().fleet;
        for bytes in [None, Some(b"TGP\x02no journal of ours".as_slice()), Some(b"TG")] {
            match bytes {
                None => fs::remove_file(dir.path().join(FILE)).unwrap(),
                Some(bytes) => fs::write(dir.path().join(FILE), bytes).unwrap(),
            }
            let (_journal, generations) = open(&dir);
            assert!(is_void(&generations, before, "a"), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_torn_end_costs_no_purge_that_was_answered() {
        let dir = TempDir::new().unwrap();
        let (journal, generations) = open(&dir);
        let before = generations.stamp().fleet;
        assert!(journal.purge(&[tag("a")]).await && journal.purge(&[tag("b")]).await);
        drop(journal);
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for len in whole.len() - RECORD_LEN..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let (journal, generations) = open(&dir);
            assert!(is_void(&generations, before, "a"), "{len}");
            assert!(!is_void(&generations, before, "b"), "{len}");
            // And it goes on from there.
            assert!(journal.purge(&[tag("c")]).await);
            let (_journal, generations) = open(&dir);
            assert!(is_void(&generations, before, "c"), "{len}");
        }
    }

    #[tokio::test]
    async fn purges_that_come_together_are_all_kept_and_the_file_stays_bounded() {
        let dir = TempDir::new().unwrap();
        let (journal, generations) = open(&dir);
        let before = generations.stamp().fleet;
        let mut purges = task::JoinSet::new();
        let journal = Arc::new(journal);
        for n in 0..500 {
            let journal = journal.clone();
            purges.spawn(async move { journal.purge(&[tag(&n.to_string())]).await });
        }
        assert!(purges.join_all().await.into_iter().all(|kept| kept));
        drop(journal);
        let (_journal, generations) = open(&dir);
        for n in 0..500 {
            assert!(is_void(&generations, before, &n.to_string()), "{n}");
        }
        let mut book = Book::read(dir.path(), "").unwrap();
        book.records = RECORDS_MAX;
        book.append(dir.path(), &[tag("0")]).unwrap();
        let len = fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert_eq!(len, u64::try_from(HEAD_LEN + 500 * RECORD_LEN).unwrap());
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
