//! Forgetting purges: which, and at which price.
//!
//! Every table of purges is bounded: this instance's, the keeper's, the file's. What is forgotten
//! leaves a *floor*: whatever began before the newest of it is void, whatever it is about. So nothing
//! that was purged comes back, whoever's clock is wrong, and where nothing lives that long it costs
//! nothing. In a table that is carried the floor is a purge of everything with that old number: an
//! instance that knows nothing of floors believes it, too.
//!
//! Two things keep floors old. What is older than any entry lives is forgotten while there is still
//! room ([`Generations::forget_outlived`]). And calls of strangers, who change what they like as often
//! as they like, may take no more than three quarters of a table: beyond that their changes void
//! [places](crate::urls::Url::void_place) that URLs share, of which there are few.
//!
//! **Invariant:** what is forgotten is void for who began before it.

use super::{FleetTable, Generations, Newest, Subject, Table};
use crate::urls::VOID_PLACES;
use std::{collections::HashMap, sync::atomic::Ordering};

/// The newest of the oldest quarter of these numbers: up to there purges are forgotten, where there
/// are too many. A quarter: seldom enough for its cost, and the floor stays as old as may be.
fn floor_of<N: Ord + Copy>(numbers: impl Iterator<Item = N>) -> Option<N> {
    let mut numbers: Vec<N> = numbers.collect();
    let nth = numbers.len().checked_sub(1)? / 4;
    let (_, floor, _) = numbers.select_nth_unstable(nth);
    Some(*floor)
}

/// Forgets the oldest quarter of a keeper's purges, and has everything before them void.
pub(crate) fn forget_oldest(purges: &mut HashMap<Subject, u64>) {
    let numbers = purges.iter().filter(|(subject, _)| **subject != Subject::ALL);
    let Some(floor) = floor_of(numbers.map(|(_, number)| *number)) else { return };
    purges.retain(|subject, number| *subject == Subject::ALL || *number > floor);
    let all = purges.entry(Subject::ALL).or_default();
    *all = floor.max(*all);
}

impl FleetTable {
    /// Up to which number its purges are to be forgotten to make room, and which those are.
    pub(crate) fn oldest(&self) -> Option<(u64, Vec<Subject>)> {
        let told_apart = || self.purges.iter().filter(|(subject, _)| *subject != Subject::ALL);
        let floor = floor_of(told_apart().map(|(_, number)| *number))?;
        let oldest = told_apart().filter(|(_, number)| *number <= floor);
        Some((floor, oldest.map(|(subject, _)| *subject).collect()))
    }
}

impl Generations {
    /// Whether strangers have taken their share of a table of so many subjects, if its keeper knows
    /// what is known here.
    pub(crate) fn is_crowded(&self, subjects_max: usize) -> bool {
        let share = subjects_max.min(self.subjects_max) / 4 * 3;
        self.read().subjects.len() >= share.saturating_sub(usize::from(VOID_PLACES))
    }

    /// Forgets what is older than any entry lives that was seen here, once half of the table is taken.
    /// For a task that runs now and then.
    pub(crate) fn forget_outlived(&self, now_ms: u64) {
        let life_ms = self.life_ms.load(Ordering::Relaxed);
        let Some(before_ms) = now_ms.checked_sub(life_ms).filter(|_| life_ms > 0) else { return };
        let until = {
            let table = self.read();
            if table.subjects.len() <= self.subjects_max / 2 {
                return;
            }
            let outlived = table.subjects.values().filter(|newest| newest.noted_ms < before_ms);
            outlived.map(|newest| newest.local).max()
        };
        if let Some(until) = until {
            self.write().forget(|_, newest| newest.local <= until);
        }
    }
}

impl Table {
    /// Makes room in this instance's own table.
    pub(super) fn forget_oldest(&mut self) {
        // Of a table that was read as a whole all have one place here, and their own in the fleet's.
        let place = |newest: &Newest| (newest.local, newest.fleet);
        if let Some(until) = floor_of(self.subjects.values().map(place)) {
            self.forget(|_, newest| place(newest) <= until);
        }
    }

    /// The keeper has forgotten its purges up to `floor`, all of which were heard here.
    pub(super) fn forget_numbered(&mut self, floor: u64) {
        if self.forgotten.fleet >= floor {
            return;
        }
        self.forget(|is_awaited, newest| !is_awaited && (1..=floor).contains(&newest.fleet));
        self.forgotten.fleet = self.forgotten.fleet.max(floor);
    }

    /// Up to which number this table and the keeper's are certainly of one history: the newest that
    /// is the same subject's in both. 0: not known to be.
    pub(super) fn shared_with(&self, fleet: &FleetTable) -> u64 {
        if self.epoch != fleet.at.epoch {
            return 0;
        }
        let same = |(subject, number): &&(Subject, u64)| {
            *number <= self.complete && self.newest_of(*subject).fleet == *number
        };
        fleet.purges.iter().filter(same).map(|(_, number)| *number).max().unwrap_or(0)
    }

    /// `goes` is told whether a number of the fleet is awaited for it.
    fn forget(&mut self, goes: impl Fn(bool, &Newest) -> bool) {
        let (unnumbered, mut forgotten) = (&self.unnumbered, self.forgotten);
        self.subjects.retain(|subject, newest| {
            let goes = goes(unnumbered.contains_key(subject), newest);
            if goes {
                forgotten = forgotten.max(*newest);
            }
            !goes
        });
        self.forgotten = forgotten;
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
