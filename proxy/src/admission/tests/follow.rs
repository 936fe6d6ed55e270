//! What is learned of calls that ran: how long to stay away, what a deadline can be held against,
//! how many can run; and what is told of those who wait.

use super::*;
use http::StatusCode;
use tollgate_core::{estimate::Kind, limit};

/// One that runs for so long to the head of its answer, and ends with it.
async fn runs(admission: &Arc<Admission>, ask: Ask<'_>, ms: u64, status: StatusCode) {
    let mut permit = admission.admit(ask).await.unwrap();
    time::advance(Duration::from_millis(ms)).await;
    permit.headed(status);
    permit.spent(None, true);
}

fn of_kind(kind: u64) -> Ask<'static> {
    let kind = Kind { tenant: kind, model: kind, route: kind };
    Ask { like: Like { kind, ..Like::default() }, ..ask(1) }
}

async fn within(admission: &Arc<Admission>, kind: u64, ms: u64) -> Result<Permit, Refused> {
    let deadline = Some(Instant::now() + Duration::from_millis(ms));
    admission.admit(Ask { deadline, ..of_kind(kind) }).await
}

#[tokio::test(start_paused = true)]
async fn who_is_turned_away_is_told_to_stay_away_for_longer_while_others_are_too() {
    let admission = admission(1);
    let running = admission.admit(ask(0)).await.unwrap();
    let _waiting = (parked(&admission, ask(0)).await, parked(&admission, ask(0)).await);
    let told = async |class: usize| {
        let refused = admission.admit(ask(class)).await.unwrap_err();
        assert_eq!(refused, Shed::QueueFull);
        refused.retry_after.as_secs()
    };
    let mut seconds = Vec::new();
    for _ in 0..8 {
        for _ in 0..2 {
            told(0).await;
        }
        seconds.push(told(0).await);
        time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(seconds, [1, 2, 2, 4, 4, 4, 4, 8]);
    // Another class is another crowd.
    let other = admission.look().classes[1].retry_after;
    assert_eq!(other, Duration::from_secs(1));
    // Under other lists it goes on for the class of that name.
    admission.set_classes(&classes(&[("new", NORMAL), ("emergency", EMERGENCY)]));
    let times: Vec<_> =
        admission.look().classes.iter().map(|it| it.retry_after.as_secs()).collect();
    assert_eq!(times, [1, 8]);
    time::advance(Duration::from_secs(600)).await;
    assert_eq!(admission.look().classes[1].retry_after.as_secs(), 1);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_taken_back_and_one_whose_patience_ends_are_counted_and_told_a_time() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let refused = admission.admit(ask(1)).await.unwrap_err();
    assert_eq!((refused.shed, refused.retry_after.as_secs()), (Shed::QueueTimeout, 1));
    assert_eq!(running.refused(), Shed::Preempted);
    drop(parked(&admission, ask(1)).await);
    let decided = admission.look().classes[1].decided;
    assert_eq!((decided.shed, decided.left), ([0, 0, 1, 0, 1, 0, 0], 1));
    assert_eq!(decided.granted.iter().sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_answered_in_time_is_refused_before_it_runs() {
    let admission = Admission::new(up_to(None), &CLASSES);
    for _ in 0..20 {
        runs(&admission, of_kind(1), 400, StatusCode::OK).await;
        runs(&admission, of_kind(2), 10, StatusCode::OK).await;
    }
    let start = Instant::now();
    assert_eq!(within(&admission, 1, 100).await.unwrap_err(), Shed::DeadlineUnmeetable);
    assert_eq!(Instant::now(), start, "at once");
    drop(within(&admission, 1, 500).await.unwrap());
    drop(within(&admission, 2, 100).await.unwrap());
    drop(within(&admission, 3, 1).await.unwrap());
    // Nobody has seen it for a while: it may have become faster.
    time::advance(Duration::from_secs(11)).await;
    drop(within(&admission, 1, 100).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_at_once_makes_no_service_look_fast() {
    let admission = Admission::new(up_to(None), &CLASSES);
    for _ in 0..20 {
        runs(&admission, of_kind(1), 400, StatusCode::OK).await;
        runs(&admission, of_kind(1), 1, StatusCode::INTERNAL_SERVER_ERROR).await;
        drop(admission.admit(of_kind(1)).await.unwrap());
    }
    assert_eq!(within(&admission, 1, 100).await.unwrap_err(), Shed::DeadlineUnmeetable);
}

fn between(min: u32, max: u32) -> Limits {
    let range = |n| NonZeroU32::new(n).unwrap();
    let adaptive = Some(Range { min: range(min), max: range(max) });
    Limits { adaptive, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_limit_follows_what_the_upstream_says_and_a_reload_takes_it_over() {
    let admission = Admission::new(between(2, 100), &CLASSES);
    let limit = || admission.snapshot().limit.unwrap().get();
    assert_eq!(limit(), 8);
    runs(&admission, ask(1), 5, StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(limit(), 7);
    let source = admission.look().limit_from;
    let LimitFrom::Answers { range, why } = source else { panic!("{source:?}") };
    assert_eq!((range.max.get(), why), (100, limit::Why::BackedOff));
    runs(&admission, ask(1), 5, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(limit(), 6);
    runs(&admission, ask(1), 5, StatusCode::INTERNAL_SERVER_ERROR).await;
    assert_eq!(limit(), 6, "what is broken is not full");
    // Other bounds leave what was learned, a limit in its place does not.
    admission.set_limits(between(2, 50));
    assert_eq!(limit(), 6);
    admission.set_limits(between(2, 4));
    assert_eq!(limit(), 4);
    admission.set_limits(up_to(NonZeroU32::new(3)));
    assert_eq!((limit(), admission.look().limit_from), (3, LimitFrom::Configuration));
    admission.set_limits(between(2, 100));
    assert_eq!(limit(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_limit_rises_while_more_is_answered_in_the_same_time_and_lets_those_who_wait_run() {
    let admission = Admission::new(between(1, 20), &CLASSES);
    let mut runs = Vec::new();
    // As many as may, each 100 ms, whatever runs beside it.
    for _ in 0..400 {
        while (runs.len() as u64) < u64::from(admission.snapshot().limit.unwrap().get()) {
            runs.push(admission.admit(ask(1)).await.unwrap());
        }
        time::advance(Duration::from_millis(100)).await;
        for mut permit in runs.drain(..) {
            permit.headed(StatusCode::OK);
            permit.spent(None, true);
        }
        if admission.snapshot().limit == NonZeroU32::new(20) {
            return;
        }
    }
    panic!("{:?}", admission.look().limit_from);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_by_tenant_with_how_long_and_for_what() {
    let admission = admission(1);
    let running = admission.admit(ask(1)).await.unwrap();
    let of = |who, tenant, class| Ask { who, tenant, ..ask(class) };
    let mut waiting = vec![parked(&admission, of("ann", 1, 1)).await];
    time::advance(Duration::from_millis(500)).await;
    for (who, tenant, class) in [("bob", 2, 1), ("bob", 2, 1), ("ann", 1, 2)] {
        waiting.push(parked(&admission, of(who, tenant, class)).await);
    }
    let look = admission.look();
    assert_eq!((look.snapshot.waiting, look.waiting_cost, look.waiting_left), (4, 4, 0));
    let tenants = |class: usize| -> Vec<_> {
        let tenants = look.classes[class].tenants.iter();
        tenants.map(|it| (&*it.tenant, it.waiting, it.oldest_wait.as_millis())).collect()
    };
    assert_eq!(tenants(1), [("bob", 2, 0), ("ann", 1, 500)]);
    assert_eq!(tenants(2), [("ann", 1, 0)]);
    assert_eq!(look.classes[1].oldest_wait, Some(Duration::from_millis(500)));
    let why: Vec<_> = look.classes.iter().map(|class| class.why).collect();
    assert_eq!(why, [None, Some(Why::Limit), Some(Why::Limit)]);
    drop((running, waiting));
    assert!(admission.look().classes.iter().all(|class| class.tenants.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn however_many_tenants_wait_few_are_named_and_the_others_counted() {
    let long = ClassLimits { queue_max: 1_000, ..NORMAL };
    let admission =
        Admission::new(up_to(NonZeroU32::new(1)), &classes(&[("a", long), ("normal", long)]));
    let list = admission.snapshot().classes;
    let names: Vec<_> = (0..200).map(|nth| format!("tenant-{nth}")).collect();
    let _running = admission.admit(ask_of(&list, 1)).await.unwrap();
    let mut waiting = Vec::new();
    for (name, tenant) in names.iter().zip(0_u64..) {
        waiting.push(parked(&admission, Ask { who: name, tenant, ..ask_of(&list, 1) }).await);
    }
    let class = &admission.look().classes[1];
    assert_eq!((class.tenants.len(), class.tenants_left), (20, 180));
}
