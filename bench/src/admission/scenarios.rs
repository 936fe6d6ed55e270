//! The loads of the design's simulations (`admission.md`, B.1).

use crate::draw::Draw;
use std::num::NonZeroU32;
use tollgate_core::scheduler::ClassRules;

pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// The seed of all draws; each stream mixes in its own number.
const SEED: u64 = 0x70_11_6a_7e;

pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) slots: u32,
    pub(super) classes: Vec<(&'static str, ClassRules)>,
    pub(super) streams: Vec<Stream>,
    pub(super) until_ns: u64,
    /// Of the one queue of the reference: as many for each slot as Knative's has, by default.
    pub(super) fifo_max: usize,
    pub(super) fifo_wait_ns: u64,
}

/// Calls of one tenant in one class, as a Poisson process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) class: usize,
    pub(super) tenant: u64,
    /// Of the capacity of all slots.
    pub(super) load: f64,
    pub(super) mean_ns: f64,
    /// How long a caller stays.
    pub(super) patience_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at_ns: u64,
    pub(super) class: usize,
    pub(super) tenant: u64,
    pub(super) service_ns: u64,
    /// What is thought of its service: the mean.
    pub(super) estimate_ns: u64,
    pub(super) deadline_ns: Option<u64>,
}

/// A stream on its way, one call drawn ahead.
pub(super) struct Source {
    stream: Stream,
    draw: Draw,
    gap_ns: f64,
    at_ns: f64,
}

impl Scenario {
    pub(super) fn sources(&self) -> Vec<Source> {
        let slots = f64::from(self.slots);
        let streams = self.streams.iter().zip(1_u64..);
        streams
            .map(|(stream, nth)| {
                let gap_ns = stream.mean_ns / (stream.load * slots);
                let draw = Draw::new(SEED ^ (nth << 32));
                let mut source = Source { stream: *stream, draw, gap_ns, at_ns: 0.0 };
                source.advance();
                source
            })
            .collect()
    }
}

impl Source {
    pub(super) fn at_ns(&self) -> u64 {
        whole(self.at_ns)
    }

    pub(super) fn next(&mut self) -> Call {
        let Stream { class, tenant, mean_ns, patience_ns, .. } = self.stream;
        let at_ns = self.at_ns();
        let service_ns = whole(self.draw.lognormal(mean_ns, 1.0)).max(1);
        self.advance();
        let deadline_ns = patience_ns.map(|patience_ns| at_ns + patience_ns);
        let estimate_ns = whole(mean_ns);
        Call { at_ns, class, tenant, service_ns, estimate_ns, deadline_ns }
    }

    fn advance(&mut self) {
        self.at_ns += self.gap_ns * self.draw.exponential();
    }
}

#[expect(clippy::cast_sign_loss, reason = "times are not negative")]
fn whole(ns: f64) -> u64 {
    ns as u64
}

fn class(weight: u32, queue_max: usize, max_wait_ns: u64) -> ClassRules {
    // The default of the configuration: a tenth of the patience.
    let lifo_target_ns = max_wait_ns / 10;
    ClassRules { weight, queue_max, max_wait_ns, lifo_target_ns, ..ClassRules::NOTHING_WAITS }
}

fn four_classes(slots: u32, mean_ns: u64) -> Vec<(&'static str, ClassRules)> {
    let queue_max = 10 * slots as usize;
    let class = |weight| class(weight, queue_max, 15 * mean_ns);
    let emergency = ClassRules { strict: true, lifo_target_ns: u64::MAX, ..class(1) };
    vec![("emergency", emergency), ("vip", class(8)), ("normal", class(3)), ("batch", class(1))]
}

fn four_streams(loads: [f64; 4], mean_ns: u64) -> Vec<Stream> {
    let mean_ns = mean_ns as f64;
    let streams = loads.iter().zip(0..);
    streams
        .map(|(load, class)| Stream { class, tenant: 0, load: *load, mean_ns, patience_ns: None })
        .collect()
}

fn by_class(name: &str, slots: u32, loads: [f64; 4], seconds: u64) -> Scenario {
    let mean_ns = 2 * SECOND_NS;
    Scenario {
        name: name.to_owned(),
        slots,
        classes: four_classes(slots, mean_ns),
        streams: four_streams(loads, mean_ns),
        until_ns: seconds * SECOND_NS,
        fifo_max: 10 * slots as usize,
        fifo_wait_ns: 15 * mean_ns,
    }
}

/// Ten times the capacity of batch beside a little of everything else.
pub(super) fn flood(name: &str, slots: u32, seconds: u64) -> Scenario {
    by_class(name, slots, [0.05, 0.25, 0.30, 10.0], seconds)
}

/// The classes above batch want more than there is, and batch has a floor.
pub(super) fn starved(seconds: u64) -> Scenario {
    let mut scenario = by_class(
        "vip and normal above capacity, batch with a floor",
        8,
        [0.05, 0.6, 0.6, 10.0],
        seconds,
    );
    if let Some((_, batch)) = scenario.classes.last_mut() {
        batch.floor = 1;
    }
    scenario
}

/// Callers who leave after five seconds.
pub(super) fn patience(load: f64, seconds: u64) -> Scenario {
    let (slots, mean_ns) = (8, SECOND_NS / 2);
    let patience_ns = Some(5 * SECOND_NS);
    let stream = Stream { class: 0, tenant: 0, load, mean_ns: mean_ns as f64, patience_ns };
    Scenario {
        name: format!("{load} × capacity, callers leave after 5 s"),
        slots,
        classes: vec![("normal", class(1, 80, 15 * mean_ns))],
        streams: vec![stream],
        until_ns: seconds * SECOND_NS,
        fifo_max: 80,
        fifo_wait_ns: u64::MAX,
    }
}

/// One tenant with twice the capacity in long calls, seven with a little.
pub(super) fn noisy(seconds: u64) -> Scenario {
    let of = |tenant, load, mean_s: u64| {
        let mean_ns = (mean_s * SECOND_NS) as f64;
        Stream { class: 0, tenant, load, mean_ns, patience_ns: None }
    };
    let light = (1..8).map(|tenant| of(tenant, 0.06, 2));
    Scenario {
        name: "one loud tenant, seven quiet ones".to_owned(),
        slots: 8,
        classes: vec![("normal", class(1, 80, 600 * SECOND_NS))],
        streams: std::iter::once(of(0, 2.0, 10)).chain(light).collect(),
        until_ns: seconds * SECOND_NS,
        fifo_max: 80,
        fifo_wait_ns: 600 * SECOND_NS,
    }
}

/// What the 99th of 100 emergencies waits and runs, over what it runs, where one slot is always
/// busy and it is next: the rest of the call that runs comes first, whatever the order. (A call
/// met at random is met the likelier the longer it is.) No order that interrupts nobody is below.
pub(super) fn least_with_one_slot() -> f64 {
    let (mut draw, mean, cv) = (Draw::new(SEED), 1.0, 1.0_f64);
    let mut alone = Vec::new();
    let mut behind = Vec::new();
    for _ in 0..400_000 {
        let service = draw.lognormal(mean, cv);
        let met = draw.lognormal(mean * (1.0 + cv * cv), cv);
        alone.push(service);
        behind.push(service + met * draw.unit());
    }
    let p99 = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() * 99 / 100).copied().unwrap_or(f64::NAN)
    };
    p99(behind) / p99(alone)
}

impl Scenario {
    pub(super) fn limit(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.slots)
    }
}
