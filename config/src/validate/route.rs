//! The routing table.

use super::{
    claims, endpoint::is_host, freshness, http, items, key, no_such, tag, upkeep, upstream::is_on,
    vote, when, wire,
};
use crate::{
    CacheMode, CachePolicy, Class, ClassRule, Forward, KeyPart, KeyPolicy, Match, PathRule, Route,
    Scope, Tier, TierUse, Upkeep, Upstream, UpstreamId, Writes,
    defaults::{self, DURATION_MAX},
    problem::{member, quoted},
    raw::{
        RawCacheMode, RawCacheModeWord, RawCachePolicy, RawCacheRule, RawDialect, RawForward,
        RawMatch, RawRoute, RawScope, RawTier, RawTierName, RawWrites,
    },
    review::{Review, is_token},
};
use std::{collections::HashSet, time::Duration};
use tollgate_core::dialect::Dialect;

const BODY_BYTES_MAX: u64 = 1 << 40;
const ENTRY_BYTES_MAX: u64 = 1 << 40;

/// What routes refer to.
pub(super) struct Known<'a> {
    pub(super) upstreams: &'a [Upstream],
    pub(super) classes: &'a [Class],
    /// Tiers that need a store, and whether it is there.
    pub(super) stores: &'a [(Tier, bool)],
}

pub(super) fn routes(
    review: &mut Review<'_>,
    raws: Option<Vec<RawRoute>>,
    known: &Known<'_>,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for (i, raw) in raws.into_iter().flatten().enumerate() {
        let path = format!("routes[{i}]");
        let route = route(review, &path, raw, known);
        if routes.iter().any(|other| other.name == route.name) {
            review.report(format!("{path}.name"), format!("{} appears twice", route.name));
        }
        if let Some(first) = routes.iter().find(|other| other.matches.covers(&route.matches)) {
            let message = format!("is never reached: {} takes all its calls", first.name);
            review.advise(path, message);
        }
        routes.push(route);
    }
    routes
}

fn route(review: &mut Review<'_>, path: &str, raw: RawRoute, known: &Known<'_>) -> Route {
    let name = review.name(format!("{path}.name"), raw.name, "._-");
    let max_body = raw.max_body.as_ref().map(|size| {
        review.size_within(format!("{path}.max_body"), Some(size), 1, 1..=BODY_BYTES_MAX)
    });
    let route = Route {
        name,
        matches: matches(review, &format!("{path}.match"), raw.matches.unwrap_or_default()),
        upstream: upstream(review, &format!("{path}.upstream"), raw.upstream.as_deref(), known),
        dialect: raw.dialect.map(|raw| match raw {
            RawDialect::Openai => Dialect::OpenAi,
            RawDialect::Anthropic => Dialect::Anthropic,
            RawDialect::Gemini => Dialect::Gemini,
            RawDialect::Ollama => Dialect::Ollama,
            RawDialect::Cohere => Dialect::Cohere,
            RawDialect::Tgi => Dialect::Tgi,
            RawDialect::Http => Dialect::Http,
        }),
        class: raw.class.map_or_else(ClassRule::default, |raw| {
            claims::rule(review, &format!("{path}.class"), raw, known)
        }),
        body_bytes_max: max_body,
        cache: cache(review, &format!("{path}.cache"), raw.cache, known),
    };
    let (cache_path, is_plain) = (format!("{path}.cache"), route.dialect == Some(Dialect::Http));
    if !is_plain {
        when::only_of_plain_calls(review, &cache_path, &route.cache);
    }
    when::idle(review, &cache_path, &route.cache, is_plain);
    items::idle(review, &format!("{cache_path}.items"), &route.cache.items, is_plain);
    route
}

fn upstream(
    review: &mut Review<'_>,
    path: &str,
    name: Option<&str>,
    known: &Known<'_>,
) -> UpstreamId {
    let name = name.unwrap_or_default();
    let found = known.upstreams.iter().find(|upstream| upstream.name == name);
    found.map_or_else(
        || {
            let names = known.upstreams.iter().map(|upstream| upstream.name.as_str());
            review.report(path, no_such("upstream", name, names));
            UpstreamId::new(0)
        },
        |upstream| upstream.id,
    )
}

fn matches(review: &mut Review<'_>, path: &str, raw: RawMatch) -> Match {
    let rule = match (raw.path, raw.path_prefix) {
        (None, None) => PathRule::Any,
        (Some(exact), None) => {
            review.normal_path(format!("{path}.path"), &exact);
            PathRule::Exact(exact)
        }
        (None, Some(prefix)) => {
            review.normal_path(format!("{path}.path_prefix"), &prefix);
            match prefix.strip_suffix('/').unwrap_or(&prefix) {
                "" => PathRule::Any,
                prefix => PathRule::Prefix(prefix.to_owned()),
            }
        }
        (Some(_), Some(_)) => {
            review.report(format!("{path}.path_prefix"), "path and path_prefix exclude each other");
            PathRule::Any
        }
    };
    let host = raw.host.map(|host| {
        if !is_host(&host) {
            let message = format!("must be a host name without a port, not {}", quoted(&host));
            review.report(format!("{path}.host"), message);
        }
        host.to_ascii_lowercase()
    });
    let headers = raw.headers.unwrap_or_default().into_iter().map(|(name, value)| {
        (review.header(member(&format!("{path}.headers"), &name), Some(&name)), value)
    });
    let headers = headers.collect();
    for (i, method) in raw.methods.iter().flatten().enumerate() {
        if !is_token(method) || *method != method.to_ascii_uppercase() {
            let message =
                format!("must be a method like POST, in upper case, not {}", quoted(method));
            review.report(format!("{path}.methods[{i}]"), message);
        }
    }
    Match { path: rule, host, headers, methods: raw.methods.unwrap_or_default() }
}

impl Review<'_> {
    /// A rule that is not written as calls' paths will be, could never match.
    fn normal_path(&mut self, path: String, rule: &str) {
        let message = if !rule.starts_with('/') {
            "must start with /"
        } else if rule.contains(['?', '#']) {
            "must not have a query: only the path is matched"
        } else if !rule.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            "must be printable ASCII without \\; write anything else as %XX"
        } else if rule.split('/').any(|segment| matches!(segment, "." | "..")) {
            "must not have . or .. segments: they are resolved before matching"
        } else {
            match rule.split('%').skip(1).find_map(escape_mistake) {
                Some(message) => message,
                None => return,
            }
        };
        self.report(path, format!("{message}: {}", quoted(rule)));
    }
}

/// What is wrong with an escape, of which the text after `%` is given.
fn escape_mistake(after: &str) -> Option<&'static str> {
    let digits =
        after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
        return Some("% must be followed by two hexadecimal digits");
    };
    if digits.is_some_and(|digits| digits.bytes().any(|byte| byte.is_ascii_lowercase())) {
        return Some("escapes must be in upper case, as calls' are when they are matched");
    }
    if matches!(byte, b'/' | b'\\' | 0) {
        return Some("%2F, %5C and %00 are refused before matching");
    }
    let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    is_unreserved.then_some(
        "letters, digits and -._~ must not be escaped, as calls' are not when they are matched",
    )
}

/// Reports what decides nothing in mode http.
fn of_content_only(review: &mut Review<'_>, path: &str, raw: &RawCachePolicy) {
    let written = [
        ("ttl", raw.ttl.is_some()),
        ("scope", raw.scope.is_some()),
        ("key", raw.key.is_some()),
        ("when", raw.when.is_some()),
        ("ttl_rules", raw.ttl_rules.is_some()),
        ("upstream_ttl", raw.upstream_ttl.is_some()),
        ("jitter_percent", raw.jitter_percent.is_some()),
        ("items", raw.items.is_some()),
        ("join", raw.join.is_some()),
    ];
    for (key, _) in written.iter().filter(|(_, is_written)| *is_written) {
        review.report(
            format!("{path}.{key}"),
            "has no meaning in mode http, where the answer's headers decide",
        );
    }
}

/// What a switch means, written out.
fn written(raw: Option<RawCacheRule>) -> RawCachePolicy {
    match raw {
        None => {
            RawCachePolicy { mode: Some(RawCacheMode::Bool(false)), ..RawCachePolicy::default() }
        }
        Some(RawCacheRule::Switch(switch)) => RawCachePolicy {
            mode: (!is_on(switch)).then_some(RawCacheMode::Bool(false)),
            ..RawCachePolicy::default()
        },
        Some(RawCacheRule::Policy(policy)) => *policy,
    }
}

fn cache(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawCacheRule>,
    known: &Known<'_>,
) -> CachePolicy {
    let raw = written(raw);
    let mode = mode(review, format!("{path}.mode"), raw.mode);
    if mode == CacheMode::Http {
        of_content_only(review, path, &raw);
    }
    let ttl = review.duration(format!("{path}.ttl"), raw.ttl.as_ref(), defaults::CACHE_TTL);
    let raw_times = when::Times {
        rules: raw.ttl_rules,
        upstream: raw.upstream_ttl,
        jitter_percent: raw.jitter_percent,
    };
    let lifetime = when::lifetime(review, path, raw_times);
    // What lives longest by its rule is not to be cut by a tier that says nothing.
    let ttl_longest = lifetime.rules.iter().map(|rule| rule.ttl).fold(ttl, Duration::max);
    let ttl_max = if mode == CacheMode::Http { DURATION_MAX } else { ttl_longest };
    let stale = freshness::stale(review, path, mode, raw.stale);
    let key = key::policy(review, &format!("{path}.key"), raw.key.unwrap_or_default());
    let items = items::items(review, &format!("{path}.items"), raw.items, &key);
    let scope = match raw.scope {
        Some(RawScope::User) => Scope::User,
        Some(RawScope::Shared) => Scope::Shared,
        Some(RawScope::Tenant) | None => Scope::Tenant,
    };
    let raw_upkeep = upkeep::Written {
        hot: raw.hot,
        shadow: raw.shadow,
        adapt: raw.adapt,
        prefetch: raw.prefetch,
    };
    let mut policy = CachePolicy {
        mode,
        ttl,
        lifetime,
        stale,
        upkeep: Upkeep::default(),
        when: when::when(review, &format!("{path}.when"), raw.when.unwrap_or_default()),
        tiers: tiers(review, &format!("{path}.tiers"), raw.tiers, (ttl_longest, ttl_max), known),
        writes: writes(raw.writes),
        promotes: raw.promote.unwrap_or(true),
        scope,
        forward: forward(review, path, raw.forward, &key),
        join: items::join(review, &format!("{path}.join"), raw.join, &items),
        items,
        key,
        tags: tag::templates(review, &format!("{path}.tags"), &raw.tags.unwrap_or_default()),
        vote_out: raw.vote_out.map(|raw| vote::out(review, path, raw, (mode, scope))),
        encodings: wire::encodings(review, &format!("{path}.encodings"), raw.encodings, mode),
        pacing: wire::pacing(review, &format!("{path}.pacing"), raw.pacing, mode),
        http: http::policy(
            review,
            path,
            mode,
            http::Written {
                heuristic: raw.heuristic,
                set_cookie: raw.set_cookie,
                query: raw.query,
                cdn: raw.cdn,
            },
        ),
    };
    policy.upkeep = upkeep::upkeep(review, path, &policy, raw_upkeep);
    policy
}

fn forward(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawForward>,
    key: &KeyPolicy,
) -> Forward {
    let mut named = key.of.iter().flatten();
    match raw {
        None | Some(RawForward::All) => Forward::All,
        Some(RawForward::Keyed) => {
            if named.any(|part| matches!(part, KeyPart::Field(_))) {
                let message = "keyed does not go with part.NAME in key.of: what divides a form's parts stands in \
                    its content-type, which is another in each call and so in no key";
                review.report(format!("{path}.forward"), message);
            }
            Forward::Keyed
        }
    }
}

fn writes(raw: Option<RawWrites>) -> Writes {
    match raw {
        None | Some(RawWrites::Back) => Writes::Back,
        Some(RawWrites::Through) => Writes::Through,
        Some(RawWrites::Around) => Writes::Around,
    }
}

fn mode(review: &mut Review<'_>, path: String, raw: Option<RawCacheMode>) -> CacheMode {
    match raw {
        None => CacheMode::Auto,
        Some(RawCacheMode::Word(RawCacheModeWord::Content)) => CacheMode::Content,
        Some(RawCacheMode::Word(RawCacheModeWord::Http)) => CacheMode::Http,
        Some(RawCacheMode::Word(RawCacheModeWord::Off) | RawCacheMode::Bool(false)) => {
            CacheMode::Off
        }
        Some(RawCacheMode::Bool(true)) => {
            review.report(path, "must be content, http or off, not true");
            CacheMode::Off
        }
    }
}

fn tiers(
    review: &mut Review<'_>,
    path: &str,
    raws: Option<Vec<RawTier>>,
    (ttl, ttl_max): (Duration, Duration),
    known: &Known<'_>,
) -> Vec<TierUse> {
    let raws = raws.unwrap_or_else(|| vec![RawTier::Name(RawTierName::Memory)]);
    let mut seen = HashSet::new();
    let mut tiers = Vec::new();
    for (i, raw) in raws.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        let (name, own, max_entry) = match raw {
            RawTier::Name(name) => (Some(name), None, None),
            RawTier::With(with) => (with.name, with.ttl, with.max_entry),
        };
        // Its absence was reported.
        let Some(name) = name else { continue };
        let tier = match name {
            RawTierName::Memory => Tier::Memory,
            RawTierName::Redis => Tier::Redis,
            RawTierName::Memcached => Tier::Memcached,
            RawTierName::Postgres => Tier::Postgres,
            RawTierName::Disk => Tier::Disk,
        };
        if known.stores.contains(&(tier, false)) {
            let place = if tier == Tier::Disk { "cache" } else { "stores" };
            review.report(&path, format!("needs {place}.{}", tier.name()));
        }
        if !seen.insert(tier) {
            review.report(&path, format!("{} appears twice", tier.name()));
        }
        let is_written = own.is_some();
        let own = review.duration(format!("{path}.ttl"), own.as_ref(), ttl);
        if own > ttl_max {
            review.report(format!("{path}.ttl"), "must not be longer than the ttl of the cache");
        }
        let max_entry = max_entry.map(|size| {
            review.size_within(format!("{path}.max_entry"), Some(&size), 1, 1..=ENTRY_BYTES_MAX)
        });
        let ttl_written = is_written.then_some(own);
        tiers.push(TierUse { tier, ttl: own, ttl_written, entry_bytes_max: max_entry });
    }
    if tiers.iter().skip(1).any(|used| used.tier == Tier::Memory) {
        review.advise(path, "memory is not the first: every hit waits for the tier before it");
    }
    tiers
}
