//! The waiters of one class: how many, how dear, and who of them is next.
//!
//! Among tenants the one whose virtual time is least is next; `lines` keeps that order.
//! Inside a tenant the first come is, until he has waited so long that serving in order
//! would serve only those who are about to give up: then the newest goes first, who has
//! the most time left. That keeps the work useful where everybody cannot be served, and
//! where the queue is short it never happens.

use super::{
    lines::Lines,
    waiters::{WaiterId, Waiters},
};

/// How often a head that does not fit the budget is passed by, by calls of its own tenant
/// that do, before all wait for it.
pub(super) const PASSED_BY_MAX: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct ClassQueue {
    waiting: usize,
    /// Of those who wait.
    cost: u128,
    pub(super) lines: Lines,
}

/// Whose turn it is in a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) line: usize,
    pub(super) waiter: WaiterId,
    /// It goes before others of its tenant that came earlier.
    pub(super) newest_first: bool,
}

impl ClassQueue {
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn cost(&self) -> u128 {
        self.cost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    #[cfg(test)]
    pub(super) fn lines_len(&self) -> usize {
        self.lines.len()
    }

    /// See [`Lines::empty`].
    pub(super) fn empty_lines(&mut self) {
        self.waiting = 0;
        self.cost = 0;
        self.lines.empty();
    }

    /// Puts a waiter at the end of its tenant's line; it must be in none.
    pub(super) fn push(&mut self, id: WaiterId, waiters: &mut Waiters) {
        let Some(waiter) = waiters.waiter_mut(id) else { return };
        let at = self.lines.join(waiter.tenant, waiter.weight);
        waiter.line = at;
        let (tenant, cost) = (waiter.tenant, waiter.cost);
        let mut list = self.lines.get(at).map_or_else(Default::default, |line| line.list);
        waiters.append_to_line(&mut list, id);
        self.lines.push(at, tenant, cost, list);
        self.waiting += 1;
        self.cost += u128::from(cost);
    }

    /// Takes a waiter out, wherever it stands.
    pub(super) fn remove(&mut self, id: WaiterId, waiters: &mut Waiters) {
        let Some(waiter) = waiters.waiter(id) else { return };
        let Some(line) = self.lines.get(waiter.line) else { return };
        let mut list = line.list;
        waiters.unlink_from_line(&mut list, id);
        self.lines.remove(waiter.line, waiter.tenant, waiter.cost, list);
        self.waiting = self.waiting.saturating_sub(1);
        self.cost = self.cost.saturating_sub(u128::from(waiter.cost));
    }

    /// Who is next. `lifo_target_ns`: how long the first of a line has waited when the
    /// newest goes before him.
    pub(super) fn next(&self, waiters: &Waiters, lifo_target_ns: u64, now_ns: u64) -> Option<Next> {
        let line = self.lines.first()?;
        let list = self.lines.get(line)?.list;
        let (head, tail) = (list.head()?, list.tail()?);
        let waited_ns = now_ns.saturating_sub(waiters.arrived_ns(head)?);
        let newest_first = lifo_target_ns < waited_ns && head != tail;
        Some(Next { line, waiter: if newest_first { tail } else { head }, newest_first })
    }

    /// One behind a head that does not fit, of the same line, that does: of the next few
    /// only, so that the look is short.
    pub(super) fn passer_by(
        &self,
        next: &Next,
        waiters: &Waiters,
        fits: impl Fn(u64) -> bool,
    ) -> Option<WaiterId> {
        if next.newest_first || PASSED_BY_MAX <= self.lines.passed_by(next.line, next.waiter) {
            return None;
        }
        let behind = std::iter::successors(waiters.behind(next.waiter), |id| waiters.behind(*id));
        let mut few = behind.take(usize::from(PASSED_BY_MAX));
        few.find(|id| waiters.waiter(*id).is_some_and(|waiter| fits(waiter.cost)))
    }

    /// Whom to push out: the newest of the costliest line, of `mine` where that is as costly.
    pub(super) fn costliest(&self, mine: Option<usize>) -> Option<WaiterId> {
        self.lines.get(self.lines.costliest(mine)?)?.list.tail()
    }
}
