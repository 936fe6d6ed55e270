//! What the injector counts, in Prometheus' text format. Every series is there from the
//! start; no label is one that a pod could make.

use crate::{
    mutate::{Left, Reason},
    review::Verdict,
};
use std::sync::atomic::{AtomicU64, Ordering};

const LEFT: [Left; 4] = [Left::NotAsked, Left::OptedOut, Left::Excluded, Left::Present];

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    reviews: Vec<(Verdict, AtomicU64)>,
    certificates: [AtomicU64; 2],
}

impl Default for Metrics {
    fn default() -> Self {
        let plain = [Verdict::Injected, Verdict::Passed, Verdict::Unreadable].into_iter();
        let all = plain
            .chain(LEFT.map(Verdict::Left))
            .chain(Reason::ALL.map(Verdict::Refused))
            .chain(Reason::ALL.map(Verdict::Denied));
        let reviews = all.map(|verdict| (verdict, AtomicU64::new(0))).collect();
        Self { reviews, certificates: Default::default() }
    }
}

impl Metrics {
    /// A review was answered.
    pub(crate) fn reviewed(&self, verdict: Verdict) {
        if let Some((_, count)) = self.reviews.iter().find(|(it, _)| *it == verdict) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A changed certificate was taken, or could not be.
    pub(crate) fn certificate(&self, taken: bool) {
        let [ok, failed] = &self.certificates;
        let count = if taken { ok } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# HELP tollgate_injector_reviews_total Reviews of the API server, by what came of them.\n\
             # TYPE tollgate_injector_reviews_total counter\n",
        );
        for (verdict, count) in &self.reviews {
            let (outcome, reason) = labels(*verdict);
            let n = count.load(Ordering::Relaxed);
            let name = "tollgate_injector_reviews_total";
            let line = format!("{name}{{outcome=\"{outcome}\",reason=\"{reason}\"}} {n}\n");
            text.push_str(&line);
        }
        text.push_str(
            "# HELP tollgate_injector_certificates_total Changed certificates, taken or not.\n\
             # TYPE tollgate_injector_certificates_total counter\n",
        );
        for (outcome, count) in ["taken", "refused"].iter().zip(&self.certificates) {
            let n = count.load(Ordering::Relaxed);
            let name = "tollgate_injector_certificates_total";
            text.push_str(&format!("{name}{{outcome=\"{outcome}\"}} {n}\n"));
        }
        text
    }
}

fn labels(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Injected => ("injected", ""),
        Verdict::Left(left) => ("left", left.as_str()),
        Verdict::Refused(reason) => ("refused", reason.as_str()),
        Verdict::Denied(reason) => ("denied", reason.as_str()),
        Verdict::Passed => ("passed", ""),
        Verdict::Unreadable => ("unreadable", ""),
    }
}
