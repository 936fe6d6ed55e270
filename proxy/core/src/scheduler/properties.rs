//! The promises of the scheduler, for any sequence of steps.
//!
//! A `World` plays random steps against a scheduler and keeps its own books of
//! what callers see. Each test checks one promise after every step, under the
//! number it has in the design (`I1` … `I14`).

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const RULES: [ClassRules; 4] =
    [rules(true, 1, 6, 60), rules(false, 8, 4, 40), rules(false, 4, 8, 25), rules(false, 1, 8, 90)];

const fn rules(strict: bool, weight: u32, queue_max: usize, max_wait_ns: u64) -> ClassRules {
    ClassRules { strict, weight, queue_max, max_wait_ns }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        class: usize,
        tenant: u64,
        deadline_in: Option<u64>,
    },
    /// One that arrived comes and asks. (Which: counted round.)
    Take(usize),
    /// One that arrived goes away, in whatever state.
    Leave(usize),
    Release(usize),
    /// Time passes and nobody looks.
    Advance(u64),
    Expire,
    SetLimit(Option<u32>),
    Drain,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    nth: usize,
    class: usize,
    tenant: u64,
    arrived_ns: u64,
    expires_ns: u64,
    deadline_ns: Option<u64>,
    stage: Stage,
    /// How many calls had ended, and how many of its class were ahead, when it arrived.
    released_before: usize,
    ahead: usize,
}

#[derive(Default)]
struct Tally {
    arrived: usize,
    granted: usize,
    shed: usize,
    cancelled: usize,
    released: usize,
}

struct World {
    scheduler: Scheduler,
    now_ns: u64,
    /// Of the next to arrive.
    cost: u64,
    parked: BTreeMap<WaiterId, Seen>,
    running: Vec<Grant>,
    tally: Tally,
    /// What was granted in the last step, as it was before; `None`: granted on arrival.
    granted: Vec<Option<Seen>>,
    last_shed: Option<Shed>,
}

impl World {
    fn new(limit: Option<u32>) -> Self {
        Self {
            scheduler: Scheduler::new(limit.and_then(NonZeroU32::new), &RULES),
            now_ns: 0,
            cost: 1,
            parked: BTreeMap::new(),
            running: Vec::new(),
            tally: Tally::default(),
            granted: Vec::new(),
            last_shed: None,
        }
    }

    fn play(&mut self, step: &Step) {
        self.granted.clear();
        self.last_shed = None;
        match step {
            Step::Arrive { class, tenant, deadline_in } => {
                self.arrive(*class, *tenant, *deadline_in);
            }
            Step::Take(which) => self.take(*which),
            Step::Leave(which) => self.leave(*which),
            Step::Release(which) => {
                if !self.running.is_empty() {
                    let grant = self.running.swap_remove(which % self.running.len());
                    self.tally.released += 1;
                    self.scheduler.release(grant, self.now_ns);
                }
            }
            Step::Advance(by_ns) => {
                self.now_ns += by_ns;
            }
            Step::Expire => self.scheduler.expire(self.now_ns),
            Step::SetLimit(limit) => {
                self.scheduler.set_limit(limit.and_then(NonZeroU32::new), self.now_ns);
            }
            Step::Drain => self.scheduler.drain(),
        }
        self.note_settled();
    }

    fn arrive(&mut self, class: usize, tenant: u64, deadline_in: Option<u64>) {
        let deadline_ns = deadline_in.map(|deadline_in| self.now_ns + deadline_in);
        let ask = Ask { class: ClassId::new(class).unwrap(), tenant, cost: self.cost, deadline_ns };
        let nth = self.tally.arrived;
        let ahead = self.waiting().filter(|seen| seen.class == class).count();
        self.tally.arrived += 1;
        match self.scheduler.arrive(&ask, self.now_ns) {
            Arrival::Granted(grant) => {
                self.running.push(grant);
                self.tally.granted += 1;
                self.granted.push(None);
            }
            Arrival::Shed(shed) => {
                self.tally.shed += 1;
                self.last_shed = Some(shed);
            }
            Arrival::Waiting { waiter, expires_ns } => {
                let released_before = self.tally.released;
                let stage = Stage::Waiting;
                let seen = Seen {
                    nth,
                    class,
                    tenant,
                    arrived_ns: self.now_ns,
                    expires_ns,
                    deadline_ns,
                    stage,
                    released_before,
                    ahead,
                };
                assert!(self.parked.insert(waiter, seen).is_none(), "one name for two waiters");
            }
        }
    }

    fn take(&mut self, which: usize) {
        let Some(waiter) = self.pick(which) else { return };
        let Seen { stage: before, expires_ns, .. } = self.parked[&waiter];
        match (self.scheduler.turn(waiter, self.now_ns), before) {
            (Turn::Waiting, Stage::Waiting) => return,
            (Turn::Granted { grant, waited_ns }, Stage::Granted { waited_ns: noted_ns }) => {
                assert_eq!(waited_ns, noted_ns);
                self.running.push(grant);
            }
            (Turn::Shed(shed), Stage::Shed(noted)) => assert_eq!(shed, noted),
            (Turn::Shed(_), Stage::Waiting) if expires_ns <= self.now_ns => self.tally.shed += 1,
            (turn, before) => panic!("{waiter:?} was {before:?} and is told {turn:?}"),
        }
        self.parked.remove(&waiter);
    }

    fn leave(&mut self, which: usize) {
        let Some(waiter) = self.pick(which) else { return };
        self.scheduler.leave(waiter, self.now_ns);
        match self.parked.remove(&waiter).unwrap().stage {
            Stage::Waiting => self.tally.cancelled += 1,
            Stage::Granted { .. } => self.tally.released += 1,
            Stage::Shed(_) => {}
        }
    }

    fn note_settled(&mut self) {
        while let Some(waiter) = self.scheduler.next_settled() {
            let seen = self.parked.get_mut(&waiter).expect("told about one who left");
            assert_eq!(seen.stage, Stage::Waiting, "told twice");
            let stage = self.scheduler.waiters.stage(waiter).unwrap();
            match stage {
                Stage::Waiting => panic!("told about one who still waits"),
                Stage::Granted { .. } => {
                    self.tally.granted += 1;
                    self.granted.push(Some(*seen));
                }
                Stage::Shed(_) => self.tally.shed += 1,
            }
            seen.stage = stage;
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Seen> {
        self.parked.values().filter(|seen| seen.stage == Stage::Waiting)
    }

    /// Those that run, and those whose slot is kept until they come.
    fn owed(&self) -> usize {
        let kept = self.parked.values().filter(|seen| matches!(seen.stage, Stage::Granted { .. }));
        self.running.len() + kept.count()
    }

    fn pick(&self, which: usize) -> Option<WaiterId> {
        self.parked.keys().nth(which.checked_rem(self.parked.len())?).copied()
    }

    fn has_room(&self) -> bool {
        self.scheduler.limit().is_none_or(|limit| self.owed() < limit.get() as usize)
    }

    fn counts(&self) -> Vec<ClassCounts> {
        self.scheduler.class_counts().collect()
    }

    /// Everybody comes, runs and ends; nobody new arrives.
    fn run_out(&mut self) {
        while !self.parked.is_empty() || !self.running.is_empty() {
            for which in (0..self.parked.len()).rev() {
                self.play(&Step::Take(which));
            }
            assert!(!self.running.is_empty() || self.parked.is_empty(), "waiters and a free slot");
            self.play(&Step::Release(0));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let deadline_in = prop::option::weighted(0.3, 0_u64..80);
    prop_oneof![
        8 => (0_usize..4, 0_u64..4, deadline_in)
            .prop_map(|(class, tenant, deadline_in)| Step::Arrive { class, tenant, deadline_in }),
        4 => any::<usize>().prop_map(Step::Take),
        2 => any::<usize>().prop_map(Step::Leave),
        5 => any::<usize>().prop_map(Step::Release),
        3 => (0_u64..20).prop_map(Step::Advance),
        1 => Just(Step::Expire),
    ]
}

fn step_or_new_limit() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![1 => Just(None), 6 => (1_u32..6).prop_map(Some)];
    prop_oneof![20 => step(), 1 => limit.prop_map(Step::SetLimit)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step_or_new_limit(), 0..250)
}

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
        prop_assert_eq!(world.counts(), vec![ClassCounts::default(); RULES.len()]);
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
                prop_assert!(waiting <= RULES[place].queue_max);
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
            if world.waiting().any(|seen| seen.class == 0) {
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
                let patience_ns = seen.arrived_ns + RULES[seen.class].max_wait_ns;
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
        let patience_ns = RULES.iter().map(|rules| rules.max_wait_ns).max().unwrap();
        world.play(&Step::Advance(patience_ns));
        world.play(&Step::Expire);
        prop_assert_eq!(world.scheduler.waiting(), 0);
        prop_assert_eq!(world.scheduler.oldest_arrival_ns(), None);
    }

    #[test]
    fn i14_a_drain_takes_nobody_new_and_ends_those_it_has(
        limit in 1_u32..5,
        before in steps(),
        after in prop::collection::vec(step_or_new_limit(), 0..100),
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
            let before = times(&world);
            world.cost = *costs.next().unwrap();
            world.play(step);
            let after = times(&world);
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
        }
    }
}
