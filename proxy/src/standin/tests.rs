//! The stand-in, asked over real sockets. What judges the proxy is judged here.

mod behaviour;
mod shapes;

use super::*;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use serde_json::Value;

struct World {
    standin: StandIn,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What came back; `cut` if the body did not end as its framing promised.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    cut: bool,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn events(&self) -> Vec<(String, String)> {
        events(std::str::from_utf8(&self.body).unwrap())
    }
}

/// Name and data of each event; whatever is not of the form is a failure.
fn events(stream: &str) -> Vec<(String, String)> {
    let whole = stream.strip_suffix("\n\n").expect("a stream ends with an empty line");
    whole
        .split("\n\n")
        .map(|event| match event.split_once('\n') {
            Some((name, data)) => {
                let name = name.strip_prefix("event: ").unwrap();
                (name.to_owned(), data.strip_prefix("data: ").unwrap().to_owned())
            }
            None => (String::new(), event.strip_prefix("data: ").unwrap().to_owned()),
        })
        .collect()
}

impl World {
    async fn new(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let standin = StandIn::start(options, listener, &tasks, stop.clone());
        Self { standin, tasks, stop }
    }

    async fn connect(&self) -> http1::SendRequest<Full<Bytes>> {
        let socket = TcpStream::connect(self.standin.addr()).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        self.tasks.spawn(connection);
        sender
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<http::Response<Incoming>> {
        let mut sender = self.connect().await;
        sender.send_request(request).await
    }

    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Got {
        let request = headers.iter().fold(Request::get(target), |r, (n, v)| r.header(*n, *v));
        collect(self.send(request.body(Full::default()).unwrap()).await.unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Got {
        collect(self.send(post(path, body)).await.unwrap()).await
    }
}

fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::from(body.to_string())).unwrap()
}

async fn collect(response: http::Response<Incoming>) -> Got {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut cut) = (Vec::new(), false);
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => cut = true,
        }
    }
    Got { status: head.status, headers: head.headers, body: body.into(), cut }
}

/// A chat of one user message.
fn chat(model: &str, content: &str, more: &Value) -> Value {
    let mut body = serde_json::json!({
        "model": model,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": content}],
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
