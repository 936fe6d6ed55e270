//! What a route makes of the times of what it keeps by content, made ready once: longer for what is
//! asked for often, and a while past it.

use super::millis;
use tollgate_cache::{
    entry::Rule,
    freshness::{Hot, Terms, Times, Windows},
};
use tollgate_config::{self as config, CachePolicy};

/// What holds for the times of a route's answers.
#[derive(Debug)]
pub(crate) struct Freshness {
    pub(crate) terms: Terms,
    pub(crate) windows: Windows,
}

impl Freshness {
    pub(crate) fn new(policy: &CachePolicy) -> Self {
        let stale = &policy.stale;
        let hot = policy.upkeep.hot.map(|hot| Hot {
            hits: hot.hits,
            extend_ms: millis(hot.extend),
            ahead_ppm: hot.refresh_ahead_ppm,
        });
        Self {
            terms: Terms { hot: hot.unwrap_or_default() },
            windows: Windows {
                while_revalidate_ms: millis(stale.while_revalidate),
                if_error_ms: millis(stale.if_error),
                degrade_ms: millis(stale.degrade),
            },
        }
    }

    /// Of an answer that is fresh for so long, of at most `cap_ms` that its upstream allows: for how
    /// long it can be of use, and what decides about it in the meantime.
    pub(crate) fn of_entry(&self, fresh_ms: u64, cap_ms: Option<u64>) -> (u64, Rule) {
        let (longest_ms, hot) = (self.windows.longest_ms(), self.terms.hot);
        if longest_ms == 0 && hot.hits == 0 {
            return (fresh_ms, Rule::Ttl);
        }
        let extend_max_ms = cap_ms.map_or(u64::MAX, |cap_ms| cap_ms.saturating_sub(fresh_ms));
        let times = Times { extend_max_ms, ..Times::new(fresh_ms) };
        let useful_ms = fresh_ms.saturating_add(times.extension_ms(hot)).saturating_add(longest_ms);
        (useful_ms, Rule::Timed(Box::new(times)))
    }

    /// For people.
    pub(crate) fn explain(&self) -> Vec<String> {
        let length = |ms| config::show_duration(std::time::Duration::from_millis(ms));
        let Hot { hits, extend_ms, ahead_ppm } = self.terms.hot;
        let longer =
            (extend_ms > 0).then(|| format!("{} longer, at most doubled,", length(extend_ms)));
        let ahead = (ahead_ppm > 0)
            .then(|| format!("renewed beside a hit in its last {}", config::show_ppm(ahead_ppm)));
        let hot = [longer, ahead].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let hot = (hits > 0).then(|| format!("and {hot} once it was given {hits} times"));
        let windows = [
            (self.windows.while_revalidate_ms, "while one call renews it"),
            (self.windows.if_error_ms, "if the upstream fails"),
            (self.windows.degrade_ms, "if there is no turn for a call"),
        ];
        let line = |(window_ms, when): (u64, &str)| {
            (window_ms > 0).then(|| format!("and {} past its time {when}", length(window_ms)))
        };
        hot.into_iter().chain(windows.into_iter().filter_map(line)).collect()
    }
}
