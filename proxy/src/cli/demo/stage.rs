//! What the demo is played on: provider, proxy and a ledger in a directory of its own.

use crate::{
    app::{App, with_causes},
    cli::{Failure, scratch::Scratch},
    standin::{AnswerLength, Counts, Options, StandIn},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_config::{Overrides, ProcessEnvironment, load};
use tollgate_ledger::{Reader, RecordView, Uuid};

/// Calls that the provider answers at once; the proxy has as many permits.
pub(super) const LIMIT: u32 = 4;

/// Records of one page of the ledger.
const PAGE: usize = 10_000;

/// What the demo runs: a configuration as an operator would write it.
const CONFIGURATION: &str = "
drain: { quiet: 0s, deadline: 1s }
upstreams:
  provider:
    endpoints: [{ url: 'PROVIDER' }]
    concurrency: { limit: LIMIT }
classes:
  - { name: emergency, strict: true, queue: 64, max_wait: 60s }
  - { name: vip, weight: 8, queue: 256, max_wait: 30s }
  - { name: normal, weight: 4, queue: 512, max_wait: 30s, default: true }
  - { name: batch, weight: 1, queue: 1024, max_wait: 10m }
routes:
  - name: model
    match: { path_prefix: /v1 }
    upstream: provider
    class:
      header: x-priority
      map: { emergency: emergency, vip: vip, batch: batch }
    cache: { mode: content, ttl: 1h, tiers: [memory] }
";

/// Everything that is up while the demo runs.
pub(super) struct Stage {
    app: App,
    standin: StandIn,
    tasks: TaskTracker,
    stop: CancellationToken,
    dir: Scratch,
}

impl Stage {
    /// Starts all of it, on ports that the system chooses.
    pub(super) async fn set() -> Result<Self, Failure> {
        let environment = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Failure::Environment(format!("{what}: {error}"))
        };
        let dir = Scratch::new().map_err(environment("a temporary directory"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(environment("a free port of 127.0.0.1"))?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let standin = StandIn::start(provider(), listener, &tasks, stop.clone());
        let any_port = || Some("127.0.0.1:0".to_owned());
        let overrides = Overrides {
            listen: any_port(),
            admin: any_port(),
            metrics: any_port(),
            data_dir: Some(dir.path().to_owned()),
        };
        let text =
            CONFIGURATION.replace("PROVIDER", &standin.url()).replace("LIMIT", &LIMIT.to_string());
        let (config, _) =
            load(&text, Path::new("."), &overrides, &ProcessEnvironment).map_err(|problems| {
                Failure::Input(problems.iter().map(ToString::to_string).collect())
            })?;
        let app =
            App::start(config).await.map_err(|error| Failure::Environment(with_causes(&error)))?;
        Ok(Self { app, standin, tasks, stop, dir })
    }

    pub(super) fn proxy(&self) -> SocketAddr {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        self.app.addresses().listeners.first().copied().unwrap_or(nowhere)
    }

    pub(super) fn console(&self) -> Option<SocketAddr> {
        self.app.addresses().admin
    }

    pub(super) fn metrics(&self) -> SocketAddr {
        self.app.addresses().metrics
    }

    pub(super) fn provider_url(&self) -> String {
        self.standin.url()
    }

    /// What the provider itself has counted.
    pub(super) fn provider(&self) -> Counts {
        self.standin.counts()
    }

    /// Calls that wait for a permit at this moment.
    pub(super) fn waiting(&self) -> usize {
        let snapshot = self.app.parts.snapshot.load();
        snapshot.destinations.iter().map(|to| to.admission.snapshot().waiting).sum()
    }

    /// Every record is where it can be read.
    pub(super) async fn settled(&self) -> Result<(), Failure> {
        let flushed = self.app.flush_ledger().await;
        flushed.map_err(|error| Failure::Environment(with_causes(&error)))
    }

    /// All usage records of the demo.
    pub(super) async fn records(&self) -> Result<Vec<RecordView>, Failure> {
        let dir = self.dir.path().to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let reader = Reader::open(&dir)?;
            let mut records = Vec::new();
            let mut before: Option<Uuid> = None;
            loop {
                let page = reader.records(PAGE, before)?;
                let is_last = page.len() < PAGE;
                before = page.last().map(|view| view.record.id);
                records.extend(page);
                if is_last {
                    return Ok(records);
                }
            }
        });
        match read.await {
            Ok(Ok(records)) => Ok(records),
            Ok(Err(error)) => {
                let error: tollgate_ledger::LedgerError = error;
                Err(Failure::Environment(with_causes(&error)))
            }
            Err(error) => Err(Failure::Environment(format!("the ledger's reader: {error}"))),
        }
    }

    #[cfg(test)]
    pub(super) fn dir(&self) -> std::path::PathBuf {
        self.dir.path().to_owned()
    }

    /// Ends when somebody asks for the drain over HTTP.
    pub(super) fn drain_asked(&self) -> impl Future<Output = ()> + use<> {
        let app = self.app.clone();
        async move { app.drain_asked().await }
    }

    /// Takes everything down; the ledger's directory goes with it.
    pub(super) async fn strike(self) {
        self.app.drain().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Slow enough that four at once are not enough, quick enough for a demo: some 60 ms a call.
fn provider() -> Options {
    Options {
        first_token_delay: Duration::from_millis(25),
        token_delay: Duration::from_millis(3),
        answer: AnswerLength::Tokens(24),
        tokens_per_chunk: 2,
        concurrency_limit: Some(u64::from(LIMIT)),
        requests_max: 0,
        ..Options::default()
    }
}
