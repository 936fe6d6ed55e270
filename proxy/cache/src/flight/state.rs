//! What a flight has brought so far, and how far each listener has come.
//!
//! A listener who keeps up takes pieces from the window. One who came late, or whom the window has
//! passed, is *behind*: it reads what was recorded, and when it has had all of that it keeps up again.
//! So a flight holds what is recorded, once, and a window, however many listen.
//!
//! **Invariant:** a piece in the window is left for each listener whose next piece out of it begins
//! at it or before. For one that is behind that is what comes after the recorded.

use super::{End, Fetching, Source, order::Order, recording::Recorder, window::Window};
use bytes::Bytes;
use std::{mem, time::Duration};
use tokio::time::Instant;

/// For how long in all the slow may hold up the others of an answer that is not recorded. A second:
/// who was only out of touch for a moment loses nothing, and nobody else much.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct State<S: Source> {
    pub(super) stage: Stage<S>,
    window: Window,
    recorder: Recorder,
    /// `false`: the answer is not to be stored, or longer than may be.
    records: bool,
    recorded_bytes_max: usize,
    /// Places that were given out, and those of them that are free again.
    places: usize,
    free: Vec<usize>,
    listeners: usize,
    /// How many of them are behind.
    behind: usize,
    /// How many were passed while nothing was recorded any more: the answer is lost for them.
    lost: usize,
    /// Where the window began when recording ended: who had less is behind.
    recorded_to: usize,
    /// What is left of the others' [`PATIENCE`], and since when it is tried.
    patience: Duration,
    tried_since: Option<Instant>,
    /// `None`: it neither took another flight's place nor lost its own to one.
    pub(super) order: Option<Order>,
}

pub(super) enum Stage<S: Source> {
    Boarding,
    Fetching(Fetching<S>),
    Streaming(S::Head, S),
    Ended(S::Head, End, S::Outcome),
    Failed(S::Failure),
    Gone,
}

/// How far one listener has come.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Whose waker it is; the leader's is 0.
    pub(super) place: usize,
    /// How many bytes it has had.
    pub(super) at: usize,
    is_behind: bool,
}

impl<S: Source> State<S> {
    /// With the leader at place 0.
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Boarding,
            window: Window::default(),
            recorder: Recorder::default(),
            records: true,
            recorded_bytes_max: usize::MAX,
            places: 1,
            free: Vec::new(),
            listeners: 1,
            behind: 0,
            lost: 0,
            recorded_to: 0,
            patience: PATIENCE,
            tried_since: None,
            order: None,
        }
    }

    /// The head has come: how much of the answer may be recorded.
    pub(super) fn record(&mut self, bytes_max: Option<usize>) {
        self.recorded_bytes_max = bytes_max.unwrap_or(0);
        if bytes_max.is_none() {
            self.give_up();
        }
    }

    /// Whether all of the answer is recorded so far: who comes now can have it.
    pub(super) fn records(&self) -> bool {
        self.records
    }

    /// It is not to be stored.
    pub(super) fn give_up(&mut self) {
        self.ends_recording();
        self.recorder.give_up(self.behind > 0);
    }

    fn ends_recording(&mut self) {
        if mem::replace(&mut self.records, false) {
            self.recorded_to = self.window.from();
        }
    }

    /// One more listener, who is to have the whole.
    pub(super) fn admit(&mut self) -> Seat {
        // The leader's place stays its own: who took it would hear the leader's failure.
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        self.listeners += 1;
        let is_behind = self.window.from() > 0;
        if is_behind {
            self.behind += 1;
        } else {
            self.window.enter();
        }
        Seat { place, at: 0, is_behind }
    }

    pub(super) fn leave(&mut self, seat: &Seat) {
        self.listeners = self.listeners.saturating_sub(1);
        if seat.place != 0 {
            self.free.push(seat.place);
        }
        // Before the window lets go of what only this one had yet to take.
        let is_behind = self.is_behind(seat);
        if self.is_lost(seat) {
            self.lost = self.lost.saturating_sub(1);
        } else {
            self.window.leave(self.next(seat));
        }
        if is_behind {
            self.one_less_behind();
        }
        self.settle();
    }

    pub(super) fn has_listeners(&self) -> bool {
        self.listeners > 0
    }

    fn is_behind(&self, seat: &Seat) -> bool {
        let window_from = if self.records { self.window.from() } else { self.recorded_to };
        seat.is_behind || seat.at < window_from
    }

    /// Where in the window its next piece out of it begins.
    fn next(&self, seat: &Seat) -> usize {
        if self.is_behind(seat) { self.recorder.len() } else { seat.at }
    }

    fn one_less_behind(&mut self) {
        self.behind = self.behind.saturating_sub(1);
        if self.behind == 0 && !self.records {
            self.recorder.clear();
        }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.records && !self.recorder.add(&piece, self.recorded_bytes_max) {
            self.give_up();
        }
        if piece.is_empty() {
            return;
        }
        // Who is behind reads what was recorded, and this, too, if it was.
        let others = if self.records { self.behind } else { self.lost };
        self.window.push(piece, self.listeners.saturating_sub(others));
        if self.records {
            self.behind += self.window.shrink();
        } else if self.patience.is_zero() {
            self.lost += self.window.shrink();
        }
    }

    /// Until when to wait for the slowest; `None`: not now. Who is passed when patience is at its end
    /// has lost the answer.
    pub(super) fn waits_until(&mut self) -> Option<Instant> {
        self.settle();
        if !self.is_full() {
            return None;
        }
        let now = Instant::now();
        let until = *self.tried_since.get_or_insert(now) + self.patience;
        if now < until {
            return Some(until);
        }
        (self.patience, self.tried_since) = (Duration::ZERO, None);
        self.lost += self.window.shrink();
        None
    }

    /// Nobody waits any more: so much of the patience is used up.
    fn settle(&mut self) {
        if !self.is_full() {
            let tried = self.tried_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            self.patience = self.patience.saturating_sub(tried);
        }
    }

    /// The others have gone on without this listener.
    pub(super) fn is_lost(&self, seat: &Seat) -> bool {
        !self.records && self.next(seat) < self.window.from()
    }

    /// The next piece for a listener; `None`: it has had all there is.
    pub(super) fn take(&mut self, seat: &mut Seat) -> Option<Bytes> {
        if self.is_lost(seat) {
            return None;
        }
        seat.is_behind = self.is_behind(seat);
        let piece =
            if seat.is_behind { self.recorder.part(seat.at) } else { self.window.take(seat.at) }?;
        seat.at = seat.at.saturating_add(piece.len());
        if seat.is_behind && seat.at >= self.recorder.len() {
            seat.is_behind = false;
            self.one_less_behind();
        }
        self.settle();
        Some(piece)
    }

    pub(super) fn has_had_all(&self, seat: &Seat) -> bool {
        seat.at >= self.window.end()
    }

    /// The fastest has to wait for the slowest, as long as patience lasts. Not while the answer is
    /// recorded: that is bounded anyway, and storing it early serves everybody.
    pub(super) fn is_full(&self) -> bool {
        !self.records && !self.patience.is_zero() && self.window.is_full()
    }

    /// The answer has ended: pays, and stays for those who have not had all of it.
    pub(super) fn end(&mut self, end: End) {
        let Stage::Streaming(head, source) = mem::replace(&mut self.stage, Stage::Gone) else {
            return;
        };
        // Held until its answer is stored.
        let order = self.order.clone();
        let ending = order.as_ref().map(Order::ends);
        let is_late = ending.as_ref().is_some_and(|ending| ending.is_late);
        let is_whole = self.records && end == End::Complete && !is_late;
        let recording = is_whole.then(|| self.recorder.finish(self.behind > 0));
        if !is_whole {
            self.give_up();
        }
        self.ends_recording();
        let outcome = source.finish(end, recording);
        self.stage = Stage::Ended(head, end, outcome);
    }

    #[cfg(test)]
    pub(super) fn held_pieces(&self) -> usize {
        self.window.pieces()
    }
}
