//! Who waits at a flight: one waker a listener, all woken by one waker of the flight.
//!
//! The upstream keeps only the waker it was last polled with. If that were a
//! listener's own, the others would sleep on when it leaves; so the upstream gets the
//! flight's, which wakes whoever waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

#[derive(Default)]
pub(super) struct Wakers(Mutex<Vec<Option<Waker>>>);

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all_but(None);
    }
}

impl Wakers {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn register(&self, place: usize, waker: &Waker) {
        let mut slots = self.lock();
        if slots.len() <= place {
            slots.resize(place + 1, None);
        }
        if let Some(slot) = slots.get_mut(place)
            && !slot.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *slot = Some(waker.clone());
        }
    }

    pub(super) fn forget(&self, place: usize) {
        if let Some(slot) = self.lock().get_mut(place) {
            *slot = None;
        }
    }

    pub(super) fn wake_all_but(&self, place: Option<usize>) {
        let mut woken = smallvec::SmallVec::<[Waker; 4]>::new();
        for (at, slot) in self.lock().iter_mut().enumerate() {
            if Some(at) != place {
                woken.extend(slot.take());
            }
        }
        for waker in woken {
            waker.wake();
        }
    }
}
