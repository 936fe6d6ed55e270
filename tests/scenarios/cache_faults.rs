//! Every store under every fault, under load.
//!
//! | store | kill | stall | flush | fill | partition |
//! |---|---|---|---|---|---|
//! | Redis | SIGKILL, started empty | SIGSTOP | FLUSHALL | its `maxmemory` reached | packets lost |
//! | Memcached | the same | the same | flush_all | its memory full of others' values | the same |
//! | PostgreSQL | its crash | the same, all its processes | all tables emptied | takes no writes any more, as a full one of a provider | the same |
//! | disk | see `cache_disk`, `meter_kill` | – | all files gone | takes no file | – |
//!
//! Twenty callers ask through real proxies, of which a fleet's store has two and the disk one, and
//! which have no tier but that store: what they ask again and what nobody asked before. The fault
//! comes under way; then what was answered is purged, and the provider says something else from then
//! on. Each answer is compared byte for byte with what its question is to be answered with, in the
//! editions that could be meant; no call fails; and what a call takes meanwhile is bounded by what it
//! took before, and one time-out.

use crate::{
    cache_redis::detail,
    cache_stage::{CHAT, Told as _, chat, content, purge},
    stores::{Database, Disk, Memcached, Redis, Store, TIMEOUT},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{RwLock, watch},
    task::JoinSet,
    time::Instant,
};
use tollgate_tests::{Client, Reply, Scripted, World, until};

const CALLERS: usize = 20;
/// Calls of each caller, before a fault, around it, and after it.
const CALLS: [usize; 3] = [8, 14, 4];
/// Questions that are asked again and again.
const KNOWN: usize = 30;
/// On a machine that does much else a call waits for its turn, too. Half a time-out: a call that
/// waited for two would still be seen.
const MARGIN: Duration = TIMEOUT.checked_div(2).unwrap();
/// About what all questions are.
const KB: [(&str, &str); 1] = [("x-kb", "1")];

/// One who says the same bytes to the same question, in an edition that changes.
#[derive(Clone)]
struct Provider {
    upstream: Scripted,
    edition: Arc<AtomicU64>,
}

impl Provider {
    async fn start() -> Self {
        let edition = Arc::<AtomicU64>::default();
        let now = edition.clone();
        let upstream = Scripted::start(move |mut line| {
            let now = now.clone();
            async move {
                while let Some(seen) = line.request().await {
                    let asked: Value = serde_json::from_slice(&seen.body).unwrap();
                    let text = asked["messages"][0]["content"].as_str().unwrap();
                    let body = answer(text, now.load(Ordering::SeqCst));
                    let len = body.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: {len}\r\n\r\n"
                    );
                    line.wire.send([head, body].concat()).await;
                }
            }
        });
        Self { upstream: upstream.await, edition }
    }

    /// That `reply` answers `text` in an edition of at least `least`.
    #[track_caller]
    fn check(&self, reply: &Reply, text: &str, least: u64) {
        assert!(reply.status == 200 && !reply.cut, "{text}: {reply:?}");
        let latest = self.edition.load(Ordering::SeqCst);
        let is = |edition| reply.body == answer(text, edition);
        assert!((least..=latest).any(is), "{text}, of {least} to {latest}: {reply:?}");
    }
}

/// Four kilobytes and more, so that a store can be filled.
fn answer(text: &str, edition: u64) -> String {
    let content = format!("edition {edition} of {text}. ").repeat(150);
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21 },
    })
    .to_string()
}

fn known(n: usize) -> String {
    format!("known {}", n % KNOWN)
}

/// The callers, and whom they ask.
#[derive(Clone)]
struct Load {
    provider: Provider,
    /// Of each proxy, and the oldest edition that it may still give.
    asked: Arc<[(Client, AtomicU64)]>,
    done: watch::Sender<usize>,
    /// The callers are to call on, whatever they have called.
    goes_on: Arc<AtomicBool>,
    /// Held by each call while it goes on.
    under_way: Arc<RwLock<()>>,
}

struct Call {
    ended: Instant,
    took: Duration,
}

impl Load {
    fn on(worlds: &[World], provider: &Provider) -> Self {
        let asked = worlds.iter().map(|world| (world.client.clone(), AtomicU64::new(0))).collect();
        Self {
            provider: provider.clone(),
            asked,
            done: watch::Sender::default(),
            goes_on: Arc::default(),
            under_way: Arc::default(),
        }
    }

    fn begin(&self, round: &str, each: usize) -> JoinSet<Vec<Call>> {
        self.done.send_replace(0);
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(self.clone().call(round.to_owned(), caller, each));
        }
        callers
    }

    /// Waits until so many calls have ended.
    async fn ended(&self, calls: usize) {
        let mut done = self.done.subscribe();
        let enough = done.wait_for(|done| *done >= calls);
        tollgate_tests::within("calls", enough).await.unwrap();
    }

    async fn call(self, round: String, caller: usize, each: usize) -> Vec<Call> {
        let (client, least) = &self.asked[caller % self.asked.len()];
        let mut calls = Vec::new();
        for n in 0.. {
            if n >= each && !self.goes_on.load(Ordering::SeqCst) {
                break;
            }
            let text = match n % 3 {
                0 => format!("{round} {caller} {n}"),
                _ => known(caller * 7 + n),
            };
            let _under_way = self.under_way.read().await;
            let least = least.load(Ordering::SeqCst);
            let began = Instant::now();
            let reply = client.post_with(CHAT, &KB, &chat(&text)).await;
            let ended = Instant::now();
            self.provider.check(&reply, &text, least);
            calls.push(Call { ended, took: ended - began });
            self.done.send_modify(|done| *done += 1);
        }
        calls
    }

    /// Has the provider say something else, and what it said before purged.
    async fn another_edition(&self, at: &World) -> u64 {
        let edition = self.provider.edition.fetch_add(1, Ordering::SeqCst) + 1;
        let said = purge(at, json!({ "tag": "kb:1" })).await;
        assert!(
            said["reach"] == "fleet" || said["pending"] == true || self.asked.len() == 1,
            "{said}"
        );
        // Wherever else it has come to: here it is in force. Who asks the same as a call that was
        // under way then may follow that one, so those are waited for.
        let _all = self.under_way.write().await;
        self.asked[0].1.store(edition, Ordering::SeqCst);
        edition
    }

    /// Waits until no proxy gives what was purged.
    async fn all_have_heard(&self, edition: u64) {
        for (client, least) in &*self.asked {
            let ask = || async { client.post_with(CHAT, &KB, &chat(&known(0))).await };
            let new = answer(&known(0), edition);
            until("the new edition", ask, |reply: &Reply| reply.body == new).await;
            least.store(edition, Ordering::SeqCst);
            for n in 0..KNOWN {
                let reply = client.post_with(CHAT, &KB, &chat(&known(n))).await;
                self.provider.check(&reply, &known(n), edition);
            }
        }
    }
}

fn p99(calls: impl Iterator<Item = Call>) -> Duration {
    let mut took: Vec<Duration> = calls.map(|call| call.took).collect();
    took.sort_unstable();
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}

async fn world<S: Store>(store: &S, provider: &Provider) -> World {
    let policy = json!({ "tiers": [S::NAME], "tags": ["kb:{header.x-kb}"] });
    store.before(content(policy).upstream(provider.upstream.url())).await
}

/// Goal: no fault of the store fails a call, gives a wrong answer or costs more than its time-out.
/// Method: this file's.
async fn bears<S: Store>(mut store: S) {
    let provider = Provider::start().await;
    let mut worlds = Vec::new();
    for _ in 0..S::PROXIES {
        worlds.push(world(&store, &provider).await);
    }
    let load = Load::on(&worlds, &provider);
    let quiet = load.begin("quiet", CALLS[0]).join_all().await;
    let quiet = p99(quiet.into_iter().flatten());
    for fault in S::FAULTS {
        let name = format!("{fault:?} of {}", S::NAME);
        let (during, edition) = break_under(&load, &name, &worlds[0], store.breaks(*fault)).await;
        assert!(during <= quiet + TIMEOUT + MARGIN, "{name}: {during:?}, before it {quiet:?}");
        store.heals(*fault).await;
        for world in &worlds {
            world.metric_when(&S::up(), 1.0).await;
            let pending = format!("tollgate_store_purges_pending{{store=\"{}\"}}", S::NAME);
            world.metric_when(&pending, 0.0).await;
        }
        load.all_have_heard(edition).await;
        load.begin(&format!("after {name}"), CALLS[2]).join_all().await;
        for world in &worlds {
            let question = chat(&format!("{name} is over"));
            let ask = || world.client.post_with(CHAT, &KB, &question);
            let hit = until("a hit", ask, |reply: &Reply| reply.is_hit()).await;
            assert_eq!(detail(&hit), S::NAME, "{name}");
        }
    }
}

/// What calls took from `breaks` on, and the edition that there is since a purge meanwhile.
async fn break_under(
    load: &Load,
    name: &str,
    world: &World,
    breaks: impl Future<Output = ()>,
) -> (Duration, u64) {
    load.goes_on.store(true, Ordering::SeqCst);
    let calls = load.begin(name, CALLS[1]);
    load.ended(CALLERS * 3).await;
    breaks.await;
    let broken = Instant::now();
    load.ended(CALLERS * 6).await;
    let edition = load.another_edition(world).await;
    let so_far = *load.done.borrow();
    load.ended(so_far + CALLERS * 4).await;
    load.goes_on.store(false, Ordering::SeqCst);
    let calls = calls.join_all().await.into_iter().flatten();
    (p99(calls.filter(|call| call.ended >= broken)), edition)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_bears_whatever_becomes_of_redis() {
    bears(Redis::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_bears_whatever_becomes_of_memcached() {
    bears(Memcached::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_bears_whatever_becomes_of_postgresql() {
    bears(Database::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_bears_whatever_becomes_of_its_disk() {
    bears(Disk::start().await).await;
}
