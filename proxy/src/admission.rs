//! Waits on behalf of a call until the [`Scheduler`] lets it run.
//!
//! All decisions are the scheduler's; this module owns what it must not know: the
//! lock, the clock, the wakers and the timer of those who wait.
//!
//! One mutex around plain data and no task of its own: nothing can back up in a
//! mailbox, and a slot is handed on in the very call that gives it back. The lock
//! is never held while anybody is woken or any waker is dropped, because either
//! may run code that comes back here.
//!
//! A call that need not wait allocates nothing and starts no timer.

mod cost;
mod gate;
mod permit;
mod taken_back;

use crate::meter::Holders;
use cost::Estimates;
use smallvec::SmallVec;
use std::{
    future::Future,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tollgate_cache::flight::Lift;
use tollgate_core::{
    class::ClassId,
    scheduler::{self, Arrival, Grant, Scheduler, Turn, WaiterId},
};

pub use cost::Share;
pub use gate::{Gate, GateOwner};
pub use permit::Permit;
pub use tollgate_cache::flight::Queued;
pub use tollgate_core::scheduler::{Bounds, ClassCounts, ClassLimits, Classes, Shed, Way};

/// A call that wants to run.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub class: ClassId,
    /// The list that `class` is a place in.
    pub classes: &'a Arc<Classes>,
    /// A hash of the tenant, alike for all its calls.
    pub tenant: u64,
    /// When the caller stops caring. It is not started at or after that moment.
    pub deadline: Option<Instant>,
    /// Raised exactly while this call waits in the queue, with a way to move it forward.
    pub queued: Option<Queued>,
}

/// The calls that run and wait at one upstream.
#[derive(Debug)]
pub struct Admission {
    /// What the scheduler counts its nanoseconds from.
    epoch: Instant,
    state: Mutex<State>,
    /// The calls that permits were given to: never fewer than permits that are out.
    holders: Holders,
}

/// What holds for all calls at one upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many run at once; `None`: without a limit nothing queues, but all is counted.
    pub limit: Option<NonZeroU32>,
    pub bounds: Bounds,
    pub share: Share,
}

/// How things stand at one moment, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `None`: as many run as arrive.
    pub limit: Option<NonZeroU32>,
    pub inflight: u64,
    pub waiting: usize,
    /// How long the one waits that waits longest.
    pub oldest_wait: Option<Duration>,
    /// The list in force.
    pub classes: Arc<Classes>,
    /// Of each class of the list.
    pub counts: Vec<ClassCounts>,
    /// Permits whose call is over and that did not come back: the most there ever were.
    pub leaked: u64,
    /// What those that wait are thought to take, where the upstream is shared by tokens.
    pub queued_tokens: u64,
    /// Waiters that went on in a more important class, for somebody who depends on them.
    pub lifted: u64,
    /// Calls that were taken back for a more important one.
    pub preempted: u64,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    /// What the scheduler's places mean.
    classes: Arc<Classes>,
    /// By [`WaiterId::idx`].
    parked: Vec<Parked>,
    /// Permits that are out.
    permits: u64,
    /// See [`Snapshot::leaked`].
    leaked: u64,
    lifted: u64,
    preempted: u64,
    estimates: Estimates,
    watched: taken_back::Watched,
    gate_owner: Option<GateOwner>,
}

#[derive(Debug, Default)]
struct Parked {
    waker: Option<Waker>,
    queued: Option<Queued>,
}

/// A place in the queue. Dropped, it is given up, and so is a grant nobody took.
#[derive(Debug)]
struct Place {
    admission: Arc<Admission>,
    /// `None` once it was told what became of it.
    waiter: Option<WaiterId>,
    /// As it was told last.
    expires_ns: u64,
}

/// Those to wake, and wakers to drop, once the lock is free.
type Wakers = SmallVec<[Waker; 4]>;

/// For a moment that no clock can name.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Admission {
    pub fn new(limits: Limits, classes: &Arc<Classes>) -> Arc<Self> {
        let mut scheduler = Scheduler::new(limits.limit, &[]);
        scheduler.set_bounds(limits.bounds, 0);
        scheduler.set_rules(&classes.after(None), classes.default_class(), 0);
        let classes = classes.clone();
        let parked = Vec::new();
        let watched = Vec::new();
        let (permits, leaked, lifted, preempted) = (0, 0, 0, 0);
        let state = State {
            scheduler,
            classes,
            parked,
            permits,
            leaked,
            lifted,
            preempted,
            estimates: Estimates::new(limits.share),
            watched,
            gate_owner: None,
        };
        let state = Mutex::new(state);
        Arc::new(Self { epoch: Instant::now(), state, holders: Holders::default() })
    }

    /// Waits until the call may run. Dropped before that, it leaves its place.
    pub async fn admit(self: &Arc<Self>, ask: Ask<'_>) -> Result<Permit, Shed> {
        let class = ask.class;
        let (arrival, share) = self.arrive(ask);
        let learns = (share != Share::Calls).then_some(class);
        let mut place = match arrival {
            Arrival::Granted(grant) => return Ok(self.permit(grant, None).learning(learns)),
            Arrival::Shed(shed) => return Err(shed),
            Arrival::Waiting { waiter, expires_ns } => {
                Place { admission: self.clone(), waiter: Some(waiter), expires_ns }
            }
        };
        let mut rings_ns = place.expires_ns;
        let mut time_is_up = pin!(time::sleep_until(self.moment(rings_ns)));
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(settled) = place.poll(context, false) {
                    return Poll::Ready(settled);
                }
                if rings_ns != place.expires_ns {
                    rings_ns = place.expires_ns;
                    time_is_up.as_mut().reset(self.moment(rings_ns));
                }
                std::task::ready!(time_is_up.as_mut().poll(context));
                if let Poll::Ready(settled) = place.poll(context, true) {
                    return Poll::Ready(settled);
                }
                // New rules gave it more time at this very moment.
            }
        })
        .await
        .map(|permit| permit.learning(learns))
    }

    /// How things stand now. Those whose time has passed do not count, even if
    /// their timer is yet to tell them.
    pub fn snapshot(&self) -> Snapshot {
        self.change(|state, now_ns| {
            // A holder goes after its permit, and permits go under this lock.
            let astray = state.permits.saturating_sub(self.holders.len());
            state.leaked = state.leaked.max(astray);
            let scheduler = &mut state.scheduler;
            scheduler.expire(now_ns);
            let oldest_ns = scheduler.oldest_arrival_ns();
            Snapshot {
                limit: scheduler.limit(),
                inflight: scheduler.inflight(),
                waiting: scheduler.waiting(),
                oldest_wait: oldest_ns
                    .map(|oldest_ns| Duration::from_nanos(now_ns.saturating_sub(oldest_ns))),
                classes: state.classes.clone(),
                counts: scheduler.class_counts().collect(),
                leaked: state.leaked,
                queued_tokens: match state.estimates.share {
                    Share::Tokens => scheduler.waiting_cost(),
                    Share::Calls | Share::Time => 0,
                },
                lifted: state.lifted,
                preempted: state.preempted,
            }
        })
    }

    /// Changes how many run and wait at once. Those that run already are left alone.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|state, now_ns| {
            state.scheduler.set_limit(limits.limit, now_ns);
            state.scheduler.set_bounds(limits.bounds, now_ns);
            if state.estimates.share != limits.share {
                state.estimates = Estimates::new(limits.share);
            }
        });
    }

    /// Puts another list of classes into force. Those that run are left alone; those that
    /// wait do so under the new rules, in the class of the same name or else the default.
    pub fn set_classes(&self, classes: &Arc<Classes>) {
        let wakers = self.change(|state, now_ns| {
            if Arc::ptr_eq(&state.classes, classes) {
                return Wakers::new();
            }
            let before = std::mem::replace(&mut state.classes, classes.clone());
            // By place, and the places are others.
            state.estimates = Estimates::new(state.estimates.share);
            let list = classes.after(Some(&before));
            state.scheduler.set_rules(&list, classes.default_class(), now_ns);
            state.all_parked()
        });
        // Their timers ring at another time now.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on every new call is [`Shed::Draining`]; those that wait keep
    /// their places and run.
    pub fn drain(&self) {
        self.change(|state, _| state.scheduler.drain());
    }

    fn arrive(self: &Arc<Self>, ask: Ask<'_>) -> (Arrival, Share) {
        let mut core_ask = scheduler::Ask {
            class: ask.class,
            tenant: ask.tenant,
            cost: 0,
            deadline_ns: ask.deadline.map(|deadline| self.ns(deadline)),
            ..scheduler::Ask::default()
        };
        self.change(|state, now_ns| {
            if !Arc::ptr_eq(&state.classes, ask.classes) {
                core_ask.class = state.classes.translate(ask.class, ask.classes);
            }
            core_ask.cost = state.estimates.of(core_ask.class);
            let arrival = state.scheduler.arrive(&core_ask, now_ns);
            match &arrival {
                Arrival::Waiting { waiter, .. } => {
                    if let Some(queued) = &ask.queued {
                        queued.raise(Some(self.lift_of(*waiter, ask.classes)));
                    }
                    state.park(*waiter, ask.queued);
                }
                Arrival::Granted(_) => self.hand_out(state),
                Arrival::Shed(_) => {}
            }
            (arrival, state.estimates.share)
        })
    }

    /// Moves one who waits forward, for whoever depends on it.
    fn lift_of(self: &Arc<Self>, waiter: WaiterId, classes: &Arc<Classes>) -> Lift {
        let (admission, classes) = (Arc::downgrade(self), classes.clone());
        Arc::new(move |class| {
            admission.upgrade().is_some_and(|admission| admission.lift(waiter, class, &classes))
        })
    }

    fn lift(&self, waiter: WaiterId, mut class: ClassId, classes: &Arc<Classes>) -> bool {
        self.change(|state, now_ns| {
            if !Arc::ptr_eq(&state.classes, classes) {
                class = state.classes.translate(class, classes);
            }
            let is_lifted = state.scheduler.lift(waiter, class, now_ns);
            state.lifted += u64::from(is_lifted);
            is_lifted
        })
    }

    /// Counts a permit and its holder, both at once and under the lock.
    fn hand_out(&self, state: &mut State) {
        state.permits += 1;
        self.holders.add();
    }

    /// Of what was counted by [`Self::hand_out`].
    fn permit(self: &Arc<Self>, grant: Grant, queue_wait: Option<Duration>) -> Permit {
        let holder = Some(self.holders.holder());
        let taken_back = self.watch(&grant);
        let admission = self.clone();
        Permit { admission, grant: Some(grant), queue_wait, holder, taken_back, learns: None }
    }

    /// Every change goes through here: under the lock, then wakes whom it settled.
    fn change<R>(&self, change: impl FnOnce(&mut State, u64) -> R) -> R {
        let (result, wakers, victims) = {
            let mut state = self.lock();
            // Read under the lock, so that the scheduler's time never goes back.
            let now_ns = self.now_ns();
            let result = change(&mut state, now_ns);
            (result, state.settled(), state.victims())
        };
        wakers.into_iter().for_each(Waker::wake);
        victims.iter().for_each(CancellationToken::cancel);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The scheduler is whole between any two of its calls, and nothing else panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self, at_ns: u64) -> Instant {
        let since = Duration::from_nanos(at_ns);
        self.epoch.checked_add(since).unwrap_or_else(|| Instant::now() + FAR)
    }

    fn now_ns(&self) -> u64 {
        self.ns(Instant::now())
    }

    fn ns(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Snapshot {
    /// Each class in force by its name, most important first.
    pub fn by_class(&self) -> impl Iterator<Item = (&Arc<str>, &ClassCounts)> {
        self.classes.names().zip(&self.counts)
    }
}

impl State {
    fn park(&mut self, waiter: WaiterId, queued: Option<Queued>) {
        if self.parked.len() <= waiter.idx() {
            self.parked.resize_with(waiter.idx() + 1, Parked::default);
        }
        if let Some(parked) = self.parked.get_mut(waiter.idx()) {
            *parked = Parked { waker: None, queued };
        }
    }

    /// Whom to wake when this waiter is settled. Returns a waker to drop outside.
    fn wake_later(&mut self, waiter: WaiterId, waker: &Waker) -> Option<Waker> {
        let parked = self.parked.get_mut(waiter.idx())?;
        match &parked.waker {
            Some(parked) if parked.will_wake(waker) => None,
            Some(_) | None => parked.waker.replace(waker.clone()),
        }
    }

    /// It waits no more, one way or another. Returns its waker.
    fn unpark(&mut self, waiter: WaiterId) -> Option<Waker> {
        let parked = self.parked.get_mut(waiter.idx()).map(std::mem::take)?;
        if let Some(queued) = parked.queued {
            queued.lower();
        }
        parked.waker
    }

    /// Everybody who waits; each parks again when it looks.
    fn all_parked(&mut self) -> Wakers {
        self.parked.iter_mut().filter_map(|parked| parked.waker.take()).collect()
    }

    fn settled(&mut self) -> Wakers {
        let mut wakers = Wakers::new();
        while let Some(waiter) = self.scheduler.next_settled() {
            wakers.extend(self.unpark(waiter));
        }
        wakers
    }
}

impl Place {
    fn poll(&mut self, context: &mut Context<'_>, time_is_up: bool) -> Poll<Result<Permit, Shed>> {
        let Some(waiter) = self.waiter else { return Poll::Pending };
        let rung_ns = self.expires_ns;
        let admission = &self.admission;
        let (turn, _unused_waker) = admission.change(|state, now_ns| {
            // A timer that rang is the proof; a coarse clock must not contradict it.
            let now_ns = if time_is_up { now_ns.max(rung_ns) } else { now_ns };
            let turn = state.scheduler.turn(waiter, now_ns);
            if let Turn::Granted { .. } = &turn {
                admission.hand_out(state);
            }
            let waker = match &turn {
                Turn::Waiting { .. } => state.wake_later(waiter, context.waker()),
                Turn::Granted { .. } | Turn::Shed(_) => state.unpark(waiter),
            };
            (turn, waker)
        });
        let settled = match turn {
            Turn::Waiting { expires_ns } => {
                self.expires_ns = expires_ns;
                return Poll::Pending;
            }
            Turn::Granted { grant, waited_ns } => {
                let queue_wait = Duration::from_nanos(waited_ns);
                Ok(self.admission.permit(grant, Some(queue_wait)))
            }
            Turn::Shed(shed) => Err(shed),
        };
        self.waiter = None;
        Poll::Ready(settled)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            let _unused_waker = self.admission.change(|state, now_ns| {
                state.scheduler.leave(waiter, now_ns);
                state.unpark(waiter)
            });
        }
    }
}

#[cfg(test)]
mod tests;
