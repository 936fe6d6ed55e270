//! What asking ahead may cost: calls in a minute, money in an hour. Never more than that in any
//! minute and any hour, not only in those of the clock.

use std::num::NonZeroU32;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Of the time that is looked back on.
const SLOTS: usize = 60;

/// What is left of a route's budget.
#[derive(Debug)]
pub(super) struct Budget {
    calls: Sliding,
    calls_max: u64,
    money: Sliding,
    /// In pico-USD.
    money_max: Option<u64>,
    /// The most that one call has cost of late: what each that is under way may cost.
    cost_max: Fading,
    under_way: u64,
}

impl Budget {
    pub(super) fn new(calls_per_minute: NonZeroU32, hourly_pico_usd: Option<i128>) -> Self {
        Self {
            calls: Sliding::new(SECOND_MS),
            calls_max: u64::from(calls_per_minute.get()),
            money: Sliding::new(MINUTE_MS),
            money_max: hourly_pico_usd.map(|pico| u64::try_from(pico).unwrap_or(u64::MAX)),
            cost_max: Fading::default(),
            under_way: 0,
        }
    }

    /// Whether one more call may begin.
    pub(super) fn has_room(&mut self, now_ms: u64) -> bool {
        self.calls.sum(now_ms) < self.calls_max && self.has_money(now_ms)
    }

    fn has_money(&mut self, now_ms: u64) -> bool {
        let Some(money_max) = self.money_max else { return true };
        let spent = self.money.sum(now_ms);
        let cost_max = self.cost_max.value(now_ms);
        if cost_max == 0 {
            // What a call costs is not known yet: one at a time.
            return self.under_way == 0 && spent < money_max;
        }
        let may_cost = cost_max.saturating_mul(self.under_way.saturating_add(1));
        spent.saturating_add(may_cost) <= money_max
    }

    pub(super) fn begin(&mut self, now_ms: u64) {
        self.calls.add(now_ms, 1);
        self.under_way += 1;
    }

    /// `cost`: in pico-USD; `None`: nobody knows, so it may have been all that was left.
    pub(super) fn end(&mut self, cost: Option<u64>, now_ms: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(cost) = cost {
            self.cost_max.see(cost, now_ms);
        }
        if let Some(spent) = cost.or(self.money_max) {
            self.money.add(now_ms, spent);
        }
    }
}

/// The largest of the last hour or two: one dear call is not held against the cheap ones for ever.
#[derive(Debug, Default)]
struct Fading {
    now: u64,
    before: u64,
    since_ms: u64,
}

impl Fading {
    fn value(&mut self, now_ms: u64) -> u64 {
        let hours = now_ms.saturating_sub(self.since_ms) / HOUR_MS;
        if hours > 0 {
            let before = if hours == 1 { self.now } else { 0 };
            (self.before, self.now, self.since_ms) = (before, 0, now_ms);
        }
        self.now.max(self.before)
    }

    fn see(&mut self, value: u64, now_ms: u64) {
        self.value(now_ms);
        self.now = self.now.max(value);
    }
}

/// A sum over the last sixty slots of time and the one that is not over.
#[derive(Debug)]
struct Sliding {
    slots: [u64; SLOTS + 1],
    slot_ms: u64,
    /// The number of the slot that is not over; its place is that modulo their number.
    now: u64,
}

impl Sliding {
    fn new(slot_ms: u64) -> Self {
        Self { slots: [0; SLOTS + 1], slot_ms, now: 0 }
    }

    fn sum(&mut self, now_ms: u64) -> u64 {
        self.advance(now_ms);
        self.slots.iter().fold(0, |sum, slot| u64::saturating_add(sum, *slot))
    }

    fn add(&mut self, now_ms: u64, more: u64) {
        self.advance(now_ms);
        let place = usize::try_from(self.now).unwrap_or(0) % self.slots.len();
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = slot.saturating_add(more);
        }
    }

    fn advance(&mut self, now_ms: u64) {
        let now = now_ms / self.slot_ms;
        let over = usize::try_from(now.saturating_sub(self.now)).unwrap_or(usize::MAX);
        let first = usize::try_from(self.now).unwrap_or(0).wrapping_add(1);
        for step in 0..over.min(self.slots.len()) {
            let place = first.wrapping_add(step) % self.slots.len();
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = 0;
            }
        }
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(calls: u32, money: Option<i128>) -> Budget {
        Budget::new(NonZeroU32::new(calls).unwrap(), money)
    }

    #[test]
    fn money_is_spent_until_one_more_call_could_cost_too_much() {
        let mut budget = budget(1_000, Some(100));
        assert!(budget.has_room(0));
        budget.begin(0);
        assert!(!budget.has_room(0), "what one costs is not known");
        budget.end(Some(30), 0);
        for _ in 0..2 {
            assert!(budget.has_room(0));
            budget.begin(0);
        }
        assert!(!budget.has_room(0), "30 spent, 60 under way");
        budget.end(Some(10), 0);
        assert!(budget.has_room(0), "40 spent, 30 under way");
        budget.end(Some(30), 0);
        assert!(budget.has_room(0));
        budget.begin(0);
        budget.end(Some(30), 0);
        assert!(!budget.has_room(59 * MINUTE_MS));
        assert!(budget.has_room(61 * MINUTE_MS), "an hour later");
    }

    #[test]
    fn a_call_whose_cost_nobody_knows_takes_all_that_is_left_of_the_hour() {
        let mut budget = budget(10, Some(100));
        budget.begin(0);
        budget.end(None, 0);
        assert!(!budget.has_room(59 * MINUTE_MS));
        assert!(budget.has_room(61 * MINUTE_MS));
    }

    #[test]
    fn one_dear_call_does_not_end_it_for_good() {
        let mut budget = budget(1_000, Some(100));
        budget.begin(0);
        budget.end(Some(120), 0);
        assert!(!budget.has_room(61 * MINUTE_MS), "the next may cost as much");
        assert!(budget.has_room(3 * HOUR_MS), "nobody remembers");
        budget.begin(3 * HOUR_MS);
        budget.end(Some(1), 3 * HOUR_MS);
        assert!(budget.has_room(3 * HOUR_MS));
    }

    #[test]
    fn without_a_limit_money_does_not_matter() {
        let mut budget = budget(10, None);
        for _ in 0..9 {
            budget.begin(0);
            budget.end(None, 0);
        }
        assert!(budget.has_room(0));
    }

    proptest! {
        #[test]
        fn no_minute_has_more_calls_than_it_may(
            calls_max in 1..20_u32,
            pauses in prop::collection::vec(0..20_000_u64, 1..300),
        ) {
            let (mut budget, mut now_ms) = (budget(calls_max, None), 0);
            let mut begun: Vec<u64> = Vec::new();
            for pause_ms in pauses {
                now_ms += pause_ms;
                if budget.has_room(now_ms) {
                    budget.begin(now_ms);
                    budget.end(Some(1), now_ms);
                    begun.push(now_ms);
                }
                let last = begun.iter().filter(|at_ms| now_ms - **at_ms < MINUTE_MS).count();
                prop_assert!(last <= usize::try_from(calls_max).unwrap());
            }
            // Not by refusing everything.
            prop_assert!(!begun.is_empty());
        }
    }
}
