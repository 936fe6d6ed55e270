//! What a route makes of the times of what it keeps by content, made ready once: longer for what is
//! asked for often, and a while past it.

use super::millis;
use tollgate_cache::{
    entry::Rule,
    freshness::{Adapt, Hot, Terms, Times, Windows},
};
use tollgate_config::{self as config, CachePolicy};

/// What holds for the times of a route's answers.
#[derive(Debug)]
pub(crate) struct Freshness {
    pub(crate) terms: Terms,
    pub(crate) windows: Windows,
    /// So many millionths of the hits are checked against the upstream.
    pub(crate) shadow_ppm: u32,
    pub(crate) adapt: Option<Adapt>,
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
            shadow_ppm: policy.upkeep.shadow_ppm,
            adapt: policy
                .upkeep
                .adapt
                .map(|adapt| Adapt { min_ms: millis(adapt.min), max_ms: millis(adapt.max) }),
            terms: Terms { hot: hot.unwrap_or_default(), ..Terms::default() },
            windows: Windows {
                while_revalidate_ms: millis(stale.while_revalidate),
                if_error_ms: millis(stale.if_error),
                degrade_ms: millis(stale.degrade),
            },
        }
    }

    /// Of an answer that is fresh for so long, of at most `cap_ms` that its upstream allows, after
    /// `learned_ms` were learned: for how long it can be of use, and what decides about it in the
    /// meantime.
    pub(crate) fn of_entry(
        &self,
        fresh_ms: u64,
        cap_ms: Option<u64>,
        learned_ms: u64,
    ) -> (u64, Rule) {
        let (longest_ms, hot) = (self.windows.longest_ms(), self.terms.hot);
        if longest_ms == 0 && hot.hits == 0 && self.adapt.is_none() {
            return (fresh_ms, Rule::Ttl);
        }
        // As long again, so that the next answer can be compared with it.
        let compared_ms = if self.adapt.is_some() { fresh_ms } else { 0 };
        let extend_max_ms = cap_ms.map_or(u64::MAX, |cap_ms| cap_ms.saturating_sub(fresh_ms));
        let times = Times { extend_max_ms, learned_ms, ..Times::new(fresh_ms) };
        let useful_ms = fresh_ms.saturating_add(times.extension_ms(hot));
        let useful_ms = useful_ms.saturating_add(longest_ms.max(compared_ms));
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
        let adapt = self.adapt.map(|Adapt { min_ms, max_ms }| {
            let (min, max) = (length(min_ms), length(max_ms));
            format!("then {min} to {max}, as it is seen to change")
        });
        let checks = (self.shadow_ppm > 0).then(|| {
            let share = config::show_ppm(self.shadow_ppm);
            format!("and checked against the upstream at {share} of its hits")
        });
        adapt
            .into_iter()
            .chain(hot)
            .chain(checks)
            .chain(windows.into_iter().filter_map(line))
            .collect()
    }
}
