//! A gate that a test opens by hand: it decides when an answer begins and goes
//! on, so that no scenario needs a sleep.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Holds calls before their first byte and, if so made, before every later
/// event of a stream. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    heads: Arc<Semaphore>,
    chunks: Option<Arc<Semaphore>>,
}

impl Gate {
    /// A closed gate before the first byte of every answer.
    pub fn heads() -> Self {
        Self { heads: Arc::new(Semaphore::new(0)), chunks: None }
    }

    /// A closed gate before the first byte and before every event of a stream,
    /// the first one included. A whole answer is one event.
    pub fn heads_and_chunks() -> Self {
        Self { chunks: Some(Arc::new(Semaphore::new(0))), ..Self::heads() }
    }

    /// A gate before every event of a stream; heads pass.
    pub fn chunks() -> Self {
        let gate = Self::heads_and_chunks();
        gate.heads.close();
        gate
    }

    /// Lets `n` calls begin, waiting or to come, in order of arrival.
    pub fn release(&self, n: usize) {
        self.heads.add_permits(n);
    }

    /// Lets `n` events pass, counted over all streams.
    pub fn release_chunks(&self, n: usize) {
        if let Some(chunks) = &self.chunks {
            chunks.add_permits(n);
        }
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.heads.close();
        if let Some(chunks) = &self.chunks {
            chunks.close();
        }
    }

    pub(super) fn holds_chunks(&self) -> bool {
        self.chunks.as_ref().is_some_and(|chunks| !chunks.is_closed())
    }

    pub(super) async fn pass_head(&self) {
        pass(&self.heads).await;
    }

    pub(super) async fn pass_chunk(&self) {
        if let Some(chunks) = &self.chunks {
            pass(chunks).await;
        }
    }
}

/// A closed semaphore is an open gate.
async fn pass(gate: &Semaphore) {
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
}
