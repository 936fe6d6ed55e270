//! Priority classes, as small numbers.
//!
//! A configuration lists its classes most important first; a class is the place
//! in that list. `Ord` follows the list: a *smaller* class is more important.

/// How many classes a configuration may have. Eight keeps a scheduler's state in
/// two cache lines, and nobody names more levels of urgency than that.
pub const CLASSES_MAX: usize = 8;

/// The place of a class in the configured list; 0 is the most important.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u8);

impl ClassId {
    /// `None` at or above [`CLASSES_MAX`].
    pub fn new(place: usize) -> Option<Self> {
        (place < CLASSES_MAX).then(|| Self(u8::try_from(place).unwrap_or(0)))
    }

    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}
