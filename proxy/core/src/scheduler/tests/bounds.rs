//! Who leaves when there are too many, and what the budget and the clock let through.

use super::*;
use std::num::NonZeroU64;

fn settled(scheduler: &mut Scheduler) -> Vec<(WaiterId, Turn)> {
    let ids: Vec<_> = std::iter::from_fn(|| scheduler.next_settled()).collect();
    ids.into_iter().map(|id| (id, scheduler.turn(id, 0))).collect()
}

/// The only one who was settled, and was pushed out.
#[track_caller]
fn pushed_out(scheduler: &mut Scheduler) -> WaiterId {
    match settled(scheduler)[..] {
        [(who, Turn::Shed(Shed::PushedOut))] => who,
        ref other => panic!("expected one pushed out, got {other:?}"),
    }
}

fn dear(class: usize, tenant: u64, cost: u64) -> Ask {
    Ask { cost, ..ask(class, tenant) }
}

#[test]
fn a_full_class_pushes_out_the_newest_of_its_costliest_tenant() {
    let rules = ClassRules { queue_max: 4, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    for _ in 0..2 {
        waiting(scheduler.arrive(&ask(0, 7), 0));
    }
    waiting(scheduler.arrive(&dear(0, 8, 9), 0));
    let newest = waiting(scheduler.arrive(&dear(0, 8, 1), 0));
    waiting(scheduler.arrive(&ask(0, 9), 0));
    assert_eq!(pushed_out(&mut scheduler), newest);
    // Whoever is the costliest with its newcomer is told so itself.
    assert_eq!(shed(scheduler.arrive(&dear(0, 8, 1), 0)), Shed::QueueFull);
    assert_eq!(scheduler.waiting(), 4);
}

#[test]
fn twice_the_weight_may_have_twice_as_much_waiting() {
    let rules = ClassRules { queue_max: 5, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    for _ in 0..3 {
        waiting(scheduler.arrive(&Ask { weight: 2, ..ask(0, 7) }, 0));
    }
    let light: Vec<_> = (0..2).map(|_| waiting(scheduler.arrive(&ask(0, 8), 0))).collect();
    waiting(scheduler.arrive(&ask(0, 9), 0));
    assert_eq!(pushed_out(&mut scheduler), light[1]);
}

#[test]
fn a_class_is_full_by_cost_as_well() {
    let rules = ClassRules { queue_cost_max: 10, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    waiting(scheduler.arrive(&dear(0, 7, 4), 0));
    let dearest = waiting(scheduler.arrive(&dear(0, 8, 6), 0));
    waiting(scheduler.arrive(&dear(0, 7, 1), 0));
    assert_eq!(pushed_out(&mut scheduler), dearest);
    assert_eq!(shed(scheduler.arrive(&dear(0, 9, 11), 0)), Shed::QueueFull);
    assert_eq!(scheduler.waiting_cost(), 5);
}

#[test]
fn where_all_together_are_too_many_the_least_important_pay() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED; 3]);
    scheduler.set_bounds(Bounds { queue_max: 2, ..Bounds::default() }, 0);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    let middle = waiting(scheduler.arrive(&ask(1, 0), 0));
    let lowest = waiting(scheduler.arrive(&ask(2, 0), 0));
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(pushed_out(&mut scheduler), lowest);
    assert_eq!(shed(scheduler.arrive(&ask(2, 1), 0)), Shed::QueueFull);
    waiting(scheduler.arrive(&ask(0, 0), 0));
    assert_eq!(pushed_out(&mut scheduler), middle);
    assert_eq!(shed(scheduler.arrive(&ask(0, 0), 0)), Shed::QueueFull);
}

#[test]
fn a_shorter_queue_for_all_sheds_the_latest() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED; 2]);
    let _running = granted(scheduler.arrive(&ask(0, 0), 0));
    let waiters: Vec<_> = [1, 0, 1].map(|n| waiting(scheduler.arrive(&ask(n, 0), 0))).into();
    scheduler.set_bounds(Bounds { queue_max: 2, ..Bounds::default() }, 0);
    let turns = settled(&mut scheduler);
    assert!(
        matches!(turns[..], [(who, Turn::Shed(Shed::QueueFull))] if who == waiters[2]),
        "{turns:?}"
    );
}

#[test]
fn where_the_first_has_waited_too_long_the_newest_goes_first() {
    let rules = ClassRules { lifo_target_ns: 10, ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(1), &[rules]);
    let running = granted(scheduler.arrive(&ask(0, 0), 0));
    let [first, second, third] = [0, 1, 2].map(|at| waiting(scheduler.arrive(&ask(0, 0), at)));
    scheduler.release(running, 11);
    assert_eq!(scheduler.next_settled(), Some(third));
    let Turn::Granted { grant, .. } = scheduler.turn(third, 11) else { panic!("not granted") };
    assert_eq!(grant.way(), Way::NewestFirst);
    scheduler.leave(first, 11);
    scheduler.release(grant, 11);
    assert_eq!(scheduler.next_settled(), Some(second));
    let Turn::Granted { grant, .. } = scheduler.turn(second, 11) else { panic!("not granted") };
    assert_eq!(grant.way(), Way::Share, "the only one is the first and the newest");
}

#[test]
fn a_call_that_could_not_end_in_time_is_not_started() {
    let mut scheduler = Scheduler::new(limit(1), &[WEIGHTED]);
    let long = Ask { deadline_ns: Some(10), service_ns: 6, ..ask(0, 0) };
    assert_eq!(shed(scheduler.arrive(&long, 5)), Shed::DeadlineUnmeetable);
    let running = granted(scheduler.arrive(&long, 3));
    let waiter = waiting(scheduler.arrive(&long, 3));
    scheduler.release(running, 4);
    assert!(matches!(scheduler.turn(waiter, 4), Turn::Shed(Shed::DeadlineUnmeetable)));
}

fn with_budget(budget: u64, rules: &[ClassRules]) -> Scheduler {
    let mut scheduler = Scheduler::new(limit(100), rules);
    let budget = NonZeroU64::new(budget);
    scheduler.set_bounds(Bounds { budget, ..Bounds::default() }, 0);
    scheduler
}

#[test]
fn a_head_that_does_not_fit_the_budget_stops_those_after_it() {
    let mut scheduler = with_budget(10, &[WEIGHTED, WEIGHTED]);
    let running = granted(scheduler.arrive(&dear(0, 0, 6), 0));
    let dearer = waiting(scheduler.arrive(&dear(0, 1, 5), 0));
    let cheap = waiting(scheduler.arrive(&dear(0, 2, 1), 0));
    assert_eq!(scheduler.next_settled(), None);
    scheduler.release(running, 0);
    assert_eq!([scheduler.next_settled(), scheduler.next_settled()], [Some(dearer), Some(cheap)]);
    assert_eq!(scheduler.inflight_cost(), 6);
}

#[test]
fn who_stood_in_the_way_and_leaves_lets_the_others_go() {
    let mut scheduler = with_budget(10, &[WEIGHTED]);
    let _running = granted(scheduler.arrive(&dear(0, 0, 6), 0));
    let dearer = waiting(scheduler.arrive(&Ask { deadline_ns: Some(9), ..dear(0, 1, 5) }, 0));
    let also = waiting(scheduler.arrive(&dear(0, 2, 5), 0));
    let cheap = waiting(scheduler.arrive(&dear(0, 3, 1), 0));
    scheduler.expire(9);
    assert_eq!([scheduler.next_settled(), scheduler.next_settled()], [Some(dearer), None]);
    scheduler.leave(also, 9);
    assert_eq!(scheduler.next_settled(), Some(cheap));
}

#[test]
fn a_few_of_a_tenants_cheap_calls_pass_its_dear_one() {
    let mut scheduler = with_budget(10, &[WEIGHTED]);
    let running = granted(scheduler.arrive(&dear(0, 7, 5), 0));
    let head = waiting(scheduler.arrive(&dear(0, 7, 8), 0));
    for _ in 0..usize::from(queue::PASSED_BY_MAX) {
        let passes = granted(scheduler.arrive(&dear(0, 7, 1), 0));
        assert_eq!(passes.way(), Way::Bypass);
        scheduler.release(passes, 0);
    }
    waiting(scheduler.arrive(&dear(0, 7, 1), 0));
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(head));
}

#[test]
fn a_call_dearer_than_the_budget_runs_alone() {
    let mut scheduler = with_budget(10, &[WEIGHTED]);
    let running = granted(scheduler.arrive(&dear(0, 0, 99), 0));
    let next = waiting(scheduler.arrive(&ask(0, 0), 0));
    scheduler.release(running, 0);
    assert_eq!(scheduler.next_settled(), Some(next));
}

#[test]
fn the_strict_class_goes_beyond_the_budget_by_one_call() {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let mut scheduler = with_budget(10, &[strict, WEIGHTED]);
    let _running = granted(scheduler.arrive(&dear(1, 0, 9), 0));
    let _urgent = granted(scheduler.arrive(&dear(0, 0, 9), 0));
    waiting(scheduler.arrive(&dear(0, 0, 1), 0));
    assert_eq!(scheduler.inflight_cost(), 18);
}
