//! Replays at a pace, in a time of their own.

use super::*;
use crate::relay::Score;
use std::{future::poll_fn, time::Duration};
use tokio::time::Instant;

const STREAM: &[u8] = b"data: a\n\ndata: bb\r\n\r\n: c\n\nevent: d\ndata: d\n\n";

fn stream() -> Bytes {
    Bytes::from_static(STREAM)
}

/// Each part, and how many milliseconds after the start it came.
async fn played(mut replay: Replay) -> Vec<(Bytes, u128)> {
    let began = Instant::now();
    let mut parts = Vec::new();
    while let Some(part) = poll_fn(|cx| replay.poll_frame(cx)).await {
        parts.push((part, Instant::now().saturating_duration_since(began).as_millis()));
    }
    parts
}

fn made(parts: usize) -> Replay {
    Replay::made(vec![b"data: x\n\n".to_vec(); parts], false)
}

async fn times(replay: Replay, score: Score) -> Vec<u128> {
    let parts = played(replay.paced(Some(Pace::new(score)))).await;
    parts.into_iter().map(|(_, at)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn without_a_pace_all_of_it_comes_at_once() {
    let parts = played(made(3).paced(None)).await;
    assert_eq!(parts.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn parts_come_as_they_came_and_the_first_at_once() {
    let score = || Score::original(&[900, 10, 0, 200], Duration::from_secs(60));
    assert_eq!(times(made(4), score()).await, [0, 10, 10, 210]);
    // More parts than were timed come with the last.
    assert_eq!(times(made(5), score()).await, [0, 10, 10, 210, 210]);
}

#[tokio::test(start_paused = true)]
async fn what_would_take_longer_than_it_may_goes_that_much_faster() {
    let score = Score::original(&[0, 1000, 3000, 6000], Duration::from_millis(100));
    assert_eq!(times(made(4), score).await, [0, 10, 40, 100]);
    let score = Score::original(&[0, u32::MAX, u32::MAX], Duration::from_secs(1));
    assert_eq!(times(made(3), score).await, [0, 500, 1000]);
    let score = Score::even(1000, 1, 90, Duration::from_secs(1));
    assert_eq!(times(made(10), score).await.last(), Some(&900));
}

#[tokio::test(start_paused = true)]
async fn so_many_tokens_come_each_second() {
    // 50 tokens in ten parts at 25 a second: two seconds, of which each part begins a tenth later.
    let score = Score::even(50, 25, 90, Duration::from_secs(60));
    let times = times(made(10), score).await;
    assert_eq!(times, [0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_slowly_is_not_slowed_down_further() {
    let score = Score::original(&[0, 100, 100, 100], Duration::from_secs(60));
    let mut replay = made(4).paced(Some(Pace::new(score)));
    let began = Instant::now();
    poll_fn(|cx| replay.poll_frame(cx)).await;
    tokio::time::advance(Duration::from_millis(250)).await;
    for at in [250, 250, 300] {
        poll_fn(|cx| replay.poll_frame(cx)).await;
        assert_eq!(Instant::now().saturating_duration_since(began).as_millis(), at);
    }
}

#[test]
fn a_stream_is_taken_apart_where_its_events_and_lines_end() {
    let units = |stream: Bytes, framing| {
        let mut frames = Frames::Units(stream, framing);
        std::iter::from_fn(|| frames.next()).collect::<Vec<_>>()
    };
    let events = units(stream(), Framing::Events);
    assert_eq!(
        events,
        [&b"data: a\n\n"[..], b"data: bb\r\n\r\n", b": c\n\n", b"event: d\ndata: d\n\n"]
    );
    assert_eq!(count_units(STREAM, Framing::Events), 4);
    let lines = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n{}");
    assert_eq!(units(lines, Framing::Lines), [&b"{\"a\":1}\n"[..], b"{\"b\":2}\n", b"{}"]);
    for framing in [Framing::Whole, Framing::Array] {
        assert_eq!(units(stream(), framing), [stream()]);
    }
    for framing in [Framing::Events, Framing::Lines] {
        assert_eq!(units(Bytes::from_static(b"data: cut"), framing).len(), 1);
        assert_eq!((units(Bytes::new(), framing).len(), count_units(b"", framing)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_did_not_ask_for_usage_gets_none_of_it_at_any_pace() {
    let usage = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let text = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let stream = Bytes::from([&text[..], usage, b"data: [DONE]\n\n"].concat());
    let score = Score::even(10, 10, stream.len().try_into().unwrap(), Duration::from_secs(60));
    let replay = Replay::by_units(stream, Framing::Events, true).paced(Some(Pace::new(score)));
    let parts = played(replay).await;
    let all: Vec<u8> = parts.iter().flat_map(|(part, _)| part.to_vec()).collect();
    assert_eq!(all, [&text[..], b"data: [DONE]\n\n"].concat());
    assert!(parts.last().unwrap().1 > 500, "{parts:?}");
}
