//! What a call used and cost: the ledger says what the provider bills, to the token and
//! to the last digit of the money.

use crate::ask::{CHAT, MESSAGES, acquaint, cached, chat, input_and_output, records_of, streamed};
use serde_json::{Value, json};
use tollgate_ledger::{CacheOutcome, Quality, Reason};
use tollgate_tests::{
    World,
    standin::{Encoding, Fault, Gate, Options},
};

const MODEL: &str = "gpt-4o-mini";
/// The built-in book, in pico-dollars a token: 0.15, 0.075 and 0.60 dollars a million.
const INPUT: i64 = 150_000;
const CACHED_INPUT: i64 = 75_000;
const OUTPUT: i64 = 600_000;

/// Every call that is billed by tokens; streams ask for their usage themselves, so that
/// the caller's encoding is left alone.
fn every_call() -> Vec<(&'static str, Value)> {
    let text = "how many coins does the gate take from a traveller?";
    let mut calls = vec![(
        "/v1/embeddings",
        json!({ "model": "text-embedding-3-small", "input": [text, "and back?"] }),
    )];
    for stream in [false, true] {
        let mut asks = vec![
            (CHAT, chat(MODEL, text)),
            ("/v1/completions", json!({ "model": "gpt-3.5-turbo-instruct", "prompt": text })),
        ];
        for (_, ask) in asks.iter_mut().filter(|_| stream) {
            ask["stream_options"] = json!({ "include_usage": true });
        }
        asks.push(("/v1/responses", json!({ "model": MODEL, "input": text })));
        let mut ask = chat("claude-sonnet-4-5", text);
        ask["max_tokens"] = 100.into();
        asks.push((MESSAGES, ask));
        for (path, mut ask) in asks {
            ask["stream"] = stream.into();
            calls.push((path, ask));
        }
    }
    calls
}

async fn check_encoding(encodings: Vec<Encoding>, name: &str) {
    let world = World::builder().standin(Options { encodings, ..Options::default() }).start().await;
    let mut known = Vec::new();
    for (path, ask) in every_call() {
        for fault in ["", "cached-usage"] {
            let before = world.standin.counts().billed;
            let headers = [("accept-encoding", name), ("x-standin-fault", fault)];

            let reply = world.client.post_with(path, &headers, &ask).await;

            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            assert_eq!(reply.header("content-encoding"), name, "{path}: {ask}");
            let billed = world.standin.counts().billed;
            let wanted = (billed.input - before.input, billed.output - before.output);
            known.push(reply);
            let records = records_of(&world, &known.iter().collect::<Vec<_>>()).await;
            let record = records.last().unwrap();
            assert_eq!(record.record.quality, Quality::Reported, "{path} {name} {fault}: {ask}");
            assert_eq!(input_and_output(record), wanted, "{path} {name} {fault}: {ask}");
            assert!(
                wanted.0 > 0 && (wanted.1 > 0 || path == "/v1/embeddings"),
                "{path}: {wanted:?}"
            );
        }
    }
}

#[tokio::test]
async fn tokens_are_those_the_provider_billed() {
    check_encoding(vec![], "").await;
}

#[tokio::test]
async fn tokens_of_gzipped_answers_are_those_the_provider_billed() {
    check_encoding(vec![Encoding::Gzip], "gzip").await;
}

#[tokio::test]
async fn tokens_of_brotli_answers_are_those_the_provider_billed() {
    check_encoding(vec![Encoding::Brotli], "br").await;
}

#[tokio::test]
async fn tokens_of_zstd_answers_are_those_the_provider_billed() {
    check_encoding(vec![Encoding::Zstd], "zstd").await;
}

#[tokio::test]
async fn cached_written_and_reasoning_tokens_are_kept_apart_and_counted_once() {
    let world = World::new().await;
    let text = "x".repeat(400);
    let mut ask = chat("claude-sonnet-4-5+cached-usage", &text);
    ask["max_tokens"] = 100.into();

    let anthropic = world.client.post(MESSAGES, &ask).await;
    let openai = world.client.post(CHAT, &chat("gpt-4o-mini+cached-usage", &text)).await;

    let billed = world.standin.counts().billed;
    let records = records_of(&world, &[&anthropic, &openai]).await;
    let [anthropic, openai] = [&records[0], &records[1]];
    let tokens = anthropic.record.tokens;
    assert_eq!((tokens.input, tokens.cached_input, tokens.cache_write), (38, 50, 12));
    assert_eq!((openai.record.tokens.input, openai.record.tokens.cached_input), (50, 50));
    assert_eq!((openai.record.tokens.output, openai.record.tokens.reasoning), (6, 6));
    let sums = [anthropic, openai].map(input_and_output);
    assert_eq!(sums.iter().map(|sum| sum.0).sum::<u64>(), billed.input);
    assert_eq!(sums.iter().map(|sum| sum.1).sum::<u64>(), billed.output);
    // Claude: 3, 0.30 and 3.75 dollars a million in, 15 out.
    let cost = anthropic.record.cost;
    assert_eq!(
        (cost.input, cost.cached_input, cost.cache_write),
        (38 * 3_000_000, 50 * 300_000, 12 * 3_750_000)
    );
    assert_eq!(cost.output, 12 * 15_000_000);
    let cost = openai.record.cost;
    assert_eq!(
        (cost.input, cost.cached_input, cost.output),
        (50 * INPUT, 50 * CACHED_INPUT, 12 * OUTPUT)
    );
}

#[tokio::test]
async fn stream_usage_is_asked_for_upstream_and_hidden_from_a_caller_that_did_not_ask() {
    let world = World::new().await;
    let mut asks_itself = streamed(MODEL, "one");
    asks_itself["stream_options"] = json!({ "include_usage": true });

    let hidden = world.client.post(CHAT, &streamed(MODEL, "one")).await.text();
    let shown = world.client.post(CHAT, &asks_itself).await.text();

    for request in world.standin.last_requests() {
        let sent: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(sent["stream_options"], json!({ "include_usage": true }));
    }
    assert!(!hidden.contains("prompt_tokens"), "{hidden}");
    assert!(!hidden.contains("\"choices\":[]"), "{hidden}");
    assert!(hidden.trim_end().ends_with("data: [DONE]"), "{hidden}");
    assert!(shown.contains("prompt_tokens"), "{shown}");
    let records = world.records().await;
    assert_eq!(records[0].record.tokens, records[1].record.tokens);
    assert_eq!(records[0].record.quality, Quality::Reported);
}

#[tokio::test]
async fn an_upstream_that_refuses_stream_options_is_asked_again_without_and_remembered() {
    let options = Options { refuse_stream_options: true, ..Options::default() };
    let world = World::builder().standin(options).start().await;

    let first = world.client.post(CHAT, &streamed(MODEL, "one")).await;
    let calls = world.standin.counts().calls;
    let second = world.client.post(CHAT, &streamed(MODEL, "two")).await;

    assert_eq!((first.status, second.status), (http::StatusCode::OK, http::StatusCode::OK));
    assert_eq!((calls, world.standin.counts().calls), (2, 3));
    let records = world.records().await;
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((record.record.status, record.record.quality), (200, Quality::Estimated));
    }
}

#[tokio::test]
async fn a_400_for_another_reason_does_not_end_asking_for_usage() {
    let world = World::new().await;

    let refused = world.client.post(CHAT, &streamed("gpt-4o-mini+fail-400", "one")).await;
    let next = world.client.post(CHAT, &streamed(MODEL, "two")).await;

    assert_eq!((refused.status.as_u16(), next.status.as_u16()), (400, 200));
    let records = records_of(&world, &[&refused, &next]).await;
    assert_eq!(records[1].record.quality, Quality::Reported);
}

#[tokio::test]
async fn a_price_of_the_built_in_book_is_charged_to_the_last_digit() {
    let world = World::new().await;

    world.client.post(CHAT, &chat(MODEL, &"a".repeat(4001))).await;

    let record = world.record().await.record;
    assert_eq!((record.tokens.input, record.tokens.output), (1001, 12));
    assert_eq!((record.cost.input, record.cost.output), (1001 * INPUT, 12 * OUTPUT));
    assert_eq!(record.cost.total(), 157_350_000);
    assert!(!record.unpriced);
}

#[tokio::test]
async fn a_price_of_an_own_file_is_the_one_in_force_when_the_call_began() {
    let builder = World::builder();
    let file = builder.dir().join("prices.csv");
    let rows = "model,effective_from,per,input,output\n\
                house-7b,2020-01-01,1M,9,9\n\
                house-7b,2024-01-01,1M,0.000001,0.01\n\
                house-7b,2999-01-01,1M,5,5\n\
                gpt-4o-mini,2999-01-01,1M,5,5\n\
                by-call,,request,0.002,\n";
    std::fs::write(&file, rows).unwrap();
    let world = builder
        .config(move |settings| {
            settings
                .set("prices", json!({ "book": "builtin", "files": [file], "currency": "USD" }));
        })
        .start()
        .await;

    let mut replies = Vec::new();
    for model in ["house-7b", MODEL, "by-call"] {
        replies.push(world.client.post(CHAT, &chat(model, "twelve bytes")).await);
    }

    let records = records_of(&world, &replies.iter().collect::<Vec<_>>()).await;
    let costs: Vec<_> = records.iter().map(|record| record.record.cost).collect();
    assert_eq!((costs[0].input, costs[0].output), (3, 120_000));
    assert_eq!((costs[1].input, costs[1].output), (3 * INPUT, 12 * OUTPUT));
    assert_eq!((costs[2].request, costs[2].total()), (2_000_000_000, 2_000_000_000));
}

#[tokio::test]
async fn a_model_without_a_price_is_unpriced_and_not_free() {
    let world = World::new().await;

    world.client.post(CHAT, &chat("nobody-knows-me", "hello")).await;

    let record = world.record().await;
    assert!(record.record.unpriced);
    assert_eq!(input_and_output(&record), (2, 12));
    let shown = serde_json::to_value(&record).unwrap();
    assert_eq!(shown["cost"], Value::Null);
    assert_eq!(world.metric("tollgate_unpriced_calls_total"), Some(1.0));
}

#[tokio::test]
async fn an_answer_without_usage_is_estimated_and_said_to_be() {
    let world = World::new().await;
    for ask in [chat("gpt-4o-mini+no-usage", "hello"), streamed("gpt-4o-mini+no-usage", "hello")] {
        world.client.post(CHAT, &ask).await;
    }

    for record in world.records().await {
        assert_eq!(record.record.quality, Quality::Estimated);
        let (input, output) = input_and_output(&record);
        assert!(input > 0 && output > 0, "{record:?}");
        assert!(record.record.cost.total() > 0, "{record:?}");
    }
    assert_eq!(world.metric("tollgate_estimated_calls_total"), Some(2.0));
}

#[tokio::test]
async fn a_stream_that_the_provider_cuts_is_billed_for_what_came() {
    let world = World::new().await;
    world.standin.fault_next(Fault::CutMidstream, 1);

    let reply = world.client.post(CHAT, &streamed(MODEL, "hello")).await;

    assert!(reply.cut);
    let record = world.record().await;
    assert_eq!(record.record.quality, Quality::Partial);
    assert_eq!((record.record.status, record.record.reason), (200, Reason::UpstreamReset));
    let billed = world.standin.counts().billed;
    let (input, output) = input_and_output(&record);
    assert!(input > 0 && output >= billed.output && billed.output > 0, "{record:?} {billed:?}");
}

#[tokio::test]
async fn a_caller_that_hangs_up_mid_stream_pays_for_what_came_and_leaves_nothing_behind() {
    let gate = Gate::chunks();
    let options = Options { gate: Some(gate.clone()), ..Options::default() };
    let world = World::builder().standin(options).config(cached).start().await;

    let mut live = world.client.stream(CHAT, &streamed(MODEL, "hello")).await;
    gate.release_chunks(4);
    world.standin.wait_for_chunks(4).await;
    live.read_until("\"content\":\"").await;
    drop(live);
    world.provider("a hang-up", |counts| counts.aborted == 1).await;

    let record = &world.records_when(1).await[0];
    assert_eq!(
        (record.record.quality, record.record.reason),
        (Quality::Partial, Reason::DownstreamGone)
    );
    let (input, output) = input_and_output(record);
    assert!(input > 0 && (1..=4).contains(&output), "{record:?}");
    assert_eq!(world.metric("request_inflight"), Some(0.0));
    gate.open();
    let again = world.client.post(CHAT, &streamed(MODEL, "hello")).await;
    assert!(again.header("cache-status").contains("fwd=miss"), "{again:?}");
}

#[tokio::test]
async fn a_hit_costs_nothing_and_says_what_it_saved() {
    let world = World::builder().config(cached).start().await;
    let mut replies = Vec::new();
    for (ask, other) in [
        (chat(MODEL, "one"), chat(MODEL, "one")),
        (streamed(MODEL, "two"), streamed(MODEL, "two")),
        // In the other form.
        (chat(MODEL, "three"), streamed(MODEL, "three")),
    ] {
        let calls = world.standin.counts().calls;

        replies.push(world.client.post(CHAT, &ask).await);
        replies.push(world.client.post(CHAT, &other).await);

        let status = replies.last().unwrap().header("cache-status").to_owned();
        assert!(status.starts_with("tollgate; hit"), "{status}");
        assert_eq!(world.standin.counts().calls, calls + 1);
        let mut records = records_of(&world, &replies.iter().collect::<Vec<_>>()).await;
        let hit = records.pop().unwrap().record;
        let miss = records.pop().unwrap().record;
        assert_eq!((miss.outcome, hit.outcome), (CacheOutcome::Miss, CacheOutcome::Hit));
        assert_eq!(hit.cost.total(), 0);
        assert_eq!(i128::from(hit.saved_pico), miss.cost.total());
        assert!(miss.cost.total() > 0 && miss.saved_pico == 0);
        assert_eq!(hit.tokens, miss.tokens);
    }
}

#[tokio::test]
async fn a_follower_costs_nothing_and_says_what_it_saved() {
    for ask in [chat(MODEL, "one"), streamed(MODEL, "one")] {
        let gate = Gate::chunks();
        let options = Options { gate: Some(gate.clone()), ..Options::default() };
        let world = World::builder().standin(options).config(cached).start().await;
        let first = acquaint(&world, &gate).await;

        let leader = world.client.stream(CHAT, &ask).await;
        let follower = world.client.stream(CHAT, &ask).await;
        gate.open();
        let (leader, follower) = (leader.finish().await, follower.finish().await);

        assert_eq!(leader.body, follower.body);
        assert_eq!(world.standin.counts().calls, 2);
        let records = records_of(&world, &[&first, &leader, &follower]).await;
        let [miss, follower] = [&records[1].record, &records[2].record];
        assert_eq!((miss.outcome, follower.outcome), (CacheOutcome::Miss, CacheOutcome::Collapsed));
        assert_eq!(follower.cost.total(), 0);
        assert_eq!(i128::from(follower.saved_pico), miss.cost.total());
        assert!(miss.cost.total() > 0);
    }
}

#[tokio::test]
async fn an_answer_that_is_an_error_bills_nothing() {
    let world = World::new().await;
    for model in ["gpt-4o-mini+fail-500", "gpt-4o-mini+fail-429", "gpt-4o-mini+fail-404"] {
        world.client.post(CHAT, &chat(model, "hello")).await;
        world.client.post(CHAT, &streamed(model, "hello")).await;
    }

    let records = world.records().await;

    assert_eq!(records.len(), 6);
    for record in records {
        assert_eq!(input_and_output(&record), (0, 0), "{record:?}");
        assert_eq!((record.record.cost.total(), record.record.unpriced), (0, false));
        assert_eq!((record.record.quality, record.record.reason), (Quality::Absent, Reason::None));
    }
}
