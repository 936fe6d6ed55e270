//! Which version the API server is of: asked, unless it was said.
//!
//! `/version` is for everybody who may log in, so this needs no rights of its own. Until it
//! has answered, the oldest way holds, which works everywhere: ordinary containers.

use crate::{certificates::provider, config::Version, server::Injector};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{fs, path::PathBuf, pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time};
use tokio_rustls::TlsConnector;

/// What is assumed of a server that was not asked yet.
pub const UNKNOWN: Version = Version { major: 1, minor: 0 };

/// Between attempts at a server that does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Between questions of one that does: a control plane is renewed under our feet.
const ASK_INTERVAL: Duration = Duration::from_secs(600);

const TIMEOUT: Duration = Duration::from_secs(5);

/// Of an answer that has a dozen lines.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where the API server is, and how it is known.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `host:port`.
    pub address: String,
    /// PEM of who signs its certificate.
    pub authority: PathBuf,
    /// Who we are; nobody without.
    pub token: Option<PathBuf>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl Cluster {
    /// Asks once.
    ///
    /// # Errors
    /// There is no answer, or one that is not understood.
    pub async fn version(&self) -> Result<Version, Failed> {
        time::timeout(TIMEOUT, self.ask()).await?
    }

    async fn ask(&self) -> Result<Version, Failed> {
        let (host, _) = self.address.rsplit_once(':').ok_or("the address has no port")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.authority)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let stream = TcpStream::connect(&self.address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::get("/version").header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            let token = fs::read_to_string(token)?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let asked = async {
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(Failed::from(format!("it answered {}", answer.status())));
            }
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?;
            read(&body.to_bytes())
        };
        let mut asked = pin!(asked);
        tokio::select! {
            biased;
            version = &mut asked => version,
            // What came before it hung up is read all the same.
            ended = connection => {
                ended?;
                asked.await
            }
        }
    }

    /// Keeps the injector told.
    pub async fn keep_asking(&self, injector: &Injector) {
        let mut known = None;
        loop {
            match self.version().await {
                Ok(version) => {
                    if known != Some(version) {
                        tracing::info!(%version, "the API server's version");
                    }
                    injector.set_server(version);
                    known = Some(version);
                    time::sleep(ASK_INTERVAL).await;
                }
                Err(error) => {
                    let address = &self.address;
                    tracing::warn!(%error, address, "the API server does not say its version");
                    // What it last said goes on.
                    time::sleep(if known.is_some() { ASK_INTERVAL } else { RETRY_INTERVAL }).await;
                }
            }
        }
    }
}

fn read(body: &[u8]) -> Result<Version, Failed> {
    let answer: Value = serde_json::from_slice(body)?;
    let of = |member: &str| answer.get(member).and_then(Value::as_str).unwrap_or_default();
    Ok(format!("{}.{}", of("major"), of("minor")).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_clusters_give_it() {
        let body = br#"{"major":"1","minor":"31+","gitVersion":"v1.31.4-gke.1"}"#;
        assert_eq!(read(body).unwrap(), Version { major: 1, minor: 31 });
        for body in [&b"{}"[..], b"[]", b"no JSON", br#"{"major":1,"minor":31}"#] {
            assert!(read(body).is_err());
        }
    }
}
