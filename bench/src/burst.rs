//! A thousand callers who ask the same new thing at the same moment, and what each waited.
//!
//! This is what coalescing is for: a page goes viral, a prompt is sent to every worker of a
//! fleet. A thread per caller, as in `listen`: they start at a barrier, not one by one.

use crate::wire;
use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// Small, as there are a thousand of them.
const STACK_BYTES: usize = 64 * 1024;

/// How the question is asked: its method decides whether it is told apart by path or body.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Get,
    Post,
}

/// What came back of all bursts.
#[derive(Default)]
pub(crate) struct Answered {
    pub(crate) bursts: usize,
    /// What each caller waited for the whole answer, in microseconds, sorted.
    pub(crate) waited_us: Vec<u128>,
    /// Answers that broke, were refused or had a wrong number of events.
    pub(crate) wrong: usize,
}

/// Bursts of `callers`, each about something new, until `length` has passed.
pub(crate) fn load(
    to: SocketAddr,
    form: Form,
    events: u32,
    callers: u32,
    length: Duration,
) -> io::Result<Answered> {
    let mut sockets = Vec::new();
    for _ in 0..callers {
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        sockets.push(socket);
    }
    let mut all = Answered::default();
    let end = Instant::now() + length;
    while all.bursts == 0 || Instant::now() < end {
        all.bursts += 1;
        let question = question(to, form, all.bursts);
        for waited in burst(&sockets, &question, events)? {
            match waited {
                Ok(waited) => all.waited_us.push(waited.as_micros()),
                Err(error) => {
                    println!("burst {}: {error}", all.bursts);
                    all.wrong += 1;
                }
            }
        }
        if all.wrong > 0 {
            break;
        }
    }
    all.waited_us.sort_unstable();
    Ok(all)
}

fn burst(
    sockets: &[TcpStream],
    question: &str,
    events: u32,
) -> io::Result<Vec<io::Result<Duration>>> {
    let together = Barrier::new(sockets.len());
    let ask = |socket: &TcpStream| {
        together.wait();
        let start = Instant::now();
        let mut to = socket;
        to.write_all(question.as_bytes())?;
        wire::stream(&mut BufReader::new(socket), events)?;
        Ok(start.elapsed())
    };
    thread::scope(|scope| {
        let begun: io::Result<Vec<_>> = sockets
            .iter()
            .map(|socket| {
                let own = thread::Builder::new().stack_size(STACK_BYTES);
                own.spawn_scoped(scope, move || ask(socket))
            })
            .collect();
        let broken = |_| Err(io::Error::other("a caller's thread broke"));
        Ok(begun?.into_iter().map(|one| one.join().unwrap_or_else(broken)).collect())
    })
}

fn question(to: SocketAddr, form: Form, turn: usize) -> String {
    let id = std::process::id();
    if matches!(form, Form::Get) {
        return format!("GET /v1/chat/completions?of={id}-{turn} HTTP/1.1\r\nhost: {to}\r\n\r\n");
    }
    wire::post(
        to,
        &format!(
            "{{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\
             \"content\":\"{id} {turn}: what happened?\"}}]}}"
        ),
    )
}
