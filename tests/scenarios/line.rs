//! The way to a store's server, which a scenario cuts and mends, or on which it has everything lost;
//! and the server itself standing still.

use crate::cache_redis::Server;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_tests::until;

/// Returns when no thread of a process that was sent SIGSTOP runs any more.
pub(crate) async fn stopped(process: u32) {
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let running = || async {
        let all = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path());
        let states = all.map(|task| std::fs::read_to_string(task.join("stat")).unwrap());
        states.filter(|stat| !stat.contains(") T ")).count()
    };
    until("its threads to stop", running, |running| *running == 0).await;
}

/// A line to a server, which can be cut and mended, and can stay open and hand on nothing.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) addr: SocketAddr,
    /// Cancelled: the line is cut.
    open: Arc<Mutex<CancellationToken>>,
    flows: watch::Sender<bool>,
}

impl Line {
    pub(crate) async fn to(server: &Server) -> Self {
        Self::to_socket(server.socket()).await
    }

    pub(crate) async fn to_socket(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let line = Self { addr, open: Arc::default(), flows: watch::Sender::new(true) };
        let (open, tasks, flows) = (line.open.clone(), TaskTracker::new(), line.flows.subscribe());
        tasks.clone().spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let open = open.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let (socket, flows) = (socket.clone(), flows.clone());
                tasks.spawn(open.run_until_cancelled_owned(async move {
                    let Ok(far) = UnixStream::connect(socket).await else { return };
                    let ((from, to), (far_from, far_to)) = (near.into_split(), far.into_split());
                    tokio::join!(pump(from, far_to, flows.clone()), pump(far_from, to, flows));
                }));
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub(crate) fn cut(&self) {
        self.open.lock().unwrap().cancel();
    }

    pub(crate) fn mend(&self) {
        *self.open.lock().unwrap() = CancellationToken::new();
    }

    /// Has nothing handed on, as where packets are lost: connections stay open, and no end of one
    /// is seen on the other side.
    pub(crate) fn hold(&self) {
        self.flows.send_replace(false);
    }

    /// Hands on what was held, and all that comes.
    pub(crate) fn release(&self) {
        self.flows.send_replace(true);
    }
}

/// Hands on what comes, while it flows, to the end of it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flows: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut piece).await.unwrap_or_default();
        // Its sender lives as long as the line.
        flows.wait_for(|flows| *flows).await.ok();
        if len == 0 || to.write_all(&piece[..len]).await.is_err() {
            to.shutdown().await.ok();
            return;
        }
    }
}
