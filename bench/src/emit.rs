//! A model server that streams a chat completion: an event of some 240 bytes per gap.

use crate::wire;
use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
/// To GET: who goes by what the head says keeps it.
const HEAD_BY_URL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: max-age=3600\r\ntransfer-encoding: chunked\r\n\r\n";

/// The parts of an event that every provider repeats.
const OPENING: &str = "data: {\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\
    \"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"gpt-4o-mini\",\
    \"system_fingerprint\":\"fp_06737a9306\"";

/// How an answer is paced.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) events: u32,
    pub(crate) gap: Duration,
}

/// Streams begun. `GET /calls` tells, in the words of nginx's `stub_status`.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Answers every request with a stream, until killed.
pub(crate) fn serve(address: SocketAddr, pace: Pace) -> io::Result<()> {
    for caller in TcpListener::bind(address)?.incoming() {
        let caller = caller?;
        // A caller who hangs up ends its own thread and nothing else.
        thread::spawn(move || answer_all(&caller, pace));
    }
    Ok(())
}

fn answer_all(caller: &TcpStream, pace: Pace) -> io::Result<()> {
    caller.set_nodelay(true)?;
    let mut requests = BufReader::new(caller);
    while let Some((head, body)) = wire::request(&mut requests)? {
        if head.starts_with("GET /calls ") {
            tell(caller)?;
            continue;
        }
        CALLS.fetch_add(1, Ordering::Relaxed);
        let counted = body.windows(15).any(|window| window == b"\"include_usage\"");
        let by_url = head.starts_with("GET ");
        answer(caller, pace, if by_url { HEAD_BY_URL } else { HEAD }, counted)?;
    }
    Ok(())
}

fn tell(mut caller: &TcpStream) -> io::Result<()> {
    let body = format!("Active connections: 0\n\n 0 0 {}\n", CALLS.load(Ordering::Relaxed));
    let length = body.len();
    write!(caller, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// One stream. A caller who asked for usage has it in a last event, and a null before.
fn answer(mut caller: &TcpStream, pace: Pace, head: &[u8], counted: bool) -> io::Result<()> {
    let usage = if counted { ",\"usage\":null" } else { "" };
    caller.write_all(head)?;
    let start = Instant::now();
    for place in 1..=pace.events {
        let due = start + pace.gap * place;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let choices = if place == pace.events {
            "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]".to_owned()
        } else {
            format!(
                "[{{\"index\":0,\"delta\":{{\"content\":\" w{place:05}\"}},\"logprobs\":null,\
                     \"finish_reason\":null}}]"
            )
        };
        send(caller, &format!("{OPENING},\"choices\":{choices}{usage}}}\n\n"))?;
    }
    let mut end = String::new();
    if counted {
        let tokens = pace.events;
        let total = tokens + 250;
        end = format!(
            "{OPENING},\"choices\":[],\"usage\":{{\"prompt_tokens\":250,\
            \"completion_tokens\":{tokens},\"total_tokens\":{total}}}}}\n\n"
        );
    }
    send(caller, &format!("{end}data: [DONE]\n\n"))?;
    caller.write_all(b"0\r\n\r\n")
}

fn send(mut caller: &TcpStream, text: &str) -> io::Result<()> {
    caller.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}
