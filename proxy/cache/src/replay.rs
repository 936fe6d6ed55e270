//! Replays a trace through the memory tier itself: what another size, policy or time to live would
//! have answered, and how sure that is.
//!
//! ```text
//!   Recording ─ Replay::new ─▶ calls in order, each with what is known of its answer
//!                 play(Setting) ─▶ Score   ◀─ compared ─▶   recorded()
//! ```
//!
//! A call that finds nothing brings its answer after as long as it took then; who asks for the same
//! meanwhile joins it. The clock is the trace's. A sampled trace plays against a tier that is smaller
//! by the same factor. What a trace does not know: purges, and what the tiers behind memory would
//! have had.
//!
//! **How sure.** The tier as it was is played, too: by how much its ratio differs from what was
//! recorded is the error of the method on this very trace. To that comes, where not all keys were
//! sampled, what a different sample would have said: twice the standard error over [`GROUPS`] groups
//! of keys.

mod score;

pub use score::{Estimate, GROUPS, Part, Score};

use crate::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule},
    generations::{CheckedAt, Generations, Stamp},
    key::{CacheKey, Check},
    memory::{MemoryTier, Policy},
    trace::{Head, Kept, Line, Outcome, Recording, SAMPLE_ALL},
};
use bytes::Bytes;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

/// The proxy stores nothing that is longer; what claims to be is no line of ours.
const WEIGHT_MAX: u64 = 64 * 1024 * 1024;
/// As often as the proxy frees what is past its time, on the trace's clock.
const SWEEP_MS: u64 = 30_000;
/// And no more often than this in one replay: a sweep looks at all there is.
const SWEEPS_MAX: u64 = 1_000;
/// How full memory must be, of what it was when the trace began, for its calls to count; in
/// hundredths.
const WARM_PERCENT: u128 = 90;
const CHECK: Check = Check { len: 0, digest128: [0; 16] };

/// A cache that might have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub memory_bytes_max: u64,
    pub policy: Policy,
    /// In place of the times to live of what is keyed by content; `None`: as they were.
    pub ttl_ms: Option<u64>,
}

/// A trace, ready to be played any number of times.
#[derive(Debug)]
pub struct Replay {
    head: Head,
    calls: Vec<Call>,
    /// What comes before is played and not counted: memory is being filled.
    counted_from: usize,
    /// One of zeros, for the bodies of all entries.
    zeros: Bytes,
    /// Of an entry without a body.
    weight_min: u64,
    recorded: Score,
    /// Of all calls, whether or not they were sampled.
    recorded_all: Option<(u64, u64)>,
}

/// A line, and what is known of its answer from any line about the same key.
#[derive(Clone, Copy, Debug)]
struct Call {
    line: Line<u16>,
    kept: Kept,
    /// If nothing is found, the answer is kept.
    stores: bool,
    /// It was answered from what was there before the trace began.
    is_from_before: bool,
}

impl Replay {
    /// Puts the calls in order and finds out what is known of their answers.
    pub fn new(recording: Recording) -> Self {
        let Recording { head, lines, asked, answered, .. } = recording;
        let calls = known(lines);
        let weight_most = calls.iter().map(|call| call.kept.weight).max().unwrap_or(0);
        let zeros = usize::try_from(weight_most.min(WEIGHT_MAX)).unwrap_or(0);
        let mut replay = Self {
            head,
            calls,
            counted_from: 0,
            zeros: Bytes::from(vec![0; zeros]),
            weight_min: 0,
            recorded: Score::default(),
            recorded_all: None,
        };
        replay.weight_min = replay.entry(&Kept::default(), 0, None).weight();
        replay.counted_from = replay.warm_up();
        if replay.counted_from == 0 && head.sample < SAMPLE_ALL {
            replay.recorded_all = Some((asked, answered));
        }
        for call in replay.calls.iter().skip(replay.counted_from) {
            replay.recorded.add_recorded(call);
        }
        replay
    }

    /// The configuration that the trace was written under.
    pub fn as_it_was(&self) -> Setting {
        let Head { memory_bytes_max, policy, .. } = self.head;
        Setting { memory_bytes_max, policy, ttl_ms: None }
    }

    /// What really happened.
    pub fn recorded(&self) -> &Score {
        &self.recorded
    }

    /// Calls in the trace, renewals and calls that passed the cache by among them.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many of them come before those that count.
    pub fn warming(&self) -> usize {
        self.counted_from
    }

    /// From the first call to the last.
    pub fn span_ms(&self) -> u64 {
        let at = |call: Option<&Call>| call.map_or(0, |call| call.line.at_ms);
        at(self.calls.last()).saturating_sub(at(self.calls.first()))
    }

    /// The part of all keys that is in the trace, of [`SAMPLE_ALL`].
    pub fn sample(&self) -> u64 {
        self.head.sample
    }

    /// What `score` comes to, and how far it may be from what would have been; `as_it_was` is the
    /// score of [`Self::as_it_was`].
    pub fn estimate(&self, score: &Score, as_it_was: &Score) -> Estimate {
        let expected = self.recorded_all.map(|(asked, _)| scaled(asked, self.head));
        let sample = (self.head.sample, expected);
        Estimate::of(score, as_it_was, self.recorded_ratio_ppm(), sample)
    }

    /// Of all calls where that is known, else of those in the trace.
    pub fn recorded_ratio_ppm(&self) -> u64 {
        match self.recorded_all {
            Some((asked, answered)) => score::ratio_ppm(answered, asked),
            None => self.recorded.ratio_ppm(),
        }
    }

    /// Plays the trace against a cache of `setting`. `progress` is told, now and then, how many calls
    /// have been played.
    pub fn play(&self, setting: &Setting, mut progress: impl FnMut(usize)) -> Score {
        let mut playing = Playing::new(self, setting);
        for (place, call) in self.calls.iter().enumerate() {
            if place == self.counted_from {
                playing.score = Score::default();
                playing.counts_from();
            }
            playing.call(place, call);
            if place % 65_536 == 0 {
                progress(place);
            }
        }
        progress(self.calls.len());
        playing.end()
    }

    /// How many calls it takes until memory is as full as it was when the trace began; half of them
    /// at most.
    fn warm_up(&self) -> usize {
        let was = self.as_it_was();
        let held = u128::from(scaled(self.head.held_bytes.min(was.memory_bytes_max), self.head));
        if held == 0 {
            return 0;
        }
        let mut playing = Playing::new(self, &was);
        let half = self.calls.len() / 2;
        for (place, call) in self.calls.iter().enumerate().take(half) {
            playing.call(place, call);
            if u128::from(playing.tier.bytes()) * 100 >= held * WARM_PERCENT {
                return place + 1;
            }
        }
        half
    }

    /// As long as the one that was kept, and worth as much.
    fn entry(&self, kept: &Kept, now_ms: u64, ttl_ms: Option<u64>) -> Entry {
        let bytes = kept.weight.min(WEIGHT_MAX).saturating_sub(self.weight_min);
        let bytes = usize::try_from(bytes).unwrap_or(0).min(self.zeros.len());
        Entry {
            status: 200,
            headers: Vec::new(),
            body: self.zeros.slice(..bytes),
            frame_ends: Box::default(),
            form: Form::Whole,
            check: CHECK,
            stored_at_ms: now_ms,
            ttl_ms: ttl_ms.unwrap_or(kept.ttl_ms),
            rule: Rule::Ttl,
            model: Arc::default(),
            model_version: Arc::default(),
            tenant: Box::default(),
            route: Arc::default(),
            tags: Vec::new(),
            subjects: Box::default(),
            note: Bytes::new(),
            worth: kept.worth,
            stamp: Stamp::default(),
            checked: CheckedAt::default(),
            hits: Hits::default(),
            delivery: Delivery::default(),
        }
    }
}

/// One replay under way.
struct Playing<'a> {
    replay: &'a Replay,
    tier: MemoryTier,
    generations: Generations,
    ttl_ms: Option<u64>,
    /// Answers on their way: when they are there, and whose call they are.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Calls that equal ones join.
    under_way: HashMap<u64, u64>,
    score: Score,
    swept_at_ms: u64,
    sweep_ms: u64,
    /// Of the tier's counts, what came before those that count.
    before: (u64, u64),
}

impl<'a> Playing<'a> {
    fn new(replay: &'a Replay, setting: &Setting) -> Self {
        let bytes_max = scaled(setting.memory_bytes_max, replay.head);
        Self {
            replay,
            tier: MemoryTier::with_policy(bytes_max, setting.policy),
            generations: Generations::default(),
            ttl_ms: setting.ttl_ms,
            due: BinaryHeap::new(),
            under_way: HashMap::new(),
            score: Score::default(),
            swept_at_ms: 0,
            sweep_ms: SWEEP_MS.max(replay.span_ms() / SWEEPS_MAX),
            before: (0, 0),
        }
    }

    fn counts_from(&mut self) {
        self.before = self.counts();
    }

    /// Pushed out for room, and too large for the tier.
    fn counts(&self) -> (u64, u64) {
        let counters = self.tier.counters();
        (counters.evicted_for_room.value(), counters.dropped_large.value())
    }

    fn end(mut self) -> Score {
        let (pushed_out, too_large) = self.counts();
        self.score.pushed_out = pushed_out.saturating_sub(self.before.0);
        self.score.too_large = too_large.saturating_sub(self.before.1);
        self.score.held_bytes = self.tier.bytes();
        self.score
    }

    fn call(&mut self, place: usize, call: &Call) {
        let Line { at_ms, digest, outcome, by_content, asks_memory, .. } = call.line;
        self.come_until(at_ms);
        if at_ms.saturating_sub(self.swept_at_ms) >= self.sweep_ms {
            self.swept_at_ms = at_ms;
            self.tier.sweep(at_ms, &self.generations);
        }
        let arrives_ms = at_ms.saturating_add(call.kept.after_ms);
        match outcome {
            Outcome::Passed => return self.score.passed += 1,
            // Renewals are as they were: who would ask for them is not in the trace.
            Outcome::Renewed => return self.due.push(Reverse((arrives_ms, place))),
            _ if !asks_memory => return self.score.elsewhere += 1,
            _ if call.is_from_before => {
                self.score.from_before += 1;
                if self.tier.look_up(&key(digest), &CHECK, at_ms, &self.generations).is_none() {
                    self.land(call, at_ms);
                }
                return;
            }
            Outcome::Memory
            | Outcome::Behind
            | Outcome::Joined
            | Outcome::Missed
            | Outcome::Anew => {}
        }
        let is_found = outcome != Outcome::Anew
            && self.tier.look_up(&key(digest), &CHECK, at_ms, &self.generations).is_some();
        if is_found {
            return self.score.add(call, Outcome::Memory);
        }
        let joins = by_content && outcome != Outcome::Anew;
        if joins && self.under_way.get(&digest).is_some_and(|until| *until > at_ms) {
            return self.score.add(call, Outcome::Joined);
        }
        if outcome == Outcome::Behind {
            if call.stores {
                self.land(call, at_ms);
            }
            return self.score.add(call, Outcome::Behind);
        }
        self.score.add(call, Outcome::Missed);
        if call.stores {
            self.due.push(Reverse((arrives_ms, place)));
            if by_content {
                self.under_way.insert(digest, arrives_ms);
            }
        }
    }

    /// What was on its way until then is there.
    fn come_until(&mut self, now_ms: u64) {
        while let Some(Reverse((at_ms, place))) = self.due.peek().copied() {
            if at_ms > now_ms {
                return;
            }
            self.due.pop();
            let Some(call) = self.replay.calls.get(place) else { continue };
            let digest = call.line.digest;
            if self.under_way.get(&digest).is_some_and(|until| *until <= now_ms) {
                self.under_way.remove(&digest);
            }
            if call.line.outcome != Outcome::Renewed || self.tier.holds(&key(digest)) {
                self.land(call, at_ms);
            }
        }
    }

    fn land(&self, call: &Call, now_ms: u64) {
        if call.kept.weight == 0 {
            return;
        }
        // What HTTP caching decides is its origin's to say.
        let ttl_ms = self.ttl_ms.filter(|_| call.line.by_content);
        let entry = self.replay.entry(&call.kept, now_ms, ttl_ms);
        if entry.ttl_ms > 0 {
            self.tier.store(key(call.line.digest), Arc::new(entry), u64::MAX);
        }
    }
}

/// Spread anew: of a sample, all digests begin alike.
fn key(digest: u64) -> CacheKey {
    let mut bytes = [0; 32];
    let mut state = digest;
    for place in bytes.chunks_exact_mut(8) {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        place.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    CacheKey::from_bytes(bytes)
}

/// As much smaller as the sample is.
fn scaled(bytes: u64, head: Head) -> u64 {
    let scaled = u128::from(bytes) * u128::from(head.sample) / u128::from(SAMPLE_ALL);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The calls in the order in which they came, each with what is known of its answer: what its own line
/// says, else the line about its key that came before it, else the first that came after.
fn known(mut lines: Vec<Line<u16>>) -> Vec<Call> {
    // Stable: of one moment, those that ended first are first.
    lines.sort_by_key(|line| line.at_ms);
    let mut latest: HashMap<u64, Kept> = HashMap::new();
    let mut seen = HashSet::new();
    let mut calls: Vec<Call> = Vec::with_capacity(lines.len());
    for line in lines {
        let own = line.kept;
        let stores = own.is_some() || matches!(line.outcome, Outcome::Memory | Outcome::Joined);
        let before = latest.get(&line.digest).copied();
        let kept = match (own, before) {
            // A hit does not know how long the upstream was at it.
            (Some(own), Some(before)) if own.took_ms == 0 => {
                Kept { took_ms: before.took_ms, after_ms: own.after_ms.max(before.after_ms), ..own }
            }
            (Some(own), _) => own,
            (None, before) => before.unwrap_or_default(),
        };
        if kept.weight > 0 {
            latest.insert(line.digest, kept);
        }
        let is_new = seen.insert(line.digest);
        let is_from_before = is_new && line.outcome == Outcome::Memory;
        calls.push(Call { line, kept, stores, is_from_before });
    }
    let mut next: HashMap<u64, Kept> = HashMap::new();
    for call in calls.iter_mut().rev() {
        let digest = call.line.digest;
        if let Some(next) = next.get(&digest) {
            if call.kept.weight == 0 {
                call.kept = *next;
            } else if call.kept.took_ms == 0 {
                (call.kept.took_ms, call.kept.after_ms) = (next.took_ms, next.after_ms);
            }
        }
        if call.kept.weight > 0 {
            next.insert(digest, call.kept);
        }
    }
    with_times(&mut calls);
    calls
}

/// Gives answers of which nobody saw how long they took the mean of their route.
fn with_times(calls: &mut [Call]) {
    let mut means: HashMap<u16, (u64, u64)> = HashMap::new();
    for call in calls.iter().filter(|call| call.line.kept.is_some_and(|kept| kept.took_ms > 0)) {
        let (sum, count) = means.entry(call.line.route).or_default();
        (*sum, *count) = (sum.saturating_add(call.kept.took_ms), *count + 1);
    }
    for call in calls.iter_mut().filter(|call| call.kept.took_ms == 0) {
        call.kept.took_ms = if call.kept.is_priced {
            means.get(&call.line.route).map_or(0, |(sum, count)| sum / (*count).max(1))
        } else {
            call.kept.worth / 1_000
        };
    }
}

#[cfg(test)]
mod tests;
