//! Single flight: one fill that many callers listen to, and that nobody owns.
//!
//! The usual guards tie a fill to the caller that started it, so that 20 callers
//! whose patience is shorter than the fill are all served nothing (`cache.md` D.3).
//! Here the fill is a value that *whoever listens drives*: the first listener to be
//! polled polls the upstream and leaves what came for the others. No task is spawned
//! and no channel is crossed, so that a call without followers pays a lock and no
//! wake-up; a leader that leaves is simply not polled any more.
//!
//! ```text
//!  join ─▶ Boarding ──start──▶ Fetching ──head──▶ Streaming ──end──▶ Ended
//!             │ lead dropped      │ failure
//!             └──▶ Gone ◀─────────┼── last listener left (the upstream call is dropped)
//!                                 └──▶ Failed
//! ```
//!
//! **Invariant:** a listener that waits has its waker registered, and every change
//! of the flight wakes all that are registered but the one that made it.

mod order;
mod queued;
mod recording;
mod show;
mod state;
mod wakers;
mod window;

pub use self::{
    queued::{Lift, Queued},
    recording::Recording,
};

use self::{
    state::{Seat, Stage, State},
    wakers::Wakers,
};
use crate::key::CacheKey;
use bytes::Bytes;
use dashmap::{DashMap, Entry};
use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};
use tokio::time::{Sleep, sleep_until};
use tollgate_core::class::ClassId;

/// The answer that a flight brings: a head, then pieces.
pub trait Source: Send + Sized + 'static {
    type Head: Clone + Send + fmt::Debug;
    type Failure: Clone + Send + fmt::Debug;
    /// What the whole came to; told to every listener after the end.
    type Outcome: Clone + Send + fmt::Debug;

    /// The next piece. Called by any listener's task, never by two at once.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next>;

    /// Pays what is owed; called once, before the last piece is handed on.
    /// `recording` is the whole answer, if it is complete and was recorded.
    fn finish(self, end: End, recording: Option<Recording>) -> Self::Outcome;

    /// How many bytes of this answer may be recorded, for storing and for late joiners;
    /// `None`: it is not to be stored, so that only its present listeners get it.
    fn recorded_bytes_max(head: &Self::Head) -> Option<usize>;

    /// The leader failed for a reason that is not the followers' (its deadline, its class).
    fn is_leaders_own(failure: &Self::Failure) -> bool;
}

#[derive(Debug)]
pub enum Next {
    Piece(Bytes),
    /// A piece that is known to be the last.
    Last(Bytes),
    End,
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    Cut,
}

/// Asks for the answer; owned by the flight.
pub type Fetching<S> =
    Pin<Box<dyn Future<Output = Result<(<S as Source>::Head, S), <S as Source>::Failure>> + Send>>;

/// All flights of one process.
pub struct Flights<S: Source> {
    table: Arc<DashMap<CacheKey, Arc<Flight<S>>>>,
}

/// What a caller may do about a key that no tier holds.
#[derive(Debug)]
pub enum Join<S: Source> {
    Lead(Lead<S>),
    Follow(Listener<S>),
}

/// The right to start the fill of one key. Dropped unused, the next caller leads.
#[must_use]
pub struct Lead<S: Source> {
    listener: Option<Listener<S>>,
}

/// One caller's place at a flight. Dropped, it listens no more; the last one to leave
/// takes the upstream call with it.
#[must_use]
pub struct Listener<S: Source> {
    flight: Arc<Flight<S>>,
    seat: Seat,
    /// While it waits for slower ones.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Why a listener gets no head.
#[derive(Clone, Debug)]
pub enum NoHead<F> {
    Failed(F),
    /// The leader went before anything was learnt, or for a reason of its own: lead.
    Lead,
}

struct Flight<S: Source> {
    key: CacheKey,
    /// Of the most important that its leader waits for, as a place.
    rank: AtomicUsize,
    queued: Queued,
    table: Arc<DashMap<CacheKey, Arc<Self>>>,
    state: Mutex<State<S>>,
    wakers: Arc<Wakers>,
    /// The one waker that the upstream is polled with, whoever polls.
    waker: Waker,
}

impl<S: Source> Default for Flights<S> {
    fn default() -> Self {
        Self { table: Arc::new(DashMap::new()) }
    }
}

impl<S: Source> Clone for Flights<S> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<S: Source> Flights<S> {
    /// Joins the flight of `key`, or makes one. A caller that is more important than a
    /// leader that still waits in the queue does not wait behind it: the leader is lifted
    /// to its class, or, where that cannot be, it leads a flight of its own, and later
    /// callers join that.
    pub fn join(&self, key: CacheKey, rank: ClassId) -> Join<S> {
        let mut slot = match self.table.entry(key) {
            Entry::Vacant(vacant) => {
                let flight = Flight::new(key, rank, self.table.clone());
                vacant.insert(flight.clone());
                return Join::Lead(Lead::of(flight));
            }
            Entry::Occupied(occupied) => occupied,
        };
        let flight = slot.get().clone();
        let outranked = rank.place() < flight.rank.load(Ordering::Acquire);
        if outranked && flight.queued.is_queued() {
            // Not under the table's lock: who is let in by it is woken.
            drop(slot);
            return self.overtake(&flight, rank);
        }
        if let Some(listener) = flight.admit() {
            return Join::Follow(listener);
        }
        let flight = Flight::new(key, rank, self.table.clone());
        slot.insert(flight.clone());
        Join::Lead(Lead::of(flight))
    }

    /// A flight of its own, in the place of one that is under way, if there is: for a caller
    /// who may not be given what was begun before it asked. Later callers join this one.
    pub fn lead(&self, key: CacheKey, rank: ClassId) -> Lead<S> {
        let flight = Flight::new(key, rank, self.table.clone());
        match self.table.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(flight.clone())),
            Entry::Occupied(mut occupied) => {
                // Ending last, the older would be stored over the newer answer.
                let order = occupied.get().lock().order.get_or_insert_default().next();
                flight.lock().order = Some(order);
                occupied.insert(flight.clone());
            }
        }
        Lead::of(flight)
    }

    /// A flight that nobody else can join: for answers that may turn out to be for one
    /// caller only.
    pub fn alone(&self, key: CacheKey, rank: ClassId) -> Lead<S> {
        Lead::of(Flight::new(key, rank, self.table.clone()))
    }

    /// How many fills are under way.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Source> Lead<S> {
    fn of(flight: Arc<Flight<S>>) -> Self {
        Self { listener: Some(Listener { flight, seat: Seat::default(), waiting: None }) }
    }

    /// To be raised by whoever makes the leader wait for its turn, while it does.
    pub fn queued(&self) -> Queued {
        self.listener.as_ref().map(|listener| listener.flight.queued.clone()).unwrap_or_default()
    }

    /// Starts the fill. Nothing happens until a listener is polled.
    pub fn start(mut self, fetching: Fetching<S>) -> Option<Listener<S>> {
        let listener = self.listener.take()?;
        listener.flight.lock().stage = Stage::Fetching(fetching);
        listener.flight.wakers.wake_all_but(Some(listener.seat.place));
        Some(listener)
    }
}

impl<S: Source> Drop for Lead<S> {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.flight.lock().stage = Stage::Gone;
            listener.flight.unlist();
            listener.flight.wakers.wake_all_but(Some(listener.seat.place));
        }
    }
}

impl<S: Source> Flight<S> {
    fn new(key: CacheKey, rank: ClassId, table: Arc<DashMap<CacheKey, Arc<Self>>>) -> Arc<Self> {
        let wakers = Arc::new(Wakers::default());
        let waker = Waker::from(wakers.clone());
        let (rank, queued) = (AtomicUsize::new(rank.place()), Queued::default());
        let state = Mutex::new(State::new());
        Arc::new(Self { key, rank, queued, table, state, wakers, waker })
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody finds this flight any more. (Not called with the state locked: `join`
    /// locks the table first and the state second.)
    fn unlist(&self) {
        let order = self.lock().order.clone();
        order.iter().for_each(|order| drop(order.ends()));
        self.table.remove_if(&self.key, |_, listed| std::ptr::eq(Arc::as_ptr(listed), self));
    }

    /// A place for one more listener, if it can still have the whole answer.
    fn admit(self: &Arc<Self>) -> Option<Listener<S>> {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Gone) || !state.records() {
            return None;
        }
        let seat = state.admit();
        drop(state);
        Some(Listener { flight: self.clone(), seat, waiting: None })
    }
}

impl<S: Source> Listener<S> {
    /// The head of the answer; drives the fill while it waits.
    ///
    /// # Errors
    /// The leader's failure, or [`NoHead::Lead`] when this caller should ask itself.
    pub async fn head(&mut self) -> Result<S::Head, NoHead<S::Failure>> {
        let head = poll_fn(|cx| self.poll_head(cx)).await;
        self.flight.wakers.forget(self.seat.place);
        head
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Head, NoHead<S::Failure>>> {
        self.flight.wakers.register(self.seat.place, cx.waker());
        let mut state = self.flight.lock();
        let outcome = match &mut state.stage {
            Stage::Boarding => return Poll::Pending,
            Stage::Fetching(fetching) => {
                match fetching.as_mut().poll(&mut Context::from_waker(&self.flight.waker)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) => outcome,
                }
            }
            Stage::Streaming(head, _) | Stage::Ended(head, ..) => {
                return Poll::Ready(Ok(head.clone()));
            }
            Stage::Failed(failure) => {
                return Poll::Ready(Err(no_head::<S>(failure, self.seat.place)));
            }
            Stage::Gone => return Poll::Ready(Err(NoHead::Lead)),
        };
        let (stage, answer, unlist) = match outcome {
            Ok((head, source)) => {
                state.record(S::recorded_bytes_max(&head));
                let unlist = !state.records();
                (Stage::Streaming(head.clone(), source), Ok(head), unlist)
            }
            Err(failure) => {
                let answer = Err(no_head::<S>(&failure, self.seat.place));
                (Stage::Failed(failure), answer, true)
            }
        };
        let fetched = mem::replace(&mut state.stage, stage);
        drop(state);
        drop(fetched);
        if unlist {
            self.flight.unlist();
        }
        self.flight.wakers.wake_all_but(Some(self.seat.place));
        Poll::Ready(answer)
    }

    /// The next piece; `None` at the end, an error where the answer was cut.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut state = self.flight.lock();
        let mut stepped = false;
        loop {
            let was_full = state.is_full();
            if let Some(piece) = state.take(&mut self.seat) {
                let changed = stepped || (was_full && !state.is_full());
                let ended = matches!(state.stage, Stage::Ended(..));
                drop(state);
                self.tell(changed, stepped && ended);
                return Poll::Ready(Some(Ok(piece)));
            }
            if state.is_lost(&self.seat) {
                return Poll::Ready(Some(Err(Cut)));
            }
            if matches!(state.stage, Stage::Streaming(..)) {
                self.flight.wakers.register(self.seat.place, cx.waker());
                if let Some(until) = state.waits_until() {
                    let waiting = self.waiting.insert(Box::pin(sleep_until(until)));
                    ready!(waiting.as_mut().poll(cx));
                }
                if was_full {
                    // The slow are passed, and hear of it.
                    stepped |= !state.is_full();
                    continue;
                }
            }
            let had_all = state.has_had_all(&self.seat);
            match &mut state.stage {
                Stage::Ended(_, end, _) => {
                    let is_whole = had_all && *end == End::Complete;
                    let answer = if is_whole { None } else { Some(Err(Cut)) };
                    drop(state);
                    self.tell(stepped, stepped);
                    return Poll::Ready(answer);
                }
                Stage::Streaming(_, source) => {
                    match source.poll_next(&mut Context::from_waker(&self.flight.waker)) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Next::Piece(piece)) => state.push(piece),
                        Poll::Ready(Next::Last(piece)) => {
                            state.push(piece);
                            state.end(End::Complete);
                        }
                        Poll::Ready(Next::End) => state.end(End::Complete),
                        Poll::Ready(Next::Cut) => state.end(End::Cut),
                    }
                    self.flight.wakers.forget(self.seat.place);
                    stepped = true;
                }
                // A piece is asked for after the head only.
                Stage::Boarding | Stage::Fetching(_) | Stage::Failed(_) | Stage::Gone => {
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
        }
    }

    /// After a change, with nothing locked: the others look again.
    fn tell(&self, changed: bool, ended: bool) {
        if ended {
            self.flight.unlist();
        }
        if changed {
            self.flight.wakers.wake_all_but(Some(self.seat.place));
        }
    }

    /// Listens until the flight is over, whatever it brings.
    pub async fn landed(&mut self) {
        if self.head().await.is_ok() {
            poll_fn(|cx| {
                while let Some(Ok(_)) = ready!(self.poll_piece(cx)) {}
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Everything has been handed on, and the answer is whole.
    pub fn is_over(&self) -> bool {
        let state = self.flight.lock();
        matches!(state.stage, Stage::Ended(_, End::Complete, _)) && state.has_had_all(&self.seat)
    }

    /// What the whole came to; `None` before the end.
    pub fn outcome(&self) -> Option<S::Outcome> {
        match &self.flight.lock().stage {
            Stage::Ended(_, _, outcome) => Some(outcome.clone()),
            Stage::Boarding
            | Stage::Fetching(_)
            | Stage::Streaming(..)
            | Stage::Failed(_)
            | Stage::Gone => None,
        }
    }
}

/// The leader hears of its own failure; the others of those that would be theirs too.
fn no_head<S: Source>(failure: &S::Failure, place: usize) -> NoHead<S::Failure> {
    if place != 0 && S::is_leaders_own(failure) {
        NoHead::Lead
    } else {
        NoHead::Failed(failure.clone())
    }
}

impl<S: Source> Drop for Listener<S> {
    fn drop(&mut self) {
        self.flight.wakers.forget(self.seat.place);
        let mut state = self.flight.lock();
        let was_full = state.is_full();
        state.leave(&self.seat);
        if state.has_listeners() {
            let moved = was_full && !state.is_full();
            drop(state);
            self.tell(moved, false);
            return;
        }
        // The last one takes the upstream call with it; what it owes is paid on drop.
        let stage = match &state.stage {
            Stage::Ended(..) | Stage::Failed(_) => None,
            Stage::Boarding | Stage::Fetching(_) | Stage::Streaming(..) | Stage::Gone => {
                Some(mem::replace(&mut state.stage, Stage::Gone))
            }
        };
        drop(state);
        self.flight.unlist();
        drop(stage);
    }
}

/// The answer ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut")]
pub struct Cut;

#[cfg(test)]
mod tests;
