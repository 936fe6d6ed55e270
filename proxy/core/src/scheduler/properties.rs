//! The promises of the scheduler, for any sequence of steps.
//!
//! A `World` plays random steps against a scheduler, with limits and classes that
//! change under way, and keeps its own books of what callers see. Each test checks one
//! promise after every step, under the number it has in the design (`I1` … `I14`).

mod world;

use super::*;
use proptest::prelude::*;
use world::{Step, Tally, World, step, step_or_new_limits, steps};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i1_every_arrival_is_granted_shed_gone_or_waiting(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            let Tally { arrived, granted, shed, cancelled, .. } = world.tally;
            prop_assert_eq!(arrived, granted + shed + cancelled + world.scheduler.waiting());
        }
    }

    #[test]
    fn i2_inflight_is_what_is_owed_and_nothing_is_owed_at_the_end(
        limit in 1_u32..5, steps in steps(),
    ) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            let owed = u64::try_from(world.owed()).unwrap();
            prop_assert_eq!(world.scheduler.inflight(), owed);
            prop_assert_eq!(world.counts().iter().map(|class| class.inflight).sum::<u64>(), owed);
        }
        world.run_out();
        prop_assert_eq!(world.scheduler.inflight(), 0);
        prop_assert_eq!(world.counts(), vec![ClassCounts::default(); world.classes.len()]);
    }

    #[test]
    fn i3_the_waiting_are_counted_exactly(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            prop_assert_eq!(world.scheduler.waiting(), world.waiting().count());
            for (place, counts) in world.counts().into_iter().enumerate() {
                let waiting = world.waiting().filter(|seen| seen.class == place).count();
                prop_assert_eq!(counts.waiting, waiting);
                prop_assert!(waiting <= world.classes[place].1.queue_max);
            }
            let oldest = world.waiting().min_by_key(|seen| seen.nth);
            let oldest_ns = oldest.map(|seen| seen.arrived_ns);
            prop_assert_eq!(world.scheduler.oldest_arrival_ns(), oldest_ns);
        }
    }

    #[test]
    fn i4_nobody_waits_while_a_slot_is_free(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            prop_assert!(!world.has_room() || world.waiting().count() == 0);
        }
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
            if world.classes[0].1.strict && world.waiting().any(|seen| seen.class == 0) {
                prop_assert!(world.granted.iter().flatten().all(|seen| seen.class == 0));
            }
        }
    }

    #[test]
    fn i8_nobody_barges(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            for granted in &world.granted {
                let Some(granted) = granted else {
                    // On arrival: all that waited had their time pass in that very step.
                    prop_assert_eq!(world.waiting().count(), 0);
                    continue;
                };
                let overtaken = world.waiting().find(|seen| {
                    (seen.class, seen.tenant) == (granted.class, granted.tenant)
                        && seen.nth < granted.nth
                });
                prop_assert!(overtaken.is_none(), "{:?} overtook {:?}", granted, overtaken);
            }
        }
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
            let Tally { arrived, granted, shed, cancelled, .. } = world.tally;
            prop_assert_eq!(arrived, granted + shed + cancelled + world.scheduler.waiting());
            prop_assert_eq!(world.scheduler.inflight(), u64::try_from(world.owed()).unwrap());
            prop_assert_eq!(world.scheduler.waiting(), world.waiting().count());
            prop_assert!(!world.has_room() || world.waiting().count() == 0);
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
        let mut world = World::new(limit);
        for step in &steps {
            world.play(step);
            if !world.granted.is_empty() && let Some(limit) = world.scheduler.limit() {
                prop_assert!(world.scheduler.inflight() <= u64::from(limit.get()));
            }
        }
    }

    #[test]
    fn i12_nobody_is_granted_late(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
            for granted in world.granted.iter().flatten() {
                prop_assert!(world.now_ns < granted.expires_ns);
                prop_assert!(granted.deadline_ns.is_none_or(|deadline| world.now_ns < deadline));
            }
            for seen in world.waiting() {
                let patience_ns = seen.arrived_ns + world.classes[seen.class].1.max_wait_ns;
                let deadline_ns = seen.deadline_ns.unwrap_or(u64::MAX);
                prop_assert_eq!(seen.expires_ns, patience_ns.min(deadline_ns));
            }
        }
    }

    #[test]
    fn i13_the_queue_empties_by_time_alone(limit in 1_u32..5, steps in steps()) {
        let mut world = World::new(Some(limit));
        for step in &steps {
            world.play(step);
        }
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
            prop_assert!(world.granted.iter().flatten().all(|seen| seen.nth < arrived));
        }
        prop_assert!(world.scheduler.waiting() <= waiting);
        world.run_out();
        prop_assert_eq!(world.scheduler.inflight(), 0);
        prop_assert_eq!(world.scheduler.waiting(), 0);
    }

    #[test]
    fn i15_virtual_time_never_goes_back(
        limit in 1_u32..5, steps in steps(), costs in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let mut world = World::new(Some(limit));
        let mut costs = costs.iter().cycle();
        for step in &steps {
            let times = |world: &World| {
                let classes = world.scheduler.classes.iter().map(|class| class.vtime);
                classes.chain([world.scheduler.virtual_now]).collect::<Vec<_>>()
            };
            let mut before = times(&world);
            world.cost = *costs.next().unwrap();
            world.play(step);
            let mut after = times(&world);
            if matches!(step, Step::SetRules(..)) {
                // Other classes; but time is one for all of them.
                (before, after) = (before.split_off(before.len() - 1), vec![world.scheduler.virtual_now]);
            }
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
        }
    }
}
