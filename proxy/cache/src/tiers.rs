//! The tiers of the cache, and the order in which a route asks them.
//!
//! A first look in memory is a plain function: a hit there costs no task switch. Everything else
//! waits, and for each tier no longer than that tier may take. What a farther tier answers is
//! copied to the nearer ones; what is new is written as the route's [`Plan`] says.

mod ack;
mod before;
mod hot;
mod hot_set;
mod list;
mod outer;
mod peek;
mod plan;

pub use ack::{Ack, Arriving, Owed};
pub use before::Before;
pub use hot_set::Hot;
pub use list::{Listed, Wanted};
pub use outer::Outer;
pub use peek::Peeked;
pub use plan::{Plan, TierUse, Writes};

use crate::{
    disk::DiskTier,
    entry::Entry,
    generations::{Generations, SUBJECTS_MAX, Stamp, Standing, Subject, Target},
    journal::{Journal, WaitingPurges},
    key::{CacheKey, Check},
    memory::{Kept, MemoryTier},
    postgres::PostgresTier,
    shared::{Lease, RedisTier},
    urls::Url,
    versions::Versions,
};
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Keys that are purged together.
const KEYS_MAX: usize = 256;

/// Names a tier in `cache-status`, configuration and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TierName {
    Memory,
    Redis,
    Postgres,
    Memcached,
    Disk,
}

/// An answer from the cache.
#[derive(Clone, Debug)]
pub struct Found {
    pub entry: Arc<Entry>,
    pub tier: TierName,
    /// A soft purge was about it: it is past its time since then, whatever its own says; 0 where
    /// that is not known.
    pub soft_since_ms: Option<u64>,
}

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Instance,
    Fleet,
}

/// What became of a purge. Here it is in force at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    pub reach: Reach,
    /// The store that tells the others is away; they will hear of it when it is back.
    pub pending: bool,
}

/// What became of an answer that was to be kept.
#[derive(Debug)]
pub enum Stored {
    /// Too old, or purged while it was made.
    Not,
    /// As far as anybody waits for it.
    Kept,
    /// It is on its way to tiers that the caller is to wait for.
    Arriving(Arriving),
}

impl Stored {
    pub fn is_kept(&self) -> bool {
        !matches!(self, Self::Not)
    }
}

/// All tiers, and what they share.
#[derive(Debug)]
pub struct Tiers {
    memory: MemoryTier,
    outer: Box<[Outer]>,
    /// Where no store keeps the purges and something survives a restart.
    journal: Option<Journal>,
    /// Where a store does: its purges that wait for it.
    waiting: Option<WaitingPurges>,
    generations: Arc<Generations>,
    versions: Arc<Versions>,
}

impl TierName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Memcached => "memcached",
            Self::Disk => "disk",
        }
    }
}

impl Found {
    fn in_memory(kept: Kept) -> Self {
        let Kept { entry, soft_since_ms } = kept;
        Self { entry, tier: TierName::Memory, soft_since_ms }
    }
}

impl Tiers {
    /// `generations` and `versions` are the ones that `outer` were started with; the first of
    /// these was started as the keeper of purges.
    pub fn new(
        memory: MemoryTier,
        outer: Vec<Outer>,
        generations: Arc<Generations>,
        versions: Arc<Versions>,
    ) -> Self {
        let (outer, journal, waiting) = (outer.into(), None, None);
        Self { memory, outer, journal, waiting, generations, versions }
    }

    /// With purges that survive a restart. Only where no store keeps them.
    #[must_use]
    pub fn with_journal(self, journal: Option<Journal>) -> Self {
        Self { journal, ..self }
    }

    /// With purges that wait for their keeper across a restart. What the process before has left is
    /// in force when this returns, and on its way. Only where a store keeps them.
    #[must_use]
    pub fn with_waiting(self, waiting: Option<WaitingPurges>) -> Self {
        if let (Some(waiting), Some(keeper)) = (&waiting, self.keeper()) {
            let left = waiting.take_left();
            for subject in &left {
                self.generations.purge_here(*subject);
            }
            if !left.is_empty() {
                tracing::info!(purges = left.len(), "purges of the process before are sent");
                keeper.begin_purge(&left);
            }
        }
        Self { waiting, ..self }
    }

    /// The stamp of a fill that begins now: to be taken before the upstream is asked.
    pub fn stamp(&self) -> Stamp {
        self.generations.stamp()
    }

    /// What is in memory. Neither waits nor allocates.
    pub fn look_up_now(&self, key: &CacheKey, check: &Check, now_ms: u64) -> Option<Found> {
        let kept = self.memory.look_up(key, check, now_ms, &self.generations)?;
        Some(Found::in_memory(kept))
    }

    /// As [`Self::look_up_now`], for a call that has looked before.
    pub fn look_again(&self, key: &CacheKey, check: &Check, now_ms: u64) -> Option<Found> {
        let kept = self.memory.look_again(key, check, now_ms, &self.generations)?;
        Some(Found::in_memory(kept))
    }

    /// What is in the tiers of `plan` after a first look in memory; copied to those before it.
    /// Waits for each tier's read time-out at most. `took` is told how long each look-up took.
    pub async fn look_up_rest(
        &self,
        key: CacheKey,
        check: &Check,
        plan: &Plan,
        now_ms: u64,
        took: impl Fn(TierName, Duration),
    ) -> Option<Found> {
        self.look_up_other(key, check, plan, (now_ms, None), took).await
    }

    /// As [`Self::look_up_rest`], for who has what was stored at `known_ms`: that is found, too, and
    /// copied nowhere. A copy would take the place of the one that knows when its renewal was last
    /// tried.
    pub async fn look_up_other(
        &self,
        key: CacheKey,
        check: &Check,
        plan: &Plan,
        (now_ms, known_ms): (u64, Option<u64>),
        took: impl Fn(TierName, Duration),
    ) -> Option<Found> {
        for (used, nearer) in plan.rest() {
            let tier = used.tier;
            let began = Instant::now();
            let found = match self.outer(tier) {
                Some(outer) => {
                    let entry = outer.look_up(key, check, now_ms).await;
                    entry.map(|entry| (entry.stamp.soft_since_ms, Arc::new(entry)))
                }
                None if tier == TierName::Memory => {
                    let kept = self.memory.look_up(&key, check, now_ms, &self.generations);
                    kept.map(|kept| (kept.soft_since_ms, kept.entry))
                }
                None => continue,
            };
            took(tier, Instant::now().saturating_duration_since(began));
            let Some((soft_since_ms, entry)) = found else { continue };
            // What is to be renewed is soon to be written anyway.
            if plan.promotes
                && soft_since_ms.is_none()
                && known_ms != Some(entry.stored_at_ms)
                && let Some(fresh_for_ms) = entry.fresh_for_ms(now_ms)
            {
                let weight = entry.weight();
                for nearer in nearer.iter().filter(|nearer| weight <= nearer.entry_bytes_max) {
                    self.write(nearer, key, &entry, fresh_for_ms, now_ms, Owed::default());
                }
            }
            return Some(Found { entry, tier, soft_since_ms });
        }
        None
    }

    /// Keeps an answer as `plan` says: in memory at once, elsewhere as soon as may be. Nothing
    /// that was purged while it was made.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>, plan: &Plan, now_ms: u64) -> Stored {
        self.store_leased(key, entry, plan, now_ms, None)
    }

    /// As [`Self::store`], of a fill that the fleet waits for.
    pub fn store_leased(
        &self,
        key: CacheKey,
        entry: Arc<Entry>,
        plan: &Plan,
        now_ms: u64,
        lease: Option<&Arc<Lease>>,
    ) -> Stored {
        let Some(fresh_for_ms) = entry.fresh_for_ms(now_ms) else { return Stored::Not };
        let standing = self.generations.standing(entry.stamp, entry.about(), &entry.checked);
        if standing == Standing::Void {
            return Stored::Not;
        }
        self.generations.lives(entry.about(), entry.ttl_ms);
        let is_awaited = plan.writes == Writes::Through || plan.awaited;
        let arriving = is_awaited.then(Arriving::new);
        // Memory last: who finds it there may believe that it is on its way to the others.
        for used in plan.written(&entry).rev() {
            let ack = arriving.as_ref().map(Arriving::ack);
            let owed = Owed { ack, lease: lease.cloned() };
            self.write(used, key, &entry, fresh_for_ms, now_ms, owed);
        }
        match arriving {
            Some(arriving) if !arriving.is_over() => Stored::Arriving(arriving),
            Some(_) | None => Stored::Kept,
        }
    }

    fn write(
        &self,
        used: &TierUse,
        key: CacheKey,
        entry: &Arc<Entry>,
        fresh_for_ms: u64,
        now_ms: u64,
        owed: Owed,
    ) {
        match self.outer(used.tier) {
            Some(outer) => outer.store(key, entry.clone(), used.ttl_ms.min(fresh_for_ms), owed),
            None if used.tier == TierName::Memory => {
                self.memory.store(key, entry.clone(), now_ms.saturating_add(used.ttl_ms));
            }
            None => {}
        }
    }

    /// The longest that a tier of `plan` may be waited for when it is written to.
    pub fn timeout(&self, plan: &Plan) -> Duration {
        let outer = plan.uses().iter().filter_map(|used| self.outer(used.tier));
        outer.map(Outer::timeout).max().unwrap_or_default()
    }

    /// How many look-ups one call may have under way in the tiers of `plan`: as many as the narrowest
    /// of them takes.
    pub fn reads_at_once(&self, plan: &Plan) -> usize {
        let outer = plan.uses().iter().filter_map(|used| self.outer(used.tier));
        outer.map(Outer::reads_at_once).min().unwrap_or(1).max(1)
    }

    /// Voids every entry about `target`: here before this returns, elsewhere as far as the answer
    /// says.
    pub async fn purge(&self, target: Target<'_>) -> Purged {
        let told = self.void(target);
        let purged = self.tell(&told).await;
        if let Some(kept) = self.keep_waiting(&told, purged) {
            kept.await;
        }
        purged
    }

    /// As [`Self::purge`], of many keys, a few of them at a time: more at once than the keeper has
    /// room for would become a purge of everything.
    pub async fn purge_keys(&self, keys: &[CacheKey]) -> Purged {
        let mut all = Purged { reach: Reach::Fleet, pending: false };
        for keys in keys.chunks(KEYS_MAX) {
            let told: SmallVec<[Subject; 1]> =
                keys.iter().flat_map(|key| self.void(Target::Key(*key))).collect();
            let purged = self.tell(&told).await;
            if let Some(kept) = self.keep_waiting(&told, purged) {
                kept.await;
            }
            if purged.reach == Reach::Instance {
                all.reach = Reach::Instance;
            }
            all.pending |= purged.pending;
        }
        all
    }

    /// As [`Self::purge`], for who has a caller waiting: one that is pending is not waited for until
    /// it is on disk.
    pub async fn purge_beside(&self, target: Target<'_>) -> Purged {
        let told = self.void(target);
        let purged = self.tell(&told).await;
        drop(self.keep_waiting(&told, purged));
        purged
    }

    /// As [`Self::purge_beside`], of a URL that a call has changed. Whoever calls may change as much as
    /// it likes: where that has taken its share of the table, what shares the URL's place is void.
    pub async fn purge_changed(&self, url: Url) -> Purged {
        let subjects_max = self.keeper().map_or(SUBJECTS_MAX, Outer::subjects_max);
        let target = match self.generations.is_crowded(subjects_max) {
            true => Target::UrlPlace(url.void_place()),
            false => Target::Url(url),
        };
        self.purge_beside(target).await
    }

    fn void(&self, target: Target<'_>) -> SmallVec<[Subject; 1]> {
        let told = self.purge_here(target, false);
        // Void they are already; these two also give their bytes back at once.
        match target {
            Target::Key(key) => {
                self.memory.remove(&key);
                self.disk().inspect(|disk| disk.remove(key));
            }
            Target::All => {
                self.memory.clear();
                self.disk().inspect(|disk| disk.clear());
            }
            Target::Tag(_)
            | Target::Pattern(_)
            | Target::Route(_)
            | Target::Model(_)
            | Target::Tenant(_)
            | Target::Url(_)
            | Target::UrlPlace(_) => {}
        }
        told
    }

    /// As [`Self::purge`], but what it is about is only past its time: it is renewed when it is
    /// asked for, and given meanwhile where a stale answer may be.
    pub async fn purge_softly(&self, target: Target<'_>) -> Purged {
        let told = self.purge_here(target, true);
        let purged = self.tell(&told).await;
        if let Some(kept) = self.keep_waiting(&told, purged) {
            kept.await;
        }
        purged
    }

    /// Has what is pending outlive the process. Ends when it does.
    fn keep_waiting(
        &self,
        told: &[Subject],
        purged: Purged,
    ) -> Option<impl Future<Output = ()> + use<>> {
        self.waiting.as_ref().filter(|_| purged.pending).map(|waiting| waiting.keep(told))
    }

    fn purge_here(&self, target: Target<'_>, softly: bool) -> SmallVec<[Subject; 1]> {
        let told = Subject::told(target, softly);
        for subject in &told {
            self.generations.purge_here(*subject);
        }
        told
    }

    /// How many entries in memory a purge would be about.
    pub fn count(&self, target: Target<'_>) -> usize {
        let subject = Subject::of(target);
        self.memory.count(|entry| match target {
            Target::All => true,
            Target::Pattern(glob) => entry.tags.iter().any(|tag| glob.matches(tag)),
            Target::Key(_)
            | Target::Tag(_)
            | Target::Route(_)
            | Target::Model(_)
            | Target::Tenant(_)
            | Target::Url(_)
            | Target::UrlPlace(_) => entry.subjects.contains(&subject),
        })
    }

    async fn tell(&self, subjects: &[Subject]) -> Purged {
        if let Some(journal) = &self.journal {
            let is_kept = journal.purge(subjects).await;
            return Purged { reach: Reach::Instance, pending: !is_kept };
        }
        let Some(keeper) = self.keeper() else {
            return Purged { reach: Reach::Instance, pending: false };
        };
        if keeper.purge(subjects).await {
            Purged { reach: Reach::Fleet, pending: false }
        } else {
            Purged { reach: Reach::Instance, pending: true }
        }
    }

    /// Frees what may no longer be given and nobody asks for. For a task that runs now and then.
    pub fn sweep(&self, now_ms: u64) {
        self.generations.tell_of_forgotten_patterns();
        self.generations.forget_outlived(now_ms);
        self.memory.sweep(now_ms, &self.generations);
        self.disk().inspect(|disk| disk.sweep(now_ms));
        self.journal.as_ref().inspect(|journal| journal.retry());
        if let (Some(waiting), Some(keeper)) = (&self.waiting, self.keeper()) {
            waiting.clear_if(|| keeper.purges_pending() == 0);
        }
    }

    /// Purges by patterns that were forgotten while something may have been about them: see
    /// [`Generations::patterns_forgotten`].
    pub fn patterns_forgotten(&self) -> u64 {
        self.generations.patterns_forgotten()
    }

    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// Who numbers the fleet's purges: the first. The one who puts them together puts them in that
    /// order, and tells the others that they are shelves.
    fn keeper(&self) -> Option<&Outer> {
        self.outer.first().filter(|outer| outer.name() != TierName::Disk)
    }

    pub fn disk(&self) -> Option<&DiskTier> {
        self.outer.iter().find_map(|outer| match outer {
            Outer::Disk(disk) => Some(disk),
            Outer::Redis(_) | Outer::Postgres(_) | Outer::Memcached(_) => None,
        })
    }

    /// The tiers outside memory, the keeper of the fleet's purges first.
    pub fn all_outer(&self) -> &[Outer] {
        &self.outer
    }

    fn outer(&self, tier: TierName) -> Option<&Outer> {
        self.outer.iter().find(|outer| outer.name() == tier)
    }

    pub fn redis(&self) -> Option<&RedisTier> {
        self.outer.iter().find_map(|outer| match outer {
            Outer::Redis(redis) => Some(redis),
            Outer::Postgres(_) | Outer::Memcached(_) | Outer::Disk(_) => None,
        })
    }

    pub fn postgres(&self) -> Option<&PostgresTier> {
        self.outer.iter().find_map(|outer| match outer {
            Outer::Postgres(postgres) => Some(postgres),
            Outer::Redis(_) | Outer::Memcached(_) | Outer::Disk(_) => None,
        })
    }

    pub fn versions(&self) -> &Versions {
        &self.versions
    }
}

#[cfg(test)]
mod tests;
