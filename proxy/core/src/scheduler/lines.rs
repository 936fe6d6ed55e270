//! The lines of one class: one per tenant, and the virtual time of each.
//!
//! A line outlives its last waiter for as long as its tenant is ahead of the others or has
//! calls running: coming back with one call at a time must not pay better than waiting.
//! What is behind or level is forgotten, so the table follows those who take part.
//!
//! Tenants are told apart up to [`TENANTS_MAX`]; later ones share [`LINES_SHARED`] lines,
//! so that a million names cost no more and are no louder than a few thousand. Of
//! [`HAND`] lines that its hash deals it, such a tenant takes the one with the least
//! waiting, and stays there while a call of it waits: two tenants meet everywhere only
//! where their whole hands do, and nobody's second call overtakes his first.

use super::{
    COST_MAX,
    heap::Heap,
    waiters::{List, WaiterId},
};
use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// How many tenants of one class have a line of their own at a time.
pub(super) const TENANTS_MAX: usize = 4096;

/// How many lines the tenants above that share. With [`HAND`]: the numbers of Kubernetes'
/// API Priority and Fairness, with which ten loud tenants cover all lines of a quiet one
/// in fewer than one of ten thousand cases.
pub(super) const LINES_SHARED: u64 = 128;

/// How many of the shared lines a tenant may choose from.
const HAND: u32 = 6;

/// One unit of cost at weight 1 moves a virtual time by this much. A power of two far
/// above any weight, so that rounding never decides an order.
const UNIT: u64 = 1 << 32;

/// What a unit of cost adds to a virtual time at this weight; 0 counts as 1.
pub(super) fn unit(weight: u32) -> u64 {
    UNIT / u64::from(weight.max(1))
}

/// What a call adds to a virtual time. The dearest at weight 1 adds 2^72, so that the
/// time of 128 bits has room for 2^56 of them: it never wraps.
pub(super) fn charge(cost: u64, unit: u64) -> u128 {
    u128::from(cost.min(COST_MAX)) * u128::from(unit)
}

/// A virtual time after `estimated` was charged and `actual` is true.
pub(super) fn settled(time: u128, estimated: u64, actual: u64, unit: u64) -> u128 {
    time.saturating_add(charge(actual, unit)).saturating_sub(charge(estimated, unit))
}

/// Whose line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TenantKey {
    Own(u64),
    Shared(u64),
}

#[derive(Debug)]
pub(super) struct Line {
    key: TenantKey,
    pub(super) list: List,
    /// The virtual start of its next call.
    vtime: u128,
    /// Of equals, who came to this time first.
    turn: u64,
    /// What a unit of cost adds to `vtime`.
    unit: u64,
    /// Of those who wait.
    pub(super) cost: u128,
    running: u64,
    /// How often the one at its head was passed by, and who that was.
    passed_by: (Option<WaiterId>, u8),
}

/// A tenant that waits in a shared line, and how many of its calls do.
#[derive(Debug)]
struct Guest {
    line: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    cells: Vec<Option<Line>>,
    free: Vec<usize>,
    by_key: HashMap<TenantKey, usize, Spread>,
    n_own: usize,
    guests: HashMap<u64, Guest, Spread>,
    /// The start of the latest call: where a tenant that was away begins.
    now: u128,
    turn_next: u64,
    /// Those with waiters, in turn.
    active: Heap<(u128, u64)>,
    /// Those with waiters, the most cost per weight first.
    by_cost: Heap<Reverse<u128>>,
    /// Those nobody waits or runs in and that are ahead of the others.
    ahead: Heap<u128>,
}

impl Lines {
    pub(super) fn get(&self, line: usize) -> Option<&Line> {
        self.cells.get(line)?.as_ref()
    }

    fn get_mut(&mut self, line: usize) -> Option<&mut Line> {
        self.cells.get_mut(line)?.as_mut()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> u128 {
        self.now
    }

    /// The line whose turn it is.
    pub(super) fn first(&self) -> Option<usize> {
        self.active.first().map(|(_, line)| line)
    }

    /// The line with the most waiting by cost and weight: `mine` where that is one of several.
    pub(super) fn costliest(&self, mine: Option<usize>) -> Option<usize> {
        let (most, line) = self.by_cost.first()?;
        let mine = mine.filter(|mine| self.by_cost.key(*mine) == Some(most));
        Some(mine.unwrap_or(line))
    }

    /// The line a tenant's next call goes by.
    pub(super) fn join(&mut self, tenant: u64, weight: u32) -> usize {
        let own = TenantKey::Own(tenant);
        if let Some(line) = self.by_key.get(&own).copied() {
            if let Some(line) = self.get_mut(line) {
                line.unit = unit(weight);
            }
            return line;
        }
        if let Some(guest) = self.guests.get(&tenant) {
            return guest.line;
        }
        if self.n_own < TENANTS_MAX || self.forget_one() {
            return self.open(own, weight);
        }
        let dealt = (0..HAND).map(|nth| {
            let key = TenantKey::Shared(mixed(tenant, nth) % LINES_SHARED);
            let line = self.by_key.get(&key).copied();
            let cost = line.and_then(|line| self.get(line)).map_or(0, |line| line.cost);
            (cost, line, key)
        });
        match dealt.min_by_key(|(cost, ..)| *cost) {
            Some((_, Some(line), _)) => line,
            Some((_, None, key)) => self.open(key, 1),
            None => self.open(own, weight),
        }
    }

    /// One more waits in a line; `list` is how its chain looks with it.
    pub(super) fn push(&mut self, at: usize, tenant: u64, cost: u64, list: List) {
        let (now, turn) = (self.now, self.next_turn());
        let Some(line) = self.cells.get_mut(at).and_then(Option::as_mut) else { return };
        if line.list.head().is_none() {
            self.ahead.remove(at);
            line.vtime = line.vtime.max(now);
            line.turn = turn;
            self.active.set(at, (line.vtime, turn));
        }
        line.list = list;
        line.cost += u128::from(cost);
        self.by_cost.set(at, line.by_cost());
        if matches!(line.key, TenantKey::Shared(_)) {
            let guest = self.guests.entry(tenant).or_insert(Guest { line: at, waiting: 0 });
            guest.waiting += 1;
        }
    }

    /// One less waits in a line, which goes when nothing keeps it.
    pub(super) fn remove(&mut self, at: usize, tenant: u64, cost: u64, list: List) {
        let Some(line) = self.cells.get_mut(at).and_then(Option::as_mut) else { return };
        line.list = list;
        line.cost = line.cost.saturating_sub(u128::from(cost));
        if matches!(line.key, TenantKey::Shared(_))
            && let Some(guest) = self.guests.get_mut(&tenant)
        {
            guest.waiting -= 1;
            if guest.waiting == 0 {
                self.guests.remove(&tenant);
            }
        }
        if list.head().is_some() {
            self.by_cost.set(at, line.by_cost());
        } else {
            self.active.remove(at);
            self.by_cost.remove(at);
            self.retire(at);
        }
    }

    /// A call of a line starts and is charged to it.
    pub(super) fn start(&mut self, at: usize, cost: u64) {
        let (now, turn) = (self.now, self.next_turn());
        let Some(line) = self.cells.get_mut(at).and_then(Option::as_mut) else { return };
        let waits = line.list.head().is_some();
        // One that waits and is behind was given cost back: it is owed that.
        let start = if waits { line.vtime } else { line.vtime.max(now) };
        line.vtime = start.saturating_add(charge(cost, line.unit));
        line.turn = turn;
        line.running += 1;
        if waits {
            self.active.set(at, (line.vtime, turn));
        } else {
            self.ahead.remove(at);
        }
        self.now = now.max(start);
        self.forget_level();
    }

    /// A call of a line ended, and this is what it took instead of what was charged.
    pub(super) fn end(&mut self, at: usize, estimated: u64, actual: u64) {
        let Some(line) = self.cells.get_mut(at).and_then(Option::as_mut) else { return };
        line.running = line.running.saturating_sub(1);
        line.vtime = settled(line.vtime, estimated, actual, line.unit);
        if line.list.head().is_some() {
            self.active.set(at, (line.vtime, line.turn));
        } else {
            self.retire(at);
        }
    }

    /// How often the head of a line was passed by so far.
    pub(super) fn passed_by(&self, at: usize, head: WaiterId) -> u8 {
        let (whom, times) = self.get(at).map_or((None, 0), |line| line.passed_by);
        if whom == Some(head) { times } else { 0 }
    }

    pub(super) fn pass_by(&mut self, at: usize, head: WaiterId) {
        let times = self.passed_by(at, head).saturating_add(1);
        if let Some(line) = self.get_mut(at) {
            line.passed_by = (Some(head), times);
        }
    }

    /// Nobody waits in any line now, and each keeps its time, so that all can be put
    /// back, others among them, in the order they arrived in. [`Self::tidy`] ends it.
    pub(super) fn empty(&mut self) {
        self.active.clear();
        self.by_cost.clear();
        self.guests.clear();
        for line in self.cells.iter_mut().flatten() {
            line.list = List::default();
            line.cost = 0;
        }
    }

    /// Lets go of the lines that nobody was put back into.
    pub(super) fn tidy(&mut self) {
        for at in 0..self.cells.len() {
            if self.get(at).is_some_and(|line| line.list.head().is_none()) {
                self.retire(at);
            }
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn_next += 1;
        self.turn_next
    }

    fn open(&mut self, key: TenantKey, weight: u32) -> usize {
        let line = Line {
            key,
            list: List::default(),
            vtime: self.now,
            turn: 0,
            unit: unit(weight),
            cost: 0,
            running: 0,
            passed_by: (None, 0),
        };
        let at = self.free.pop().unwrap_or(self.cells.len());
        match self.cells.get_mut(at) {
            Some(cell) => *cell = Some(line),
            None => self.cells.push(Some(line)),
        }
        self.by_key.insert(key, at);
        self.n_own += usize::from(matches!(key, TenantKey::Own(_)));
        at
    }

    /// Nobody waits in a line any more: is it still of use?
    fn retire(&mut self, at: usize) {
        let Some(line) = self.get(at) else { return };
        if line.running != 0 {
            return;
        }
        if self.now < line.vtime {
            let vtime = line.vtime;
            self.ahead.set(at, vtime);
        } else {
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        self.ahead.remove(at);
        if let Some(line) = self.cells.get_mut(at).and_then(Option::take) {
            self.by_key.remove(&line.key);
            self.n_own -= usize::from(matches!(line.key, TenantKey::Own(_)));
            self.free.push(at);
        }
    }

    /// Time has come up to these: they stand where a newcomer would.
    fn forget_level(&mut self) {
        while let Some((vtime, at)) = self.ahead.first()
            && vtime <= self.now
        {
            self.close(at);
        }
    }

    /// Makes room at the cost of the one that is least ahead.
    fn forget_one(&mut self) -> bool {
        let Some((_, at)) = self.ahead.first() else { return false };
        self.close(at);
        self.n_own < TENANTS_MAX
    }
}

impl Line {
    fn by_cost(&self) -> Reverse<u128> {
        Reverse(self.cost.saturating_mul(u128::from(self.unit)))
    }
}

/// Spreads what is a hash already: no second one is needed to keep callers from choosing
/// where their tenants lie.
type Spread = BuildHasherDefault<Folded>;

#[derive(Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = mixed(self.0 ^ word, 0);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word.cast_unsigned() as u64);
    }
}

/// The `nth` of a tenant's hand (the finaliser of `SplitMix64`).
fn mixed(tenant: u64, nth: u32) -> u64 {
    let mut word = tenant.wrapping_add(u64::from(nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
