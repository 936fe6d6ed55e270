//! What an answer is worth to who keeps what saves most.

use crate::meter::Bill;
use std::time::Duration;

/// What giving the answer again saves, in billionths of a dollar. Where no price is known it is the
/// upstream's time, a microsecond counting as one of them: 3.60 dollars an hour, about what a
/// machine with an accelerator costs.
pub(super) fn worth(bill: &Bill, took: Duration) -> u64 {
    let money = bill.cost.map_or(0, |cost| cost.total().get() / 1_000);
    match u64::try_from(money) {
        Ok(0) | Err(_) => u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        Ok(money) => money,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::{money::PicoUsd, price::Cost};

    #[test]
    fn an_answer_is_worth_its_price_or_else_the_time_it_took() {
        let took = Duration::from_millis(3);
        let priced = |pico_usd| {
            let cost = Cost { output: PicoUsd::new(pico_usd), ..Cost::default() };
            Bill { cost: Some(cost), ..Bill::default() }
        };
        assert_eq!(worth(&priced(5_000_000), took), 5_000);
        assert_eq!(worth(&priced(0), took), 3_000);
        assert_eq!(worth(&Bill::default(), took), 3_000);
    }
}
