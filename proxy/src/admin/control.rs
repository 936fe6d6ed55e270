//! What an administrator can tell the process to do: read its configuration again, and
//! go down.

use super::{Problem, query::expect_no_members};
use crate::app::Parts;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};
use tollgate_config::Config;

/// Reads the configuration again; every mistake, a line each.
pub(crate) struct ConfigSource(Box<dyn Fn() -> Result<Config, Vec<String>> + Send + Sync>);

impl ConfigSource {
    pub(crate) fn new(
        read: impl Fn() -> Result<Config, Vec<String>> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(read))
    }

    /// Blocks on the disk.
    pub(crate) fn read(&self) -> Result<Config, Vec<String>> {
        (self.0)()
    }
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigSource")
    }
}

/// `POST /api/config/reload`: as SIGHUP, but the caller learns what came of it.
pub(super) async fn reload(parts: &Arc<Parts>, body: &Bytes) -> Result<Value, Problem> {
    expect_no_members(body)?;
    let own = Arc::clone(parts);
    let reloading = tokio::task::spawn_blocking(move || own.read_again());
    let reloaded = reloading.await.unwrap_or_else(|error| Some(Err(vec![error.to_string()])));
    match reloaded {
        None => Err(Problem::new(
            StatusCode::CONFLICT,
            "this instance was started without a configuration that can be read again",
        )),
        Some(Ok(needs_restart)) => {
            tracing::info!(
                ?needs_restart,
                "an administrator brought the new configuration into force"
            );
            Ok(json!({ "in_force": true, "needs_restart": needs_restart }))
        }
        Some(Err(problems)) => {
            let listed = problems.join("; ");
            tracing::error!(
                problems = listed,
                "the new configuration is not in force; the old one stays"
            );
            let detail = "the new configuration is not in force; the old one stays";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            Err(problem.with_problems(problems))
        }
    }
}

/// `POST /api/drain`: as SIGTERM. Readiness is false when this is answered.
pub(super) fn drain(parts: &Parts, config: &Config, body: &Bytes) -> Result<Value, Problem> {
    expect_no_members(body)?;
    tracing::info!("an administrator asked for the drain");
    parts.shutdown.begin();
    parts.admin.drain_asked.cancel();
    Ok(json!({
        "draining": true,
        "in_flight": parts.in_flight(),
        "quiet_s": config.drain.quiet.as_secs_f64(),
        "deadline_s": config.drain.deadline.as_secs_f64(),
    }))
}
