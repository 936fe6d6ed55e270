//! Wires the parts together. The only place that knows all of them.
//!
//! What a configuration decides is a [`Snapshot`]: a reload builds a whole new one and
//! swaps it; an exchange holds one from its head to its end. What outlives a
//! configuration (ledger, memory tier, metrics, flights) is in [`Parts`].

mod destination;
mod epoch;
mod redis;
mod resilience;
mod stores;
mod reload;
mod run;
mod sweep;

pub(crate) use self::destination::Destination;
pub use self::run::{Addresses, App, StartError};
pub(crate) use self::run::{parts, with_causes};

use crate::{
    admin::AdminParts,
    admission::{Admission, Bounds, ClassLimits, Classes, Limits, Range, Share},
    events::Events,
    exchange::Fallback,
    forecast::Forecasts,
    identity::Sources,
    inspect::BodyLimits,
    listener::Peer,
    meter::{Lane, Meter},
    metrics::{self, Metrics},
    relay::Answer,
    route::{Route, Routes},
    scaling,
    shutdown::Shutdown,
    warm::Warming,
};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
};
use tokio_util::task::TaskTracker;
use tollgate_cache::{flight::Flights, memo::RawMemo, tiers::Tiers, versions::Versions};
use tollgate_config::Config;

/// Everything an exchange may use.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cache: CacheParts,
    pub(crate) flights: Flights<Answer>,
    pub(crate) warming: Warming,
    pub(crate) events: Events,
    pub(crate) forecasts: Forecasts,
    pub(crate) shutdown: Shutdown,
    pub(crate) admin: AdminParts,
    /// One reload at a time: each builds on what the one before left.
    reloading: Mutex<()>,
    /// Bytes of request bodies held at this moment.
    pub(crate) held: Arc<AtomicU64>,
    /// Connections of callers: the drain waits for them.
    pub(crate) connections: TaskTracker,
    /// Everything else that runs: connections to upstreams, timers, servers of our own.
    pub(crate) tasks: TaskTracker,
    pub(crate) started_ms: i64,
}

impl Parts {
    /// Calls that wait or run, over all upstreams.
    pub(crate) fn in_flight(&self) -> u64 {
        let snapshot = self.snapshot.load();
        let counts = snapshot.destinations.iter().map(|to| to.admission.snapshot());
        counts.map(|seen| seen.inflight.saturating_add(crate::body::len_u64(seen.waiting))).sum()
    }
}

/// What the cache is made of.
#[derive(Debug)]
pub(crate) struct CacheParts {
    pub(crate) tiers: Tiers,
    pub(crate) versions: Arc<Versions>,
    /// Whoever writes to the stores: at the end what is queued.
    pub(crate) writers: TaskTracker,
    /// What bodies were found to ask, by their bytes.
    pub(crate) memo: RawMemo<crate::cache::Known>,
    /// Whose entries these are, among all that share a store.
    pub(crate) namespace: Box<str>,
    /// How often callers have voted answers out.
    pub(crate) votes: crate::cache::Votes,
    /// Calls that wait to be asked with others.
    pub(crate) joins: Arc<crate::exchange::Joins>,
    /// Which answers were begun to be renewed of late.
    pub(crate) pauses: crate::exchange::Pauses,
    /// What questions of late were made of, where the operator wants it known.
    pub(crate) neighbours: crate::cache::Neighbours,
    /// What is known of URLs, whoever asks for them.
    pub(crate) urls: tollgate_cache::urls::Urls,
    /// URLs that each asks for by itself, as their answers were not for all.
    pub(crate) alone: tollgate_cache::vain::Vain,
    /// Which calls asked for what, where the operator wants it written down.
    pub(crate) traces: crate::cache::Traces,
    /// The longest answer that is stored.
    pub(crate) entry_bytes_max: usize,
}

/// What one configuration decides.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) config: Arc<Config>,
    pub(crate) routes: Routes,
    pub(crate) destinations: Box<[Arc<Destination>]>,
    pub(crate) classes: Arc<Classes>,
    pub(crate) sources: Sources,
    /// For calls that match no route.
    pub(crate) unrouted: Arc<Lane>,
}

/// Why a configuration cannot come into force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Destination(#[from] destination::DestinationError),
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
}

impl Snapshot {
    /// Makes a configuration ready. Upstreams that `before` had alike are kept with their
    /// connections, and those that it had at all with their queues, which go on under the
    /// rules of `before` until they are given these.
    pub(crate) fn new(
        config: Arc<Config>,
        meter: &Meter,
        metrics: &Metrics,
        upstream_tasks: &TaskTracker,
        before: Option<&Self>,
    ) -> Result<Self, SnapshotError> {
        let classes = classes_of(&config);
        // The same list is the same one, so that nobody need compare names.
        let classes = before
            .map(|before| before.classes.clone())
            .filter(|before| *before == classes)
            .unwrap_or(classes);
        let known: HashMap<&str, &Arc<Destination>> = before
            .into_iter()
            .flat_map(|before| before.destinations.iter())
            .map(|destination| (destination.config.name.as_str(), destination))
            .collect();
        let destinations = config
            .upstreams
            .iter()
            .map(|upstream| match known.get(upstream.name.as_str()) {
                Some(kept)
                    if kept.config == *upstream
                        && *kept.namespace == *config.namespace(upstream) =>
                {
                    Ok(Arc::clone(kept))
                }
                // Those who run and wait at it count on, whatever else is new about it.
                known => {
                    let admission = known.map_or_else(
                        || Admission::new(limits_of(upstream), &classes),
                        |kept| kept.admission.clone(),
                    );
                    Destination::new(&config, upstream, admission, upstream_tasks).map(Arc::new)
                }
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let handles = lay_out(&config, metrics)?;
        let class_dims: Box<[_]> =
            config.classes.iter().map(|class| meter.ledger.dim(&class.name)).collect();
        let lane = |metrics, route: &str| {
            let (route, classes) = (meter.ledger.dim(route), class_dims.clone());
            let class_default = config.class_default;
            let access = config.logs.access;
            Arc::new(Lane { metrics, route, classes, class_default, access })
        };
        let unrouted = lane(handles.unrouted, "");
        let sources = Sources::new(&config);
        let routes = config.routes.iter().zip(handles.routes).filter_map(|(route, metrics)| {
            let destination = destinations.get(route.upstream.place())?.clone();
            let lane = lane(metrics, &route.name);
            let mut made = Route::new(route.clone(), destination, lane, classes.clone(), &sources);
            made.fallbacks = fallbacks(&config, route, &destinations);
            Some(Arc::new(made.after(before.and_then(|before| before.alike(&config, &route.name)))))
        });
        let routes = Routes::new(routes.collect());
        Ok(Self { routes, destinations, classes, sources, unrouted, config })
    }

    /// The route of that name, if callers are who they are under `config`.
    fn alike(&self, config: &Config, name: &str) -> Option<&Route> {
        let is_same = self.config.identity == config.identity;
        self.routes.iter().find(|route| is_same && *route.name == *name).map(|route| &**route)
    }

    /// Whether what `peer` says of itself is believed.
    pub(crate) fn trusts(&self, peer: &Peer) -> bool {
        let listener = self.config.listeners.get(peer.listener);
        match listener.and_then(|listener| listener.trusted.as_ref()) {
            None => true,
            Some(nets) => nets.iter().any(|net| net.contains(&peer.address)),
        }
    }

    pub(crate) fn headers_max(&self, peer: &Peer) -> usize {
        let listeners = &self.config.listeners;
        let listener = listeners.get(peer.listener).or(listeners.first());
        listener.map_or(usize::MAX, |listener| listener.limits.headers_max)
    }

    pub(crate) fn body_limits(&self, peer: &Peer, route: &Route) -> BodyLimits {
        let listeners = &self.config.listeners;
        let limits = listeners.get(peer.listener).or(listeners.first()).map(|l| &l.limits);
        BodyLimits {
            hold_bytes_max: limits.map_or(0, |limits| limits.body_bytes_max),
            held_bytes_max: limits.map_or(0, |limits| limits.held_bytes_max),
            refuse_above_bytes: route.config.body_bytes_max,
            frame_timeout: limits.map_or(FRAME_TIMEOUT, |limits| limits.idle_timeout),
        }
    }
}

/// Where no listener says otherwise; nginx's `client_body_timeout`.
const FRAME_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

fn classes_of(config: &Config) -> Arc<Classes> {
    let list = config.classes.iter().map(|class| {
        let limits = ClassLimits {
            strict: class.strict,
            weight: class.weight,
            max: class.max,
            floor: class.floor,
            queue_max: class.queue_max,
            max_wait: class.wait_max,
            lifo_target: Some(class.lifo_target),
            preemptible: class.preemptible,
            ..ClassLimits::NOTHING_WAITS
        };
        (Arc::from(&*class.name), limits)
    });
    Classes::new(list, config.class_default)
}

/// Who is asked in place of a route's upstream, and who in place of that.
fn fallbacks(
    config: &Config,
    route: &tollgate_config::Route,
    destinations: &[Arc<Destination>],
) -> Box<[Fallback]> {
    let mut at = config.upstream(route.upstream);
    let chain = std::iter::from_fn(|| {
        let to = at?.fallback.as_ref()?;
        at = config.upstream(to.upstream);
        let destination = destinations.get(to.upstream.place())?.clone();
        Some(Fallback { destination, model: to.model.as_deref().map(Arc::from) })
    });
    // There are no circles; were there one, it would end here.
    chain.take(destinations.len()).collect()
}

/// What an upstream's configuration says of all calls at it together.
fn limits_of(upstream: &tollgate_config::Upstream) -> Limits {
    let queue_max = upstream.queue_max.unwrap_or(usize::MAX);
    let (reserve, preempt_per_s) = (upstream.reserve, upstream.preempt_per_s);
    let budget = upstream.tokens_max;
    let share = match upstream.share {
        tollgate_config::Share::Calls => Share::Calls,
        tollgate_config::Share::Time => Share::Time,
        tollgate_config::Share::Tokens => Share::Tokens,
    };
    let bounds = Bounds { budget, queue_max, reserve, preempt_per_s };
    let adaptive = upstream.adaptive.map(|range| Range { min: range.min, max: range.max });
    Limits { limit: upstream.concurrency_limit, adaptive, bounds, share }
}

fn lay_out(config: &Config, metrics: &Metrics) -> Result<metrics::Handles, metrics::MetricsError> {
    let classes: Vec<String> = config.classes.iter().map(|class| class.name.clone()).collect();
    let routes: Vec<String> = config.routes.iter().map(|route| route.name.clone()).collect();
    let aliases: Vec<scaling::Alias> = config
        .metrics
        .aliases
        .iter()
        .map(|alias| scaling::Alias {
            name: alias.name.clone(),
            quantile: alias.quantile,
            unit: match alias.unit {
                tollgate_config::AliasUnit::Milliseconds => scaling::Unit::Milliseconds,
                tollgate_config::AliasUnit::Seconds => scaling::Unit::Seconds,
            },
            window: alias.window,
            routes: alias.routes.clone(),
        })
        .collect();
    metrics.lay_out(metrics::Layout { classes: &classes, routes: &routes, aliases: &aliases })
}
