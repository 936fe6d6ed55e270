//! One connection to a memcached, used by many at a time.
//!
//! Commands go out as they come; the server answers in order, so answers are handed out in order.
//! Whoever gives up waiting leaves the order as it is: the answer is read and thrown away. That is
//! why this is a task of its own and not a connection that one caller holds: a caller that is gone
//! after 10 ms must not cost the others the connection.

use super::wire::{self, Answer, Foreign, Reader};
use bytes::{Bytes, BytesMut};
use std::{io, path::PathBuf};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot},
};

/// Commands on the way; more wait, each for as long as it may.
const CALLS_MAX: usize = 1024;
/// Commands that leave together.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Of an answer to `stats settings`, which is some 3 KiB.
const STATS_BYTES_MAX: usize = 64 * 1024;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(Box<str>),
    Unix(PathBuf),
}

/// Why a connection is no more, or never was.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("the connection to memcached failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("the connection to memcached was lost")]
    Lost,
}

/// Puts commands on a connection. The connection ends when the last clone is gone.
#[derive(Clone, Debug)]
pub(super) struct Line {
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    command: Bytes,
    answer: oneshot::Sender<Answer>,
}

/// A connection that nobody uses yet. [`Self::run`] must be run for its [`Line`] to be answered.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    calls: mpsc::Receiver<Call>,
    value_bytes_max: usize,
    /// The largest item that the server takes, its key and header included.
    pub(super) item_bytes_max: usize,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(authority) => f.write_str(authority),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Line {
    /// Sends a command, and waits for its answer; for how long is the caller's to say.
    pub(super) async fn ask(&self, command: Bytes) -> Result<Answer, LineError> {
        self.send(command).await?.await.map_err(|_| LineError::Lost)
    }

    /// Sends a command, and leaves the answer for later.
    pub(super) async fn send(
        &self,
        command: Bytes,
    ) -> Result<oneshot::Receiver<Answer>, LineError> {
        let (answer, heard) = oneshot::channel();
        let sent = self.calls.send(Call { command, answer }).await;
        sent.map(|()| heard).map_err(|_| LineError::Lost)
    }
}

/// Connects, and asks what the server takes. How long that may take is the caller's to say.
pub(super) async fn connect(
    address: &Address,
    value_bytes_max: usize,
) -> Result<(Line, Connection), LineError> {
    let mut stream: Box<dyn Stream> = match address {
        Address::Tcp(authority) => {
            let stream = TcpStream::connect(&**authority).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    let item_bytes_max = ask_settings(&mut *stream).await?;
    let (sender, calls) = mpsc::channel(CALLS_MAX);
    let connection = Connection { stream, calls, value_bytes_max, item_bytes_max };
    Ok((Line { calls: sender }, connection))
}

async fn ask_settings(stream: &mut dyn Stream) -> Result<usize, LineError> {
    stream.write_all(b"stats settings\r\n").await?;
    let mut came = BytesMut::new();
    loop {
        if stream.read_buf(&mut came).await? == 0 {
            return Err(LineError::Lost);
        }
        if let Some(bytes) = wire::item_bytes_max(&came)? {
            return Ok(bytes);
        }
        if came.len() > STATS_BYTES_MAX {
            return Err(Foreign.into());
        }
    }
}

impl Connection {
    /// Until the connection breaks or nobody can ask any more. Whoever still waits hears that.
    pub(super) async fn run(self) -> LineError {
        let Self { stream, mut calls, value_bytes_max, .. } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (order, mut awaited) = mpsc::channel(CALLS_MAX);
        let write = async {
            let mut buffer = BytesMut::new();
            while let Some(call) = calls.recv().await {
                let mut next = Some(call);
                while let Some(call) = next.take() {
                    // Before the command is written: no answer comes unexpected.
                    order.send(call.answer).await.map_err(|_| LineError::Lost)?;
                    buffer.extend_from_slice(&call.command);
                    if buffer.len() < WRITE_BYTES_MAX && order.capacity() > 0 {
                        next = calls.try_recv().ok();
                    }
                }
                writer.write_all_buf(&mut buffer).await?;
            }
            Err::<(), LineError>(LineError::Lost)
        };
        let read = async {
            let (mut answers, mut came) = (Reader::new(value_bytes_max), BytesMut::new());
            loop {
                while let Some(answer) = answers.next(&mut came)? {
                    let asked: oneshot::Sender<Answer> =
                        awaited.try_recv().map_err(|_| LineError::Foreign(Foreign))?;
                    // Who asked may have gone.
                    let _gone = asked.send(answer);
                }
                if reader.read_buf(&mut came).await? == 0 {
                    return Err::<(), LineError>(LineError::Lost);
                }
            }
        };
        match tokio::try_join!(write, read) {
            Ok(((), ())) => LineError::Lost,
            Err(error) => error,
        }
    }
}
