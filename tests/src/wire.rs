//! A socket on which a scenario writes and reads bytes as they are, on either side of
//! the proxy. It knows enough of HTTP/1.1 to find where a message ends.

use crate::within;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Bytes that came and were not taken yet.
    came: Vec<u8>,
}

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    /// 0: the connection ended without an answer.
    pub status: u16,
    /// Status line and fields, with their line ends.
    pub head: String,
    /// Without chunk sizes.
    pub body: Vec<u8>,
    /// The connection ended, or failed, before the message did.
    pub cut: bool,
}

impl RawReply {
    /// The values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// A field's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.fields(name).first().copied().unwrap_or_default()
    }

    /// Status and `tollgate-reason`, what a caller sees of a refusal.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.header("tollgate-reason"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The values of a field of a head, in order.
pub(crate) fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(within("a connection", TcpStream::connect(to)).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, came: Vec::new() }
    }

    /// Sends bytes; an error means that the other side is gone, which it may be.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to send", self.stream.write_all(bytes.as_ref())).await.ok();
    }

    /// Says that nothing more comes from here.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// Waits until the other side has closed; returns what came before that.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.came)
    }

    /// Waits for more bytes than came so far; `false`: the other side is gone.
    async fn more(&mut self) -> bool {
        let read = within("bytes or an end", self.stream.read_buf(&mut self.came)).await;
        // A connection that was reset has ended too.
        let n = read.unwrap_or(0);
        n > 0
    }

    /// Waits for a byte that was not taken yet; `false`: the other side is gone.
    pub async fn any(&mut self) -> bool {
        !self.came.is_empty() || self.more().await
    }

    /// Reads up to and with the empty line; `None`: the connection ended before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.came.drain(..at + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads the answer to a request that was not a HEAD.
    pub async fn reply(&mut self) -> RawReply {
        self.reply_to("GET").await
    }

    /// Reads the answer to a request of `method`.
    pub async fn reply_to(&mut self, method: &str) -> RawReply {
        let Some(head) = self.head().await else {
            let head = String::from_utf8_lossy(&self.came).into_owned();
            return RawReply { status: 0, head, body: Vec::new(), cut: true };
        };
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            return Box::pin(self.reply_to(method)).await;
        }
        let bodyless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let (body, cut) = if bodyless { (Vec::new(), false) } else { self.body(&head, true).await };
        RawReply { status, head, body, cut }
    }

    /// Sends and reads the answer.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> RawReply {
        self.send(bytes).await;
        self.reply().await
    }

    /// The body that `head` announces, and whether it was cut.
    pub(crate) async fn body(&mut self, head: &str, to_the_end: bool) -> (Vec<u8>, bool) {
        let chunked =
            fields(head, "transfer-encoding").iter().any(|value| value.contains("chunked"));
        if chunked {
            return self.chunks().await;
        }
        match fields(head, "content-length").first().and_then(|text| text.parse().ok()) {
            Some(length) => self.exactly(length).await,
            None if to_the_end => (self.closed().await, false),
            None => (Vec::new(), false),
        }
    }

    /// Reads `length` bytes; fewer, if the connection ends before.
    pub async fn take(&mut self, length: usize) -> Vec<u8> {
        self.exactly(length).await.0
    }

    async fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.came.len() < length {
            if !self.more().await {
                return (std::mem::take(&mut self.came), true);
            }
        }
        (self.came.drain(..length).collect(), false)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line().await else { return (body, true) };
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else { return (body, true) };
            if size == 0 {
                // Trailers, to the empty line.
                loop {
                    match self.line().await {
                        None => return (body, true),
                        Some(line) if line.is_empty() => return (body, false),
                        Some(_) => {}
                    }
                }
            }
            let (piece, cut) = self.exactly(size).await;
            body.extend_from_slice(&piece);
            if cut || self.line().await.is_none() {
                return (body, true);
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.came.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.came.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }
}
