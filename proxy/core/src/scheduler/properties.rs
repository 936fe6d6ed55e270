//! The promises of the scheduler, for any sequence of steps.
//!
//! A `World` plays random steps against a scheduler, with limits and classes that
//! change under way, and keeps its own books of what callers see. Each test checks one
//! promise after every step, under the number it has in the design (`I1` … `I15`).
//! `shares` has those about shares over time, which need a load of their own.
//!
//! `TOLLGATE_LONG=1` gives the long life 100,000 steps instead of 5,000.

mod laws;
mod shares;
mod steps;
mod world;

use super::*;
use laws::Law;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use steps::{step, step_or_new_limits, steps};
use world::{Step, World};

/// Plays the steps, and checks the law after each.
fn under(law: Law, limit: Option<u32>, steps: &[Step]) {
    let mut world = World::new(limit);
    for step in steps {
        world.play(step);
        law(&world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i1_every_arrival_is_granted_shed_gone_or_waiting(limit in 1_u32..5, steps in steps()) {
        under(laws::conserved, Some(limit), &steps);
    }

    #[test]
    fn i2_inflight_is_what_is_owed_and_nothing_is_owed_at_the_end(
        limit in 1_u32..5, steps in steps(),
    ) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            laws::owed(&world);
        }
        world.run_out();
        prop_assert_eq!(world.scheduler.inflight(), 0);
        prop_assert_eq!(world.scheduler.inflight_cost(), 0);
        prop_assert_eq!(world.counts(), vec![ClassCounts::default(); world.classes.len()]);
    }

    #[test]
    fn i3_the_waiting_are_counted_exactly(limit in 1_u32..5, steps in steps()) {
        under(laws::counted, Some(limit), &steps);
    }

    #[test]
    fn i4_nobody_waits_who_may_have_a_slot_that_is_free(limit in 1_u32..5, steps in steps()) {
        under(laws::conserving, Some(limit), &steps);
    }

    #[test]
    fn i5_a_strict_call_waits_for_one_end_per_strict_call_ahead_and_its_own(
        limit in 1_u32..5, steps in prop::collection::vec(step(), 0..250),
    ) {
        let mut world = World::new(Some(limit));
        for mut step in steps {
            // Of one tenant: between tenants a later call may well be ahead.
            if let Step::Arrive { class: 0, tenant, .. } = &mut step {
                *tenant = 0;
            }
            world.play(&step);
            for seen in world.waiting().filter(|seen| seen.class == 0) {
                prop_assert!(world.tally.released - seen.released_before <= seen.ahead);
            }
        }
    }

    #[test]
    fn i5_no_other_class_starts_while_a_strict_call_waits(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            let rules = world.classes[0].1;
            let inflight = world.owed().filter(|seen| seen.class == 0).count();
            let at_max = rules.max.is_some_and(|max| max.get() as usize <= inflight);
            if rules.strict && !at_max && world.waiting().any(|seen| seen.class == 0) {
                prop_assert!(world.granted.iter().all(|(seen, _)| seen.class == 0));
            }
        }
    }

    #[test]
    fn i8_nobody_barges(limit in 1_u32..5, steps in steps()) {
        under(laws::unbarged, Some(limit), &steps);
    }

    #[test]
    fn i9_who_is_pushed_out_is_of_the_costliest_tenant(limit in 1_u32..3, steps in steps()) {
        under(laws::fairly_pushed_out, Some(limit), &steps);
    }

    #[test]
    fn i10_a_storm_of_leaving_loses_no_slot(
        limit in 1_u32..4,
        steps in prop::collection::vec(
            prop_oneof![2 => step(), 1 => any::<usize>().prop_map(Step::Leave)], 0..250,
        ),
    ) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            for law in [laws::conserved, laws::owed, laws::counted, laws::conserving] {
                law(&world);
            }
        }
        while !world.parked.is_empty() {
            world.play(&Step::Leave(0));
        }
        prop_assert_eq!(world.scheduler.inflight(), u64::try_from(world.running.len()).unwrap());
        prop_assert_eq!(world.scheduler.waiting(), 0);
    }

    #[test]
    fn i11_a_changing_limit_is_never_exceeded_by_a_grant(
        limit in prop::option::of(1_u32..5), steps in steps(),
    ) {
        under(laws::bounded, limit, &steps);
    }

    #[test]
    fn i12_nobody_is_granted_late(limit in 1_u32..5, steps in steps()) {
        under(laws::in_time, Some(limit), &steps);
    }

    #[test]
    fn i13_the_queue_empties_by_time_alone(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
        }
        // One that was lifted has the patience of the class it asked for.
        let patience_ns = world.classes.iter().map(|(_, rules)| rules.max_wait_ns).max().unwrap();
        world.play(&Step::Advance(patience_ns));
        world.play(&Step::Expire);
        prop_assert_eq!(world.scheduler.waiting(), 0);
        prop_assert_eq!(world.scheduler.oldest_arrival_ns(), None);
    }

    #[test]
    fn i14_a_drain_takes_nobody_new_and_ends_those_it_has(
        limit in 1_u32..5,
        before in steps(),
        after in prop::collection::vec(step_or_new_limits(), 0..100),
    ) {
        let mut world = World::new(Some(limit));
        for step in &before {
            world.play(step);
        }
        world.play(&Step::Drain);
        let (arrived, waiting) = (world.tally.arrived, world.waiting().count());
        for step in &after {
            world.play(step);
            if matches!(step, Step::Arrive { .. }) {
                prop_assert_eq!(world.last_shed, Some(Shed::Draining));
            }
            prop_assert!(world.granted.iter().all(|(seen, _)| seen.nth < arrived));
        }
        prop_assert!(world.scheduler.waiting() <= waiting);
        world.run_out();
        prop_assert_eq!(world.scheduler.inflight(), 0);
        prop_assert_eq!(world.scheduler.waiting(), 0);
    }

    /// A class's own time may go back, by what a call did not take; the clock never does,
    /// and no cost there is makes either overflow.
    #[test]
    fn i15_the_clocks_never_go_back(
        limit in 1_u32..5, steps in steps(), costs in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let mut world = World::new(Some(limit));
        let mut costs = costs.iter().cycle();
        for mut step in steps {
            if let Step::Arrive { cost, .. } | Step::Settle(_, cost) = &mut step {
                *cost = *costs.next().unwrap();
            }
            let clocks = |world: &World| {
                let of_class: Vec<_> =
                    world.scheduler.classes.iter().map(|class| class.queue.lines.now()).collect();
                (world.scheduler.virtual_now, of_class)
            };
            let before = clocks(&world);
            world.play(&step);
            let after = clocks(&world);
            prop_assert!(before.0 <= after.0);
            // Under other rules a place is another class.
            if !matches!(step, Step::SetRules(..)) {
                prop_assert!(before.1.iter().zip(&after.1).all(|(before, after)| before <= after));
            }
        }
    }

    #[test]
    fn no_more_calls_are_taken_back_in_a_second_than_may_be(
        limit in 1_u32..5, of_each_second in 1_u32..4,
        steps in prop::collection::vec(step(), 0..250),
    ) {
        let mut world = World::new(Some(limit));
        let preemptible = ClassRules { preemptible: true, ..world.classes[3].1 };
        world.classes[3].1 = preemptible;
        world.play(&Step::SetRules(world.classes.clone(), 3));
        let bounds = Bounds { preempt_per_s: of_each_second, ..Bounds::default() };
        world.play(&Step::SetBounds(bounds));
        for step in &steps {
            let named = world.named_ns.len();
            world.play(step);
            let urgent = world.waiting().filter(|seen| seen.class == 0).count();
            prop_assert!(world.named_ns.len() - named <= urgent);
        }
        // All of it happened within a second.
        prop_assert!(world.now_ns < 1_000_000_000);
        prop_assert!(world.named_ns.len() <= of_each_second as usize);
    }
}

/// One scheduler through all there is, of which every law holds after every step.
#[test]
fn a_long_life_keeps_every_promise() {
    let is_long = std::env::var_os("TOLLGATE_LONG").is_some();
    let n_steps = if is_long { 100_000 } else { 5_000 };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut world = World::new(Some(3));
    for nth in 0..n_steps {
        let step = step_or_new_limits().new_tree(&mut runner).unwrap().current();
        world.play(&step);
        let check = || laws::LAWS.iter().for_each(|law| law(&world));
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        assert!(checked.is_ok(), "after step {nth}: {step:?}");
    }
    world.run_out();
    assert_eq!(world.counts(), vec![ClassCounts::default(); world.classes.len()]);
}
