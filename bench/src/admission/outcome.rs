//! What came of a scenario: for each class and each tenant, and for the slots.

use super::scenarios::{Call, SECOND_NS, Scenario};

#[derive(Debug, Default)]
pub(super) struct OfClass {
    pub(super) offered: u64,
    pub(super) served: u64,
    pub(super) refused: u64,
    /// Of all the capacity there was.
    pub(super) work_share: f64,
    work_ns: u128,
    waiting: u64,
    backlogged_since_ns: u64,
    starved_ns: u64,
    /// Of each call that ended in time.
    latencies_ns: Vec<u64>,
    /// Of each that was offered: what its latency would be if it were alone.
    services_ns: Vec<u64>,
}

/// What a tenant wanted and got, of all the capacity there was.
#[derive(Debug, Default)]
pub(super) struct OfTenant {
    pub(super) offered: f64,
    pub(super) served: f64,
    offered_ns: u128,
    served_ns: u128,
}

#[derive(Debug)]
pub(super) struct Outcome {
    classes: Vec<OfClass>,
    pub(super) tenants: Vec<OfTenant>,
    pub(super) busy_ns: u128,
    useful_ns: u128,
    wasted_ns: u128,
    capacity_ns: f64,
    pub(super) useful_share: f64,
    pub(super) wasted_share: f64,
    /// Emergencies that saw more calls end than emergencies were ahead of them, and one.
    pub(super) passed_over: u64,
}

static NONE: OfClass = OfClass {
    offered: 0,
    served: 0,
    refused: 0,
    work_share: 0.0,
    work_ns: 0,
    waiting: 0,
    backlogged_since_ns: 0,
    starved_ns: 0,
    latencies_ns: Vec::new(),
    services_ns: Vec::new(),
};

impl Outcome {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let tenants = scenario.streams.iter().map(|stream| stream.tenant).max().unwrap_or(0) + 1;
        Self {
            classes: scenario.classes.iter().map(|_| OfClass::default()).collect(),
            tenants: (0..tenants).map(|_| OfTenant::default()).collect(),
            busy_ns: 0,
            useful_ns: 0,
            wasted_ns: 0,
            capacity_ns: f64::from(scenario.slots) * scenario.until_ns as f64,
            useful_share: 0.0,
            wasted_share: 0.0,
            passed_over: 0,
        }
    }

    pub(super) fn class(&self, place: usize) -> &OfClass {
        self.classes.get(place).unwrap_or(&NONE)
    }

    pub(super) fn busy_share(&self) -> f64 {
        self.busy_ns as f64 / self.capacity_ns
    }

    /// Of what each tenant got of its max-min part.
    pub(super) fn jain(&self) -> f64 {
        let mut parts: Vec<f64> = self.tenants.iter().map(|tenant| tenant.offered).collect();
        // Whoever wants less than an equal part of what is left has it; the others share.
        let (mut left, mut many) = (1.0, parts.len() as f64);
        let mut by_demand: Vec<usize> = (0..parts.len()).collect();
        by_demand.sort_by(|a, b| {
            parts.get(*a).partial_cmp(&parts.get(*b)).unwrap_or(std::cmp::Ordering::Equal)
        });
        for at in by_demand {
            if let Some(part) = parts.get_mut(at) {
                *part = part.min(left / many);
                left -= *part;
                many -= 1.0;
            }
        }
        let got =
            self.tenants.iter().zip(&parts).map(|(tenant, part)| (tenant.served / part).min(1.0));
        let (sum, squares) =
            got.fold((0.0, 0.0), |(sum, squares), one| (sum + one, squares + one * one));
        sum * sum / (self.tenants.len() as f64 * squares)
    }

    pub(super) fn waiting(&self, class: usize) -> u64 {
        self.class(class).waiting
    }

    pub(super) fn offered(&mut self, call: &Call) {
        if let Some(class) = self.classes.get_mut(call.class) {
            class.offered += 1;
            class.services_ns.push(call.service_ns);
        }
        if let Some(tenant) = tenant(&mut self.tenants, call) {
            tenant.offered_ns += u128::from(call.service_ns);
        }
    }

    pub(super) fn waits(&mut self, call: &Call, now_ns: u64) {
        if let Some(class) = self.classes.get_mut(call.class) {
            if class.waiting == 0 {
                class.backlogged_since_ns = now_ns;
            }
            class.waiting += 1;
        }
    }

    pub(super) fn waits_no_more(&mut self, call: &Call) {
        if let Some(class) = self.classes.get_mut(call.class) {
            class.waiting -= 1;
        }
    }

    /// One that waited starts.
    pub(super) fn started(&mut self, call: &Call, now_ns: u64) {
        if let Some(class) = self.classes.get_mut(call.class) {
            class.starved_ns = class.starved_ns.max(now_ns - class.backlogged_since_ns);
            class.backlogged_since_ns = now_ns;
        }
    }

    pub(super) fn refused(&mut self, call: &Call) {
        if let Some(class) = self.classes.get_mut(call.class) {
            class.refused += 1;
        }
    }

    pub(super) fn ended(&mut self, call: &Call, now_ns: u64, caller_left: bool) {
        let work_ns = u128::from(call.service_ns);
        if caller_left {
            self.wasted_ns += work_ns;
            return;
        }
        self.useful_ns += work_ns;
        if let Some(class) = self.classes.get_mut(call.class) {
            class.served += 1;
            class.work_ns += work_ns;
            class.latencies_ns.push(now_ns - call.at_ns);
        }
        if let Some(tenant) = tenant(&mut self.tenants, call) {
            tenant.served_ns += work_ns;
        }
    }

    pub(super) fn finish(&mut self) {
        let share = |work_ns: u128| work_ns as f64 / self.capacity_ns;
        self.useful_share = share(self.useful_ns);
        self.wasted_share = share(self.wasted_ns);
        for class in &mut self.classes {
            class.work_share = share(class.work_ns);
            class.latencies_ns.sort_unstable();
            class.services_ns.sort_unstable();
        }
        for tenant in &mut self.tenants {
            tenant.offered = share(tenant.offered_ns);
            tenant.served = share(tenant.served_ns);
        }
    }
}

fn tenant<'a>(tenants: &'a mut [OfTenant], call: &Call) -> Option<&'a mut OfTenant> {
    tenants.get_mut(usize::try_from(call.tenant).ok()?)
}

impl OfClass {
    /// The 99th of 100 latencies, over the same without anybody else.
    pub(super) fn slower(&self) -> f64 {
        quantile(&self.latencies_ns, 990) / quantile(&self.services_ns, 990)
    }

    /// Of those that came, but for those still there at the end.
    pub(super) fn served_share(&self) -> f64 {
        let gone = self.offered - self.served - self.refused;
        // Who left on its own was not served either; who is still there cannot be judged.
        self.served as f64 / (self.offered - gone.min(self.waiting + 8)) as f64
    }
}

fn quantile(sorted: &[u64], of_1000: usize) -> f64 {
    sorted.get(sorted.len() * of_1000 / 1000).map_or(f64::NAN, |ns| *ns as f64)
}

/// Both orders, class by class.
pub(super) fn print(scenario: &Scenario, fifo: &Outcome, ours: &Outcome) {
    println!("\n{}", scenario.name);
    println!(
        "| class | order | offered | served | P50 | P95 | P99 | P99.9 s | longest without a start s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let rows = scenario.classes.iter().zip(fifo.classes.iter().zip(&ours.classes));
    for ((name, _), (fifo, ours)) in rows {
        row(name, "alone", &fifo.services_ns, fifo.offered, fifo.offered, 0);
        row(name, "one queue", &fifo.latencies_ns, fifo.offered, fifo.served, fifo.starved_ns);
        row(name, "ours", &ours.latencies_ns, ours.offered, ours.served, ours.starved_ns);
    }
}

fn row(class: &str, order: &str, sorted_ns: &[u64], offered: u64, served: u64, starved_ns: u64) {
    let second = SECOND_NS as f64;
    let at: Vec<String> = [500, 950, 990, 999]
        .iter()
        .map(|of_1000| format!("{:.2}", quantile(sorted_ns, *of_1000) / second))
        .collect();
    let starved = starved_ns as f64 / second;
    println!("| {class} | {order} | {offered} | {served} | {} | {starved:.1} |", at.join(" | "));
}
