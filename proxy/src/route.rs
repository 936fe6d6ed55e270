//! Where a call goes, and what holds for it: the configuration's routes made ready.
//!
//! First match wins. What a request needs of its route (header names, metric handles,
//! ledger dimensions, the upstream's scheduler) is resolved once, when a configuration
//! comes into force.

mod claims;
mod conditions;
mod freshness;
mod key_rule;
mod offer;

pub(crate) use self::{
    claims::{By, Claimant, Classed},
    conditions::{Conditions, Fitting, Life, Unkept, Unmet, whole_form},
    freshness::Freshness,
    key_rule::{KeyRule, Said, decoded},
    offer::Offer,
};

use crate::{
    app::Destination,
    exchange::Fallback,
    head,
    identity::{SaidBy, Sources},
    meter::Lane,
    prefetch::Prefetch,
};
use http::{HeaderMap, HeaderValue, Method, header, request};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tollgate_cache::{
    rfc9111::{
        query::{Pattern, QueryRules},
        store::{Heuristic, Rules, SetCookie},
    },
    tiers::{Plan, TierName, TierUse, Writes},
};
use tollgate_config as config;
use tollgate_core::{
    dialect::{Dialect, Operation},
    items::Layout,
    scheduler::Classes,
};

/// No configured route is for this call.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no route matches; routes are tried in order by path, host, headers and methods")]
pub(crate) struct NoRoute;

/// A route, ready to be used.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) config: config::Route,
    pub(crate) name: Arc<str>,
    pub(crate) destination: Arc<Destination>,
    pub(crate) lane: Arc<Lane>,
    /// Of content mode.
    pub(crate) plan: Plan,
    pub(crate) http: HttpRules,
    /// All classes; the places in it are what [`Route::classed`] says.
    pub(crate) classes: Arc<Classes>,
    pub(crate) key: KeyRule,
    pub(crate) conditions: Conditions,
    pub(crate) freshness: Freshness,
    /// What is asked ahead here; `None`: nothing is.
    pub(crate) prefetch: Option<Arc<Prefetch>>,
    class_headers: claims::Headers,
    /// In what stored answers are given; `None`: as they are.
    pub(crate) offer: Option<Offer>,
    /// Where a plain service has its items.
    items: Option<Layout>,
    /// Of what may be kept, only what its key binds goes on to the upstream; and which fields say
    /// whose key it is.
    pub(crate) keyed_only: Option<SaidBy>,
    /// Who is asked in the upstream's place, one after the other.
    pub(crate) fallbacks: Box<[Fallback]>,
}

/// What holds for a route's `mode: http`.
#[derive(Debug)]
pub(crate) struct HttpRules {
    pub(crate) rules: Rules,
    pub(crate) query: QueryRules,
    pub(crate) plan: Plan,
}

/// The table of routes.
#[derive(Debug, Default)]
pub(crate) struct Routes(Box<[Arc<Route>]>);

impl Routes {
    pub(crate) fn new(routes: Vec<Arc<Route>>) -> Self {
        Self(routes.into())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.iter()
    }

    /// # Errors
    /// Nothing matches.
    pub(crate) fn choose(&self, head: &request::Parts, path: &str) -> Result<&Arc<Route>, NoRoute> {
        let host = host_without_port(&head.headers);
        let header = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        let method = head.method.as_str();
        self.0
            .iter()
            .find(|route| route.config.matches.accepts(method, &host, path, header))
            .ok_or(NoRoute)
    }
}

fn host_without_port(headers: &HeaderMap) -> Cow<'_, str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    Cow::Borrowed(name)
}

impl Route {
    pub(crate) fn new(
        config: config::Route,
        destination: Arc<Destination>,
        lane: Arc<Lane>,
        classes: Arc<Classes>,
        sources: &Sources,
    ) -> Self {
        let class_headers = claims::Headers::new(&config.class);
        let key = KeyRule::new(&config.cache, &config.matches.path);
        let conditions = Conditions::new(&config.cache);
        let freshness = Freshness::new(&config.cache);
        // A tier that is not told to keep less keeps an entry for as long as that can be of use.
        let lesser = |ttl: &Duration| *ttl < config.cache.ttl_longest();
        let plan =
            plan(&config.cache, |used| used.ttl_written.filter(lesser).map_or(u64::MAX, millis));
        let http = HttpRules::new(&config.cache);
        let name = Arc::from(&*config.name);
        let items = named_items(&config.cache.items);
        let prefetch = Prefetch::new(&config.cache, &lane.metrics).map(Arc::new);
        let offer = Offer::new(&config.cache);
        let keyed_only =
            (config.cache.forward == config::Forward::Keyed).then(|| sources.said_by());
        Self {
            config,
            name,
            destination,
            lane,
            plan,
            http,
            key,
            conditions,
            freshness,
            classes,
            fallbacks: Box::default(),
            prefetch,
            class_headers,
            offer,
            items,
            keyed_only,
        }
    }

    /// The same, going on with what the route of that name has learned before a reload, where that
    /// is about the same callers.
    pub(crate) fn after(mut self, before: Option<&Self>) -> Self {
        let goes_there =
            |before: &&Self| before.destination.upstream.name == self.destination.upstream.name;
        let learned = before.filter(goes_there).and_then(|before| before.prefetch.as_ref());
        if let Some(learned) = learned.filter(|learned| learned.is_of(&self.config.cache)) {
            self.prefetch = Some(learned.clone());
        }
        self
    }

    /// Where calls may have several items that are answered apart.
    pub(crate) fn layouts(&self, operation: Operation) -> &[Layout] {
        let own = Layout::of(operation);
        match &self.config.cache.items {
            config::Items::Off => &[],
            config::Items::Embeddings if own.iter().any(Layout::is_ranked) => &[],
            config::Items::Embeddings | config::Items::Auto => own,
            config::Items::Named { .. } => self.items.as_slice(),
        }
    }

    /// What a call asks for, as far as this route lets its dialect be read.
    pub(crate) fn operation(&self, method: &Method, path: &str) -> Operation {
        match self.config.dialect {
            Some(dialect) => Operation::in_dialect(dialect, method.as_str(), path),
            None => Operation::of(method.as_str(), path),
        }
    }

    /// The dialect that errors are told in.
    pub(crate) fn dialect(&self, operation: Operation) -> Dialect {
        self.config.dialect.unwrap_or_else(|| operation.dialect())
    }
}

fn named_items(items: &config::Items) -> Option<Layout> {
    let config::Items::Named { list, answers, index } = items else { return None };
    let steps = |pointer: &str| -> Vec<String> {
        let names = pointer.split('/').skip(1);
        names.map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
    };
    Some(Layout::named(steps(list), steps(answers), index.clone()))
}

impl HttpRules {
    fn new(cache: &config::CachePolicy) -> Self {
        let policy = &cache.http;
        let patterns = |names: &[String]| names.iter().map(|name| Pattern::new(name)).collect();
        let stale = &cache.stale;
        Self {
            rules: Rules {
                heuristic: policy.heuristic.map(|heuristic| Heuristic {
                    percent: heuristic.percent,
                    max_ms: millis(heuristic.max),
                    negative: heuristic.negative,
                }),
                set_cookie: match policy.set_cookie {
                    config::SetCookie::Strip => SetCookie::Strip,
                    config::SetCookie::Bypass => SetCookie::Bypass,
                    config::SetCookie::Keep => SetCookie::Keep,
                },
                stale_while_revalidate_ms: millis(stale.while_revalidate),
                stale_if_error_ms: millis(stale.if_error),
                ..Rules::default()
            },
            query: QueryRules {
                sort: policy.query.sort,
                ignore: patterns(&policy.query.ignore),
                only: policy.query.only.as_deref().map(patterns),
            },
            // A tier keeps what the upstream says for as long as it says, unless it is told not to.
            plan: plan(cache, |used| used.ttl_written.map_or(u64::MAX, millis)),
        }
    }
}

/// A route's tiers, in their order.
fn plan(cache: &config::CachePolicy, ttl_ms: impl Fn(&config::TierUse) -> u64) -> Plan {
    let uses = cache.tiers.iter().map(|used| TierUse {
        tier: match used.tier {
            config::Tier::Memory => TierName::Memory,
            config::Tier::Redis => TierName::Redis,
            config::Tier::Memcached => TierName::Memcached,
            config::Tier::Postgres => TierName::Postgres,
            config::Tier::Disk => TierName::Disk,
        },
        ttl_ms: ttl_ms(used),
        entry_bytes_max: used.entry_bytes_max.unwrap_or(u64::MAX),
    });
    let mut plan = Plan::new(uses);
    plan.writes = match cache.writes {
        config::Writes::Back => Writes::Back,
        config::Writes::Through => Writes::Through,
        config::Writes::Around => Writes::Around,
    };
    plan.promotes = cache.promotes;
    plan
}

pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The path as routes compare it.
pub(crate) fn normal_path(head: &request::Parts) -> Result<Cow<'_, str>, head::BadHead> {
    head::normal_path(head.uri.path())
}
