//! TLS of a listener: certificates from PEM files, ALPN for both versions of HTTP.

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;
use tollgate_config::{Certificate, ListenerTls};

/// What is wrong with the files that TLS needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{path}: cannot be read as PEM")]
    Pem { path: String, source: rustls::pki_types::pem::Error },
    #[error("{path}: has no certificate")]
    Empty { path: String },
    #[error("{path}: is not usable with its key")]
    Unusable { path: String, source: rustls::Error },
    #[error("{path}: is no authority for callers' certificates")]
    ClientCa { path: String, source: rustls::server::VerifierBuilderError },
}

/// Serves several certificates: the first that is for the name the caller says, else
/// the first of all.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|key| is_for(key, &name))
        });
        named.or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .ok()
        .and_then(|leaf| ParsedCertificate::try_from(leaf).ok())
        .is_some_and(|leaf| rustls::client::verify_server_name(&leaf, name).is_ok())
}

/// # Errors
/// The first file that cannot be used, by its path.
pub(crate) fn acceptor(tls: &ListenerTls) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let keys = tls.certificates.iter().map(|files| certified_key(files, &provider));
    let keys = keys.map(|key| key.map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    let path = tls.certificates.first().map_or_else(String::new, |c| shown(&c.certificate));
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { path, source })?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(roots(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|source| TlsError::ClientCa { path: shown(file), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certified_key(
    files: &Certificate,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = chain_and_key(files)?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| TlsError::Unusable { path: shown(&files.certificate), source })
}

/// A certificate chain and its key, as they lie in their files.
pub(crate) fn chain_and_key(
    files: &Certificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|source| TlsError::Pem { path: shown(&files.private_key), source })?;
    Ok((chain, key))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { path: shown(file), source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if found.is_empty() { Err(TlsError::Empty { path: shown(file) }) } else { Ok(found) }
}

/// The authorities in a PEM file.
pub(crate) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Unusable { path: shown(file), source })?;
    }
    Ok(roots)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
