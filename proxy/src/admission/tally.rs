//! What was decided of late, class by class, and how long those who are turned away stay away.

use super::{Shed, Way};
use std::time::Duration;
use tollgate_core::scheduler::RetryAfter;

/// A call that was not let in, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shed}")]
pub struct Refused {
    pub shed: Shed,
    /// When asking again makes sense, by how many of its class are turned away; whole seconds.
    pub retry_after: Duration,
}

impl PartialEq<Shed> for Refused {
    fn eq(&self, shed: &Shed) -> bool {
        self.shed == *shed
    }
}

/// Of one class.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) retry_after: RetryAfter,
    pub(super) recent: Recent,
}

/// Decisions of the last minute, in pieces of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    pieces: [(u64, Decided); PIECES],
}

const PIECES: usize = 6;
const PIECE_NS: u64 = 10_000_000_000;

/// How far back decisions are told, at most; at least a piece less.
pub const RECENT: Duration = Duration::from_secs(60);

/// How often it was decided in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// In the order of [`Way::ALL`].
    pub granted: [u64; Way::ALL.len()],
    /// In the order of [`Shed::ALL`].
    pub shed: [u64; Shed::ALL.len()],
    /// By callers themselves, who did not wait for their turn.
    pub left: u64,
}

impl Recent {
    pub(super) fn grant(&mut self, way: Way, now_ns: u64) {
        let place = Way::ALL.iter().position(|other| *other == way);
        let piece = self.piece(now_ns);
        if let Some(count) = place.and_then(|place| piece.granted.get_mut(place)) {
            *count += 1;
        }
    }

    pub(super) fn shed(&mut self, shed: Shed, now_ns: u64) {
        let place = Shed::ALL.iter().position(|other| *other == shed);
        let piece = self.piece(now_ns);
        if let Some(count) = place.and_then(|place| piece.shed.get_mut(place)) {
            *count += 1;
        }
    }

    pub(super) fn leave(&mut self, now_ns: u64) {
        self.piece(now_ns).left += 1;
    }

    /// All of the last minute together.
    pub(super) fn sum(&self, now_ns: u64) -> Decided {
        let mut sum = Decided::default();
        let now = now_ns / PIECE_NS;
        for (_, piece) in self.pieces.iter().filter(|(at, _)| now < at + pieces()) {
            for (sum, count) in sum.granted.iter_mut().zip(piece.granted) {
                *sum += count;
            }
            for (sum, count) in sum.shed.iter_mut().zip(piece.shed) {
                *sum += count;
            }
            sum.left += piece.left;
        }
        sum
    }

    fn piece(&mut self, now_ns: u64) -> &mut Decided {
        let now = now_ns / PIECE_NS;
        let [first, rest @ ..] = &mut self.pieces;
        let place = usize::try_from(now % pieces()).unwrap_or(0);
        let (at, piece) = match place.checked_sub(1).and_then(|place| rest.get_mut(place)) {
            Some(piece) => piece,
            None => first,
        };
        if *at != now {
            (*at, *piece) = (now, Decided::default());
        }
        piece
    }
}

fn pieces() -> u64 {
    crate::body::len_u64(PIECES)
}

#[cfg(test)]
mod tests {
    use super::{PIECE_NS, Recent, Shed, Way};

    #[test]
    fn decisions_are_told_for_a_minute_each_by_its_reason() {
        let mut recent = Recent::default();
        recent.grant(Way::Share, 1);
        recent.shed(Shed::QueueFull, PIECE_NS);
        recent.shed(Shed::QueueFull, 2 * PIECE_NS);
        recent.leave(5 * PIECE_NS);
        let at = |now_ns| {
            let sum = recent.sum(now_ns);
            (sum.granted.iter().sum::<u64>(), sum.shed, sum.left)
        };
        assert_eq!(at(5 * PIECE_NS + 1), (1, [2, 0, 0, 0, 0, 0, 0], 1));
        assert_eq!(at(6 * PIECE_NS), (0, [2, 0, 0, 0, 0, 0, 0], 1));
        assert_eq!(at(7 * PIECE_NS), (0, [1, 0, 0, 0, 0, 0, 0], 1));
        assert_eq!(at(100 * PIECE_NS), (0, [0; 7], 0));
    }

    #[test]
    fn a_piece_that_comes_round_begins_anew() {
        let mut recent = Recent::default();
        for round in 0..20 {
            recent.leave(round * 6 * PIECE_NS);
            assert_eq!(recent.sum(round * 6 * PIECE_NS).left, 1);
        }
    }
}
