//! The limit against engines of known capacity, in virtual time, and its laws.

use super::*;
use proptest::prelude::*;
use std::{cmp::Reverse, collections::BinaryHeap};

const SECOND_NS: u64 = 1_000_000_000;

fn range(min: u32, max: u32) -> Range {
    Range { min: NonZeroU32::new(min).unwrap(), max: NonZeroU32::new(max).unwrap() }
}

/// When it ends, when it began, its cost, how many ran, and whether it is refused.
type Running = (u64, u64, u64, u32, bool);

/// A stand-in engine: as many workers as it has, one line before them, and each call takes its
/// cost times so many nanoseconds. It is always kept as full as the limit lets.
struct Engine {
    workers: usize,
    unit_ns: u64,
    /// It refuses what comes when so many are there already.
    room: usize,
    seed: u64,
    now_ns: u64,
    /// When each worker is free.
    free: BinaryHeap<Reverse<u64>>,
    running: BinaryHeap<Reverse<Running>>,
    done: u64,
}

impl Engine {
    fn new(workers: usize, unit_ns: u64) -> Self {
        let (free, running) = (BinaryHeap::new(), BinaryHeap::new());
        Self { workers, unit_ns, room: usize::MAX, seed: 7, now_ns: 0, free, running, done: 0 }
    }

    /// xorshift: evenly from 0 to below `n`.
    fn dice(&mut self, n: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % n
    }

    /// Mostly short, some a hundred times as long: as answers are.
    fn cost(&mut self) -> u64 {
        let scale = 1 << self.dice(7);
        scale * (8 + self.dice(8))
    }

    fn start(&mut self) {
        let cost = self.cost();
        let is_full = self.room <= self.running.len();
        let ends_ns = if is_full {
            self.now_ns + 1_000_000
        } else {
            while self.free.len() < self.workers {
                self.free.push(Reverse(self.now_ns));
            }
            let Reverse(free_ns) = self.free.pop().unwrap();
            let ends_ns = free_ns.max(self.now_ns) + cost * self.unit_ns;
            if self.free.len() < self.workers {
                self.free.push(Reverse(ends_ns));
            }
            ends_ns
        };
        let inflight = u32::try_from(self.running.len()).unwrap() + 1;
        self.running.push(Reverse((ends_ns, self.now_ns, cost, inflight, is_full)));
    }

    /// Runs for so long, with as many calls as the limit lets but no more than are `wanted`; what
    /// was done, of what its workers could have done, in percent.
    fn run(&mut self, limit: &mut AdaptiveLimit, seconds: u64, wanted: u32) -> u64 {
        let (from_ns, until_ns) = (self.now_ns, self.now_ns + seconds * SECOND_NS);
        self.done = 0;
        while self.now_ns < until_ns {
            while self.running.len() < usize::try_from(limit.limit().get().min(wanted)).unwrap() {
                self.start();
            }
            let Reverse((ended_ns, began_ns, cost, inflight, refused)) =
                self.running.pop().unwrap();
            self.now_ns = ended_ns;
            let outcome = if refused { Outcome::Overloaded } else { Outcome::Answered };
            self.done += if refused { 0 } else { cost };
            limit.ended(&Sample { began_ns, ended_ns, cost, inflight, outcome });
        }
        let workers = u64::try_from(self.workers).unwrap();
        self.done * self.unit_ns * 100 / (workers * (self.now_ns - from_ns))
    }
}

#[test]
fn it_finds_an_engine_of_any_size_and_stays_near_it() {
    for workers in [1, 2, 4, 8, 16, 32, 64, 128] {
        let mut engine = Engine::new(workers, 1_000_000);
        let mut limit = AdaptiveLimit::new(range(1, 1_000), 0);
        engine.run(&mut limit, 600, u32::MAX);
        let mut most = 0;
        for _ in 0..60 {
            let busy = engine.run(&mut limit, 10, u32::MAX);
            assert!(45 <= busy, "{workers} workers were {busy} % busy: a probe halves it, no more");
            most = most.max(limit.limit().get());
        }
        let busy = engine.run(&mut limit, 600, u32::MAX);
        let n = u32::try_from(workers).unwrap();
        assert!(85 <= busy, "{workers} workers were {busy} % busy at {}", limit.limit());
        assert!(most <= 2 * n + 6, "{most} for {workers} workers");
    }
}

#[test]
fn it_goes_to_its_bounds_and_not_beyond() {
    let mut limit = AdaptiveLimit::new(range(4, 16), 0);
    Engine::new(64, 1_000_000).run(&mut limit, 300, u32::MAX);
    assert_eq!(limit.limit().get(), 16, "{:?}", limit.why());
    let mut limit = AdaptiveLimit::new(range(20, 100), 0);
    let mut engine = Engine::new(2, 1_000_000);
    for _ in 0..100 {
        engine.run(&mut limit, 5, u32::MAX);
        assert!((20..=100).contains(&limit.limit().get()));
    }
    assert!(limit.limit().get() <= 30, "{}", limit.limit());
}

#[test]
fn a_service_that_becomes_slow_and_fast_again_is_used_in_full_each_time() {
    let mut engine = Engine::new(16, 1_000_000);
    let mut limit = AdaptiveLimit::new(range(1, 200), 0);
    engine.run(&mut limit, 300, u32::MAX);
    for unit_ns in [5_000_000, 1_000_000, 20_000_000, 500_000] {
        engine.unit_ns = unit_ns;
        // As many calls, whatever each takes.
        let while_ns = unit_ns / 1_000;
        engine.run(&mut limit, while_ns * 2, u32::MAX);
        let busy = engine.run(&mut limit, while_ns, u32::MAX);
        assert!(80 <= busy, "{busy} % at {unit_ns} ns, {} {:?}", limit.limit(), limit.why());
        assert!(limit.limit().get() <= 50, "{}", limit.limit());
    }
}

#[test]
fn a_stall_does_not_make_it_collapse() {
    let mut engine = Engine::new(16, 1_000_000);
    let mut limit = AdaptiveLimit::new(range(1, 200), 0);
    engine.run(&mut limit, 300, u32::MAX);
    let before = limit.limit().get();
    // Nothing for ten seconds, and then all of it at once.
    engine.free = (0..16).map(|_| Reverse(engine.now_ns + 10 * SECOND_NS)).collect();
    engine.run(&mut limit, 15, u32::MAX);
    assert!(before / 2 <= limit.limit().get(), "{} of {before}", limit.limit());
    assert!(90 <= engine.run(&mut limit, 60, u32::MAX));
}

#[test]
fn an_engine_that_refuses_beyond_its_room_is_kept_just_below_it() {
    let mut engine = Engine::new(16, 1_000_000);
    engine.room = 12;
    let mut limit = AdaptiveLimit::new(range(1, 200), 0);
    engine.run(&mut limit, 120, u32::MAX);
    let busy = engine.run(&mut limit, 300, u32::MAX);
    assert!((6..=14).contains(&limit.limit().get()), "{}", limit.limit());
    assert!(55 <= busy, "{busy} % of 16 workers, of which 12 may be used");
}

#[test]
fn a_burst_of_refusals_counts_once_a_round() {
    let mut limit = AdaptiveLimit::new(range(1, 100), 0);
    limit.set(50);
    let refused = |began_ns, ended_ns| Sample {
        began_ns,
        ended_ns,
        cost: 1,
        inflight: 50,
        outcome: Outcome::Overloaded,
    };
    for nth in 0..40 {
        limit.ended(&refused(nth, 1_000 + nth));
    }
    assert_eq!((limit.limit().get(), limit.why()), (45, Why::BackedOff));
    limit.ended(&refused(1_000, 2_000));
    assert_eq!(limit.limit().get(), 41);
}

#[test]
fn where_little_is_asked_nothing_is_learned_and_nothing_changes() {
    let mut limit = AdaptiveLimit::new(range(1, 100), 0);
    let mut engine = Engine::new(16, 1_000_000);
    engine.run(&mut limit, 300, u32::MAX);
    let before = limit.limit().get();
    engine.run(&mut limit, 3_000, before / 2 - 2);
    assert_eq!(limit.limit().get(), before);
}

#[test]
fn calls_that_were_given_up_say_nothing() {
    let mut limit = AdaptiveLimit::new(range(1, 100), 0);
    for nth in 1..10_000_u64 {
        let (began_ns, ended_ns) = ((nth - 1) * SECOND_NS, nth * SECOND_NS);
        let sample = Sample { began_ns, ended_ns, cost: 1, inflight: 8, outcome: Outcome::Gone };
        limit.ended(&sample);
    }
    assert_eq!((limit.limit().get(), limit.why()), (FIRST, Why::First));
}

#[test]
fn a_probe_in_which_nobody_calls_is_over_by_itself() {
    let mut limit = AdaptiveLimit::new(range(1, 100), 0);
    limit.set(40);
    limit.begin_probe(SECOND_NS);
    assert_eq!((limit.limit().get(), limit.why()), (20, Why::Probing));
    let ended_ns = SECOND_NS + PROBE_NS;
    let late = Sample { began_ns: 0, ended_ns, cost: 1, inflight: 1, outcome: Outcome::Gone };
    limit.ended(&late);
    assert_eq!(limit.limit().get(), 40);
}

proptest! {
    /// Whatever calls say: between the bounds, and never above five times what ran nor above what
    /// it was.
    #[test]
    fn it_is_always_between_its_bounds(
        min in 1_u32..50,
        more in 0_u32..500,
        calls in prop::collection::vec(
            (0_u64..3_000_000_000, 0_u64..u64::MAX, 0_u64..u64::MAX, 0_u32..600, 0_u8..8),
            1..800,
        ),
    ) {
        let mut limit = AdaptiveLimit::new(range(min, min + more), 0);
        let (mut now_ns, mut most) = (0_u64, 0);
        for (pause_ns, took_ns, cost, inflight, dice) in calls {
            now_ns = now_ns.saturating_add(pause_ns);
            let outcome = match dice {
                0 => Outcome::Overloaded,
                1 => Outcome::Gone,
                _ => Outcome::Answered,
            };
            let began_ns = now_ns.saturating_sub(took_ns);
            let before = limit.limit().get().max(limit.probe.map_or(0, |probe| probe.limit));
            most = most.max(inflight);
            limit.ended(&Sample { began_ns, ended_ns: now_ns, cost, inflight, outcome });
            let after = limit.limit().get();
            prop_assert!((min..=min + more).contains(&after));
            prop_assert!(after <= before.max(most.saturating_mul(OVER_INFLIGHT)));
        }
    }
}
