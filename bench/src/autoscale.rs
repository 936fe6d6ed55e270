//! What an autoscaler makes of the signals, on a virtual clock: the formula of Kubernetes' HPA, fed
//! by the queue alone, by queue and concurrency, and by the forecast beside them.
//!
//! A fluid model: calls of two seconds, eight slots a pod, two minutes until a pod serves; a day
//! that swings and a peak in the morning; seeded noise. The forecast is the proxy's own, of one
//! proxy before all pods. Each line names its target and whether it is met (Q13).

#![expect(clippy::float_arithmetic, reason = "a simulation; no money")]

use std::{collections::VecDeque, io};
use tollgate_core::forecast::{Forecast, Moment, Rules};

const DAY_S: u32 = 86_400;
const SERVICE_S: f64 = 2.0;
const SLOTS: f64 = 8.0;
const START_S: u32 = 120;
/// Between two looks of the autoscaler.
const SYNC_S: u32 = 15;
/// `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;
/// `behavior.scaleDown.stabilizationWindowSeconds`, in looks.
const WINDOW: usize = 20;
const PODS_MIN: f64 = 2.0;
const PODS_MAX: f64 = 100.0;
/// Of calls that wait, as the plans say, and of slots that are used, as Knative has it.
const QUEUE_TARGET: f64 = 10.0;
const SLOTS_TARGET: f64 = 0.7 * SLOTS;
/// A call that waits longer than this for a slot is one that the service was too small for.
const WAIT_MAX_S: f64 = 1.0;

/// What the autoscaler reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signals {
    Queue,
    Both,
    Forecast,
}

/// What came of it in the days that count.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Times the number of pods was changed.
    changes: u32,
    /// Times it went the other way than the time before.
    turns: u32,
    short_s: u32,
    pod_s: f64,
    seconds: u32,
}

/// The service and its autoscaler.
struct Fleet {
    /// When each pod serves.
    pods: VecDeque<u32>,
    waiting: f64,
    running: f64,
    advised: VecDeque<f64>,
    went_up: Option<bool>,
}

/// Prints the report. An error names what is not met.
pub(crate) fn run(smoke: bool) -> io::Result<()> {
    let days = if smoke { 4 } else { 14 };
    let [queue, both, forecast] =
        [Signals::Queue, Signals::Both, Signals::Forecast].map(|signals| simulate(signals, days));
    println!(
        "\n| autoscaler reads | changes/day | turns/day | minutes too small/day | mean pods |"
    );
    println!("|---|---|---|---|---|");
    for (name, outcome) in [
        ("request_queue_length", queue),
        ("and request_concurrency", both),
        ("and request_load_forecast", forecast),
    ] {
        let of_day = f64::from(outcome.seconds) / f64::from(DAY_S);
        println!(
            "| {name} | {:.0} | {:.0} | {:.1} | {:.1} |",
            f64::from(outcome.changes) / of_day,
            f64::from(outcome.turns) / of_day,
            f64::from(outcome.short_s) / 60.0 / of_day,
            outcome.pod_s / f64::from(outcome.seconds),
        );
    }
    let calmer = 3 * both.turns <= queue.turns;
    let larger = 2 * both.short_s <= queue.short_s;
    let foresees = forecast.short_s <= both.short_s;
    println!("\nQ13: turns at most a third: {calmer}; too small at most half as long: {larger};");
    println!("with the forecast no longer than without: {foresees}");
    if calmer && larger && foresees { Ok(()) } else { Err(io::Error::other("Q13 is not met")) }
}

fn simulate(signals: Signals, days: u32) -> Outcome {
    let rules = Rules { horizons: vec![5], raise_max: 3.0, schedules: Vec::new() };
    let mut forecast = Forecast::new(rules);
    let mut fleet = Fleet {
        pods: (0..4).map(|_| 0).collect(),
        waiting: 0.0,
        running: 0.0,
        advised: VecDeque::new(),
        went_up: None,
    };
    let (mut outcome, mut arrived) = (Outcome::default(), 0.0);
    for now in 0..days * DAY_S {
        let rate = rate(now);
        arrived += rate;
        let is_short = fleet.serve(now, rate);
        if now % 60 == 59 {
            forecast.tick(moment(now), arrived / 60.0);
            arrived = 0.0;
        }
        // The first two days are for learning: no signal is judged by them.
        let counts = now >= 2 * DAY_S;
        if now % SYNC_S == 0 {
            let load = match signals {
                Signals::Forecast => forecast.outlook(moment(now), rate).first().map(|it| it.load),
                Signals::Queue | Signals::Both => None,
            };
            let before = fleet.pods.len();
            fleet.scale(now, signals, load.unwrap_or(0.0));
            let after = fleet.pods.len();
            if after != before {
                let is_turn = fleet.went_up.replace(after > before) == Some(after < before);
                outcome.changes += u32::from(counts);
                outcome.turns += u32::from(counts && is_turn);
            }
        }
        if counts {
            outcome.short_s += u32::from(is_short);
            outcome.pod_s += fleet.pods.len() as f64;
            outcome.seconds += 1;
        }
    }
    outcome
}

impl Fleet {
    /// A second of calls. Whether some wait too long.
    fn serve(&mut self, now: u32, rate: f64) -> bool {
        let ready = self.pods.iter().filter(|since| **since <= now).count() as f64;
        let most = ready * SLOTS / SERVICE_S;
        let wanted = self.waiting + rate;
        let begun = wanted.min(most);
        self.waiting = wanted - begun;
        // Of the two seconds of a call.
        self.running += begun - self.running / SERVICE_S;
        self.waiting > most * WAIT_MAX_S
    }

    /// A look of the autoscaler: the greatest of what its metrics ask for.
    fn scale(&mut self, now: u32, signals: Signals, load: f64) {
        let pods = self.pods.len() as f64;
        let wanted = |sum: f64, target: f64| {
            let is_near = (sum / target / pods - 1.0).abs() <= TOLERANCE;
            if is_near { pods } else { (sum / target).ceil() }
        };
        let mut wants = wanted(self.waiting, QUEUE_TARGET);
        if signals != Signals::Queue {
            wants = wants.max(wanted(self.waiting + self.running, SLOTS_TARGET));
        }
        if signals == Signals::Forecast {
            wants = wants.max(wanted(load * SERVICE_S, SLOTS_TARGET));
        }
        if self.advised.len() == WINDOW {
            self.advised.pop_front();
        }
        self.advised.push_back(wants);
        let highest = self.advised.iter().copied().fold(0.0, f64::max);
        let allowed = (pods * 2.0).max(pods + 4.0);
        let next = if wants > pods { wants.min(allowed) } else { highest.min(pods) };
        let next = next.clamp(PODS_MIN, PODS_MAX);
        while (self.pods.len() as f64) < next {
            self.pods.push_back(now + START_S);
        }
        while self.pods.len() as f64 > next {
            // Those that do not serve yet go first.
            self.pods.pop_back();
        }
    }
}

/// Calls a second: a day between 4 and 40, a half-hour of half as much again at nine, noise.
fn rate(now: u32) -> f64 {
    let of_day = now % DAY_S;
    let turn = f64::from(of_day) / f64::from(DAY_S) * std::f64::consts::TAU;
    let peak = if (32_400..34_200).contains(&of_day) { 1.5 } else { 1.0 };
    (22.0 - 18.0 * turn.cos()) * peak * (1.0 + 0.15 * noise(now))
}

/// -1 to 1, the same every time.
fn noise(second: u32) -> f64 {
    let mut bits = u64::from(second).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 31;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 29;
    (bits % 20_001) as f64 / 10_000.0 - 1.0
}

fn moment(now: u32) -> Moment {
    let of_day = now / 60 % 1440;
    let weekday = usize::try_from(now / DAY_S % 7).unwrap_or(0);
    Moment { minute: i64::from(now / 60), of_day, weekday }
}
