//! Histograms of durations whose observation is two atomic additions.
//!
//! The one of the `prometheus` crate costs four and a compare-and-swap loop over
//! a float, so that its sum and its count agree at each scrape. Nobody computes
//! with that agreement, and a call is observed up to four times: 24 against 10 ns
//! alone, 110 against 24 ns where two threads meet (design page `dataplane`, Q7).
//! The count is the sum of the buckets, so those two agree here, too.

use super::{
    MetricsError,
    exemplar::{Exemplar, Slot},
    names::{Family, Kind},
    readings::pairs,
};
use prometheus::{
    core::{Collector, Desc},
    proto::{self, Bucket, Metric, MetricFamily, MetricType},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tollgate_ledger::Uuid;

/// Sums are kept in tenths of a microsecond: at ten thousand calls at a time
/// they last five years, and a hit of 30 µs still counts exactly enough.
pub(super) const TICKS_PER_SECOND: u64 = 10_000_000;
const NANOS_PER_TICK: u32 = 100;

/// One series.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper bounds in ticks, rising.
    bounds: Arc<[u64]>,
    /// One more than bounds: the last is for what exceeds them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// One a bucket, for the families whose calls have records.
    slots: Box<[Slot]>,
}

/// The calls that stand for the buckets of one family: by the values of its labels in the
/// order of their names, then by bucket, the one without a bound last.
#[derive(Debug, Default)]
pub(super) struct Exemplars {
    pub(super) family: &'static str,
    pub(super) series: BTreeMap<Vec<String>, Vec<Option<Exemplar>>>,
}

impl Histogram {
    fn new(bounds: Arc<[u64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let slots = (0..=bounds.len()).map(|_| Slot::default()).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), slots }
    }

    /// Counts one call that took `took`.
    pub(super) fn observe(&self, took: Duration) {
        self.count(ticks(took));
    }

    /// As [`Self::observe`], for a call that may stand for its bucket. A record without an
    /// id does not.
    pub(super) fn observe_record(&self, took: Duration, now_ms: u64, record: Uuid) {
        let ticks = ticks(took);
        let place = self.count(ticks);
        if let Some(slot) = self.slots.get(place).filter(|_| !record.is_nil()) {
            slot.show(now_ms, Exemplar { record, ticks });
        }
    }

    /// Gives the place of the bucket.
    fn count(&self, ticks: u64) -> usize {
        let place = self.bounds.iter().position(|bound| ticks <= *bound);
        let place = place.unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(ticks, Ordering::Relaxed);
        place
    }

    #[expect(clippy::float_arithmetic, reason = "ticks to seconds, for the metric's text")]
    fn gathered(&self, bounds: &[f64]) -> proto::Histogram {
        let mut so_far = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (count, bound) in self.counts.iter().zip(bounds) {
            so_far += count.load(Ordering::Relaxed);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(so_far);
            buckets.push(bucket);
        }
        let beyond = self.counts.last().map_or(0, |count| count.load(Ordering::Relaxed));
        let mut gathered = proto::Histogram::default();
        gathered.set_bucket(buckets);
        gathered.set_sample_count(so_far + beyond);
        let sum = self.sum.load(Ordering::Relaxed);
        gathered.set_sample_sum(sum as f64 / TICKS_PER_SECOND as f64);
        gathered
    }
}

fn ticks(took: Duration) -> u64 {
    let whole = took.as_secs().saturating_mul(TICKS_PER_SECOND);
    whole.saturating_add(u64::from(took.subsec_nanos() / NANOS_PER_TICK))
}

/// The series of one family, by label values.
#[derive(Clone, Debug)]
pub(super) struct Histograms {
    of: &'static Family,
    desc: Desc,
    /// In seconds, as the text shows them.
    bounds: &'static [f64],
    bounds_ticks: Arc<[u64]>,
    series: Arc<Mutex<BTreeMap<Vec<String>, Arc<Histogram>>>>,
}

impl Histograms {
    pub(super) fn new(of: &'static Family) -> Result<Self, MetricsError> {
        let labels = of.labels.iter().map(|label| (*label).to_owned()).collect();
        let bounds = if let Kind::Histogram(bounds) = of.kind { bounds } else { &[] };
        Ok(Self {
            of,
            desc: Desc::new(of.name.to_owned(), of.help.to_owned(), labels, HashMap::new())?,
            bounds,
            bounds_ticks: bounds
                .iter()
                .map(|bound| ticks(Duration::from_secs_f64(*bound)))
                .collect(),
            series: Arc::default(),
        })
    }

    /// What stands for the buckets now.
    pub(super) fn exemplars(&self) -> Exemplars {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = series.iter().map(|(labels, histogram)| {
            let pairs = pairs(self.of, labels);
            let values = pairs.iter().map(|pair| pair.value().to_owned()).collect();
            (values, histogram.slots.iter().map(Slot::shown).collect())
        });
        Exemplars { family: self.of.name, series: shown.collect() }
    }

    /// The series with these label values, in the order of the family's labels.
    pub(super) fn with(&self, labels: &[&str]) -> Arc<Histogram> {
        let key = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Histogram::new(Arc::clone(&self.bounds_ticks)));
        Arc::clone(series.entry(key).or_insert_with(made))
    }
}

impl Collector for Histograms {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = series.iter().map(|(labels, histogram)| {
            let mut metric = Metric::from_label(pairs(self.of, labels));
            metric.set_histogram(histogram.gathered(self.bounds));
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.of.name.to_owned());
        family.set_help(self.of.help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition: bucket `le` counts what is not above it.
        #[test]
        fn buckets_count_what_is_not_above_them(micros in prop::collection::vec(0_u64..400_000_000, 0..50)) {
            let family = Histograms::new(&names::UPSTREAM_SECONDS).unwrap();
            let histogram = family.with(&["chat"]);
            for micros in &micros {
                histogram.observe(Duration::from_micros(*micros));
            }
            let gathered = family.collect().remove(0).get_metric()[0].get_histogram().clone();
            prop_assert_eq!(gathered.get_sample_count(), micros.len() as u64);
            let sum = Duration::from_micros(micros.iter().sum());
            let told = Duration::from_secs_f64(gathered.get_sample_sum());
            // The float on the page may be a last digit off, the sum is not.
            prop_assert!(told.abs_diff(sum) < Duration::from_nanos(50), "{told:?} {sum:?}");
            for bucket in gathered.get_bucket() {
                let bound = Duration::from_secs_f64(bucket.upper_bound());
                let below = micros.iter().filter(|micros| Duration::from_micros(**micros) <= bound);
                prop_assert_eq!(bucket.cumulative_count(), below.count() as u64);
            }
        }
    }

    #[test]
    fn a_call_of_exactly_a_bound_is_not_above_it() {
        for bound in names::CALL_SECONDS {
            let family = Histograms::new(&names::UPSTREAM_SECONDS).unwrap();
            family.with(&["chat"]).observe(Duration::from_secs_f64(*bound));
            let gathered = family.collect().remove(0).get_metric()[0].get_histogram().clone();
            let buckets = gathered.get_bucket();
            let at = buckets.iter().find(|bucket| bucket.upper_bound() == *bound).unwrap();
            assert_eq!(at.cumulative_count(), 1, "{bound}");
        }
    }
}
