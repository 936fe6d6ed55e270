//! An upstream made ready: its endpoints, its scheduler, where its version is said.

use super::epoch::Poll;
use crate::{
    admission::{Admission, Gate, GateOwner},
    listener::{TlsError, chain_and_key, roots},
    upstream::{
        Balance, Breakers, Cause, Connector, Endpoint, HostRule, Retries, Timeouts, Upstream,
    },
};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
use tokio_util::task::TaskTracker;
use tollgate_cache::{pointer::Pointer, versions::Said};
use tollgate_config as config;
use tollgate_core::breaker::BreakerRules;

/// An upstream with its scheduler. Outlives a reload that does not change it.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) config: config::Upstream,
    pub(crate) upstream: Upstream,
    pub(crate) admission: Arc<Admission>,
    /// Where a version is said, if the upstream says it.
    pub(crate) version_header: Option<HeaderName>,
    pub(crate) version_static: Option<Arc<str>>,
    /// Where in the bodies of its answers.
    pub(crate) version_body: Option<Pointer>,
    /// Where it is asked for.
    pub(crate) version_poll: Option<Poll>,
    pub(crate) namespace: Arc<str>,
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    #[error("upstreams.{upstream}.tls: {source}")]
    Tls { upstream: String, source: TlsError },
    #[error("upstreams.{upstream}.tls: {source}")]
    Rustls { upstream: String, source: rustls::Error },
    #[error("upstreams.{upstream}: {text:?} cannot stand in a header")]
    Header { upstream: String, text: String },
    #[error("upstreams.{upstream}: {host:?} is not a name that TLS can check")]
    Name { upstream: String, host: String },
}

impl Destination {
    pub(crate) fn new(
        configuration: &config::Config,
        config: &config::Upstream,
        admission: Arc<Admission>,
        connections: &TaskTracker,
    ) -> Result<Self, DestinationError> {
        let header = |text: &str| {
            let upstream = config.name.clone();
            HeaderValue::from_str(text)
                .map_err(|_| DestinationError::Header { upstream, text: text.to_owned() })
        };
        let tls = client_tls(config)?;
        let mut endpoints = Vec::new();
        for endpoint in &config.endpoints {
            let tls = match &tls {
                None => None,
                Some(tls) => {
                    let host = endpoint.host.clone();
                    let upstream = config.name.clone();
                    let name = ServerName::try_from(host.clone())
                        .map_err(|_| DestinationError::Name { upstream, host })?;
                    Some((tls.clone(), name))
                }
            };
            let connector = Connector {
                host: Arc::from(&*endpoint.host),
                port: endpoint.port,
                tls,
                tasks: connections.clone(),
            };
            let name = Arc::from(format!("{}:{}", endpoint.host, endpoint.port));
            endpoints.push(Endpoint::new(name, header(&endpoint.authority())?, connector));
        }
        let timeouts = &config.timeouts;
        let upstream = Upstream {
            name: Arc::from(&*config.name),
            endpoints: endpoints.into(),
            timeouts: Timeouts {
                connect: timeouts.connect,
                first_byte: timeouts.first_byte,
                idle: timeouts.idle,
                total: timeouts.total,
            },
            host: match &config.host {
                config::HostHeader::Upstream => HostRule::Upstream,
                config::HostHeader::Preserve => HostRule::Preserve,
                config::HostHeader::Name(name) => HostRule::Name(header(name)?),
            },
            via: config.via,
            balance: match config.balance {
                config::Balance::LeastLoaded => Balance::LeastLoaded,
                config::Balance::RoundRobin => Balance::RoundRobin,
            },
            inject_usage: AtomicBool::new(config.inject_usage == config::InjectUsage::Auto),
            next: AtomicUsize::new(0),
            breakers: config.breaker.map(|rules| {
                let open_ns = u64::try_from(rules.open_for.as_nanos()).unwrap_or(u64::MAX);
                let rules = BreakerRules { failures_max: rules.failures_max, open_ns };
                Breakers::new(rules, config.endpoints.len(), admission.clone())
            }),
            retries: config.retries.as_ref().map(retries),
            stood_in: AtomicU64::new(0),
        };
        let (version_header, version_static, version_body, version_poll) =
            version_sources(&config.model_version);
        Ok(Self {
            upstream,
            admission,
            version_header,
            version_static,
            version_body,
            version_poll,
            namespace: Arc::from(configuration.namespace(config)),
            config: config.clone(),
        })
    }

    /// From now on this configuration's breakers say whether the queue's gate is open.
    pub(crate) fn take_over_gate(&self) {
        match &self.upstream.breakers {
            Some(breakers) => breakers.take_over(),
            None => self.admission.own_gate(GateOwner::new(), Gate::Open),
        }
    }

    /// What an answer says of the version it is of.
    pub(crate) fn version_said<'a>(&self, headers: &'a HeaderMap) -> Said<'a> {
        let lines = self.version_header.iter().flat_map(|name| headers.get_all(name));
        Said::of(lines.map(HeaderValue::as_bytes))
    }

    /// The version that an answer says it is of, for its record.
    pub(crate) fn version_of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        headers.get(self.version_header.as_ref()?)?.to_str().ok()
    }
}

fn retries(rules: &config::Retries) -> Retries {
    let written = rules.causes.iter().map(|cause| match cause {
        config::RetryCause::Connect => Cause::Connect,
        config::RetryCause::Reset => Cause::Reset,
        config::RetryCause::BadGateway => Cause::BadGateway,
        config::RetryCause::Unavailable => Cause::Unavailable,
        config::RetryCause::GatewayTimeout => Cause::GatewayTimeout,
    });
    Retries::new(rules.attempts, written.collect(), rules.budget_ppm)
}

type VersionSources = (Option<HeaderName>, Option<Arc<str>>, Option<Pointer>, Option<Poll>);

/// One of the four.
fn version_sources(version: &config::ModelVersion) -> VersionSources {
    use config::ModelVersion::{Body, Header, Poll as Polled, Static};
    match version {
        Header(name) => (HeaderName::from_bytes(name.as_bytes()).ok(), None, None, None),
        Static(version) => (None, Some(Arc::from(&**version)), None, None),
        Body(pointer) => (None, None, Pointer::parse(pointer).ok(), None),
        Polled(poll) => (None, None, None, Poll::new(poll)),
    }
}

fn client_tls(config: &config::Upstream) -> Result<Option<Arc<ClientConfig>>, DestinationError> {
    if config.endpoints.iter().all(|endpoint| endpoint.scheme == config::Scheme::Http) {
        return Ok(None);
    }
    let tls = |source| DestinationError::Tls { upstream: config.name.clone(), source };
    let rustls = |source| DestinationError::Rustls { upstream: config.name.clone(), source };
    let authorities = match &config.tls.ca {
        Some(file) => roots(file).map_err(tls)?,
        None => system_roots(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(rustls)?
        .with_root_certificates(authorities);
    let mut client = match &config.tls.client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = chain_and_key(files).map_err(tls)?;
            builder.with_client_auth_cert(chain, key).map_err(rustls)?
        }
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(client)))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
