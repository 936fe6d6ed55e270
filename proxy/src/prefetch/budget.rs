//! What asking ahead may cost: calls in a minute, money in an hour. Never more than that in any
//! minute and any hour, not only in those of the clock.

use crate::metrics::{BudgetLabel, RouteMetrics};
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
    /// When it was said last that the calls, and that the money, are spent.
    told_ms: [Option<u64>; 2],
}

/// Whether one more call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// When what is under way has ended, perhaps.
    Later,
    /// Not in this minute, or hour.
    Spent(BudgetLabel),
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
            told_ms: [None; 2],
        }
    }

    /// Whether one of `n` that are likely to be wanted may begin. If not because the budget is
    /// spent, that is counted for all of them, and said once in an hour.
    pub(super) fn affords(&mut self, n: usize, metrics: &RouteMetrics, now_ms: u64) -> bool {
        let spent = match self.room(now_ms) {
            Room::Free => return true,
            Room::Later => return false,
            Room::Spent(spent) => spent,
        };
        metrics.prefetch_over_budget(spent, n);
        if self.tells(spent, now_ms) {
            let usd = |pico: u64| tollgate_config::show_usd(pico.into());
            tracing::warn!(
                route = metrics.route(),
                budget = spent.label(),
                calls_per_minute = self.calls_max,
                money_per_hour = self.money_max.map(usd),
                spent_usd = usd(self.money.sum(now_ms)),
                "the budget for asking ahead is spent for now: what else is likely to be wanted \
                 is counted in tollgate_cache_prefetch_over_budget_total"
            );
        }
        false
    }

    fn room(&mut self, now_ms: u64) -> Room {
        if self.calls.sum(now_ms) >= self.calls_max {
            return Room::Spent(BudgetLabel::Calls);
        }
        let Some(money_max) = self.money_max else { return Room::Free };
        let spent = self.money.sum(now_ms);
        let cost_max = self.cost_max.value(now_ms);
        if spent >= money_max || spent.saturating_add(cost_max) > money_max {
            return Room::Spent(BudgetLabel::Money);
        }
        let may_cost = cost_max.saturating_mul(self.under_way.saturating_add(1));
        // What a call costs may not be known yet: then one at a time.
        let is_known = cost_max > 0 || self.under_way == 0;
        if is_known && spent.saturating_add(may_cost) <= money_max {
            Room::Free
        } else {
            Room::Later
        }
    }

    fn tells(&mut self, spent: BudgetLabel, now_ms: u64) -> bool {
        let [calls, money] = &mut self.told_ms;
        let told_ms = match spent {
            BudgetLabel::Calls => calls,
            BudgetLabel::Money => money,
        };
        let is_due = told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= HOUR_MS);
        if is_due {
            *told_ms = Some(now_ms);
        }
        is_due
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

    fn has_room(budget: &mut Budget, now_ms: u64) -> bool {
        budget.room(now_ms) == Room::Free
    }

    #[test]
    fn that_a_budget_is_spent_is_said_once_an_hour_and_not_of_what_is_only_under_way() {
        let money = Room::Spent(BudgetLabel::Money);
        let mut of_money = budget(1_000, Some(100));
        of_money.begin(0);
        assert_eq!(of_money.room(0), Room::Later, "what one costs is not known");
        of_money.end(Some(40), 0);
        of_money.begin(0);
        assert_eq!(of_money.room(0), Room::Later, "40 spent, 40 under way");
        of_money.end(Some(40), 0);
        assert_eq!(of_money.room(0), money);
        assert!(of_money.tells(BudgetLabel::Money, 0));
        assert!(!of_money.tells(BudgetLabel::Money, HOUR_MS - 1));
        assert!(of_money.tells(BudgetLabel::Calls, 0), "that is another thing");
        assert!(of_money.tells(BudgetLabel::Money, HOUR_MS));
        let mut of_calls = budget(1, Some(100));
        of_calls.begin(0);
        assert_eq!(of_calls.room(0), Room::Spent(BudgetLabel::Calls));
    }

    #[test]
    fn money_is_spent_until_one_more_call_could_cost_too_much() {
        let mut budget = budget(1_000, Some(100));
        assert!(has_room(&mut budget, 0));
        budget.begin(0);
        assert!(!has_room(&mut budget, 0), "what one costs is not known");
        budget.end(Some(30), 0);
        for _ in 0..2 {
            assert!(has_room(&mut budget, 0));
            budget.begin(0);
        }
        assert!(!has_room(&mut budget, 0), "30 spent, 60 under way");
        budget.end(Some(10), 0);
        assert!(has_room(&mut budget, 0), "40 spent, 30 under way");
        budget.end(Some(30), 0);
        assert!(has_room(&mut budget, 0));
        budget.begin(0);
        budget.end(Some(30), 0);
        assert!(!has_room(&mut budget, 59 * MINUTE_MS));
        assert!(has_room(&mut budget, 61 * MINUTE_MS), "an hour later");
    }

    #[test]
    fn a_call_whose_cost_nobody_knows_takes_all_that_is_left_of_the_hour() {
        let mut budget = budget(10, Some(100));
        budget.begin(0);
        budget.end(None, 0);
        assert!(!has_room(&mut budget, 59 * MINUTE_MS));
        assert!(has_room(&mut budget, 61 * MINUTE_MS));
    }

    #[test]
    fn one_dear_call_does_not_end_it_for_good() {
        let mut budget = budget(1_000, Some(100));
        budget.begin(0);
        budget.end(Some(120), 0);
        assert!(!has_room(&mut budget, 61 * MINUTE_MS), "the next may cost as much");
        assert!(has_room(&mut budget, 3 * HOUR_MS), "nobody remembers");
        budget.begin(3 * HOUR_MS);
        budget.end(Some(1), 3 * HOUR_MS);
        assert!(has_room(&mut budget, 3 * HOUR_MS));
    }

    #[test]
    fn without_a_limit_money_does_not_matter() {
        let mut budget = budget(10, None);
        for _ in 0..9 {
            budget.begin(0);
            budget.end(None, 0);
        }
        assert!(has_room(&mut budget, 0));
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
                if has_room(&mut budget, now_ms) {
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
