//! Who is asking: the dimensions of the ledger and the scopes of keys.
//!
//! A credential is digested at once and never kept: the tenant's name is a keyed
//! digest with a derivation context of its own, so that it can stand in a ledger, a
//! metric or a store without telling anything about the key.

use crate::head::BadHead;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use std::sync::LazyLock;
use tollgate_config::{Config, TenantSource};

/// The longest value of a dimension that is believed; longer ones are left out, since
/// a caller could fill the ledger with them.
const DIMENSION_BYTES_MAX: usize = 128;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const TENANT_LEN: usize = 20;

/// The tenant of callers who have none.
const ANONYMOUS: &str = "anonymous";

/// Separates these digests from every other use of the same credential.
static TENANT_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("tollgate 2026-11 tenant of a credential", b""));

/// What names a caller by itself, in the order in which it counts; before the cookie comes `?key=`.
static CREDENTIALS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    header::COOKIE,
];

/// What gateways say of a call they pass on, and what they may ask of us.
const FORWARDED: [HeaderName; 11] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("tollgate-debug"),
    HeaderName::from_static("tollgate-vote"),
];

/// Where a configuration says that identity is found.
#[derive(Debug)]
pub(crate) struct Sources {
    tenant: Option<Source>,
    /// The credential that it is made of, where one is.
    credential: &'static [HeaderName],
    user: Option<HeaderName>,
    tier: Option<HeaderName>,
    project: Option<HeaderName>,
    business: Option<HeaderName>,
    /// What is removed from the requests of peers that are not trusted.
    claimed: Vec<HeaderName>,
    /// What says who is asking, and so may be said once only.
    single: Vec<HeaderName>,
}

#[derive(Debug)]
enum Source {
    ApiKey(HeaderName),
    Header(HeaderName),
}

/// The fields that say who asks, where configured: with their values the scope of a key is told
/// apart.
#[derive(Debug)]
pub(crate) struct SaidBy {
    pub(crate) tenant: Option<HeaderName>,
    pub(crate) user: Option<HeaderName>,
}

/// The tenant of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tenant {
    Anonymous,
    /// `key-` and 16 hex digits.
    Key([u8; TENANT_LEN]),
    Named(HeaderValue),
}

/// Who is asking. Empty where the configuration names no source.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) user: Option<HeaderValue>,
    pub(crate) tier: Option<HeaderValue>,
    pub(crate) project: Option<HeaderValue>,
    pub(crate) business: Option<HeaderValue>,
    /// `identity.tenant` is configured: it alone says who this is.
    pub(crate) tenant_configured: bool,
    /// The fields that say the same in every call of this tenant: the credential that it is made
    /// of, and those that would have counted before it.
    pub(crate) credentials: &'static [HeaderName],
}

impl Source {
    /// The field, if it is one that carries credentials.
    fn credential(&self) -> &'static [HeaderName] {
        let (Self::ApiKey(name) | Self::Header(name)) = self;
        let known = CREDENTIALS.iter().find(|known| *known == name);
        known.map_or(&[], std::slice::from_ref)
    }
}

impl Sources {
    pub(crate) fn new(config: &Config) -> Self {
        let name = |name: &Option<String>| {
            name.as_deref().and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        };
        let parse = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        let identity = &config.identity;
        let tenant = identity.tenant.as_ref().and_then(|source| match source {
            TenantSource::ApiKey { header } => parse(header).map(Source::ApiKey),
            TenantSource::Header(header) => parse(header).map(Source::Header),
        });
        let [user, tier, project, business] =
            [&identity.user, &identity.tier, &identity.project, &identity.business].map(name);
        let mut claimed: Vec<HeaderName> = FORWARDED.to_vec();
        claimed.extend([&user, &tier, &project, &business].into_iter().flatten().cloned());
        let mut single = headers_alone().to_vec();
        single.extend([&user, &tier, &project, &business].into_iter().flatten().cloned());
        match &tenant {
            Some(Source::Header(name)) => {
                claimed.push(name.clone());
                single.push(name.clone());
            }
            Some(Source::ApiKey(name)) => single.push(name.clone()),
            None => {}
        }
        let classes = config.routes.iter().flat_map(|route| route.class.headers());
        claimed.extend(classes.filter_map(parse));
        let credential = tenant.as_ref().map_or(&[][..], Source::credential);
        Self { tenant, credential, user, tier, project, business, claimed, single }
    }

    /// Removes what a peer that is not trusted has no right to say.
    pub(crate) fn strip_claims(&self, headers: &mut HeaderMap) {
        for name in &self.claimed {
            headers.remove(name);
        }
    }

    /// # Errors
    /// Two lines say who this is. Which of them the upstream believes is not known, and a
    /// gateway that appends its own must not be outrun by a caller who sends one first.
    pub(crate) fn read(&self, headers: &HeaderMap, uri: &Uri) -> Result<Caller, BadHead> {
        // Hardly any head has a field twice, and then nothing needs to be looked for.
        if headers.len() != headers.keys_len()
            && self.single.iter().any(|name| headers.get_all(name).iter().nth(1).is_some())
        {
            return Err(BadHead::TwoIdentities);
        }
        let mut credentials = self.credential;
        let tenant = match &self.tenant {
            None => {
                let first = first_credential(headers, uri);
                credentials = first.map_or(&CREDENTIALS[..], |(_, credentials)| credentials);
                first.map_or(Tenant::Anonymous, |(credential, _)| Tenant::of_key(credential))
            }
            Some(Source::ApiKey(name)) => headers
                .get(name)
                .filter(|value| !value.is_empty())
                .map_or(Tenant::Anonymous, |value| Tenant::of_key(value.as_bytes())),
            Some(Source::Header(name)) => {
                dimension(headers, Some(name)).map_or(Tenant::Anonymous, Tenant::named)
            }
        };
        Ok(Caller {
            tenant,
            user: dimension(headers, self.user.as_ref()),
            tier: dimension(headers, self.tier.as_ref()),
            project: dimension(headers, self.project.as_ref()),
            business: dimension(headers, self.business.as_ref()),
            tenant_configured: self.tenant.is_some(),
            credentials,
        })
    }
}

/// Whether a field that would say who asks says nothing: such a call is as one without it.
pub(crate) fn is_empty_credential(headers: &HeaderMap, name: &HeaderName) -> bool {
    CREDENTIALS.contains(name) && headers.get_all(name).iter().all(HeaderValue::is_empty)
}

impl Sources {
    pub(crate) fn said_by(&self) -> SaidBy {
        let tenant = self.tenant.as_ref().map(|source| match source {
            Source::ApiKey(name) | Source::Header(name) => name.clone(),
        });
        SaidBy { tenant, user: self.user.clone() }
    }
}

impl Tenant {
    fn of_key(credential: &[u8]) -> Self {
        let digest = blake3::keyed_hash(&TENANT_KEY, credential);
        let mut name = *b"key-0000000000000000";
        let digits = digest.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (place, digit) in name.iter_mut().skip(4).zip(digits) {
            *place = DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0');
        }
        Self::Key(name)
    }

    /// Whether this is the tenant that `credential` makes.
    pub(crate) fn is_of_key(&self, credential: &[u8]) -> bool {
        *self == Self::of_key(credential)
    }

    /// Nobody is, by a name of their own, who has none, or who is known by a credential:
    /// in keys and in the ledger they would be one.
    fn named(name: HeaderValue) -> Self {
        let is_reserved = name.to_str().is_ok_and(|name| name == ANONYMOUS || is_of_key(name));
        if is_reserved { Self::Anonymous } else { Self::Named(name) }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Anonymous => ANONYMOUS,
            Self::Key(name) => std::str::from_utf8(name).unwrap_or(ANONYMOUS),
            Self::Named(name) => name.to_str().unwrap_or(ANONYMOUS),
        }
    }
}

/// Whether it reads like what [`Tenant::of_key`] makes.
fn is_of_key(name: &str) -> bool {
    let digits = name.strip_prefix("key-").unwrap_or_default();
    name.len() == TENANT_LEN && digits.bytes().all(|digit| DIGITS.contains(&digit))
}

/// The value of `name`, if it is one word of visible text that a ledger can hold.
fn dimension(headers: &HeaderMap, name: Option<&HeaderName>) -> Option<HeaderValue> {
    let value = headers.get(name?)?;
    let fits = !value.is_empty() && value.len() <= DIMENSION_BYTES_MAX && value.to_str().is_ok();
    fits.then(|| value.clone())
}

/// And the fields that say the same wherever it is the first: itself, and those before it, which
/// are not there.
fn first_credential<'a>(
    headers: &'a HeaderMap,
    uri: &'a Uri,
) -> Option<(&'a [u8], &'static [HeaderName])> {
    let query = || {
        let pairs = uri.query()?.split('&');
        let key = pairs.filter_map(|pair| pair.strip_prefix("key=")).find(|key| !key.is_empty())?;
        Some((key.as_bytes(), headers_alone()))
    };
    let said = |(place, name): (usize, &HeaderName)| {
        let value = headers.get(name).map(HeaderValue::as_bytes).filter(|it| !it.is_empty())?;
        Some((value, CREDENTIALS.get(..=place)?))
    };
    let mut fields = CREDENTIALS.iter().enumerate();
    fields
        .by_ref()
        .take(headers_alone().len())
        .find_map(said)
        .or_else(query)
        .or_else(|| fields.find_map(said))
}

/// Without the cookie, which may be said in several lines, and counts last.
fn headers_alone() -> &'static [HeaderName] {
    CREDENTIALS.split_last().map_or(&[], |(_cookie, others)| others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(tenant: Option<Source>) -> Sources {
        let claimed = vec![HeaderName::from_static("x-user-id")];
        let user = Some(HeaderName::from_static("x-user-id"));
        let single = vec![header::AUTHORIZATION, HeaderName::from_static("x-tenant")];
        let credential = tenant.as_ref().map_or(&[][..], Source::credential);
        Sources {
            tenant,
            credential,
            user,
            tier: None,
            project: None,
            business: None,
            claimed,
            single,
        }
    }

    #[track_caller]
    fn check(tenant: Option<Source>, fields: &[(&'static str, &'static str)], expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let caller = sources(tenant).read(&headers, &Uri::from_static("/x?key=q")).unwrap();
        let found = caller.tenant.as_str();
        assert!(found == expected || expected == "key-" && found.starts_with("key-"), "{found}");
        assert!(!found.contains("secret"));
    }

    #[test]
    fn a_tenant_is_a_digest_of_the_first_credential() {
        check(None, &[("authorization", "Bearer secret")], "key-");
        check(None, &[], "key-"); // ?key=
        let name = HeaderName::from_static("x-tenant");
        check(Some(Source::Header(name.clone())), &[("authorization", "secret")], "anonymous");
        check(Some(Source::Header(name)), &[("x-tenant", "acme")], "acme");
        let key = HeaderName::from_static("x-key");
        check(Some(Source::ApiKey(key)), &[("authorization", "secret")], "anonymous");
    }

    #[test]
    fn a_name_that_is_somebody_elses_is_none() {
        let name = HeaderName::from_static("x-tenant");
        let of_key = Tenant::of_key(b"secret");
        let cases =
            [(of_key.as_str(), "anonymous"), ("anonymous", "anonymous"), ("key-accounts", "key-")];
        for (claimed, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("x-tenant", HeaderValue::from_str(claimed).unwrap());
            let caller = sources(Some(Source::Header(name.clone())));
            let caller = caller.read(&headers, &Uri::from_static("/")).unwrap();
            assert!(caller.tenant.as_str().starts_with(expected), "{claimed}");
            assert_eq!(caller.tenant == Tenant::Anonymous, expected == "anonymous", "{claimed}");
        }
    }

    #[test]
    fn who_is_asking_is_said_once_or_not_at_all() {
        let sources = sources(Some(Source::Header(HeaderName::from_static("x-tenant"))));
        for (name, refused) in [("x-tenant", true), ("authorization", true), ("accept", false)] {
            let mut headers = HeaderMap::new();
            for value in ["a", "a"] {
                headers.append(name, HeaderValue::from_static(value));
            }
            let caller = sources.read(&headers, &Uri::from_static("/"));
            assert_eq!(caller.is_err(), refused, "{name}");
        }
    }

    #[test]
    fn the_same_credential_is_the_same_tenant_and_another_is_not() {
        assert_eq!(Tenant::of_key(b"a"), Tenant::of_key(b"a"));
        assert_ne!(Tenant::of_key(b"a"), Tenant::of_key(b"b"));
    }

    #[test]
    fn a_dimension_is_a_short_visible_word_or_nothing() {
        let long = "x".repeat(DIMENSION_BYTES_MAX + 1);
        for bad in ["", long.as_str(), "caf\u{e9}"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-user-id", HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(sources(None).read(&headers, &Uri::from_static("/")).unwrap().user, None);
        }
    }
}
