//! Tells the key trace what calls came to, where one is written (`cache.trace`).
//!
//! **Invariant:** a caller's call that asked the cache leaves one line, whatever happens: [`Traced`] is a debt
//! that pays on drop. Of a call about many things each leaves one. A hit needs no [`Traced`], and
//! where no trace is written nothing is made.

use super::{Mode, Question, answer::Hit, http_mode::How, items::Items, note, now_ms};
use crate::{app::Parts, exchange::Fetch, route::Route};
use arc_swap::ArcSwapOption;
use std::{
    io,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tollgate_cache::{
    entry::{Entry, Rule},
    key::CacheKey,
    memory::{MemoryTier, Policy},
    tiers::{Plan, TierName},
    trace::{Kept, Line, Outcome, Settings, Trace, TraceCounters},
};
use tollgate_config::{Config, EvictionPolicy};
use tollgate_ledger::Uuid;

/// The trace that is being written, if any is.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    now: ArcSwapOption<Trace>,
    counters: Arc<TraceCounters>,
}

/// A line that is not written yet.
#[derive(Debug)]
pub(super) struct Note {
    trace: Arc<Trace>,
    key: CacheKey,
    line: Line<Arc<str>>,
}

/// A call that has not been answered yet.
#[derive(Debug)]
pub(super) struct Traced {
    note: Note,
    /// What it was answered with.
    came: OnceLock<Came>,
    /// What it is given brings its own line along.
    is_told_elsewhere: bool,
}

/// An answer.
#[derive(Debug)]
struct Came {
    key: CacheKey,
    outcome: Option<Outcome>,
    kept: Option<Kept>,
}

/// What a call was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact<'a> {
    pub(super) entry: &'a Entry,
    pub(super) tier: TierName,
    pub(super) is_stale: bool,
}

/// A policy as the cache has it.
pub(crate) fn policy_of(config: &Config) -> Policy {
    match config.cache.memory_policy {
        EvictionPolicy::Lfu => Policy::Lfu,
        EvictionPolicy::Lru => Policy::Lru,
        EvictionPolicy::Cost => Policy::Cost,
    }
}

/// The directory of a trace.
pub(crate) fn dir_of(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("trace")
}

impl Traces {
    /// Ends the trace there is, and begins the one that `config` asks for.
    ///
    /// # Errors
    /// It cannot be written; none is.
    pub(crate) fn begin(&self, config: &Config, memory: &MemoryTier) -> io::Result<()> {
        self.end();
        let Some(wanted) = &config.cache.trace else { return Ok(()) };
        let settings = Settings {
            dir: dir_of(&config.data_dir),
            bytes_max: wanted.bytes_max,
            sample_ppm: wanted.sample_ppm,
            memory_bytes_max: config.cache.memory_bytes_max,
            policy: policy_of(config),
            held_bytes: memory.bytes(),
            now_ms: now_ms(),
        };
        let trace = Trace::begin(&settings, self.counters.clone())?;
        self.now.store(Some(Arc::new(trace)));
        Ok(())
    }

    pub(crate) fn is_written(&self) -> bool {
        self.now.load().is_some()
    }

    /// Writes what waits, and no more from now on. Blocks on the disk.
    pub(crate) fn end(&self) {
        if let Some(trace) = self.now.swap(None) {
            trace.end();
        }
    }

    pub(crate) fn counters(&self) -> &TraceCounters {
        &self.counters
    }

    /// A call was given what is under `key`. Neither waits, locks nor allocates.
    pub(super) fn given(&self, route: &Route, mode: Mode, key: &CacheKey, hit: &Hit) {
        if let Some(trace) = &*self.now.load() {
            trace.write(key, given(route, mode, hit.fact()));
        }
    }

    /// The same, of what is to be written only when it is given.
    pub(super) fn note(
        &self,
        route: &Route,
        mode: Mode,
        key: CacheKey,
        fact: Fact<'_>,
    ) -> Option<Box<Note>> {
        let trace = self.now.load_full()?;
        Some(Box::new(Note { trace, key, line: given(route, mode, fact) }))
    }

    /// The cache had nothing to do with a call. It has a key of its own, which nobody else has.
    pub(super) fn passed(&self, fetch: &Fetch, record: Uuid, why: &'static str) {
        // Of a route without a cache there is nothing to ask.
        if why == "off" {
            return;
        }
        if let Some(trace) = &*self.now.load() {
            let key = CacheKey::of_record(record.as_bytes());
            trace.write(&key, line(&fetch.route, fetch.ask.mode, now_ms(), Outcome::Passed));
        }
    }
}

impl Note {
    pub(super) fn write(&self) {
        self.trace.write(&self.key, self.line.clone());
    }
}

impl Traced {
    fn new(trace: Arc<Trace>, question: &Question, key: CacheKey) -> Self {
        let outcome = match (question.renews, question.fresh) {
            (true, _) => Outcome::Renewed,
            (false, true) => Outcome::Anew,
            (false, false) => Outcome::Missed,
        };
        let line = line(&question.route, question.mode, question.asked_ms, outcome);
        Self { note: Note { trace, key, line }, came: OnceLock::new(), is_told_elsewhere: false }
    }

    /// It was found after all.
    pub(super) fn finds(&self, route: &Route, hit: &Hit) {
        let Line { outcome, kept, .. } = given(route, Mode::Content, hit.fact());
        self.comes(Came { key: self.note.key, outcome: Some(outcome), kept });
    }

    /// The upstream's answer is kept under `key`.
    pub(super) fn brought(
        &self,
        route: &Route,
        mode: Mode,
        key: CacheKey,
        entry: &Entry,
        took: Duration,
    ) {
        let plan = plan(route, mode);
        let (age_ms, after_ms) =
            (entry.age_ms(now_ms()), now_ms().saturating_sub(self.note.line.at_ms));
        let kept = kept(route, plan, entry).filter(|_| plan.writes_to(TierName::Memory, entry));
        let kept = kept.map(|kept| Kept {
            ttl_ms: kept.ttl_ms.saturating_sub(age_ms),
            after_ms,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ..kept
        });
        self.comes(Came { key, outcome: None, kept });
    }

    fn comes(&self, came: Came) {
        // What came first is what the call was answered with.
        self.came.set(came).ok();
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.is_told_elsewhere {
            return;
        }
        let Note { trace, key, line } = &mut self.note;
        let is_renewal = line.outcome == Outcome::Renewed;
        if let Some(came) = self.came.take() {
            // A renewal that found itself done by another is none.
            if is_renewal && came.outcome.is_some() {
                return;
            }
            *key = came.key;
            line.kept = came.kept;
            line.outcome = came.outcome.unwrap_or(line.outcome);
        }
        if !is_renewal || line.kept.is_some() {
            trace.write(key, line.clone());
        }
    }
}

impl Hit {
    pub(super) fn fact(&self) -> Fact<'_> {
        Fact { entry: &self.entry, tier: self.tier, is_stale: self.how != How::Hit }
    }
}

impl Question {
    /// Where a trace is written, this call is in it from here on, however it ends.
    pub(crate) fn trace(&mut self, parts: &Parts) {
        let traces = &parts.cache.traces;
        let Some(trace) = traces.now.load_full() else { return };
        let Some(mut items) = self.items.take() else {
            self.traced = Some(Box::new(Traced::new(trace, self, self.key)));
            return;
        };
        let version = self.version.clone().unwrap_or_default();
        for item in &mut items.unique {
            let (key, _) = self.item_key(&item.digest, &version);
            match &item.found {
                // It was noted when it was given.
                Some(_) if self.renews => {}
                Some(hit) => traces.given(&self.route, self.mode, &key, hit),
                None => item.traced = Some(Box::new(Traced::new(trace.clone(), self, key))),
            }
        }
        self.items = Some(items);
    }

    /// All that a call about many things asked for was found.
    pub(super) fn found_all(&self, parts: &Parts) {
        let traces = &parts.cache.traces;
        if traces.now.load().is_none() {
            return;
        }
        let version = self.version.clone().unwrap_or_default();
        for item in self.items.iter().flat_map(|items| &items.unique) {
            let (key, _) = self.item_key(&item.digest, &version);
            item.found.iter().for_each(|hit| traces.given(&self.route, self.mode, &key, hit));
        }
    }

    /// It was found after all.
    pub(super) fn finds(&self, hit: &Hit) {
        self.traced.iter().for_each(|traced| traced.finds(&self.route, hit));
    }

    /// Its caller is given what lies in memory by now, and with it a line of that.
    pub(super) fn is_told_elsewhere(&mut self) {
        self.traced.iter_mut().for_each(|traced| traced.is_told_elsewhere = true);
    }

    /// Its caller is given what another call brings.
    pub(crate) fn joined(&mut self) {
        for traced in
            self.traced.iter_mut().chain(self.items.iter_mut().flat_map(|items| items.traced()))
        {
            traced.note.line.outcome = Outcome::Joined;
        }
    }

    /// The upstream's answer is kept under `key`.
    pub(super) fn brought(&self, key: &CacheKey, entry: &Entry, took: Duration) {
        let (route, mode) = (&self.route, self.mode);
        self.traced.iter().for_each(|traced| traced.brought(route, mode, *key, entry, took));
    }
}

impl Items {
    fn traced(&mut self) -> impl Iterator<Item = &mut Box<Traced>> {
        self.unique.iter_mut().filter_map(|item| item.traced.as_mut())
    }
}

fn plan(route: &Route, mode: Mode) -> &Plan {
    match mode {
        Mode::Http => &route.http.plan,
        Mode::Content | Mode::Off => &route.plan,
    }
}

fn line(route: &Route, mode: Mode, at_ms: u64, outcome: Outcome) -> Line<Arc<str>> {
    Line {
        at_ms,
        digest: 0,
        route: route.name.clone(),
        outcome,
        is_stale: false,
        by_content: mode == Mode::Content,
        asks_memory: plan(route, mode).of(TierName::Memory).is_some(),
        kept: None,
    }
}

fn given(route: &Route, mode: Mode, fact: Fact<'_>) -> Line<Arc<str>> {
    let Fact { entry, tier, is_stale } = fact;
    let now_ms = now_ms();
    let plan = plan(route, mode);
    let in_memory = tier == TierName::Memory;
    let outcome = if in_memory { Outcome::Memory } else { Outcome::Behind };
    let kept = kept(route, plan, entry).filter(|_| in_memory || plan.promotes);
    // Its copy in memory is not good for longer than it is.
    let age_ms = if in_memory { 0 } else { entry.age_ms(now_ms) };
    let kept = kept.map(|kept| Kept { ttl_ms: kept.ttl_ms.saturating_sub(age_ms), ..kept });
    Line { is_stale, kept, ..line(route, mode, now_ms, outcome) }
}

/// `None`: memory does not take it.
fn kept(route: &Route, plan: &Plan, entry: &Entry) -> Option<Kept> {
    let used = plan.of(TierName::Memory)?;
    let weight = entry.weight();
    let stale_ms = route.freshness.windows.while_revalidate_ms;
    let given_ms = match &entry.rule {
        Rule::Ttl | Rule::Variants(_) => entry.ttl_ms,
        Rule::Timed(times) => times.fresh_ms.saturating_add(stale_ms),
        Rule::Http(rule) if rule.stored.no_cache => 0,
        Rule::Http(rule) => {
            rule.stored.lifetime_ms.saturating_add(rule.stored.stale_while_revalidate_ms)
        }
    };
    (weight <= used.entry_bytes_max).then(|| Kept {
        weight,
        worth: entry.worth,
        is_priced: note::is_priced(&entry.note),
        ttl_ms: given_ms.min(entry.ttl_ms).min(used.ttl_ms),
        after_ms: 0,
        took_ms: 0,
    })
}
