//! Plays random steps against a scheduler and keeps its own books of what callers see.

use super::super::*;
use crate::class::CLASSES_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) const RULES: [ClassRules; 4] =
    [rules(true, 1, 6, 60), rules(false, 8, 4, 40), rules(false, 4, 8, 25), rules(false, 1, 8, 90)];

const fn rules(strict: bool, weight: u32, queue_max: usize, max_wait_ns: u64) -> ClassRules {
    ClassRules { strict, weight, queue_max, max_wait_ns }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
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
    /// Other classes, by name, and which of them is the default.
    SetRules(Vec<(u8, ClassRules)>, usize),
    Drain,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) nth: usize,
    pub(super) class: usize,
    pub(super) tenant: u64,
    pub(super) arrived_ns: u64,
    pub(super) expires_ns: u64,
    pub(super) deadline_ns: Option<u64>,
    pub(super) stage: Stage,
    /// How many calls had ended, and how many of its class were ahead, when it arrived.
    pub(super) released_before: usize,
    pub(super) ahead: usize,
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) arrived: usize,
    pub(super) granted: usize,
    pub(super) shed: usize,
    pub(super) cancelled: usize,
    pub(super) released: usize,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    /// The classes in force, each with its name.
    pub(super) classes: Vec<(u8, ClassRules)>,
    pub(super) now_ns: u64,
    /// Of the next to arrive.
    pub(super) cost: u64,
    pub(super) parked: BTreeMap<WaiterId, Seen>,
    pub(super) running: Vec<Grant>,
    pub(super) tally: Tally,
    /// What was granted in the last step, as it was before; `None`: granted on arrival.
    pub(super) granted: Vec<Option<Seen>>,
    pub(super) last_shed: Option<Shed>,
}

impl World {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self {
            scheduler: Scheduler::new(limit.and_then(NonZeroU32::new), &RULES),
            classes: (0..).zip(RULES).collect(),
            now_ns: 0,
            cost: 1,
            parked: BTreeMap::new(),
            running: Vec::new(),
            tally: Tally::default(),
            granted: Vec::new(),
            last_shed: None,
        }
    }

    pub(super) fn play(&mut self, step: &Step) {
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
            Step::SetRules(classes, default) => self.set_rules(classes, *default),
            Step::Drain => self.scheduler.drain(),
        }
        self.note_settled();
    }

    /// Foretells, by rules of its own, what becomes of each that waits.
    fn set_rules(&mut self, classes: &[(u8, ClassRules)], default: usize) {
        self.scheduler.expire(self.now_ns);
        self.note_settled();
        let place_of = |name| classes.iter().position(|(other, _)| *other == name);
        let list: Vec<_> = classes
            .iter()
            .map(|(name, rules)| {
                let was = self.classes.iter().position(|(other, _)| other == name);
                NewClass { rules: *rules, was: was.and_then(ClassId::new) }
            })
            .collect();
        let inflight = self.scheduler.inflight();

        self.scheduler.set_rules(&list, ClassId::new(default).unwrap(), self.now_ns);

        let mut waiting: Vec<_> = self
            .parked
            .iter_mut()
            .filter(|(_, seen)| seen.stage == Stage::Waiting)
            .map(|(id, seen)| {
                seen.class = place_of(self.classes[seen.class].0).unwrap_or(default);
                let patience_ns = seen.arrived_ns + classes[seen.class].1.max_wait_ns;
                seen.expires_ns = patience_ns.min(seen.deadline_ns.unwrap_or(u64::MAX));
                (*id, *seen)
            })
            .collect();
        waiting.sort_by_key(|(_, seen)| seen.nth);
        let mut lens = vec![0; classes.len()];
        for (id, seen) in waiting {
            let is_late = seen.expires_ns <= self.now_ns;
            let has_place = !is_late && lens[seen.class] < classes[seen.class].1.queue_max;
            lens[seen.class] += usize::from(has_place);
            let shed = match (has_place, is_late, seen.deadline_ns) {
                (true, ..) => None,
                (false, false, _) => Some(Shed::QueueFull),
                (false, true, Some(deadline)) if deadline == seen.expires_ns => {
                    Some(Shed::DeadlineUnmeetable)
                }
                (false, true, _) => Some(Shed::QueueTimeout),
            };
            let stage = self.scheduler.waiters.stage(id);
            assert_eq!(stage, Some(shed.map_or(Stage::Waiting, Stage::Shed)), "{seen:?}");
        }
        assert_eq!(self.scheduler.inflight(), inflight, "who runs is left alone");
        self.classes = classes.to_vec();
    }

    fn arrive(&mut self, class: usize, tenant: u64, deadline_in: Option<u64>) {
        let deadline_ns = deadline_in.map(|deadline_in| self.now_ns + deadline_in);
        let ask = Ask { class: ClassId::new(class).unwrap(), tenant, cost: self.cost, deadline_ns };
        let class = class.min(self.classes.len() - 1);
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
            (Turn::Waiting { expires_ns: told_ns }, Stage::Waiting) => {
                assert_eq!(told_ns, expires_ns);
                return;
            }
            (Turn::Granted { grant, waited_ns }, Stage::Granted { waited_ns: noted_ns, .. }) => {
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

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Seen> {
        self.parked.values().filter(|seen| seen.stage == Stage::Waiting)
    }

    /// Those that run, and those whose slot is kept until they come.
    pub(super) fn owed(&self) -> usize {
        let kept = self.parked.values().filter(|seen| matches!(seen.stage, Stage::Granted { .. }));
        self.running.len() + kept.count()
    }

    fn pick(&self, which: usize) -> Option<WaiterId> {
        self.parked.keys().nth(which.checked_rem(self.parked.len())?).copied()
    }

    pub(super) fn has_room(&self) -> bool {
        self.scheduler.limit().is_none_or(|limit| self.owed() < limit.get() as usize)
    }

    pub(super) fn counts(&self) -> Vec<ClassCounts> {
        self.scheduler.class_counts().collect()
    }

    /// Everybody comes, runs and ends; nobody new arrives.
    pub(super) fn run_out(&mut self) {
        while !self.parked.is_empty() || !self.running.is_empty() {
            for which in (0..self.parked.len()).rev() {
                self.play(&Step::Take(which));
            }
            assert!(!self.running.is_empty() || self.parked.is_empty(), "waiters and a free slot");
            self.play(&Step::Release(0));
        }
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
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

/// Up to a full list out of a few more names than fit, so that classes come, go and
/// come back; at times without any room or patience.
fn new_rules() -> impl Strategy<Value = Step> {
    let rules = (any::<bool>(), 0_u32..9, 0_usize..9, 0_u64..100).prop_map(
        |(strict, weight, queue_max, max_wait_ns)| ClassRules {
            strict,
            weight,
            queue_max,
            max_wait_ns,
        },
    );
    let names = Just((0_u8..10).collect::<Vec<_>>()).prop_shuffle();
    (names, prop::collection::vec(rules, 1..=CLASSES_MAX), any::<prop::sample::Index>()).prop_map(
        |(names, rules, default)| {
            let default = default.index(rules.len());
            Step::SetRules(names.into_iter().zip(rules).collect(), default)
        },
    )
}

pub(super) fn step_or_new_limits() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![1 => Just(None), 6 => (1_u32..6).prop_map(Some)];
    prop_oneof![40 => step(), 2 => limit.prop_map(Step::SetLimit), 1 => new_rules()]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step_or_new_limits(), 0..250)
}
