//! How long past its time an answer may be given, made ready once.

use super::millis;
use tollgate_cache::{
    entry::Rule,
    freshness::{Given, Times, Windows},
};
use tollgate_config::{self as config, CachePolicy};

/// What holds for a route's answers past their time.
#[derive(Debug)]
pub(crate) struct Freshness {
    pub(crate) windows: Windows,
}

impl Freshness {
    pub(crate) fn new(policy: &CachePolicy) -> Self {
        let stale = &policy.stale;
        Self {
            windows: Windows {
                while_revalidate_ms: millis(stale.while_revalidate),
                if_error_ms: millis(stale.if_error),
                degrade_ms: millis(stale.degrade),
            },
        }
    }

    /// Of an answer that is fresh for so long: for how long it can be of use, and what decides
    /// about it in the meantime.
    pub(crate) fn of_entry(&self, fresh_ms: u64) -> (u64, Rule) {
        let longest_ms = self.windows.longest_ms();
        if longest_ms == 0 {
            return (fresh_ms, Rule::Ttl);
        }
        let times = Times { fresh_ms, given: Given::default() };
        (fresh_ms.saturating_add(longest_ms), Rule::Timed(Box::new(times)))
    }

    /// For people.
    pub(crate) fn explain(&self) -> Vec<String> {
        let windows = [
            (self.windows.while_revalidate_ms, "while one call renews it"),
            (self.windows.if_error_ms, "if the upstream fails"),
            (self.windows.degrade_ms, "if there is no turn for a call"),
        ];
        let line = |(window_ms, when): (u64, &str)| {
            let length = config::show_duration(std::time::Duration::from_millis(window_ms));
            (window_ms > 0).then(|| format!("and {length} past its time {when}"))
        };
        windows.into_iter().filter_map(line).collect()
    }
}
