//! `routes[].cache.pacing`: a stored stream at its own pace, or at so many tokens per second.

use crate::cache_stage::{CHAT, assert_hit, assert_miss, chat, content, streamed, told_text};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tollgate::standin::Options;
use tollgate_tests::{Live, Reply, World};

/// A world that paces, with the stream of an answer in it; and the stream as it was told.
async fn paced(pacing: Value) -> (World, Value, Reply) {
    let world = content(json!({ "pacing": pacing })).start().await;
    let ask = streamed(&chat(&"one two three four five six seven eight nine ten ".repeat(4)));
    let first = world.client.post(CHAT, &ask).await;
    assert_miss(&first);
    (world, ask, first)
}

/// How long a caller waited for all of an answer.
async fn timed(world: &World, ask: &Value) -> (Reply, Duration) {
    let began = Instant::now();
    let reply = world.client.post(CHAT, ask).await;
    assert_hit(&reply);
    let took = Instant::now().duration_since(began);
    (reply, took)
}

#[tokio::test]
async fn a_stored_stream_comes_at_its_pace_and_the_whole_answer_at_once() {
    // However many tokens there are: it is to take this long, and no longer.
    let (world, ask, first) = paced(json!({ "tokens_per_second": 1, "max": "900ms" })).await;
    let (reply, took) = timed(&world, &ask).await;
    assert_eq!(reply.body, first.body);
    assert!(took >= Duration::from_millis(450), "{took:?}");
    let (whole, soon) = timed(&world, &chat_of(&ask)).await;
    assert_eq!(
        whole.json().pointer("/choices/0/message/content").unwrap().as_str().unwrap(),
        told_text(&first.text())
    );
    assert!(soon < took, "{soon:?} {took:?}");
}

fn chat_of(ask: &Value) -> Value {
    let mut whole = ask.clone();
    whole.as_object_mut().unwrap().remove("stream");
    whole
}

#[tokio::test]
async fn the_first_of_a_paced_stream_comes_at_once_and_who_leaves_ends_it() {
    let (world, ask, _) = paced(json!({ "tokens_per_second": 1, "max": "10m" })).await;
    let mut live: Live = world.client.stream(CHAT, &ask).await;
    let first = live.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: "), "{first:?}");
    drop(live);
    // Nothing is left that would have to be waited for.
    let left = world.app.drain_within(Duration::ZERO, Duration::from_secs(20)).await;
    assert_eq!(left, 0);
}

/// Goal: who is given a stream at a pace has all of it before the process ends.
#[tokio::test]
async fn a_paced_stream_goes_out_at_once_when_the_process_goes_down() {
    let (world, ask, first) = paced(json!({ "tokens_per_second": 1, "max": "10m" })).await;
    let mut live: Live = world.client.stream(CHAT, &ask).await;
    let mut told = live.next().await.unwrap().unwrap().to_vec();
    let rest = async {
        while let Some(Ok(piece)) = live.next().await {
            told.extend_from_slice(&piece);
        }
        told
    };
    let drain = world.app.drain_within(Duration::ZERO, Duration::from_secs(20));
    let (told, cut) = tokio::join!(rest, drain);
    assert_eq!(told, first.body);
    assert_eq!(cut, 0);
}

#[tokio::test]
async fn a_stream_is_kept_with_the_times_at_which_it_came_and_given_so() {
    let standin = Options { token_delay: Duration::from_millis(5), ..Options::default() };
    let world = content(json!({ "pacing": "original" })).standin(standin).start().await;
    let ask = streamed(&chat("one two three four five six seven eight nine ten"));
    let first = world.client.post(CHAT, &ask).await;
    assert_miss(&first);
    let (reply, took) = timed(&world, &ask).await;
    assert_eq!(reply.body, first.body);
    // Some of it comes in one piece perhaps, but not all.
    assert!(took >= Duration::from_millis(20), "{took:?}");
}
