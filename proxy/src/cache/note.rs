//! The meter's note on an entry: what the answer used and cost, for what a hit saves.
//!
//! Fixed places in little-endian; the first byte is the layout's version, and a note of
//! another version is no note (the hit then saves an unknown amount, never a wrong one).

use crate::meter::{Bill, BillQuality, cost_in_order, cost_of, usage_in_order, usage_of};
use bytes::Bytes;
use std::sync::Arc;
use tollgate_core::money::PicoUsd;

const LAYOUT: u8 = 1;

pub(crate) fn encode_bill(bill: &Bill) -> Bytes {
    let mut note = Vec::with_capacity(128);
    note.push(LAYOUT);
    note.push(match bill.quality {
        BillQuality::Reported => 0,
        BillQuality::Partial => 1,
        BillQuality::Estimated => 2,
        BillQuality::Absent => 3,
    });
    note.push(u8::from(bill.cost.is_some()));
    for tokens in usage_in_order(&bill.usage) {
        note.extend_from_slice(&tokens.to_le_bytes());
    }
    for money in cost_in_order(&bill.cost.unwrap_or_default()) {
        note.extend_from_slice(&money.to_record().to_le_bytes());
    }
    note.extend_from_slice(bill.model.as_deref().unwrap_or_default().as_bytes());
    Bytes::from(note)
}

pub(crate) fn decode_bill(note: &[u8]) -> Option<Bill> {
    let ([layout, quality, priced], rest) = note.split_first_chunk()?;
    if *layout != LAYOUT {
        return None;
    }
    let quality = match quality {
        0 => BillQuality::Reported,
        1 => BillQuality::Partial,
        2 => BillQuality::Estimated,
        3 => BillQuality::Absent,
        _ => return None,
    };
    let (numbers, model) = rest.split_at_checked(13 * 8)?;
    let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut next = || numbers.next().unwrap_or(0);
    let usage = usage_of(&mut next);
    let cost = cost_of(|| PicoUsd::from_record(next().cast_signed()));
    let model = std::str::from_utf8(model).ok().filter(|model| !model.is_empty());
    let cost = (*priced == 1).then_some(cost);
    Some(Bill { usage, quality, cost, model: model.map(Arc::from) })
}

/// Whether a note says a price, and one that is not nothing.
pub(super) fn is_priced(note: &[u8]) -> bool {
    // Layout, quality, whether there is a price; eight numbers of tokens; five amounts.
    let priced = note.first() == Some(&LAYOUT) && note.get(2) == Some(&1);
    let money = note.get(3 + 8 * 8..3 + 13 * 8).unwrap_or_default();
    priced && money.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::{price::Cost, usage::Usage};

    fn bill() -> Bill {
        let usage = Usage { input: 7, output: 9, reasoning: 1, ..Usage::default() };
        let cost = Cost { output: PicoUsd::new(1_500_000), ..Cost::default() };
        let (quality, model) = (BillQuality::Estimated, Some(Arc::from("gpt-4o-mini")));
        Bill { usage, quality, cost: Some(cost), model }
    }

    #[test]
    fn a_note_says_what_the_bill_said() {
        for bill in [bill(), Bill::default(), Bill { cost: None, ..bill() }] {
            let note = encode_bill(&bill);
            assert_eq!(is_priced(&note), bill.cost.is_some_and(|cost| cost != Cost::default()));
            assert_eq!(decode_bill(&note), Some(bill));
        }
    }

    #[test]
    fn a_torn_or_foreign_note_is_none() {
        let note = encode_bill(&bill());
        for len in 0..3 + 13 * 8 {
            assert_eq!(decode_bill(&note[..len]), None);
        }
        let mut foreign = note.to_vec();
        foreign[0] = 9;
        assert!(!is_priced(&foreign) && !is_priced(&note[..60]));
        assert_eq!(decode_bill(&foreign), None);
    }
}
