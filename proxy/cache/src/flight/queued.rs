//! Whether the leader of a flight waits for its turn, and how it can be moved forward.
//!
//! A caller more important than the leader must not wait behind it; one upstream call for
//! both is still better than two. So whoever makes the leader wait leaves a way to lift it.

use super::{Flight, Flights, Join, Lead, Source};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tollgate_core::class::ClassId;

/// Moves one who waits to a class; false: it cannot be.
pub type Lift = Arc<dyn Fn(ClassId) -> bool + Send + Sync>;

/// Raised exactly while a leader waits in the queue. Clones are one.
#[derive(Clone, Default)]
pub struct Queued(Arc<State>);

#[derive(Default)]
struct State {
    is_queued: AtomicBool,
    lift: Mutex<Option<Lift>>,
}

impl Queued {
    pub fn is_queued(&self) -> bool {
        self.0.is_queued.load(Ordering::Acquire)
    }

    /// It waits; `lift` moves it forward, where anything can.
    pub fn raise(&self, lift: Option<Lift>) {
        *self.hook() = lift;
        self.0.is_queued.store(true, Ordering::Release);
    }

    /// It waits no more.
    pub fn lower(&self) {
        self.0.is_queued.store(false, Ordering::Release);
        let unused = self.hook().take();
        drop(unused);
    }

    /// Asks that it wait as one of that class from now on. No lock is held meanwhile: others
    /// may be woken by it.
    pub fn lift(&self, class: ClassId) -> bool {
        let lift = self.hook().clone();
        lift.is_some_and(|lift| lift(class))
    }

    fn hook(&self) -> MutexGuard<'_, Option<Lift>> {
        self.0.lift.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source> Flights<S> {
    /// Joins a flight whose leader waits and is less important: it goes forward, or another
    /// takes its place.
    pub(super) fn overtake(&self, flight: &Arc<Flight<S>>, rank: ClassId) -> Join<S> {
        // One whose turn has come meanwhile need not be lifted.
        if flight.queued.lift(rank) || !flight.queued.is_queued() {
            flight.rank.fetch_min(rank.place(), Ordering::AcqRel);
            if let Some(listener) = flight.admit() {
                return Join::Follow(listener);
            }
        }
        let own = Flight::new(flight.key, rank, self.table.clone());
        self.table.insert(flight.key, own.clone());
        Join::Lead(Lead::of(own))
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queued").field(&self.is_queued()).finish()
    }
}
