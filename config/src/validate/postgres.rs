//! Where PostgreSQL is, and how entries lie there.

use super::{endpoint, store, upstream};
use crate::{
    CachePostgres, Postgres, Secret, SecretSource, StoreUrl, defaults,
    problem::quoted,
    raw::{RawCachePostgres, RawPostgres},
    review::Review,
};
use std::net::IpAddr;

/// PostgreSQL cuts a longer name.
const NAME_BYTES_MAX: usize = 63;

/// The parameters of the URL that mean something to us. A user, password and database stand before
/// the question mark; which server is asked, and for how long, is not the URL's to say.
const PARAMETERS: [&str; 5] = ["sslmode", "host", "port", "options", "application_name"];

/// What a URL says, as far as it is read here.
struct Address {
    /// Without user and password.
    shown: String,
    sslmode: Option<SslMode>,
    /// What is said stays on this machine.
    is_local: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disable,
    Verify,
}

pub(super) fn postgres(review: &mut Review<'_>, raw: RawPostgres) -> Postgres {
    let path = "stores.postgres.url";
    let url = match raw.url {
        Some(raw) => store::url(review, path, raw, |url| Ok(address(url)?.shown)),
        // Its absence was reported.
        None => StoreUrl::new(Secret::new(SecretSource::Inline, None), ""),
    };
    let mode = address(url.expose()).ok();
    let sslmode = mode.as_ref().and_then(|address| address.sslmode);
    if raw.tls.is_some() && sslmode == Some(SslMode::Disable) {
        review.advise("stores.postgres.tls", "has no effect: the URL says sslmode=disable");
    }
    if raw.tls.is_none()
        && let Some(Address { sslmode: None, is_local: false, .. }) = mode
    {
        let message = "says no sslmode: answers go in the clear; add sslmode=verify-full, or \
            sslmode=disable where the network is your own";
        review.advise(path, message);
    }
    let is_name = |name: &String| {
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control)
    };
    for (path, name) in
        [("stores.postgres.user", &raw.user), ("stores.postgres.schema", &raw.schema)]
    {
        if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
            let message = format!("must be 1 to {NAME_BYTES_MAX} bytes, not {}", quoted(name));
            review.report(path, message);
        }
    }
    let tls = raw.tls.map(|raw| upstream::tls_files(review, "stores.postgres.tls", raw));
    let connections = raw.connections.unwrap_or(defaults::POSTGRES_CONNECTIONS);
    Postgres {
        url,
        user: raw.user,
        password: raw.password.map(|raw| review.secret("stores.postgres.password", &raw)),
        tls: tls.unwrap_or_default(),
        schema: raw.schema,
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        timeout: review.duration(
            "stores.postgres.timeout".to_owned(),
            raw.timeout.as_ref(),
            defaults::POSTGRES_TIMEOUT,
        ),
    }
}

pub(super) fn entries(review: &mut Review<'_>, raw: Option<&RawCachePostgres>) -> CachePostgres {
    let sealed = raw.and_then(|raw| raw.encryption.as_ref());
    CachePostgres {
        bytes_max: review.size_within(
            "cache.postgres.size".to_owned(),
            raw.and_then(|raw| raw.size.as_ref()),
            defaults::POSTGRES_BYTES,
            defaults::MEMORY_BYTES_MIN..=(1 << 44),
        ),
        store: store::entries(review, "postgres", raw.and_then(|raw| raw.compression), sealed),
    }
}

/// Reads as much of a URL as has to be known. Messages never quote it.
fn address(url: &str) -> Result<Address, String> {
    let shape = || "must be a URL like postgres://user@127.0.0.1:5432/database".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(shape)?;
    if !matches!(scheme, "postgres" | "postgresql") || url.contains(char::is_whitespace) {
        return Err(shape());
    }
    // The first, as whoever connects reads it.
    let (credentials, rest) = match rest.split_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    if rest.contains('@') {
        return Err("an @ in a user or password is written %40".to_owned());
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, _database) = place.split_once('/').unwrap_or((place, ""));
    let mut are_local = Vec::new();
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        are_local.push(is_local(host).ok_or_else(shape)?);
    }
    let mut sslmode = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(shape)?;
        match (name, value) {
            ("sslmode", "disable") => sslmode = Some(SslMode::Disable),
            ("sslmode", "require" | "verify-ca" | "verify-full") => sslmode = Some(SslMode::Verify),
            ("sslmode", _) => {
                return Err(
                    "sslmode must be disable, require, verify-ca or verify-full: the others \
                    go on without tls"
                        .to_owned(),
                );
            }
            ("host", path) => are_local.push(is_local(path).ok_or_else(shape)?),
            (name, _) if PARAMETERS.contains(&name) => {}
            _ => return Err(format!("takes no parameters but {}", PARAMETERS.join(", "))),
        }
    }
    if are_local.is_empty() {
        return Err(shape());
    }
    Ok(Address {
        shown: format!("{scheme}://{credentials}{rest}"),
        sslmode,
        is_local: are_local.into_iter().all(|is_local| is_local),
    })
}

/// `None`: it is neither a host, perhaps with a port, nor the directory of a socket.
fn is_local(host: &str) -> Option<bool> {
    let is_path = ["/", "%2F", "%2f"].iter().any(|slash| host.starts_with(slash));
    if is_path {
        return Some(true);
    }
    let (host, _) = endpoint::authority_parts(host)?;
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    Some(is_loopback || host == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_is_secret_in_it_also_in_errors() {
        let shown = |url: &str| address(url).map(|address| address.shown);
        for (url, expected) in [
            ("postgres://u:geheim@h/d", "postgres://***@h/d"),
            (
                "postgresql://h:1,[::1]:2/d?sslmode=disable",
                "postgresql://h:1,[::1]:2/d?sslmode=disable",
            ),
            ("postgres://u@%2Frun%2Fpostgresql/d", "postgres://***@%2Frun%2Fpostgresql/d"),
            ("postgres:///d?host=/run/postgresql", "postgres:///d?host=/run/postgresql"),
        ] {
            assert_eq!(shown(url).unwrap(), expected);
        }
        for wrong in [
            "",
            "h",
            "redis://u:geheim@h/d",
            "postgres://u:geheim@",
            "postgres://u:geheim@/d",
            "postgres://u:ge@heim@h/d",
            "postgres://u:geheim@h:port/d",
            "postgres://h/d?password=geheim",
            "postgres://h/d?target_session_attrs=any&x=geheim",
            "postgres://u:geheim@h/d?sslmode=prefer",
            "postgres://u:geheim@h/d?sslmode",
            "postgres://u:geheim@h/a b",
        ] {
            let message = shown(wrong).unwrap_err();
            assert!(!message.contains("geheim"), "{wrong}: {message}");
        }
    }

    #[test]
    fn what_stays_on_this_machine_is_told_from_what_does_not() {
        let local = |url: &str| address(url).unwrap().is_local;
        assert!(local("postgres://localhost/d") && local("postgres://127.0.0.1,[::1]:1/d"));
        assert!(local("postgres://%2Frun/d"));
        assert!(!local("postgres://127.0.0.1,db/d") && !local("postgres://10.0.0.1/d"));
    }
}
