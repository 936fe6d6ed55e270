//! The call as the holder of something that it must have given back when it is over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How many holders live. Clones are one count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<AtomicU64>);

/// Lives as long as its call is accounted for: kept apart from what the call holds, it is
/// the witness that this came back before the call was over. It must be dropped after it.
#[derive(Debug)]
pub(crate) struct Holder(Holders);

impl Holders {
    /// Counts one more; `holder` makes the value that takes it off again.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The holder that [`Self::add`] has counted already.
    pub(crate) fn holder(&self) -> Holder {
        Holder(self.clone())
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}
