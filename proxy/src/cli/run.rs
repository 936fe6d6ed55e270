//! `tollgate run`: serve until told to stop.

use super::{
    Failure, logs,
    settings::{Settings, Source},
};
use crate::app::{App, StartError};
use std::{fs, num::NonZeroUsize, path::Path, process, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a configuration file is looked at. A ConfigMap takes a minute to arrive;
/// a person who edits the file and waits sees it within seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Serve: stand before an upstream until told to stop.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tollgate run --upstream http://127.0.0.1:8000\n  tollgate run -c tollgate.yaml"
)]
pub(super) struct Run {
    #[command(flatten)]
    settings: Settings,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let source = self.settings.source()?;
        let (config, advice) = source.read_to_run()?;
        logs::start(&config.logs);
        for warning in advice {
            tracing::warn!("{warning}");
        }
        raise_open_files();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers())
            .enable_all()
            .build()
            .map_err(|error| Failure::Environment(format!("the runtime: {error}")))?;
        let outcome = runtime.block_on(serve(source, config));
        // What was cut may still hold a thread; nothing it could do is waited for.
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome
    }
}

async fn serve(source: Source, config: tollgate_config::Config) -> Result<(), Failure> {
    let environment = |error: std::io::Error| Failure::Environment(format!("signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(environment)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(environment)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(environment)?;
    // Before it is announced: what changes from then on must be noticed.
    let mut file = source.file().map(Watched::new);
    let app = App::start(config).await.map_err(|error| failure(&error))?;
    let again = source.clone();
    app.set_source(move || {
        let read = again.read_to_run().map(|(config, _)| config);
        read.map_err(|failure| failure.lines().map(str::to_owned).collect())
    });
    announce(&app);
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = app.drain_asked() => break,
            _ = hangup.recv() => reload(&app, &source),
            _ = looks.tick() => {
                if file.as_mut().is_some_and(Watched::has_changed) {
                    reload(&app, &source);
                }
            }
        }
    }
    tracing::info!("draining: readiness is false, what is in flight ends");
    tokio::select! {
        cut = app.drain() => {
            if cut > 0 {
                tracing::warn!(cut, "connections were cut at drain.deadline");
            }
        }
        () = second(&mut terminate, &mut interrupt) => {
            tracing::warn!("a second signal: going at once");
            #[expect(clippy::disallowed_methods, reason = "the operator asked twice")]
            process::exit(0);
        }
    }
    Ok(())
}

async fn second(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn announce(app: &App) {
    let addresses = app.addresses();
    let listeners: Vec<String> = addresses.listeners.iter().map(ToString::to_string).collect();
    let listeners = listeners.join(", ");
    let metrics = addresses.metrics.to_string();
    let admin = addresses.admin.map_or_else(|| "a socket".to_owned(), |it| it.to_string());
    tracing::info!(listeners, admin, metrics, "serving");
}

fn reload(app: &App, source: &Source) {
    let reloaded = source
        .read_to_run()
        .map_err(|failure| failure.lines().collect::<Vec<_>>().join("; "))
        .inspect_err(|_| app.reload_failed())
        .and_then(|(config, _)| app.reload(config));
    match reloaded {
        Ok(left) if left.is_empty() => tracing::info!("the new configuration is in force"),
        Ok(left) => {
            let left = left.join(", ");
            tracing::warn!(left, "the new configuration is in force but for what needs a restart");
        }
        Err(problems) => {
            tracing::error!(problems, "the new configuration is not in force; the old one stays");
        }
    }
}

fn failure(error: &StartError) -> Failure {
    let text = crate::app::with_causes(error);
    match error {
        StartError::Tls(_) | StartError::Prices(_) | StartError::Snapshot(_) => {
            Failure::Input(vec![text])
        }
        StartError::Bind { .. }
        | StartError::Ledger(_)
        | StartError::Redis(_)
        | StartError::Postgres(_)
        | StartError::Disk(..)
        | StartError::Trace(_)
        | StartError::CacheKey { .. }
        | StartError::Metrics(_) => Failure::Environment(text),
    }
}

/// A file whose content may change, also by a ConfigMap's swap of symbolic links.
struct Watched<'a> {
    path: &'a Path,
    seen: Option<Vec<u8>>,
}

impl<'a> Watched<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, seen: fs::read(path).ok() }
    }

    fn has_changed(&mut self) -> bool {
        // A file that is away for a moment (an editor's rename) is no change.
        let Ok(now) = fs::read(self.path) else { return false };
        let changed = self.seen.as_ref() != Some(&now);
        self.seen = Some(now);
        changed
    }
}

/// One worker a CPU that the cgroup grants; more would only take turns.
fn workers() -> usize {
    let granted = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
        Some(quota.div_ceil(period.max(1)).max(1))
    });
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    granted.map_or(cpus, |granted| granted.min(cpus))
}

/// Each call takes two sockets; the soft limit of 1024 is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
