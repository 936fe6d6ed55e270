//! Whether what was written has arrived: for those who wait for it.
//!
//! Every write that is under way carries an [`Ack`]. It is paid when it is dropped, whatever became
//! of the write: nobody waits for one that was given up.

use crate::shared::Lease;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time};

/// The writes of one entry that are under way.
#[derive(Clone, Debug)]
pub struct Arriving(Arc<Open>);

/// One of them.
#[derive(Debug)]
pub struct Ack(Arc<Open>);

/// What is paid when a write is done or given up, by being dropped.
#[derive(Debug, Default)]
pub struct Owed {
    /// A caller's wait.
    pub ack: Option<Ack>,
    /// The fleet's.
    pub lease: Option<Arc<Lease>>,
}

#[derive(Debug, Default)]
struct Open {
    left: AtomicUsize,
    none_left: Notify,
}

impl Arriving {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn ack(&self) -> Ack {
        self.0.left.fetch_add(1, Ordering::Relaxed);
        Ack(self.0.clone())
    }

    /// Whether there is anything to wait for.
    pub fn is_over(&self) -> bool {
        self.0.left.load(Ordering::Acquire) == 0
    }

    /// Until all have arrived or been given up, and no longer than `timeout`.
    pub fn wait(self, timeout: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let all = async {
                let mut told = std::pin::pin!(self.0.none_left.notified());
                // Before the look: whoever is the last after it tells us.
                told.as_mut().enable();
                if !self.is_over() {
                    told.await;
                }
            };
            // Late is as good as not at all: the caller goes on.
            time::timeout(timeout, all).await.unwrap_or_default();
        })
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, task::Poll};
    use tokio::time::Instant;

    async fn polled(waiting: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> Poll<()> {
        poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_waits_until_the_last_is_dropped_and_never_beyond_the_time() {
        let begun = Instant::now();
        let arriving = Arriving::new();
        arriving.clone().wait(Duration::from_secs(1)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing is under way");

        let (first, second) = (arriving.ack(), arriving.ack());
        let mut waiting = arriving.clone().wait(Duration::from_secs(1));
        assert_eq!(polled(&mut waiting).await, Poll::Pending);
        drop(first);
        assert_eq!(polled(&mut waiting).await, Poll::Pending);
        drop(second);
        waiting.await;
        assert_eq!(begun.elapsed(), Duration::ZERO);

        let _lost = arriving.ack();
        arriving.wait(Duration::from_secs(1)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }
}
