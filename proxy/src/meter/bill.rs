//! What an answer came to, by itself: it is kept with an entry, and told to whoever shares the answer.

use std::sync::Arc;
use tollgate_core::{
    price::Cost,
    usage::{Quality, Usage},
};

/// What an answer cost and used: kept with the entry, told to followers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bill {
    pub(crate) usage: Usage,
    pub(crate) quality: BillQuality,
    /// `None`: no price is known.
    pub(crate) cost: Option<Cost>,
    pub(crate) model: Option<Arc<str>>,
}

/// [`Quality`] with a value for "nobody counted".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BillQuality {
    Reported,
    Partial,
    Estimated,
    #[default]
    Absent,
}

impl From<Quality> for BillQuality {
    fn from(quality: Quality) -> Self {
        match quality {
            Quality::Reported => Self::Reported,
            Quality::Partial => Self::Partial,
            Quality::Estimated => Self::Estimated,
            Quality::Absent => Self::Absent,
        }
    }
}
