//! Where PostgreSQL is, and how to get there.
//!
//! `sslmode` is `disable` (the default without `tls`), `require`, `verify-ca` or `verify-full`: where
//! there is TLS, the certificate and its name are always verified. A mode that goes on without TLS
//! when there is none (`allow`, `prefer`) protects against nobody, and is refused.
//!
//! Of several hosts each has its own time to answer. The crate's own way has one time for all: a host
//! that takes the connection and says nothing would keep us from the others for as long as it stands.

use super::{
    BadPostgres, PostgresSettings,
    connect::{SessionError, within},
};
use crate::outer::{StoreTls, new_epoch};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

/// Holds secrets; none is shown by `Debug`.
pub(super) struct Site {
    /// One for each host.
    hosts: Box<[Config]>,
    /// The one that took us last.
    last: AtomicUsize,
    tls: Tls,
}

pub(super) type Line = Connection<Socket, TlsSocket>;

impl Site {
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, BadPostgres> {
        let has_tls = settings.tls.ca.is_some() || settings.tls.client.is_some();
        let default = if has_tls { SslMode::Require } else { SslMode::Disable };
        let (url, mode) = without_mode(&settings.url, default)?;
        let mut config: Config = url.parse().map_err(BadPostgres::Url)?;
        // Of several hosts the one that can be written; a standby is no use.
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        config.ssl_mode(mode).target_session_attrs(TargetSessionAttrs::ReadWrite);
        if let Some(user) = &settings.user {
            config.user(user);
        }
        if let Some(password) = &settings.password {
            config.password(password);
        }
        let tls = match mode {
            SslMode::Disable => Tls(None),
            SslMode::Prefer | SslMode::Require | _ => {
                Tls(Some(Arc::new(client_config(&settings.tls)?)))
            }
        };
        let hosts = apart(&config);
        let first = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => usize::try_from(new_epoch()).unwrap_or(0) % hosts.len(),
            LoadBalanceHosts::Disable | _ => 0,
        };
        Ok(Self { hosts, last: AtomicUsize::new(first), tls })
    }

    /// Asks one host after another, beginning with the one that took us last; each answers within
    /// `timeout`, or the next is asked.
    ///
    /// # Errors
    /// None took us; why not, by one that said so if there is one.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<(Client, Line), SessionError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failed = None;
        for place in (first..self.hosts.len()).chain(0..first) {
            let Some(config) = self.hosts.get(place) else { continue };
            match within(timeout, config.connect(self.tls.clone())).await {
                Ok(line) => {
                    self.last.store(place, Ordering::Relaxed);
                    return Ok(line);
                }
                Err(error) if failed.as_ref().is_none_or(|failed| !is_said(failed)) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(SessionError::Lost))
    }
}

/// Whether a server gave that as its reason.
fn is_said(error: &SessionError) -> bool {
    matches!(error, SessionError::Postgres(error) if error.as_db_error().is_some())
}

/// A configuration for each host. One whose lists do not fit each other stays as it is, for the
/// crate to refuse.
fn apart(config: &Config) -> Box<[Config]> {
    let (hosts, addresses, ports) =
        (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let is_list = |len: usize| len == 0 || len == count;
    if count < 2 || !is_list(hosts.len()) || !is_list(addresses.len()) {
        return [config.clone()].into();
    }
    if ports.len() > 1 && ports.len() != count {
        return [config.clone()].into();
    }
    let one = |place: usize| {
        let mut one = nowhere(config);
        match hosts.get(place) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            Some(Host::Unix(path)) => drop(one.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or(ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(one).collect()
}

/// All that a configuration says but the hosts, which cannot be taken out of one.
fn nowhere(config: &Config) -> Config {
    let mut copy = Config::new();
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(name) = config.get_dbname() {
        copy.dbname(name);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        copy.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    copy
}

/// The URL less its `sslmode`, and that. The crate knows three modes, and of TLS only that it is
/// there; the others are ours to read.
fn without_mode(url: &str, default: SslMode) -> Result<(String, SslMode), BadPostgres> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(BadPostgres::Scheme);
    }
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), default)) };
    let mut mode = default;
    let mut rest = Vec::new();
    for part in query.split('&') {
        match part.strip_prefix("sslmode=") {
            None => rest.push(part),
            Some("disable") => mode = SslMode::Disable,
            Some("require" | "verify-ca" | "verify-full") => mode = SslMode::Require,
            Some(_) => return Err(BadPostgres::SslMode),
        }
    }
    Ok((format!("{address}?{}", rest.join("&")), mode))
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

fn client_config(tls: &StoreTls) -> Result<rustls::ClientConfig, BadPostgres> {
    let bad = |error: String| BadPostgres::Tls(error);
    let mut roots = rustls::RootCertStore::empty();
    match &tls.ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate to trust".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(error.to_string()))?
        .with_root_certificates(roots);
    let Some((certificates, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let certificates = CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>();
    let certificates = certificates.map_err(|error| bad(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad(error.to_string()))?;
    builder.with_client_auth_cert(certificates, key).map_err(|error| bad(error.to_string()))
}

/// Makes TLS of a socket. Without a configuration it is never asked to.
#[derive(Clone)]
pub(super) struct Tls(Option<Arc<rustls::ClientConfig>>);

pub(super) struct Handshake {
    config: Option<Arc<rustls::ClientConfig>>,
    name: String,
}

pub(super) struct TlsSocket(Box<tokio_rustls::client::TlsStream<Socket>>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = TlsSocket;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<Handshake> {
        Ok(Handshake { config: self.0.clone(), name: name.to_owned() })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = TlsSocket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsSocket>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or_else(|| io::Error::other("tls is not configured"))?;
            let name = ServerName::try_from(self.name).map_err(io::Error::other)?;
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket).await?;
            Ok(TlsSocket(Box::new(stream)))
        })
    }
}

impl TlsStream for TlsSocket {
    /// Not bound: which digest the server takes depends on its certificate's signature, and the
    /// name was verified.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outer::Role;

    fn site(url: &str) -> Result<Site, BadPostgres> {
        Site::new(&PostgresSettings::new(url, "test", Role::Keeper))
    }

    #[test]
    fn a_mode_is_obeyed_or_refused_and_never_less_than_it_says() {
        let mode =
            |url: &str| site(url).map(|site| (site.hosts[0].get_ssl_mode(), site.tls.0.is_some()));
        assert_eq!(mode("postgres://h/d").unwrap(), (SslMode::Disable, false));
        for refused in ["prefer", "allow", "Require", ""] {
            let url = format!("postgres://h/d?connect_timeout=3&sslmode={refused}");
            assert!(matches!(mode(&url), Err(BadPostgres::SslMode)), "{refused}");
        }
        for wanted in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgresql://u:p@h:1/d?sslmode={wanted}&connect_timeout=3");
            let tls = StoreTls { ca: Some(ca()), client: None };
            let settings =
                PostgresSettings { tls, ..PostgresSettings::new(url, "test", Role::Keeper) };
            let site = Site::new(&settings).unwrap();
            assert_eq!(
                (site.hosts[0].get_ssl_mode(), site.tls.0.is_some()),
                (SslMode::Require, true)
            );
        }
    }

    #[test]
    fn what_is_no_address_or_no_certificate_is_told_before_the_start() {
        for bad in ["", "h", "redis://h", "host=h", "postgres://h:port/d", "postgres://h/d?no=1"] {
            assert!(site(bad).is_err(), "{bad}");
        }
        let tls = StoreTls { ca: Some(b"none".to_vec()), client: None };
        let settings =
            PostgresSettings { tls, ..PostgresSettings::new("postgres://h/d", "n", Role::Shelf) };
        assert!(matches!(Site::new(&settings), Err(BadPostgres::Tls(_))));
    }

    #[test]
    fn each_of_several_hosts_is_asked_as_the_only_one_would_be() {
        let rest = "/d?options=-cgeqo%3Doff&application_name=a&sslnegotiation=direct\
            &connect_timeout=3&tcp_user_timeout=4&keepalives=0&keepalives_idle=5\
            &keepalives_interval=6&keepalives_retries=7&target_session_attrs=read-write\
            &channel_binding=disable&load_balance_hosts=random";
        let of =
            |hosts: &str| -> Config { format!("postgres://u:p@{hosts}{rest}").parse().unwrap() };
        let expected = [of("a:1"), of("%2Frun%2Fb:2"), of("c:5432")];
        assert_eq!(*apart(&of("a:1,%2Frun%2Fb:2,c")), expected);
        assert_eq!(*apart(&expected[0]), expected[..1]);
    }

    fn ca() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["h".to_owned()]).unwrap().self_signed(&key);
        certificate.unwrap().pem().into_bytes()
    }
}
