//! What a call came to: its bill, and the one record and the one set of metrics that are
//! written when it ends.

use super::{
    Bill, BillQuality, CLIENT_CLOSED_REQUEST, Call, DOWNSTREAM_GONE, Draft, SERVICE_UNAVAILABLE,
    record::{ledger_cost, ledger_outcome, ledger_tokens, log_access},
    seat::Left,
};
use crate::metrics::{CacheOutcome, CallEnd, Naming, QueueOutcome, SavedHow, Spending, TierLabel};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;
use tollgate_core::{money::PicoUsd, price::Cost, scheduler::Shed, usage::Usage};
use tollgate_ledger::{self as ledger, CacheTier, Reason};

impl Call {
    /// It had its turn, and that was taken back.
    pub(crate) fn taken_back(&mut self) {
        if let Some(draft) = &mut self.0 {
            draft.shed = Some(Shed::Preempted);
        }
    }
}

impl Draft {
    pub(super) fn bytes_in(&self) -> u64 {
        let passed = self.passed_in.as_ref();
        passed.map_or(self.record.bytes_in, |passed| passed.load(Ordering::Relaxed))
    }

    /// What a call used that only its request is known of.
    pub(super) fn asked_for(&self) -> Usage {
        let bytes = if self.billed { self.bytes_in() } else { 0 };
        Usage { input: tollgate_core::usage::tokens_in(bytes), ..Usage::default() }
    }

    /// It was sent and nothing came back: what a crash would have left of it in the ledger.
    fn estimate(&mut self) {
        let usage = self.asked_for();
        let cost = self.price.as_ref().map(|price| price.cost(&usage));
        let (quality, model) = (BillQuality::Estimated, self.model.clone());
        self.bill_with_parts(&Bill { usage, quality, cost, model });
    }

    /// Who was cut by the drain did not leave.
    fn blame(&mut self) {
        if !self.meter.cut.is_cancelled() {
            return;
        }
        if self.reason == Some(DOWNSTREAM_GONE) {
            self.reason = Some("draining");
            if self.record.status == CLIENT_CLOSED_REQUEST {
                self.record.status = SERVICE_UNAVAILABLE;
            }
        }
        if self.reason == Some("draining") {
            self.meter.cut_calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn bill(&mut self, bill: &Bill, spared: bool) {
        self.owes = false;
        let record = &mut self.record;
        record.tokens = ledger_tokens(&bill.usage);
        record.quality = match bill.quality {
            BillQuality::Reported => ledger::Quality::Reported,
            BillQuality::Partial => ledger::Quality::Partial,
            BillQuality::Estimated => ledger::Quality::Estimated,
            BillQuality::Absent => ledger::Quality::Absent,
        };
        let counted = bill.quality != BillQuality::Absent;
        record.unpriced = counted && bill.cost.is_none();
        if let Some(model) = &bill.model
            && self.model.as_ref() != Some(model)
        {
            record.dims.model = self.meter.ledger.dim(model);
            self.model = Some(model.clone());
        }
        if let Some(cost) = &bill.cost {
            if spared && record.own {
                // Nobody was spared anything.
            } else if spared {
                record.saved_pico = cost.total().to_record();
            } else {
                record.cost = ledger_cost(cost);
            }
        }
        if counted {
            self.count(bill, spared);
        }
    }

    fn count(&self, bill: &Bill, spared: bool) {
        let Some(model) = &self.model else { return };
        let handles = self.lane.metrics.model(model, || self.naming(model));
        let cost = bill.cost.unwrap_or_default();
        let how = match self.cache {
            CacheOutcome::Collapsed => SavedHow::Collapsed,
            CacheOutcome::Hit | CacheOutcome::Stale | CacheOutcome::Miss | CacheOutcome::Bypass => {
                SavedHow::Hit
            }
        };
        handles.spent(&Spending {
            usage: if spared { Usage::default() } else { bill.usage },
            cost: if spared { Cost::default() } else { cost },
            compute: PicoUsd::ZERO,
            saved: (spared && !self.record.own).then(|| (how, cost.total())),
            // What a partial answer spared is counted after what it spent.
            unpriced: self.record.unpriced && !self.is_partial,
            estimated: bill.quality == BillQuality::Estimated,
        });
    }

    /// Of a call that has been billed.
    pub(super) fn count_spared(&self, bill: &Bill) {
        self.count(bill, true);
    }

    fn naming(&self, model: &str) -> Naming {
        if self.meter.prices.load().names(model) {
            return Naming::Own;
        }
        // A name that an answer was given under is one that the upstream knows.
        let answered = (200..300).contains(&self.record.status);
        if answered { Naming::Answered } else { Naming::Asked }
    }

    pub(super) fn write(mut self: Box<Self>) {
        if let Some(Left { status, reason }) = self.left.as_ref().and_then(|left| left.get()) {
            self.record.status = *status;
            self.reason = Some(reason);
        }
        self.blame();
        if self.owes {
            self.estimate();
        } else {
            self.bill_in_vain();
        }
        self.record.bytes_in = self.bytes_in();
        let now = Instant::now();
        let since = |from: Instant| now.saturating_duration_since(from);
        let us = |length: Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let waited = match self.queue {
            // Left while waiting: it waited until now.
            Some((Duration::ZERO, QueueOutcome::Cancelled)) => Some(since(self.started)),
            Some((waited, _)) => Some(waited),
            None => None,
        };
        let upstream = self.dispatched.map(since);
        let first_byte = self.first_byte.map(|at| at.saturating_duration_since(self.started));
        let record = &mut self.record;
        record.times.total_us = us(since(self.started));
        record.times.queue_us = waited.map_or(0, us);
        record.times.upstream_us = upstream.map_or(0, us);
        record.times.first_byte_us = first_byte.map_or(0, us);
        record.outcome = match self.is_partial {
            true => ledger::CacheOutcome::Partial,
            false => ledger_outcome(self.cache),
        };
        record.tier = match self.tier {
            TierLabel::None => CacheTier::None,
            TierLabel::Memory => CacheTier::Memory,
            TierLabel::Redis => CacheTier::Redis,
            TierLabel::Memcached => CacheTier::Memcached,
            TierLabel::Postgres => CacheTier::Postgres,
            TierLabel::Disk => CacheTier::Disk,
        };
        record.fallback = self.fallback.is_some();
        record.reason = self.reason.map_or(Reason::None, Reason::from_name);
        if self.lane.access {
            log_access(&self.record, self.lane.metrics.route(), self.model.as_deref());
        }
        if let Some(own) = &self.own {
            let pico = u64::try_from(self.record.cost.total()).unwrap_or(0);
            own.costs((!self.record.unpriced).then_some(pico));
        }
        self.meter.ledger.close(&self.record);
        self.lane.metrics.ended(&CallEnd {
            at: now,
            record: self.record.id,
            class: self.class,
            code: self.record.status,
            total: since(self.started),
            upstream,
            first_byte,
            way: self.way,
            shed: self.shed,
            queue: waited.zip(self.queue).map(|(waited, (_, outcome))| (waited, outcome)),
            // What stood in for an answer was no refusal.
            reason: self.reason.filter(|reason| {
                self.cache != CacheOutcome::Stale && self.fallback != Some(*reason)
            }),
            cache: self.cache,
            tier: self.tier,
            own: self.record.own,
        });
    }
}
