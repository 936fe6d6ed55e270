//! Streams to callers of HTTP/2, and streams too long to be kept.

use crate::ask::{self, CHAT, cached, chat, input_and_output, limited, records_of, send, streamed};
use http::Version;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;
use tollgate_ledger::{CacheOutcome, Quality, Reader, Reason, RecordView};
use tollgate_tests::{
    Client, Process, Scripted, Settings, World,
    standin::{Gate, Options},
};

const MODEL: &str = "gpt-4o-mini";

#[tokio::test]
async fn a_stream_to_a_caller_of_http2_is_metered_to_the_token() {
    let world = World::builder().config(|settings| limited(settings, 1)).start().await;
    let h2 = Client::h2(world.addr()).await;

    let reply = h2.stream(CHAT, &streamed(MODEL, "how many?")).await.finish().await;

    assert_eq!((reply.version, reply.status.as_u16(), reply.cut), (Version::HTTP_2, 200, false));
    assert!(reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    let record = &records_of(&world, &[&reply]).await[0];
    let billed = world.standin.counts().billed;
    assert_eq!(input_and_output(record), (billed.input, billed.output));
    assert_eq!((record.record.quality, record.record.reason), (Quality::Reported, Reason::None));
    assert!(record.record.cost.total() > 0);
    assert!(record.record.bytes_out > reply.body.len() as u64, "the usage that it did not ask for");
    assert_eq!(world.metric("request_inflight"), Some(0.0));
}

/// A reset of one stream, while the connection and another stream on it go on.
#[tokio::test]
async fn a_caller_of_http2_that_resets_mid_stream_pays_for_what_came_and_frees_its_place() {
    for cache in ["off", "content"] {
        let gate = Gate::chunks();
        let options = Options { gate: Some(gate.clone()), ..Options::default() };
        let world = World::builder()
            .standin(options)
            .config(move |settings| {
                limited(settings, 1);
                settings.set("routes.0.cache", json!({ "mode": cache }));
            })
            .start()
            .await;
        let h2 = Client::h2(world.addr()).await;
        let mut first = h2.stream(CHAT, &streamed(MODEL, "first")).await;
        gate.release_chunks(4);
        first.read_until("data:").await;
        let id = first.header("tollgate-record").to_owned();
        let mut second = ask::calls();
        send(&mut second, &h2, &[], chat(MODEL, "second"));
        world.metric_when("request_queue_length", 1.0).await;

        drop(first);
        world.provider("the next call", |counts| counts.calls == 2 && counts.aborted == 1).await;
        gate.open();

        let second = second.join_all().await.remove(0);
        assert_eq!((second.version, second.status.as_u16()), (Version::HTTP_2, 200));
        let records = world.records_when(2).await;
        assert_eq!(records.len(), 2, "{records:#?}");
        let record = records.iter().find(|it| it.record.id.to_string() == id).unwrap();
        assert_eq!((record.record.status, record.record.reason), (200, Reason::DownstreamGone));
        assert_eq!(record.record.quality, Quality::Partial);
        let (input, output) = input_and_output(record);
        assert!(input > 0 && output > 0 && record.record.cost.total() > 0, "{record:?}");
        for series in ["request_inflight", "tollgate_permits_leaked_total"] {
            assert_eq!(world.metric(series), Some(0.0), "{series}");
        }
    }
}

/// Together five times the longest answer that is kept, which is 8 MiB.
const PIECES: usize = 640;
const PIECE_BYTES: usize = 64 * 1024;

/// An event of a chat stream; the last ones say how it ended and what it used.
fn event(delta: &Value, finish: &Value, usage: &Value) -> String {
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let event = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": choices, "usage": usage,
    });
    format!("data: {event}\n\n")
}

fn piece(nth: usize) -> String {
    let letter = char::from(b"abcdefghijklmnopqrstuvwxyz"[nth % 26]);
    let text = letter.to_string().repeat(PIECE_BYTES);
    event(&json!({ "content": text }), &Value::Null, &Value::Null)
}

fn last() -> String {
    let usage =
        json!({ "prompt_tokens": 7, "completion_tokens": 900_000, "total_tokens": 900_007 });
    event(&json!({}), &json!("stop"), &usage) + "data: [DONE]\n\n"
}

/// The most memory that the process ever had, in bytes.
fn peak_bytes(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

fn all_records(dir: &Path) -> Vec<RecordView> {
    Reader::open(dir).unwrap().records(10, None).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_long_to_be_kept_passes_whole_is_metered_and_takes_no_memory() {
    /// For what is recorded until it is too long, and for the process itself.
    const ROOM_BYTES: usize = 20 << 20;
    let upstream = Scripted::start(|mut line| async move {
        while line.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            line.wire.send(head).await;
            for event in (0..PIECES).map(piece).chain([last()]) {
                line.wire.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
            }
            line.wire.send("0\r\n\r\n").await;
        }
    })
    .await;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut settings = Settings::new(&upstream.url(), &data);
    cached(&mut settings);
    let mut process = Process::start(dir.path(), &settings).await;
    let before = peak_bytes(&process);
    let client = Client::new(process.addr);
    let mut question = streamed(MODEL, "all of it");
    question["stream_options"] = json!({ "include_usage": true });

    let mut live = client.stream(CHAT, &question).await;
    let mut wanted = (0..PIECES).map(piece).chain([last()]);
    let (mut told, mut due) = (0, Vec::new());
    while let Some(bytes) = live.next().await {
        let bytes = bytes.unwrap();
        while due.len() < bytes.len() {
            due.extend(wanted.next().expect("no more than was said").into_bytes());
        }
        assert!(bytes[..] == due[..bytes.len()], "after {told} bytes");
        told += bytes.len();
        due.drain(..bytes.len());
    }

    assert!(due.is_empty() && wanted.next().is_none(), "{told} bytes are not all");
    let grown = peak_bytes(&process) - before;
    assert!(grown < ROOM_BYTES && ROOM_BYTES <= told / 2, "{grown} bytes for {told}");
    let only_cached = [("cache-control", "only-if-cached")];
    let kept = client.post_with(CHAT, &only_cached, &question).await;
    assert_eq!(kept.refusal(), (504, "not_cached"));
    process.signal(rustix::process::Signal::TERM);
    assert!(process.gone().await.success());
    let records = all_records(&data);
    let record = records.iter().find(|it| it.record.status == 200).unwrap();
    assert_eq!(input_and_output(record), (7, 900_000));
    assert_eq!(record.record.bytes_out, told as u64);
    assert_eq!(
        (record.record.outcome, record.record.quality),
        (CacheOutcome::Miss, Quality::Reported)
    );
}
