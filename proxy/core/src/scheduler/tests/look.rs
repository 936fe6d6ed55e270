//! What is told of those who wait.

use super::*;
use std::num::NonZeroU64;

#[test]
fn each_reason_to_wait_is_named() {
    let strict = ClassRules { strict: true, ..WEIGHTED };
    let capped = ClassRules { max: limit(1), ..WEIGHTED };
    let mut scheduler = Scheduler::new(limit(3), &[strict, capped, WEIGHTED]);
    assert_eq!(scheduler.why(1), None);
    let _one = granted(scheduler.arrive(&ask(1, 7), 0));
    let waiter = waiting(scheduler.arrive(&Ask { cost: 5, ..ask(1, 8) }, 1));
    assert_eq!(scheduler.why(1), Some(Why::ClassMax));
    assert_eq!(scheduler.why(2), None);
    let told: Vec<_> = scheduler.waits().collect();
    assert_eq!(told, [Waits { waiter, place: 1, cost: 5, arrived_ns: 1 }]);

    scheduler.set_bounds(Bounds { reserve: 2, ..Bounds::default() }, 2);
    waiting(scheduler.arrive(&ask(2, 9), 2));
    assert_eq!(scheduler.why(2), Some(Why::Reserve));
    scheduler.set_limit(limit(1), 3);
    assert_eq!(scheduler.why(2), Some(Why::Limit));
    assert_eq!(scheduler.waits().map(|waits| waits.place).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_call_that_does_not_fit_the_budget_waits_for_it() {
    let mut scheduler = Scheduler::new(None, &[WEIGHTED]);
    scheduler.set_bounds(Bounds { budget: NonZeroU64::new(10), ..Bounds::default() }, 0);
    let _one = granted(scheduler.arrive(&Ask { cost: 9, ..ask(0, 1) }, 0));
    waiting(scheduler.arrive(&Ask { cost: 9, ..ask(0, 1) }, 0));
    assert_eq!(scheduler.why(0), Some(Why::Budget));
}
