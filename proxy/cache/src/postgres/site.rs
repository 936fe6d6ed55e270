//! Where PostgreSQL is, and how to get there.
//!
//! `sslmode` is `disable` (the default without `tls`), `require`, `verify-ca` or `verify-full`: where
//! there is TLS, the certificate and its name are always verified. A mode that goes on without TLS
//! when there is none (`allow`, `prefer`) protects against nobody, and is refused.

use super::{BadPostgres, PostgresSettings};
use crate::outer::StoreTls;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Config, Connection, Error, Socket,
    config::{SslMode, TargetSessionAttrs},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

/// Holds secrets; none is shown by `Debug`.
pub(super) struct Site {
    config: Config,
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
        Ok(Self { config, tls })
    }

    pub(super) async fn connect(&self) -> Result<(Client, Line), Error> {
        self.config.connect(self.tls.clone()).await
    }
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
            |url: &str| site(url).map(|site| (site.config.get_ssl_mode(), site.tls.0.is_some()));
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
                (site.config.get_ssl_mode(), site.tls.0.is_some()),
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

    fn ca() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["h".to_owned()]).unwrap().self_signed(&key);
        certificate.unwrap().pem().into_bytes()
    }
}
