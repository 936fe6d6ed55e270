//! The callers of a stream: each asks, reads to the end, and asks something else.

use crate::wire;
use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// What was heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) events: usize,
    pub(crate) answers: usize,
    /// Streams that broke, were refused or had a wrong number of events.
    pub(crate) wrong: usize,
}

/// Keeps `streams` streams open; after `length` nobody asks again.
pub(crate) fn load(to: SocketAddr, events: u32, streams: u32, length: Duration) -> Heard {
    let end = Instant::now() + length;
    let caller = |name: u32| {
        // Callers that start together would keep in step.
        thread::sleep(Duration::from_millis(5) * name / streams.max(1));
        let mut heard = Heard::default();
        if let Err(error) = ask_until(to, events, name, end, &mut heard) {
            println!("stream {name}: {error}");
            heard.wrong += 1;
        }
        heard
    };
    let all = thread::scope(|scope| {
        let callers: Vec<_> = (0..streams).map(|name| scope.spawn(move || caller(name))).collect();
        callers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    all.into_iter().fold(Heard::default(), |mut sum, heard| {
        let broken = Heard { wrong: 1, ..Heard::default() };
        let heard = heard.unwrap_or(broken);
        sum.events += heard.events;
        sum.answers += heard.answers;
        sum.wrong += heard.wrong;
        sum
    })
}

fn ask_until(
    to: SocketAddr,
    events: u32,
    name: u32,
    end: Instant,
    heard: &mut Heard,
) -> io::Result<()> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answers = BufReader::new(&socket);
    let mut turn = 0_u32;
    while Instant::now() < end {
        turn += 1;
        (&socket).write_all(question(to, name, turn).as_bytes())?;
        match wire::stream(&mut answers, events) {
            Ok(count) => heard.events += count,
            Err(error) if error.kind() == io::ErrorKind::Other => {
                println!("stream {name}: {error}");
                heard.wrong += 1;
            }
            Err(error) => return Err(error),
        }
        heard.answers += 1;
    }
    Ok(())
}

fn question(to: SocketAddr, name: u32, turn: u32) -> String {
    let filler = "Tell me of rivers and of the sea. ".repeat(24);
    let id = std::process::id();
    let body = format!(
        "{{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\
         \"content\":\"{id} {name} {turn} {filler}\"}}]}}"
    );
    wire::post(to, &body)
}
