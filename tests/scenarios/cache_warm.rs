//! Answers that are there before somebody asks: lists of requests, asked at the start, by a
//! schedule, or because an administrator says so.

use crate::cache_stage::{CHAT, assert_hit, by_url, cached_is, chat, content, is_cached};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use tollgate_ledger::CacheOutcome;
use tollgate_tests::{
    Client, Process, Scripted, Settings, World, WorldBuilder,
    standin::{Gate, Options},
    until,
};

/// A line of a list.
fn line(headers: Value, text: &str) -> String {
    json!({ "path": CHAT, "headers": headers, "body": chat(text) }).to_string() + "\n"
}

/// As fast as it goes.
fn at_once(world: WorldBuilder) -> WorldBuilder {
    world.set("cache.warm.rate", json!("10000/s"))
}

fn admin(world: &World) -> Client {
    Client::new(world.app.addresses().admin.unwrap())
}

async fn order(admin: &Client, path: &str, list: String) -> Value {
    let kind = [("content-type", "application/x-ndjson")];
    let reply = admin.send(Method::POST, path, &kind, list).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()
}

/// The run, when it is over.
async fn over(admin: &Client, run: &Value) -> Value {
    let look = || async {
        let runs = admin.get("/api/cache/warm").await.json();
        let runs = runs["runs"].as_array().unwrap().clone();
        runs.into_iter().find(|one| one["run"] == run["run"]).unwrap()
    };
    until("the end of a run", look, |run| run["state"] != "running").await
}

fn counts(run: &Value) -> [u64; 5] {
    ["asked", "stored", "hit", "not_stored", "failed"].map(|name| run[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_list_of_requests_is_asked_and_its_answers_are_their_tenants() {
    let world = at_once(content(json!({}))).start().await;
    let (own, others) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let key = json!({ "authorization": "Bearer one" });
    let list =
        line(key.clone(), "a") + "\n" + &line(key.clone(), "b") + "{\"path\":7}\n" + "sk-x\n";
    let admin = admin(&world);
    let run = over(&admin, &order(&admin, "/api/cache/warm", list.clone()).await).await;
    assert_eq!((counts(&run), &run["bad_lines"]), ([2, 2, 0, 0, 0], &json!(2)), "{run}");
    assert_eq!((&run["bad"][0]["line"], &run["bad"][1]["line"]), (&json!(4), &json!(5)));
    assert!(!run.to_string().contains("sk-x") && !run.to_string().contains("Bearer"), "{run}");
    let calls = world.standin.counts().calls;
    assert_hit(&world.client.post_with(CHAT, &own, &chat("a")).await);
    assert_eq!(world.standin.counts().calls, calls);
    let reply = world.client.post_with(CHAT, &others, &chat("a")).await;
    assert_eq!(reply.header("cache-status"), "tollgate; fwd=miss", "another tenant's is another's");
    // A second time nothing is fetched.
    let run = over(&admin, &order(&admin, "/api/cache/warm", list).await).await;
    assert_eq!(counts(&run), [2, 0, 2, 0, 0], "{run}");
}

#[tokio::test]
async fn own_calls_are_in_the_ledger_and_in_no_number_about_callers() {
    let world = at_once(content(json!({}))).start().await;
    let admin = admin(&world);
    for _ in 0..2 {
        let run = order(&admin, "/api/cache/warm", line(json!({}), "a")).await;
        over(&admin, &run).await;
    }
    let records = world.records_when(2).await;
    let [fetched, found] = &records[..] else { panic!("{records:#?}") };
    assert!(fetched.record.own && found.record.own);
    assert_eq!(fetched.record.outcome, CacheOutcome::Miss);
    assert!(fetched.record.cost.output > 0, "it was paid for");
    assert_eq!((found.record.outcome, found.record.saved_pico), (CacheOutcome::Hit, 0));
    let value = |series: &str| world.metric(series).unwrap();
    assert_eq!(value("tollgate_cache_own_calls_total{purpose=\"warm\",outcome=\"stored\"}"), 1.0);
    assert_eq!(value("tollgate_cache_own_calls_total{purpose=\"warm\",outcome=\"hit\"}"), 1.0);
    let metrics = world.metrics();
    let of = |name: &str| -> f64 {
        metrics.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
    };
    assert_eq!(of("tollgate_requests_total{"), 0.0);
    assert_eq!(of("tollgate_cache_requests_total{"), 0.0);
    assert_eq!(of("tollgate_saved_microusd_total{"), 0.0);
    assert!(of("tollgate_cost_microusd_total{") > 0.0);
    assert_eq!(
        value("tollgate_dispatched_total{class=\"batch\"}"),
        1.0,
        "the least important class"
    );
}

#[tokio::test]
async fn a_refresh_fetches_what_is_there_and_leaves_it_where_that_fails() {
    let upstream = Scripted::start(|mut line| async move {
        let mut n = 0;
        while let Some(seen) = line.request().await {
            n += 1;
            let (head, body) = match seen.fields("x-fail").is_empty() {
                false => ("500 No", "no".to_owned()),
                true => ("200 OK\r\ncache-control: max-age=600", format!("answer {n}")),
            };
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
            line.wire.send(head + &body).await;
        }
    })
    .await;
    let world = at_once(by_url()).upstream(upstream.url()).start().await;
    let admin = admin(&world);
    let host = format!("http://{}", world.addr());
    assert_eq!(world.client.get("/a").await.text(), "answer 1");
    let list = json!({ "path": format!("{host}/a") }).to_string();
    let run = over(&admin, &order(&admin, "/api/cache/refresh", list).await).await;
    assert_eq!(counts(&run), [1, 1, 0, 0, 0], "{run}");
    let renewed = world.client.get("/a").await;
    assert_hit(&renewed);
    assert_eq!(renewed.text(), "answer 2");
    let list = json!({ "path": format!("{host}/a"), "headers": { "x-fail": "1" } }).to_string();
    let run = over(&admin, &order(&admin, "/api/cache/refresh", list).await).await;
    assert_eq!((counts(&run), &run["first_failure"]["status"]), ([1, 0, 0, 0, 1], &json!(500)));
    let kept = world.client.get("/a").await;
    assert_hit(&kept);
    assert_eq!(kept.text(), "answer 2");
}

#[tokio::test]
async fn a_schedule_asks_its_file_again_and_again_and_anew_where_it_says_so() {
    let builder = at_once(content(json!({})));
    let file = builder.dir().join("refresh.jsonl");
    fs::write(&file, line(json!({}), "a")).unwrap();
    let schedule = json!([{ "every": "1s", "file": file, "refresh": true }]);
    let world = builder.set("cache.warm.schedule", schedule).start().await;
    world.provider("two calls for one question", |counts| counts.calls >= 2).await;
    assert!(is_cached(&world.client, CHAT, &chat("a")).await);
}

#[tokio::test]
async fn callers_go_before_own_calls() {
    let gate = Gate::heads();
    let world = at_once(content(json!({})))
        .standin(Options { gate: Some(gate.clone()), ..Options::default() })
        .set("upstreams.model.concurrency", json!({ "limit": 1 }))
        .set("cache.warm.concurrency", json!(8))
        .start()
        .await;
    let admin = admin(&world);
    let list: String = (0..4).map(|n| line(json!({}), &format!("own {n}"))).collect();
    let run = order(&admin, "/api/cache/warm", list).await;
    world.provider("the first of our own", |counts| counts.calls == 1).await;
    world.metric_when("tollgate_queue_length{class=\"batch\"}", 3.0).await;
    let client = world.client.clone();
    let asked = crate::cache_stage::send(&client, CHAT, &[], &chat("a caller's"));
    world.metric_when("tollgate_queue_length{class=\"normal\"}", 1.0).await;
    gate.release(2);
    let reply = crate::cache_stage::answered(asked).await;
    assert_eq!(reply.status, 200, "the second place was the caller's");
    assert!(over_by_now(&admin, &run).await.is_none());
    gate.open();
    assert_eq!(counts(&over(&admin, &run).await), [4, 4, 0, 0, 0]);
}

#[tokio::test]
async fn a_fifth_list_is_refused_until_one_of_four_has_ended() {
    let gate = Gate::heads();
    let world = at_once(content(json!({})))
        .standin(Options { gate: Some(gate.clone()), ..Options::default() })
        .start()
        .await;
    let admin = admin(&world);
    let mut runs = Vec::new();
    for n in 0..4 {
        runs.push(order(&admin, "/api/cache/warm", line(json!({}), &n.to_string())).await);
    }
    let kind = [("content-type", "application/json")];
    let more = line(json!({}), "more");
    for path in ["/api/cache/warm", "/api/cache/refresh"] {
        let reply = admin.send(Method::POST, path, &kind, more.clone()).await;
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    gate.open();
    for run in &runs {
        assert_eq!(counts(&over(&admin, run).await), [1, 1, 0, 0, 0]);
    }
    let begun = || admin.send(Method::POST, "/api/cache/warm", &kind, more.clone());
    until("a place for a list", begun, |reply| reply.status == 202).await;
    let reply = admin.send(Method::PUT, "/api/cache/warm", &kind, more.clone()).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, POST"));
}

async fn over_by_now(admin: &Client, run: &Value) -> Option<Value> {
    let runs = admin.get("/api/cache/warm").await.json();
    let runs = runs["runs"].as_array().unwrap().clone();
    runs.into_iter().find(|one| one["run"] == run["run"] && one["state"] != "running")
}

#[tokio::test]
async fn the_file_of_the_start_is_asked_and_a_drain_does_not_wait_for_it() {
    let world = World::builder().start().await;
    let file = world.dir().join("warm.jsonl");
    let lines: String = (0..3).map(|n| line(json!({}), &n.to_string())).collect();
    fs::write(&file, lines).unwrap();
    let mut settings = Settings::new(&world.standin.url(), &world.dir().join("process-data"));
    settings
        .set("routes.0.cache", json!({ "mode": "content" }))
        // The list names no host, and callers without credentials are told apart by it.
        .set("upstreams.model.host", json!("upstream"))
        .set("cache.warm", json!({ "file": file, "rate": "10000/s" }));
    let process = Process::start(world.dir(), &settings).await;
    let said = process.says("a list of requests was asked").await;
    assert_eq!(world.standin.counts().calls, 3, "each once, the first one, too: {said}");
    let client = Client::new(process.addr);
    for n in 0..3 {
        assert_hit(&client.post(CHAT, &chat(&n.to_string())).await);
    }
    end(process).await;
    // One an hour: the drain does not wait for the second line.
    settings.set("cache.warm.rate", json!("1/h"));
    let process = Process::start(world.dir(), &settings).await;
    cached_is(&Client::new(process.addr), &chat("0"), true).await;
    end(process).await;
}

async fn end(mut process: Process) {
    process.signal(Signal::TERM);
    assert!(process.gone().await.success(), "{:#?}", process.log());
}

#[tokio::test]
async fn the_command_says_what_came_of_it_and_whose_fault_it_was() {
    let world = at_once(content(json!({}))).start().await;
    let url = format!("http://{}", world.app.addresses().admin.unwrap());
    let file = world.dir().join("list.jsonl");
    let run = |list: String, more: &'static [&'static str]| {
        fs::write(&file, list).unwrap();
        let (file, url) = (file.display().to_string(), url.clone());
        async move {
            let command = move || {
                let words: Vec<&str> =
                    ["warm", &file, "--admin", &url].iter().chain(more).copied().collect();
                Process::command(&words).output().unwrap()
            };
            let output = tokio::task::spawn_blocking(command).await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
        }
    };
    let (code, out, err) = run(line(json!({}), "a"), &[]).await;
    assert_eq!((code, out.trim()), (0, "asked 1: 1 stored, 0 there already, 0 not kept, 0 failed"));
    assert!(err.contains("1 of 1 asked"), "{err}");
    let (code, out, _) = run(line(json!({}), "a"), &["--refresh"]).await;
    assert_eq!((code, out.contains("1 stored")), (0, true), "{out}");
    let (code, _, err) = run("nonsense\n".to_owned(), &[]).await;
    assert_eq!((code, err.contains("line 1: no JSON")), (1, true), "{err}");
    let nowhere = json!({ "path": "/v1/chat/completions", "body": "not json" }).to_string();
    let (code, ..) = run(nowhere, &[]).await;
    assert_ne!(code, 1);
}
