//! The binary and its signals: how it goes down, takes a new configuration, and fails
//! to start. `cargo build -p tollgate` comes first.

use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use std::{fs, net::TcpListener};
use tokio::{net::TcpStream, task::JoinSet};
use tollgate_ledger::{Quality, Reader};
use tollgate_tests::{
    CHAT, Client, Process, Settings, World, chat, chat_stream,
    standin::{Gate, Options},
    until,
};

/// A stand-in (with a proxy of its own that nobody calls) and the settings to reach it.
async fn provider(gate: Option<Gate>) -> (World, Settings) {
    let world = World::builder().standin(Options { gate, ..Options::default() }).start().await;
    let settings = Settings::new(&world.standin.url(), &world.dir().join("process-data"));
    (world, settings)
}

async fn refused(process: &Process) {
    let connect = || async { TcpStream::connect(process.addr).await.is_err() };
    until("new connections to be refused", connect, |refused| *refused).await;
}

#[tokio::test]
async fn a_stream_in_flight_ends_in_peace_and_the_exit_code_is_0() {
    let gate = Gate::chunks();
    let (world, settings) = provider(Some(gate.clone())).await;
    let mut process = Process::start(world.dir(), &settings).await;
    for client in [Client::new(process.addr), Client::h2(process.addr).await] {
        assert_eq!(client.get("/health").await.status, StatusCode::OK);
    }
    let (client, h2) = (Client::new(process.addr), Client::h2(process.addr).await);
    let mut live = client.stream(CHAT, &chat_stream("one")).await;
    let mut live_h2 = h2.stream(CHAT, &chat_stream("two")).await;
    gate.release_chunks(1);
    world.provider("an event", |counts| counts.chunks == 1).await;

    process.signal(Signal::TERM);
    refused(&process).await;
    let ready = Client::new(process.metrics).get("/readyz").await;
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    );
    gate.open();
    for live in [&mut live, &mut live_h2] {
        live.read_until("data: [DONE]\n\n").await;
        let after = live.next().await;
        assert!(after.is_none(), "a clean end, not {after:?}");
    }
    assert_eq!(process.gone().await.code(), Some(0), "{:#?}", process.log());
    let records =
        Reader::open(&world.dir().join("process-data")).unwrap().records(10, None).unwrap();
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record.record.reason.name() == "none"), "{records:#?}");
}

#[tokio::test]
async fn in_the_quiet_before_the_drain_calls_are_served_and_readiness_is_false() {
    let (world, mut settings) = provider(None).await;
    settings.set("drain", json!({ "quiet": "1s", "deadline": "10s" }));
    let mut process = Process::start(world.dir(), &settings).await;
    process.signal(Signal::TERM);
    let telemetry = Client::new(process.metrics);
    let ready = || async { telemetry.get("/readyz").await.status };
    until("readiness to fail", ready, |status| *status == 503).await;
    assert_eq!(Client::new(process.addr).post(CHAT, &chat("late")).await.status, StatusCode::OK);
    assert_eq!(process.gone().await.code(), Some(0), "{:#?}", process.log());
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_cut_and_counted() {
    let (world, mut settings) = provider(Some(Gate::heads())).await;
    settings.set("drain", json!({ "quiet": "0s", "deadline": "300ms" }));
    let mut process = Process::start(world.dir(), &settings).await;
    let mut tasks = JoinSet::new();
    let client = Client::new(process.addr);
    tasks.spawn(
        async move { client.try_open(Method::POST, CHAT, &[], chat("held").to_string()).await },
    );
    world.provider("the call", |counts| counts.in_flight == 1).await;

    process.signal(Signal::TERM);
    assert!(tasks.join_next().await.unwrap().unwrap().is_err(), "cut, not answered");
    assert_eq!(process.gone().await.code(), Some(0), "{:#?}", process.log());
    assert!(process.log().iter().any(|line| line.contains("cut") && line.contains(":1")));
    world.provider("the hang-up", |counts| counts.aborted == 1).await;
}

/// It was the process that went, and not the caller; and the provider had worked for it.
#[tokio::test]
async fn a_call_that_the_drain_cuts_is_booked_as_draining_and_not_free() {
    let chunks = Gate::chunks();
    for (gate, status, quality) in
        [(Gate::heads(), 503, Quality::Estimated), (chunks.clone(), 200, Quality::Partial)]
    {
        let (world, mut settings) = provider(Some(gate)).await;
        settings.set("drain", json!({ "quiet": "0s", "deadline": "300ms" }));
        let mut process = Process::start(world.dir(), &settings).await;
        let mut tasks = JoinSet::new();
        let client = Client::new(process.addr);
        tasks.spawn(async move {
            let live = client.try_open(Method::POST, CHAT, &[], chat_stream("held").to_string());
            if let Ok(live) = live.await {
                live.finish().await;
            }
        });
        world.provider("the call", |counts| counts.in_flight == 1).await;

        process.signal(Signal::TERM);
        process.gone().await;
        tasks.join_all().await;
        let log = process.log();
        let said = |line: &&String| line.contains("calls were cut") && line.contains("\"calls\":1");
        assert!(log.iter().any(|line| said(&line)), "{log:#?}");
        let reader = Reader::open(&world.dir().join("process-data")).unwrap();
        let record = reader.records(10, None).unwrap().remove(0).record;
        assert_eq!((record.status, record.reason.name()), (status, "draining"), "{record:#?}");
        assert_eq!(record.quality, quality, "{record:#?}");
        assert!(record.tokens.input > 0 && record.cost.total() > 0, "{record:#?}");
    }
}

/// With nothing in flight there is nothing to wait for.
#[tokio::test]
async fn a_connection_that_has_said_nothing_does_not_hold_up_the_drain() {
    let (world, mut settings) = provider(None).await;
    settings.set("drain", json!({ "quiet": "0s", "deadline": "60s" }));
    settings.set("listeners.0.limits", json!({ "header_timeout": "60s" }));
    let mut process = Process::start(world.dir(), &settings).await;
    let silent = TcpStream::connect(process.addr).await.unwrap();
    // Connections are taken in their order: when this is answered, the one before was taken.
    assert_eq!(Client::new(process.addr).get("/health").await.status, StatusCode::OK);

    process.signal(Signal::TERM);
    assert_eq!(process.gone().await.code(), Some(0), "{:#?}", process.log());
    drop(silent);
}

#[tokio::test]
async fn a_second_signal_goes_at_once() {
    let (world, settings) = provider(Some(Gate::heads())).await;
    let mut process = Process::start(world.dir(), &settings).await;
    let mut tasks = JoinSet::new();
    let client = Client::new(process.addr);
    tasks.spawn(
        async move { client.try_open(Method::POST, CHAT, &[], chat("held").to_string()).await },
    );
    world.provider("the call", |counts| counts.in_flight == 1).await;

    process.signal(Signal::TERM);
    process.says("draining").await;
    process.signal(Signal::INT);
    process.gone().await;
    assert!(process.log().iter().any(|line| line.contains("a second signal")));
    assert!(tasks.join_next().await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn every_call_has_a_line_where_an_access_log_is_asked_for_and_none_where_not() {
    for wanted in [true, false] {
        let (world, mut settings) = provider(None).await;
        settings.set("telemetry.logs.access", json!(wanted));
        let mut process = Process::start(world.dir(), &settings).await;
        let client = Client::new(process.addr);
        let reply = client.post(CHAT, &chat("a secret question")).await;

        process.signal(Signal::TERM);
        process.gone().await;
        let log = process.log();
        let lines: Vec<&String> =
            log.iter().filter(|line| line.contains("\"target\":\"access\"")).collect();
        assert_eq!(lines.len(), usize::from(wanted), "{log:#?}");
        assert!(lines.iter().all(|line| line.contains(reply.header("tollgate-record"))));
        assert!(!log.iter().any(|line| line.contains("a secret question")));
    }
}

#[tokio::test]
async fn sighup_brings_a_good_configuration_into_force_and_leaves_a_bad_one() {
    let (world, mut settings) = provider(None).await;
    settings.set("routes.0.match", json!({ "path_prefix": "/v1" }));
    let process = Process::start(world.dir(), &settings).await;
    let client = Client::new(process.addr);
    assert_eq!(client.get("/echo").await.refusal(), (404, "no_route"));

    settings.set("routes.0.match", json!({ "path_prefix": "/echo" }));
    settings.set("telemetry.metrics.address", json!("127.0.0.1:9"));
    fs::write(process.config(), settings.text()).unwrap();
    process.signal(Signal::HUP);
    let said = process.says("the new configuration is in force").await;
    assert!(said.contains("telemetry.metrics.address"), "what needs a restart is named: {said}");
    assert_eq!(client.get("/echo").await.status, StatusCode::OK, "on a connection from before");
    assert_eq!(client.get("/v1/models").await.refusal(), (404, "no_route"));

    fs::write(process.config(), "routes: [{ name: all, upstream: nobody, budget: 1 }]").unwrap();
    process.signal(Signal::HUP);
    let said = process.says("the old one stays").await;
    assert!(said.contains("routes[0].upstream") && said.contains("nobody"), "{said}");
    assert_eq!(client.get("/echo").await.status, StatusCode::OK);
    let metrics = Client::new(process.metrics).get("/metrics").await.text();
    assert!(metrics.contains("reload"), "reloads are counted: {metrics}");
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let (world, mut settings) = provider(None).await;
    settings.set("routes.0.match", json!({ "path_prefix": "/v1" }));
    let process = Process::start(world.dir(), &settings).await;
    settings.set("routes.0.match", json!({ "path_prefix": "/echo" }));
    fs::write(process.config(), settings.text()).unwrap();
    process.says("the new configuration is in force").await;
    assert_eq!(Client::new(process.addr).get("/echo").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let (world, settings) = provider(None).await;
    let process = Process::start_with_soft_limit(world.dir(), &settings, 200).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line}");
    assert_ne!(words[3], "200");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_stops_the_start_with_every_problem() {
    let (world, _) = provider(None).await;
    let file = world.dir().join("bad.yaml");
    fs::write(&file, "upstreams: { a: { endpoints: [{ url: 'ftp://x' }] } }\nroutes: [{ name: r, upstream: b }]\nspeling: 1\n")
        .unwrap();
    let out = Process::command(&["run", "-c", file.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for part in ["upstreams.a.endpoints[0].url", "routes[0].upstream", "speling"] {
        assert!(said.lines().any(|line| line.contains(part)), "{part} is not in:\n{said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_stops_the_start_as_the_environments_fault() {
    let (world, mut settings) = provider(None).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    settings.set("listeners.0.address", json!(address));
    let file = world.dir().join("taken.yaml");
    fs::write(&file, settings.text()).unwrap();
    let out = Process::command(&["run", "-c", file.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains(&address), "{said}");
}

/// Goal: a call whose answer a caller has seen whole is in the ledger, whatever happens.
#[tokio::test]
async fn what_was_finished_before_a_kill_is_in_the_ledger() {
    let (world, settings) = provider(None).await;
    let mut process = Process::start(world.dir(), &settings).await;
    let client = Client::new(process.addr);
    let mut ids = Vec::new();
    for turn in 0..20 {
        let reply = client.post(CHAT, &chat(&format!("question {turn}"))).await;
        ids.push(reply.header("tollgate-record").to_owned());
    }
    process.signal(Signal::KILL);
    process.gone().await;
    let records =
        Reader::open(&world.dir().join("process-data")).unwrap().records(100, None).unwrap();
    let kept: Vec<_> = records.iter().map(|seen| seen.record.id.hyphenated().to_string()).collect();
    for id in ids {
        assert!(kept.contains(&id), "{id} is lost");
    }
    assert_eq!(kept.len(), 20);
}
