//! Counts one call from its head to its end, and writes what it came to: one usage
//! record and one set of metrics for every call, however it ends.
//!
//! [`Call`] is a debt. Whoever holds it says how the call ended; dropped without a
//! word (the caller hung up, a task was cancelled) it writes the record itself, as
//! aborted, with what had been seen. So no path through the exchange can lose one.

mod bill;
mod draft;
mod holder;
mod partly;
mod record;
mod seat;

pub(crate) use self::{
    bill::{Bill, BillQuality},
    holder::{Holder, Holders},
    partly::{cost_in_order, cost_of, usage_in_order, usage_of},
    seat::Seat,
};

use self::{
    partly::Partly,
    record::{ledger_cost, ledger_outcome, log_disbelieved},
    seat::Left,
};
use crate::{
    identity::Caller,
    listener::{Own, Peer},
    metrics::{CacheOutcome, QueueOutcome, RouteMetrics, TierLabel},
};
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_core::{
    class::ClassId,
    price::{Price, PriceBook},
    scheduler::{Shed, Way},
    usage::Reading,
};
use tollgate_ledger::{self as ledger, DimId, Dims, Ledger, OpenCall, UsageRecord, Uuid};

/// The status in a record of a call whose caller left before it was answered: nginx's
/// word for it, which operators know how to read.
const CLIENT_CLOSED_REQUEST: u16 = 499;
const SERVICE_UNAVAILABLE: u16 = 503;
const DOWNSTREAM_GONE: &str = "downstream_gone";

/// What outlives a call: where records go, and what tokens cost.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) ledger: Ledger,
    pub(crate) prices: ArcSwap<PriceBook>,
    /// Cancelled when the drain cuts what is left: who goes then did not hang up.
    pub(crate) cut: CancellationToken,
    pub(crate) cut_calls: AtomicU64,
}

/// The accounting handles of one route.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) metrics: Arc<RouteMetrics>,
    pub(crate) route: DimId,
    /// By place of the class.
    pub(crate) classes: Box<[DimId]>,
    pub(crate) class_default: ClassId,
    /// A line in the log for every call.
    pub(crate) access: bool,
}

impl Lane {
    /// The least important class.
    pub(crate) fn class_last(&self) -> ClassId {
        ClassId::new(self.classes.len().saturating_sub(1)).unwrap_or(self.class_default)
    }
}

/// A call that has begun and is not written yet.
#[must_use]
#[derive(Debug)]
pub(crate) struct Call(Option<Box<Draft>>);

#[derive(Debug)]
struct Draft {
    meter: Arc<Meter>,
    lane: Arc<Lane>,
    started: Instant,
    class: ClassId,
    record: UsageRecord,
    model: Option<Arc<str>>,
    /// Of `model`; looked up when the call was dispatched.
    price: Option<Arc<Price>>,
    cache: CacheOutcome,
    tier: TierLabel,
    queue: Option<(Duration, QueueOutcome)>,
    way: Option<Way>,
    /// Why the queue refused it or took it back, if it did.
    shed: Option<Shed>,
    dispatched: Option<Instant>,
    /// Goes with the record: by then the permit must have come back.
    holder: Option<Holder>,
    first_byte: Option<Instant>,
    reason: Option<&'static str>,
    /// Why another upstream is asked than its route's, if one is.
    fallback: Option<&'static str>,
    /// The provider charges for its kind by tokens.
    billed: bool,
    /// Its request was given to a connection, and nobody has said what it came to.
    owes: bool,
    /// Bytes of a request body that streams through.
    passed_in: Option<Arc<AtomicU64>>,
    /// What became of its caller, if that is known elsewhere.
    left: Option<Arc<OnceLock<Left>>>,
    /// More than one upstream call, or less, was needed for its items.
    partly: Option<Box<Partly>>,
    /// Some of its items came from the cache.
    is_partial: bool,
    /// Where it is ours, who is to hear what it cost.
    own: Option<Arc<Own>>,
}

impl Meter {
    /// What `reading` costs: by the model that answered, else by the one that was asked.
    pub(crate) fn bill(&self, reading: Reading, call: &Call) -> Bill {
        self.bill_of(reading, call, call.bytes_in())
    }

    /// The same, of a call of which only `bytes_in` were sent upstream.
    pub(crate) fn bill_of(&self, reading: Reading, call: &Call, bytes_in: u64) -> Bill {
        if reading.disbelieved {
            log_disbelieved(call);
        }
        self.bill_by(reading, call.model(), call.price(), (bytes_in, call.started_ms()))
    }

    /// The same, of an answer to `asked` that no call has brought.
    pub(crate) fn bill_of_put(
        &self,
        reading: Reading,
        asked: Option<&Arc<str>>,
        bytes_in: u64,
    ) -> Bill {
        self.bill_by(reading, asked, None, (bytes_in, unix_ms()))
    }

    fn bill_by(
        &self,
        reading: Reading,
        asked: Option<&Arc<str>>,
        price: Option<&Arc<Price>>,
        (bytes_in, at_ms): (u64, i64),
    ) -> Bill {
        let own = price;
        let reading = reading.fill_gaps(bytes_in);
        // Nearly always the name that was asked for, whose price was looked up then.
        let answered: Option<Arc<str>> = match (reading.model, asked) {
            (Some(name), Some(asked)) if *name == **asked => Some(asked.clone()),
            (name, _) => name.map(Arc::from),
        };
        let other = answered.as_ref().filter(|name| Some(*name) != asked);
        let prices = self.prices.load();
        let price_of = |model: &Arc<str>| prices.resolve(model, at_ms);
        let price = other.and_then(price_of).or(own);
        let price = price.or_else(|| price_of(asked?));
        Bill {
            cost: price.map(|price| price.cost_of(&reading.usage, reading.requests)),
            usage: reading.usage,
            quality: reading.quality.into(),
            model: answered.or_else(|| asked.cloned()),
        }
    }
}

impl Call {
    pub(crate) fn begin(meter: &Arc<Meter>, lane: &Arc<Lane>) -> Self {
        let now_ms = unix_ms();
        let id = ledger::mint_id(u64::try_from(now_ms).unwrap_or(0));
        let dims = Dims { route: lane.route, ..Dims::default() };
        Self(Some(Box::new(Draft {
            meter: meter.clone(),
            lane: lane.clone(),
            started: Instant::now(),
            class: lane.class_default,
            record: UsageRecord::new(id, now_ms, dims),
            model: None,
            price: None,
            cache: CacheOutcome::Bypass,
            tier: TierLabel::None,
            queue: None,
            way: None,
            shed: None,
            dispatched: None,
            holder: None,
            first_byte: None,
            reason: None,
            fallback: None,
            billed: false,
            owes: false,
            passed_in: None,
            left: None,
            partly: None,
            is_partial: false,
            own: None,
        })))
    }

    /// The same, if its peer is ourselves marked as a call of our own: in the ledger like any other,
    /// but no caller's in the numbers about callers.
    pub(crate) fn of(self, peer: &Peer) -> Self {
        let Some(own) = &peer.own else { return self };
        let mut ours = self.ours();
        if let Some(draft) = &mut ours.0 {
            draft.own = Some(own.clone());
        }
        ours
    }

    /// The same, marked as a call of our own.
    pub(crate) fn ours(mut self) -> Self {
        if let Some(draft) = &mut self.0 {
            draft.record.own = true;
        }
        self
    }

    /// The same call in other hands; this one no longer owes anything.
    pub(crate) fn hand_over(&mut self) -> Self {
        Self(self.0.take())
    }

    /// The caller's place, to be kept apart from the call that others finish.
    pub(crate) fn seat(&mut self) -> Seat {
        let (seat, left) = Seat::new();
        if let Some(draft) = &mut self.0 {
            draft.left = Some(left);
        }
        seat
    }

    pub(crate) fn id(&self) -> Uuid {
        self.0.as_ref().map_or(Uuid::nil(), |draft| draft.record.id)
    }

    pub(crate) fn started(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |draft| draft.started)
    }

    pub(crate) fn started_ms(&self) -> i64 {
        self.0.as_ref().map_or(0, |draft| draft.record.started_at_ms)
    }

    /// The route, the class and the caller are known.
    pub(crate) fn routed(&mut self, lane: &Arc<Lane>, class: ClassId, caller: &Caller) {
        let Some(draft) = &mut self.0 else { return };
        let ledger = &draft.meter.ledger;
        let word = |value: &Option<HeaderValue>| match value.as_ref().map(HeaderValue::to_str) {
            Some(Ok(word)) => ledger.dim(word),
            Some(Err(_)) | None => DimId::NONE,
        };
        draft.record.dims = Dims {
            route: lane.route,
            tenant: ledger.dim(caller.tenant.as_str()),
            user: word(&caller.user),
            tier: word(&caller.tier),
            project: word(&caller.project),
            business: word(&caller.business),
            class: lane.classes.get(class.place()).copied().unwrap_or(DimId::NONE),
            ..Dims::default()
        };
        draft.class = class;
        draft.lane = lane.clone();
    }

    /// Its class is another than its head alone said.
    pub(crate) fn is_of(&mut self, lane: &Lane, class: ClassId) {
        let Some(draft) = &mut self.0 else { return };
        draft.record.dims.class = lane.classes.get(class.place()).copied().unwrap_or(DimId::NONE);
        draft.class = class;
    }

    /// `billed`: the provider charges for this kind of call by tokens.
    pub(crate) fn asks(&mut self, model: Option<&Arc<str>>, bytes_in: u64, billed: bool) {
        let Some(draft) = &mut self.0 else { return };
        draft.record.bytes_in = bytes_in;
        draft.billed = billed;
        if let Some(model) = model {
            draft.record.dims.model = draft.meter.ledger.dim(model);
            draft.model = Some(model.clone());
        }
    }

    fn bytes_in(&self) -> u64 {
        self.0.as_ref().map_or(0, |draft| draft.bytes_in())
    }

    pub(crate) fn model(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.model.as_ref()
    }

    /// How long the upstream has been at it; zero for a call that never went there.
    pub(crate) fn upstream_took(&self) -> Duration {
        let dispatched = self.0.as_ref().and_then(|draft| draft.dispatched);
        dispatched.map_or(Duration::ZERO, |dispatched| dispatched.elapsed())
    }

    fn price(&self) -> Option<&Arc<Price>> {
        self.0.as_ref()?.price.as_ref()
    }

    pub(crate) fn sent_in(&mut self, bytes_in: u64) {
        if let Some(draft) = &mut self.0 {
            draft.passed_in = None;
            draft.record.bytes_in = bytes_in;
        }
    }

    /// Its body streams through, and is counted there.
    pub(crate) fn streams(&mut self, passed_in: Option<Arc<AtomicU64>>) {
        if let Some(draft) = &mut self.0 {
            draft.passed_in = passed_in;
        }
    }

    /// Whether its request is in the hands of a connection: from then on the provider may
    /// work and charge, and a call of which nothing more is heard is not free.
    pub(crate) fn sent(&mut self, sent: bool) {
        if let Some(draft) = &mut self.0 {
            draft.owes = sent && draft.billed;
        }
    }

    pub(crate) fn version(&mut self, version: &str) {
        if let Some(draft) = &mut self.0 {
            draft.record.dims.version = draft.meter.ledger.dim(version);
        }
    }

    pub(crate) fn cache(&mut self, outcome: CacheOutcome, tier: TierLabel) {
        if let Some(draft) = &mut self.0 {
            draft.cache = outcome;
            draft.tier = tier;
        }
    }

    /// It waits for its turn; if it is dropped now, it left the queue.
    pub(crate) fn queued(&mut self) {
        if let Some(draft) = &mut self.0 {
            if draft.own.is_none() {
                draft.lane.metrics.arrived(Instant::now());
            }
            draft.queue = Some((Duration::ZERO, QueueOutcome::Cancelled));
        }
    }

    pub(crate) fn shed(&mut self, waited: Duration, shed: Shed) {
        if let Some(draft) = &mut self.0 {
            draft.queue = Some((waited, QueueOutcome::Shed));
            draft.shed = Some(shed);
        }
    }

    /// Its turn has come, by this way, and the holder is the witness of the permit's return. It is
    /// written as open, so that it is not lost if the process dies before it ends.
    pub(crate) fn dispatched(
        &mut self,
        waited: Duration,
        way: Option<Way>,
        holder: Option<Holder>,
    ) {
        let Some(draft) = &mut self.0 else { return };
        draft.holder = holder;
        draft.queue = Some((waited, QueueOutcome::Served));
        draft.way = way;
        draft.dispatched = Some(Instant::now());
        let usage = draft.asked_for();
        let at_ms = draft.record.started_at_ms;
        let prices = draft.meter.prices.load();
        let model = draft.model.as_ref();
        draft.price = model.and_then(|model| prices.resolve(model, at_ms)).cloned();
        let price = draft.price.as_ref();
        draft.meter.ledger.open_call(&OpenCall {
            id: draft.record.id,
            started_at_ms: at_ms,
            dims: draft.record.dims,
            outcome: ledger_outcome(draft.cache),
            unpriced: draft.billed && price.is_none(),
            own: draft.record.own,
            input_tokens: u32::try_from(usage.input).unwrap_or(u32::MAX),
            cost: price.map(|price| ledger_cost(&price.cost(&usage))).unwrap_or_default(),
        });
    }

    /// Why its caller is given something older than what it asked for.
    pub(crate) fn stands_in(&mut self, reason: Option<&'static str>) -> &mut Self {
        if let Some(draft) = &mut self.0 {
            draft.reason = reason;
        }
        self
    }

    /// Why another upstream is asked in place of its own; `None`: none of them answered.
    pub(crate) fn falls_back(&mut self, reason: Option<&'static str>) {
        if let Some(draft) = &mut self.0 {
            draft.fallback = reason;
        }
    }

    pub(crate) fn first_byte(&mut self) {
        if let Some(draft) = &mut self.0
            && draft.first_byte.is_none()
        {
            draft.first_byte = Some(Instant::now());
        }
    }

    /// The upstream's answer has ended, whole or not. Its bill is this call's.
    pub(crate) fn answered(mut self, end: Answered<'_>) {
        let Some(mut draft) = self.0.take() else { return };
        draft.record.status = end.status;
        draft.record.bytes_out = end.bytes_out;
        draft.reason = end.reason.or(draft.fallback);
        draft.bill_with_parts(end.bill);
        draft.write();
    }

    /// Another call's bill was enough for this one: a hit, or a follower.
    pub(crate) fn spared(mut self, status: u16, bytes_out: u64, bill: &Bill) {
        let Some(mut draft) = self.0.take() else { return };
        draft.record.status = status;
        draft.record.bytes_out = bytes_out;
        draft.bill(bill, true);
        draft.write();
    }

    /// Refused, or failed before an answer.
    ///
    /// Nothing, if the call is in other hands: they have written it.
    pub(crate) fn refused(mut self, status: u16, reason: &'static str) {
        let Some(mut draft) = self.0.take() else { return };
        draft.record.status = status;
        draft.reason = Some(reason);
        draft.write();
    }
}

/// How an upstream's answer ended.
#[derive(Debug)]
pub(crate) struct Answered<'a> {
    pub(crate) status: u16,
    pub(crate) bytes_out: u64,
    pub(crate) reason: Option<&'static str>,
    pub(crate) bill: &'a Bill,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(mut draft) = self.0.take() {
            draft.record.status = CLIENT_CLOSED_REQUEST;
            draft.reason = Some(DOWNSTREAM_GONE);
            draft.write();
        }
    }
}

/// Wall-clock time, in milliseconds: for records and for what other processes read.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
