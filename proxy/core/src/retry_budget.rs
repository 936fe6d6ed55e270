//! How many calls may be tried again: a part of those there were, and a few more.
//!
//! Each call that fails and is tried again is one more call to a service that fails. Without
//! a bound, a service that can do half of what is asked is asked for twice as much. So of the
//! calls of the last ten seconds a part may be repeated, as Finagle and Linkerd have it; and
//! a few more whatever there were, or a service with one call a minute would have no tries.
//!
//! Time is an argument: milliseconds since any fixed moment.

/// Of how many seconds the calls are counted.
const WINDOW_S: u64 = 10;
/// One bucket a second, and the one that is begun.
const BUCKETS: u64 = WINDOW_S + 1;
/// How many may be tried again in a window however few calls there were: one a second.
const ALWAYS: u64 = 10;
const PPM: u64 = 1_000_000;

/// The calls and the further tries of the last ten seconds.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// Which part of the calls may be tried again, in millionths.
    part_ppm: u32,
    buckets: [Bucket; 11],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    calls: u64,
    retries: u64,
}

impl RetryBudget {
    /// With nothing spent. `part_ppm`: in millionths of the calls.
    pub fn new(part_ppm: u32) -> Self {
        Self { part_ppm, buckets: [Bucket::default(); 11] }
    }

    /// A call has begun, whose first try is not counted as one more.
    pub fn call(&mut self, now_ms: u64) {
        if let Some(bucket) = self.bucket(now_ms) {
            bucket.calls += 1;
        }
    }

    /// Whether one call may be tried again now; if so, that is spent.
    pub fn retry(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        let in_window =
            |bucket: &&Bucket| bucket.second <= second && second - bucket.second <= WINDOW_S;
        let seen = self.buckets.iter().filter(in_window);
        let (calls, retries) = seen.fold((0_u64, 0_u64), |(calls, retries), bucket| {
            (calls + bucket.calls, retries + bucket.retries)
        });
        let earned = calls.saturating_mul(u64::from(self.part_ppm)) / PPM;
        if retries >= earned.saturating_add(ALWAYS) {
            return false;
        }
        if let Some(bucket) = self.bucket(now_ms) {
            bucket.retries += 1;
        }
        true
    }

    fn bucket(&mut self, now_ms: u64) -> Option<&mut Bucket> {
        let second = now_ms / 1000;
        let place = usize::try_from(second % BUCKETS).ok()?;
        let bucket = self.buckets.get_mut(place)?;
        if bucket.second != second {
            *bucket = Bucket { second, ..Bucket::default() };
        }
        Some(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_few_may_be_tried_again_however_few_calls_there_are() {
        let mut budget = RetryBudget::new(0);
        let granted = (0..20).filter(|_| budget.retry(5)).count();
        assert_eq!(granted, 10);
        assert!(!budget.retry(10_999), "ten seconds are not over");
        assert!(budget.retry(11_000));
    }

    #[test]
    fn of_many_calls_a_part_may_be_tried_again() {
        let mut budget = RetryBudget::new(200_000);
        (0..1000).for_each(|_| budget.call(0));
        let granted = (0..1000).filter(|_| budget.retry(900)).count();
        assert_eq!(granted, 210);
    }

    proptest! {
        /// Goal: in no ten seconds are there more tries than the part of the calls of the twelve
        /// around them, and the few.
        #[test]
        fn no_window_has_more_than_its_part(
            part_ppm in 0_u32..1_000_000,
            steps in prop::collection::vec((0_u64..700, any::<bool>()), 1..300),
        ) {
            let mut budget = RetryBudget::new(part_ppm);
            let (mut now_ms, mut calls, mut retries) = (0, Vec::new(), Vec::new());
            for (by_ms, fails) in steps {
                now_ms += by_ms;
                budget.call(now_ms);
                calls.push(now_ms);
                if fails && budget.retry(now_ms) {
                    retries.push(now_ms);
                    let since_ms = now_ms.saturating_sub(10_000);
                    let within = |times: &[u64], from: u64| {
                        u64::try_from(times.iter().filter(|at| from <= **at).count()).unwrap()
                    };
                    let earned = within(&calls, since_ms.saturating_sub(1000)) * u64::from(part_ppm);
                    prop_assert!(within(&retries, since_ms) <= earned / PPM + ALWAYS);
                }
            }
        }
    }
}
