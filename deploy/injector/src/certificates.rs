//! The certificate that is served, and its successors.
//!
//! Files are looked at, not watched: a mounted secret changes by a swap of symbolic
//! links, which file events tell of in three ways on three kinds of volume. A pair that
//! does not fit together (half of a change) leaves the old one in force.

use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at. A secret takes a minute to arrive; a certificate is
/// renewed days before its end.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not there, or not readable.
    #[error("{path}: {source}; mount the secret with the certificate there")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It has no certificate, or no key.
    #[error("{path}: is no PEM of what it should be: {source}")]
    Pem {
        /// Which file.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not belong together, or TLS has no use for them.
    #[error("{path}: is not usable with its key: {source}")]
    Unusable {
        /// Which file.
        path: String,
        /// Why.
        source: rustls::Error,
    },
}

/// A certificate from files, and whatever they become.
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    private_key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    /// What was read last, good or not.
    seen: Mutex<Pair>,
}

type Pair = (Vec<u8>, Vec<u8>);

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    /// They are not there, or cannot be used.
    pub fn open(certificate: &Path, private_key: &Path) -> Result<Self, CertificateError> {
        let pair = (read(certificate)?, read(private_key)?);
        let current = usable(&pair, certificate, private_key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(pair),
        })
    }

    /// Looks at the files, and serves what they have become. Whether they had changed.
    ///
    /// # Errors
    /// They cannot be read, or have changed to what cannot be used (which is said once).
    pub fn look(&self) -> Result<bool, CertificateError> {
        let pair = (read(&self.certificate)?, read(&self.private_key)?);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == pair {
            return Ok(false);
        }
        let made = usable(&pair, &self.certificate, &self.private_key);
        *seen = pair;
        drop(seen);
        self.current.store(Arc::new(made?));
        Ok(true)
    }

    /// Looks again and again.
    pub async fn keep_looking(&self, metrics: &Metrics) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            looks.tick().await;
            match self.look() {
                Ok(false) => {}
                Ok(true) => {
                    metrics.certificate(true);
                    tracing::info!("the new certificate is served");
                }
                Err(error) => {
                    metrics.certificate(false);
                    tracing::error!(%error, "the new certificate is not served; the old one is");
                }
            }
        }
    }

    /// TLS with them.
    ///
    /// # Errors
    /// TLS cannot be set up at all.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| unusable(&self.certificate, source))?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: shown(path), source })
}

fn usable(
    (chain, key): &Pair,
    certificate: &Path,
    private_key: &Path,
) -> Result<CertifiedKey, CertificateError> {
    let pem = |path: &Path| {
        let path = shown(path);
        move |source| CertificateError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(pem(certificate))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem(private_key))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| unusable(certificate, source))
}

fn unusable(path: &Path, source: rustls::Error) -> CertificateError {
    CertificateError::Unusable { path: shown(path), source }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
