//! What a route's rule about keys comes to: made ready once, read for each call.
//!
//! What the body gives is remembered with the body; what head, path and query give is read again
//! for every call, as lines of the key: a few comparisons, and none where nothing is configured.

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};
use tollgate_cache::{
    key::Line,
    omit::Omit,
    pointer::Pointer,
    share::{BodyPart, Share},
};
use tollgate_config::{CachePolicy, KeyPart, KeyPolicy, PathRule, When};

/// What makes the keys of a route's calls.
#[derive(Debug)]
pub(crate) struct KeyRule {
    pub(crate) share: Share,
    ignored: Box<[Pointer]>,
    fields: Box<[Field]>,
    /// A template names them in place of all the rest.
    names_path: bool,
    names_query: bool,
    /// Tells apart what was learnt of one body under different rules; 0 without any.
    pub(crate) context: u64,
}

/// What head, path and query give to a key.
#[derive(Debug)]
struct Field {
    /// A version's own name; of all else the part in braces, which no version's name has.
    name: Arc<str>,
    from: From,
    /// A call without it is not cached.
    needed: bool,
}

#[derive(Debug)]
enum From {
    Header(HeaderName),
    Query(Box<str>),
    Segment(usize),
}

/// Where a call's part of the key is read from.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    /// What is asked is the question, and not the URL.
    pub(crate) by_content: bool,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

impl KeyRule {
    pub(crate) fn new(cache: &CachePolicy, path: &PathRule) -> Self {
        let rules = cache.lifetime.rules.iter();
        let times = rules.map(|rule| format!("{rule:?}")).collect::<String>();
        Self::of(&cache.key, &cache.when, &times, &Self::below(&cache.key, path))
    }

    /// What is left out of the path is the same for two calls of one route, and not of two.
    fn below(policy: &KeyPolicy, path: &PathRule) -> String {
        let names_path = policy.of.iter().flatten().any(|part| matches!(part, KeyPart::Segment(_)));
        if names_path { format!("{path:?}") } else { String::new() }
    }

    fn of(policy: &KeyPolicy, when: &When, times: &str, below: &str) -> Self {
        let pointer = |text: &String| Pointer::parse(text).ok();
        let ignored: Vec<Pointer> = policy.ignore.iter().filter_map(pointer).collect();
        let of = policy.of.iter().flatten();
        let body = of.clone().filter_map(|part| match part {
            KeyPart::Bytes => Some(BodyPart::Bytes),
            KeyPart::Body(text) => pointer(text).map(BodyPart::Value),
            KeyPart::Field(name) => Some(BodyPart::Field(name.as_bytes().into())),
            KeyPart::Header(_) | KeyPart::Query(_) | KeyPart::Segment(_) => None,
        });
        let mut rule = text(policy, when);
        rule.extend_from_slice(below.as_bytes());
        let context = context(&rule, times);
        Self {
            share: Share {
                of: policy.of.is_some().then(|| body.collect()),
                ignore: Omit::new(&ignored),
                rule: rule.into(),
            },
            ignored: ignored.into(),
            fields: fields(policy),
            names_path: of.clone().any(|part| matches!(part, KeyPart::Segment(_))),
            names_query: of.clone().any(|part| matches!(part, KeyPart::Query(_))),
            context,
        }
    }

    /// What a form leaves out: what is ignored, and the members that only say which form is wanted.
    pub(crate) fn without(&self, form_members: &[&str]) -> Omit {
        Omit::members(form_members).and(&self.ignored)
    }

    /// The fields of a request that the rule reads.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().filter_map(|field| match &field.from {
            From::Header(name) => Some(name),
            From::Query(_) | From::Segment(_) => None,
        })
    }

    /// Why a call has no key, if it has none.
    pub(crate) fn lacks(&self, said: Said<'_>) -> Option<&'static str> {
        // A server that also takes `;` between parameters reads another query than we do.
        if self.names_query && said.query.is_some_and(|query| query.contains(';')) {
            return Some("key-part-unclear");
        }
        let mut needed = self.fields.iter().filter(|field| field.needed);
        needed.any(|field| field.values(said).is_empty()).then_some("key-part-absent")
    }

    pub(crate) fn lines<'a>(&'a self, said: Said<'a>) -> impl Iterator<Item = Line<'a>> {
        // A template is about what is asked, and has no meaning where the URL is the question.
        let fields = self.fields.iter().filter(move |field| !field.needed || said.by_content);
        fields.flat_map(move |field| {
            field.values(said).into_iter().map(|value| (&*field.name, value))
        })
    }

    pub(crate) fn path<'a>(&self, said: Said<'a>) -> &'a str {
        if self.names_path && said.by_content { "" } else { said.path }
    }

    pub(crate) fn query<'a>(&self, said: Said<'a>) -> Option<&'a str> {
        if self.names_query && said.by_content { None } else { said.query }
    }
}

impl Field {
    /// All of them: an upstream reads them all, so none may be left out.
    fn values<'a>(&self, said: Said<'a>) -> SmallVec<[&'a [u8]; 2]> {
        match &self.from {
            From::Header(name) => {
                said.headers.get_all(name).into_iter().map(|value| value.as_bytes()).collect()
            }
            From::Query(name) => {
                let pairs = said.query.into_iter().flat_map(|query| query.split('&'));
                let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                pairs.filter(|(own, _)| is_named(own, name)).map(|(_, v)| v.as_bytes()).collect()
            }
            From::Segment(place) => {
                let segment = said.path.split('/').skip(1).nth(*place);
                segment
                    .filter(|segment| !segment.is_empty())
                    .map(str::as_bytes)
                    .into_iter()
                    .collect()
            }
        }
    }
}

/// Everything that the operator wrote about keys, as it is bound to them; empty: nothing.
///
/// What is kept by one route was not held against the conditions of another, nor against those that
/// the route had before a reload: so these are bound, too.
fn text(policy: &KeyPolicy, when: &When) -> Vec<u8> {
    let has_when = *when != When::default();
    if policy.is_default() && !has_when {
        return Vec::new();
    }
    let versions = policy.versions.iter().map(|version| (&version.name, &version.header));
    let of = policy.of.as_ref().map(|parts| parts.iter().map(KeyPart::to_string));
    let text = serde_json::json!({
        "versions": versions.collect::<Vec<_>>(),
        "ignore": policy.ignore,
        "include_headers": policy.include_headers,
        "of": of.map(Iterator::collect::<Vec<_>>),
        "when": has_when.then(|| format!("{when:?}")),
    });
    text.to_string().into_bytes()
}

/// Only for what is remembered while the process lives. The lowest byte is the operation's.
fn context(rule: &[u8], times: &str) -> u64 {
    if rule.is_empty() && times.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    (rule, times).hash(&mut hasher);
    hasher.finish() << 8
}

fn fields(policy: &KeyPolicy) -> Box<[Field]> {
    let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok().map(From::Header);
    let versions = policy.versions.iter().filter_map(|version| {
        let (name, from) = (Arc::from(&*version.name), header(&version.header)?);
        Some(Field { name, from, needed: false })
    });
    let included = policy.include_headers.iter().filter_map(|name| {
        let from = header(name)?;
        Some(Field { name: Arc::from(format!("{{header.{name}}}")), from, needed: false })
    });
    let of = policy.of.iter().flatten().filter_map(|part| {
        let from = match part {
            KeyPart::Header(name) => header(name)?,
            KeyPart::Query(name) => From::Query(name.as_str().into()),
            KeyPart::Segment(place) => From::Segment(*place),
            KeyPart::Bytes | KeyPart::Body(_) | KeyPart::Field(_) => return None,
        };
        Some(Field { name: Arc::from(format!("{{{part}}}")), from, needed: true })
    });
    versions.chain(included).chain(of).collect()
}

/// Whether a parameter is called `name`, however that is written: else `%71` would be another name
/// here and the same one upstream.
fn is_named(written: &str, name: &str) -> bool {
    decoded(written).eq(name.bytes())
}

/// A name or a value of a query, as forms write them (`application/x-www-form-urlencoded`, URL
/// Standard §5.1).
pub(crate) fn decoded(written: &str) -> impl Iterator<Item = u8> {
    let mut rest = written.as_bytes();
    std::iter::from_fn(move || {
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        })
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn rule(of: &[KeyPart], versions: &[&str], included: &[&str]) -> KeyRule {
        let version = |name: &&str| tollgate_config::KeyVersion {
            name: (*name).to_owned(),
            header: format!("x-{name}"),
        };
        let policy = KeyPolicy {
            of: (!of.is_empty()).then(|| of.to_vec()),
            versions: versions.iter().map(version).collect(),
            include_headers: included.iter().map(ToString::to_string).collect(),
            ..KeyPolicy::default()
        };
        KeyRule::of(&policy, &When::default(), "", "")
    }

    fn lines(rule: &KeyRule, said: Said<'_>) -> Vec<(String, Vec<u8>)> {
        rule.lines(said).map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn a_header_of_a_version_is_not_mistaken_for_one_that_is_included() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let said = Said { by_content: true, headers: &headers, path: "/", query: None };
        let (version, included) = (rule(&[], &["a"], &[]), rule(&[], &[], &["x-a"]));
        let expected =
            |name: &str| vec![(name.to_owned(), b"1".to_vec()), (name.to_owned(), b"2".to_vec())];
        assert_eq!(lines(&version, said), expected("a"));
        assert_eq!(lines(&included, said), expected("{header.x-a}"));
        assert_ne!(version.share.rule, included.share.rule);
        assert_ne!(version.context, included.context);
        assert_eq!((rule(&[], &[], &[]).context, version.context & 0xff), (0, 0));
    }

    #[test]
    fn routes_of_other_paths_never_share_by_naming_the_same_part_of_them() {
        let policy = |of: &str| KeyPolicy {
            of: Some(vec![match of {
                "path" => KeyPart::Segment(1),
                _ => KeyPart::Bytes,
            }]),
            versions: Vec::new(),
            include_headers: Vec::new(),
            ..KeyPolicy::default()
        };
        let rule = |of: &str, path: &str| {
            let key = policy(of);
            let below = KeyRule::below(&key, &PathRule::Prefix(path.to_owned()));
            KeyRule::of(&key, &When::default(), "", &below).share.rule
        };
        assert_ne!(rule("path", "/projects"), rule("path", "/users"));
        assert_eq!(rule("path", "/users"), rule("path", "/users"));
        // The whole path is in the key as it is.
        assert_eq!(rule("body", "/projects"), rule("body", "/users"));
    }

    #[test]
    fn a_named_part_of_path_or_query_takes_the_place_of_the_rest() {
        let headers = HeaderMap::new();
        let parts = [KeyPart::Segment(1), KeyPart::Query("q".into())];
        let rule = rule(&parts, &[], &[]);
        let said = |path, query| Said { by_content: true, headers: &headers, path, query };
        let call = said("/p/acme/x", Some("a=1&%71=x&b&q=y"));
        assert_eq!(rule.lacks(call), None);
        assert_eq!((rule.path(call), rule.query(call)), ("", None));
        let own = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let expected = [own("{path.2}", "acme"), own("{query.q}", "x"), own("{query.q}", "y")];
        assert_eq!(lines(&rule, call), expected);
        let http = Said { by_content: false, ..call };
        assert_eq!((rule.path(http), rule.query(http)), ("/p/acme/x", call.query));
        assert!(lines(&rule, http).is_empty());
        assert_eq!(rule.lacks(said("/p", Some("q=1"))), Some("key-part-absent"));
        assert_eq!(rule.lacks(said("/p/x", Some("r=1"))), Some("key-part-absent"));
        assert_eq!(rule.lacks(said("/p/x", None)), Some("key-part-absent"));
        assert_eq!(rule.lacks(said("/p/x", Some("q=1;q=2"))), Some("key-part-unclear"));
    }

    #[test]
    fn a_parameter_has_its_name_however_it_is_written() {
        for written in ["a b", "a+b", "a%20b", "%61%20%62"] {
            assert!(is_named(written, "a b"), "{written}");
        }
        for other in ["a%2", "a%", "a%zz", "ab", "a b c", ""] {
            assert!(!is_named(other, "a b"), "{other}");
        }
        assert!(is_named("%", "%"));
    }
}
