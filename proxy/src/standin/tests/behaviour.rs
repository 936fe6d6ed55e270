//! Gates, faults, limits, hang-ups and what is counted of them.

use super::*;
use serde_json::json;
use std::io::Read as _;

const STREAM: fn() -> Value = || json!({"stream": true});

#[tokio::test]
async fn a_gate_holds_the_head_and_then_each_event_until_it_is_released() {
    let gate = Gate::heads_and_chunks();
    let world = World::new(Options { gate: Some(gate.clone()), ..Options::default() }).await;
    let call =
        async { collect(world.send(post(CHAT, &chat("m", "a", &STREAM()))).await.unwrap()).await };
    let test = async {
        let counts = world.standin.wait_for_in_flight(1).await;
        assert_eq!((counts.calls, counts.chunks), (1, 0));
        gate.release(1);
        gate.release_chunks(2);
        let counts = world.standin.wait_for_chunks(2).await;
        assert_eq!((counts.chunks, counts.in_flight), (2, 1));
        gate.open();
    };
    let (got, ()) = tokio::join!(call, test);
    assert_eq!(got.events().last().unwrap().1, "[DONE]");
    assert_eq!(world.standin.counts().finished, 1);
    world.standin.set_gate(None);
    assert_eq!(world.post(CHAT, &chat("m", "a", &json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_caller_who_leaves_is_counted_before_the_head_and_in_the_middle() {
    let gate = Gate::heads();
    let world = World::new(Options { gate: Some(gate), ..Options::default() }).await;
    let mut sender = world.connect().await;
    let left = sender.send_request(post(CHAT, &chat("m", "a", &json!({}))));
    tokio::select! {
        _ = left => panic!("the gate is closed"),
        _ = world.standin.wait_for_in_flight(1) => {}
    }
    drop(sender);
    assert_eq!(world.standin.wait_for_aborted(1).await.in_flight, 0);

    let gate = Gate::chunks();
    gate.release_chunks(3);
    world.standin.set_gate(Some(gate));
    let response = world.send(post(CHAT, &chat("m", "a", &STREAM()))).await.unwrap();
    world.standin.wait_for_chunks(3).await;
    drop(response);
    let counts = world.standin.wait_for_aborted(2).await;
    assert_eq!((counts.in_flight, counts.finished), (0, 0));
    assert_eq!(counts.billed, Tokens { input: 1, output: 2 }, "what was handed on is billed");
    assert_eq!(counts.told, Tokens::default());
}

#[tokio::test]
async fn a_call_above_the_limit_fails_loudly() {
    let gate = Gate::heads();
    let options = Options {
        concurrency_limit: Some(1),
        abort_grace: Duration::from_millis(1),
        gate: Some(gate.clone()),
        ..Options::default()
    };
    let world = World::new(options).await;
    let body = chat("m", "a", &json!({}));
    let held = world.post(CHAT, &body);
    let test = async {
        world.standin.wait_for_in_flight(1).await;
        let loud = world.post(CHAT, &body).await;
        assert_eq!(loud.status, StatusCode::INTERNAL_SERVER_ERROR);
        let message = loud.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("limit exceeded"), "{message}");
        gate.open();
    };
    let (held, ()) = tokio::join!(held, test);
    assert_eq!(held.status, 200);
    let counts = world.standin.counts();
    assert_eq!((counts.limit_exceeded, counts.max_in_flight, counts.calls), (1, 1, 2));
}

#[tokio::test]
async fn a_hang_up_explains_a_call_that_came_before_it_was_seen() {
    let gate = Gate::heads();
    let options = Options {
        concurrency_limit: Some(1),
        abort_grace: Duration::from_secs(3600),
        gate: Some(gate.clone()),
        ..Options::default()
    };
    let world = World::new(options).await;
    let body = chat("m", "a", &json!({}));
    let mut leaver = world.connect().await;
    let left = leaver.send_request(post(CHAT, &body));
    tokio::select! {
        _ = left => panic!("the gate is closed"),
        _ = world.standin.wait_for_in_flight(1) => {}
    }
    let next = world.post(CHAT, &body);
    let test = async {
        world.standin.wait_for_calls(2).await;
        drop(leaver);
        world.standin.wait_for_aborted(1).await;
        gate.open();
    };
    let (next, ()) = tokio::join!(next, test);
    assert_eq!(next.status, 200);
    assert_eq!(world.standin.counts().limit_exceeded, 0);
}

#[tokio::test]
async fn errors_are_shaped_as_the_dialect_shapes_them() {
    let world = World::new(Options::default()).await;
    let got = world.post(CHAT, &chat("fail-429-final", "a", &json!({}))).await;
    assert_eq!(got.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(got.headers["x-should-retry"], "false");
    assert_eq!(got.headers["retry-after-ms"], "20");
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
    let got = world.post(MESSAGES, &chat("fail-529", "a", &STREAM())).await;
    assert_eq!(got.status.as_u16(), 529);
    assert_eq!(got.json()["error"]["type"], "overloaded_error");
    assert_eq!(got.json()["request_id"], got.headers["request-id"].to_str().unwrap());
    let got = world.post(MESSAGES, &json!({"model": "m", "messages": []})).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert!(got.json()["error"]["message"].as_str().unwrap().contains("max_tokens"));
    let got = world.get("/nowhere", &[]).await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    assert_eq!(world.standin.counts().failed, 4);
}

#[tokio::test]
async fn once_is_once_per_question_and_next_is_for_whoever_comes() {
    let world = World::new(Options::default()).await;
    let ask = async |content: &str| {
        world.post(CHAT, &chat("m+fail-500-once", content, &json!({}))).await.status.as_u16()
    };
    assert_eq!([ask("a").await, ask("a").await, ask("b").await], [500, 200, 500]);
    world.standin.fault_next(Fault::Fail(StatusCode::BAD_GATEWAY), 2);
    assert_eq!(ask("a").await, 502);
    assert_eq!([ask("a").await, ask("a").await], [502, 200]);
}

#[tokio::test]
async fn cuts_are_seen_as_cuts_and_never_as_ends() {
    let world = World::new(Options::default()).await;
    let ask = async |fault: &str, more: &Value| {
        world.post(CHAT, &chat(&format!("m+{fault}"), "a", more)).await
    };
    let got = ask("cut-midstream", &STREAM()).await;
    assert!(got.cut);
    assert_eq!(got.events().len(), 3);
    let got = ask("cut-midstream", &json!({})).await;
    assert!(got.cut && serde_json::from_slice::<Value>(&got.body).is_err());
    let got = ask("cut-length", &json!({})).await;
    assert!(got.cut);
    assert_eq!(got.headers["content-length"], (got.body.len() + 100).to_string());
    let reset = world.send(post(CHAT, &chat("reset", "a", &json!({})))).await;
    assert!(reset.is_err());
    assert_eq!(world.standin.counts().failed, 4);
}

#[tokio::test]
async fn answers_that_end_cleanly_can_still_be_bad() {
    let world = World::new(Options::default()).await;
    let ask = async |path: &str, fault: &str, more: &Value| {
        world.post(path, &chat(&format!("m+{fault}"), "a", more)).await
    };
    let got = ask(CHAT, "error-event", &STREAM()).await;
    assert!(!got.cut && got.events().last().unwrap().1.starts_with(r#"{"error":"#));
    let got = ask(MESSAGES, "error-event", &STREAM()).await;
    assert_eq!(got.events().last().unwrap().0, "error");
    let got = ask(CHAT, "error-event", &json!({})).await;
    assert!(got.status == 200 && got.json()["error"].is_object());
    let got = ask(CHAT, "unfinished", &STREAM()).await;
    assert!(!String::from_utf8_lossy(&got.body).contains("DONE"));
    let got = ask(MESSAGES, "unfinished", &STREAM()).await;
    assert_eq!(got.events().last().unwrap().0, "content_block_stop");
    let got = ask(CHAT, "bad-json", &json!({})).await;
    assert!(serde_json::from_slice::<Value>(&got.body).is_err());
    assert_eq!(world.standin.counts().failed, 6);
    let got = ask(CHAT, "content-filter", &json!({})).await;
    assert_eq!(got.json()["choices"][0]["finish_reason"], "content_filter");
    let got = ask(CHAT, "empty", &json!({})).await;
    assert_eq!(got.json()["choices"][0]["message"]["content"], "");
    let got = ask(CHAT, "no-usage", &json!({})).await;
    assert_eq!(got.json().get("usage"), None);
}

#[tokio::test]
async fn a_hanging_or_stalling_call_ends_only_by_its_caller() {
    let world = World::new(Options::default()).await;
    let mut sender = world.connect().await;
    let hanging = sender.send_request(post(CHAT, &chat("hang", "a", &json!({}))));
    tokio::select! {
        _ = hanging => panic!("it hangs"),
        _ = world.standin.wait_for_in_flight(1) => {}
    }
    drop(sender);
    world.standin.wait_for_aborted(1).await;
    let stalled = world.send(post(CHAT, &chat("stall", "a", &STREAM()))).await.unwrap();
    world.standin.wait_for_chunks(3).await;
    assert_eq!(world.standin.counts().in_flight, 1);
    drop(stalled);
    assert_eq!(world.standin.wait_for_aborted(2).await.in_flight, 0);
}

fn decoded(got: &Got) -> Vec<u8> {
    let mut plain = Vec::new();
    let body: &[u8] = &got.body;
    match got.headers["content-encoding"].to_str().unwrap() {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).unwrap(),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut plain).unwrap(),
        other => panic!("{other} was not offered"),
    };
    plain
}

#[tokio::test]
async fn an_encoded_answer_is_the_plain_one_encoded() {
    for encoding in [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd] {
        let options = Options { encodings: vec![encoding], ..Options::default() };
        let world = World::new(options).await;
        for more in [json!({}), STREAM()] {
            let mut request = post(MESSAGES, &chat("m", "a", &more));
            let accept = format!("identity;q=0.5, {};q=0.9", encoding.name());
            request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
            let got = collect(world.send(request).await.unwrap()).await;
            let text = String::from_utf8(decoded(&got)).unwrap();
            let plain = world.post(MESSAGES, &chat("m", "a", &more)).await;
            assert!(!plain.headers.contains_key("content-encoding"));
            // Ids differ by the number of the call, in their last digit.
            let plain = String::from_utf8(plain.body.to_vec()).unwrap();
            assert_eq!(text.len(), plain.len());
            assert_eq!(text.split("\"role\"").last(), plain.split("\"role\"").last());
        }
    }
}

#[test]
fn an_encoding_is_chosen_only_if_the_caller_lists_it() {
    let all = [Encoding::Zstd, Encoding::Gzip];
    assert_eq!(Encoding::choose(&all, "gzip, br"), Some(Encoding::Gzip));
    assert_eq!(Encoding::choose(&all, "zstd;q=0, GZIP;q=1"), Some(Encoding::Gzip));
    assert_eq!(Encoding::choose(&all, "br"), None);
    assert_eq!(Encoding::choose(&[], "gzip"), None);
}

#[tokio::test]
async fn old_servers_refuse_stream_options_and_new_ones_do_not() {
    let options = Options { refuse_stream_options: true, ..Options::default() };
    let world = World::new(options).await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let got = world.post(CHAT, &chat("m", "a", &more)).await;
    assert_eq!(got.status, StatusCode::BAD_REQUEST);
    assert_eq!(got.json()["error"]["param"], "stream_options");
    assert_eq!(world.post(CHAT, &chat("m", "a", &STREAM())).await.status, 200);
}

#[tokio::test]
async fn the_last_requests_are_kept_as_they_came_and_no_more_of_them() {
    let world = World::new(Options { requests_max: 2, ..Options::default() }).await;
    for target in ["/echo?1", "/echo?2", "/echo?3"] {
        world.get(target, &[("x-a", "b")]).await;
    }
    world.get("/health", &[]).await;
    let kept = world.standin.last_requests();
    let targets: Vec<&str> = kept.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/echo?2", "/echo?3"]);
    assert_eq!(kept[0].header("x-a"), Some("b"));
    assert_eq!(world.standin.counts().calls, 3);
}

#[tokio::test]
async fn a_static_page_has_the_headers_of_its_query_and_knows_its_etag() {
    let world = World::new(Options::default()).await;
    let target = "/static/a?cache-control=max-age%3D60&etag=%22x%22&vary=accept&bytes=7";
    let got = world.get(target, &[]).await;
    assert_eq!((got.status, got.body.as_ref()), (StatusCode::OK, b"static ".as_slice()));
    assert_eq!(got.headers["cache-control"], "max-age=60");
    assert_eq!(got.headers["vary"], "accept");
    let got = world.get(target, &[("if-none-match", "\"x\"")]).await;
    assert_eq!((got.status, got.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let request = Request::head(target).body(Full::default()).unwrap();
    let got = collect(world.send(request).await.unwrap()).await;
    assert_eq!((got.headers["content-length"].as_ref(), got.body.len()), (b"7".as_slice(), 0));
    assert_eq!(world.get("/static/a?status=503", &[]).await.status, 503);
    assert_eq!(world.standin.counts().finished, 3);
}

#[tokio::test]
async fn an_echo_says_what_arrived() {
    let world = World::new(Options::default()).await;
    let request = Request::put("/echo?q=1").header("x-a", "b").body(Full::from("hello")).unwrap();
    let said = collect(world.send(request).await.unwrap()).await.json();
    assert_eq!((&said["method"], &said["body"]), (&json!("PUT"), &json!("hello")));
    assert_eq!(said["target"], "/echo?q=1");
    assert!(said["headers"].as_array().unwrap().contains(&json!(["x-a", "b"])));
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let world = World::new(Options { body_max: 10, ..Options::default() }).await;
    let got = world.post(CHAT, &chat("m", "a", &json!({}))).await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_spoken() {
    let world = World::new(Options::default()).await;
    let socket = TcpStream::connect(world.standin.addr()).await.unwrap();
    let tracker = OnTracker(world.tasks.clone());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(tracker, TokioIo::new(socket)).await.unwrap();
    world.tasks.spawn(connection);
    let mut request = post(CHAT, &chat("m", "a", &STREAM()));
    *request.uri_mut() = format!("{}{CHAT}", world.standin.url()).parse().unwrap();
    let got = collect(sender.send_request(request).await.unwrap()).await;
    assert_eq!(got.events().last().unwrap().1, "[DONE]");
    assert_eq!(world.standin.last_requests()[0].version, http::Version::HTTP_2);
}

#[tokio::test]
async fn at_the_stop_connections_are_cut_and_every_task_ends() {
    let world = World::new(Options { gate: Some(Gate::heads()), ..Options::default() }).await;
    let held = world.send(post(CHAT, &chat("m", "a", &json!({}))));
    let test = async {
        world.standin.wait_for_in_flight(1).await;
        world.stop.cancel();
    };
    let (held, ()) = tokio::join!(held, test);
    assert!(held.is_err());
    world.tasks.close();
    world.tasks.wait().await;
}
