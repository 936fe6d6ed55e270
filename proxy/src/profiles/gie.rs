//! A model server's `/metrics`, with the calls that wait here added to those that wait there.
//!
//! The model server protocol of the Gateway API's inference extension knows a queue by its
//! engine's name for it: vLLM's `vllm:num_requests_waiting`, SGLang's `sglang:num_queue_reqs`,
//! TensorRT-LLM's of Triton. The first sample of the first of these is raised by ours; all else
//! passes as it came. What the server says is foreign: its length, its time and its form are
//! bounded, and what cannot be read is passed on or refused, never believed.

use super::waiting_at;
use crate::{
    app::Destination,
    aside::{self, Answer},
    body::Outgoing,
    upstream::{Endpoint, HostRule},
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

/// Of a server's text: vLLM's is some hundred kilobytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A scraper waits for ten seconds at most; an endpoint picker for less.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Scrapes at a time: each may hold [`BODY_BYTES_MAX`] twice.
static SCRAPES: Semaphore = Semaphore::const_new(4);

const VLLM: &str = "vllm:num_requests_waiting";
/// Names of queues, with the label that a sample must have.
const QUEUES: [(&str, &str); 4] = [
    (VLLM, ""),
    ("sglang:num_queue_reqs", ""),
    ("trtllm_num_requests_waiting", ""),
    ("nv_trt_llm_request_metrics", "request_type=\"waiting\""),
];

/// Why nothing can be passed on.
#[derive(Debug, thiserror::Error)]
enum GieError {
    #[error("the model server's metrics cannot be asked for: {0}")]
    Ask(String),
    #[error("the model server answered its metrics with {0}")]
    Status(StatusCode),
    #[error("the model server's metrics are longer than 4 MiB, late, cut, or no plain text")]
    Body,
}

pub(super) async fn answer(destination: &Destination, path: &str) -> Answer {
    let Ok(_place) = SCRAPES.try_acquire() else {
        return aside::text(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at a time\n");
    };
    let Some(endpoint) = destination.upstream.endpoints.first() else {
        return aside::text(StatusCode::BAD_GATEWAY, "there is no model server\n");
    };
    match fetch(destination, endpoint, path).await {
        Ok(text) => {
            let text = with_ours(&text, waiting_at(destination));
            aside::with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        Err(error) => aside::text(StatusCode::BAD_GATEWAY, format!("{error}\n")),
    }
}

async fn fetch(
    destination: &Destination,
    endpoint: &Arc<Endpoint>,
    path: &str,
) -> Result<String, GieError> {
    let deadline = Instant::now() + TIMEOUT;
    let host = match &destination.upstream.host {
        HostRule::Name(name) => name.clone(),
        HostRule::Preserve | HostRule::Upstream => endpoint.host.clone(),
    };
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"))
        .body(Outgoing::Whole(Bytes::new()))
        .map_err(|error| GieError::Ask(error.to_string()))?;
    // No caller's call: no breaker hears of it.
    let asked = destination.upstream.try_send(endpoint, request, deadline, &mut |_| {}).await;
    let (response, lease) = asked.map_err(|it| GieError::Ask(it.error.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(GieError::Status(response.status()));
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_plain || response.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(GieError::Body);
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
    let body = time::timeout_at(deadline, body).await;
    let body = body.ok().and_then(Result::ok).ok_or(GieError::Body)?.to_bytes();
    lease.give_back();
    String::from_utf8(body.to_vec()).map_err(|_| GieError::Body)
}

/// The text, with `ours` added to the queue; where it has none, with vLLM's name for ours alone.
fn with_ours(text: &str, ours: u64) -> String {
    let mut told = String::with_capacity(text.len() + 128);
    let mut is_told = false;
    for line in text.split_inclusive('\n') {
        let raised = (!is_told).then(|| raised(line, ours)).flatten();
        is_told |= raised.is_some();
        told.push_str(raised.as_deref().unwrap_or(line));
    }
    if !is_told {
        if !told.is_empty() && !told.ends_with('\n') {
            told.push('\n');
        }
        // A second TYPE of one family would spoil the whole scrape.
        if !text.contains(VLLM) {
            writeln!(told, "# HELP {VLLM} Calls that wait in Tollgate.\n# TYPE {VLLM} gauge").ok();
            writeln!(told, "{VLLM} {ours}").ok();
        }
    }
    told
}

/// The line with a queue's sample raised; `None` for every other line.
#[expect(clippy::float_arithmetic, reason = "a gauge's value, not money")]
fn raised(line: &str, ours: u64) -> Option<String> {
    let sample = line.trim_end();
    let (series, rest) = match sample.rfind('}') {
        Some(end) => sample.split_at_checked(end + 1)?,
        None => sample.split_at_checked(sample.find([' ', '\t'])?)?,
    };
    let name = series.split('{').next()?;
    QUEUES.iter().find(|(queue, label)| name == *queue && series.contains(label))?;
    let mut words = rest.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    let mut told = format!("{series} {}", value + ours as f64);
    for word in words {
        write!(told, " {word}").ok();
    }
    told.push_str(line.strip_prefix(sample)?);
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ours_are_added_to_the_queue_of_each_engine_once() {
        for (text, told) in [
            (
                "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\"m}\"} 3.0\nvllm:num_requests_waiting{engine=\"1\"} 4.0\nvllm:num_requests_running{engine=\"0\"} 8.0\n",
                "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\"m}\"} 8\nvllm:num_requests_waiting{engine=\"1\"} 4.0\nvllm:num_requests_running{engine=\"0\"} 8.0\n",
            ),
            ("sglang:num_queue_reqs 2 1700000000000", "sglang:num_queue_reqs 7 1700000000000"),
            (
                "nv_trt_llm_request_metrics{request_type=\"active\"} 9\nnv_trt_llm_request_metrics{request_type=\"waiting\"} 1\r\n",
                "nv_trt_llm_request_metrics{request_type=\"active\"} 9\nnv_trt_llm_request_metrics{request_type=\"waiting\"} 6\r\n",
            ),
        ] {
            assert_eq!(with_ours(text, 5), told);
        }
    }

    #[test]
    fn a_server_that_says_nothing_of_a_queue_has_ours() {
        let told = with_ours("up 1", 5);
        assert!(told.starts_with("up 1\n# HELP"), "{told}");
        assert!(told.ends_with("gauge\nvllm:num_requests_waiting 5\n"), "{told}");
    }

    #[test]
    fn a_queue_that_is_no_number_is_passed_on_as_it_is() {
        for value in ["NaN", "-1", "+Inf", "many", ""] {
            let text = format!("vllm:num_requests_waiting {value}\n");
            assert_eq!(with_ours(&text, 5), text);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_no_crash_and_is_not_lost(text in "(vllm:num_requests_waiting|[ {}\"\\PC\n]){0,8}", ours in 0_u64..9) {
            let told = with_ours(&text, ours);
            prop_assert!(told.len() + 8 >= text.len());
        }
    }
}
