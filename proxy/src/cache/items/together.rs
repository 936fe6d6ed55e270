//! Waits for many things at once.

use std::{future::poll_fn, pin::Pin, task::Poll};

/// Until all have come to their end; at most `under_way_max` of them are under way. Each wake polls
/// these.
pub(in crate::cache) async fn together<F: Future<Output = ()>>(
    all: impl Iterator<Item = F>,
    under_way_max: usize,
) {
    let mut left: Vec<Pin<Box<F>>> = all.map(Box::pin).collect();
    poll_fn(|cx| {
        let mut place = 0;
        while let Some(one) = left.get_mut(place).filter(|_| place < under_way_max) {
            match one.as_mut().poll(cx) {
                Poll::Pending => place += 1,
                // The next one takes its place, and its turn.
                Poll::Ready(()) => drop(left.swap_remove(place)),
            }
        }
        if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn all_are_waited_for_and_few_are_under_way() {
        let (done, under_way, most) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let all = (0..1000).map(|n| {
            let (done, under_way, most) = (&done, &under_way, &most);
            async move {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                for _ in 0..n % 7 {
                    tokio::task::yield_now().await;
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        together(all, 16).await;
        assert_eq!((done.into_inner(), most.into_inner()), (1000, 16));
    }
}
