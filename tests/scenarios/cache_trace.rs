//! The key trace of a run, and what `tollgate what-if` makes of it: what really happened, within the
//! error that it states.

use crate::cache_flight::gated;
use crate::cache_redis::{Line, Server, UP, member_with};
use crate::cache_stage::{
    Asked, CHAT, Told as _, answered, assert_bypass, assert_hit, assert_miss, by_url, chat,
    come_so_far, content, marker_route, purge, send,
};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, path::Path, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tollgate_cache::trace::{Outcome, Recording, SAMPLE_ALL, read};
use tollgate_tests::{
    Client, Process, Scripted, Settings, World, WorldBuilder,
    standin::{AnswerLength, Gate, Options},
    until,
};

const WRITTEN: &str = "tollgate_cache_trace_lines_total{outcome=\"written\"}";

fn traced(builder: WorldBuilder) -> WorldBuilder {
    builder.set("cache.trace", json!({}))
}

/// What a world that is over has written.
async fn trace_of(world: &World) -> Recording {
    world.app.drain().await;
    read(&world.data_dir().join("trace")).unwrap()
}

fn outcomes(recording: &Recording) -> Vec<Outcome> {
    recording.lines.iter().map(|line| line.outcome).collect()
}

/// What the command says, in its own words for programs.
fn what_if(trace: &Path, flags: &[&str]) -> Value {
    let mut command = Process::command(&["what-if", "--json", "--trace"]);
    let done = command.arg(trace).args(flags).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Calls about 512 questions of which the first are asked for most; every tenth is asked once.
fn draws(calls: u64) -> impl Iterator<Item = u64> {
    let mut state = 42_u64;
    let mut draw = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..calls).map(move |nth| {
        if draw(10) == 0 {
            return 1_000 + nth;
        }
        let least = 1 << draw(9);
        least + draw(least)
    })
}

const CALLS: u64 = 1_500;

/// A run of these calls in memory of `size`, as it really is: its hit ratio in millionths, and the
/// world.
async fn run(size: &str, trace: Value) -> (u64, World) {
    let answers = Options { answer: AnswerLength::Bytes(8_000), ..Options::default() };
    let world = content(json!({}))
        .standin(answers)
        .set("cache.memory", json!({ "size": size, "policy": "lru" }))
        .set("cache.trace", trace)
        .start()
        .await;
    let mut hits = 0;
    for question in draws(CALLS) {
        let reply = world.client.post(CHAT, &chat(&question.to_string())).await;
        hits += u64::from(reply.is_hit());
    }
    world.app.drain().await;
    (hits * 1_000_000 / CALLS, world)
}

/// A ratio that the command says, in millionths.
#[track_caller]
fn ppm(said: &Value) -> u64 {
    let text = said.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    format!("{whole}{part:0<6}").parse().unwrap_or_else(|_| panic!("{said} is no ratio"))
}

#[track_caller]
fn assert_foretold(row: &Value, really: u64) {
    let off = ppm(&row["hit_ratio"]).abs_diff(really);
    assert!(off <= ppm(&row["error"]), "really {really}: {row}");
}

#[tokio::test]
async fn a_replay_tells_what_really_happened_and_what_happens_with_another_size() {
    let (small, small_world) = run("1MiB", json!({})).await;
    let (large, large_world) = run("4MiB", json!({ "sample": "40%" })).await;
    assert!(large > small + 100_000, "{large} {small}: there is something to tell");

    let told = what_if(&small_world.data_dir().join("trace"), &["--size", "1MiB,4MiB"]);
    assert_eq!(told["trace"]["sample"], "100%");
    assert_eq!(ppm(&told["recorded"]["hit_ratio"]), small, "{told}");
    assert!(ppm(&told["error_of_method"]) < 10_000, "{told}");
    assert!(told["recorded"]["saved_usd"].as_str().unwrap() > "0.0000", "{told}");
    assert_foretold(&told["settings"][0], small);
    assert_foretold(&told["settings"][1], large);

    let told = what_if(&large_world.data_dir().join("trace"), &["--size", "1MiB,4MiB"]);
    assert_eq!(told["trace"]["sample"], "40%");
    // Of all calls, sampled or not.
    assert_eq!(ppm(&told["recorded"]["hit_ratio"]), large, "{told}");
    assert_foretold(&told["settings"][0], small);
    assert_foretold(&told["settings"][1], large);
}

#[tokio::test]
async fn every_call_that_asked_the_cache_leaves_one_line_with_what_came_of_it() {
    let gate = Gate::heads();
    gate.open();
    let stale = json!({ "stale": { "while_revalidate": "1h" } });
    let change = move |builder: WorldBuilder| {
        builder.set("routes.0.cache.stale", stale["stale"].clone()).set("cache.trace", json!({}))
    };
    let world = gated(&gate, change).await;
    assert_miss(&world.client.post(CHAT, &chat("a")).await);
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    let anew = [("cache-control", "no-cache")];
    assert_miss(&world.client.post_with(CHAT, &anew, &chat("a")).await);
    let never = [("cache-control", "no-store")];
    assert_bypass(&world.client.post_with(CHAT, &never, &chat("a")).await, "no-store");
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let both: Vec<Asked> = (0..2).map(|_| send(&world.client, CHAT, &[], &chat("b"))).collect();
    world.provider("the leader", |counts| counts.in_flight == 1).await;
    come_so_far(&world).await;
    gate.open();
    for asked in both {
        assert_eq!(answered(asked).await.status, 200);
    }
    purge(&world, json!({ "route": "all", "soft": true })).await;
    assert!(world.client.post(CHAT, &chat("a")).await.is_hit());
    world.provider("the renewal", |counts| counts.finished == 5).await;

    let recording = trace_of(&world).await;
    use Outcome::{Anew, Joined, Memory, Missed, Passed, Renewed};
    let mut found = outcomes(&recording);
    found.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(found, [Anew, Joined, Memory, Memory, Missed, Missed, Passed, Renewed]);
    let stale = recording.lines.iter().filter(|line| line.is_stale).count();
    assert_eq!((stale, recording.routes.len()), (1, 1));
    for line in &recording.lines {
        let is_brought = matches!(line.outcome, Missed | Anew | Renewed);
        let kept = line.kept.filter(|_| is_brought);
        assert!(
            !is_brought || kept.is_some_and(|kept| kept.weight > 600 && kept.ttl_ms > 0),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn each_item_of_a_call_is_a_line_as_each_is_looked_up() {
    let world = traced(content(json!({}))).start().await;
    let embed = async |texts: &[&str]| {
        let question = json!({ "model": "text-embedding-3-small", "input": texts });
        assert_eq!(world.client.post("/v1/embeddings", &question).await.status, 200);
    };
    embed(&["a", "b"]).await;
    embed(&["b", "c", "a"]).await;
    embed(&["a", "c"]).await;
    let recording = trace_of(&world).await;
    use Outcome::{Memory, Missed};
    let of = |outcome| recording.lines.iter().filter(|line| line.outcome == outcome).count();
    assert_eq!((of(Missed), of(Memory), recording.lines.len()), (3, 4, 7), "{recording:?}");
    assert!(recording.lines.iter().all(|line| line.kept.is_some()), "{recording:?}");
}

#[tokio::test]
async fn what_http_caching_keeps_is_in_the_trace_under_its_own_times() {
    let world = traced(by_url()).start().await;
    let path = "/static/a";
    for _ in 0..3 {
        assert_eq!(world.client.get(path).await.status, 200);
    }
    let recording = trace_of(&world).await;
    assert_eq!(recording.lines.len(), 3, "{recording:?}");
    assert!(recording.lines.iter().all(|line| !line.by_content), "{recording:?}");
}

/// Goal: who asks while another's answer comes, and then finds it in memory, is a hit and no miss.
#[tokio::test]
async fn who_finds_what_another_brought_meanwhile_leaves_one_line() {
    let (server, gate) = (Server::start().await, Arc::new(Semaphore::new(0)));
    let line = Line::to(&server).await;
    let opens = gate.clone();
    let upstream = Scripted::start(move |mut line| {
        let gate = opens.clone();
        async move {
            while line.request().await.is_some() {
                gate.acquire().await.unwrap().forget();
                let page =
                    "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\npage";
                line.wire.send(page.to_owned()).await;
            }
        }
    })
    .await;
    // What comes is not written to Redis, which is asked for it all the same.
    let tiers = json!(["memory", { "name": "redis", "max_entry": "1B" }]);
    let free = Scripted::always("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let builder = traced(by_url()).set("routes.0.cache.tiers", tiers);
    let builder = builder.config(move |settings| marker_route(settings, &free.url()));
    let world = member_with(builder, &line, &upstream.url(), "20s").await;
    world.metric_when(UP, 1.0).await;
    let get = || {
        let client = world.client.clone();
        TaskTracker::new().spawn(async move { client.get("/a").await })
    };
    let first = get();
    let asked = || async { upstream.seen().len() };
    until("a call upstream", asked, |seen| *seen == 1).await;
    server.stop().await;
    let second = get();
    come_so_far(&world).await;
    gate.add_permits(2);
    assert_eq!(answered(first).await.status, 200);
    server.signal(Signal::CONT);
    assert_eq!(answered(second).await.text(), "page");
    let recording = trace_of(&world).await;
    let mut found = outcomes(&recording);
    found.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(found, [Outcome::Memory, Outcome::Missed], "{recording:?}");
    assert_eq!(upstream.seen().len(), 1);
}

fn reload(world: &mut World, trace: Value) {
    let change = |settings: &mut Settings| {
        settings.set("cache.trace", trace);
    };
    world.reload(change).unwrap();
}

#[tokio::test]
async fn a_reload_begins_a_trace_and_ends_it() {
    let mut world = content(json!({})).start().await;
    world.client.post(CHAT, &chat("a")).await;
    assert!(!world.data_dir().join("trace").exists(), "off unless it is asked for");
    reload(&mut world, json!({ "sample": "50%" }));
    for n in 0..40 {
        world.client.post(CHAT, &chat(&n.to_string())).await;
    }
    world.client.post(CHAT, &chat("a")).await;
    reload(&mut world, Value::Null);
    world.client.post(CHAT, &chat("a")).await;
    let recording = trace_of(&world).await;
    assert_eq!(recording.head.sample, SAMPLE_ALL / 2);
    assert!(recording.head.held_bytes > 0, "it began in the middle");
    assert_eq!((recording.asked, recording.answered), (41, 1));
    assert!((5..36).contains(&recording.lines.len()), "{}", recording.lines.len());
}

#[tokio::test]
async fn a_trace_that_cannot_begin_refuses_only_the_reload_that_asks_for_it() {
    let mut world = traced(content(json!({}))).start().await;
    let dir = world.data_dir().join("trace");
    fs::rename(&dir, world.data_dir().join("away")).unwrap();
    fs::write(&dir, "in the way").unwrap();
    let reload = |world: &mut World, path: &'static str, value: Value| {
        world.reload(|settings: &mut Settings| {
            settings.set(path, value);
        })
    };
    let refused = reload(&mut world, "cache.trace.size", json!("2MiB")).unwrap_err();
    assert!(refused.contains("cache.trace: "), "{refused}");
    // The rule is as it was before.
    reload(&mut world, "cache.trace", json!({})).unwrap();
    reload(&mut world, "routes.0.cache.ttl", json!("7s")).unwrap();
    fs::remove_file(&dir).unwrap();
    reload(&mut world, "routes.0.cache.ttl", json!("8s")).unwrap();
    world.client.post(CHAT, &chat("a")).await;
    assert_eq!(trace_of(&world).await.asked, 1, "it is tried again at each reload");
}

#[tokio::test]
async fn a_killed_process_leaves_a_trace_that_can_be_replayed() {
    let world = World::new().await;
    let data_dir = world.dir().join("killed");
    let mut settings = Settings::new(&world.standin.url(), &data_dir);
    settings
        .set("routes.0.cache", json!({ "mode": "content" }))
        .set("cache.trace", json!({ "size": "1MiB" }));
    let mut process = Process::start(world.dir(), &settings).await;
    let client = Client::new(process.addr);
    for n in 0..30 {
        client.post(CHAT, &chat(&(n % 10).to_string())).await;
    }
    let metrics = Client::new(process.metrics);
    let wanted = format!("{WRITTEN} 30");
    let look = async || metrics.get("/metrics").await.text();
    until("the lines to be on the disk", look, |text| text.contains(&wanted)).await;
    process.signal(Signal::KILL);
    process.gone().await;
    // As if it had been killed while it wrote.
    let file = data_dir.join("trace/current");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"TGTB torn");
    fs::write(&file, bytes).unwrap();

    let told = what_if(&data_dir.join("trace"), &[]);
    assert_eq!((&told["recorded"]["calls"], &told["recorded"]["hits"]), (&json!(30), &json!(20)));
    assert_eq!(told["as_it_was"]["hits"], 20);
    let notes = told["trace"]["notes"].to_string();
    assert!(notes.contains("the last 9 bytes are torn"), "{notes}");
    let rows = told["settings"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "half, the same, twice and four times the size");

    let mut plain = Process::command(&["what-if", "--policy", "lfu,lru,cost", "--trace"]);
    let plain = plain.arg(data_dir.join("trace")).output().unwrap();
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.contains("hit ratio 66.7 % of 30 calls: 20 hits"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(" cost ")).count(), 4, "{text}");
}

#[tokio::test]
async fn without_a_trace_it_is_said_how_to_get_one() {
    let world = World::new().await;
    let settings = Settings::new(&world.standin.url(), &world.dir().join("none"));
    let config = world.dir().join("none.yaml");
    fs::write(&config, settings.text()).unwrap();
    let mut command = Process::command(&["what-if", "-c"]);
    let done = command.arg(&config).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("none/trace: no key trace; set cache.trace"), "{said}");
}

/// Goal: what is told of other settings is about callers, and not about our own warming up.
#[tokio::test]
async fn what_we_ask_by_ourselves_is_nobodys_demand() {
    let world = traced(content(json!({}))).set("cache.warm.rate", json!("10000/s")).start().await;
    let admin = Client::new(world.app.addresses().admin.unwrap());
    let line = |text: &str| json!({ "path": CHAT, "body": chat(text) }).to_string() + "\n";
    let kind = [("content-type", "application/x-ndjson")];
    assert_miss(&world.client.post(CHAT, &chat("known")).await);
    for hits in [1.0, 4.0] {
        let list = line("known") + &line("a") + &line("b");
        let told = admin.send(Method::POST, "/api/cache/warm", &kind, list).await;
        assert_eq!(told.status, 202, "{told:?}");
        let own = "tollgate_cache_own_calls_total{purpose=\"warm\",outcome=\"hit\"}";
        world.metric_when(own, hits).await;
    }
    assert_hit(&world.client.post(CHAT, &chat("a")).await);
    let recording = trace_of(&world).await;
    assert_eq!(outcomes(&recording), [Outcome::Missed, Outcome::Memory]);
}
