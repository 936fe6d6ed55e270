//! Questions that scenarios of the meter and of admission ask, and how records are read.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_ledger::{RecordView, Tokens};
use tollgate_tests::{Client, Reply, Settings, World, standin::Gate};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";

/// A chat question that is answered whole.
pub(crate) fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

/// The same, streamed, without asking for usage.
pub(crate) fn streamed(model: &str, text: &str) -> Value {
    let mut question = chat(model, text);
    question["stream"] = true.into();
    question
}

/// Content cache on the route `all`.
pub(crate) fn cached(settings: &mut Settings) {
    settings.set("routes.0.cache", json!({ "mode": "content", "ttl": "1h" }));
}

/// Lets the proxy learn which version of the model the provider runs: until it has seen
/// one answer of it, nobody can tell whose question is the same as whose.
pub(crate) async fn acquaint(world: &World, gate: &Gate) -> Reply {
    world.standin.set_gate(None);
    let reply = world.client.post(CHAT, &chat("gpt-4o-mini", "which one are you?")).await;
    world.standin.set_gate(Some(gate.clone()));
    reply
}

/// At most `limit` calls at once at the upstream.
pub(crate) fn limited(settings: &mut Settings, limit: u64) {
    settings.set("upstreams.model.concurrency", json!({ "limit": limit }));
}

/// Input and output of a record, as a provider counts them: caches and reasoning inside.
pub(crate) fn input_and_output(record: &RecordView) -> (u64, u64) {
    let Tokens {
        input,
        cached_input,
        cache_write,
        cache_write_1h,
        audio_input,
        output,
        reasoning,
        audio_output,
    } = record.record.tokens;
    let sum = |kinds: &[u32]| kinds.iter().map(|kind| u64::from(*kind)).sum();
    (
        sum(&[input, cached_input, cache_write, cache_write_1h, audio_input]),
        sum(&[output, reasoning, audio_output]),
    )
}

/// The records of the ledger, in the order of the replies they are of; there are no others.
pub(crate) async fn records_of(world: &World, replies: &[&Reply]) -> Vec<RecordView> {
    let records = world.records().await;
    assert_eq!(records.len(), replies.len(), "{records:#?}");
    let of = |reply: &&Reply| {
        let id = reply.header("tollgate-record");
        let mut records = records.iter();
        records.find(|record| record.record.id.to_string() == id).unwrap().clone()
    };
    replies.iter().map(of).collect()
}

/// A call that goes on beside the test. Aborted, its caller has hung up.
pub(crate) fn calls() -> JoinSet<Reply> {
    JoinSet::new()
}

/// Sends `body` beside the test, on a connection of its own.
pub(crate) fn send(
    calls: &mut JoinSet<Reply>,
    to: &Client,
    headers: &[(&'static str, String)],
    body: Value,
) {
    let (client, headers) = (to.clone(), headers.to_vec());
    calls.spawn(async move {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.post_with(CHAT, &headers, &body).await
    });
}
