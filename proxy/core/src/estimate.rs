//! What a call will take, by what calls like it took.
//!
//! Nobody knows before. Calls are alike when they come by one route, for one model, from one
//! tenant, and want their answer in one way; where too few of these were seen, those of one model,
//! then those of one route. Each of the three remembers so many kinds, and forgets those that were
//! not seen for longest: a caller who makes up models or tenants makes it forget, and what is
//! asked then is answered by the route.
//!
//! Means are exponential and in integers. A deadline is held against the least that a call of the
//! very same kind took of late, and against nothing where too few of these were seen: refusing one
//! that could have made it is worse than running one that cannot, and what others' calls take says
//! nothing of this caller's.

use std::collections::BTreeMap;

/// A mean moves by one part in so many of what is new.
const PART: u64 = 8;

/// Before so many were seen, a kind says nothing.
const SAMPLES_MIN: u32 = 4;

/// How many kinds each of the two halves of a memory holds: of tenants as many together as a
/// scheduler tells apart.
const TENANTS_MAX: usize = 2048;
const MODELS_MAX: usize = 256;
const ROUTES_MAX: usize = 64;

/// One answer of a billion tokens, or of a month, must not set what is thought of all others.
const VALUE_MAX: u64 = 1 << 32;

/// How long a time to the head is believed that nobody has seen again, and the same as a multiple
/// of it: or a service that was slow once would have all callers in a hurry refused for ever.
const BELIEVED_MS: u64 = 10_000;
const BELIEVED_TIMES: u64 = 4;

/// For how long, and up to twice that, the fastest call of a kind is remembered.
const WINDOW_MS: u64 = 60_000;

/// What makes calls alike, as digests of names: with the tenant, without, and the route alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub tenant: u64,
    pub model: u64,
    pub route: u64,
}

/// What a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// Tokens written; `None`: nobody said.
    pub output: Option<u64>,
    /// From its start to the head of its answer.
    pub head_ms: Option<u64>,
    /// From its start to its end.
    pub held_ms: Option<u64>,
}

/// What a call is thought to take. `None`: nothing like it was seen often enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub output: Option<u64>,
    /// The least that any of its own kind took of late to the head of its answer.
    pub head_least_ms: Option<u64>,
    pub held_ms: Option<u64>,
}

/// All that is remembered of the calls at one upstream.
#[derive(Debug)]
pub struct Estimator {
    /// Finest first.
    memories: [Memory; 3],
}

impl Default for Estimator {
    fn default() -> Self {
        Self { memories: [TENANTS_MAX, MODELS_MAX, ROUTES_MAX].map(Memory::new) }
    }
}

impl Estimator {
    /// What a call of this kind is thought to take, each by the finest that knows it.
    pub fn estimate(&self, kind: &Kind, now_ms: u64) -> Estimate {
        let mut estimate = Estimate::default();
        for (memory, key) in self.memories.iter().zip(kind.keys()) {
            let Some(seen) = memory.find(key) else { continue };
            estimate.output = estimate.output.or(seen.output.mean());
            estimate.held_ms = estimate.held_ms.or(seen.held_ms.mean());
        }
        let own = self.memories.iter().zip(kind.keys()).next();
        let own = own.and_then(|(memory, key)| memory.find(key));
        estimate.head_least_ms = own.and_then(|seen| seen.head_least_ms(now_ms));
        estimate
    }

    /// A call of this kind took this.
    pub fn learn(&mut self, kind: &Kind, took: &Took, now_ms: u64) {
        for (memory, key) in self.memories.iter_mut().zip(kind.keys()) {
            memory.seen(key).learn(took, now_ms);
        }
    }

    /// How many kinds are remembered.
    pub fn kinds(&self) -> usize {
        self.memories.iter().map(|memory| memory.young.len() + memory.old.len()).sum()
    }
}

impl Kind {
    fn keys(&self) -> [u64; 3] {
        [self.tenant, self.model, self.route]
    }
}

/// Kinds in two halves: what is seen is in the young one, and when that is full it becomes the
/// old one, which is forgotten whole.
#[derive(Debug)]
struct Memory {
    half_max: usize,
    young: BTreeMap<u64, Seen>,
    old: BTreeMap<u64, Seen>,
}

impl Memory {
    fn new(half_max: usize) -> Self {
        Self { half_max, young: BTreeMap::new(), old: BTreeMap::new() }
    }

    fn find(&self, key: u64) -> Option<&Seen> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    fn seen(&mut self, key: u64) -> &mut Seen {
        if self.half_max <= self.young.len() && !self.young.contains_key(&key) {
            let found = self.find(key).copied();
            self.old = std::mem::take(&mut self.young);
            return self.young.entry(key).or_insert(found.unwrap_or_default());
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| old.remove(&key).unwrap_or_default())
    }
}

/// What was seen of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    output: Mean,
    head_ms: Mean,
    held_ms: Mean,
    /// When a head was last timed.
    head_at_ms: u64,
    /// The least of this window of [`WINDOW_MS`], and of the one before.
    head_least_ms: [Option<u64>; 2],
    window_from_ms: u64,
}

impl Seen {
    fn learn(&mut self, took: &Took, now_ms: u64) {
        let quantities = [
            (&mut self.output, took.output),
            (&mut self.head_ms, took.head_ms),
            (&mut self.held_ms, took.held_ms),
        ];
        for (mean, value) in quantities {
            value.into_iter().for_each(|value| mean.learn(value));
        }
        let Some(head_ms) = took.head_ms else { return };
        self.head_at_ms = now_ms;
        let [least, _] = self.head_least_ms;
        let since_ms = now_ms.saturating_sub(self.window_from_ms);
        if WINDOW_MS <= since_ms {
            self.head_least_ms = [None, least.filter(|_| since_ms < 2 * WINDOW_MS)];
            self.window_from_ms = now_ms;
        }
        let [least, before] = self.head_least_ms;
        let least = least.map_or(head_ms, |least| least.min(head_ms)).min(VALUE_MAX);
        self.head_least_ms = [Some(least), before];
    }

    fn head_least_ms(&self, now_ms: u64) -> Option<u64> {
        let mean_ms = self.head_ms.mean()?;
        let believed_ms = mean_ms.saturating_mul(BELIEVED_TIMES).max(BELIEVED_MS);
        let is_old = believed_ms < now_ms.saturating_sub(self.head_at_ms);
        let least = self.head_least_ms.iter().flatten().min().copied();
        least.filter(|_| !is_old)
    }
}

/// A running mean.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    samples: u32,
    /// Times [`PART`].
    mean: u64,
}

impl Mean {
    fn learn(&mut self, value: u64) {
        let value = value.min(VALUE_MAX);
        self.samples = self.samples.saturating_add(1);
        if self.samples == 1 {
            self.mean = value * PART;
            return;
        }
        self.mean = self.mean - self.mean / PART + value;
    }

    fn mean(&self) -> Option<u64> {
        (SAMPLES_MIN <= self.samples).then_some(self.mean / PART)
    }
}

#[cfg(test)]
mod tests;
