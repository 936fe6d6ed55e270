//! How long a caller of a stream waits for the first byte of its body.
//!
//! One caller, one question after another, each a new one: a stream that is stored while
//! it passes must not begin later than one that is not.

use crate::wire;
use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// The time to the first byte of each stream, in microseconds, sorted.
pub(crate) fn waits(to: SocketAddr, events: u32, length: Duration) -> io::Result<Vec<u128>> {
    let socket = TcpStream::connect(to)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answers = BufReader::new(&socket);
    let mut waited_us = Vec::new();
    let end = Instant::now() + length;
    while waited_us.is_empty() || Instant::now() < end {
        let question = question(to, waited_us.len());
        let start = Instant::now();
        (&socket).write_all(question.as_bytes())?;
        let head = wire::head(&mut answers)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        wire::is_fine(&head)?;
        // Waits until something is there, and leaves it for `events`.
        if answers.fill_buf()?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        waited_us.push(start.elapsed().as_micros());
        wire::events(&mut answers, events)?;
    }
    waited_us.sort_unstable();
    Ok(waited_us)
}

fn question(to: SocketAddr, turn: usize) -> String {
    let id = std::process::id();
    wire::post(
        to,
        &format!(
            "{{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\
             \"content\":\"{id} {turn}: begin\"}}]}}"
        ),
    )
}
