//! Caps, floors, reserve, what a tenant owes, being lifted and being taken back.

use super::*;
use crate::scheduler::lines::LINES_SHARED;

/// Releases one; who of those that wait starts?
fn next(scheduler: &mut Scheduler, running: Grant, now_ns: u64) -> (WaiterId, Grant) {
    scheduler.release(running, now_ns);
    taken(scheduler, now_ns)
}

#[track_caller]
fn taken(scheduler: &mut Scheduler, now_ns: u64) -> (WaiterId, Grant) {
    let next = scheduler.next_settled().expect("somebody's turn");
    match scheduler.turn(next, now_ns) {
        Turn::Granted { grant, .. } => (next, grant),
        turn @ (Turn::Waiting { .. } | Turn::Shed(_)) => panic!("expected a grant, got {turn:?}"),
    }
}

#[test]
fn a_capped_class_leaves_the_rest_to_the_others() {
    let strict = ClassRules { strict: true, max: NonZeroU32::new(1), ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(2), &[strict, WEIGHTED]);
    let first = granted(scheduler.arrive(&ask(0, 0), 0));
    let urgent = waiting(scheduler.arrive(&ask(0, 0), 0));
    let _other = granted(scheduler.arrive(&ask(1, 0), 0));
    assert_eq!(next(&mut scheduler, first, 0).0, urgent);
}

#[test]
fn a_class_below_its_floor_goes_before_those_with_more_weight() {
    let rules = [ClassRules { weight: 100, ..WEIGHTED }, ClassRules { floor: 1, ..WEIGHTED }];
    let mut scheduler = Scheduler::new(limit(1), &rules);
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    let waiters: Vec<_> = [0, 0, 1, 1].map(|n| waiting(scheduler.arrive(&ask(n, 0), 0))).into();
    let (who, running) = next(&mut scheduler, running, 0);
    assert_eq!((who, running.way()), (waiters[2], Way::Floor));
    scheduler.set_limit(limit(2), 0);
    let (who, also) = taken(&mut scheduler, 0);
    assert_eq!((who, also.way()), (waiters[0], Way::Share));
    assert_eq!(next(&mut scheduler, running, 0).0, waiters[3]);
}

#[test]
fn reserved_slots_stay_free_for_the_strict_class() {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(2), &[strict, WEIGHTED]);
    scheduler.set_bounds(Bounds { reserve: 1, ..Bounds::default() }, 0);
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    let patient = waiting(scheduler.arrive(&ask(1, 0), 0));
    let urgent = granted(scheduler.arrive(&ask(0, 0), 0));
    scheduler.release(urgent, 0);
    assert_eq!(scheduler.next_settled(), None);
    assert_eq!(next(&mut scheduler, running, 0).0, patient);
    // All of them cannot be kept: somebody else must run some time.
    scheduler.set_bounds(Bounds { reserve: 9, ..Bounds::default() }, 0);
    let mut scheduler = Scheduler::new(limit(2), &[strict, WEIGHTED]);
    scheduler.set_bounds(Bounds { reserve: 9, ..Bounds::default() }, 0);
    let _running = granted(scheduler.arrive(&ask(1, 0), 0));
}

#[test]
fn what_a_call_took_in_truth_is_charged_to_its_tenant_and_class() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(0, 7), 0));
    let waiters: Vec<_> = [(0, 7), (0, 8), (0, 8), (1, 9), (1, 9), (1, 9)]
        .map(|(class, tenant)| waiting(scheduler.arrive(&ask(class, tenant), 0)))
        .into();
    // Thought to cost 1, it took 3: its class and its tenant stand back for as much.
    scheduler.release_settled(running, 3, 0);
    let (who, running) = taken(&mut scheduler, 0);
    let order: Vec<_> = std::iter::once(who).chain(run_all(&mut scheduler, running, 0)).collect();
    let place = |waiter: &WaiterId| waiters.iter().position(|other| other == waiter).unwrap();
    let order: Vec<_> = order.iter().map(place).collect();
    assert_eq!(order, [3, 4, 5, 1, 2, 0]);
}

#[test]
fn what_was_granted_and_never_ran_costs_nothing() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED, WEIGHTED]);
    let dear = Ask { cost: 1_000, ..ask(0, 7) };
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    let leaves = waiting(scheduler.arrive(&dear, 0));
    let stays = waiting(scheduler.arrive(&ask(0, 7), 0));
    let other = waiting(scheduler.arrive(&ask(1, 0), 0));
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(leaves));
    scheduler.leave(leaves, 0);
    let (who, running) = taken(&mut scheduler, 0);
    assert_eq!(who, stays);
    assert_eq!(next(&mut scheduler, running, 0).0, other);
}

/// One call at a time, each dear, must not get more than many that are cheap.
#[test]
fn coming_back_is_no_better_than_waiting() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let dear = Ask { cost: 10, ..ask(0, 7) };
    let mut running = granted(scheduler.arrive(&ask(0, 0), 0));
    let mut back = waiting(scheduler.arrive(&dear, 0));
    for _ in 0..200 {
        waiting(scheduler.arrive(&ask(0, 8), 0));
    }
    let mut n_dear = 0;
    for _ in 0..110 {
        let (who, grant) = next(&mut scheduler, running, 0);
        running = grant;
        if who == back {
            n_dear += 1;
            back = waiting(scheduler.arrive(&dear, 0));
        }
    }
    assert!((10..=11).contains(&n_dear), "{n_dear} of 110");
}

#[test]
fn a_tenant_with_twice_the_weight_gets_twice_the_turns() {
    let asks: Vec<_> = (0..9)
        .map(|nth| if nth < 6 { Ask { weight: 2, ..ask(0, 7) } } else { ask(0, 8) })
        .collect();
    let order = order(&[WEIGHTED], &asks);
    let heavy = order[..6].iter().filter(|nth| **nth < 6).count();
    assert_eq!(heavy, 4, "{order:?}");
}

/// Above the limit a loud tenant fills one line; others find one of their hand without it.
#[test]
fn above_the_limit_a_loud_tenant_is_alone_in_its_line() {
    let rules = ClassRules { queue_max: usize::MAX, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let running = granted(scheduler.arrive(&ask(0, 0), 0));
    let n_own = u64::try_from(lines::TENANTS_MAX).unwrap();
    for tenant in 1..n_own {
        waiting(scheduler.arrive(&ask(0, tenant), 0));
    }
    let loud: Vec<_> = (0..1_000).map(|_| waiting(scheduler.arrive(&ask(0, 1 << 40), 0))).collect();
    let quiet: Vec<_> =
        (0..50).map(|nth| waiting(scheduler.arrive(&ask(0, (1 << 40) + 1 + nth), 0))).collect();
    let lines = n_own + 1 + LINES_SHARED;
    assert!(scheduler.classes[0].queue.lines_len() <= usize::try_from(lines).unwrap());
    let order = run_all(&mut scheduler, running, 0);
    let place = |waiter| order.iter().position(|other| *other == waiter).unwrap();
    let last_quiet = quiet.into_iter().map(place).max().unwrap();
    assert!(last_quiet < place(loud[5]), "{last_quiet}");
}

#[test]
fn who_is_lifted_goes_with_the_more_important_and_keeps_its_own_patience() {
    let strict = ClassRules { strict: true, max_wait_ns: 10, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[strict, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    let ahead = waiting(scheduler.arrive(&ask(1, 0), 0));
    let leader = waiting(scheduler.arrive(&ask(1, 0), 0));
    assert!(scheduler.lift(leader, ClassId::default(), 50));
    assert!(!scheduler.lift(leader, ClassId::default(), 50), "it is as important already");
    assert!(!scheduler.lift(leader, ClassId::new(1).unwrap(), 50), "nobody is lowered");
    let waits: Vec<_> = scheduler.class_counts().map(|class| class.waiting).collect();
    assert_eq!(waits, [1, 1]);
    let (who, running) = next(&mut scheduler, running, 60);
    assert_eq!((who, running.way()), (leader, Way::Strict));
    assert!(!scheduler.lift(leader, ClassId::default(), 60), "it runs");
    assert_eq!(next(&mut scheduler, running, 60).0, ahead);
}

#[test]
fn nobody_is_lifted_into_a_class_that_is_full() {
    let strict = ClassRules { strict: true, queue_max: 0, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[strict, WEIGHTED]);
    let running = granted(scheduler.arrive(&ask(1, 0), 0));
    let leader = waiting(scheduler.arrive(&ask(1, 0), 0));
    assert!(!scheduler.lift(leader, ClassId::default(), 0));
    assert_eq!(next(&mut scheduler, running, 0).0, leader);
}

fn with_preemption(of_each_second: u32) -> Scheduler {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let batch = ClassRules { preemptible: true, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(4), &[strict, WEIGHTED, batch]);
    scheduler.set_bounds(Bounds { preempt_per_s: of_each_second, ..Bounds::default() }, 0);
    scheduler
}

#[test]
fn the_newest_that_nobody_has_seen_anything_of_is_taken_back() {
    let mut scheduler = with_preemption(9);
    let _normal = granted(scheduler.arrive(&ask(1, 0), 0));
    let [oldest, middle, newest] = [(); 3].map(|()| granted(scheduler.arrive(&ask(2, 0), 0)));
    assert!(scheduler.begin(&newest));
    let urgent = waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(scheduler.next_victim(), Some(middle.run()));
    assert_eq!(scheduler.next_victim(), None, "one for one");
    assert!(!scheduler.begin(&middle), "too late");
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(scheduler.next_victim(), Some(oldest.run()));
    assert_eq!(next(&mut scheduler, middle, 0).0, urgent);
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(scheduler.next_victim(), None, "nobody is left who may be taken back");
}

#[test]
fn so_many_are_taken_back_in_a_second_and_by_default_none() {
    let mut scheduler = with_preemption(1);
    let running: Vec<_> = (0..4).map(|_| granted(scheduler.arrive(&ask(2, 0), 0))).collect();
    for _ in 0..2 {
        waiting(scheduler.arrive(&ask(0, 0), 0));
    }
    assert!(scheduler.next_victim().is_some());
    assert_eq!(scheduler.next_victim(), None);
    scheduler.set_limit(limit(4), SECOND_NS);
    assert!(scheduler.next_victim().is_some());
    assert_eq!(running.len(), 4);

    let mut scheduler = with_preemption(0);
    let _running: Vec<_> = (0..4).map(|_| granted(scheduler.arrive(&ask(2, 0), 0))).collect();
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(scheduler.next_victim(), None);
}
