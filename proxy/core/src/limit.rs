//! How many calls an upstream can have at one time, found out from its answers.
//!
//! ```text
//!   a call ended ─┬─ nobody waited for its end ────────────────────────▶ not counted
//!                 ├─ refused or too late for want of capacity ─────────▶ × 0.9, once a round
//!                 ├─ began while less than half of the limit ran ──────▶ not counted
//!                 └─▶ window of ≥ 1 s and ≥ 50 calls ─▶ how long is the queue in there?
//!                        short ─▶ more   (if more brought more before; ≤ 5 × what ran)
//!                        long ──▶ less
//! ```
//!
//! As TCP Vegas: time per unit of cost, against what it is when there is no queue, says how many
//! of those that run in truth wait. Per unit of cost, because the answers of a model differ by
//! their length a hundredfold, and their times with them.
//!
//! What the time is without a queue cannot be known once there always is one, and a mean drifts
//! up with what it measures. So every so often the limit is halved for a window, and what is seen
//! then is believed, up or down: a service that has become slower for good is not taken for a
//! full one for ever. A probe ends by itself, and never is a limit set by what ran in it.
//!
//! Integers, and time is an argument.

use std::{collections::VecDeque, num::NonZeroU32};

/// A window lasts at least so long, and has so many calls: fewer say more about themselves than
/// about the upstream.
const WINDOW_NS: u64 = 1_000_000_000;
const WINDOW_SAMPLES: u64 = 50;

/// After so many windows, the time without a queue is measured again.
const WINDOWS_PER_PROBE: u32 = 30;
/// After so many that each had a long queue in a row, too: perhaps it is no queue.
const LONG_PER_PROBE: u32 = 5;
/// A probe in which nothing that counts has ended for so long is over; and for as long as so many
/// calls take, where that is longer.
const PROBE_NS: u64 = 30_000_000_000;
const PROBE_CALLS: u64 = 4;

/// Windows that are looked at to see whether more brought more.
const HISTORY: usize = 8;

/// Limits that are this many times what ran are guesses.
const OVER_INFLIGHT: u32 = 5;

/// Where it begins, between its bounds: every engine takes some.
const FIRST: u32 = 8;

/// Parts of a nanosecond in which time per unit of cost is kept.
const FINE: u128 = 1024;
const MILLI: u64 = 1_000;

/// The bounds of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: NonZeroU32,
    /// Not below `min`.
    pub max: NonZeroU32,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With its whole answer.
    Answered,
    /// The upstream said that it has too much to do (429, 503), or did not begin in time.
    Overloaded,
    /// Nobody waited for its end, or it broke: how long it took says nothing.
    Gone,
}

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub began_ns: u64,
    pub ended_ns: u64,
    /// What it was of; 0 counts as 1.
    pub cost: u64,
    /// How many ran when it began, itself among them.
    pub inflight: u32,
    pub outcome: Outcome,
}

/// Why the limit is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too few calls ended to say anything.
    First,
    /// There was next to no queue.
    Raised,
    /// There was one of the right length.
    Kept,
    /// More did not bring more.
    NoGain,
    /// There was too long a one.
    Lowered,
    /// The upstream said so.
    BackedOff,
    /// It is halved, to see how long calls take without a queue.
    Probing,
}

impl Why {
    /// A word for it, the same in every version.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Raised => "raised",
            Self::Kept => "kept",
            Self::NoGain => "no_gain",
            Self::Lowered => "lowered",
            Self::BackedOff => "backed_off",
            Self::Probing => "probing",
        }
    }
}

/// A limit that follows an upstream.
#[derive(Debug)]
pub struct AdaptiveLimit {
    range: Range,
    limit: u32,
    why: Why,
    window: Window,
    /// Time per unit of cost without a queue.
    base: Option<u128>,
    /// Windows since it was measured.
    windows: u32,
    /// Of the last ones, how many had a long queue.
    long: u32,
    probe: Option<Probe>,
    /// How long a call took, in the last window.
    call_ns: u64,
    /// What ran, and what was done in a second, window by window.
    history: VecDeque<(u64, u64)>,
    /// Nothing has spoken against more yet: it doubles.
    is_new: bool,
    /// Of calls that began before, what they say of overload is old.
    backed_off_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    began_ns: u64,
    /// When something of it was counted last.
    heard_ns: u64,
    /// The limit before and after it.
    limit: u32,
}

#[derive(Debug, Default)]
struct Window {
    began_ns: u64,
    samples: u64,
    time_ns: u128,
    cost: u128,
    inflight: u64,
    inflight_max: u32,
}

impl AdaptiveLimit {
    pub fn new(range: Range, now_ns: u64) -> Self {
        let mut limit = Self {
            range,
            limit: 0,
            why: Why::First,
            window: Window { began_ns: now_ns, ..Window::default() },
            base: None,
            windows: 0,
            long: 0,
            probe: None,
            call_ns: 0,
            history: VecDeque::with_capacity(HISTORY),
            is_new: true,
            backed_off_ns: 0,
        };
        limit.set(FIRST);
        limit
    }

    /// In force now.
    pub fn limit(&self) -> NonZeroU32 {
        NonZeroU32::new(self.limit).unwrap_or(self.range.min)
    }

    pub fn why(&self) -> Why {
        self.why
    }

    pub fn range(&self) -> Range {
        self.range
    }

    /// Other bounds, by the operator: what was learned stays.
    pub fn set_range(&mut self, range: Range) {
        self.range = range;
        self.set(self.limit);
        if let Some(probe) = &mut self.probe {
            probe.limit = clamped(probe.limit, range);
        }
    }

    /// A call ended. Then ask [`Self::limit`].
    pub fn ended(&mut self, sample: &Sample) {
        let now_ns = sample.ended_ns;
        self.end_idle_probe(now_ns);
        match sample.outcome {
            Outcome::Gone => return,
            Outcome::Overloaded => {
                // Those that were under way then were sent under the old limit.
                if self.backed_off_ns <= sample.began_ns {
                    self.back_off(now_ns);
                }
                return;
            }
            Outcome::Answered => {}
        }
        self.window.inflight_max = self.window.inflight_max.max(sample.inflight);
        let is_half = self.limit <= sample.inflight.saturating_mul(2);
        let is_of_before = self.probe.is_some_and(|probe| sample.began_ns < probe.began_ns);
        if !is_half || is_of_before {
            return;
        }
        if let Some(probe) = &mut self.probe {
            probe.heard_ns = now_ns;
        }
        self.window.add(sample);
        let length_ns = now_ns.saturating_sub(self.window.began_ns);
        if WINDOW_NS <= length_ns && WINDOW_SAMPLES <= self.window.samples {
            let window = std::mem::take(&mut self.window);
            self.window.began_ns = now_ns;
            self.judge(&window, length_ns, now_ns);
        }
    }

    fn judge(&mut self, window: &Window, length_ns: u64, now_ns: u64) {
        let call_ns = window.time_ns / u128::from(window.samples.max(1));
        self.call_ns = u64::try_from(call_ns).unwrap_or(u64::MAX);
        let unit = (window.time_ns * FINE / window.cost.max(1)).max(1);
        if let Some(probe) = self.probe.take() {
            self.base = Some(unit);
            (self.windows, self.long, self.why) = (0, 0, Why::Kept);
            self.history.clear();
            self.set(probe.limit);
            return;
        }
        self.windows += 1;
        // Not the least ever seen, which is the luckiest: a step towards it.
        let base = self.base.map_or(unit, |base| base - base.saturating_sub(unit) / 4);
        self.base = Some(base);
        let inflight = window.inflight.saturating_mul(MILLI) / window.samples.max(1);
        let queue = u128::from(inflight) * unit.saturating_sub(base) / unit;
        let queue = u64::try_from(queue).unwrap_or(u64::MAX);
        let done = per_second(window.cost, length_ns);
        self.remember(inflight, done);
        let short = 1 + self.limit.max(1).ilog2() / 2;
        let (short_queue, long_queue) = (u64::from(short) * MILLI, u64::from(2 * short) * MILLI);
        if long_queue < queue {
            self.lower(queue - long_queue);
        } else if queue < short_queue {
            self.raise(short, window.inflight_max);
        } else {
            (self.is_new, self.long, self.why) = (false, 0, Why::Kept);
        }
        if WINDOWS_PER_PROBE <= self.windows || LONG_PER_PROBE <= self.long {
            self.begin_probe(now_ns);
        }
    }

    fn lower(&mut self, beyond: u64) {
        (self.is_new, self.why) = (false, Why::Lowered);
        self.long += 1;
        // Half of what is too much, as it is a guess; never by more than three tenths.
        let step = u32::try_from(beyond / (2 * MILLI)).unwrap_or(u32::MAX).max(1);
        let most = (self.limit * 3 / 10).max(1);
        self.set(self.limit.saturating_sub(step.min(most)));
    }

    fn raise(&mut self, step: u32, inflight_max: u32) {
        self.long = 0;
        if !self.brought_more() {
            (self.is_new, self.why) = (false, Why::NoGain);
            return;
        }
        let step = if self.is_new { self.limit } else { step };
        let most = inflight_max.saturating_mul(OVER_INFLIGHT).max(self.limit);
        self.why = Why::Raised;
        self.set(self.limit.saturating_add(step).min(most));
    }

    fn back_off(&mut self, now_ns: u64) {
        let less = |limit: u32| limit.saturating_sub((limit / 10).max(1));
        (self.is_new, self.backed_off_ns) = (false, now_ns);
        if let Some(probe) = &mut self.probe {
            probe.limit = clamped(less(probe.limit), self.range);
        } else {
            self.why = Why::BackedOff;
        }
        self.set(less(self.limit));
        self.window = Window { began_ns: now_ns, ..Window::default() };
    }

    fn begin_probe(&mut self, now_ns: u64) {
        (self.windows, self.long) = (0, 0);
        let half = clamped(self.limit / 2, self.range);
        if half == self.limit {
            // There is no room for one: what is measured here is as good as it gets.
            self.base = None;
            return;
        }
        self.probe = Some(Probe { began_ns: now_ns, heard_ns: now_ns, limit: self.limit });
        self.why = Why::Probing;
        self.set(half);
        self.window = Window { began_ns: now_ns, ..Window::default() };
    }

    fn end_idle_probe(&mut self, now_ns: u64) {
        let patience_ns = self.call_ns.saturating_mul(PROBE_CALLS).max(PROBE_NS);
        if let Some(probe) = self.probe
            && patience_ns <= now_ns.saturating_sub(probe.heard_ns)
        {
            self.probe = None;
            self.why = Why::Kept;
            self.set(probe.limit);
            self.window = Window { began_ns: now_ns, ..Window::default() };
        }
    }

    fn remember(&mut self, inflight: u64, done: u64) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((inflight, done));
    }

    /// Whether, of late, where more ran more was done. Where about as many ran all the time,
    /// nobody knows, and trying is the way to find out.
    fn brought_more(&self) -> bool {
        let inflight = || self.history.iter().map(|(inflight, _)| *inflight);
        let (least, most) = (inflight().min().unwrap_or(0), inflight().max().unwrap_or(0));
        if most <= least + least / 5 {
            return true;
        }
        let n = i128::try_from(self.history.len()).unwrap_or(1).max(1);
        let sum = |of: fn(&(u64, u64)) -> u64| self.history.iter().map(of).map(i128::from).sum();
        let (runs, done): (i128, i128) = (sum(|it| it.0), sum(|it| it.1));
        let both: i128 =
            self.history.iter().map(|(runs, done)| i128::from(*runs) * i128::from(*done)).sum();
        0 < n * both - runs * done
    }

    fn set(&mut self, limit: u32) {
        self.limit = clamped(limit, self.range);
    }
}

impl Window {
    fn add(&mut self, sample: &Sample) {
        let time_ns = sample.ended_ns.saturating_sub(sample.began_ns);
        self.samples += 1;
        self.time_ns += u128::from(time_ns);
        self.cost += u128::from(sample.cost.max(1));
        self.inflight = self.inflight.saturating_add(u64::from(sample.inflight));
    }
}

fn clamped(limit: u32, range: Range) -> u32 {
    limit.min(range.max.get()).max(range.min.get())
}

fn per_second(cost: u128, length_ns: u64) -> u64 {
    let done = cost.saturating_mul(1_000_000_000) / u128::from(length_ns.max(1));
    // So that eight products of two fit into 128 bits with room.
    u64::try_from(done).unwrap_or(u64::MAX).min(1 << 48)
}

#[cfg(test)]
mod tests;
