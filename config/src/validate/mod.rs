//! From what the file says to what is true, keeping every mistake.
//!
//! The order is that of the file's sections; what joins two of them (names, classes,
//! addresses that overlap) is looked at where the second one is.

mod claims;
mod concurrency;
mod cross;
mod edge;
mod endpoint;
mod events;
mod forecast;
mod freshness;
mod http;
mod items;
mod key;
mod postgres;
mod prefetch;
mod profiles;
mod redis;
mod resilience;
mod route;
mod store;
mod tag;
mod trace;
mod upkeep;
mod upstream;
mod version;
mod vote;
mod warm;
mod when;
mod wire;

use crate::{
    Cache, Class, Config, EvictionPolicy, Identity, Metrics, Overrides, Prices, Resource,
    ResourceKind, TenantSource, Tier,
    defaults::{self, ClassDefault},
    near::nearest,
    problem::quoted,
    raw::{
        RawBook, RawCache, RawClass, RawConfig, RawCurrency, RawEvictionPolicy, RawExplain,
        RawHeader, RawIdentity, RawPrices, RawResource, RawResourceKind,
    },
    review::Review,
    text::{self, DurationText},
};
use std::{collections::HashSet, num::NonZeroU32, path::PathBuf, time::Duration};
use tollgate_core::class::{CLASSES_MAX, ClassId};

/// Only to be believed where `review` has no problems afterwards.
pub(crate) fn config(review: &mut Review<'_>, raw: RawConfig, overrides: &Overrides) -> Config {
    let listeners = edge::listeners(review, raw.listeners, overrides);
    let admin = edge::admin(review, raw.admin.unwrap_or_default(), overrides);
    let telemetry = raw.telemetry.unwrap_or_default();
    let drain = edge::drain(review, &raw.drain.unwrap_or_default());
    let stores = raw.stores.unwrap_or_default();
    let redis = stores.redis.map(|raw| redis::redis(review, raw));
    let memcached = stores.memcached.map(|raw| store::memcached(review, raw));
    let postgres = stores.postgres.map(|raw| postgres::postgres(review, raw));
    let upstreams = upstream::upstreams(review, raw.upstreams);
    let identity = identity(review, raw.identity.unwrap_or_default());
    let (classes, class_default) = classes(review, raw.classes);
    let mut raw_cache = raw.cache.unwrap_or_default();
    let tiers = [
        (Tier::Redis, redis.is_some()),
        (Tier::Memcached, memcached.is_some()),
        (Tier::Postgres, postgres.is_some()),
        (Tier::Disk, raw_cache.disk.is_some()),
    ];
    let known = route::Known { upstreams: &upstreams, classes: &classes, stores: &tiers };
    let routes = route::routes(review, raw.routes, &known);
    let mut raw_metrics = telemetry.metrics.unwrap_or_default();
    let profiles = raw_metrics.profiles.take().unwrap_or_default();
    let profiles = profiles::profiles(review, profiles, &upstreams);
    let metrics = Metrics { profiles, ..edge::metrics(review, raw_metrics, overrides, &routes) };
    let forecast = forecast::forecast(review, telemetry.forecast.unwrap_or_default());
    let events = raw_cache.events.take().unwrap_or_default();
    let events = events::sources(review, events, (redis.as_ref(), postgres.as_ref()));
    let cache = Cache { events, ..cache(review, &raw_cache) };
    let prices = prices(review, raw.prices.unwrap_or_default());
    let resources = resources(review, raw.resources.unwrap_or_default());

    let data_dir = overrides.data_dir.clone().unwrap_or_else(|| {
        PathBuf::from(raw.data_dir.unwrap_or_else(|| defaults::DATA_DIR.to_owned()))
    });
    if data_dir.as_os_str().is_empty() {
        review.report("data_dir", "must be a directory");
    }
    let config = Config {
        listeners,
        admin,
        metrics,
        forecast,
        logs: edge::logs(&telemetry.logs.unwrap_or_default()),
        data_dir,
        drain,
        redis,
        memcached,
        postgres,
        upstreams,
        identity,
        classes,
        class_default,
        routes,
        cache,
        prices,
        resources,
    };
    cross::addresses(review, &config);
    prefetch::users(review, &config);
    prefetch::money(review, &config);
    cross::warnings(review, &config);
    config
}

fn identity(review: &mut Review<'_>, raw: RawIdentity) -> Identity {
    let tenant = raw.tenant.and_then(|raw| match (raw.api_key, raw.header) {
        (Some(key), None) => {
            let header = key.header.as_deref();
            Some(TenantSource::ApiKey {
                header: review.header("identity.tenant.api_key.header", header),
            })
        }
        (None, Some(header)) => {
            Some(TenantSource::Header(review.header("identity.tenant.header", Some(&header))))
        }
        (None, None) if review.is_reported("identity.tenant") => None,
        (None, None) | (Some(_), Some(_)) => {
            review.report(
                "identity.tenant",
                "must be { api_key: { header: NAME } } or { header: NAME }",
            );
            None
        }
    });
    let mut header = |name: &str, raw: Option<RawHeader>| {
        raw.map(|raw| review.header(format!("identity.{name}.header"), raw.header.as_deref()))
    };
    Identity {
        tenant,
        user: header("user", raw.user),
        tier: header("tier", raw.tier),
        project: header("project", raw.project),
        business: header("business", raw.business),
    }
}

fn classes(review: &mut Review<'_>, raws: Option<Vec<RawClass>>) -> (Vec<Class>, ClassId) {
    let raws = raws.unwrap_or_else(|| defaults::CLASSES.iter().map(raw_class).collect());
    let n_defaults = raws.iter().filter(|raw| raw.default == Some(true)).count();
    if n_defaults != 1 && !raws.is_empty() {
        review.report("classes", format!("exactly one must say default: true, not {n_defaults}"));
    }
    let class_default = raws.iter().position(|raw| raw.default == Some(true));
    let mut seen = HashSet::new();
    let classes = raws
        .into_iter()
        .enumerate()
        .map(|(i, raw)| {
            let class = class(review, i, raw);
            if !seen.insert(class.name.clone()) {
                review
                    .report(format!("classes[{i}].name"), format!("{} appears twice", class.name));
            }
            class
        })
        .collect();
    (classes, class_default.and_then(ClassId::new).unwrap_or_default())
}

fn class(review: &mut Review<'_>, i: usize, raw: RawClass) -> Class {
    let path = format!("classes[{i}]");
    let strict = raw.strict.unwrap_or(false);
    if strict && i > 0 {
        review.report(format!("{path}.strict"), "only the first class may be strict");
    }
    if strict && raw.weight.is_some() {
        review.report(
            format!("{path}.weight"),
            "a strict class goes before all others and has no weight",
        );
    }
    let floor = raw.floor.unwrap_or(0);
    if strict && 0 < floor {
        review.report(
            format!("{path}.floor"),
            "a strict class goes before all others and has no floor",
        );
    }
    if let Some(max) = raw.max.filter(|max| *max < floor) {
        review.report(format!("{path}.floor"), format!("must be at most max, {max}"));
    }
    if strict && raw.preemptible == Some(true) {
        review.report(
            format!("{path}.preemptible"),
            "calls are taken back for those of the strict class, not from it",
        );
    }
    let max_wait = raw.max_wait.as_ref();
    let wait_max = review.duration(format!("{path}.max_wait"), max_wait, defaults::CLASS_MAX_WAIT);
    let lifo_target = review.duration_within(
        format!("{path}.lifo_target"),
        raw.lifo_target.as_ref(),
        // How long one of the strict class may wait for those ahead of it is a promise.
        if strict { wait_max } else { wait_max / defaults::CLASS_LIFO_PART },
        Duration::ZERO..=wait_max,
    );
    Class {
        id: ClassId::new(i).unwrap_or_default(),
        name: review.name(format!("{path}.name"), raw.name, "_-"),
        strict,
        weight: raw.weight.unwrap_or(1),
        max: raw.max.and_then(NonZeroU32::new),
        floor,
        queue_max: usize::try_from(raw.queue.unwrap_or(defaults::CLASS_QUEUE))
            .unwrap_or(usize::MAX),
        wait_max,
        lifo_target,
        preemptible: raw.preemptible.unwrap_or(false),
    }
}

fn raw_class(&(name, strict, weight, queue, wait, default): &ClassDefault) -> RawClass {
    RawClass {
        name: Some(name.to_owned()),
        weight: (!strict).then_some(weight),
        strict: Some(strict),
        max: None,
        floor: None,
        lifo_target: None,
        preemptible: None,
        queue: Some(queue),
        max_wait: Some(DurationText(text::show_duration(wait))),
        default: Some(default),
    }
}

fn cache(review: &mut Review<'_>, raw: &RawCache) -> Cache {
    let (path, namespace) = match &raw.namespace {
        Some(namespace) => ("cache.namespace", Some(namespace.clone())),
        None => (defaults::ENV_NAMESPACE, review.environment.var(defaults::ENV_NAMESPACE)),
    };
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.map(|namespace| review.name(path, Some(namespace), "._-/:"));
    let quarter = review.environment.memory_limit().map_or(u64::MAX, |limit| limit / 4);
    let default = defaults::MEMORY_BYTES.min(quarter).max(defaults::MEMORY_BYTES_MIN);
    let size = raw.memory.as_ref().and_then(|memory| memory.size.as_ref());
    let range = defaults::MEMORY_BYTES_MIN..=(1 << 40);
    let bytes = review.size_within("cache.memory.size".to_owned(), size, default, range);
    if bytes > quarter.saturating_mul(4) {
        review.advise("cache.memory.size", "more than the memory limit of this cgroup");
    }
    let of = raw.redis.as_ref();
    let (compression, sealed) =
        (of.and_then(|raw| raw.compression), of.and_then(|raw| raw.encryption.as_ref()));
    let redis = store::entries(review, "redis", compression, sealed);
    let redis_lease = store::lease(review, of.and_then(|raw| raw.lease.as_ref()));
    let of = raw.memcached.as_ref();
    let (compression, sealed) =
        (of.and_then(|raw| raw.compression), of.and_then(|raw| raw.encryption.as_ref()));
    let memcached = store::entries(review, "memcached", compression, sealed);
    let policy = raw.memory.as_ref().and_then(|memory| memory.policy);
    let policy = policy.map_or_else(EvictionPolicy::default, |policy| match policy {
        RawEvictionPolicy::Lfu => EvictionPolicy::Lfu,
        RawEvictionPolicy::Lru => EvictionPolicy::Lru,
        RawEvictionPolicy::Cost => EvictionPolicy::Cost,
    });
    let warm = raw.warm.as_ref().map(|raw| warm::warm(review, raw)).unwrap_or_default();
    let disk = raw.disk.as_ref().map(|raw| store::disk(review, raw));
    Cache {
        namespace,
        memory_bytes_max: bytes,
        memory_policy: policy,
        redis,
        redis_lease,
        memcached,
        postgres: postgres::entries(review, raw.postgres.as_ref()),
        disk,
        warm,
        events: Vec::new(),
        explain_entries_max: explain_entries(review, raw.explain.as_ref()),
        trace: trace::trace(review, raw.trace.as_ref()),
    }
}

fn explain_entries(review: &mut Review<'_>, raw: Option<&RawExplain>) -> usize {
    let entries = usize::from(raw.and_then(|raw| raw.entries).unwrap_or_default());
    if entries > defaults::EXPLAIN_ENTRIES_MAX {
        let message = format!("must be at most {}", defaults::EXPLAIN_ENTRIES_MAX);
        review.report("cache.explain.entries", message);
    }
    entries
}

fn prices(review: &mut Review<'_>, raw: RawPrices) -> Prices {
    let (None | Some(RawCurrency::Usd)) = raw.currency;
    let builtin = matches!(raw.book, None | Some(RawBook::Builtin));
    let files = raw.files.unwrap_or_default();
    let files: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(i, file)| review.file(format!("prices.files[{i}]"), Some(file)))
        .collect();
    if !builtin && files.is_empty() {
        review.advise("prices", "no book and no files: every call will be unpriced");
    }
    Prices { builtin, files }
}

fn resources(review: &mut Review<'_>, raws: Vec<RawResource>) -> Vec<Resource> {
    let mut seen = HashSet::new();
    raws.into_iter()
        .enumerate()
        .map(|(i, raw)| {
            let resource = resource(review, &format!("resources[{i}]"), raw);
            if !seen.insert(resource.name.clone()) {
                let message = format!("{} appears twice", resource.name);
                review.report(format!("resources[{i}].name"), message);
            }
            resource
        })
        .collect()
}

fn resource(review: &mut Review<'_>, path: &str, raw: RawResource) -> Resource {
    let name = review.name(format!("{path}.name"), raw.name, "._-");
    let hourly = raw.hourly.unwrap_or_default();
    let hourly_pico_usd = text::usd(&hourly).unwrap_or_else(|message| {
        review.report(format!("{path}.hourly"), format!("must be {message}"));
        0
    });
    match hourly_pico_usd / 1_000_000_000_000 {
        0 if hourly_pico_usd == 0 => review.advise(format!("{path}.hourly"), "costs nothing"),
        0..=999 => {}
        dollars => {
            let message = format!("{dollars} US dollars an hour for one replica; is it per month?");
            review.advise(format!("{path}.hourly"), message);
        }
    }
    let kind = match raw.kind {
        Some(RawResourceKind::Compute) | None => ResourceKind::Compute,
    };
    Resource { name, kind, hourly_pico_usd, replicas: raw.replicas.unwrap_or(1) }
}

/// What is said of a name that is not there.
fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.filter(|known| !known.is_empty()).collect();
    known.dedup();
    let name_shown = quoted(name);
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("no such {what}: {name_shown}; did you mean {near}?"),
        None if known.is_empty() => format!("no such {what}: {name_shown}; there are none"),
        None => format!("no such {what}: {name_shown}; there are {}", known.join(", ")),
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// `classes` of the schema; a [`ClassId`] beyond would have no place.
const _: () = assert!(CLASSES_MAX == 8);
