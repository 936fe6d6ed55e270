//! What calls take in truth, being taken back, and being lifted.

use super::*;
use http::StatusCode;
use tollgate_core::usage::Usage;

async fn run(tenant: u64, admitting: Admitting<'_>, order: &Mutex<Vec<u64>>) {
    let _permit = admitting.await.unwrap();
    order.lock().unwrap().push(tenant);
}

/// In which order two tenants run whose calls count alike until the first has ended.
async fn order_after(share: Share, end: impl AsyncFn(Permit)) -> [u64; 3] {
    let admission = Admission::new(Limits { share, ..up_to(NonZeroU32::new(1)) }, &CLASSES);
    let loud = admission.admit(Ask { tenant: 7, ..ask(2) }).await.unwrap();
    let waiting = [7, 8, 8].map(|tenant| Box::pin(admission.admit(Ask { tenant, ..ask(2) })));
    let order = Mutex::new(Vec::new());
    let [first, second, third] = waiting;
    let ((), (), (), ()) = tokio::join!(
        biased;
        run(7, first, &order),
        run(8, second, &order),
        run(8, third, &order),
        end(loud),
    );
    order.into_inner().unwrap().try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_call_took_in_truth_decides_whose_turn_it_is() {
    let dear = Usage { input: 100, output: 9_000, ..Usage::default() };
    let by = |share, usage: Usage, is_whole| {
        order_after(share, async move |mut permit: Permit| {
            permit.headed(StatusCode::OK);
            permit.spent(Some(&usage), is_whole);
        })
    };
    assert_eq!(by(Share::Calls, dear, true).await, [8, 7, 8]);
    assert_eq!(by(Share::Tokens, dear, true).await, [8, 8, 7]);
    assert_eq!(by(Share::Tokens, dear, false).await, [8, 7, 8], "half an answer is as thought");
    let held = |ms| {
        order_after(Share::Time, async move |permit: Permit| {
            time::advance(Duration::from_millis(ms)).await;
            drop(permit);
        })
    };
    assert_eq!(held(1_900).await, [8, 8, 7]);
}

fn preempting(of_each_second: u32) -> Arc<Admission> {
    let batch = ClassLimits { preemptible: true, ..BATCH };
    let list = classes(&[("emergency", EMERGENCY), ("normal", NORMAL), ("batch", batch)]);
    let bounds = Bounds { preempt_per_s: of_each_second, ..Bounds::default() };
    Admission::new(Limits { bounds, ..up_to(NonZeroU32::new(1)) }, &list)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_taken_back_hears_of_it_and_gives_up_its_place() {
    let admission = preempting(1);
    let batch = admission.admit(ask(2)).await.unwrap();
    let taken_back = batch.taken_back().unwrap().clone();
    let urgent = parked(&admission, ask(0)).await;
    assert!(taken_back.is_cancelled());
    assert_eq!(batch.begin().unwrap_err(), Shed::Preempted, "nothing of it may go out any more");
    assert_eq!(admission.snapshot().preempted, 1);
    drop(batch);
    drop(urgent.await.unwrap());
    assert_eq!(counts(&admission), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_begun_or_was_never_asked_for_is_not_taken_back() {
    let admission = preempting(9);
    let batch = admission.admit(ask(2)).await.unwrap();
    let taken_back = batch.taken_back().unwrap().clone();
    assert_eq!(batch.begin(), Ok(()));
    let urgent = parked(&admission, ask(0)).await;
    assert!(!taken_back.is_cancelled());
    drop((urgent, batch));
    // By default nobody is.
    let admission = preempting(0);
    let batch = admission.admit(ask(2)).await.unwrap();
    assert!(batch.taken_back().is_none());
    let _urgent = parked(&admission, ask(0)).await;
    assert_eq!(admission.snapshot().preempted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_lifted_by_whoever_depends_on_it() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let flag = Queued::default();
    let leader = parked(&admission, Ask { queued: Some(flag.clone()), ..ask(2) }).await;
    let other = parked(&admission, ask(1)).await;
    assert!(flag.lift(ClassId::default()));
    assert!(!flag.lift(ClassId::default()), "it is as important already");
    assert_eq!(admission.snapshot().lifted, 1);
    drop(running);
    drop(leader.await.unwrap());
    assert!(!flag.lift(ClassId::default()), "it runs");
    drop(other.await.unwrap());
}
