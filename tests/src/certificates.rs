//! Certificates of an authority of the scenario's own, and TLS in front of an upstream
//! that has none.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// Somebody who signs certificates.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    /// Its certificate, in a PEM file.
    pub file: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Certified {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl Certified {
    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(&self.certificate).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_file(&self.private_key).unwrap())
    }
}

impl Authority {
    /// Writes its files to `dir`, under `name`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, &pem).unwrap();
        Self { dir: dir.to_owned(), file, pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `host`, which may be an address.
    pub fn sign(&self, host: &str) -> Certified {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = self.dir.join(format!("{host}.crt"));
        let private_key = self.dir.join(format!("{host}.key"));
        fs::write(&certificate, signed.pem()).unwrap();
        fs::write(&private_key, key.serialize_pem()).unwrap();
        Certified { certificate, private_key }
    }

    /// Trusts this authority and no other.
    pub(crate) fn client_config(
        &self,
        alpn: &[&str],
        own: Option<&Certified>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (chain, key) = own.read();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Ends TLS and passes the bytes on to a server without.
#[derive(Clone, Debug)]
pub struct TlsFront {
    addr: SocketAddr,
    opened: Arc<AtomicUsize>,
}

impl TlsFront {
    pub async fn start(certified: &Certified, behind: SocketAddr) -> Self {
        let (chain, key) = certified.read();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        // Offers more than the proxy may take: it speaks HTTP/1.1 upstream.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let front = Self { addr, opened: opened.clone() };
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, opened) = (acceptor.clone(), opened.clone());
                tasks.spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    opened.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut inner) = TcpStream::connect(behind).await else { return };
                    tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok();
                });
            }
        });
        front
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Handshakes that succeeded.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}
