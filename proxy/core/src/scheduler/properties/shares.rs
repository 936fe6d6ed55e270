//! Who gets how much over time, while all want more than there is: `I6` and `I7`, and the
//! same of tenants inside a class.

use super::super::*;
use proptest::prelude::*;

const PATIENT: ClassRules =
    ClassRules { queue_max: usize::MAX, max_wait_ns: u64::MAX, ..ClassRules::NOTHING_WAITS };

/// A queue in which somebody of everyone always waits.
struct Backlog {
    scheduler: Scheduler,
    /// Whose each one is that waits.
    waits: std::collections::HashMap<WaiterId, (usize, u64)>,
    /// Whose each one is that runs, and what it was thought to cost.
    running: VecDeque<(Grant, usize, u64)>,
    /// What each was thought to take, or took, in all that started or ended.
    work: Vec<i128>,
}

impl Backlog {
    fn new(slots: u32, rules: &[ClassRules], n_parties: usize) -> Self {
        Self {
            scheduler: Scheduler::new(NonZeroU32::new(slots), rules),
            waits: std::collections::HashMap::new(),
            running: VecDeque::new(),
            work: vec![0; n_parties],
        }
    }

    fn arrive(&mut self, party: usize, ask: &Ask) {
        match self.scheduler.arrive(ask, 0) {
            Arrival::Granted(grant) => self.running.push_back((grant, party, ask.cost)),
            Arrival::Waiting { waiter, .. } => {
                self.waits.insert(waiter, (party, ask.cost));
            }
            Arrival::Shed(shed) => panic!("{shed}"),
        }
    }

    /// One ends, having taken `actual` in place of what was thought; who starts?
    fn step(&mut self, which: usize, actual: impl Fn(u64) -> u64) -> Vec<usize> {
        let which = which % self.running.len();
        let (grant, party, cost) = self.running.swap_remove_back(which).unwrap();
        self.work[party] += i128::from(actual(cost)) - i128::from(cost);
        self.scheduler.release_settled(grant, actual(cost), 0);
        let mut started = Vec::new();
        while let Some(waiter) = self.scheduler.next_settled() {
            let (party, cost) = self.waits.remove(&waiter).unwrap();
            let Turn::Granted { grant, .. } = self.scheduler.turn(waiter, 0) else {
                panic!("not granted")
            };
            self.running.push_back((grant, party, cost));
            self.work[party] += i128::from(cost);
            started.push(party);
        }
        started
    }
}

fn class(place: usize) -> ClassId {
    ClassId::new(place).unwrap()
}

/// No two that are always backlogged get further apart, in units of their shares, than one
/// dearest call of each for every slot.
fn assert_shared(work: &[i128], weights: &[u32], slots: u32, dearest: u64) {
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        let (wi, wj) = (i128::from(weights[i]), i128::from(weights[j]));
        let apart = (work[i] * wj - work[j] * wi).abs();
        let bound = i128::from(slots) * i128::from(dearest) * (wi + wj);
        // A virtual time is whole: a weight that divides nothing loses a part of a billionth.
        assert!(apart <= bound + 1, "{work:?} at {weights:?} with {slots} slots");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i6_backlogged_classes_share_by_weight_whatever_their_calls_cost(
        weights in prop::array::uniform3(1_u32..16),
        slots in 1_u32..9,
        ends in prop::collection::vec((any::<usize>(), 1_u64..50, 0_u64..50), 300),
    ) {
        let rules = weights.map(|weight| ClassRules { weight, ..PATIENT });
        let mut backlog = Backlog::new(slots, &rules, 3);
        let ask = |party, cost| Ask { class: class(party), cost, ..Ask::default() };
        for nth in 0..3 * (slots as usize + 2) {
            backlog.arrive(nth % 3, &ask(nth % 3, 1));
        }
        backlog.work = vec![0; 3];
        for (which, cost, actual) in ends {
            for party in backlog.step(which, |_| actual) {
                backlog.arrive(party, &ask(party, cost));
            }
            assert_shared(&backlog.work, &weights, 2 * slots, 50);
        }
    }

    #[test]
    fn i6_backlogged_tenants_share_by_weight_whatever_their_calls_cost(
        weights in prop::array::uniform3(1_u32..16),
        slots in 1_u32..9,
        ends in prop::collection::vec((any::<usize>(), 1_u64..50, 0_u64..50), 300),
    ) {
        let mut backlog = Backlog::new(slots, &[PATIENT], 3);
        let ask = |party: usize, cost| {
            Ask { tenant: party as u64, weight: weights[party], cost, ..Ask::default() }
        };
        for nth in 0..3 * (slots as usize + 2) {
            backlog.arrive(nth % 3, &ask(nth % 3, 1));
        }
        backlog.work = vec![0; 3];
        for (which, cost, actual) in ends {
            for party in backlog.step(which, |_| actual) {
                backlog.arrive(party, &ask(party, cost));
            }
            assert_shared(&backlog.work, &weights, 2 * slots, 50);
        }
    }

    #[test]
    fn i7_a_backlogged_class_with_a_floor_has_it_after_as_many_ends_of_others(
        slots in 1_u32..9, floor in 1_u32..9, ends in prop::collection::vec(any::<usize>(), 60),
    ) {
        let floor = floor.min(slots);
        let rules = [
            ClassRules { weight: 1_000, ..PATIENT },
            ClassRules { weight: 1, floor, ..PATIENT },
        ];
        let mut backlog = Backlog::new(slots, &rules, 2);
        let ask = |party| Ask { class: class(party), cost: 10, ..Ask::default() };
        for party in (0..100).map(|_| 0).chain((0..100).map(|_| 1)) {
            backlog.arrive(party, &ask(party));
        }
        let mut others_ended = 0;
        for which in ends {
            let (_, party, _) = backlog.running[which % backlog.running.len()];
            others_ended += u64::from(party == 0);
            backlog.step(which, |cost| cost);
            let has = backlog.scheduler.class_counts().nth(1).unwrap().inflight;
            prop_assert!(has >= u64::from(floor).min(others_ended), "{has} of {floor}");
        }
    }

    /// `I9` from the other side: whatever a flood asks for, a tenant that asks for less than
    /// its share keeps its place.
    #[test]
    fn a_flood_pushes_out_only_itself(
        arrivals in prop::collection::vec((1_u64..8, 1_u64..100, 1_usize..20), 1..40),
    ) {
        let rules = ClassRules { queue_max: 20, ..PATIENT };
        let mut scheduler = Scheduler::new(NonZeroU32::new(1), &[rules]);
        let Arrival::Granted(_running) = scheduler.arrive(&Ask::default(), 0) else {
            panic!("not granted")
        };
        let light = scheduler.arrive(&Ask { tenant: 99, cost: 1, ..Ask::default() }, 0);
        let Arrival::Waiting { waiter: light, .. } = light else { panic!("no place") };
        for (tenant, cost, times) in arrivals {
            for _ in 0..times {
                let _ = scheduler.arrive(&Ask { tenant, cost, ..Ask::default() }, 0);
            }
        }
        let keeps = matches!(scheduler.turn(light, 0), Turn::Waiting { .. });
        prop_assert!(keeps);
    }
}
