//! The binary dies, suddenly or in order, under load: what was answered is in the
//! ledger, once, and what was not is owned up to.

use crate::ask::{CHAT, chat, streamed};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_ledger::{Dim, Quality, Reader, Reason, RecordView, UsageQuery};
use tollgate_tests::{
    Client, Process, Settings,
    standin::{Options, StandIn},
    within,
};

const MODEL: &str = "gpt-4o-mini";
const CALLERS: u64 = 16;

/// A provider of its own, which outlives the proxy.
struct Provider {
    standin: StandIn,
    stop: CancellationToken,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let options = Options { requests_max: 0, ..Options::default() };
        let standin = StandIn::start(options, listener, &TaskTracker::new(), stop.clone());
        Self { standin, stop }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a caller paid for, as it sees it: the record's name, and the tokens it was told.
type Paid = BTreeMap<String, (u64, u64)>;

/// A caller with one connection at a time. Not the harness's, which takes it for a
/// defect when nobody listens any more.
struct Caller {
    to: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
    tasks: TaskTracker,
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    begun: u64,
    paid: Paid,
    /// Answers that began and did not end.
    cut: u64,
}

impl Caller {
    /// Sends a question; `None`: the proxy is gone, and said nothing.
    async fn ask(&mut self, ask: &Value) -> Option<Response<Incoming>> {
        let mut kept = self.connection.take();
        let is_open = match &mut kept {
            Some(kept) => kept.ready().await.is_ok(),
            None => false,
        };
        let mut sender = match kept.filter(|_| is_open) {
            Some(kept) => kept,
            None => {
                let stream = TcpStream::connect(self.to).await.ok()?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
                self.tasks.spawn(connection);
                sender
            }
        };
        let request = Request::post(CHAT)
            .header("host", "tollgate")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(ask.to_string())))
            .unwrap();
        let answer = within("the head of an answer", sender.send_request(request)).await.ok()?;
        self.connection = Some(sender);
        Some(answer)
    }

    /// Asks on and on until the proxy is gone.
    async fn ask_until_gone(mut self, name: u64) -> Seen {
        let mut seen = Seen::default();
        loop {
            let text = format!("{name} {}", seen.begun);
            let mut ask = chat(MODEL, &text);
            if seen.begun % 2 == 1 {
                ask = streamed(MODEL, &text);
                ask["stream_options"] = json!({ "include_usage": true });
            }
            seen.begun += 1;
            let Some(answer) = self.ask(&ask).await else { return seen };
            assert_eq!(answer.status(), 200);
            let id = answer.headers()["tollgate-record"].to_str().unwrap().to_owned();
            let Ok(body) = within("a body", answer.into_body().collect()).await else {
                seen.cut += 1;
                return seen;
            };
            seen.paid.insert(id, told(&String::from_utf8_lossy(&body.to_bytes())));
        }
    }
}

/// Many callers at once.
fn callers(to: SocketAddr) -> JoinSet<Seen> {
    let mut callers = JoinSet::new();
    for name in 0..CALLERS {
        let caller = Caller { to, connection: None, tasks: TaskTracker::new() };
        callers.spawn(caller.ask_until_gone(name));
    }
    callers
}

/// What all of them saw together.
async fn seen_by(callers: JoinSet<Seen>) -> Seen {
    let mut all = Seen::default();
    for seen in callers.join_all().await {
        all.begun += seen.begun;
        all.cut += seen.cut;
        all.paid.extend(seen.paid);
    }
    all
}

/// What an answer says that it used.
fn told(text: &str) -> (u64, u64) {
    let lines = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let usage = lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|event| Some(event["usage"].clone()).filter(Value::is_object))
        .unwrap();
    let number = |name: &str| usage[name].as_u64().unwrap();
    (number("prompt_tokens"), number("completion_tokens"))
}

fn records(dir: &Path) -> Vec<RecordView> {
    let reader = Reader::open(dir).unwrap();
    let mut records: Vec<RecordView> = Vec::new();
    loop {
        let before = records.last().map(|record| record.record.id);
        let page = reader.records(10_000, before).unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// Every call that a caller saw the end of is there once, with its tokens and its price.
fn check_paid(records: &[RecordView], paid: &Paid) {
    let ids: BTreeSet<String> = records.iter().map(|r| r.record.id.to_string()).collect();
    assert_eq!(ids.len(), records.len(), "a call was recorded twice");
    let mut finished = BTreeMap::new();
    for record in records.iter().filter(|record| record.record.quality == Quality::Reported) {
        let tokens = record.record.tokens;
        finished.insert(
            record.record.id.to_string(),
            ((u64::from(tokens.input), u64::from(tokens.output)), record.record.cost),
        );
    }
    for (id, told) in paid {
        let (tokens, cost) =
            finished.get(id).unwrap_or_else(|| panic!("{id} is not in the ledger"));
        assert_eq!(tokens, told, "{id}");
        let price = |tokens: u64, pico: i64| i64::try_from(tokens).unwrap() * pico;
        assert_eq!((cost.input, cost.output), (price(told.0, 150_000), price(told.1, 600_000)));
    }
}

/// The sums that reports are made of are the sums of the records.
fn check_sums(dir: &Path, records: &[RecordView]) {
    let query = UsageQuery { from_ms: 0, to_ms: i64::MAX, by: vec![Dim::Model], step_ms: None };
    let rows = Reader::open(dir).unwrap().usage(&query).unwrap();
    let (calls, cost) = rows.iter().fold((0, 0), |(calls, cost), row| {
        (calls + row.sums.calls, cost + row.sums.cost.iter().sum::<i128>())
    });
    assert_eq!(calls, records.len() as u64);
    assert_eq!(cost, records.iter().map(|record| record.record.cost.total()).sum::<i128>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_every_finished_call_is_in_the_ledger_and_every_other_is_owned_up_to() {
    const HANGING: u64 = 4;
    let (provider, dir) = (Provider::start().await, TempDir::new().unwrap());
    let data = dir.path().join("data");
    let settings = Settings::new(&provider.standin.url(), &data);
    let mut paid = Paid::new();
    let (mut begun, mut rounds) = (0, 0);
    // Twice: what the first death left must survive the second.
    while rounds < 2 {
        let mut process = Process::start(dir.path(), &settings).await;
        let mut hanging = JoinSet::new();
        for place in 0..HANGING {
            let to = process.addr;
            let mut caller = Caller { to, connection: None, tasks: TaskTracker::new() };
            let ask = chat("gpt-4o-mini+hang", &place.to_string());
            hanging.spawn(async move { caller.ask(&ask).await.is_none() });
        }
        let in_hand = provider.standin.wait_for(|counts| counts.in_flight == HANGING);
        within("the calls that hang", in_hand).await;
        let callers = callers(process.addr);
        rounds += 1;
        let wanted = rounds * 300;
        let seen = provider.standin.wait_for(|counts| counts.finished >= wanted);
        within("a few hundred answers", seen).await;

        process.signal(Signal::KILL);
        process.gone().await;

        let seen = seen_by(callers).await;
        paid.extend(seen.paid);
        begun += seen.begun + HANGING;
        assert!(hanging.join_all().await.into_iter().all(|gone| gone));
    }
    let mut process = Process::start(dir.path(), &settings).await;
    let reply = Client::new(process.addr).post(CHAT, &chat(MODEL, "alive")).await;
    paid.insert(reply.header("tollgate-record").to_owned(), told(&reply.text()));
    process.signal(Signal::TERM);
    assert!(process.gone().await.success());

    let records = records(&data);

    assert!(paid.len() as u64 > CALLERS, "{}", paid.len());
    check_paid(&records, &paid);
    check_sums(&data, &records);
    let calls = records.len() as u64;
    assert!(paid.len() as u64 <= calls && calls <= begun + 1, "{} {calls} {begun}", paid.len());
    let (unknown, known): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.record.reason == Reason::ProcessDied);
    let billed = provider.standin.counts();
    assert!(known.len() as u64 <= billed.calls, "{} {billed:?}", known.len());
    assert!(unknown.len() as u64 >= 2 * HANGING, "{}", unknown.len());
    for record in unknown {
        assert_eq!((record.record.status, record.record.quality), (0, Quality::Estimated));
        assert!(record.record.tokens.input > 0 && record.words[0] == "all", "{record:?}");
        assert!(record.words[7].starts_with(MODEL), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_cuts_nothing_and_loses_nothing() {
    let (provider, dir) = (Provider::start().await, TempDir::new().unwrap());
    let data = dir.path().join("data");
    let settings = Settings::new(&provider.standin.url(), &data);
    let mut process = Process::start(dir.path(), &settings).await;
    let callers = callers(process.addr);
    within("a few hundred answers", provider.standin.wait_for_finished(300)).await;

    process.signal(Signal::TERM);
    let status = process.gone().await;

    let Seen { paid, cut, .. } = seen_by(callers).await;
    assert_eq!((status.code(), cut), (Some(0), 0));
    let records = records(&data);
    check_paid(&records, &paid);
    check_sums(&data, &records);
    assert_eq!(records.len(), paid.len(), "what is recorded is what callers got");
    let counts = provider.standin.counts();
    assert_eq!((counts.calls, counts.aborted), (paid.len() as u64, 0));
    let cost: i128 = records.iter().map(|record| record.record.cost.total()).sum();
    let billed =
        i128::from(counts.billed.input) * 150_000 + i128::from(counts.billed.output) * 600_000;
    assert_eq!(cost, billed, "to the last digit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_do_not_share_a_data_dir() {
    let (provider, dir) = (Provider::start().await, TempDir::new().unwrap());
    let data = dir.path().join("data");
    let settings = Settings::new(&provider.standin.url(), &data);
    let process = Process::start(dir.path(), &settings).await;
    let config = process.config().to_str().unwrap();

    let second = tokio::process::Command::from(Process::command(&["run", "-c", config]))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .output();
    let second = within("the second process to give up", second).await.unwrap();

    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains("data_dir") && said.contains("in use"), "{said}");
    let reply = Client::new(process.addr).post(CHAT, &chat(MODEL, "hello")).await;
    assert_eq!(reply.status, 200);
}
