//! An upstream that says exactly the bytes a scenario gives it: the stand-in is well
//! behaved on the wire, and what is not must be tried too.

use crate::{Wire, until, wire::fields, within};
use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// A request as the upstream got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and fields, with their line ends.
    pub head: String,
    pub body: Vec<u8>,
    /// It ended before its end.
    pub cut: bool,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Seen {
    /// The values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// `GET /path HTTP/1.1`
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// The upstream. It goes with the test's runtime.
#[derive(Clone, Debug)]
pub struct Scripted {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    opened: AtomicUsize,
    closed: AtomicUsize,
}

/// One connection of a scripted upstream.
#[derive(Debug)]
pub struct Line {
    pub wire: Wire,
    /// From 0.
    pub connection: usize,
    state: Arc<State>,
}

impl Line {
    /// The next request with its body; `None`: the proxy has closed.
    pub async fn request(&mut self) -> Option<Seen> {
        let head = self.wire.head().await?;
        let (body, cut) = self.wire.body(&head, false).await;
        let seen = Seen { head, body, cut, connection: self.connection };
        self.state.seen.lock().unwrap().push(seen.clone());
        Some(seen)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.state.closed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Scripted {
    /// Answers every request with `answer`, on connections that are kept.
    pub async fn always(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut line| {
            let answer = answer.clone();
            async move {
                while line.request().await.is_some() {
                    line.wire.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Answers the first request of every connection with `answer` and closes.
    pub async fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut line| {
            let answer = answer.clone();
            async move {
                if line.request().await.is_some() {
                    line.wire.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Does what `script` says on every connection, and closes it then.
    pub async fn start<F>(script: impl Fn(Line) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let upstream = Self { addr, state: state.clone() };
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = state.opened.fetch_add(1, Ordering::SeqCst);
                let line = Line { wire: Wire::over(stream), connection, state: state.clone() };
                tasks.spawn(script(line));
            }
        });
        upstream
    }

    /// `http://ADDR`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    ///
    /// # Panics
    /// There were none, or more.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.opened.load(Ordering::SeqCst)
    }

    /// Waits until the scripts of `n` connections have ended.
    pub async fn closed(&self, n: usize) {
        let look = || async { self.state.closed.load(Ordering::SeqCst) };
        until("connections of the upstream that have ended", look, |closed| *closed >= n).await;
    }

    /// Waits until `n` requests have come.
    pub async fn requests(&self, n: usize) -> Vec<Seen> {
        within(
            "requests at the scripted upstream",
            until("requests", || async { self.seen() }, |seen: &Vec<Seen>| seen.len() >= n),
        )
        .await
    }
}
