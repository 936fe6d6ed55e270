//! The order of calls, case by case.

mod bounds;
mod look;
mod rights;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

const WEIGHTED: ClassRules =
    ClassRules { queue_max: 10_000, max_wait_ns: 60 * SECOND_NS, ..ClassRules::NOTHING_WAITS };

fn limit(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

fn ask(class: usize, tenant: u64) -> Ask {
    Ask { class: ClassId::new(class).unwrap(), tenant, cost: 1, ..Ask::default() }
}

#[track_caller]
fn granted(arrival: Arrival) -> Grant {
    match arrival {
        Arrival::Granted(grant) => grant,
        Arrival::Waiting { .. } | Arrival::Shed(_) => panic!("expected a grant, got {arrival:?}"),
    }
}

#[track_caller]
fn waiting(arrival: Arrival) -> WaiterId {
    match arrival {
        Arrival::Waiting { waiter, .. } => waiter,
        Arrival::Granted(_) | Arrival::Shed(_) => panic!("expected a place, got {arrival:?}"),
    }
}

#[track_caller]
fn shed(arrival: Arrival) -> Shed {
    match arrival {
        Arrival::Shed(shed) => shed,
        Arrival::Waiting { .. } | Arrival::Granted(_) => panic!("expected a shed, got {arrival:?}"),
    }
}

/// One slot, taken, and asks waiting behind it; in which order do they run?
fn order(rules: &[ClassRules], asks: &[Ask]) -> Vec<usize> {
    let mut scheduler = Scheduler::new(limit(1), rules);
    let mut running = granted(scheduler.arrive(&ask(0, 999), 0));
    let waiters: Vec<_> = asks.iter().map(|ask| waiting(scheduler.arrive(ask, 0))).collect();
    let mut order = Vec::new();
    for _ in asks {
        scheduler.release(running, 0);
        let next = scheduler.next_settled().unwrap();
        let Turn::Granted { grant, .. } = scheduler.turn(next, 0) else { panic!("not granted") };
        running = grant;
        order.push(waiters.iter().position(|waiter| *waiter == next).unwrap());
    }
    order
}

#[test]
fn the_strict_class_goes_first_whenever_it_came() {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let asks = [ask(1, 0), ask(1, 0), ask(0, 0), ask(0, 0)];
    assert_eq!(order(&[strict, WEIGHTED], &asks), [2, 3, 0, 1]);
}

#[test]
fn strict_is_honoured_for_the_first_class_only() {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let asks = [ask(1, 0), ask(1, 0), ask(0, 0), ask(0, 0)];
    let as_weighted = order(&[WEIGHTED, WEIGHTED], &asks);
    assert_eq!(order(&[WEIGHTED, strict], &asks), as_weighted);
}

#[test]
fn tenants_take_turns() {
    let asks = [ask(0, 7), ask(0, 7), ask(0, 7), ask(0, 8), ask(0, 9), ask(0, 8)];
    assert_eq!(order(&[WEIGHTED], &asks), [0, 3, 4, 1, 5, 2]);
}

/// `I6`: while both wait, no class gets ahead of another by more than one call
/// of each, in units of its share; so over any stretch the shares are the weights.
#[test]
fn i6_backlogged_classes_share_by_weight() {
    let weights = [8, 4, 1];
    let rules = weights.map(|weight| ClassRules { weight, ..WEIGHTED });
    for slots in [1, 3, 8] {
        let mut scheduler = Scheduler::new(limit(slots), &rules);
        let mut running = VecDeque::new();
        for class in (0..3).cycle().take(3 * 2_000) {
            match scheduler.arrive(&ask(class, 1), 0) {
                Arrival::Granted(grant) => running.push_back(grant),
                Arrival::Waiting { .. } => {}
                Arrival::Shed(shed) => panic!("{shed}"),
            }
        }
        let mut served = [0_u32; 3];
        while scheduler.class_counts().all(|class| 0 < class.waiting) {
            scheduler.release(running.pop_front().unwrap(), 0);
            let Turn::Granted { grant, .. } = scheduler
                .next_settled()
                .map(|next| {
                    served[scheduler.waiters.waiter(next).unwrap().place] += 1;
                    scheduler.turn(next, 0)
                })
                .unwrap()
            else {
                panic!("not granted")
            };
            running.push_back(grant);
            for (i, j) in [(0, 1), (0, 2), (1, 2)] {
                let share = |place: usize| f64::from(served[place]) / f64::from(weights[place]);
                let bound = 1.0 / f64::from(weights[i]) + 1.0 / f64::from(weights[j]);
                let apart = (share(i) - share(j)).abs();
                // The slots that were filled before anybody waited count as well.
                assert!(apart <= bound * f64::from(slots) + 1e-6, "{i} and {j}: {served:?}");
            }
        }
        assert!(1_900 < served[0], "the test ended early: {served:?}");
    }
}

#[test]
fn a_class_that_was_idle_neither_owes_nor_owns() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    for _ in 0..1_000 {
        let grant = granted(scheduler.arrive(&ask(1, 0), 0));
        scheduler.release(grant, 0);
    }
    let mut running = granted(scheduler.arrive(&ask(1, 0), 0));
    for class in [0, 0, 0, 1, 1, 1] {
        waiting(scheduler.arrive(&ask(class, 0), 0));
    }
    let mut places = Vec::new();
    for _ in 0..6 {
        scheduler.release(running, 0);
        let next = scheduler.next_settled().unwrap();
        places.push(scheduler.waiters.waiter(next).unwrap().place);
        let Turn::Granted { grant, .. } = scheduler.turn(next, 0) else { panic!("not granted") };
        running = grant;
    }
    assert_eq!(places, [0, 0, 1, 0, 1, 1]);
}

#[test]
fn of_classes_that_return_together_the_more_important_goes_first() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED; 3]);
    for class in [1, 0, 0, 0, 2, 2, 2, 2, 2, 2] {
        let grant = granted(scheduler.arrive(&ask(class, 0), 0));
        scheduler.release(grant, 0);
    }
    let running = granted(scheduler.arrive(&ask(2, 0), 0));
    waiting(scheduler.arrive(&ask(1, 0), 0));
    let first = waiting(scheduler.arrive(&ask(0, 0), 0));
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(first));
}

#[test]
fn a_name_is_never_used_twice() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 0), 0));
    let leaves = waiting(scheduler.arrive(&ask(0, 0), 0));
    let granted = waiting(scheduler.arrive(&ask(0, 0), 0));
    scheduler.release(running, 0);
    scheduler.leave(leaves, 0);
    let new = waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(new.idx(), leaves.idx(), "the place in the table is used again");
    assert_ne!(new, leaves);
    // The one who left was settled and not told; the new one must not be told instead.
    assert_eq!(scheduler.next_settled(), Some(granted));
    assert_eq!(scheduler.next_settled(), None);
}

#[test]
fn a_dear_call_uses_up_more_of_the_share() {
    let dear = Ask { cost: 3, ..ask(0, 0) };
    let asks = [dear, dear, ask(1, 0), ask(1, 0), ask(1, 0), ask(1, 0)];
    // Class 0 ran the call before them, so class 1 begins.
    assert_eq!(order(&[WEIGHTED, WEIGHTED], &asks), [2, 0, 3, 4, 5, 1]);
}

#[test]
fn a_deadline_that_has_passed_is_refused_at_once() {
    let mut scheduler = Scheduler::new(None, &[WEIGHTED]);
    let late = Ask { deadline_ns: Some(5), ..ask(0, 0) };
    assert_eq!(shed(scheduler.arrive(&late, 5)), Shed::DeadlineUnmeetable);
    assert_eq!(scheduler.inflight(), 0);
}

#[test]
fn the_reason_tells_the_callers_patience_from_ours() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    let ours = waiting(scheduler.arrive(&ask(0, 0), 0));
    let theirs = waiting(scheduler.arrive(&Ask { deadline_ns: Some(9), ..ask(0, 0) }, 0));
    assert!(matches!(scheduler.turn(theirs, 8), Turn::Waiting { .. }));
    assert!(matches!(scheduler.turn(theirs, 9), Turn::Shed(Shed::DeadlineUnmeetable)));
    assert!(matches!(scheduler.turn(ours, 60 * SECOND_NS - 1), Turn::Waiting { .. }));
    assert!(matches!(scheduler.turn(ours, 60 * SECOND_NS), Turn::Shed(Shed::QueueTimeout)));
}

#[test]
fn a_full_queue_sheds_but_those_whose_time_passed_do_not_fill_it() {
    let rules = ClassRules { queue_max: 1, max_wait_ns: 10, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(shed(scheduler.arrive(&ask(0, 0), 9)), Shed::QueueFull);
    waiting(scheduler.arrive(&ask(0, 0), 10));
}

#[test]
fn where_nothing_may_wait_a_busy_slot_sheds_and_a_free_one_does_not() {
    for (rules, reason) in [
        (ClassRules { queue_max: 0, ..WEIGHTED }, Shed::QueueFull),
        (ClassRules { max_wait_ns: 0, ..WEIGHTED }, Shed::QueueTimeout),
    ] {
        let mut scheduler = Scheduler::new(limit(1), &[rules]);
        let running = granted(scheduler.arrive(&ask(0, 0), 0));
        assert_eq!(shed(scheduler.arrive(&ask(0, 0), 0)), reason);
        scheduler.release(running, 0);
        let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    }
}

#[test]
fn a_slot_granted_to_one_who_left_goes_on_in_the_same_call() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 0), 0));
    let leaves = waiting(scheduler.arrive(&ask(0, 0), 0));
    let next = waiting(scheduler.arrive(&ask(0, 0), 0));
    scheduler.release(running, 3);
    assert_eq!(scheduler.next_settled(), Some(leaves));
    scheduler.leave(leaves, 5);
    assert_eq!(scheduler.next_settled(), Some(next));
    assert!(matches!(scheduler.turn(next, 5), Turn::Granted { waited_ns: 5, .. }));
    assert_eq!(scheduler.inflight(), 1);
}

#[test]
fn a_lower_limit_waits_for_those_who_run() {
    let mut scheduler = Scheduler::new(limit(3), &[WEIGHTED]);
    let mut running: Vec<_> = (0..3).map(|_| granted(scheduler.arrive(&ask(0, 0), 0))).collect();
    let waiter = waiting(scheduler.arrive(&ask(0, 0), 0));
    scheduler.set_limit(limit(1), 0);
    for _ in 0..2 {
        scheduler.release(running.pop().unwrap(), 0);
        assert_eq!(scheduler.next_settled(), None);
    }
    scheduler.release(running.pop().unwrap(), 0);
    assert_eq!(scheduler.next_settled(), Some(waiter));
}

#[test]
fn without_a_limit_everybody_who_waits_runs() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    let waiters: Vec<_> = (0..5).map(|_| waiting(scheduler.arrive(&ask(0, 0), 0))).collect();
    scheduler.set_limit(None, 0);
    let settled: Vec<_> = std::iter::from_fn(|| scheduler.next_settled()).collect();
    assert_eq!(settled, waiters);
    assert_eq!(scheduler.inflight(), 6);
}

#[test]
fn a_class_nobody_configured_is_the_last_one() {
    let mut scheduler = Scheduler::new(None, &[WEIGHTED, WEIGHTED]);
    let _running = granted(scheduler.arrive(&ask(7, 0), 0));
    let inflight: Vec<_> = scheduler.class_counts().map(|class| class.inflight).collect();
    assert_eq!(inflight, [0, 1]);
    let _running = granted(Scheduler::new(limit(1), &[]).arrive(&ask(7, 0), 0));
}

/// A million names cost no more lines than a few thousand, and nobody's second
/// call overtakes his first while that stands in a shared line.
#[test]
fn above_the_limit_tenants_share_lines_in_order() {
    let n_tenants = 2 * lines::TENANTS_MAX;
    let rules = ClassRules { queue_max: usize::MAX, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let mut running = granted(scheduler.arrive(&ask(0, 0), 0));
    let mut tenant_of = std::collections::HashMap::new();
    let mut served = vec![Vec::new(); n_tenants];
    for nth in 0..2 {
        // Those in the shared lines call again first, while there is room for lines of one's own.
        for tenant in (0..n_tenants).map(|n| if nth == 0 { n } else { n_tenants - 1 - n }) {
            let ask = ask(0, u64::try_from(tenant).unwrap());
            tenant_of.insert(waiting(scheduler.arrive(&ask, 0)), (tenant, nth));
        }
        assert!(scheduler.classes[0].queue.lines_len() <= lines::TENANTS_MAX + 128);
        // After the first round: enough to leave room for lines of one's own again.
        let n_served = if nth == 0 { lines::TENANTS_MAX } else { 3 * lines::TENANTS_MAX };
        for _ in 0..n_served {
            scheduler.release(running, 0);
            let next = scheduler.next_settled().unwrap();
            let Turn::Granted { grant, .. } = scheduler.turn(next, 0) else {
                panic!("not granted")
            };
            running = grant;
            let (tenant, nth) = tenant_of.remove(&next).unwrap();
            served[tenant].push(nth);
        }
    }
    assert!(served.iter().all(|served| *served == [0, 1]));
}

const fn goes_on(was: usize, rules: ClassRules) -> (Option<usize>, ClassRules) {
    (Some(was), rules)
}

fn set_rules(scheduler: &mut Scheduler, list: &[(Option<usize>, ClassRules)], now_ns: u64) {
    let list: Vec<_> = list
        .iter()
        .map(|(was, rules)| NewClass { rules: *rules, was: was.and_then(ClassId::new) })
        .collect();
    scheduler.set_rules(&list, ClassId::default(), now_ns);
}

/// Runs all that wait, one at a time; in which order they were granted.
fn run_all(scheduler: &mut Scheduler, mut running: Grant, now_ns: u64) -> Vec<WaiterId> {
    let mut order = Vec::new();
    while 0 < scheduler.waiting() {
        scheduler.release(running, now_ns);
        let next = scheduler.next_settled().unwrap();
        let Turn::Granted { grant, .. } = scheduler.turn(next, now_ns) else {
            panic!("not granted")
        };
        running = grant;
        order.push(next);
    }
    order
}

#[test]
fn under_new_rules_who_runs_counts_on_and_nobody_runs_beside_it() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    set_rules(&mut scheduler, &[(None, WEIGHTED), (None, WEIGHTED), (None, WEIGHTED)], 0);
    let second = waiting(scheduler.arrive(&ask(2, 0), 0));
    let inflight: Vec<_> = scheduler.class_counts().map(|class| class.inflight).collect();
    assert_eq!(inflight, [1, 0, 0], "the default class answers for a class that is gone");
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(second));
    let inflight: Vec<_> = scheduler.class_counts().map(|class| class.inflight).collect();
    assert_eq!(inflight, [0, 0, 1]);
}

#[test]
fn who_waits_follows_its_class_and_keeps_its_turn() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 9), 0));
    // The loud one's turn has passed when the rules change.
    let loud: Vec<_> = (0..3).map(|_| waiting(scheduler.arrive(&ask(1, 7), 0))).collect();
    let quiet = waiting(scheduler.arrive(&ask(1, 8), 0));
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(loud[0]));
    let Turn::Granted { grant, .. } = scheduler.turn(loud[0], 0) else { panic!("not granted") };

    set_rules(&mut scheduler, &[goes_on(1, WEIGHTED), goes_on(0, WEIGHTED)], 0);

    let waits: Vec<_> = scheduler.class_counts().map(|class| class.waiting).collect();
    assert_eq!(waits, [3, 0]);
    assert_eq!(run_all(&mut scheduler, grant, 0), [quiet, loud[1], loud[2]]);
}

#[test]
fn who_waits_in_a_class_that_is_gone_joins_the_default_in_the_order_of_arrival() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 9), 0));
    let waiters: Vec<_> =
        [0, 1, 1, 0, 1].map(|class| waiting(scheduler.arrive(&ask(class, 0), 0))).into();
    set_rules(&mut scheduler, &[goes_on(0, WEIGHTED)], 0);
    assert_eq!(run_all(&mut scheduler, running, 0), waiters);
}

#[test]
fn a_class_that_becomes_strict_goes_first_at_once() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 0), 0));
    let [first, last] = [(); 2].map(|()| waiting(scheduler.arrive(&ask(0, 0), 0)));
    let [urgent, urgent_too] = [(); 2].map(|()| waiting(scheduler.arrive(&ask(1, 0), 0)));
    let strict = ClassRules { strict: true, ..WEIGHTED };
    set_rules(&mut scheduler, &[goes_on(1, strict), goes_on(0, WEIGHTED)], 0);
    let order = run_all(&mut scheduler, running, 0);
    assert_eq!(order, [urgent, urgent_too, first, last]);
}

#[test]
fn a_shorter_queue_and_less_patience_hold_for_those_who_wait_already() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    let waiters: Vec<_> = (0..4).map(|n| waiting(scheduler.arrive(&ask(0, 0), n * 10))).collect();
    let shorter = ClassRules { queue_max: 2, max_wait_ns: 35, ..WEIGHTED };
    set_rules(&mut scheduler, &[goes_on(0, shorter)], 40);
    let turns: Vec<_> = waiters.iter().map(|waiter| scheduler.turn(*waiter, 40)).collect();
    assert!(
        matches!(
            turns[..],
            [
                Turn::Shed(Shed::QueueTimeout),
                Turn::Waiting { expires_ns: 45 },
                Turn::Waiting { expires_ns: 55 },
                Turn::Shed(Shed::QueueFull),
            ]
        ),
        "{turns:?}"
    );
}

/// A class that comes and goes with calls still running leaves no seat behind.
#[test]
fn seats_are_used_again() {
    let mut scheduler = Scheduler::new(None, &[WEIGHTED]);
    for _ in 0..100 {
        let running = granted(scheduler.arrive(&ask(0, 0), 0));
        set_rules(&mut scheduler, &[(None, WEIGHTED)], 0);
        scheduler.release(running, 0);
    }
    assert!(scheduler.seats.len() <= 2, "{:?}", scheduler.seats);
}
