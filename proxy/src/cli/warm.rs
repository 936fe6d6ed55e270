//! `tollgate warm`: has a running instance ask a list of requests, and waits for the end of it.

use super::{Failure, admin::AdminAt, block_on, print_line, unreadable};
use crate::warm::read_list;
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time;

/// Fill the cache of a running instance: have it ask a list of requests, at its own pace
#[derive(Debug, clap::Args)]
#[command(after_help = "A line of FILE is a request:\n  \
    {\"path\":\"/v1/chat/completions\",\"headers\":{\"authorization\":\"Bearer KEY\"},\"body\":{…}}\n\
\n\
The entry is its tenant's, as if it had asked; a caller without a credential is known by the host\n\
it calls: add \"host\" to the headers. The pace is the instance's cache.warm.rate.\n\
\n\
Examples:\n  \
    tollgate warm questions.jsonl\n  \
    tollgate warm - --refresh --admin http://127.0.0.1:9900 --token-file admin.token < top.jsonl")]
pub(super) struct Warm {
    /// Requests, one a line, as JSON; - is standard input
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// Ask for each answer anew, also where there is one; if that fails, the one there is stays
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    at: AdminAt,
}

/// How often the instance is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

impl Warm {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let list = read(&self.list)?;
        let admin = self.at.find()?;
        let path = if self.refresh { "/api/cache/refresh" } else { "/api/cache/warm" };
        let run = block_on(async {
            let mut run = admin.send_list(path, list).await?;
            let id = run.get("run").cloned();
            let mut shown = String::new();
            while run.get("state").and_then(Value::as_str) == Some("running") {
                time::sleep(LOOK_INTERVAL).await;
                let runs = admin.call(Method::GET, "/api/cache/warm", None).await?;
                let runs = runs.get("runs").and_then(Value::as_array);
                let own = runs.into_iter().flatten().find(|run| run.get("run") == id.as_ref());
                let gone = || {
                    Failure::Environment(
                        "the instance has forgotten the list: was it restarted?".to_owned(),
                    )
                };
                run = own.cloned().ok_or_else(gone)?;
                progress(&run, &mut shown);
            }
            Ok::<_, Failure>(run)
        })??;
        print_line(&said(&run));
        verdict(&run)
    }
}

fn read(file: &Path) -> Result<Bytes, Failure> {
    let list = match file.as_os_str() == "-" {
        true => read_list(io::stdin().lock()),
        false => File::open(file).and_then(read_list),
    };
    list.map_err(|error| unreadable(&file.display().to_string(), &error))
}

fn count(run: &Value, name: &str) -> u64 {
    run.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A line on stderr whenever there is something new to say.
fn progress(run: &Value, shown: &mut String) {
    let line = format!("{} of {} asked", count(run, "asked"), count(run, "lines"));
    if line != *shown {
        writeln!(io::stderr(), "tollgate: {line}").ok();
        *shown = line;
    }
}

/// What came of it, in a line.
fn said(run: &Value) -> String {
    let named = [
        ("stored", "stored"),
        ("hit", "there already"),
        ("not_stored", "not kept"),
        ("failed", "failed"),
    ];
    let counts = named.map(|(name, said)| format!("{} {said}", count(run, name)));
    format!("asked {}: {}", count(run, "asked"), counts.join(", "))
}

/// # Errors
/// A line is no request, or a request failed.
fn verdict(run: &Value) -> Result<(), Failure> {
    let bad = run.get("bad").and_then(Value::as_array).into_iter().flatten();
    let mut lines: Vec<String> = bad
        .map(|bad| {
            let why = bad.get("why").and_then(Value::as_str).unwrap_or_default();
            format!("line {}: {}", count(bad, "line"), why.escape_debug())
        })
        .collect();
    let more = count(run, "bad_lines").saturating_sub(u64::try_from(lines.len()).unwrap_or(0));
    if more > 0 {
        lines.push(format!("and {more} more lines are no requests"));
    }
    if !lines.is_empty() {
        return Err(Failure::Input(lines));
    }
    if run.get("state").and_then(Value::as_str) == Some("stopped") {
        return Err(Failure::Environment("the instance went down before all was asked".to_owned()));
    }
    if count(run, "failed") == 0 {
        return Ok(());
    }
    let first = run.get("first_failure").cloned().unwrap_or_default();
    let reason = first.get("reason").and_then(Value::as_str).unwrap_or("the upstream's");
    let (line, status) = (count(&first, "line"), count(&first, "status"));
    let reason = reason.escape_debug();
    let line = format!("{} failed, first line {line}: {status} ({reason})", count(run, "failed"));
    Err(Failure::Environment(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(run: Value, expected: Result<(), (u8, &str)>) {
        match (verdict(&run), expected) {
            (Ok(()), Ok(())) => {}
            (Err(failure), Err((code, part))) => {
                let lines: Vec<&str> = failure.lines().collect();
                assert_eq!(failure.code(), code, "{lines:?}");
                assert!(lines.iter().any(|line| line.contains(part)), "{lines:?}");
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_exit_code_says_whose_fault_it_was() {
        let done = json!({ "state": "done", "asked": 2, "stored": 1, "hit": 1 });
        assert_eq!(said(&done), "asked 2: 1 stored, 1 there already, 0 not kept, 0 failed");
        check(done, Ok(()));
        let bad =
            json!({ "state": "done", "bad_lines": 3, "bad": [{ "line": 7, "why": "no JSON" }] });
        check(bad.clone(), Err((1, "line 7: no JSON")));
        check(bad, Err((1, "2 more")));
        let failed = json!({ "line": 2, "status": 401, "reason": null });
        let failed = json!({ "state": "done", "failed": 1, "first_failure": failed });
        check(failed, Err((2, "first line 2: 401")));
        check(json!({ "state": "stopped" }), Err((2, "went down")));
    }
}
