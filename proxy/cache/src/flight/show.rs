//! How flights show themselves in a log: sizes, never content.

use super::{Flights, Lead, Listener, Source};
use std::fmt;

impl<S: Source> fmt::Debug for Flights<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("under_way", &self.table.len()).finish()
    }
}

impl<S: Source> fmt::Debug for Lead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").finish_non_exhaustive()
    }
}

impl<S: Source> fmt::Debug for Listener<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("seat", &self.seat).finish_non_exhaustive()
    }
}
