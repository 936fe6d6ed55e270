//! Waiting, in paused time to the millisecond, and under real threads.

mod follow;
mod rights;

use super::*;
use std::{
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Wake},
};
use tokio::task::{JoinSet, yield_now};

const EMERGENCY: ClassLimits = ClassLimits {
    strict: true,
    queue_max: 2,
    max_wait: Duration::from_secs(60),
    ..ClassLimits::NOTHING_WAITS
};
const NORMAL: ClassLimits = ClassLimits {
    weight: 4,
    queue_max: 8,
    max_wait: Duration::from_secs(2),
    ..ClassLimits::NOTHING_WAITS
};
const BATCH: ClassLimits =
    ClassLimits { queue_max: 8, max_wait: Duration::from_secs(10), ..ClassLimits::NOTHING_WAITS };

static CLASSES: LazyLock<Arc<Classes>> =
    LazyLock::new(|| classes(&[("emergency", EMERGENCY), ("normal", NORMAL), ("batch", BATCH)]));

/// The second, or the only one, is the default.
fn classes(list: &[(&str, ClassLimits)]) -> Arc<Classes> {
    let default = ClassId::new(usize::from(1 < list.len())).unwrap();
    Classes::new(list.iter().map(|(name, limits)| (Arc::from(*name), *limits)), default)
}

fn up_to(limit: Option<NonZeroU32>) -> Limits {
    Limits { limit, ..Limits::default() }
}

fn admission(limit: u32) -> Arc<Admission> {
    Admission::new(up_to(NonZeroU32::new(limit)), &CLASSES)
}

fn ask(class: usize) -> Ask<'static> {
    ask_of(&CLASSES, class)
}

fn ask_of(classes: &Arc<Classes>, class: usize) -> Ask<'_> {
    let class = ClassId::new(class).unwrap();
    let like = Like::default();
    Ask { class, classes, tenant: 1, who: "ann", weight: 1, like, deadline: None, queued: None }
}

type Admitting<'a> = Pin<Box<dyn Future<Output = Result<Permit, Refused>> + Send + 'a>>;

/// An ask that was polled once and now waits.
async fn parked<'a>(admission: &'a Arc<Admission>, ask: Ask<'a>) -> Admitting<'a> {
    let mut admitting: Admitting<'_> = Box::pin(admission.admit(ask));
    std::future::poll_fn(|context| {
        assert!(admitting.as_mut().poll(context).is_pending(), "it did not wait");
        Poll::Ready(())
    })
    .await;
    admitting
}

fn counts(admission: &Admission) -> (u64, usize) {
    let snapshot = admission.snapshot();
    (snapshot.inflight, snapshot.waiting)
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_exactly_as_long_as_its_class_may() {
    let admission = admission(1);
    let _running = admission.admit(ask(1)).await.unwrap();
    for (class, max_wait) in [(0, EMERGENCY.max_wait), (1, NORMAL.max_wait), (2, BATCH.max_wait)] {
        let start = Instant::now();
        assert_eq!(admission.admit(ask(class)).await.unwrap_err(), Shed::QueueTimeout);
        assert_eq!(Instant::now() - start, max_wait);
    }
    assert_eq!(counts(&admission), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_caller() {
    let admission = admission(1);
    let _running = admission.admit(ask(1)).await.unwrap();
    let start = Instant::now();
    let patience = Duration::from_millis(700);
    let hurried = Ask { deadline: Some(start + patience), ..ask(1) };
    let shed = admission.admit(hurried.clone()).await.unwrap_err().shed;
    assert_eq!((shed, Instant::now() - start), (Shed::DeadlineUnmeetable, patience));
    // Its deadline is now: refused without waiting.
    let shed = admission.admit(hurried).await.unwrap_err().shed;
    assert_eq!((shed, Instant::now() - start), (Shed::DeadlineUnmeetable, patience));
}

#[tokio::test(start_paused = true)]
async fn the_next_runs_the_moment_a_permit_is_dropped_and_knows_its_wait() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    assert!(!running.has_waited());
    assert_eq!(running.queue_wait(), Duration::ZERO);
    let next = parked(&admission, ask(1)).await;
    time::advance(Duration::from_millis(1_500)).await;
    drop(running);
    // Its turn came now, though it comes for it only later.
    time::advance(Duration::from_millis(100)).await;
    let permit = next.await.unwrap();
    assert!(permit.has_waited());
    assert_eq!(permit.queue_wait(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_task_is_woken_by_the_release() {
    let admission = admission(1);
    let running = admission.admit(ask(0)).await.unwrap();
    let mut tasks = JoinSet::new();
    for class in [2, 1, 0] {
        let admission = admission.clone();
        tasks.spawn(async move { admission.admit(ask(class)).await.map(|_permit| class) });
        yield_now().await;
    }
    let start = Instant::now();
    drop(running);
    let mut order = Vec::new();
    while let Some(done) = tasks.join_next().await {
        order.push(done.unwrap().unwrap());
    }
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(Instant::now(), start);
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_leaves_its_place() {
    let admission = admission(1);
    let running = admission.admit(ask(0)).await.unwrap();
    let first = parked(&admission, ask(0)).await;
    let second = parked(&admission, ask(0)).await;
    assert_eq!(admission.admit(ask(0)).await.unwrap_err(), Shed::QueueFull);
    drop(first);
    let third = parked(&admission, ask(0)).await;
    drop(running);
    drop(second.await.unwrap());
    drop(third.await.unwrap());
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_granted_to_one_who_never_came_goes_to_the_next_at_once() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let never_comes = parked(&admission, ask(1)).await;
    let next = parked(&admission, ask(1)).await;
    drop(running);
    assert_eq!(counts(&admission), (1, 1));
    drop(never_comes);
    assert_eq!(counts(&admission), (1, 0));
    drop(next.await.unwrap());
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_flag_is_up_exactly_while_the_call_waits() {
    let admission = admission(1);
    let flags = [(); 4].map(|()| Queued::default());
    let flagged = |nth: usize, class| Ask { queued: Some(flags[nth].clone()), ..ask(class) };
    let up = || flags.each_ref().map(Queued::is_queued);

    let running = admission.admit(flagged(0, 1)).await.unwrap();
    assert_eq!(up(), [false; 4]);
    let granted = parked(&admission, flagged(1, 1)).await;
    let dropped = parked(&admission, flagged(2, 1)).await;
    let expired = parked(&admission, flagged(3, 1)).await;
    assert_eq!(up(), [false, true, true, true]);
    drop(running);
    assert_eq!(up(), [false, false, true, true], "granted, though not yet taken");
    drop(dropped);
    assert_eq!(up(), [false, false, false, true]);
    let _running = granted.await.unwrap();
    assert_eq!(expired.await.unwrap_err(), Shed::QueueTimeout);
    assert_eq!(up(), [false; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_is_exact_without_another_call() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let _old = parked(&admission, ask(2)).await;
    time::advance(Duration::from_millis(1_500)).await;
    let _young = parked(&admission, ask(1)).await;
    let class = |inflight, waiting| ClassCounts { inflight, waiting, waiting_cost: waiting as u64 };
    let expected = Snapshot {
        limit: NonZeroU32::new(1),
        inflight: 1,
        waiting: 2,
        oldest_wait: Some(Duration::from_millis(1_500)),
        classes: CLASSES.clone(),
        counts: vec![class(0, 0), class(1, 1), class(0, 1)],
        leaked: 0,
        queued_tokens: 0,
        lifted: 0,
        preempted: 0,
    };
    assert_eq!(admission.snapshot(), expected);
    // Nobody polls the waiters; their time passes all the same.
    time::advance(Duration::from_secs(9)).await;
    assert_eq!(counts(&admission), (1, 0));
    assert_eq!(admission.snapshot().oldest_wait, None);
    drop(running);
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_sheds_the_new_and_runs_the_queued() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let queued = parked(&admission, ask(1)).await;
    admission.drain();
    assert_eq!(admission.admit(ask(0)).await.unwrap_err(), Shed::Draining);
    drop(running);
    drop(queued.await.unwrap());
    assert_eq!(admission.admit(ask(0)).await.unwrap_err(), Shed::Draining);
}

#[tokio::test(start_paused = true)]
async fn the_limit_changes_live() {
    let admission = admission(1);
    let first = admission.admit(ask(1)).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(parked(&admission, ask(1)).await);
    }
    admission.set_limits(up_to(NonZeroU32::new(3)));
    assert_eq!(counts(&admission), (3, 1));
    admission.set_limits(up_to(NonZeroU32::new(1)));
    drop(first);
    assert_eq!(counts(&admission), (2, 1), "above the limit nothing starts");
    admission.set_limits(up_to(None));
    assert_eq!(counts(&admission), (3, 0));
    for waiter in waiting {
        drop(waiter.await.unwrap());
    }
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn under_other_classes_a_call_waits_behind_the_one_that_runs() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let others = classes(&[("gold", NORMAL), ("silver", NORMAL)]);
    admission.set_classes(&others);
    let second = parked(&admission, ask_of(&others, 0)).await;
    assert_eq!(counts(&admission), (1, 1));
    drop(running);
    drop(second.await.unwrap());
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn new_patience_holds_for_those_who_wait_already() {
    for max_wait in [Duration::from_millis(500), Duration::from_secs(5)] {
        let admission = admission(1);
        let _running = admission.admit(ask(1)).await.unwrap();
        let start = Instant::now();
        let waits = admission.admit(ask(1));
        let changes = async {
            time::advance(Duration::from_millis(100)).await;
            let normal = ClassLimits { max_wait, ..NORMAL };
            admission.set_classes(&classes(&[("normal", normal)]));
        };
        let (shed, ()) = tokio::join!(waits, changes);
        assert_eq!(shed.unwrap_err(), Shed::QueueTimeout);
        assert_eq!(Instant::now() - start, max_wait);
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_of_an_older_list_is_known_by_its_name() {
    let admission = admission(1);
    let _running = admission.admit(ask(1)).await.unwrap();
    admission.set_classes(&classes(&[("batch", BATCH), ("other", NORMAL), ("emergency", NORMAL)]));
    let mut waiting = Vec::new();
    for (class, expected) in [(0, [0, 0, 1]), (2, [1, 0, 1]), (1, [1, 1, 1]), (7, [2, 1, 1])] {
        waiting.push(parked(&admission, ask(class)).await);
        let waits: Vec<_> = admission.snapshot().counts.iter().map(|it| it.waiting).collect();
        assert_eq!(waits, expected, "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nobody_waits_and_all_are_counted() {
    let admission = Admission::new(up_to(None), &CLASSES);
    let mut permits = Vec::new();
    for nth in 0..300 {
        permits.push(admission.admit(ask(nth % 3)).await.unwrap());
    }
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.limit, snapshot.inflight, snapshot.waiting), (None, 300, 0));
    assert!(snapshot.counts.iter().all(|class| class.inflight == 100));
    drop(permits);
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_outlives_its_call_is_noticed_and_stays_noticed() {
    let admission = admission(2);
    let leaked = || admission.snapshot().leaked;
    let mut kept = admission.admit(ask(1)).await.unwrap();
    let call = kept.holder();
    let mut lost = admission.admit(ask(1)).await.unwrap();
    let other_call = lost.holder();
    let waits = parked(&admission, ask(1)).await;
    assert!(lost.holder().is_none(), "one permit, one call");
    std::mem::forget(lost);
    assert_eq!(leaked(), 0, "its call may yet give it back");

    drop(other_call);
    assert_eq!(leaked(), 1);
    drop((kept, call));
    drop(waits.await.unwrap());
    assert_eq!(leaked(), 1);
    assert_eq!(counts(&admission), (1, 0), "the slot is gone");
}

/// Wakers run foreign code when woken and when dropped; both may come back here.
#[tokio::test(start_paused = true)]
async fn a_waker_may_come_back_to_the_admission_that_wakes_or_drops_it() {
    struct Meddler(Arc<Admission>, AtomicU64);
    impl Wake for Meddler {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.snapshot().inflight, Ordering::Relaxed);
        }
    }
    impl Drop for Meddler {
        fn drop(&mut self) {
            self.0.snapshot();
        }
    }

    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let meddler = || Arc::new(Meddler(admission.clone(), AtomicU64::new(0)));
    let mut waiter: Admitting<'_> = Box::pin(admission.admit(ask(1)));
    let last = meddler();
    for waker in [meddler(), meddler(), last.clone()] {
        let waker = Waker::from(waker);
        assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(running);
    assert_eq!(last.1.load(Ordering::Relaxed), 1);
    drop(waiter);
    assert_eq!(counts(&admission), (0, 0));
}

/// Goal: no permit is lost and none is made up, whatever threads and cancellation do.
/// Method: many tasks ask on real threads, some hang up after one poll, the limit
/// and the classes change under them; whoever runs counts how many run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_on_real_threads_no_permit_is_missing() {
    const LIMIT_MAX: u32 = 4;
    let patient = ClassLimits { queue_max: 1_000, max_wait: Duration::from_secs(600), ..NORMAL };
    let strict = ClassLimits { strict: true, ..patient };
    let lists = [
        classes(&[("emergency", strict), ("normal", patient), ("batch", patient)]),
        classes(&[("batch", strict), ("new", patient)]),
    ];
    let admission = Admission::new(up_to(NonZeroU32::new(LIMIT_MAX)), &lists[0]);
    let running = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for nth in 0..64_usize {
        let (admission, running, lists) = (admission.clone(), running.clone(), lists.clone());
        tasks.spawn(async move {
            let mut completed = 0_usize;
            for round in 0..300_usize {
                let dice = (nth * 31 + round * 17) % 13;
                let tenant = u64::from(nth % 5 == 0);
                let ask = Ask { tenant, ..ask_of(&lists[round % 2], dice % 3) };
                let permit = if dice < 4 {
                    tokio::select! {
                        biased;
                        permit = admission.admit(ask) => permit,
                        () = yield_now() => continue,
                    }
                } else {
                    admission.admit(ask).await
                };
                let permit = permit.expect("there is room and time enough for all");
                assert!(running.fetch_add(1, Ordering::SeqCst) < LIMIT_MAX);
                if dice % 2 == 0 {
                    yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                completed += 1;
                if dice == 7 {
                    let limit = u32::try_from(round).unwrap() % LIMIT_MAX + 1;
                    admission.set_limits(up_to(NonZeroU32::new(limit)));
                    admission.set_classes(&lists[nth % 2]);
                }
            }
            completed
        });
    }
    let mut completed = 0;
    while let Some(done) = tasks.join_next().await {
        completed += done.unwrap();
    }
    assert!(64 * 300 / 2 < completed, "most of them ran");
    let snapshot = admission.snapshot();
    assert_eq!((snapshot.inflight, snapshot.waiting, snapshot.leaked), (0, 0, 0));
    assert!(snapshot.counts.iter().all(|counts| *counts == ClassCounts::default()));
}
