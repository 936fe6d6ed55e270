//! Parts of a whole: what one bill comes to for each of those it is for.

/// Divides `total` by weight, to the last unit: what rounding leaves goes to the heaviest, the
/// first of these. Nothing weighs anything: all alike. Their sum is `total`, unless there are none.
pub fn shares(total: u128, weights: &[u64]) -> Vec<u128> {
    let weight = |weight: &u64| u128::from(*weight);
    let all: u128 = weights.iter().map(weight).sum();
    // Without weights each counts as one.
    let (all, even) = if all == 0 {
        (u128::try_from(weights.len()).unwrap_or(u128::MAX), true)
    } else {
        (all, false)
    };
    let of = |own: &u64| {
        let own = if even { 1 } else { weight(own) };
        // Beyond 2^64 units of money the shares are coarser; what is left over is still exact.
        match total.checked_mul(own) {
            Some(product) => product.checked_div(all).unwrap_or(0),
            None => total.checked_div(all).unwrap_or(0).saturating_mul(own),
        }
    };
    let mut shares: Vec<u128> = weights.iter().map(of).collect();
    let given: u128 = shares.iter().sum();
    let mut heaviest = 0;
    for (place, own) in weights.iter().enumerate() {
        if weights.get(heaviest).is_some_and(|most| own > most) {
            heaviest = place;
        }
    }
    if let Some(share) = shares.get_mut(heaviest) {
        *share = share.saturating_add(total.saturating_sub(given));
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_rounding_leaves_goes_to_the_heaviest() {
        assert_eq!(shares(10, &[1, 2, 1]), [2, 6, 2]);
        assert_eq!(shares(1, &[5, 5]), [1, 0]);
        assert_eq!(shares(7, &[0, 0]), [4, 3]);
        assert_eq!(shares(0, &[3, 1]), [0, 0]);
        assert!(shares(7, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn shares_add_up_to_what_was_shared(
            total in any::<u128>(), weights in prop::collection::vec(any::<u64>(), 1..20),
        ) {
            let shares = shares(total, &weights);
            prop_assert_eq!(shares.len(), weights.len());
            prop_assert_eq!(shares.iter().try_fold(0_u128, |sum, one| sum.checked_add(*one)), Some(total));
        }
    }
}
