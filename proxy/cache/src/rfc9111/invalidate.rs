//! Which kept answers a change voids (RFC 9111 §4.4): what is kept for the URL that was changed,
//! and for the URLs of the same origin that the answer names.
//!
//! URLs are resolved by RFC 3986 §5.2, without decoding. What cannot be resolved, or leads to
//! another origin, voids nothing: otherwise one site could empty another's cache.

use http::{HeaderMap, StatusCode, Uri, header, uri::PathAndQuery};

/// The paths, with their queries, that are void after an answer to a request that invalidates
/// ([`super::request::Request::invalidates`]); the target first. Only a success voids: `target` is
/// in absolute form, as the caller asked for it.
pub fn voided(target: &Uri, status: StatusCode, answer: &HeaderMap) -> Vec<String> {
    if !status.is_success() && !status.is_redirection() {
        return Vec::new();
    }
    let mut paths = vec![path_of(target)];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let named = answer.get(name).and_then(|value| resolve(target, value.to_str().ok()?));
        if let Some(path) = named.filter(|path| !paths.contains(path)) {
            paths.push(path);
        }
    }
    paths
}

/// The answer says that it is what its own URL has.
pub fn names_itself(target: &Uri, answer: &HeaderMap) -> bool {
    super::fields::only(answer, &header::CONTENT_LOCATION)
        .and_then(|value| resolve(target, value.to_str().ok()?))
        .is_some_and(|path| path == path_of(target))
}

fn path_of(uri: &Uri) -> String {
    uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
}

/// The path and query that a reference leads to from `base`; `None` if it is another origin's, or
/// no reference.
pub fn resolve(base: &Uri, reference: &str) -> Option<String> {
    let reference = reference.trim_matches([' ', '\t']);
    let reference = reference.split_once('#').map_or(reference, |(before, _fragment)| before);
    let path = if let Some(scheme_end) = scheme_end(reference) {
        let absolute: Uri = reference.parse().ok()?;
        let scheme = reference.get(..scheme_end)?;
        same_origin(base, scheme, absolute.authority()?.as_str())?;
        path_of(&absolute)
    } else if let Some(rest) = reference.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        same_origin(base, base.scheme_str()?, authority)?;
        if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
    } else if reference.is_empty() {
        return Some(path_of(base));
    } else if reference.starts_with('?') {
        format!("{}{reference}", base.path())
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _file)| folder);
        format!("{folder}/{reference}")
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path.as_str(), None),
    };
    let path = without_dots(path);
    let whole = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    // Whatever no request could ask for is not kept either.
    whole.parse::<PathAndQuery>().ok()?;
    Some(whole)
}

/// Where the `:` after a scheme is.
fn scheme_end(reference: &str) -> Option<usize> {
    let colon = reference.find(':')?;
    let scheme = reference.get(..colon)?.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    (scheme.first()?.is_ascii_alphabetic() && scheme.iter().all(fits)).then_some(colon)
}

fn same_origin(base: &Uri, scheme: &str, authority: &str) -> Option<()> {
    let base_scheme = base.scheme_str()?;
    let is_same = base_scheme.eq_ignore_ascii_case(scheme)
        && origin(base_scheme, base.authority()?.as_str()) == origin(scheme, authority);
    is_same.then_some(())
}

/// Host in lower case, and port.
fn origin(scheme: &str, authority: &str) -> (String, String) {
    let host = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    let (host, port) = match host.rsplit_once(':') {
        // Not the last group of an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (host, ""),
    };
    let port = if port.is_empty() { default } else { port };
    (host.to_ascii_lowercase(), port.to_owned())
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;
    use proptest::prelude::*;

    const BASE: &str = "http://a.example/b/c/d?q";

    #[track_caller]
    fn check(reference: &str, expected: Option<&str>) {
        let base: Uri = BASE.parse().unwrap();
        assert_eq!(resolve(&base, reference).as_deref(), expected, "{reference}");
    }

    #[test]
    fn references_are_resolved_as_the_rfc_does() {
        check("g", Some("/b/c/g"));
        check("./g", Some("/b/c/g"));
        check("g/", Some("/b/c/g/"));
        check("/g", Some("/g"));
        check("?y", Some("/b/c/d?y"));
        check("g?y", Some("/b/c/g?y"));
        check("g#s", Some("/b/c/g"));
        check("#s", Some("/b/c/d?q"));
        check("", Some("/b/c/d?q"));
        check(".", Some("/b/c/"));
        check("..", Some("/b/"));
        check("../g", Some("/b/g"));
        check("../../../g", Some("/g"));
        check("g/../h?a/../b", Some("/b/c/h?a/../b"));
        check("//a.example/x", Some("/x"));
        check("//a.example?x", Some("/?x"));
    }

    #[test]
    fn only_the_same_origin_is_meant() {
        check("http://a.example/x", Some("/x"));
        check("HTTP://A.Example:80/x?y#z", Some("/x?y"));
        check("http://a.example", Some("/"));
        check("http://u@a.example/x", Some("/x"));
        for reference in [
            "http://b.example/x",
            "http://a.example:81/x",
            "https://a.example/x",
            "//b.example/x",
            "mailto:a",
            "urn:x",
            "http://a.example.b/x",
            "/a b",
            "http:///x",
        ] {
            check(reference, None);
        }
    }

    #[test]
    fn a_success_voids_the_target_and_what_it_names() {
        let target: Uri = BASE.parse().unwrap();
        let answer = headers(&[("location", "/new"), ("content-location", "e")]);
        let voided = |status: u16, answer: &HeaderMap| {
            voided(&target, StatusCode::from_u16(status).unwrap(), answer)
        };
        assert_eq!(voided(201, &answer), ["/b/c/d?q", "/new", "/b/c/e"]);
        assert_eq!(voided(303, &headers(&[])), ["/b/c/d?q"]);
        assert_eq!(voided(200, &headers(&[("location", "http://b/x")])), ["/b/c/d?q"]);
        assert_eq!(voided(200, &headers(&[("location", "/b/c/d?q")])), ["/b/c/d?q"]);
        for status in [100, 400, 404, 500, 503] {
            assert!(voided(status, &answer).is_empty(), "{status}");
        }
    }

    #[test]
    fn an_answer_may_name_itself() {
        let target: Uri = BASE.parse().unwrap();
        for (location, expected) in [("", true), ("d?q", true), ("/b/c/d", false), (BASE, true)] {
            let answer = headers(&[("content-location", location)]);
            assert_eq!(names_itself(&target, &answer), expected, "{location}");
        }
        assert!(!names_itself(&target, &headers(&[])));
    }

    proptest! {
        #[test]
        fn any_reference_leads_to_a_path_or_nowhere(reference in "[a-z:/.?#@\\[\\] %é-]{0,40}") {
            let base: Uri = BASE.parse().unwrap();
            if let Some(path) = resolve(&base, &reference) {
                prop_assert!(path.starts_with('/'));
                let path = path.split('?').next().unwrap();
                let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
                prop_assert!(!has_dots);
            }
        }
    }
}
