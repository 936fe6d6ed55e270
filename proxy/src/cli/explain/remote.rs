//! `tollgate explain --admin URL`: a running instance is asked, which knows what its cache holds.

use super::{Explain, Failure, Page};
use crate::cli::block_on;
use bytes::Bytes;
use http::{Method, request};
use serde_json::{Map, Value, json};
use std::time::Duration;

impl Explain {
    /// What the instance says, as a page.
    ///
    /// # Errors
    /// There is nothing to ask about, or the instance is not there.
    pub(super) fn ask_instance(self) -> Result<String, Failure> {
        if !self.model_version.is_empty() {
            let line = "--model-version: an instance knows which version it would look for";
            return Err(Failure::Input(vec![line.to_owned()]));
        }
        let order = match (self.record, self.read_request()?) {
            (Some(id), _) => {
                let path = format!("/api/cache/explain?record={}", id.hyphenated());
                (Method::GET, path, None)
            }
            (None, Some((head, body))) => {
                let path = format!("/api/cache/explain?peer={}", self.peer);
                let written = written(&head, &body).map_err(|why| Failure::Input(vec![why]))?;
                (Method::POST, path, Some(written))
            }
            (None, None) => {
                let line = "what is to be explained? --request FILE or --record ID".to_owned();
                return Err(Failure::Input(vec![line]));
            }
        };
        let admin = self.at.find()?;
        let (method, path, body) = order;
        let answer = block_on(admin.call(method, &path, body.as_ref()))??;
        Ok(page(&answer))
    }
}

/// As the instance reads it.
fn written(head: &request::Parts, body: &Bytes) -> Result<Value, String> {
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        let value = value.to_str().map_err(|_| format!("--request: {name}: not ASCII text"))?;
        if headers.insert(name.to_string(), value.into()).is_some() {
            return Err(format!(
                "--request: {name}: comes twice, which an instance cannot be told"
            ));
        }
    }
    let text = std::str::from_utf8(body).map_err(|_| "--request: the body is not UTF-8 text")?;
    let (method, path) = (head.method.as_str(), head.uri.to_string());
    Ok(json!({ "method": method, "path": path, "headers": headers, "body": text }))
}

fn page(answer: &Value) -> String {
    let mut page = Page(String::new());
    let text = |of: &Value, name: &str| of.get(name).map(shown).unwrap_or_default();
    for name in ["route", "upstream", "tenant", "record"] {
        if answer.get(name).is_some() {
            page.line(name, &text(answer, name));
        }
    }
    page.line("cache", &format!("{}: {}", text(answer, "outcome"), text(answer, "why")));
    if answer.get("key").is_some() {
        page.line("key", &text(answer, "key"));
    }
    for member in list(answer, "members") {
        let (name, value) = (text(member, "name"), text(member, "value"));
        page.line("", &format!("{name} = {}", if value.is_empty() { "\"\"" } else { &value }));
    }
    for place in list(answer, "tiers") {
        page.line(&text(place, "tier"), &tier(place));
    }
    if let Some(items) = answer.get("items") {
        page.line("items", &format!("{} of {} are there", text(items, "known"), text(items, "of")));
    }
    if let Some(was) = answer.get("was").filter(|was| was.is_object()) {
        let ended = was.get("ended").filter(|ended| ended.is_string()).map(shown);
        let ended = ended.unwrap_or_else(|| "neither expired nor purged since".to_owned());
        page.line("was", &format!("stored {} ago; {ended}", ago(was, "stored_ago_ms")));
    }
    if let Some(nearest) = answer.get("nearest").filter(|nearest| nearest.is_object()) {
        let stored = ago(nearest, "stored_ago_ms");
        page.line("nearest", &format!("{}, stored {stored} ago", text(nearest, "key")));
        for difference in list(nearest, "differs") {
            let (part, how) = (text(difference, "part"), text(difference, "how"));
            page.line("", &format!("differs in {part} ({how})"));
        }
    } else if answer.get("notes") == Some(&Value::Bool(false)) {
        page.line("nearest", "not known: cache.explain.entries is 0");
    }
    page.0
}

fn tier(place: &Value) -> String {
    let is = |name: &str| place.get(name) == Some(&Value::Bool(true));
    if !is("found") {
        return if is("up") { "nothing" } else { "not asked: it is away" }.to_owned();
    }
    let left = place.get("left_ms").and_then(Value::as_i64).unwrap_or_default();
    let length = super::page::length(Duration::from_millis(left.unsigned_abs()));
    let left =
        if left < 0 { format!("past its time for {length}") } else { format!("{length} left") };
    let verdict = place.get("verdict").map(shown).unwrap_or_default();
    format!("{verdict}: {} old, {left}", ago(place, "age_ms"))
}

fn ago(of: &Value, name: &str) -> String {
    let ms = of.get(name).and_then(Value::as_u64).unwrap_or_default();
    super::page::length(Duration::from_millis(ms))
}

fn list<'a>(of: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Foreign text, for a terminal.
fn shown(value: &Value) -> String {
    let text = value.as_str().map(|text| text.escape_debug().to_string());
    text.unwrap_or_else(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instance_says_is_shown_line_by_line() {
        let key = "ab".repeat(32);
        let page = page(&json!({
            "route": "chat", "tenant": "acme", "outcome": "miss", "why": "purged", "key": key,
            "members": [{ "name": "model", "value": "m\u{1b}" }],
            "tiers": [
                { "tier": "memory", "up": true, "found": false },
                { "tier": "redis", "up": true, "found": true, "age_ms": 1000, "left_ms": -2000,
                  "verdict": "for-a-failure" },
            ],
            "was": { "stored_ago_ms": 60_000, "ended": "purged" },
            "nearest": {
                "key": key, "stored_ago_ms": 1_000,
                "differs": [{ "part": "/temperature", "how": "only here" }],
            },
        }));
        for line in [
            "cache       miss: purged",
            "            model = m\\u{1b}",
            "memory      nothing",
            "redis       for-a-failure: 1s old, past its time for 2s",
            "was         stored 1m ago; purged",
            "            differs in /temperature (only here)",
        ] {
            assert!(page.lines().any(|own| own == line), "{line:?} in {page}");
        }
    }
}
