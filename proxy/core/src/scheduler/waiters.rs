//! The calls that wait, or were settled and not told yet, and two chains through them.
//!
//! A waiter may leave from the middle of its tenant's line and from the middle of
//! the order of arrival. Links stored beside the waiter make both O(1) without a
//! search and without allocating once the table has grown to its busiest hour.

use super::{RunId, Shed, Way};

/// Names a waiter. A number that is used again has another generation, so a
/// stale name finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId {
    idx: u32,
    generation: u32,
}

/// What the order needs to know of a waiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) place: usize,
    /// The class it asked for, whose patience it has; another than `place` once it was lifted.
    pub(super) home: usize,
    pub(super) tenant: u64,
    /// Of its tenant.
    pub(super) weight: u32,
    /// The line of its class's queue that it stands in.
    pub(super) line: usize,
    pub(super) cost: u64,
    pub(super) arrived_ns: u64,
    /// When it could not end in time any more.
    pub(super) latest_ns: Option<u64>,
    pub(super) expires_ns: u64,
    /// What it is told at `expires_ns`.
    pub(super) at_end: Shed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Granted { run: RunId, way: Way, waited_ns: u64 },
    Shed(Shed),
}

/// The two ends of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    head: Option<WaiterId>,
    tail: Option<WaiterId>,
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    cells: Vec<Cell>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Cell {
    generation: u32,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    waiter: Waiter,
    stage: Stage,
    in_line: Links,
    in_arrivals: Links,
}

#[derive(Clone, Copy, Debug, Default)]
struct Links {
    before: Option<WaiterId>,
    after: Option<WaiterId>,
}

/// Which of a waiter's two chains.
#[derive(Clone, Copy, Debug)]
enum Chain {
    Line,
    Arrivals,
}

impl WaiterId {
    /// A small number no other living waiter has: an index for a table of one's own.
    pub fn idx(self) -> usize {
        usize::try_from(self.idx).unwrap_or(usize::MAX)
    }
}

impl List {
    pub(super) fn head(&self) -> Option<WaiterId> {
        self.head
    }

    pub(super) fn tail(&self) -> Option<WaiterId> {
        self.tail
    }
}

impl Waiters {
    /// `None` when there are more waiters than numbers.
    pub(super) fn insert(&mut self, waiter: Waiter) -> Option<WaiterId> {
        let held = Held {
            waiter,
            stage: Stage::Waiting,
            in_line: Links::default(),
            in_arrivals: Links::default(),
        };
        if let Some(idx) = self.free.pop()
            && let Some(cell) = self.cells.get_mut(usize::try_from(idx).ok()?)
        {
            cell.held = Some(held);
            return Some(WaiterId { idx, generation: cell.generation });
        }
        let idx = u32::try_from(self.cells.len()).ok()?;
        self.cells.push(Cell { generation: 0, held: Some(held) });
        Some(WaiterId { idx, generation: 0 })
    }

    /// It must be in no chain any more.
    pub(super) fn remove(&mut self, id: WaiterId) -> Option<Waiter> {
        let cell = self.cells.get_mut(id.idx()).filter(|cell| cell.generation == id.generation)?;
        let held = cell.held.take()?;
        cell.generation = cell.generation.wrapping_add(1);
        self.free.push(id.idx);
        Some(held.waiter)
    }

    pub(super) fn waiter(&self, id: WaiterId) -> Option<Waiter> {
        self.held(id).map(|held| held.waiter)
    }

    pub(super) fn arrived_ns(&self, id: WaiterId) -> Option<u64> {
        self.held(id).map(|held| held.waiter.arrived_ns)
    }

    pub(super) fn waiter_mut(&mut self, id: WaiterId) -> Option<&mut Waiter> {
        self.held_mut(id).map(|held| &mut held.waiter)
    }

    /// The name of the one in this place of the table.
    pub(super) fn named(&self, idx: usize) -> Option<WaiterId> {
        let cell = self.cells.get(idx).filter(|cell| cell.held.is_some())?;
        Some(WaiterId { idx: u32::try_from(idx).ok()?, generation: cell.generation })
    }

    /// The next one in its tenant's line.
    pub(super) fn behind(&self, id: WaiterId) -> Option<WaiterId> {
        self.held(id)?.in_line.after
    }

    /// All of the chain of arrivals, oldest first.
    pub(super) fn arrivals(&self, arrivals: &List) -> impl Iterator<Item = WaiterId> {
        let after = |id: &WaiterId| self.held(*id).and_then(|held| held.in_arrivals.after);
        std::iter::successors(arrivals.head(), after)
    }

    pub(super) fn stage(&self, id: WaiterId) -> Option<Stage> {
        self.held(id).map(|held| held.stage)
    }

    pub(super) fn set_stage(&mut self, id: WaiterId, stage: Stage) {
        if let Some(held) = self.held_mut(id) {
            held.stage = stage;
        }
    }

    pub(super) fn append_to_line(&mut self, line: &mut List, id: WaiterId) {
        self.append(line, Chain::Line, id);
    }

    pub(super) fn unlink_from_line(&mut self, line: &mut List, id: WaiterId) {
        self.unlink(line, Chain::Line, id);
    }

    pub(super) fn append_arrival(&mut self, arrivals: &mut List, id: WaiterId) {
        self.append(arrivals, Chain::Arrivals, id);
    }

    pub(super) fn unlink_arrival(&mut self, arrivals: &mut List, id: WaiterId) {
        self.unlink(arrivals, Chain::Arrivals, id);
    }

    fn append(&mut self, list: &mut List, chain: Chain, id: WaiterId) {
        let before = list.tail.replace(id);
        match before.and_then(|before| self.links_mut(chain, before)) {
            Some(links) => links.after = Some(id),
            None => list.head = Some(id),
        }
        if let Some(links) = self.links_mut(chain, id) {
            *links = Links { before, after: None };
        }
    }

    fn unlink(&mut self, list: &mut List, chain: Chain, id: WaiterId) {
        let Some(links) = self.links_mut(chain, id) else { return };
        let Links { before, after } = std::mem::take(links);
        match before.and_then(|before| self.links_mut(chain, before)) {
            Some(links) => links.after = after,
            None => list.head = after,
        }
        match after.and_then(|after| self.links_mut(chain, after)) {
            Some(links) => links.before = before,
            None => list.tail = before,
        }
    }

    fn links_mut(&mut self, chain: Chain, id: WaiterId) -> Option<&mut Links> {
        let held = self.held_mut(id)?;
        Some(match chain {
            Chain::Line => &mut held.in_line,
            Chain::Arrivals => &mut held.in_arrivals,
        })
    }

    fn held(&self, id: WaiterId) -> Option<&Held> {
        let cell = self.cells.get(id.idx())?;
        cell.held.as_ref().filter(|_| cell.generation == id.generation)
    }

    fn held_mut(&mut self, id: WaiterId) -> Option<&mut Held> {
        let cell = self.cells.get_mut(id.idx())?;
        cell.held.as_mut().filter(|_| cell.generation == id.generation)
    }
}
