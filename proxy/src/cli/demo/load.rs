//! The demo's callers: each on a connection of its own, one call after the other.
//!
//! Together they ask for more than the provider can do, so that calls queue; most ask
//! what others of their tenant ask too, so that the cache has something to answer.

use super::stage::Stage;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{self, Instant},
};

/// How often is told how it goes.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Questions that everybody asks.
const POPULAR: u64 = 10;

/// Of ten questions, how many are popular ones.
const POPULAR_OF_TEN: u64 = 6;

const OPENAI: [&str; 2] = ["gpt-4o", "gpt-4o-mini"];
const ANTHROPIC: [&str; 2] = ["claude-sonnet-4-5", "claude-haiku-4-5"];

/// Callers of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) class: &'static str,
    pub(super) callers: u64,
    /// Between an answer and the next question.
    think: Duration,
}

const GROUPS: [Group; 4] = [
    Group { class: "emergency", callers: 1, think: Duration::from_millis(120) },
    Group { class: "vip", callers: 3, think: Duration::from_millis(40) },
    Group { class: "normal", callers: 8, think: Duration::from_millis(20) },
    Group { class: "batch", callers: 16, think: Duration::ZERO },
];

/// Bearer tokens: the proxy makes a tenant of each, and keeps none.
pub(super) const KEYS: [&str; 3] = ["sk-demo-red", "sk-demo-green", "sk-demo-blue"];

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) length: Duration,
    /// Of one caller; a test needs few.
    calls_max: u64,
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) elapsed: Duration,
    pub(super) answers: u64,
    pub(super) hits: u64,
    pub(super) waiting: usize,
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(super) struct Answered {
    answers: AtomicU64,
    hits: AtomicU64,
    failures: AtomicU64,
}

impl Answered {
    /// Calls that were answered to their end with a 200.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Calls that were not.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Load {
    pub(super) fn default_for(length: Duration) -> Self {
        Self { length, calls_max: u64::MAX }
    }

    #[cfg(test)]
    pub(super) fn of_calls(calls_max: u64) -> Self {
        Self { length: Duration::from_secs(30), calls_max }
    }

    pub(super) fn callers(self) -> u64 {
        GROUPS.iter().map(|group| group.callers).sum()
    }
}

/// Sends it all, and waits for the last answer.
pub(super) async fn send(stage: &Stage, load: Load, tell: impl Fn(Progress)) -> Arc<Answered> {
    let answered = Arc::new(Answered::default());
    let begun = Instant::now();
    let until = begun + load.length;
    let mut callers = JoinSet::new();
    let groups = GROUPS.iter().flat_map(|group| (0..group.callers).map(move |_| *group));
    for (number, group) in (0u64..).zip(groups) {
        let caller = Caller { number, group, to: stage.proxy(), answered: answered.clone() };
        callers.spawn(caller.call(until, load.calls_max));
    }
    let mut ticks = time::interval_at(begun + TOLD_EVERY, TOLD_EVERY);
    loop {
        tokio::select! {
            ended = callers.join_next() => if ended.is_none() { break },
            now = ticks.tick() => tell(Progress {
                elapsed: now.saturating_duration_since(begun),
                answers: answered.answers(),
                hits: answered.hits.load(Ordering::Relaxed),
                waiting: stage.waiting(),
            }),
        }
    }
    answered
}

/// One caller.
struct Caller {
    number: u64,
    group: Group,
    to: SocketAddr,
    answered: Arc<Answered>,
}

impl Caller {
    async fn call(self, until: Instant, calls_max: u64) {
        let mut connection: Option<SendRequest<Full<Bytes>>> = None;
        let mut connections = JoinSet::new();
        for turn in 0..calls_max {
            if Instant::now() >= until {
                break;
            }
            let outcome = match &mut connection {
                Some(open) if !open.is_closed() => self.ask(open, turn).await,
                Some(_) | None => match self.connect(&mut connections).await {
                    Some(mut open) => {
                        let outcome = self.ask(&mut open, turn).await;
                        connection = Some(open);
                        outcome
                    }
                    None => None,
                },
            };
            match outcome {
                Some(is_hit) => {
                    self.answered.hits.fetch_add(u64::from(is_hit), Ordering::Relaxed);
                    self.answered.answers.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.answered.failures.fetch_add(1, Ordering::Relaxed);
                    connection = None;
                }
            }
            time::sleep(self.group.think).await;
        }
    }

    async fn connect(&self, connections: &mut JoinSet<()>) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.to).await.ok()?;
        stream.set_nodelay(true).ok();
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        connections.spawn(async move {
            connection.await.ok();
        });
        Some(send)
    }

    /// Asks, reads the answer to its end, and says whether no provider was needed.
    async fn ask(&self, open: &mut SendRequest<Full<Bytes>>, turn: u64) -> Option<bool> {
        open.ready().await.ok()?;
        let answer = open.send_request(question(self.number, self.group.class, turn)).await.ok()?;
        let (head, body) = answer.into_parts();
        body.collect().await.ok()?;
        let said = head.headers.get("cache-status").map(HeaderValue::as_bytes).unwrap_or_default();
        let says = |word: &[u8]| said.windows(word.len()).any(|part| part == word);
        (head.status == StatusCode::OK).then(|| says(b"hit") || says(b"collapsed"))
    }
}

/// A caller's next question: always the same for the same caller and turn.
fn question(caller: u64, class: &str, turn: u64) -> Request<Full<Bytes>> {
    let dice = mixed(caller, turn);
    let is_popular = dice % 10 < POPULAR_OF_TEN;
    // What is asked decides the model and the form too: a repeat is a repeat.
    let subject = if is_popular { mixed(3, (dice >> 8) % POPULAR) } else { dice };
    let is_openai = subject & 16 == 0;
    let is_stream = subject & 32 == 0;
    let which = usize::from(subject & 64 == 0);
    let text = format!("Summarise ticket {} in one sentence.", subject % 100_000);
    let key = KEYS.iter().cycle().nth(usize::from(caller.to_le_bytes()[0])).unwrap_or(&"");
    let request = Request::builder()
        .method(Method::POST)
        .header(header::HOST, "demo.invalid")
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-priority", class);
    let context = "You are the help desk of a company that sells tickets. ".repeat(40);
    let (request, body) = if is_openai {
        let body = json!({
            "model": OPENAI.get(which), "stream": is_stream, "temperature": 0,
            "messages": [{"role": "system", "content": context}, {"role": "user", "content": text}],
        });
        (request.uri("/v1/chat/completions"), body)
    } else {
        let body = json!({
            "model": ANTHROPIC.get(which), "stream": is_stream, "max_tokens": 64,
            "system": context, "messages": [{"role": "user", "content": text}],
        });
        (request.uri("/v1/messages").header("anthropic-version", "2023-06-01"), body)
    };
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap_or_default()
}

/// Numbers without a pattern, the same in every run (splitmix64).
fn mixed(one: u64, other: u64) -> u64 {
    let seed = one.wrapping_mul(1_000_003).wrapping_add(other);
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
