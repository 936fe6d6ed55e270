//! A configuration as it is in force, in the words of the file, without its secrets.
//!
//! What is shown is itself a valid file (a test loads it), with the defaults
//! written out: an operator can see what a short file means and begin a longer one with it.

mod claims;
mod events;
mod forecast;
mod postgres;
mod prefetch;
mod resilience;
mod rules;
mod upkeep;
mod warm;

use crate::{
    AliasUnit, Balance, CacheMode, CachePolicy, CacheStore, Class, Config, Disk, Endpoint,
    EvictionPolicy, HostHeader, HttpPolicy, InjectUsage, Listener, LogFormat, LogLevel, Match,
    MemcachedServer, PathRule, Profiles, Redis, RedisLease, RedisMode, ResourceKind, Route, Secret,
    SecretSource, StoreUrl, TenantSource, TierUse, Upstream, UpstreamId, UpstreamTls,
    text::{show_duration, show_ppm, show_size, show_usd},
};
use serde_json::{Map, Value, json};
use std::path::Path;

/// For `GET /api/config`.
pub fn redacted(config: &Config) -> Value {
    let upstreams = config.upstreams.iter().map(|one| (one.name.clone(), upstream(config, one)));
    let mut shown = json!({
        "listeners": list(&config.listeners, listener),
        "admin": {
            "address": config.admin.address.to_string(),
            "token": config.admin.token.as_ref().map(secret),
        },
        "telemetry": telemetry(config),
        "data_dir": file(&config.data_dir),
        "drain": {
            "quiet": show_duration(config.drain.quiet),
            "deadline": show_duration(config.drain.deadline),
        },
        "stores": {
            "redis": config.redis.as_ref().map(redis),
            "postgres": config.postgres.as_ref().map(postgres::postgres),
            "memcached": config.memcached.as_ref().map(|memcached| json!({
                "servers": list(&memcached.servers, |server| match server {
                    MemcachedServer::Tcp(authority) => authority.as_str().into(),
                    MemcachedServer::Unix(path) => format!("unix:{}", path.display()).into(),
                }),
                "timeout": show_duration(memcached.timeout),
            })),
        },
        "upstreams": upstreams.collect::<Map<_, _>>(),
        "identity": identity(config),
        "classes": list(&config.classes, |one| class(config, one)),
        "routes": list(&config.routes, |one| route(config, one)),
        "cache": {
            "namespace": config.cache.namespace,
            "memory": {
                "size": show_size(config.cache.memory_bytes_max),
                "policy": policy(config.cache.memory_policy),
            },
            "redis": with_lease(entries(&config.cache.redis), config.cache.redis_lease),
            "postgres": postgres::entries(&config.cache.postgres),
            "memcached": entries(&config.cache.memcached),
            "disk": config.cache.disk.as_ref().map(disk),
            "warm": warm::warm(&config.cache.warm),
            "events": list(&config.cache.events, events::source),
            "explain": { "entries": config.cache.explain_entries_max },
            "trace": config.cache.trace.map(|trace| json!({
                "size": show_size(trace.bytes_max),
                "sample": show_ppm(trace.sample_ppm),
            })),
        },
        "prices": {
            "book": if config.prices.builtin { "builtin" } else { "none" },
            "files": list(&config.prices.files, |path| file(path)),
            "currency": "USD",
        },
        "resources": list(&config.resources, |one| json!({
            "name": one.name,
            "kind": kind(one.kind),
            "hourly": show_usd(one.hourly_pico_usd),
            "replicas": one.replicas,
        })),
    });
    drop_nulls(&mut shown);
    shown
}

fn with_lease(mut entries: Value, lease: Option<RedisLease>) -> Value {
    if let Some(entries) = entries.as_object_mut() {
        let lease = lease.map_or(
            json!(false),
            |lease| json!({ "ttl": show_duration(lease.ttl), "wait": show_duration(lease.wait) }),
        );
        entries.insert("lease".to_owned(), lease);
    }
    entries
}

fn disk(disk: &Disk) -> Value {
    let mut shown = entries(&disk.store);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("size".to_owned(), show_size(disk.bytes_max).into());
        shown.insert("timeout".to_owned(), show_duration(disk.timeout).into());
    }
    shown
}

fn entries(store: &CacheStore) -> Value {
    json!({
        "compression": if store.compress { "zstd" } else { "none" },
        "encryption": store.encryption.as_ref().map(|keys| json!({
            "key": reference(keys.key.source()),
            "previous": list(&keys.previous, |key| reference(key.source())),
        })),
    })
}

fn policy(policy: EvictionPolicy) -> &'static str {
    match policy {
        EvictionPolicy::Lfu => "lfu",
        EvictionPolicy::Lru => "lru",
        EvictionPolicy::Cost => "cost",
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    items.iter().map(show).collect()
}

/// What is not set is not shown.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn file(path: &Path) -> Value {
    path.display().to_string().into()
}

fn secret(secret: &Secret) -> Value {
    reference(secret.source())
}

fn reference(source: &SecretSource) -> Value {
    match source {
        SecretSource::Env(name) => json!({ "env": name }),
        SecretSource::File(path) => json!({ "file": file(path) }),
        SecretSource::Inline => "***".into(),
    }
}

fn redis(redis: &Redis) -> Value {
    let (mode, sentinel) = match &redis.mode {
        RedisMode::Single => ("single", None),
        RedisMode::Cluster => ("cluster", None),
        RedisMode::Sentinel { master, user, password } => {
            ("sentinel", Some((master, user, password)))
        }
    };
    let mut shown = json!({
        "urls": list(&redis.urls, store_url),
        "mode": mode,
        "user": redis.user,
        "password": redis.password.as_ref().map(secret),
        "tls": tls_to(&redis.tls),
        "timeout": show_duration(redis.timeout),
    });
    if let Some((master, user, password)) = sentinel
        && let Some(shown) = shown.as_object_mut()
    {
        shown.insert("master".to_owned(), json!(master));
        shown.insert("sentinel_user".to_owned(), json!(user));
        shown.insert("sentinel_password".to_owned(), json!(password.as_ref().map(secret)));
    }
    shown
}

fn store_url(url: &StoreUrl) -> Value {
    match url.source() {
        SecretSource::Inline => url.to_string().into(),
        source @ (SecretSource::Env(_) | SecretSource::File(_)) => reference(source),
    }
}

fn listener(one: &Listener) -> Value {
    let limits = &one.limits;
    let tls = one.tls.as_ref().map(|tls| {
        let certificates = list(&tls.certificates, |pair| {
            json!({
                "certificate": file(&pair.certificate),
                "private_key": file(&pair.private_key),
            })
        });
        json!({ "certificates": certificates, "client_ca": tls.client_ca.as_deref().map(file) })
    });
    json!({
        "address": one.address.to_string(),
        "tls": tls,
        "trusted": one.trusted.as_deref().map(|nets| list(nets, |net| net.to_string().into())),
        "limits": {
            "header_bytes": show_size(limits.header_bytes_max),
            "headers": limits.headers_max,
            "body": show_size(limits.body_bytes_max),
            "held": show_size(limits.held_bytes_max),
            "connections": limits.connections_max,
            "header_timeout": show_duration(limits.header_timeout),
            "idle_timeout": show_duration(limits.idle_timeout),
        },
    })
}

fn telemetry(config: &Config) -> Value {
    let aliases = list(&config.metrics.aliases, |alias| {
        json!({
            "name": alias.name,
            "of": "request_duration",
            "quantile": alias.quantile,
            "unit": match alias.unit {
                AliasUnit::Milliseconds => "ms",
                AliasUnit::Seconds => "s",
            },
            "window": show_duration(alias.window),
            "routes": alias.routes,
        })
    });
    let format = match config.logs.format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    json!({
        "metrics": {
            "address": config.metrics.address.to_string(),
            "aliases": aliases,
            "profiles": profiles(config),
        },
        "forecast": forecast::forecast(&config.forecast),
        "logs": { "format": format, "level": config.logs.level.name(), "access": config.logs.access },
    })
}

fn profiles(config: &Config) -> Value {
    let Profiles { keda_host, gie } = &config.metrics.profiles;
    let upstream = |id: UpstreamId| config.upstreams.get(id.place()).map(|upstream| &upstream.name);
    json!({
        "keda": keda_host.as_ref().map(|host| json!({ "host": host })),
        "gie": gie.as_ref().map(|it| json!({ "upstream": upstream(it.upstream), "path": it.path })),
    })
}

impl LogLevel {
    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn kind(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Compute => "compute",
    }
}

fn tls_to(tls: &UpstreamTls) -> Value {
    let client = tls.client.as_ref();
    let shown = (*tls != UpstreamTls::default()).then(|| {
        json!({
            "ca": tls.ca.as_deref().map(file),
            "client_certificate": client.map(|pair| file(&pair.certificate)),
            "client_key": client.map(|pair| file(&pair.private_key)),
        })
    });
    shown.into()
}

fn upstream(config: &Config, one: &Upstream) -> Value {
    let timeouts = &one.timeouts;
    json!({
        "endpoints": list(&one.endpoints, |endpoint: &Endpoint| json!({ "url": endpoint.to_string() })),
        "host": match &one.host {
            HostHeader::Upstream => "upstream",
            HostHeader::Preserve => "preserve",
            HostHeader::Name(name) => name,
        },
        "via": if one.via { "on" } else { "off" },
        "balance": match one.balance {
            Balance::LeastLoaded => "least_loaded",
            Balance::RoundRobin => "round_robin",
        },
        "concurrency": rules::concurrency(one),
        "timeouts": {
            "connect": show_duration(timeouts.connect),
            "first_byte": show_duration(timeouts.first_byte),
            "idle": show_duration(timeouts.idle),
            "total": show_duration(timeouts.total),
        },
        "retries": one.retries.as_ref().map(resilience::retries),
        "breaker": one.breaker.map(resilience::breaker),
        "fallback": one.fallback.as_ref().map(|to| resilience::fallback(config, to)),
        "tls": tls_to(&one.tls),
        "model_version": rules::model_version(&one.model_version),
        "inject_usage": match one.inject_usage {
            InjectUsage::Auto => "auto",
            InjectUsage::Never => "never",
        },
    })
}

fn identity(config: &Config) -> Value {
    let own = &config.identity;
    let header = |name: &Option<String>| name.as_ref().map(|name| json!({ "header": name }));
    json!({
        "tenant": own.tenant.as_ref().map(|tenant| match tenant {
            TenantSource::ApiKey { header } => json!({ "api_key": { "header": header } }),
            TenantSource::Header(name) => json!({ "header": name }),
        }),
        "user": header(&own.user),
        "tier": header(&own.tier),
        "project": header(&own.project),
        "business": header(&own.business),
    })
}

fn class(config: &Config, one: &Class) -> Value {
    json!({
        "name": one.name,
        "strict": one.strict,
        "weight": (!one.strict).then_some(one.weight),
        "max": one.max,
        "floor": (!one.strict).then_some(one.floor),
        "queue": one.queue_max,
        "max_wait": show_duration(one.wait_max),
        "lifo_target": show_duration(one.lifo_target),
        "preemptible": one.preemptible,
        "default": one.id == config.class_default,
    })
}

fn route(config: &Config, one: &Route) -> Value {
    json!({
        "name": one.name,
        "match": matches(&one.matches),
        "upstream": config.upstream(one.upstream).map(|upstream| &upstream.name),
        "dialect": one.dialect.map(|dialect| dialect.name()),
        "class": claims::rule(config, &one.class),
        "max_body": one.body_bytes_max.map(show_size),
        "cache": upkeep::with(cache(&one.cache), &one.cache.upkeep),
    })
}

fn matches(one: &Match) -> Value {
    let (path, prefix) = match &one.path {
        PathRule::Any => (None, None),
        PathRule::Exact(path) => (Some(path), None),
        PathRule::Prefix(prefix) => (None, Some(prefix)),
    };
    let headers: Map<_, _> =
        one.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "path": path,
        "path_prefix": prefix,
        "host": one.host,
        "headers": headers,
        "methods": (!one.methods.is_empty()).then_some(&one.methods),
    })
}

fn cache(one: &CachePolicy) -> Value {
    let parts = match one.mode {
        CacheMode::Off => return "off".into(),
        // Freshness and scope are in the answer's headers.
        CacheMode::Http => vec![json!({ "mode": "http" }), in_both_modes(one), by_url(&one.http)],
        CacheMode::Content => {
            vec![json!({ "mode": "content" }), in_both_modes(one), by_content(one)]
        }
        CacheMode::Auto => vec![in_both_modes(one), by_content(one), by_url(&one.http)],
    };
    let members = parts.iter().filter_map(Value::as_object).flatten();
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn in_both_modes(one: &CachePolicy) -> Value {
    json!({
        "tiers": list(&one.tiers, tier),
        "writes": one.writes.name(),
        "promote": one.promotes,
        "forward": one.forward.name(),
        "tags": list(&one.tags, |tag| tag.to_string().into()),
        "vote_out": one.vote_out.as_ref().map(rules::vote_out),
        "encodings": one.encodings.as_ref().map(rules::encodings),
        "stale": rules::stale(&one.stale),
    })
}

fn by_content(one: &CachePolicy) -> Value {
    json!({
        "ttl": show_duration(one.ttl),
        "scope": one.scope.name(),
        "key": rules::key(&one.key),
        "items": rules::items(&one.items),
        "join": one.join.as_ref().map(rules::join),
        "when": rules::when(&one.when),
        "ttl_rules": list(&one.lifetime.rules, rules::ttl_rule),
        "upstream_ttl": one.lifetime.upstream,
        "jitter_percent": one.lifetime.jitter_percent,
        "pacing": one.pacing.map(rules::pacing),
    })
}

fn by_url(http: &HttpPolicy) -> Value {
    json!({
        "heuristic": heuristic(http),
        "set_cookie": http.set_cookie.name(),
        "query": {
            "sort": http.query.sort,
            "ignore": http.query.ignore,
            "only": http.query.only,
        },
        "cdn": http.cdn.as_ref().map(rules::cdn),
    })
}

fn tier(one: &TierUse) -> Value {
    json!({
        "name": one.tier.name(),
        // Written out, a default would become a cap on what the answers' headers say.
        "ttl": one.ttl_written.map(show_duration),
        "max_entry": one.entry_bytes_max.map(show_size),
    })
}

fn heuristic(http: &HttpPolicy) -> Value {
    match &http.heuristic {
        None => "off".into(),
        Some(own) => json!({
            "percent": own.percent,
            "max": show_duration(own.max),
            "negative": own.negative,
        }),
    }
}
