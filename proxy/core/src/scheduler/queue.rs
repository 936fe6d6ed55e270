//! The waiters of one class: a line per tenant, and the tenants in turn.
//!
//! A tenant whose turn came goes to the end, and so does one that comes (back)
//! without waiters: leaving and returning gains nothing, so a tenant is forgotten
//! with its last waiter and the table is never larger than the queue.
//!
//! Tenants are told apart up to [`TENANTS_MAX`]; later ones share
//! [`LINES_SHARED`] lines by hash, so that a million names cost no more and are
//! no louder than a few thousand.

use super::waiters::{List, WaiterId, Waiters};
use std::collections::{BTreeMap, HashMap};

/// How many tenants of one class have a line of their own at a time.
pub(super) const TENANTS_MAX: usize = 4096;

/// How many lines the tenants above that share.
const LINES_SHARED: u64 = 128;

/// Whose line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TenantKey {
    Own(u64),
    Shared(u64),
}

#[derive(Debug, Default)]
pub(super) struct ClassQueue {
    waiting: usize,
    lines: HashMap<TenantKey, Line>,
    /// Whose turn is when. (Cost-weighted tenants will put their virtual time before the turn.)
    turns: BTreeMap<u64, TenantKey>,
    turn_next: u64,
}

#[derive(Debug)]
struct Line {
    list: List,
    turn: u64,
}

impl ClassQueue {
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    #[cfg(test)]
    pub(super) fn lines_len(&self) -> usize {
        self.lines.len()
    }

    /// Which line a tenant joins. While one of its calls may be in a shared line
    /// its next ones join that too, or they would overtake the first.
    pub(super) fn key(&self, tenant: u64) -> TenantKey {
        let own = TenantKey::Own(tenant);
        let shared = TenantKey::Shared(tenant % LINES_SHARED);
        let is_full = TENANTS_MAX <= self.lines.len();
        let has_own = self.lines.contains_key(&own);
        if !has_own && (is_full || self.lines.contains_key(&shared)) { shared } else { own }
    }

    /// Empties every line and leaves it standing with its turn, so that all who stood
    /// in them can be put back, others among them, in the order they arrived in. Nobody
    /// who stood in a line may be left out: an empty line would never go away.
    pub(super) fn empty_lines(&mut self) {
        self.waiting = 0;
        for line in self.lines.values_mut() {
            line.list = List::default();
        }
    }

    pub(super) fn push(&mut self, id: WaiterId, tenant: TenantKey, waiters: &mut Waiters) {
        let line = self.lines.entry(tenant).or_insert_with(|| {
            let turn = self.turn_next;
            self.turn_next += 1;
            self.turns.insert(turn, tenant);
            Line { list: List::default(), turn }
        });
        waiters.append_to_line(&mut line.list, id);
        self.waiting += 1;
    }

    /// Who is next: the first in the line of the tenant whose turn it is.
    pub(super) fn first(&self) -> Option<WaiterId> {
        let (_, tenant) = self.turns.first_key_value()?;
        self.lines.get(tenant)?.list.head()
    }

    /// Takes a waiter out, wherever it stands.
    pub(super) fn remove(&mut self, id: WaiterId, tenant: TenantKey, waiters: &mut Waiters) {
        let Some(line) = self.lines.get_mut(&tenant) else { return };
        waiters.unlink_from_line(&mut line.list, id);
        self.waiting = self.waiting.saturating_sub(1);
        if line.list.head().is_none() {
            self.turns.remove(&line.turn);
            self.lines.remove(&tenant);
        }
    }

    /// A tenant had its turn; the others come first now.
    pub(super) fn pass_turn(&mut self, tenant: TenantKey) {
        if let Some(line) = self.lines.get_mut(&tenant) {
            self.turns.remove(&line.turn);
            line.turn = self.turn_next;
            self.turn_next += 1;
            self.turns.insert(line.turn, tenant);
        }
    }
}
