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
mod look;
mod permit;
mod place;
mod taken_back;
mod tally;

use crate::meter::Holders;
use cost::Estimates;
use permit::Run;
use place::Place;
use smallvec::SmallVec;
use std::{
    future::Future,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};
use tally::Tally;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tollgate_cache::flight::Lift;
use tollgate_core::{
    class::ClassId,
    limit::AdaptiveLimit,
    scheduler::{self, Arrival, Grant, Scheduler, WaiterId},
};

pub use cost::{Like, Share};
pub use gate::{Gate, GateOwner};
pub use look::{ClassLook, LimitFrom, Look, Snapshot, TenantLook, Why};
pub use permit::Permit;
pub use tally::{Decided, RECENT, Refused};
pub use tollgate_cache::flight::Queued;
pub use tollgate_core::limit::Range;
pub use tollgate_core::scheduler::{Bounds, ClassCounts, ClassLimits, Classes, Shed, Way};

/// A call that wants to run.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub class: ClassId,
    /// The list that `class` is a place in.
    pub classes: &'a Arc<Classes>,
    /// A hash of the tenant, alike for all its calls.
    pub tenant: u64,
    /// The tenant's name, for who asks who waits.
    pub who: &'a str,
    /// The tenant's share among those of its class; 0 counts as 1.
    pub weight: u32,
    /// What it is thought to take is learned of these.
    pub like: Like,
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
    /// Instead, as many as the upstream's answers show that it can have.
    pub adaptive: Option<Range>,
    pub bounds: Bounds,
    pub share: Share,
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
    /// By place in the list in force.
    tallies: Vec<Tally>,
    /// `None`: the limit stands.
    adaptive: Option<AdaptiveLimit>,
    watched: taken_back::Watched,
    gate_owner: Option<GateOwner>,
}

#[derive(Debug, Default)]
struct Parked {
    waker: Option<Waker>,
    queued: Option<Queued>,
    who: Option<Arc<str>>,
}

/// What becomes of a call that arrives.
enum Arrived {
    Granted(Grant, Run),
    Waiting(Place),
    Refused(Refused),
}

/// Those to wake, and wakers to drop, once the lock is free.
type Wakers = SmallVec<[Waker; 4]>;

/// For a moment that no clock can name.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Admission {
    pub fn new(limits: Limits, classes: &Arc<Classes>) -> Arc<Self> {
        let adaptive = limits.adaptive.map(|range| AdaptiveLimit::new(range, 0));
        let limit = adaptive.as_ref().map(AdaptiveLimit::limit).or(limits.limit);
        let mut scheduler = Scheduler::new(limit, &[]);
        scheduler.set_bounds(limits.bounds, 0);
        scheduler.set_rules(&classes.after(None), classes.default_class(), 0);
        let classes = classes.clone();
        let tallies = classes.names().map(|_| Tally::default()).collect();
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
            tallies,
            adaptive,
            watched,
            gate_owner: None,
        };
        let state = Mutex::new(state);
        Arc::new(Self { epoch: Instant::now(), state, holders: Holders::default() })
    }

    /// Waits until the call may run. Dropped before that, it leaves its place.
    ///
    /// # Errors
    /// It may not, and when it should come back.
    pub async fn admit(self: &Arc<Self>, ask: Ask<'_>) -> Result<Permit, Refused> {
        let mut place = match self.arrive(ask) {
            Arrived::Granted(grant, run) => return Ok(self.permit(grant, run, None)),
            Arrived::Refused(refused) => return Err(refused),
            Arrived::Waiting(place) => place,
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
    }

    /// Changes how many run and wait at once. Those that run already are left alone.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|state, now_ns| {
            match (limits.adaptive, &mut state.adaptive) {
                (None, adaptive) => *adaptive = None,
                (Some(range), Some(adaptive)) => adaptive.set_range(range),
                (Some(range), None) => state.adaptive = Some(AdaptiveLimit::new(range, now_ns)),
            }
            let limit = state.adaptive.as_ref().map(AdaptiveLimit::limit).or(limits.limit);
            state.scheduler.set_limit(limit, now_ns);
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
            let list = classes.after(Some(&before));
            let mut were = std::mem::take(&mut state.tallies);
            let tally_of = |was: Option<ClassId>| were.get_mut(was?.place()).map(std::mem::take);
            let tallies = list.iter().map(|class| class.was).map(tally_of);
            state.tallies = tallies.map(Option::unwrap_or_default).collect();
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

    fn arrive(self: &Arc<Self>, ask: Ask<'_>) -> Arrived {
        let mut core_ask = scheduler::Ask {
            class: ask.class,
            tenant: ask.tenant,
            weight: ask.weight,
            deadline_ns: ask.deadline.map(|deadline| self.ns(deadline)),
            ..scheduler::Ask::default()
        };
        self.change(|state, now_ns| {
            if !Arc::ptr_eq(&state.classes, ask.classes) {
                core_ask.class = state.classes.translate(ask.class, ask.classes);
            }
            let class = core_ask.class;
            (core_ask.cost, core_ask.service_ns) = state.estimates.of(&ask.like, now_ns);
            match state.scheduler.arrive(&core_ask, now_ns) {
                Arrival::Waiting { waiter, expires_ns } => {
                    if let Some(queued) = &ask.queued {
                        queued.raise(Some(self.lift_of(waiter, ask.classes)));
                    }
                    let who = Some(Arc::from(ask.who));
                    state.park(waiter, Parked { waker: None, queued: ask.queued, who });
                    let (admission, kind) = (self.clone(), ask.like.kind);
                    let waiter = Some(waiter);
                    Arrived::Waiting(Place { admission, waiter, expires_ns, class, kind })
                }
                Arrival::Granted(grant) => {
                    state.tally(class, |tally| tally.recent.grant(grant.way(), now_ns));
                    let run = self.hand_out(state, Run::new(class, ask.like.kind), now_ns);
                    Arrived::Granted(grant, run)
                }
                Arrival::Shed(shed) => Arrived::Refused(state.refuse(class, shed, now_ns)),
            }
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
    fn hand_out(&self, state: &mut State, mut run: Run, now_ns: u64) -> Run {
        state.permits += 1;
        self.holders.add();
        run.began_ns = now_ns;
        run.inflight = u32::try_from(state.scheduler.inflight()).unwrap_or(u32::MAX);
        run
    }

    /// Of what was counted by [`Self::hand_out`].
    fn permit(self: &Arc<Self>, grant: Grant, run: Run, queue_wait: Option<Duration>) -> Permit {
        let holder = Some(self.holders.holder());
        let taken_back = self.watch(&grant);
        let admission = self.clone();
        Permit { admission, grant: Some(grant), queue_wait, holder, taken_back, run }
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

impl State {
    /// Counts for a class of the list in force.
    fn tally(&mut self, class: ClassId, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get_mut(class.place()) {
            count(tally);
        }
    }

    /// What one of that class is told that is turned away.
    fn refuse(&mut self, class: ClassId, shed: Shed, now_ns: u64) -> Refused {
        let mut seconds = 1;
        self.tally(class, |tally| {
            tally.recent.shed(shed, now_ns);
            // For how long these stay away is not for a crowd to say.
            if !matches!(shed, Shed::BreakerOpen | Shed::Draining) {
                seconds = tally.retry_after.refuse(now_ns);
            }
        });
        Refused { shed, retry_after: Duration::from_secs(seconds) }
    }

    fn park(&mut self, waiter: WaiterId, who: Parked) {
        if self.parked.len() <= waiter.idx() {
            self.parked.resize_with(waiter.idx() + 1, Parked::default);
        }
        if let Some(parked) = self.parked.get_mut(waiter.idx()) {
            *parked = who;
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

#[cfg(test)]
mod tests;
