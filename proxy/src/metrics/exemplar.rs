//! One call of each bucket by name: the way from a slow bucket to a record of the ledger.
//!
//! A slot is looked at by every call and written once a second at most, so that the way
//! of a request pays for one load. Writing is a sequence lock: who finds another at it
//! goes on without, and a reader takes nothing that was written while it read. Which call
//! is shown says nothing of who asked: it is the record's id and how long it took.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use tollgate_ledger::Uuid;

/// How long a call is shown before another may take its place.
const SHOWN_MS: u64 = 1000;

/// Where one bucket's example is kept.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Odd while somebody writes; 0 = nothing was written yet.
    turn: AtomicU64,
    /// When it was written, by the clock of the process.
    written_ms: AtomicU64,
    id: [AtomicU64; 2],
    ticks: AtomicU64,
}

/// A call and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exemplar {
    pub(super) record: Uuid,
    pub(super) ticks: u64,
}

impl Slot {
    /// Shows this call, unless another is shown that is young.
    pub(super) fn show(&self, now_ms: u64, exemplar: Exemplar) {
        let turn = self.turn.load(Ordering::Relaxed);
        let age_ms = now_ms.saturating_sub(self.written_ms.load(Ordering::Relaxed));
        if turn != 0 && (age_ms < SHOWN_MS || !turn.is_multiple_of(2)) {
            return;
        }
        let taken =
            self.turn.compare_exchange(turn, turn + 1, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            return;
        }
        fence(Ordering::Release);
        let (high, low) = exemplar.record.as_u64_pair();
        for (half, bits) in self.id.iter().zip([high, low]) {
            half.store(bits, Ordering::Relaxed);
        }
        self.ticks.store(exemplar.ticks, Ordering::Relaxed);
        self.written_ms.store(now_ms, Ordering::Relaxed);
        self.turn.store(turn + 2, Ordering::Release);
    }

    /// The call that is shown; `None` if there is none, or if it is just changing.
    pub(super) fn shown(&self) -> Option<Exemplar> {
        let turn = self.turn.load(Ordering::Acquire);
        let [high, low] = self.id.each_ref().map(|half| half.load(Ordering::Relaxed));
        let ticks = self.ticks.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let same = self.turn.load(Ordering::Relaxed) == turn;
        let record = Uuid::from_u64_pair(high, low);
        (same && turn != 0 && turn.is_multiple_of(2)).then_some(Exemplar { record, ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn call(n: u64) -> Exemplar {
        Exemplar { record: Uuid::from_u64_pair(n, n), ticks: n }
    }

    #[test]
    fn a_call_is_shown_for_a_second_and_then_makes_room() {
        let slot = Slot::default();
        assert_eq!(slot.shown(), None);
        slot.show(10, call(1));
        slot.show(1009, call(2));
        assert_eq!(slot.shown(), Some(call(1)));
        slot.show(1010, call(3));
        assert_eq!(slot.shown(), Some(call(3)));
    }

    #[test]
    fn what_is_shown_is_one_call_and_never_halves_of_two() {
        let slot = Slot::default();
        thread::scope(|scope| {
            for writer in 0..2_u64 {
                let slot = &slot;
                scope.spawn(move || {
                    for n in 1..20_000 {
                        slot.show(n * SHOWN_MS, call(n * 2 + writer));
                    }
                });
            }
            for _ in 0..20_000 {
                if let Some(shown) = slot.shown() {
                    assert_eq!(shown, call(shown.ticks));
                }
            }
        });
        assert!(slot.shown().is_some());
    }
}
