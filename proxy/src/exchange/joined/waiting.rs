//! Who waits a moment for others, to go with them.
//!
//! ```text
//!   first comes ─▶ a group is open ─▶ others come ─▶ full, or the moment is over ─▶ closed: all go
//! ```
//!
//! **Invariant:** nobody is in a group that nobody closes: the first to come holds it, and takes it
//! along if it is dropped.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time};

/// The groups that are open, by what their members have in common. As many at most as there are
/// calls.
#[derive(Debug)]
pub(crate) struct Waiting<K, T>(Mutex<HashMap<K, Arc<Group<T>>>>);

#[derive(Debug)]
struct Group<T> {
    members: Mutex<Members<T>>,
    full: Notify,
}

#[derive(Debug)]
struct Members<T> {
    all: Vec<T>,
    size: usize,
    is_closed: bool,
}

/// Who came first, and goes for all.
#[derive(Debug)]
pub(super) struct First<K: Clone + Eq + Hash, T> {
    waiting: Arc<Waiting<K, T>>,
    key: K,
    group: Arc<Group<T>>,
}

impl<K, T> Default for Waiting<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Clone + Eq + Hash, T> Waiting<K, T> {
    /// Joins those who wait under `key`, while they come to at most `size_max` together. `Some`:
    /// there are none, and others may join this one.
    pub(super) fn join(
        self: &Arc<Self>,
        key: K,
        member: T,
        size: usize,
        size_max: usize,
    ) -> Option<First<K, T>> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut member = Some(member);
        if let Some(group) = groups.get(&key) {
            let mut members = group.members.lock().unwrap_or_else(PoisonError::into_inner);
            let all = members.size.saturating_add(size);
            if !members.is_closed && all <= size_max {
                members.size = all;
                members.all.extend(member.take());
            }
            if member.is_some() || all >= size_max {
                // No more fits: it need not wait any longer.
                group.full.notify_one();
            }
        }
        member.map(|member| {
            let members = Members { all: vec![member], size, is_closed: false };
            let group = Arc::new(Group { members: Mutex::new(members), full: Notify::new() });
            if size >= size_max {
                group.full.notify_one();
            }
            groups.insert(key.clone(), group.clone());
            First { waiting: self.clone(), key, group }
        })
    }
}

impl<K: Clone + Eq + Hash, T> First<K, T> {
    /// All who have come within `length`, or until no more fits; itself first.
    pub(super) async fn gather(self, length: Duration) -> Vec<T> {
        // That nobody came is no failure.
        time::timeout(length, self.group.full.notified()).await.ok();
        self.close()
    }

    fn close(&self) -> Vec<T> {
        let mut groups = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.get(&self.key).is_some_and(|group| Arc::ptr_eq(group, &self.group)) {
            groups.remove(&self.key);
        }
        let mut members = self.group.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.is_closed = true;
        std::mem::take(&mut members.all)
    }
}

impl<K: Clone + Eq + Hash, T> Drop for First<K, T> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const MOMENT: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn who_comes_within_the_moment_goes_along() {
        let waiting = Arc::new(Waiting::<&str, u32>::default());
        let first = waiting.join("a", 1, 1, 8).unwrap();
        assert!(waiting.join("a", 2, 3, 8).is_none());
        let other = waiting.join("b", 3, 1, 8).unwrap();
        let began = Instant::now();
        assert_eq!(first.gather(MOMENT).await, [1, 2]);
        assert_eq!(began.elapsed(), MOMENT);
        assert_eq!(other.gather(MOMENT).await, [3], "another key is another group");
        assert!(waiting.join("a", 4, 1, 8).is_some(), "too late for those");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_group_waits_no_longer() {
        let waiting = Arc::new(Waiting::<&str, u32>::default());
        let first = waiting.join("a", 1, 2, 4).unwrap();
        assert!(waiting.join("a", 2, 2, 4).is_none());
        let began = Instant::now();
        assert_eq!(first.gather(MOMENT).await, [1, 2]);
        // Nor one that the next does not fit into, or that is alone too large.
        let first = waiting.join("a", 3, 3, 4).unwrap();
        let second = waiting.join("a", 4, 2, 4).unwrap();
        let third = waiting.join("a", 5, 9, 4).unwrap();
        assert_eq!(first.gather(MOMENT).await, [3]);
        assert_eq!(second.gather(MOMENT).await, [4]);
        assert_eq!(third.gather(MOMENT).await, [5]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_left_behind_when_the_first_is_dropped() {
        let waiting = Arc::new(Waiting::<&str, Arc<()>>::default());
        let (own, others) = (Arc::new(()), Arc::new(()));
        let first = waiting.join("a", own.clone(), 1, 8).unwrap();
        assert!(waiting.join("a", others.clone(), 1, 8).is_none());
        drop(first);
        assert_eq!((Arc::strong_count(&own), Arc::strong_count(&others)), (1, 1));
        assert!(waiting.0.lock().unwrap().is_empty());
    }
}
