//! Purging without searching: what an entry is about, and since when such entries are no good.
//!
//! A purge of a subject (a key, tag, route, model, tenant, or all) only notes "entries about this
//! that began before now are void": O(1), however many there are. An entry carries the [`Stamp`] of
//! the moment its fill *began*, before the upstream was asked: an answer that was under way when a
//! purge came is as old as the purge's cause and must go too.
//!
//! Two counts run beside each other. The *local* sequence orders purges as this instance learnt of
//! them and decides over the memory tier. The *fleet* sequence is Redis's, the same everywhere, and
//! decides over entries that others wrote. (Where there is no Redis, the *keeper* is PostgreSQL, else Memcached.) It
//! counts within an *epoch*, a random name that lives there: when the keeper was flushed or lost, the
//! epoch is another, purges may have been lost with it, and everything older is void.
//!
//! A hit costs one load and one compare: an entry remembers the local sequence at which it was last
//! found valid, and the table is only asked when that has moved.
//!
//! A purge can be *soft*: what it is about is not void but past its time, to be renewed, and given
//! meanwhile where a stale answer may be. It is a subject of its own ([`Subject::softly`]), so that
//! whatever carries and keeps purges carries and keeps both.
//!
//! A purge by a *pattern* over tags is a subject, too, and brings its text along (`generations/pattern.rs`).
//!
//! **Invariant:** an entry is served only if no subject of it was purged after its stamp, as far as
//! this instance has heard.
//! **Invariant:** the table holds at most [`SUBJECTS_MAX`] subjects. When it is full, the oldest of
//! them are forgotten, and everything that began before the newest of those is void
//! (`generations/room.rs`).

mod life;
mod pattern;
mod room;
mod subject;

pub use self::{
    pattern::{BadGlob, Glob, PATTERN_BYTES_MAX, PATTERNS_MAX},
    subject::{Subject, Target},
};

pub(crate) use self::room::forget_oldest;

use self::pattern::Patterns;
use crate::clock::unix_ms;
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// The most purged subjects that are told apart. 65,536 take some 6 MiB.
pub const SUBJECTS_MAX: usize = 65_536;

/// A place in the fleet's order of purges. The default is no place: before Redis was ever heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetStamp {
    /// Never 0 once Redis was heard.
    pub epoch: u64,
    pub sequence: u64,
}

/// What of an entry a purge may be about (beside everything).
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub subjects: &'a [Subject],
    /// For purges by a pattern.
    pub tags: &'a [Box<str>],
}

/// When a fill began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub local: u64,
    pub fleet: FleetStamp,
    /// It came from a store, and a soft purge was heard of since it began: as [`Standing::Soft`].
    pub soft_since_ms: Option<u64>,
}

/// What purges have left of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Valid,
    /// Purged softly: past its time, whatever its own says.
    Soft {
        /// Unix time at which that was heard here; 0 where it was heard long after.
        since_ms: u64,
    },
    Void,
}

/// The local sequence at which an entry was last found valid.
#[derive(Debug, Default)]
pub struct CheckedAt(AtomicU64);

/// The purges this instance knows of.
#[derive(Debug)]
pub struct Generations {
    /// The local sequence, beside the table so that a hit takes no lock. Written under the lock.
    version: AtomicU64,
    table: RwLock<Table>,
    subjects_max: usize,
    /// The longest that an entry lives, of those that were seen; 0: none was.
    life_ms: AtomicU64,
    /// The same, of those with tags.
    tagged_life_ms: AtomicU64,
    /// How many patterns that were lost it was told of.
    lost_told: AtomicU64,
}

/// What came of hearing of one purge of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Applied,
    Known,
    /// Applied, but one before it is missing: the whole table must be read.
    Gap,
    /// Redis was flushed or replaced: the whole table must be read.
    OtherEpoch,
}

/// The fleet's table as Redis has it.
#[derive(Debug, Default)]
pub(crate) struct FleetTable {
    pub(crate) at: FleetStamp,
    pub(crate) purges: Vec<(Subject, u64)>,
}

/// The newest purge of a subject, in both orders; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    local: u64,
    fleet: u64,
    /// Unix time; 0: not while it was made.
    heard_ms: u64,
    /// Unix time at which it was last noted here, however long after.
    noted_ms: u64,
}

/// What [`Table::note`] goes by when it makes room.
#[derive(Clone, Copy)]
struct Room {
    subjects_max: usize,
    life_ms: u64,
}

#[derive(Debug, Default)]
struct Table {
    subjects: HashMap<Subject, Newest>,
    patterns: Patterns,
    all: Newest,
    /// Of the subjects that were forgotten: what began before it is void.
    forgotten: Newest,
    epoch: u64,
    /// The newest purge heard of. Stamps say this: that number n was given means that all below
    /// had been given before.
    newest: u64,
    /// Everything up to here was heard.
    complete: u64,
    /// How many purges of a subject were made here and have no number of the fleet yet.
    unnumbered: HashMap<Subject, u32>,
}

impl FleetTable {
    /// Of an epoch that begins.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { at: FleetStamp { epoch, sequence: 0 }, purges: Vec::new() }
    }
}

impl Newest {
    /// One that is heard of while it is made.
    fn now(local: u64, fleet: u64) -> Self {
        let now_ms = unix_ms();
        Self { local, fleet, heard_ms: now_ms, noted_ms: now_ms }
    }

    /// One that was made at a time that is not known.
    fn late(local: u64, fleet: u64) -> Self {
        Self { local, fleet, heard_ms: 0, noted_ms: unix_ms() }
    }

    fn max(self, other: Self) -> Self {
        Self {
            local: self.local.max(other.local),
            fleet: self.fleet.max(other.fleet),
            heard_ms: self.heard_ms.max(other.heard_ms),
            noted_ms: self.noted_ms.max(other.noted_ms),
        }
    }
}

fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

impl CheckedAt {
    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, version: u64) {
        self.0.store(version, Ordering::Relaxed);
    }
}

/// A copy has not been checked.
impl Clone for CheckedAt {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// It is a memory, not a part of an entry's meaning.
impl PartialEq for CheckedAt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Default for Generations {
    fn default() -> Self {
        Self::with_subjects_max(SUBJECTS_MAX)
    }
}

impl Generations {
    fn with_subjects_max(subjects_max: usize) -> Self {
        // Starts at 1: 0 is an entry never checked.
        let version = AtomicU64::new(1);
        Self {
            version,
            table: RwLock::default(),
            subjects_max,
            life_ms: AtomicU64::new(0),
            tagged_life_ms: AtomicU64::new(0),
            lost_told: AtomicU64::new(0),
        }
    }

    fn room(&self) -> Room {
        let life_ms = self.tagged_life_ms.load(Ordering::Relaxed);
        Room { subjects_max: self.subjects_max, life_ms }
    }

    /// To be taken before the upstream is asked.
    pub fn stamp(&self) -> Stamp {
        let table = self.read();
        Stamp {
            local: self.version.load(Ordering::Relaxed),
            fleet: FleetStamp { epoch: table.epoch, sequence: table.newest },
            soft_since_ms: None,
        }
    }

    /// Whether an entry of this instance's memory may be served. Nearly always one load and one
    /// compare.
    pub fn standing(&self, stamp: Stamp, about: About<'_>, checked: &CheckedAt) -> Standing {
        // Before the table is read: a purge in between only makes us check again.
        let version = self.version.load(Ordering::Acquire);
        let checked_at = checked.value();
        if checked_at == version {
            return Standing::Valid;
        }
        let table = self.read();
        // What it was found valid after needs no second look: patterns are held against it once.
        let place = stamp.local.max(checked_at);
        if table.is_after(place, about, |newest| newest.local) {
            return Standing::Void;
        }
        let softly = table.softly_since(place, about, |newest| newest.local);
        if let Some(since_ms) = earliest(stamp.soft_since_ms, softly) {
            return Standing::Soft { since_ms };
        }
        checked.set(version);
        Standing::Valid
    }

    /// Whether a purge of something of `about` is remembered, however long ago. Not one of
    /// everything, which says nothing of what it is about.
    pub fn was_purged(&self, about: About<'_>) -> bool {
        let table = self.read();
        about.subjects.iter().any(|subject| table.subjects.contains_key(subject))
            || table.patterns.was_about(about.tags)
    }

    /// Voids, here, every entry about `subject` whose fill began before this call.
    pub fn purge_here(&self, subject: Subject) {
        let mut table = self.write();
        let local = self.next();
        table.patterns.learn(subject);
        table.note(subject, Newest::now(local, 0), self.room());
    }

    /// The stamp under which an entry that another instance wrote may live in this one's memory;
    /// `None` if it is void.
    pub(crate) fn admit(&self, stamp: FleetStamp, about: About<'_>) -> Option<Stamp> {
        let table = self.read();
        let void = stamp.epoch != table.epoch
            || table.epoch == 0
            || table.awaits_number(about)
            || table.is_after(stamp.sequence, about, |newest| newest.fleet);
        let soft_since_ms = earliest(
            table.softly_awaits_number_since(about),
            table.softly_since(stamp.sequence, about, |newest| newest.fleet),
        );
        let local = self.version.load(Ordering::Relaxed);
        (!void).then_some(Stamp { local, fleet: stamp, soft_since_ms })
    }

    /// A purge of `subject` was made here and is on its way to be numbered. Until it is, nothing
    /// about it comes in from anywhere: whether it began before or after cannot be told.
    pub(crate) fn await_number(&self, subject: Subject) {
        let mut table = self.write();
        // What came in since [`Self::purge_here`], too.
        let local = self.next();
        table.note(subject, Newest::now(local, 0), self.room());
        *table.unnumbered.entry(subject).or_default() += 1;
    }

    /// One such purge has its number, or another stands for it.
    pub(crate) fn number_came(&self, subject: Subject) {
        let mut table = self.write();
        let left = table.unnumbered.get_mut(&subject).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            table.unnumbered.remove(&subject);
        }
    }

    /// Takes note of one purge, numbered by Redis.
    pub(crate) fn hear(&self, at: FleetStamp, subject: Subject) -> Heard {
        let mut table = self.write();
        if at.epoch != table.epoch {
            return Heard::OtherEpoch;
        }
        if at.sequence <= table.complete || table.newest_of(subject).fleet >= at.sequence {
            return Heard::Known;
        }
        let local = self.next();
        table.patterns.learn(subject);
        table.note(subject, Newest::now(local, at.sequence), self.room());
        table.newest = table.newest.max(at.sequence);
        if at.sequence != table.complete + 1 {
            return Heard::Gap;
        }
        table.complete = at.sequence;
        Heard::Applied
    }

    /// Whether Redis has forgotten purges that it once numbered (it was restored from an older
    /// state).
    pub(crate) fn is_behind(&self, at: FleetStamp) -> bool {
        let table = self.read();
        at.epoch == table.epoch && at.sequence < table.newest
    }

    /// Whether Redis has forgotten purges that it once numbered, also where it has numbered others
    /// since: of every subject's last it must know that one or a later.
    pub(crate) fn has_lost(&self, fleet: &FleetTable) -> bool {
        if self.is_behind(fleet.at) {
            return true;
        }
        let table = self.read();
        if fleet.at.epoch != table.epoch {
            return false;
        }
        let theirs: HashMap<Subject, u64> = fleet.purges.iter().copied().collect();
        let of = |subject| theirs.get(&subject).copied().unwrap_or(0);
        let of_all = of(Subject::ALL);
        table.all.fleet > of_all
            || table.subjects.iter().any(|(s, newest)| newest.fleet > of(*s).max(of_all))
    }

    /// Whether everything up to `at` was heard.
    pub(crate) fn is_complete(&self, at: FleetStamp) -> bool {
        let table = self.read();
        at.epoch == table.epoch && at.sequence <= table.complete
    }

    /// Takes over the whole table of the fleet.
    pub(crate) fn adopt(&self, fleet: &FleetTable) {
        let mut table = self.write();
        if table.epoch != fleet.at.epoch && table.epoch != 0 {
            // Purges may have been lost with the old epoch: everything before now is void.
            table.subjects.clear();
            table.patterns.clear();
            table.all = Newest { local: self.next(), ..Newest::default() };
            table.forgotten = Newest::default();
            table.newest = 0;
        }
        let shared = table.shared_with(fleet);
        table.epoch = fleet.at.epoch;
        table.patterns.learn_newest(&fleet.purges);
        let mut local = None;
        for (subject, sequence) in &fleet.purges {
            if table.newest_of(*subject).fleet >= *sequence {
                continue;
            }
            if *subject == Subject::ALL && *sequence <= shared {
                // No purge, or it would have been heard: the keeper has made room.
                table.forget_numbered(*sequence);
                continue;
            }
            let local = *local.get_or_insert_with(|| self.next());
            table.note(*subject, Newest::late(local, *sequence), self.room());
        }
        table.complete = fleet.at.sequence;
        table.newest = table.newest.max(fleet.at.sequence);
    }

    /// The next local sequence number. Only under the write lock.
    fn next(&self) -> u64 {
        self.version.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn newest_of(&self, subject: Subject) -> Newest {
        if subject == Subject::ALL {
            return self.all;
        }
        self.subjects.get(&subject).copied().unwrap_or_default()
    }

    /// Whether what is meant, or everything, was purged after a place in one of the two orders.
    fn is_after(&self, place: u64, about: About<'_>, order: fn(&Newest) -> u64) -> bool {
        let newest = |subject| self.subjects.get(subject).map_or(0, order);
        order(&self.all).max(order(&self.forgotten)) > place
            || about.subjects.iter().any(|subject| newest(subject) > place)
            || self.patterns.is_after(place, about.tags, order)
    }

    /// When what is meant, or everything, was first purged softly after a place in one of the two
    /// orders, as far as that is remembered.
    fn softly_since(&self, place: u64, about: About<'_>, order: fn(&Newest) -> u64) -> Option<u64> {
        let softly = |subject: &Subject| self.subjects.get(&subject.softly());
        let all = about.subjects.iter().chain([&Subject::ALL]).filter_map(softly);
        let all = all.filter(|newest| order(newest) > place);
        let patterns = self.patterns.softly_after(place, about.tags, order);
        all.chain(patterns).map(|newest| newest.heard_ms).min()
    }

    fn awaits_number(&self, about: About<'_>) -> bool {
        let awaits = |subject| self.unnumbered.contains_key(subject);
        !self.unnumbered.is_empty()
            && (awaits(&Subject::ALL)
                || about.subjects.iter().any(awaits)
                || self.patterns_awaiting(about.tags).any(|subject| !subject.is_soft()))
    }

    fn softly_awaits_number_since(&self, about: About<'_>) -> Option<u64> {
        if self.unnumbered.is_empty() {
            return None;
        }
        let all = about.subjects.iter().chain([&Subject::ALL]).map(|subject| subject.softly());
        let awaiting = all.filter(|subject| self.unnumbered.contains_key(subject));
        let patterns = self.patterns_awaiting(about.tags).filter(|subject| subject.is_soft());
        awaiting.chain(patterns).map(|subject| self.newest_of(subject).heard_ms).min()
    }

    /// Purges by patterns that fit, and have no number yet.
    fn patterns_awaiting(&self, tags: &[Box<str>]) -> impl Iterator<Item = Subject> {
        self.unnumbered.keys().copied().filter(|subject| self.patterns.is_about(*subject, tags))
    }

    fn note(&mut self, subject: Subject, purge: Newest, room: Room) {
        let place = if subject == Subject::ALL {
            &mut self.all
        } else {
            self.subjects.entry(subject).or_default()
        };
        *place = place.max(purge);
        self.patterns.note(subject, purge, room.life_ms);
        let all = self.all;
        if subject == Subject::ALL && purge.fleet > 0 {
            let stays = |newest: &Newest| newest.local > all.local || newest.fleet > all.fleet;
            self.subjects.retain(|_, newest| stays(newest));
            self.patterns.retain(stays);
        }
        if self.subjects.len() > room.subjects_max {
            self.forget_oldest();
        }
    }
}

#[cfg(test)]
#[path = "generations_tests.rs"]
mod tests;
