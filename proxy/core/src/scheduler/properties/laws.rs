//! What is true of a world after every step, whatever the step: one function per promise,
//! each stated from the books of the callers, not from those of the scheduler.

use super::{
    super::{Shed, Way},
    world::{Seen, Tally, World, weight_of},
};

pub(super) type Law = fn(&World);

/// All that hold in every world; the long life is checked against each.
pub(super) const LAWS: [Law; 8] =
    [conserved, owed, counted, conserving, bounded, unbarged, in_time, fairly_pushed_out];

/// `I1`
pub(super) fn conserved(world: &World) {
    let Tally { arrived, granted, shed, cancelled, .. } = world.tally;
    assert_eq!(arrived, granted + shed + cancelled + world.scheduler.waiting());
}

/// `I2`
pub(super) fn owed(world: &World) {
    let owed = u64::try_from(world.owed().count()).unwrap();
    assert_eq!(world.scheduler.inflight(), owed);
    let cost: u64 = world.owed().map(|seen| seen.cost).sum();
    assert_eq!(world.scheduler.inflight_cost(), cost);
    for (place, counts) in world.counts().into_iter().enumerate() {
        let inflight = world.owed().filter(|seen| seen.class == place).count();
        assert_eq!(counts.inflight, u64::try_from(inflight).unwrap());
    }
}

/// `I3`
pub(super) fn counted(world: &World) {
    assert_eq!(world.scheduler.waiting(), world.waiting().count());
    for (place, counts) in world.counts().into_iter().enumerate() {
        let of_class = || world.waiting().filter(|seen| seen.class == place);
        assert_eq!(counts.waiting, of_class().count());
        assert_eq!(counts.waiting_cost, of_class().map(|seen| seen.cost).sum::<u64>());
        let rules = &world.classes[place].1;
        assert!(counts.waiting <= rules.queue_max);
        assert!(counts.waiting_cost <= rules.queue_cost_max);
    }
    assert!(world.scheduler.waiting() <= world.bounds.queue_max);
    let oldest = world.waiting().min_by_key(|seen| seen.nth);
    assert_eq!(world.scheduler.oldest_arrival_ns(), oldest.map(|seen| seen.arrived_ns));
}

/// `I4`. Of the budget it knows only that what fits whole is never held back by it.
pub(super) fn conserving(world: &World) {
    let owed = world.owed().count();
    let Some(limit) = free(world) else { return };
    let cost: u64 = world.owed().map(|seen| seen.cost).sum();
    let budget = world.bounds.budget.map_or(u64::MAX, |budget| budget.get());
    let all_fit = world.waiting().all(|seen| owed == 0 || cost + seen.cost <= budget);
    for seen in world.waiting() {
        let rules = &world.classes[seen.class].1;
        let of_class = world.owed().filter(|other| other.class == seen.class).count();
        let at_max = rules.max.is_some_and(|max| max.get() as usize <= of_class);
        let is_strict = world.classes[0].1.strict;
        let others = world.owed().filter(|other| other.class != 0).count();
        let reserve = (world.bounds.reserve as usize).min(limit.saturating_sub(1));
        let is_kept = is_strict && seen.class != 0 && limit - reserve <= others;
        assert!(at_max || is_kept || !all_fit, "a slot is free, and {seen:?} waits");
    }
}

/// How many may run, if that is more than do.
fn free(world: &World) -> Option<usize> {
    let limit = world.scheduler.limit().map_or(usize::MAX, |limit| limit.get() as usize);
    (world.owed().count() < limit).then_some(limit)
}

/// `I11`, and the same of the caps of the classes and of the budget.
pub(super) fn bounded(world: &World) {
    let owed = world.owed().count();
    if let Some(limit) = world.scheduler.limit()
        && !world.granted.is_empty()
    {
        assert!(owed <= limit.get() as usize);
    }
    for (granted, way) in &world.granted {
        let rules = &world.classes[granted.class].1;
        let of_class = world.owed().filter(|seen| seen.class == granted.class).count();
        assert!(rules.max.is_none_or(|max| of_class <= max.get() as usize));
        assert!(*way != Way::Strict || (granted.class == 0 && rules.strict));
    }
    let Some(budget) = world.bounds.budget else { return };
    let cost: u64 = world.owed().map(|seen| seen.cost).sum();
    // Beyond the budget goes one of the strict class, or one that has it to itself.
    let beyond: Vec<_> = world
        .granted
        .iter()
        .filter(|(seen, way)| *way == Way::Overcommit || (*way == Way::AtOnce && seen.class == 0))
        .map(|(seen, _)| seen.cost)
        .collect();
    if !world.granted.is_empty() && 1 < owed {
        let most_beyond = beyond.iter().max().copied().unwrap_or(0);
        assert!(cost <= budget.get() + most_beyond, "{:?}", world.granted);
    }
}

/// `I8`
pub(super) fn unbarged(world: &World) {
    for (granted, way) in &world.granted {
        if *way == Way::AtOnce {
            // All that waited had their time pass in that very step.
            assert_eq!(world.waiting().count(), 0);
        }
        // One that goes beyond the budget may be the newest as well.
        let lifo = world.classes[granted.class].1.lifo_target_ns != u64::MAX;
        if matches!(way, Way::NewestFirst | Way::Bypass) || (*way == Way::Overcommit && lifo) {
            continue;
        }
        let overtaken = world.waiting().find(|seen| {
            (seen.class, seen.tenant) == (granted.class, granted.tenant)
                && seen.nth < granted.nth
                && !seen.was_lifted
                && !granted.was_lifted
        });
        assert!(overtaken.is_none(), "{granted:?} overtook {overtaken:?}");
    }
}

/// `I12`
pub(super) fn in_time(world: &World) {
    for (granted, _) in &world.granted {
        assert!(world.now_ns < granted.expires_ns);
        assert!(granted.deadline_ns.is_none_or(|deadline| world.now_ns < deadline));
    }
    for seen in world.waiting() {
        let patience_ns = seen.arrived_ns + world.classes[seen.home].1.max_wait_ns;
        let deadline_ns = seen.deadline_ns.unwrap_or(u64::MAX);
        assert_eq!(seen.expires_ns, patience_ns.min(deadline_ns));
    }
}

/// `I9`: whoever is pushed out is of the tenant with the most waiting for its share.
pub(super) fn fairly_pushed_out(world: &World) {
    let pushed_out =
        || world.shed.iter().filter(|(_, shed)| *shed == Shed::PushedOut).map(|(seen, _)| seen);
    // Where somebody was let in by the same step, the lines are other ones by now.
    if !world.granted.is_empty() {
        return;
    }
    for victim in pushed_out() {
        let cost_of = |tenant: u64| {
            let all =
                world.waiting().chain(pushed_out().filter(|seen| seen.tenant == victim.tenant));
            let of_line =
                all.filter(|seen: &&Seen| seen.class == victim.class && seen.tenant == tenant);
            of_line.map(|seen| seen.cost).sum::<u64>()
        };
        let share = |tenant| (cost_of(tenant), u64::from(weight_of(tenant)));
        let (most, weight) = share(victim.tenant);
        for other in world.waiting().filter(|seen| seen.class == victim.class) {
            let (cost, other_weight) = share(other.tenant);
            assert!(cost * weight <= most * other_weight, "{victim:?} went before {other:?}");
        }
    }
}
