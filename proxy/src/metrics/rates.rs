//! How busy it is right now, for the console and the hit-ratio gauge.

use super::labels::{CacheOutcome, TierLabel};
use crate::scaling::{Ring, ratio};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Ten finished seconds and the running one.
const CALL_SLOTS: usize = 11;
/// Five minutes.
const CACHE_SLOTS: usize = 30;
const CACHE_SLOT_MS: u64 = 10_000;
/// A finished minute and the running part of it.
const ARRIVAL_SLOTS: usize = 13;
const ARRIVAL_SLOT_MS: u64 = 5000;

/// What a call was to the cache; the places of the ring.
const MISSED: usize = 0;
const COLLAPSED: usize = 1;
/// Followed by one place a tier.
const ANSWERED: usize = 2;

/// Rings of counts that every call of every route goes into.
#[derive(Debug)]
pub(super) struct Traffic {
    calls: Ring,
    cache: Ring,
    arrivals: Ring,
    /// Since the start.
    arrived: AtomicU64,
}

/// The present, in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Ended calls a second, over the last 10 s.
    pub calls_per_second: f64,
    pub hit_ratio: HitRatio,
    /// In the order of the configuration.
    pub routes: Vec<RouteRates>,
}

/// Parts of the cacheable calls of the last 5 minutes; all 0 when there were none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HitRatio {
    /// Answered without an upstream call of their own: the three below.
    pub all: f64,
    pub memory: f64,
    pub redis: f64,
    pub memcached: f64,
    pub postgres: f64,
    pub disk: f64,
    /// Answered with another call's answer while it was being fetched.
    pub collapsed: f64,
}

/// One route, over the last minute.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRates {
    pub route: String,
    /// Of the calls that reached the upstream; zero when there were none.
    pub p99: Duration,
    /// As `request_error_ratio`, of this route alone.
    pub error_ratio: f64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        let width = ANSWERED + TierLabel::ALL.len();
        Self {
            calls: Ring::new(CALL_SLOTS, 1000, 1),
            cache: Ring::new(CACHE_SLOTS, CACHE_SLOT_MS, width),
            arrivals: Ring::new(ARRIVAL_SLOTS, ARRIVAL_SLOT_MS, 1),
            arrived: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, now_ms: u64, tier: TierLabel, cache: CacheOutcome) {
        self.calls.add(now_ms, [0]);
        let place = match cache {
            CacheOutcome::Hit | CacheOutcome::Stale => ANSWERED + tier.place(),
            CacheOutcome::Collapsed => COLLAPSED,
            CacheOutcome::Miss => MISSED,
            CacheOutcome::Bypass => return,
        };
        self.cache.add(now_ms, [place]);
    }

    pub(super) fn arrive(&self, now_ms: u64) {
        self.arrivals.add(now_ms, [0]);
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    #[expect(clippy::float_arithmetic, reason = "a rate of calls, no money")]
    pub(super) fn arrivals_per_second(&self, now_ms: u64) -> f64 {
        let (calls, over_ms) = self.arrivals.finished(now_ms, 0);
        ratio(calls, over_ms) * 1000.0
    }

    #[expect(clippy::float_arithmetic, reason = "a rate for a screen")]
    pub(super) fn calls_per_second(&self, now_ms: u64) -> f64 {
        let (calls, over_ms) = self.calls.finished(now_ms, 0);
        ratio(calls, over_ms) * 1000.0
    }

    pub(super) fn hit_ratio(&self, now_ms: u64) -> HitRatio {
        let sums = self.cache.sums(now_ms);
        let at = |place: usize| sums.get(place).copied().unwrap_or(0);
        let all: u64 = sums.iter().sum();
        HitRatio {
            all: ratio(all - at(MISSED), all),
            memory: ratio(at(ANSWERED + TierLabel::Memory.place()), all),
            redis: ratio(at(ANSWERED + TierLabel::Redis.place()), all),
            memcached: ratio(at(ANSWERED + TierLabel::Memcached.place()), all),
            postgres: ratio(at(ANSWERED + TierLabel::Postgres.place()), all),
            disk: ratio(at(ANSWERED + TierLabel::Disk.place()), all),
            collapsed: ratio(at(COLLAPSED), all),
        }
    }
}
