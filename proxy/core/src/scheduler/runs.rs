//! The calls that run: what each was charged for, and which may be taken back.
//!
//! A call may be taken back (preempted) until its first byte went out: nobody has seen
//! anything of it, and asking again costs its caller only time. It is off unless
//! configured, touches classes that allow it only, and stays rare: so many a second.
//! That is why a victim is looked for among all that run instead of being kept in an order.

use super::{Grant, Scheduler, Way};

/// A second, the window in which victims are counted.
const WINDOW_NS: u64 = 1_000_000_000;

/// Names a call that runs. A number that is used again has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId {
    idx: usize,
    generation: u64,
}

impl RunId {
    /// A small number no other running call has: an index for a table of one's own.
    pub fn idx(self) -> usize {
        self.idx
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) seat: usize,
    /// The line of its class's queue that was charged; `None` where nothing is shared out.
    pub(super) line: Option<usize>,
    pub(super) cost: u64,
    pub(super) stage: RunStage,
    /// Whether it may be taken back; that was so when it started, and its caller knows.
    pub(super) revocable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunStage {
    /// Granted to one who did not come yet.
    Kept,
    /// Nothing of its answer went out.
    Silent,
    /// Its caller has seen something of it.
    Begun,
    /// Taken back; its slot is still its own until it is released.
    TakenBack,
}

#[derive(Debug, Default)]
pub(super) struct Runs {
    cells: Vec<(u64, Option<Run>)>,
    free: Vec<usize>,
    generation: u64,
    /// How many that were taken back are still to be released.
    pub(super) taken_back: usize,
    /// The second in which victims are counted, and how many it had.
    window: (u64, u32),
}

impl Runs {
    pub(super) fn insert(&mut self, run: Run) -> RunId {
        // One count for all: the newest has the highest.
        self.generation += 1;
        let generation = self.generation;
        let idx = self.free.pop().unwrap_or(self.cells.len());
        match self.cells.get_mut(idx) {
            Some(cell) => *cell = (generation, Some(run)),
            None => self.cells.push((generation, Some(run))),
        }
        RunId { idx, generation }
    }

    pub(super) fn remove(&mut self, id: RunId) -> Option<Run> {
        let cell = self.cells.get_mut(id.idx).filter(|cell| cell.0 == id.generation)?;
        let run = cell.1.take()?;
        self.free.push(id.idx);
        if run.stage == RunStage::TakenBack {
            self.taken_back = self.taken_back.saturating_sub(1);
        }
        Some(run)
    }

    pub(super) fn get(&self, id: RunId) -> Option<&Run> {
        self.cells.get(id.idx).filter(|cell| cell.0 == id.generation)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: RunId) -> Option<&mut Run> {
        self.cells.get_mut(id.idx).filter(|cell| cell.0 == id.generation)?.1.as_mut()
    }

    /// The one for whom it was kept has come.
    pub(super) fn take(&mut self, id: RunId, way: Way) -> Grant {
        let mut revocable = false;
        if let Some(run) = self.get_mut(id).filter(|run| run.stage == RunStage::Kept) {
            run.stage = RunStage::Silent;
            revocable = run.revocable;
        }
        Grant { run: id, way, revocable }
    }

    /// The best to take back: of the greatest rank, the newest, which has the least to lose.
    /// `rank`: by seat, `None` where it may not be.
    fn newest(&self, rank: impl Fn(usize) -> Option<usize>) -> Option<RunId> {
        let cells = self.cells.iter().enumerate();
        let ranked = cells.filter_map(|(idx, (generation, run))| {
            let run = run.as_ref().filter(|run| run.revocable && run.stage == RunStage::Silent)?;
            Some((rank(run.seat)?, *generation, idx))
        });
        ranked.max().map(|(_, generation, idx)| RunId { idx, generation })
    }

    /// Whether one more may be taken back in this second.
    fn spend(&mut self, of_each_second: u32, now_ns: u64) -> bool {
        let (began_ns, spent) = &mut self.window;
        if *spent == 0 || WINDOW_NS <= now_ns.saturating_sub(*began_ns) {
            (*began_ns, *spent) = (now_ns, 0);
        }
        let may = *spent < of_each_second;
        *spent += u32::from(may);
        may
    }
}

impl Grant {
    /// Names the call for as long as it runs.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// By which rule it was let in.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether it may be taken back before its first byte.
    pub fn is_revocable(&self) -> bool {
        self.revocable
    }
}

impl Scheduler {
    /// The first byte of a call's answer is about to go out: from now on it is not taken
    /// back. False: it already was, so nothing of it may go out.
    pub fn begin(&mut self, grant: &Grant) -> bool {
        match self.runs.get_mut(grant.run) {
            Some(run) if run.stage == RunStage::TakenBack => false,
            Some(run) => {
                run.stage = RunStage::Begun;
                true
            }
            None => true,
        }
    }

    /// Whether a call was taken back.
    pub fn is_taken_back(&self, grant: &Grant) -> bool {
        self.runs.get(grant.run).is_some_and(|run| run.stage == RunStage::TakenBack)
    }

    /// A call that is to be ended for one that is more important, and was not named before.
    /// Its grant is owed back as ever.
    pub fn next_victim(&mut self) -> Option<RunId> {
        while let Some(victim) = self.victims.pop_front() {
            if self.runs.get(victim).is_some() {
                return Some(victim);
            }
        }
        None
    }

    /// Takes calls back for those of the strict class that wait, as many as are needed
    /// and allowed.
    pub(super) fn preempt(&mut self, now_ns: u64) {
        let of_each_second = self.bounds.preempt_per_s;
        let Some(strict) = self.classes.first().filter(|class| class.strict) else { return };
        if of_each_second == 0 || strict.is_at_max() || !self.gate.is_open() {
            return;
        }
        let wait = strict.queue.waiting();
        while self.runs.taken_back < wait {
            let (seats, classes) = (&self.seats, &self.classes);
            let victim = self.runs.newest(|seat| {
                let place = seats.get(seat)?.place;
                classes.get(place)?.preemptible.then_some(place).filter(|place| 0 < *place)
            });
            let Some(victim) = victim else { break };
            if !self.runs.spend(of_each_second, now_ns) {
                break;
            }
            if let Some(run) = self.runs.get_mut(victim) {
                run.stage = RunStage::TakenBack;
                self.runs.taken_back += 1;
            }
            self.victims.push_back(victim);
        }
    }
}
