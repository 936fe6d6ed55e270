//! Logs on stderr, as the configuration says.

use tollgate_config::{LogFormat, LogLevel, Logs};
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. Once per process; a second call changes nothing.
pub(crate) fn start(logs: &Logs) {
    let level = match logs.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // The libraries' own words are for those who debug them.
    let filter = EnvFilter::new(format!("{level},hyper=warn,h2=warn,rustls=warn,redis=warn"));
    let builder = fmt::Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr);
    match logs.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init().ok(),
        LogFormat::Text => builder.with_ansi(false).try_init().ok(),
    };
}
