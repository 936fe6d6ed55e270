//! Makes a connection to an endpoint: TCP, TLS where asked for, then HTTP/1.1.

use crate::{body::Outgoing, gather::Gathered};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{fmt, io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

/// The largest head of an answer that is read. Twice the default of `limits.header_bytes`:
/// an answer passes on what services add.
const ANSWER_HEAD_BYTES_MAX: usize = 128 * 1024;

/// The most fields of an answer.
const ANSWER_HEADERS_MAX: usize = 256;

/// How one endpoint is reached.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// Every connection is a task here, so that the process can wait for them.
    pub(crate) tasks: TaskTracker,
}

impl Connector {
    pub(crate) async fn connect(&self) -> io::Result<SendRequest<Outgoing>> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        // Else the last piece of a request waits for the upstream's delayed ACK (41 ms).
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.handshake(TokioIo::new(Gathered::new(stream))).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), stream).await?;
                self.handshake(TokioIo::new(Gathered::new(stream))).await
            }
        }
    }

    async fn handshake<T>(&self, io: T) -> io::Result<SendRequest<Outgoing>>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(ANSWER_HEADERS_MAX)
            .max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .handshake(io)
            .await
            .map_err(io::Error::other)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upstream connection ended with an error");
            }
        });
        Ok(sender)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({}:{})", self.host, self.port)
    }
}
