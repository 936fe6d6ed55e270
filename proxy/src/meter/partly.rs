//! A call whose items were answered partly from the cache: what was spent on the rest, and what was
//! spared with what was known. And the arithmetic of bills that this needs.

use super::{Bill, BillQuality, Call, Draft};
use std::sync::Arc;
use tollgate_core::{items::shares, money::PicoUsd, price::Cost, usage::Usage};

/// What belongs to a call beside the bill of its answer.
#[derive(Debug, Default)]
pub(super) struct Partly {
    /// What those of its items would have cost that were known.
    spared: Option<Bill>,
    /// An upstream call that was paid for in vain.
    spent: Option<Bill>,
}

impl Call {
    /// Some of its items were answered from the cache.
    pub(crate) fn spares(&mut self, known: Bill) {
        if let Some(draft) = &mut self.0 {
            draft.partly.get_or_insert_default().spared = Some(known);
        }
    }

    /// The answer to an upstream call was of no use, and is to be paid for.
    pub(crate) fn spent(&mut self, in_vain: Bill) {
        if let Some(draft) = &mut self.0 {
            draft.partly.get_or_insert_default().spent = Some(in_vain);
        }
    }
}

impl Draft {
    /// The bill of its answer, with what belongs to it beside.
    pub(super) fn bill_with_parts(&mut self, bill: &Bill) {
        let Some(partly) = self.partly.take() else { return self.bill(bill, false) };
        let Partly { spared, spent } = *partly;
        match spent {
            None => self.bill(bill, false),
            Some(spent) => self.bill(&Bill::sum([bill, &spent]), false),
        }
        if let Some(spared) = spared {
            self.is_partial = true;
            if !self.record.own {
                self.record.saved_pico = spared.cost.map_or(0, |cost| cost.total().to_record());
            }
            // The call itself is counted, and priced, with what was spent.
            let spared = Bill { quality: BillQuality::Reported, ..spared };
            self.count_spared(&spared);
        }
    }
}

impl Draft {
    /// Of a call that ended without an answer: what was paid for before.
    pub(super) fn bill_in_vain(&mut self) {
        if let Some(spent) = self.partly.take().and_then(|partly| partly.spent) {
            self.bill(&spent, false);
        }
    }
}

impl Bill {
    /// All of them: no better known than the least known, priced where all are.
    pub(crate) fn sum<'a>(bills: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut bills = bills.into_iter();
        let Some(first) = bills.next() else { return Self::default() };
        let mut sum = first.clone();
        for bill in bills {
            let (one, other) = (usage_in_order(&sum.usage), usage_in_order(&bill.usage));
            let mut tokens = one.iter().zip(other).map(|(one, other)| one.saturating_add(other));
            sum.usage = usage_of(|| tokens.next().unwrap_or(0));
            sum.cost = sum.cost.zip(bill.cost).map(|(one, other)| {
                let (one, other) = (cost_in_order(&one), cost_in_order(&other));
                let mut money = one.iter().zip(other).map(|(one, other)| one.saturating_add(other));
                cost_of(|| money.next().unwrap_or_default())
            });
            sum.quality = worse(sum.quality, bill.quality);
        }
        sum
    }

    /// A share for each by weight. Their sum is this, to the last token and the last pico-dollar.
    pub(crate) fn divided(&self, weights: &[u64]) -> Vec<Self> {
        let divide = |total: u128| shares(total, weights).into_iter();
        let mut tokens: Vec<_> =
            usage_in_order(&self.usage).into_iter().map(|tokens| divide(tokens.into())).collect();
        let whole = |money: PicoUsd| u128::try_from(money.get()).unwrap_or(0);
        let money = |cost: Cost| cost_in_order(&cost).into_iter().map(|money| divide(whole(money)));
        let mut money: Option<Vec<_>> = self.cost.map(|cost| money(cost).collect());
        let next = |column: Option<&mut std::vec::IntoIter<u128>>| {
            column.and_then(Iterator::next).unwrap_or(0)
        };
        let share = |_: &u64| {
            let mut columns = tokens.iter_mut();
            let usage = usage_of(|| u64::try_from(next(columns.next())).unwrap_or(u64::MAX));
            let cost = money.as_mut().map(|columns| {
                let mut columns = columns.iter_mut();
                cost_of(|| PicoUsd::new(i128::try_from(next(columns.next())).unwrap_or(i128::MAX)))
            });
            Self { usage, cost, quality: self.quality, model: self.model.as_ref().map(Arc::clone) }
        };
        weights.iter().map(share).collect()
    }
}

fn worse(one: BillQuality, other: BillQuality) -> BillQuality {
    let rank = |quality: &BillQuality| match quality {
        BillQuality::Reported => 0,
        BillQuality::Partial => 1,
        BillQuality::Estimated => 2,
        BillQuality::Absent => 3,
    };
    [one, other].into_iter().max_by_key(rank).unwrap_or(other)
}

pub(crate) fn usage_in_order(usage: &Usage) -> [u64; 8] {
    [
        usage.input,
        usage.cached_input,
        usage.cache_write,
        usage.cache_write_1h,
        usage.audio_input,
        usage.output,
        usage.reasoning,
        usage.audio_output,
    ]
}

pub(crate) fn usage_of(mut next: impl FnMut() -> u64) -> Usage {
    Usage {
        input: next(),
        cached_input: next(),
        cache_write: next(),
        cache_write_1h: next(),
        audio_input: next(),
        output: next(),
        reasoning: next(),
        audio_output: next(),
    }
}

pub(crate) fn cost_in_order(cost: &Cost) -> [PicoUsd; 5] {
    [cost.input, cost.cached_input, cost.cache_write, cost.output, cost.request]
}

pub(crate) fn cost_of(mut next: impl FnMut() -> PicoUsd) -> Cost {
    Cost {
        input: next(),
        cached_input: next(),
        cache_write: next(),
        output: next(),
        request: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_shares_of_a_bill_add_up_to_it(
            tokens in prop::array::uniform8(0..1_u64 << 40),
            money in prop::option::of(prop::array::uniform5(0..1_i64 << 60)),
            weights in prop::collection::vec(0..9_u64, 1..9),
        ) {
            let mut tokens = tokens.into_iter();
            let cost = money.map(|money| {
                let mut money = money.into_iter().map(|pico| PicoUsd::new(i128::from(pico)));
                cost_of(|| money.next().unwrap())
            });
            let usage = usage_of(|| tokens.next().unwrap());
            let model = Some(Arc::from("m"));
            let bill = Bill { usage, cost, quality: BillQuality::Reported, model };
            let shares = bill.divided(&weights);
            prop_assert_eq!(shares.len(), weights.len());
            prop_assert_eq!(Bill::sum(&shares), bill);
        }
    }

    #[test]
    fn a_sum_is_known_no_better_than_its_parts() {
        let bill = |quality, cost: Option<i128>| Bill {
            quality,
            cost: cost.map(|pico| Cost { input: PicoUsd::new(pico), ..Cost::default() }),
            ..Bill::default()
        };
        let sum =
            Bill::sum([&bill(BillQuality::Reported, Some(1)), &bill(BillQuality::Estimated, None)]);
        assert_eq!((sum.quality, sum.cost), (BillQuality::Estimated, None));
    }
}
