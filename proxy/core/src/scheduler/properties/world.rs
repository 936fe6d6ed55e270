//! Plays random steps against a scheduler and keeps its own books of what callers see.

use super::super::*;
use std::collections::BTreeMap;

pub(super) const RULES: [ClassRules; 4] =
    [rules(true, 1, 6, 60), rules(false, 8, 4, 40), rules(false, 4, 8, 25), rules(false, 1, 8, 90)];

const fn rules(strict: bool, weight: u32, queue_max: usize, max_wait_ns: u64) -> ClassRules {
    ClassRules { strict, weight, queue_max, max_wait_ns, ..ClassRules::NOTHING_WAITS }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Arrive {
        class: usize,
        tenant: u64,
        cost: u64,
        deadline_in: Option<u64>,
    },
    /// One that arrived comes and asks. (Which: counted round.)
    Take(usize),
    /// One that arrived goes away, in whatever state.
    Leave(usize),
    Release(usize),
    /// One that runs ends and took this much.
    Settle(usize, u64),
    /// The first byte of one that runs goes out.
    Begin(usize),
    /// A more important one depends on it now.
    Lift(usize, usize),
    /// Time passes and nobody looks.
    Advance(u64),
    Expire,
    SetLimit(Option<u32>),
    SetBounds(Bounds),
    /// Other classes, by name, and which of them is the default.
    SetRules(Vec<(u8, ClassRules)>, usize),
    Drain,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) nth: usize,
    pub(super) class: usize,
    /// The class it asked for, and whether it was ever lifted out of it.
    pub(super) home: usize,
    pub(super) was_lifted: bool,
    pub(super) tenant: u64,
    pub(super) cost: u64,
    pub(super) arrived_ns: u64,
    pub(super) expires_ns: u64,
    pub(super) deadline_ns: Option<u64>,
    pub(super) stage: Stage,
    /// How many calls had ended, and how many of its class were ahead, when it arrived.
    pub(super) released_before: usize,
    pub(super) ahead: usize,
}

/// A call that runs, as its caller sees it.
pub(super) struct Runs {
    pub(super) grant: Grant,
    pub(super) seen: Seen,
    pub(super) has_begun: bool,
    pub(super) is_victim: bool,
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
    pub(super) bounds: Bounds,
    /// The classes in force, each with its name.
    pub(super) classes: Vec<(u8, ClassRules)>,
    pub(super) now_ns: u64,
    pub(super) parked: BTreeMap<WaiterId, Seen>,
    pub(super) running: Vec<Runs>,
    pub(super) tally: Tally,
    /// What was granted in the last step, as it was before, and by which rule.
    pub(super) granted: Vec<(Seen, Way)>,
    /// Who was shed while it waited in the last step.
    pub(super) shed: Vec<(Seen, Shed)>,
    pub(super) last_shed: Option<Shed>,
    /// When each victim was named.
    pub(super) named_ns: Vec<u64>,
}

impl World {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self {
            scheduler: Scheduler::new(limit.and_then(NonZeroU32::new), &RULES),
            bounds: Bounds::default(),
            classes: (0..).zip(RULES).collect(),
            now_ns: 0,
            parked: BTreeMap::new(),
            running: Vec::new(),
            tally: Tally::default(),
            granted: Vec::new(),
            shed: Vec::new(),
            last_shed: None,
            named_ns: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, step: &Step) {
        self.granted.clear();
        self.shed.clear();
        self.last_shed = None;
        match step {
            Step::Arrive { class, tenant, cost, deadline_in } => {
                self.arrive(*class, *tenant, *cost, *deadline_in);
            }
            Step::Take(which) => self.take(*which),
            Step::Leave(which) => self.leave(*which),
            Step::Release(which) => self.release(*which, None),
            Step::Settle(which, cost) => self.release(*which, Some(*cost)),
            Step::Begin(which) => self.begin(*which),
            Step::Lift(which, class) => self.lift(*which, *class),
            Step::Advance(by_ns) => self.now_ns += by_ns,
            Step::Expire => self.scheduler.expire(self.now_ns),
            Step::SetLimit(limit) => {
                self.scheduler.set_limit(limit.and_then(NonZeroU32::new), self.now_ns);
            }
            Step::SetBounds(bounds) => {
                self.scheduler.set_bounds(*bounds, self.now_ns);
                self.bounds = *bounds;
            }
            Step::SetRules(classes, default) => self.set_rules(classes, *default),
            Step::Drain => self.scheduler.drain(),
        }
        self.note_settled();
        self.note_victims();
    }

    /// Foretells, by rules of its own, what becomes of each that waits.
    fn set_rules(&mut self, classes: &[(u8, ClassRules)], default: usize) {
        self.scheduler.expire(self.now_ns);
        self.note_settled();
        // Those were let in under the old rules, which no law can look at any more.
        self.granted.clear();
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

        let before = &self.classes;
        let heir = |place: usize| place_of(before[place].0).unwrap_or(default);
        for running in &mut self.running {
            running.seen.class = heir(running.seen.class);
        }
        for seen in self.parked.values_mut() {
            (seen.class, seen.home) = (heir(seen.class), heir(seen.home));
            if seen.stage == Stage::Waiting {
                let patience_ns = seen.arrived_ns + classes[seen.home].1.max_wait_ns;
                seen.expires_ns = patience_ns.min(seen.deadline_ns.unwrap_or(u64::MAX));
            }
        }
        self.classes = classes.to_vec();
        let mut waiting: Vec<_> = self.parked.iter().map(|(id, seen)| (*id, *seen)).collect();
        waiting.retain(|(_, seen)| seen.stage == Stage::Waiting);
        waiting.sort_by_key(|(_, seen)| seen.nth);
        let late = |seen: &Seen| seen.expires_ns <= self.now_ns;
        let mut kept: Vec<_> = waiting.iter().filter(|(_, seen)| !late(seen)).copied().collect();
        for (id, seen) in waiting.iter().rev() {
            let shed = if late(seen) {
                let by_deadline = seen.deadline_ns == Some(seen.expires_ns);
                Some(if by_deadline { Shed::DeadlineUnmeetable } else { Shed::QueueTimeout })
            } else if self.is_over(&kept, seen.class) {
                kept.retain(|(other, _)| other != id);
                Some(Shed::QueueFull)
            } else {
                None
            };
            let stage = self.scheduler.waiters.stage(*id).unwrap();
            let as_foretold = match (shed, stage) {
                (None, Stage::Waiting | Stage::Granted { .. }) => true,
                (Some(shed), Stage::Shed(told)) => shed == told,
                (None | Some(_), _) => false,
            };
            assert!(as_foretold, "{seen:?} was to be {shed:?} and is {stage:?}");
        }
        assert!(inflight <= self.scheduler.inflight(), "who runs is left alone");
    }

    fn is_over(&self, waiting: &[(WaiterId, Seen)], class: usize) -> bool {
        let rules = &self.classes[class].1;
        let of_class = || waiting.iter().filter(|(_, seen)| seen.class == class);
        let cost: u64 = of_class().map(|(_, seen)| seen.cost).sum();
        rules.queue_max < of_class().count()
            || rules.queue_cost_max < cost
            || self.bounds.queue_max < waiting.len()
    }

    fn arrive(&mut self, class: usize, tenant: u64, cost: u64, deadline_in: Option<u64>) {
        let deadline_ns = deadline_in.map(|deadline_in| self.now_ns + deadline_in);
        let class_id = ClassId::new(class).unwrap();
        let weight = weight_of(tenant);
        let ask = Ask { class: class_id, tenant, weight, cost, deadline_ns, service_ns: 0 };
        let class = class.min(self.classes.len() - 1);
        let ahead = self.waiting().filter(|seen| seen.class == class).count();
        let seen = Seen {
            nth: self.tally.arrived,
            class,
            home: class,
            was_lifted: false,
            tenant,
            cost: ask.cost(),
            arrived_ns: self.now_ns,
            expires_ns: u64::MAX,
            deadline_ns,
            stage: Stage::Waiting,
            released_before: self.tally.released,
            ahead,
        };
        self.tally.arrived += 1;
        match self.scheduler.arrive(&ask, self.now_ns) {
            Arrival::Granted(grant) => {
                self.tally.granted += 1;
                self.granted.push((seen, grant.way()));
                self.run(grant, seen);
            }
            Arrival::Shed(shed) => {
                self.tally.shed += 1;
                self.last_shed = Some(shed);
            }
            Arrival::Waiting { waiter, expires_ns } => {
                let seen = Seen { expires_ns, ..seen };
                assert!(self.parked.insert(waiter, seen).is_none(), "one name for two waiters");
            }
        }
    }

    fn run(&mut self, grant: Grant, seen: Seen) {
        self.running.push(Runs { grant, seen, has_begun: false, is_victim: false });
    }

    fn take(&mut self, which: usize) {
        let Some(waiter) = self.pick(which) else { return };
        let seen @ Seen { stage: before, expires_ns, .. } = self.parked[&waiter];
        match (self.scheduler.turn(waiter, self.now_ns), before) {
            (Turn::Waiting { expires_ns: told_ns }, Stage::Waiting) => {
                assert_eq!(told_ns, expires_ns);
                return;
            }
            (Turn::Granted { grant, waited_ns }, Stage::Granted { waited_ns: noted_ns, .. }) => {
                assert_eq!(waited_ns, noted_ns);
                self.run(grant, seen);
            }
            // The look itself let it in, or found its time passed.
            (Turn::Granted { grant, .. }, Stage::Waiting) => {
                self.tally.granted += 1;
                self.granted.push((seen, grant.way()));
                self.run(grant, seen);
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

    fn release(&mut self, which: usize, cost: Option<u64>) {
        let Some(which) = which.checked_rem(self.running.len()) else { return };
        let Runs { grant, .. } = self.running.swap_remove(which);
        self.tally.released += 1;
        match cost {
            Some(cost) => self.scheduler.release_settled(grant, cost, self.now_ns),
            None => self.scheduler.release(grant, self.now_ns),
        }
    }

    fn begin(&mut self, which: usize) {
        let Some(which) = which.checked_rem(self.running.len()) else { return };
        let running = &mut self.running[which];
        let may = self.scheduler.begin(&running.grant);
        assert_eq!(may, !running.is_victim, "what was taken back is told so, and nothing else");
        running.has_begun |= may;
    }

    fn lift(&mut self, which: usize, class: usize) {
        let Some(waiter) = self.pick(which) else { return };
        let was_lifted = self.scheduler.lift(waiter, ClassId::new(class).unwrap(), self.now_ns);
        let class = class.min(self.classes.len() - 1);
        let seen = self.parked.get_mut(&waiter).unwrap();
        assert!(!was_lifted || class < seen.class, "only towards the more important");
        if was_lifted {
            seen.class = class;
            seen.was_lifted = true;
        }
    }

    fn note_settled(&mut self) {
        while let Some(waiter) = self.scheduler.next_settled() {
            let seen = self.parked.get_mut(&waiter).expect("told about one who left");
            assert_eq!(seen.stage, Stage::Waiting, "told twice");
            let stage = self.scheduler.waiters.stage(waiter).unwrap();
            match stage {
                Stage::Waiting => panic!("told about one who still waits"),
                Stage::Granted { way, .. } => {
                    self.tally.granted += 1;
                    self.granted.push((*seen, way));
                }
                Stage::Shed(shed) => {
                    self.tally.shed += 1;
                    self.shed.push((*seen, shed));
                }
            }
            seen.stage = stage;
        }
    }

    fn note_victims(&mut self) {
        while let Some(victim) = self.scheduler.next_victim() {
            let found = self.running.iter_mut().find(|running| running.grant.run() == victim);
            let running = found.expect("a victim that does not run");
            assert!(!running.is_victim, "named twice");
            assert!(!running.has_begun, "its caller has seen something of it");
            assert!(self.classes[running.seen.class].1.preemptible, "{:?}", running.seen);
            running.is_victim = true;
            self.named_ns.push(self.now_ns);
        }
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Seen> {
        self.parked.values().filter(|seen| seen.stage == Stage::Waiting)
    }

    /// Those that run, and those whose slot is kept until they come.
    pub(super) fn owed(&self) -> impl Iterator<Item = &Seen> {
        let kept = self.parked.values().filter(|seen| matches!(seen.stage, Stage::Granted { .. }));
        self.running.iter().map(|running| &running.seen).chain(kept)
    }

    fn pick(&self, which: usize) -> Option<WaiterId> {
        self.parked.keys().nth(which.checked_rem(self.parked.len())?).copied()
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

/// Some have twice the share of others.
pub(super) fn weight_of(tenant: u64) -> u32 {
    if tenant.is_multiple_of(2) { 1 } else { 2 }
}
