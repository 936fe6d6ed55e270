//! Those in this instance who wait for news of a lease, by what it is about.

use super::news::News;
use crate::key::CacheKey;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// News that a waiter has not looked at yet. More do not matter: it is awake, and looks itself.
const NEWS_MAX: usize = 4;

/// Its place, and its end of the line.
type Waiter = (u64, mpsc::Sender<News>);

#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_key: Mutex<HashMap<CacheKey, Vec<Waiter>>>,
    places: AtomicU64,
}

/// One who waits. Dropped, it waits no more.
#[derive(Debug)]
pub(super) struct Watch {
    waiters: Arc<Waiters>,
    key: CacheKey,
    place: u64,
    news: mpsc::Receiver<News>,
}

impl Waiters {
    pub(super) fn watch(self: &Arc<Self>, key: CacheKey) -> Watch {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let place = self.places.fetch_add(1, Ordering::Relaxed);
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.entry(key).or_default().push((place, sender));
        Watch { waiters: self.clone(), key, place, news }
    }

    /// Tells all who wait for it.
    pub(super) fn tell(&self, key: CacheKey, news: &News) {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, waiter) in by_key.get(&key).into_iter().flatten() {
            let _full = waiter.try_send(news.clone());
        }
    }
}

impl Watch {
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_key = self.waiters.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = by_key.get_mut(&self.key) {
            waiting.retain(|(place, _)| *place != self.place);
            if waiting.is_empty() {
                by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_hears_of_its_key_and_is_forgotten_when_it_leaves() {
        let waiters = Arc::<Waiters>::default();
        let key = |n| CacheKey::from_bytes([n; 32]);
        let (mut a, mut b, other) =
            (waiters.watch(key(1)), waiters.watch(key(1)), waiters.watch(key(2)));
        for _ in 0..20 {
            waiters.tell(key(1), &News::Gone);
        }
        assert_eq!(a.next().await, Some(News::Gone));
        assert_eq!(b.next().await, Some(News::Gone));
        drop((a, other));
        assert_eq!(waiters.by_key.lock().unwrap().len(), 1);
        drop(b);
        assert!(waiters.by_key.lock().unwrap().is_empty());
        waiters.tell(key(1), &News::Gone);
    }
}
