//! The world itself: a provider, the proxy before it, and a caller.

use crate::{Client, Settings, Wire, within};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::{
    App, StartError,
    standin::{Counts, Options, StandIn},
};
use tollgate_config::{Config, Environment, Overrides, load};
use tollgate_ledger::{Reader, RecordView};

/// An OpenAI chat question that the stand-in answers whole.
pub fn chat(text: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": text }] })
}

/// The same question, to be answered as a stream.
pub fn chat_stream(text: &str) -> Value {
    let mut question = chat(text);
    question["stream"] = true.into();
    question
}

/// Where [`chat`] goes.
pub const CHAT: &str = "/v1/chat/completions";

/// A provider, the proxy before it, and a caller.
#[derive(Debug)]
pub struct World {
    pub app: App,
    pub standin: StandIn,
    /// Speaks HTTP/1.1 to the first listener.
    pub client: Client,
    /// Speaks to the telemetry address.
    pub telemetry: Client,
    settings: Settings,
    dir: TempDir,
    _tasks: TaskTracker,
    stop: CancellationToken,
}

/// What is to be different from [`Settings::new`].
#[must_use]
#[derive(Debug)]
pub struct WorldBuilder {
    standin: Options,
    upstream: Option<String>,
    changes: Changes,
    dir: TempDir,
}

#[derive(Default)]
struct Changes(Vec<Change>);

type Change = Box<dyn FnOnce(&mut Settings) + Send>;

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} changes", self.0.len())
    }
}

impl WorldBuilder {
    /// Another kind of provider.
    pub fn standin(mut self, options: Options) -> Self {
        self.standin = options;
        self
    }

    /// The upstream `model` is here, and not the stand-in.
    pub fn upstream(mut self, url: impl Into<String>) -> Self {
        self.upstream = Some(url.into());
        self
    }

    /// Another configuration. Changes are made in the order they are given in.
    pub fn config(mut self, change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        self.changes.0.push(Box::new(change));
        self
    }

    /// [`Settings::set`], where that is all there is to change.
    pub fn set(self, path: impl Into<String>, value: Value) -> Self {
        let path = path.into();
        self.config(move |yaml| {
            yaml.set(&path, value);
        })
    }

    /// A directory that lives as long as the world, for certificates and the like.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// # Panics
    /// The configuration is not valid, or the proxy does not start.
    pub async fn start(self) -> World {
        self.try_start().await.unwrap()
    }

    /// # Errors
    /// Why the proxy does not start.
    ///
    /// # Panics
    /// The configuration is not valid.
    pub async fn try_start(self) -> Result<World, StartError> {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let standin = StandIn::start(self.standin, listener, &tasks, stop.clone());
        let url = self.upstream.unwrap_or_else(|| standin.url());
        let mut settings = Settings::new(&url, &self.dir.path().join("data"));
        for change in self.changes.0 {
            change(&mut settings);
        }
        let app = App::start(parsed(&settings, self.dir.path())).await?;
        Ok(World {
            client: Client::new(app.addresses().listeners[0]),
            telemetry: Client::new(app.addresses().metrics),
            app,
            standin,
            settings,
            dir: self.dir,
            _tasks: tasks,
            stop,
        })
    }
}

/// Nothing but what the scenario says: no variables, the real files.
#[derive(Clone, Copy, Debug)]
struct Bare;

impl Environment for Bare {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn memory_limit(&self) -> Option<u64> {
        None
    }
}

fn parsed(settings: &Settings, dir: &Path) -> Config {
    let text = settings.text();
    match load(&text, dir, &Overrides::default(), &Bare) {
        Ok((config, _)) => config,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{text}\n{}", problems.join("\n"))
        }
    }
}

impl World {
    /// The plainest: everything passes, nothing is cached.
    pub async fn new() -> Self {
        Self::builder().start().await
    }

    /// The plainest, before another upstream than the stand-in.
    pub async fn before(url: impl Into<String>) -> Self {
        Self::builder().upstream(url).start().await
    }

    pub fn builder() -> WorldBuilder {
        WorldBuilder {
            standin: Options::default(),
            upstream: None,
            changes: Changes::default(),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Where callers connect to.
    pub fn addr(&self) -> SocketAddr {
        self.app.addresses().listeners[0]
    }

    /// A directory that lives as long as the world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the ledger is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A connection for bytes as they are.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.addr()).await
    }

    /// Changes the configuration while it runs; returns the keys that need a restart.
    ///
    /// # Errors
    /// Why it did not come into force.
    ///
    /// # Panics
    /// The configuration is not valid.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) -> Result<Vec<String>, String> {
        change(&mut self.settings);
        self.app.reload(parsed(&self.settings, self.dir.path()))
    }

    /// Waits for the provider to count as `wanted`.
    ///
    /// # Panics
    /// It does not; the panic shows what it counted.
    #[track_caller]
    pub fn provider<'a>(
        &'a self,
        what: &'a str,
        mut wanted: impl FnMut(&Counts) -> bool + 'a,
    ) -> impl Future<Output = Counts> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let waiting = self.standin.wait_for(|counts| wanted(counts));
            tokio::time::timeout(crate::LIMIT, waiting).await.unwrap_or_else(|_| {
                panic!(
                    "{place}: waited in vain for {what}; seen last: {:#?}",
                    self.standin.counts()
                )
            })
        }
    }

    /// Every record of the ledger, oldest first.
    pub async fn records(&self) -> Vec<RecordView> {
        within("the ledger", self.app.flush_ledger()).await.unwrap();
        let mut records = Reader::open(&self.data_dir()).unwrap().records(10_000, None).unwrap();
        records.reverse();
        records
    }

    /// The one record of the ledger.
    ///
    /// # Panics
    /// There are none, or more.
    pub async fn record(&self) -> RecordView {
        let mut records = self.records().await;
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }

    /// Waits until the ledger has `n` records: a caller sees the end of its answer at
    /// the moment the record is made, and a hang-up is found out about later.
    pub async fn records_when(&self, n: usize) -> Vec<RecordView> {
        let look = || self.records();
        crate::until("records", look, |records: &Vec<RecordView>| records.len() >= n).await
    }

    /// The value of a series, by its name with all its labels, in any order; `None` if it
    /// is not there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        self.metrics().get(&in_order(series)).copied()
    }

    /// Every series with its value.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.app.metrics_text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((in_order(series), value.parse().ok()?))
            })
            .collect()
    }

    /// Waits for a series to have a value.
    pub async fn metric_when(&self, series: &str, wanted: f64) {
        let look = || async { self.metric(series) };
        let is = |value: &Option<f64>| value.is_some_and(|value| value.total_cmp(&wanted).is_eq());
        crate::until(series, look, is).await;
    }
}

/// A series with its labels in the order of their names.
fn in_order(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|it| it.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels.trim_end_matches('"').split("\",").collect();
    labels.sort_unstable();
    format!("{name}{{{}\"}}", labels.join("\","))
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
