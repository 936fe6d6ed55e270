//! URLs, of which we take so little that a parser of our own is the safest.

use crate::{
    Endpoint, MemcachedServer, Scheme,
    defaults::{MEMCACHED_PORT, REDIS_PORT},
    problem::quoted,
};
use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

const HOST_BYTES_MAX: usize = 253;

/// `http://host[:port]` or `https://host[:port]`, perhaps with one `/` behind it.
pub(super) fn http(url: &str) -> Result<Endpoint, String> {
    let shape = || match url.contains('@') {
        // It may be a password.
        true => "must be a URL like http://127.0.0.1:8000".to_owned(),
        false => format!("must be a URL like http://127.0.0.1:8000, not {}", quoted(url)),
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(shape)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(shape()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(
            "must not contain a user or password: callers bring their own credentials".to_owned()
        );
    }
    if !matches!(path, "" | "/") {
        return Err("a path in the URL is refused: callers' paths go through unchanged".to_owned());
    }
    let (host, port) = authority_parts(authority).ok_or_else(shape)?;
    Ok(Endpoint { scheme, host, port: port.unwrap_or(scheme.port()) })
}

/// Checks `redis[s]://[user:password@]host[:port][/database]` and gives it without the
/// password. Messages never quote it.
pub(super) fn redis(url: &str) -> Result<String, String> {
    let shape = || "must be a URL like redis://127.0.0.1:6379/0".to_owned();
    let (scheme, rest) = url.split_once("://").ok_or_else(shape)?;
    if !matches!(scheme, "redis" | "rediss") {
        return Err(shape());
    }
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority_parts(authority).ok_or_else(shape)?;
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err("the part after / must be the number of a database".to_owned());
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let slash = if database.is_empty() { "" } else { "/" };
    let port = port.unwrap_or(REDIS_PORT);
    Ok(format!("{scheme}://{credentials}{host}:{port}{slash}{database}"))
}

/// `host[:port]` or `unix:/path`.
pub(super) fn memcached(text: &str) -> Result<MemcachedServer, String> {
    let shape =
        || format!("must be an address like 127.0.0.1:11211 or unix:/path, not {}", quoted(text));
    if let Some(path) = text.strip_prefix("unix:") {
        return match Path::new(path).is_absolute() {
            true => Ok(MemcachedServer::Unix(PathBuf::from(path))),
            false => Err(shape()),
        };
    }
    let (host, port) = authority_parts(text).ok_or_else(shape)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(MemcachedServer::Tcp(format!("{host}:{}", port.unwrap_or(MEMCACHED_PORT))))
}

/// Host (lower case, no brackets) and port. `None`: not an authority.
pub(super) fn authority_parts(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = host.parse().ok()?;
            (
                address.to_string(),
                if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) },
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    let is_v6 = host.contains(':');
    if !is_v6 && !is_host(&host) {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse::<u16>().ok().filter(|port| *port > 0)?;
            Some((host, Some(port)))
        }
        Some(_) => None,
    }
}

/// A name of letters, digits, `-`, `_` and `.`, or an IPv4 address; without a port.
pub(super) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= HOST_BYTES_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<&str>) {
        assert_eq!(
            http(url).ok().map(|endpoint| endpoint.to_string()).as_deref(),
            expected,
            "{url}"
        );
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        check("http://127.0.0.1:8000", Some("http://127.0.0.1:8000"));
        check("http://model", Some("http://model"));
        check("HTTPS://API.example.com:443/", Some("https://api.example.com"));
        check("http://[::1]:8000", Some("http://[::1]:8000"));
        check("https://[::1]", Some("https://[::1]"));
        for wrong in [
            "",
            "model:8000",
            "ftp://x",
            "http://",
            "http://:80",
            "http://x:",
            "http://x:0",
            "http://x:65536",
            "http://x:+1",
            "http://a b",
            "http://x/v1",
            "http://x?y",
            "http://x#y",
            "http://u:p@x",
            "http://[::1",
            "http://::1",
            "http://ä",
            "http://a..b",
            "http://x:80:80",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_memcached_is_a_host_with_a_port_or_a_socket() {
        let tcp = |text: &str| Ok(MemcachedServer::Tcp(text.to_owned()));
        assert_eq!(memcached("cache-1"), tcp("cache-1:11211"));
        assert_eq!(memcached("10.0.0.1:11212"), tcp("10.0.0.1:11212"));
        assert_eq!(memcached("[::1]"), tcp("[::1]:11211"));
        assert_eq!(memcached("unix:/a b"), Ok(MemcachedServer::Unix("/a b".into())));
        for wrong in ["", ":1", "a:0", "a:b", "unix:", "unix:a", "memcached://a", "a b", "a/b"] {
            assert!(memcached(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redis_password_is_not_shown_also_in_errors() {
        assert_eq!(redis("redis://u:geheim@h/1").unwrap(), "redis://***@h:6379/1");
        assert_eq!(redis("redis://h").unwrap(), "redis://h:6379");
        assert_eq!(redis("rediss://:geheim@h").unwrap(), "rediss://***@h:6379");
        for wrong in
            ["redis://u:geheim@", "redis://u:geheim@h/x", "http://u:geheim@h", "rediss://:geheim@"]
        {
            let message = redis(wrong).unwrap_err();
            assert!(!message.contains("geheim"), "{message}");
        }
    }
}
