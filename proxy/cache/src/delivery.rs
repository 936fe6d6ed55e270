//! What lies beside an entry for the ways in which it can be given: its coded forms, and the times
//! at which its frames came.
//!
//! Neither is what it says: an entry without them is the same answer. Coded forms are made from the
//! body when somebody wants them, once ([`Delivery::begins`]), counted in the memory tier's bytes
//! (`MemoryTier::make_room_beside`), and gone with the entry; they are in no store. Most entries
//! never have any of it, so that here is only the room for a pointer.

use crate::{
    coding::{CODINGS, Coding},
    entry::PIECE_OVERHEAD,
};
use bytes::Bytes;
use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Delivery(OnceLock<Box<Aside>>);

#[derive(Debug, Default)]
struct Aside {
    /// For each frame of a stream, how many milliseconds after the one before it came.
    gaps_ms: Option<Box<[u32]>>,
    /// One bit for each coding: somebody makes the form, or found that there is to be none.
    begun: AtomicU8,
    made: [OnceLock<Bytes>; CODINGS],
}

/// A copy is another entry, perhaps with another body: only what came with the stream goes along.
impl Clone for Delivery {
    fn clone(&self) -> Self {
        Self::of_gaps(self.gaps_ms().map(Box::from))
    }
}

/// A coded form says nothing that the body does not.
impl PartialEq for Delivery {
    fn eq(&self, other: &Self) -> bool {
        self.gaps_ms() == other.gaps_ms()
    }
}

impl Delivery {
    /// `gaps_ms`: one for each frame.
    pub fn of_gaps(gaps_ms: Option<Box<[u32]>>) -> Self {
        let aside = |gaps_ms| Box::new(Aside { gaps_ms: Some(gaps_ms), ..Aside::default() });
        Self(gaps_ms.map(aside).map_or_else(OnceLock::new, OnceLock::from))
    }

    /// For each frame of a stream, how many milliseconds after the one before it came; `None`: that
    /// was not recorded.
    pub fn gaps_ms(&self) -> Option<&[u32]> {
        self.0.get()?.gaps_ms.as_deref()
    }

    /// Whether the caller is to make this form: true once, however many ask.
    pub fn begins(&self, coding: Coding) -> bool {
        let bit = 1 << coding.place();
        let aside = self.0.get_or_init(Box::default);
        aside.begun.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// The form, where it is made.
    pub fn coded(&self, coding: Coding) -> Option<&Bytes> {
        self.0.get()?.made.get(coding.place())?.get()
    }

    /// Keeps a form, for which there is room. The first one stays.
    pub(crate) fn keep(&self, coding: Coding, form: Bytes) {
        let aside = self.0.get_or_init(Box::default);
        if let Some(place) = aside.made.get(coding.place()) {
            place.get_or_init(|| form);
        }
    }

    /// Bytes of memory beside the entry's own: gaps and forms.
    pub(crate) fn weight(&self) -> usize {
        let Some(aside) = self.0.get() else { return 0 };
        let gaps = aside.gaps_ms.as_ref().map_or(0, |gaps| size_of_val::<[u32]>(gaps));
        let made = aside.made.iter().filter_map(OnceLock::get).map(form_weight);
        size_of::<Aside>() + PIECE_OVERHEAD + gaps + made.sum::<usize>()
    }
}

/// What keeping a form takes, that of what they all lie in apart.
fn form_weight(form: &Bytes) -> usize {
    form.len() + PIECE_OVERHEAD
}

/// What keeping `form` adds to an entry, at most.
pub(crate) fn weight_added(form: &Bytes) -> u64 {
    u64::try_from(form_weight(form) + size_of::<Aside>() + PIECE_OVERHEAD).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_begun_once_and_the_first_one_stays() {
        let delivery = Delivery::default();
        assert_eq!(delivery.weight(), 0);
        assert!(delivery.begins(Coding::Br));
        assert!(!delivery.begins(Coding::Br));
        assert!(delivery.begins(Coding::Gzip), "each form for itself");
        assert_eq!(delivery.coded(Coding::Br), None);
        delivery.keep(Coding::Br, Bytes::from_static(b"one"));
        delivery.keep(Coding::Br, Bytes::from_static(b"two"));
        assert_eq!(delivery.coded(Coding::Br).unwrap(), "one");
        assert_eq!(delivery.coded(Coding::Zstd), None);
        assert!(delivery.weight() > 3);
    }

    #[test]
    fn a_copy_has_the_gaps_and_none_of_the_forms() {
        let delivery = Delivery::of_gaps(Some([1, 2].into()));
        delivery.keep(Coding::Gzip, Bytes::from_static(b"form"));
        let copy = delivery.clone();
        assert_eq!((copy.gaps_ms(), copy.coded(Coding::Gzip)), (Some(&[1, 2][..]), None));
        assert_eq!(copy, delivery);
        assert_ne!(copy, Delivery::default());
    }
}
