//! How long a service was busy, and for whom, where it has no limit to measure by.
//!
//! Calls that ran at the same moment share it: so all shares together are the time
//! in which anything ran at all, and ten calls at once for a second are one second.
//! With `v` growing by `dt ÷ (calls running)`, a call's share is what `v` grew while it
//! ran: one pass over the starts and ends in their order, whatever their number.

use crate::record::UsageRecord;

/// A call as it ran at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Microseconds after 1970.
    pub(crate) from_us: i64,
    pub(crate) to_us: i64,
    /// Whose call it was: an index of the caller's choosing.
    pub(crate) whose: u32,
}

impl Ran {
    /// It held its permit at the end of its time.
    pub(crate) fn of(record: &UsageRecord, whose: u32) -> Self {
        let us = |length: u64| i64::try_from(length).unwrap_or(i64::MAX);
        let started_us = record.started_at_ms.saturating_mul(1000);
        let to_us = started_us.saturating_add(us(record.times.total_us));
        Self { from_us: to_us.saturating_sub(us(record.times.upstream_us)), to_us, whose }
    }
}

/// Shares are summed in 2⁻³² microseconds: what rounding loses is never seen.
const FRACTION_BITS: u32 = 32;

/// Adds what each call of `ran` has a share of to the place of its owner, in 2⁻³²
/// microseconds. Empties `ran`, and keeps its memory.
pub(crate) fn add_shares(ran: &mut Vec<Ran>, shares: &mut Vec<u128>) {
    ran.retain(|call| call.from_us < call.to_us);
    ran.sort_unstable_by_key(|call| call.from_us);
    let mut ends: Vec<(i64, u32)> = ran.iter().map(|call| (call.to_us, call.whose)).collect();
    ends.sort_unstable();
    let mut starts = ran.iter().peekable();
    let (mut grown, mut running, mut at_us) = (0_u128, 0_u128, i64::MIN);
    for (end_us, whose) in ends {
        while let Some(call) = starts.next_if(|call| call.from_us < end_us) {
            grown += growth(at_us, call.from_us, running);
            (at_us, running) = (call.from_us, running + 1);
            *place(shares, call.whose) = place(shares, call.whose).wrapping_sub(grown);
        }
        grown += growth(at_us, end_us, running);
        (at_us, running) = (end_us, running.saturating_sub(1));
        // Every start was taken off before: the sum is right again when all have ended.
        *place(shares, whose) = place(shares, whose).wrapping_add(grown);
    }
    ran.clear();
}

/// A sum of [`add_shares`], in whole microseconds.
pub(crate) fn micros(share: u128) -> u64 {
    let half = 1 << (FRACTION_BITS - 1);
    u64::try_from(share.saturating_add(half) >> FRACTION_BITS).unwrap_or(u64::MAX)
}

fn growth(from_us: i64, to_us: i64, running: u128) -> u128 {
    let length = u128::from(to_us.abs_diff(from_us)) << FRACTION_BITS;
    length.checked_div(running).unwrap_or(0)
}

fn place(shares: &mut Vec<u128>, whose: u32) -> &mut u128 {
    let place = usize::try_from(whose).unwrap_or(usize::MAX);
    if shares.len() <= place {
        shares.resize(place.saturating_add(1), 0);
    }
    #[expect(clippy::indexing_slicing, reason = "it was made long enough on the line above")]
    &mut shares[place]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(ran: &[(i64, i64, u32)], expected: &[u64]) {
        let call = |(from_us, to_us, whose): &(i64, i64, u32)| Ran {
            from_us: *from_us,
            to_us: *to_us,
            whose: *whose,
        };
        let mut shares = Vec::new();
        add_shares(&mut ran.iter().map(call).collect(), &mut shares);
        assert_eq!(shares.into_iter().map(micros).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn calls_of_one_moment_share_it() {
        check(&[(0, 10, 0)], &[10]);
        check(&[(0, 10, 0), (0, 10, 1)], &[5, 5]);
        check(&[(0, 10, 0), (5, 15, 1)], &[7 + 1, 8]);
        check(&[(0, 10, 0), (20, 30, 0)], &[20]);
        check(&[(0, 10, 0), (10, 20, 1)], &[10, 10]);
        check(&[(0, 9, 0), (0, 9, 1), (0, 9, 2)], &[3, 3, 3]);
        check(&[(5, 5, 0), (7, 6, 0)], &[]);
    }

    proptest! {
        #[test]
        fn all_shares_are_the_time_in_which_anything_ran(
            calls in prop::collection::vec((0..60i64, 0..20i64, 0..4u32), 0..20),
        ) {
            let ticks = |at: i64| calls.iter().any(|(from, length, _)| (*from..from + length).contains(&at));
            let union = (0..80).filter(|at| ticks(*at)).count();
            let mut ran = calls.iter().map(|(from_us, length, whose)| Ran {
                from_us: *from_us, to_us: from_us + length, whose: *whose,
            }).collect();
            let mut shares = Vec::new();
            add_shares(&mut ran, &mut shares);
            let sum: u128 = shares.iter().sum();
            prop_assert_eq!(micros(sum), union as u64);
        }
    }
}
