//! Keeps a panic in one exchange from taking its connection (and the callers that share
//! it under HTTP/2) along: it becomes a 500, and a line in the log.

use super::ExchangeError;
use pin_project_lite::pin_project;
use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pin_project! {
    /// A future whose panic is an error.
    pub(super) struct Contained<F> {
        #[pin]
        way: F,
    }
}

impl<F> Contained<F> {
    pub(super) fn new(way: F) -> Self {
        Self { way }
    }
}

impl<F, T> Future for Contained<F>
where
    F: Future<Output = Result<T, Arc<ExchangeError>>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let way = self.project().way;
        // Unwind safe: after a panic the future is dropped, never polled again, and what
        // it owed is paid by the drops of its parts.
        catch_unwind(AssertUnwindSafe(|| way.poll(cx))).unwrap_or_else(|panic| {
            tracing::error!(panic = text(&*panic), "a panic in an exchange was contained");
            Poll::Ready(Err(Arc::new(ExchangeError::Internal)))
        })
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
