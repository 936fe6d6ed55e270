//! The random steps: ordinary traffic, and traffic under limits and rules that change.

use super::{
    super::{Bounds, ClassRules},
    world::Step,
};
use crate::class::CLASSES_MAX;
use proptest::prelude::*;
use std::num::{NonZeroU32, NonZeroU64};

pub(super) fn step() -> impl Strategy<Value = Step> {
    let deadline_in = prop::option::weighted(0.3, 0_u64..80);
    let cost = prop_oneof![3 => Just(1), 2 => 1_u64..30];
    prop_oneof![
        8 => (0_usize..4, 0_u64..4, cost, deadline_in)
            .prop_map(|(class, tenant, cost, deadline_in)| {
                Step::Arrive { class, tenant, cost, deadline_in }
            }),
        4 => any::<usize>().prop_map(Step::Take),
        2 => any::<usize>().prop_map(Step::Leave),
        4 => any::<usize>().prop_map(Step::Release),
        1 => (any::<usize>(), 0_u64..60).prop_map(|(which, cost)| Step::Settle(which, cost)),
        1 => any::<usize>().prop_map(Step::Begin),
        3 => (0_u64..20).prop_map(Step::Advance),
        1 => Just(Step::Expire),
    ]
}

fn class_rules() -> impl Strategy<Value = ClassRules> {
    let numbers = (0_u32..9, 0_usize..9, 0_u64..100, 0_u32..3);
    let switches = (any::<bool>(), any::<bool>());
    let options = (
        prop::option::weighted(0.2, 1_u32..4),
        prop_oneof![2 => Just(u64::MAX), 1 => 0_u64..40],
        prop_oneof![2 => Just(u64::MAX), 1 => 0_u64..60],
    );
    (numbers, switches, options).prop_map(|(numbers, (strict, preemptible), options)| {
        let (weight, queue_max, max_wait_ns, floor) = numbers;
        let (max, lifo_target_ns, queue_cost_max) = options;
        let max = max.and_then(NonZeroU32::new);
        ClassRules {
            strict,
            weight,
            max,
            floor,
            queue_max,
            queue_cost_max,
            max_wait_ns,
            lifo_target_ns,
            preemptible,
        }
    })
}

/// Up to a full list out of a few more names than fit, so that classes come, go and
/// come back; at times without any room or patience.
fn new_rules() -> impl Strategy<Value = Step> {
    let names = Just((0_u8..10).collect::<Vec<_>>()).prop_shuffle();
    let rules = prop::collection::vec(class_rules(), 1..=CLASSES_MAX);
    (names, rules, any::<prop::sample::Index>()).prop_map(|(names, rules, default)| {
        let default = default.index(rules.len());
        Step::SetRules(names.into_iter().zip(rules).collect(), default)
    })
}

fn new_bounds() -> impl Strategy<Value = Step> {
    let budget = prop::option::weighted(0.5, 1_u64..60);
    let queue_max = prop_oneof![Just(usize::MAX), 0_usize..20];
    (budget, queue_max, 0_u32..3, 0_u32..3).prop_map(
        |(budget, queue_max, reserve, preempt_per_s)| {
            let budget = budget.and_then(NonZeroU64::new);
            Step::SetBounds(Bounds { budget, queue_max, reserve, preempt_per_s })
        },
    )
}

pub(super) fn step_or_new_limits() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![1 => Just(None), 6 => (1_u32..6).prop_map(Some)];
    prop_oneof![
        40 => step(),
        2 => (any::<usize>(), 0_usize..4).prop_map(|(which, class)| Step::Lift(which, class)),
        2 => limit.prop_map(Step::SetLimit),
        1 => new_rules(),
        1 => new_bounds(),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step_or_new_limits(), 0..250)
}
