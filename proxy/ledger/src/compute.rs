//! What the service behind the proxy costs by the hour, shared among its routes.
//!
//! It is paid for the time in which Tollgate ran, and no other. A route's share is the
//! part of the capacity it kept busy: Σ time its calls held a permit ÷ (that time ×
//! concurrency). Where there is no limit to measure by, it is busy while anything runs,
//! and calls that run at once share the moment (`busy`). What nobody used is shown as
//! idle, not spread over those who did. Which upstream a resource serves is not said
//! anywhere: the calls of all of them share it. Shares are rounded by largest remainder, so the
//! rows of a resource add up to its cost exactly.

/// Something paid by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    /// Price of one replica in pico units per hour, ≥ 0.
    pub hourly_pico: i64,
    pub replicas: u32,
}

/// A route's share of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeRow {
    pub resource: String,
    /// `None` is the idle rest.
    pub route: Option<String>,
    pub busy_us: u64,
    /// Pico units.
    pub cost: i128,
}

const HOUR_MS: i128 = 3_600_000;

/// Shares the cost of `period_ms` of every resource, the time it was paid for. `busy` is
/// Σ permit-held time per route in microseconds, and `concurrency` the permits of the
/// service; or, where it has no limit, 1 and shares of the time in which anything ran.
/// More busy time than capacity (a limit that changed) is shared by use: the price of
/// the time is all there is to be charged.
pub fn compute_cost(
    period_ms: u64,
    resources: &[Resource],
    busy: &[(String, u64)],
    concurrency: u64,
) -> Vec<ComputeRow> {
    let used: u128 = busy.iter().map(|(_, us)| u128::from(*us)).sum();
    let capacity = (u128::from(period_ms) * 1000).saturating_mul(u128::from(concurrency));
    let whole = capacity.max(used);
    let idle = if used == 0 { 1 } else { whole - used };
    let weights: Vec<u128> = busy.iter().map(|(_, us)| u128::from(*us)).chain([idle]).collect();
    let mut rows = Vec::new();
    for resource in resources {
        let hourly = i128::from(resource.hourly_pico) * i128::from(resource.replicas);
        let cost = hourly.max(0).saturating_mul(i128::from(period_ms)) / HOUR_MS;
        let mut parts = largest_remainder(cost.unsigned_abs(), &weights).into_iter();
        for ((route, busy_us), part) in busy.iter().zip(&mut parts) {
            rows.push(ComputeRow {
                resource: resource.name.clone(),
                route: Some(route.clone()),
                busy_us: *busy_us,
                cost: i128::try_from(part).unwrap_or(i128::MAX),
            });
        }
        let part = parts.next().unwrap_or(0);
        rows.push(ComputeRow {
            resource: resource.name.clone(),
            route: None,
            busy_us: u64::try_from(whole - used).unwrap_or(u64::MAX),
            cost: i128::try_from(part).unwrap_or(i128::MAX),
        });
    }
    rows
}

/// `amount` in parts like `weights`; the parts add up to it. Where all weights are
/// zero the last one gets all.
fn largest_remainder(amount: u128, weights: &[u128]) -> Vec<u128> {
    // Only where the products would not fit are weights scaled down, all alike.
    let bits = |number: u128| 128 - number.leading_zeros();
    let shift = (bits(amount) + bits(weights.iter().sum())).saturating_sub(127);
    let weights: Vec<u128> =
        weights.iter().map(|weight| weight.checked_shr(shift).unwrap_or(0)).collect();
    let whole: u128 = weights.iter().sum();
    if whole == 0 {
        let last = weights.len().saturating_sub(1);
        return (0..weights.len()).map(|i| if i == last { amount } else { 0 }).collect();
    }
    let mut parts: Vec<u128> = weights.iter().map(|weight| amount * weight / whole).collect();
    let mut order: Vec<(usize, u128)> =
        weights.iter().map(|weight| amount * weight % whole).enumerate().collect();
    order.sort_by_key(|(place, remainder)| (std::cmp::Reverse(*remainder), *place));
    // Fewer are left than there are parts: each rounding lost less than one.
    let left = amount - parts.iter().sum::<u128>();
    for (_, (place, _)) in (0..left).zip(order) {
        if let Some(part) = parts.get_mut(place) {
            *part += 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOLLAR: i64 = 1_000_000_000_000;

    fn gpu() -> Resource {
        Resource { name: "gpu".into(), hourly_pico: 2 * DOLLAR + DOLLAR / 2, replicas: 2 }
    }

    #[test]
    fn a_route_pays_the_part_of_the_capacity_that_it_kept_busy() {
        let hour_us = 3_600_000_000;
        let busy = [("chat".to_owned(), 2 * hour_us), ("embed".to_owned(), hour_us)];
        let rows = compute_cost(3_600_000, &[gpu()], &busy, 8);
        let costs: Vec<_> = rows.iter().map(|row| (row.route.as_deref(), row.cost)).collect();
        let dollar = i128::from(DOLLAR);
        assert_eq!(
            costs,
            [
                (Some("chat"), 5 * dollar * 2 / 8),
                (Some("embed"), 5 * dollar / 8),
                (None, 5 * dollar * 5 / 8),
            ]
        );
    }

    #[test]
    fn an_hour_that_nobody_used_is_all_idle() {
        for concurrency in [1, 8] {
            let rows = compute_cost(3_600_000, &[gpu()], &[], concurrency);
            assert_eq!(rows.len(), 1);
            assert_eq!((rows[0].route.as_deref(), rows[0].cost), (None, 5 * i128::from(DOLLAR)));
        }
    }

    #[test]
    fn more_use_than_there_was_capacity_is_not_charged_more_than_it_cost() {
        let hour_us = 3_600_000_000;
        let busy = [("a".to_owned(), 3 * hour_us), ("b".to_owned(), hour_us)];
        let rows = compute_cost(3_600_000, &[gpu()], &busy, 1);
        assert_eq!(rows[0].cost, 3 * rows[1].cost);
        assert_eq!(rows[0].cost + rows[1].cost, 5 * i128::from(DOLLAR));
        assert_eq!(rows[2].cost, 0);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole_and_none_is_negative(
            period_ms in 0..10_000_000_000u64,
            hourly_pico in 0..1_000_000_000_000_000_000i64,
            replicas in 0..100_000u32,
            busy_us in prop::collection::vec(0..(1u64 << 60), 0..12),
            concurrency in 0..100_000u64,
        ) {
            let resource = Resource { name: "gpu".into(), hourly_pico, replicas };
            let busy: Vec<_> = busy_us.iter().map(|us| ("route".to_owned(), *us)).collect();
            let rows = compute_cost(period_ms, &[resource], &busy, concurrency);
            let whole = i128::from(hourly_pico) * i128::from(replicas) * i128::from(period_ms) / HOUR_MS;
            prop_assert_eq!(rows.iter().map(|row| row.cost).sum::<i128>(), whole);
            prop_assert!(rows.iter().all(|row| row.cost >= 0));
        }
    }
}
