//! A stand-in provider: the APIs of OpenAI, Anthropic, Gemini, Ollama, Cohere and TGI
//! without a model behind them, for `tollgate demo`, the scenarios and the SDK tests.
//!
//! It answers the same question with the same text, under a new id each time;
//! it counts what it saw and what it billed; it fails when told to. It is one
//! module inside the proxy so that the demo needs nothing else, and it shares no
//! parsing with the proxy so that it stays a judge of it.
//!
//! # Paths
//!
//! | path | what |
//! |---|---|
//! | `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses` | OpenAI, whole or streamed |
//! | `POST /v1/embeddings`, `/v1/moderations` | OpenAI |
//! | `POST /v1/messages`, `/v1/messages/count_tokens` | Anthropic, messages whole or streamed |
//! | `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` (`?alt=sse`) | Gemini, also under `/v1` |
//! | `POST /v1beta/models/{model}:countTokens`, `:embedContent`, `:batchEmbedContents` | Gemini |
//! | `POST /api/chat`, `/api/generate`, `/api/embed` | Ollama, in lines unless `stream` is false |
//! | `POST /v2/chat`, `/v2/embed`, `/v2/rerank` (and `/v1/rerank`) | Cohere, chat whole or streamed |
//! | `POST /generate`, `/generate_stream`, `/` | TGI |
//! | `GET /v1/models`, `/v1/models/{id}` | Anthropic's list where `anthropic-version` is sent, else OpenAI's |
//! | `GET /static/{name}?status=…&bytes=…&{header}={value}…` | a page with the headers of the query; obeys `if-none-match` |
//! | any `/echo` | the request as JSON |
//! | `GET /health` | 200, not counted |
//!
//! A tool is called when the request offers `tools` and its last user text names
//! one or says "tool". Every answer has `x-standin-call`, the number of the call.
//!
//! # Magic
//!
//! A fault is asked for by the model's name (`fail-429`, or after a plus sign:
//! `gpt-4o-mini+fail-429`, which is answered as `gpt-4o-mini`), by the header
//! `x-standin-fault`, or by [`StandIn::fault_next`], the last first.
//!
//! | word | what happens |
//! |---|---|
//! | `fail-400` … `fail-599` | an error of that status, shaped as the dialect shapes it; 429 with `retry-after-ms: 20` |
//! | `cut-midstream` | the connection closes after [`Options::cut_after`] events, or half a body |
//! | `cut-length` | `content-length` promises 100 bytes more than come |
//! | `error-event` | 200, then an error event after `cut_after` events; a whole answer is an error object |
//! | `content-filter` | the provider's filter ends the answer |
//! | `empty` | no content |
//! | `no-usage` | no usage, also if asked for |
//! | `cached-usage` | cached, cache-written and reasoning tokens in the usage |
//! | `slow-head` | the head comes after [`Options::slow_head`] |
//! | `hang` | the head never comes |
//! | `stall` | nothing more after `cut_after` events, or after half a body |
//! | `reset` | the connection closes before the head |
//! | `unfinished` | a clean end of the body without the end of the answer |
//! | `bad-json` | an event, or the body, that is no JSON |
//!
//! Suffixes, in this order: `-final` and `-retry` make `x-should-retry` `false`
//! and `true`; `-once` applies the fault only the first time a question is asked.

mod answer;
mod anthropic;
mod cohere;
mod counts;
mod encoding;
mod fault;
mod gate;
mod gemini;
mod ollama;
mod openai;
mod plain;
mod question;
mod reply;
mod responses;
mod service;
#[cfg(test)]
mod tests;
mod tgi;
mod told;

pub use counts::{Counts, Recorded, Tokens};
pub use encoding::Encoding;
pub use fault::Fault;
pub use gate::Gate;

use counts::House;
use hyper::{rt::Executor, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long an answer is, where the caller's `max_tokens` allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerLength {
    /// Words, each of which is one token.
    Tokens(usize),
    /// Bytes of text, exactly.
    Bytes(usize),
}

/// What kind of provider to be. The default answers at once and forgives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Before the head.
    pub first_token_delay: Duration,
    /// Before every further token or event; a whole answer waits for the sum.
    pub token_delay: Duration,
    pub answer: AnswerLength,
    /// Tokens told by one event; at least 1.
    pub tokens_per_chunk: usize,
    /// Calls answered at once; one more is a 500 and counts in
    /// [`Counts::limit_exceeded`].
    pub concurrency_limit: Option<u64>,
    /// How long a call above the limit waits for a hang-up that explains it.
    pub abort_grace: Duration,
    /// Said in `x-model-version`; another one gives other answers.
    pub model_version: Option<String>,
    /// What model calls are answered in, the first that the caller accepts.
    pub encodings: Vec<Encoding>,
    /// 400 to a request with `stream_options`, as servers of old do.
    pub refuse_stream_options: bool,
    /// The `obfuscation` member that OpenAI pads its chunks with.
    pub obfuscation: bool,
    pub gate: Option<Gate>,
    /// Events before a fault in the middle of a stream.
    pub cut_after: usize,
    /// The delay of the fault `slow-head`.
    pub slow_head: Duration,
    /// Requests kept for [`StandIn::last_requests`].
    pub requests_max: usize,
    /// Bytes of a request's body; more is a 413.
    pub body_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            first_token_delay: Duration::ZERO,
            token_delay: Duration::ZERO,
            answer: AnswerLength::Tokens(12),
            tokens_per_chunk: 1,
            concurrency_limit: None,
            abort_grace: Duration::from_millis(500),
            model_version: None,
            encodings: Vec::new(),
            refuse_stream_options: false,
            obfuscation: false,
            gate: None,
            cut_after: 3,
            slow_head: Duration::from_secs(5),
            requests_max: 64,
            body_max: 16 * 1024 * 1024,
        }
    }
}

/// A running stand-in. Clones are the same one; it stops with its token.
#[derive(Clone, Debug)]
pub struct StandIn {
    house: Arc<House>,
    addr: SocketAddr,
}

impl StandIn {
    /// Serves on `listener` until `stop`, HTTP/1.1 and HTTP/2 with prior
    /// knowledge. Everything it starts runs on `tasks`; at `stop` connections
    /// are closed where they are, as by a provider that dies.
    pub fn start(
        options: Options,
        listener: TcpListener,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        // A bound listener knows its address; where the system will not say, no
        // caller could have found it either.
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let addr = listener.local_addr().unwrap_or(nowhere);
        let house = Arc::new(House::new(options, addr.port()));
        tasks.spawn(accept(listener, Arc::clone(&house), tasks.clone(), stop));
        Self { house, addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn counts(&self) -> Counts {
        *self.house.counts.borrow()
    }

    /// Requests read for calls of `model`, as the answer names it.
    pub fn calls_of_model(&self, model: &str) -> u64 {
        self.house.inner().by_model.get(model).copied().unwrap_or_default()
    }

    /// The last `requests_max` requests, oldest first.
    pub fn last_requests(&self) -> Vec<Recorded> {
        self.house.inner().requests.iter().cloned().collect()
    }

    /// From the next call on.
    pub fn set_model_version(&self, version: Option<&str>) {
        self.house.inner().model_version = version.map(str::to_owned);
    }

    /// For calls that arrive from now on; those held keep their gate.
    pub fn set_gate(&self, gate: Option<Gate>) {
        self.house.inner().gate = gate;
    }

    /// The next `times` model calls get this fault, after those already queued.
    pub fn fault_next(&self, fault: Fault, times: usize) {
        if times > 0 {
            self.house.inner().faults.push_back((fault.into(), times));
        }
    }

    /// Waits until the counts are as `wanted` says; returns them.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Counts) -> bool) -> Counts {
        let mut changes = self.house.counts.subscribe();
        let seen = changes.wait_for(|counts| wanted(counts)).await.map(|counts| *counts);
        // The sender lives in `self`, so the channel does not close.
        seen.unwrap_or_else(|_| self.counts())
    }

    /// At least `n` requests were read.
    pub async fn wait_for_calls(&self, n: u64) -> Counts {
        self.wait_for(|counts| counts.calls >= n).await
    }

    /// Exactly `n` calls are being answered.
    pub async fn wait_for_in_flight(&self, n: u64) -> Counts {
        self.wait_for(|counts| counts.in_flight == n).await
    }

    /// At least `n` callers have left.
    pub async fn wait_for_aborted(&self, n: u64) -> Counts {
        self.wait_for(|counts| counts.aborted >= n).await
    }

    /// At least `n` answers were handed on to their end.
    pub async fn wait_for_finished(&self, n: u64) -> Counts {
        self.wait_for(|counts| counts.finished >= n).await
    }

    /// At least `n` events of streams were handed on.
    pub async fn wait_for_chunks(&self, n: u64) -> Counts {
        self.wait_for(|counts| counts.chunks >= n).await
    }
}

/// Lets hyper run HTTP/2 streams on our tracker.
#[derive(Clone)]
struct OnTracker(TaskTracker);

impl<F> Executor<F> for OnTracker
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

async fn accept(
    listener: TcpListener,
    house: Arc<House>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = serve(socket, Arc::clone(&house), tasks.clone(), stop.clone());
                tasks.spawn(connection);
            }
            // Out of files, or the peer is already gone: neither lasts.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn serve(socket: TcpStream, house: Arc<House>, tasks: TaskTracker, stop: CancellationToken) {
    // Without it only the last event of a burst would be late.
    socket.set_nodelay(true).ok();
    let service = service_fn(move |request| service::answer(Arc::clone(&house), request));
    let builder = auto::Builder::new(OnTracker(tasks));
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        () = stop.cancelled() => {}
        // How a connection ended is told by the counts of its calls.
        _ = connection => {}
    }
}
