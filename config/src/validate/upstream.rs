//! The services behind us.

use super::{concurrency, endpoint, resilience, version};
use crate::{
    Balance, Certificate, Endpoint, HostHeader, InjectUsage, Scheme, Timeouts, Upstream,
    UpstreamId, UpstreamTls, defaults,
    problem::{member, quoted},
    raw::{
        RawBalance, RawEndpoint, RawInjectUsage, RawOnOff, RawSwitch, RawTimeouts, RawUpstream,
        RawUpstreamTls,
    },
    review::Review,
};
use std::collections::BTreeMap;

pub(super) fn upstreams(
    review: &mut Review<'_>,
    raws: Option<BTreeMap<String, RawUpstream>>,
) -> Vec<Upstream> {
    if raws.as_ref().is_some_and(BTreeMap::is_empty) {
        review.report("upstreams", "at least one is needed");
    }
    let names: Vec<String> = raws.iter().flat_map(BTreeMap::keys).cloned().collect();
    let upstreams: Vec<Upstream> = raws
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(place, (name, mut raw))| {
            let path = format!("{}.fallback", member("upstreams", &name));
            let fallback = raw.fallback.take();
            let fallback =
                fallback.and_then(|raw| resilience::fallback(review, &path, raw, &names));
            Upstream { fallback, ..upstream(review, UpstreamId::new(place), name, raw) }
        })
        .collect();
    resilience::no_circles(review, &upstreams);
    upstreams
}

fn upstream(review: &mut Review<'_>, id: UpstreamId, name: String, raw: RawUpstream) -> Upstream {
    let path = member("upstreams", &name);
    let endpoints = endpoints(review, &path, raw.endpoints.as_deref().unwrap_or_default());
    let scheme = endpoints.first().map_or(Scheme::Http, |endpoint| endpoint.scheme);
    let bounds = concurrency::concurrency(review, &format!("{path}.concurrency"), raw.concurrency);
    Upstream {
        id,
        name: review.name(path.clone(), Some(name), "._-"),
        host: host(review, &path, raw.host.as_deref(), scheme),
        via: raw.via.is_none_or(is_on),
        balance: match raw.balance {
            Some(RawBalance::RoundRobin) => Balance::RoundRobin,
            Some(RawBalance::LeastLoaded) | None => Balance::LeastLoaded,
        },
        concurrency_limit: bounds.limit,
        adaptive: bounds.adaptive,
        tenant_weights: bounds.tenant_weights,
        queue_max: bounds.queue_max,
        reserve: bounds.reserve,
        preempt_per_s: bounds.preempt_per_s,
        share: bounds.share,
        tokens_max: bounds.tokens_max,
        timeouts: timeouts(review, &path, &raw.timeouts.unwrap_or_default()),
        retries: raw
            .retries
            .map(|raw| resilience::retries(review, &format!("{path}.retries"), raw)),
        breaker: raw
            .breaker
            .map(|raw| resilience::breaker(review, &format!("{path}.breaker"), &raw)),
        fallback: None,
        tls: tls(review, &format!("{path}.tls"), raw.tls, scheme),
        model_version: version::model_version(
            review,
            &format!("{path}.model_version"),
            raw.model_version.unwrap_or_default(),
        ),
        inject_usage: match raw.inject_usage {
            Some(RawInjectUsage::Never) => InjectUsage::Never,
            Some(RawInjectUsage::Auto) | None => InjectUsage::Auto,
        },
        endpoints,
    }
}

pub(super) fn is_on(raw: RawSwitch) -> bool {
    match raw {
        RawSwitch::Bool(word) => word,
        RawSwitch::Word(word) => word == RawOnOff::On,
    }
}

fn endpoints(review: &mut Review<'_>, path: &str, raws: &[RawEndpoint]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (i, raw) in raws.iter().enumerate() {
        let path = format!("{path}.endpoints[{i}].url");
        let Some(url) = &raw.url else { continue };
        match endpoint::http(url) {
            Err(message) => review.report(path, message),
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                review.report(path, format!("{endpoint} appears twice"));
            }
            Ok(endpoint) => {
                if endpoints.first().is_some_and(|first| first.scheme != endpoint.scheme) {
                    review.report(path, "endpoints of one upstream must be all http or all https");
                }
                endpoints.push(endpoint);
            }
        }
    }
    endpoints
}

fn host(review: &mut Review<'_>, path: &str, raw: Option<&str>, scheme: Scheme) -> HostHeader {
    match (raw, scheme) {
        // A server with a certificate wants its own name; one in our pod does not care,
        // and what it builds links from should be what the caller sees.
        (None, Scheme::Https) | (Some("upstream"), _) => HostHeader::Upstream,
        (None, Scheme::Http) | (Some("preserve"), _) => HostHeader::Preserve,
        (Some(name), _) => {
            let authority = endpoint::http(&format!("http://{name}"));
            if authority.is_err() || name.ends_with('/') {
                let message =
                    format!("must be upstream, preserve or a host name, not {}", quoted(name));
                review.report(format!("{path}.host"), message);
            }
            HostHeader::Name(name.to_ascii_lowercase())
        }
    }
}

fn timeouts(review: &mut Review<'_>, path: &str, raw: &RawTimeouts) -> Timeouts {
    let mut timeout = |name, raw: &Option<_>, default| {
        review.duration(format!("{path}.timeouts.{name}"), raw.as_ref(), default)
    };
    Timeouts {
        connect: timeout("connect", &raw.connect, defaults::CONNECT),
        first_byte: timeout("first_byte", &raw.first_byte, defaults::FIRST_BYTE),
        idle: timeout("idle", &raw.idle, defaults::IDLE),
        total: timeout("total", &raw.total, defaults::TOTAL),
    }
}

fn tls(
    review: &mut Review<'_>,
    path: &str,
    raw: Option<RawUpstreamTls>,
    scheme: Scheme,
) -> UpstreamTls {
    let Some(raw) = raw else { return UpstreamTls::default() };
    if scheme == Scheme::Http {
        review.advise(path, "has no effect: the endpoints are http");
    }
    tls_files(review, path, raw)
}

pub(super) fn tls_files(review: &mut Review<'_>, path: &str, raw: RawUpstreamTls) -> UpstreamTls {
    let ca = raw.ca.map(|file| review.file(format!("{path}.ca"), Some(&file)));
    let client = match (raw.client_certificate, raw.client_key) {
        (Some(certificate), Some(key)) => Some(Certificate {
            certificate: review.file(format!("{path}.client_certificate"), Some(&certificate)),
            private_key: review.file(format!("{path}.client_key"), Some(&key)),
        }),
        (Some(_), None) => {
            review
                .report(format!("{path}.client_key"), "missing: client_certificate needs its key");
            None
        }
        (None, Some(_)) => {
            review.report(
                format!("{path}.client_certificate"),
                "missing: client_key needs its certificate",
            );
            None
        }
        (None, None) => None,
    };
    UpstreamTls { ca, client }
}
