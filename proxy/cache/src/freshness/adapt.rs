//! Times that follow how often an answer is seen to change.
//!
//! Whoever brings a new answer compares it with the one before. What says the same deserves more
//! time, what does not deserves less: doubled and halved, so that a wrong time is left within a few
//! answers and a right one is not fled from. What says the same although it has hardly stood yet
//! proves nothing.

/// Between which times a route lets them be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapt {
    pub min_ms: u64,
    pub max_ms: u64,
}

/// What is known of an answer by the one before it, whose time was `learned_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: there was none.
    First,
    /// What there was had been purged.
    Purged,
    /// `stood_ms`: after which time.
    Same {
        learned_ms: u64,
        stood_ms: u64,
    },
    Differs {
        learned_ms: u64,
    },
    /// They could not be compared.
    Unread {
        learned_ms: u64,
    },
}

impl Adapt {
    /// For how long the new answer is good; `base_ms` is what holds where nothing was learned.
    pub fn time_ms(self, base_ms: u64, change: Change) -> u64 {
        // A rule of its own may begin outside.
        let (min_ms, max_ms) = (self.min_ms.min(base_ms), self.max_ms.max(base_ms));
        let learned_ms = match change {
            Change::First => base_ms,
            Change::Purged => min_ms,
            Change::Same { learned_ms, .. } if change.teaches() => learned_ms.saturating_mul(2),
            Change::Same { learned_ms, .. } | Change::Unread { learned_ms } => learned_ms,
            Change::Differs { learned_ms } => learned_ms / 2,
        };
        learned_ms.clamp(min_ms, max_ms)
    }
}

impl Change {
    /// Whether the new answer's time is another because of it.
    pub fn teaches(self) -> bool {
        match self {
            Self::Same { learned_ms, stood_ms } => stood_ms.saturating_mul(2) >= learned_ms,
            Self::Differs { .. } | Self::Purged => true,
            Self::First | Self::Unread { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADAPT: Adapt = Adapt { min_ms: 60_000, max_ms: 3_600_000 };

    #[track_caller]
    fn check(change: Change, expected_ms: u64) {
        assert_eq!(ADAPT.time_ms(600_000, change), expected_ms, "{change:?}");
    }

    #[test]
    fn what_says_the_same_is_good_for_twice_as_long_and_what_does_not_for_half() {
        check(Change::First, 600_000);
        check(Change::Purged, 60_000);
        check(Change::Same { learned_ms: 600_000, stood_ms: 300_000 }, 1_200_000);
        check(Change::Same { learned_ms: 600_000, stood_ms: 299_999 }, 600_000);
        check(Change::Same { learned_ms: 3_000_000, stood_ms: 3_000_000 }, 3_600_000);
        check(Change::Differs { learned_ms: 600_000 }, 300_000);
        check(Change::Differs { learned_ms: 100_000 }, 60_000);
        check(Change::Unread { learned_ms: 100_000 }, 100_000);
    }

    proptest! {
        #[test]
        fn no_time_leaves_the_bounds_but_for_its_own_beginning(
            min_ms in 1..1_000_000_u64, more_ms in 0..u64::MAX / 2, base_ms in 1..u64::MAX,
            learned_ms in any::<u64>(), stood_ms in any::<u64>(), which in 0..5_u8,
        ) {
            let adapt = Adapt { min_ms, max_ms: min_ms + more_ms };
            let change = match which {
                0 => Change::First,
                1 => Change::Purged,
                2 => Change::Same { learned_ms, stood_ms },
                3 => Change::Differs { learned_ms },
                _ => Change::Unread { learned_ms },
            };
            let time_ms = adapt.time_ms(base_ms, change);
            prop_assert!(time_ms >= adapt.min_ms.min(base_ms) && time_ms <= adapt.max_ms.max(base_ms));
        }
    }
}
