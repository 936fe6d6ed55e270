//! Who is asking: the dimensions of the ledger and the scopes of keys.
//!
//! A credential is digested at once and never kept: the tenant's name is a keyed
//! digest with a derivation context of its own, so that it can stand in a ledger, a
//! metric or a store without telling anything about the key.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use std::sync::LazyLock;
use tollgate_config::{Config, TenantSource};

/// The longest value of a dimension that is believed; longer ones are left out, since
/// a caller could fill the ledger with them.
const DIMENSION_BYTES_MAX: usize = 128;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const TENANT_LEN: usize = 20;

/// Separates these digests from every other use of the same credential.
static TENANT_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("tollgate 2026-11 tenant of a credential", b""));

const CREDENTIALS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

const FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("tollgate-debug"),
];

/// Where a configuration says that identity is found.
#[derive(Debug)]
pub(crate) struct Sources {
    tenant: Option<Source>,
    user: Option<HeaderName>,
    tier: Option<HeaderName>,
    project: Option<HeaderName>,
    business: Option<HeaderName>,
    /// What is removed from the requests of peers that are not trusted.
    claimed: Vec<HeaderName>,
}

#[derive(Debug)]
enum Source {
    ApiKey(HeaderName),
    Header(HeaderName),
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
        if let Some(Source::Header(name)) = &tenant {
            claimed.push(name.clone());
        }
        let classes = config.routes.iter().filter_map(|route| route.class.header.as_deref());
        claimed.extend(classes.filter_map(parse));
        Self { tenant, user, tier, project, business, claimed }
    }

    /// Removes what a peer that is not trusted has no right to say.
    pub(crate) fn strip_claims(&self, headers: &mut HeaderMap) {
        for name in &self.claimed {
            headers.remove(name);
        }
    }

    pub(crate) fn read(&self, headers: &HeaderMap, uri: &Uri) -> Caller {
        let tenant = match &self.tenant {
            None => first_credential(headers, uri).map_or(Tenant::Anonymous, Tenant::of_key),
            Some(Source::ApiKey(name)) => headers
                .get(name)
                .filter(|value| !value.is_empty())
                .map_or(Tenant::Anonymous, |value| Tenant::of_key(value.as_bytes())),
            Some(Source::Header(name)) => {
                dimension(headers, Some(name)).map_or(Tenant::Anonymous, Tenant::Named)
            }
        };
        Caller {
            tenant,
            user: dimension(headers, self.user.as_ref()),
            tier: dimension(headers, self.tier.as_ref()),
            project: dimension(headers, self.project.as_ref()),
            business: dimension(headers, self.business.as_ref()),
            tenant_configured: self.tenant.is_some(),
        }
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

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Key(name) => std::str::from_utf8(name).unwrap_or("anonymous"),
            Self::Named(name) => name.to_str().unwrap_or("anonymous"),
        }
    }
}

/// The value of `name`, if it is one word of visible text that a ledger can hold.
fn dimension(headers: &HeaderMap, name: Option<&HeaderName>) -> Option<HeaderValue> {
    let value = headers.get(name?)?;
    let fits = !value.is_empty() && value.len() <= DIMENSION_BYTES_MAX && value.to_str().is_ok();
    fits.then(|| value.clone())
}

fn first_credential<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a [u8]> {
    let header = |name: &HeaderName| {
        headers.get(name).map(HeaderValue::as_bytes).filter(|value| !value.is_empty())
    };
    let query = || {
        let pairs = uri.query()?.split('&');
        pairs.filter_map(|pair| pair.strip_prefix("key=")).find(|key| !key.is_empty())
    };
    CREDENTIALS
        .iter()
        .find_map(header)
        .or_else(|| query().map(str::as_bytes))
        .or_else(|| header(&header::COOKIE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(tenant: Option<Source>) -> Sources {
        let claimed = vec![HeaderName::from_static("x-user-id")];
        let user = Some(HeaderName::from_static("x-user-id"));
        Sources { tenant, user, tier: None, project: None, business: None, claimed }
    }

    #[track_caller]
    fn check(tenant: Option<Source>, fields: &[(&'static str, &'static str)], expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let caller = sources(tenant).read(&headers, &Uri::from_static("/x?key=q"));
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
            assert_eq!(sources(None).read(&headers, &Uri::from_static("/")).user, None);
        }
    }
}
