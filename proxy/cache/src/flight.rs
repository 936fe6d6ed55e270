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

mod queued;
mod show;
mod state;
mod wakers;

pub use self::{
    queued::{Lift, Queued},
    state::Recording,
};

use self::{
    state::{Stage, State},
    wakers::Wakers,
};
use crate::key::CacheKey;
use bytes::Bytes;
use dashmap::{DashMap, Entry};
use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};
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
    place: usize,
    /// What came before this listener did.
    so_far: Bytes,
    /// The next piece to hand on, counted from the first.
    cursor: usize,
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
        if let Some(older) = self.table.insert(key, flight.clone()) {
            // Ending last, it would be stored over the newer answer.
            older.lock().recording = None;
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
        Self { listener: Some(Listener::board(flight, 0)) }
    }

    /// To be raised by whoever makes the leader wait for its turn, while it does.
    pub fn queued(&self) -> Queued {
        self.listener.as_ref().map(|listener| listener.flight.queued.clone()).unwrap_or_default()
    }

    /// Starts the fill. Nothing happens until a listener is polled.
    pub fn start(mut self, fetching: Fetching<S>) -> Option<Listener<S>> {
        let listener = self.listener.take()?;
        listener.flight.lock().stage = Stage::Fetching(fetching);
        listener.flight.wakers.wake_all_but(Some(listener.place));
        Some(listener)
    }
}

impl<S: Source> Drop for Lead<S> {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.flight.lock().stage = Stage::Gone;
            listener.flight.unlist();
            listener.flight.wakers.wake_all_but(Some(listener.place));
        }
    }
}

impl<S: Source> Flight<S> {
    fn new(key: CacheKey, rank: ClassId, table: Arc<DashMap<CacheKey, Arc<Self>>>) -> Arc<Self> {
        let wakers = Arc::new(Wakers::default());
        let waker = Waker::from(wakers.clone());
        let state = State {
            stage: Stage::Boarding,
            pieces: VecDeque::new(),
            base: 0,
            bytes: 0,
            recording: Some(Recording::default()),
            recorded_bytes_max: usize::MAX,
            cursors: vec![Some(0)],
        };
        let (rank, queued) = (AtomicUsize::new(rank.place()), Queued::default());
        Arc::new(Self { key, rank, queued, table, state: Mutex::new(state), wakers, waker })
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody finds this flight any more. (Not called with the state locked: `join`
    /// locks the table first and the state second.)
    fn unlist(&self) {
        self.table.remove_if(&self.key, |_, listed| std::ptr::eq(Arc::as_ptr(listed), self));
    }

    /// A place for one more listener, if it can still have the whole answer.
    fn admit(self: &Arc<Self>) -> Option<Listener<S>> {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Gone) {
            return None;
        }
        let so_far = state.recording.as_ref()?.body.clone().freeze();
        let cursor = state.base + state.pieces.len();
        // The leader's place stays its own: who took it would hear the leader's failure.
        let free = state.cursors.iter().skip(1).position(Option::is_none);
        let place = match free {
            Some(place) => place + 1,
            None => {
                state.cursors.push(None);
                state.cursors.len() - 1
            }
        };
        if let Some(own) = state.cursors.get_mut(place) {
            *own = Some(cursor);
        }
        drop(state);
        Some(Listener { flight: self.clone(), place, so_far, cursor })
    }
}

impl<S: Source> Listener<S> {
    fn board(flight: Arc<Flight<S>>, place: usize) -> Self {
        Self { flight, place, so_far: Bytes::new(), cursor: 0 }
    }

    /// The head of the answer; drives the fill while it waits.
    ///
    /// # Errors
    /// The leader's failure, or [`NoHead::Lead`] when this caller should ask itself.
    pub async fn head(&mut self) -> Result<S::Head, NoHead<S::Failure>> {
        let head = poll_fn(|cx| self.poll_head(cx)).await;
        self.flight.wakers.forget(self.place);
        head
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Head, NoHead<S::Failure>>> {
        self.flight.wakers.register(self.place, cx.waker());
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
                return Poll::Ready(Err(no_head::<S>(failure, self.place)));
            }
            Stage::Gone => return Poll::Ready(Err(NoHead::Lead)),
        };
        let (stage, answer, unlist) = match outcome {
            Ok((head, source)) => {
                state.record(S::recorded_bytes_max(&head));
                let unlist = state.recording.is_none();
                (Stage::Streaming(head.clone(), source), Ok(head), unlist)
            }
            Err(failure) => {
                let answer = Err(no_head::<S>(&failure, self.place));
                (Stage::Failed(failure), answer, true)
            }
        };
        let fetched = mem::replace(&mut state.stage, stage);
        drop(state);
        drop(fetched);
        if unlist {
            self.flight.unlist();
        }
        self.flight.wakers.wake_all_but(Some(self.place));
        Poll::Ready(answer)
    }

    /// The next piece; `None` at the end, an error where the answer was cut.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if !self.so_far.is_empty() {
            return Poll::Ready(Some(Ok(mem::take(&mut self.so_far))));
        }
        let mut state = self.flight.lock();
        let mut stepped = false;
        loop {
            if let Some(piece) = state.pieces.get(self.cursor.saturating_sub(state.base)).cloned() {
                self.cursor += 1;
                if let Some(cursor) = state.cursors.get_mut(self.place) {
                    *cursor = Some(self.cursor);
                }
                let was_full = state.is_full();
                state.trim();
                let changed = stepped || (was_full && !state.is_full());
                let ended = matches!(state.stage, Stage::Ended(..));
                drop(state);
                self.tell(changed, stepped && ended);
                return Poll::Ready(Some(Ok(piece)));
            }
            let full = state.is_full();
            match &mut state.stage {
                Stage::Ended(_, end, _) => {
                    let answer = match end {
                        End::Complete => None,
                        End::Cut => Some(Err(Cut)),
                    };
                    drop(state);
                    self.tell(stepped, stepped);
                    return Poll::Ready(answer);
                }
                Stage::Streaming(_, source) => {
                    self.flight.wakers.register(self.place, cx.waker());
                    if full {
                        return Poll::Pending;
                    }
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
                    self.flight.wakers.forget(self.place);
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
            self.flight.wakers.wake_all_but(Some(self.place));
        }
    }

    /// Listens until the flight is over, whatever it brings.
    pub async fn landed(&mut self) {
        if self.head().await.is_ok() {
            poll_fn(|cx| {
                while let Some(Ok(_)) = std::task::ready!(self.poll_piece(cx)) {}
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Everything has been handed on, and the answer is whole.
    pub fn is_over(&self) -> bool {
        let state = self.flight.lock();
        matches!(state.stage, Stage::Ended(_, End::Complete, _))
            && self.so_far.is_empty()
            && self.cursor >= state.base + state.pieces.len()
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
        self.flight.wakers.forget(self.place);
        let mut state = self.flight.lock();
        if let Some(cursor) = state.cursors.get_mut(self.place) {
            *cursor = None;
        }
        let was_full = state.is_full();
        state.trim();
        if state.cursors.iter().any(Option::is_some) {
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
