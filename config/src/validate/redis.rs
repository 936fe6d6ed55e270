//! Where Redis is, and who we are there.

use super::{endpoint, store, upstream};
use crate::{
    Redis, RedisMode, StoreUrl, defaults,
    raw::{RawRedis, RawRedisMode, RawSecret, RawStoreUrl},
    review::Review,
};

pub(super) fn redis(review: &mut Review<'_>, mut raw: RawRedis) -> Redis {
    let given = raw.mode.unwrap_or(RawRedisMode::Single);
    let raw_urls = raw.urls.take().unwrap_or_default(); // none: reported by its shape
    let urls: Vec<_> = raw_urls.into_iter().enumerate().map(|at| url(review, given, at)).collect();
    together(review, given, &urls);
    let mode = mode(review, given, &mut raw);
    let timeout = review.duration(
        "stores.redis.timeout".to_owned(),
        raw.timeout.as_ref(),
        defaults::REDIS_TIMEOUT,
    );
    let tls = raw.tls.map(|raw| {
        if urls.iter().any(|url| url.to_string().starts_with("redis:")) {
            review.advise("stores.redis.tls", "has no effect: the URL is redis, not rediss");
        }
        upstream::tls_files(review, "stores.redis.tls", raw)
    });
    let known = |url: &StoreUrl| url.to_string().contains('@') || url.expose().is_empty();
    // What a sentinel's URL says is for the sentinel.
    let known = given_by_url(given) && urls.iter().all(known);
    user(review, ["stores.redis.user", "stores.redis.password"], &raw.user, &raw.password, known);
    let password = raw.password.map(|raw| review.secret("stores.redis.password", &raw));
    Redis { urls, mode, user: raw.user, password, tls: tls.unwrap_or_default(), timeout }
}

fn given_by_url(mode: RawRedisMode) -> bool {
    !matches!(mode, RawRedisMode::Sentinel)
}

fn url(review: &mut Review<'_>, mode: RawRedisMode, (i, raw): (usize, RawStoreUrl)) -> StoreUrl {
    let path = format!("stores.redis.urls[{i}]");
    let url = store::url(review, &path, raw, endpoint::redis);
    let is_one = !url.to_string().is_empty();
    if matches!(mode, RawRedisMode::Sentinel) && is_one && !has_port(url.expose()) {
        // Redis' own would be taken, where no sentinel listens.
        review.report(path, "must name its port; a sentinel's is mostly 26379");
    }
    url
}

/// Of a URL that is one.
fn has_port(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    after_host.contains(':')
}

/// What is wrong with addresses that are fine each alone.
fn together(review: &mut Review<'_>, mode: RawRedisMode, urls: &[StoreUrl]) {
    let shown: Vec<_> = urls.iter().map(ToString::to_string).collect();
    // Checked before: a scheme, and behind the third slash a number or nothing.
    let parts = shown.iter().enumerate().filter_map(|(i, url)| {
        let (scheme, rest) = url.split_once("://")?;
        let number = rest.split_once('/').map_or(Some(0), |(_, number)| number.parse().ok());
        Some((i, scheme, number.unwrap_or(0_u16)))
    });
    let parts: Vec<_> = parts.collect();
    let Some((_, first_scheme, first_database)) = parts.first().copied() else { return };
    for (i, scheme, database) in parts {
        let path = format!("stores.redis.urls[{i}]");
        if scheme != first_scheme {
            review.report(path, "must be redis or rediss as the first is: all with tls or none");
        } else if matches!(mode, RawRedisMode::Cluster) && database != 0 {
            review.report(path, "a cluster has database 0 only");
        } else if database != first_database {
            review.report(path, "must name the database that the first names");
        }
    }
    if matches!(mode, RawRedisMode::Single) && shown.len() > 1 {
        review.report("stores.redis.urls", "one only; several are for mode cluster or sentinel");
    }
}

fn mode(review: &mut Review<'_>, given: RawRedisMode, raw: &mut RawRedis) -> RedisMode {
    let (master, user) = (raw.master.take(), raw.sentinel_user.take());
    let password = raw.sentinel_password.take();
    if matches!(given, RawRedisMode::Sentinel) {
        let named = |name: &String| !name.is_empty() && !name.contains(char::is_whitespace);
        match &master {
            None => review.report("stores.redis.master", "missing: mode sentinel needs it"),
            Some(name) if !named(name) => {
                review.report("stores.redis.master", "must be the name the sentinels know");
            }
            Some(_) => {}
        }
        let paths = ["stores.redis.sentinel_user", "stores.redis.sentinel_password"];
        self::user(review, paths, &user, &password, false);
        let password = password.map(|raw| review.secret("stores.redis.sentinel_password", &raw));
        return RedisMode::Sentinel { master: master.unwrap_or_default(), user, password };
    }
    for (path, is_there) in [
        ("stores.redis.master", master.is_some()),
        ("stores.redis.sentinel_user", user.is_some()),
        ("stores.redis.sentinel_password", password.is_some()),
    ] {
        if is_there {
            review.report(path, "is for mode sentinel only");
        }
    }
    match given {
        RawRedisMode::Cluster => RedisMode::Cluster,
        RawRedisMode::Single | RawRedisMode::Sentinel => RedisMode::Single,
    }
}

fn user(
    review: &mut Review<'_>,
    [of_user, of_password]: [&str; 2],
    user: &Option<String>,
    password: &Option<RawSecret>,
    password_is_known: bool,
) {
    if user.as_deref().is_some_and(|user| user.is_empty() || user.contains(char::is_whitespace)) {
        review.report(of_user, "must be the name of a user of redis");
    }
    if user.is_some() && password.is_none() && !password_is_known {
        review.report(of_password, "missing: user needs its password");
    }
}
