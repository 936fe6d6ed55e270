//! The command line: what the operator types, and the exit code they get (0 fine, 1 the
//! input was wrong, 2 the environment failed).

use crate::{
    certificates::Certificates,
    cluster::{Cluster, UNKNOWN},
    config::{Config, NATIVE_SINCE, OnFailure, Preferred, Quantity, Resources, Version},
    self_made,
    server::{self, Injector},
};
use clap::{Parser, Subcommand};
use std::{
    io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

/// Between SIGTERM and the end of serving: so long others may still be sent here.
const LINGER: Duration = Duration::from_secs(5);

/// Puts Tollgate into pods that ask for it: an admission webhook
#[derive(Debug, Parser)]
#[command(name = "tollgate-injector", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<Serve>),
    Certificate(Certificate),
}

/// Serve reviews over TLS until told to stop
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tollgate-injector serve --image REGISTRY/tollgate:0.1.0 --namespace tollgate"
)]
struct Serve {
    /// Address that the API server connects to
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    address: SocketAddr,
    /// Certificate chain (PEM); a change is noticed
    #[arg(long, value_name = "FILE", default_value = "/run/secrets/tls/tls.crt")]
    certificate: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", default_value = "/run/secrets/tls/tls.key")]
    private_key: PathBuf,
    /// The injector's own namespace, whose pods it never touches
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// More namespaces whose pods are never touched; kube-system and its like are none
    #[arg(long, value_name = "NAME")]
    exclude: Vec<String>,
    /// Version of the API server, as 1.31; asked of it without
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<Version>,
    /// The API server, for its version
    #[arg(long, value_name = "HOST:PORT", default_value = "kubernetes.default.svc:443")]
    api_server: String,
    /// Who signs its certificate (PEM)
    #[arg(long, value_name = "FILE", default_value = "/run/secrets/cluster/ca.crt")]
    api_server_ca: PathBuf,
    /// What to log in with
    #[arg(long, value_name = "FILE")]
    api_server_token: Option<PathBuf>,
    #[command(flatten)]
    pods: Pods,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What pods are given")]
struct Pods {
    /// Tollgate's image
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// When it is pulled
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// The secret, of each pod's own namespace, that it is pulled with
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// The ConfigMap, of each pod's own namespace, with tollgate.yaml, for pods that name none
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// What Tollgate binds to in a pod; `[::]` where pods have IPv6 addresses
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    bind: String,
    /// Port for callers
    #[arg(long, value_name = "PORT", default_value_t = Preferred::default().listen, value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: u16,
    /// Port of metrics and probes
    #[arg(long, value_name = "PORT", default_value_t = Preferred::default().metrics, value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: u16,
    /// Port of the admin API, on loopback
    #[arg(long, value_name = "PORT", default_value_t = Preferred::default().admin, value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: u16,
    #[arg(long, value_name = "QUANTITY", default_value = "100m")]
    cpu_request: Quantity,
    #[arg(long, value_name = "QUANTITY")]
    cpu_limit: Option<Quantity>,
    #[arg(long, value_name = "QUANTITY", default_value = "128Mi")]
    memory_request: Quantity,
    #[arg(long, value_name = "QUANTITY", default_value = "384Mi")]
    memory_limit: Quantity,
    /// The longest that a pod's ledger may grow
    #[arg(long, value_name = "QUANTITY", default_value = "1Gi")]
    ledger_size: Quantity,
    /// Seconds that a drain may take: drain.deadline of the pods' configuration
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u32).range(..=86_400))]
    drain_deadline: u32,
    /// From which version of the API server on sidecars are native ones; 1.32 if nodes may be three versions older
    #[arg(long, value_name = "VERSION", default_value_t = NATIVE_SINCE)]
    native_from: Version,
    /// What becomes of a pod that asked and cannot be served
    #[arg(long, value_enum, default_value_t)]
    on_failure: OnFailure,
}

/// Make a certificate, its key and its authority: ca.crt, tls.crt, tls.key
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tollgate-injector certificate --namespace tollgate --out certificates"
)]
struct Certificate {
    /// The injector's namespace
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// The injector's Service
    #[arg(long, value_name = "NAME", default_value = "tollgate-injector")]
    service: String,
    /// How long it is good for; nobody renews it
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// An existing directory, without these files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What ended it, and the exit code that says so.
enum Failure {
    Input(String),
    Environment(String),
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(serve) => serve.execute(),
        Command::Certificate(certificate) => certificate.execute(),
    };
    let (text, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Input(text)) => (text, 1),
        Err(Failure::Environment(text)) => (text, 2),
    };
    // Nobody is left to be told that it could not be told.
    writeln!(std::io::stderr(), "{text}").ok();
    ExitCode::from(code)
}

impl Certificate {
    fn execute(self) -> Result<(), Failure> {
        let Self { namespace, service, days, out } = self;
        let names = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ];
        let made =
            self_made::make(names, days).map_err(|error| Failure::Input(error.to_string()))?;
        made.write(&out).map_err(|error| Failure::Environment(error.to_string()))
    }
}

impl Serve {
    fn execute(self) -> Result<(), Failure> {
        let filter = EnvFilter::new("info,hyper=warn,h2=warn,rustls=warn");
        let log = fmt::Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr);
        log.json().flatten_event(true).init();
        let (config, certificates) = (self.config()?, self.certificates()?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::Environment(format!("the runtime: {error}")))?;
        runtime.block_on(self.serve(config, certificates))
    }

    fn config(&self) -> Result<Config, Failure> {
        let it = &self.pods;
        let resources = Resources {
            cpu_request: it.cpu_request.clone(),
            cpu_limit: it.cpu_limit.clone(),
            memory_request: it.memory_request.clone(),
            memory_limit: Some(it.memory_limit.clone()),
        };
        resources.check().map_err(Failure::Input)?;
        Ok(Config {
            image: it.image.clone(),
            image_pull_policy: it.image_pull_policy.clone(),
            image_pull_secret: it.image_pull_secret.clone(),
            excluded: self.exclude.iter().chain([&self.namespace]).cloned().collect(),
            config_map: it.config_map.clone(),
            bind: it.bind.clone(),
            ports: Preferred {
                listen: it.listen_port,
                metrics: it.metrics_port,
                admin: it.admin_port,
            },
            resources,
            ledger_size: it.ledger_size.clone(),
            drain_deadline_s: it.drain_deadline,
            native_from: it.native_from,
            on_failure: it.on_failure,
        })
    }

    fn certificates(&self) -> Result<Arc<Certificates>, Failure> {
        let opened = Certificates::open(&self.certificate, &self.private_key);
        opened.map(Arc::new).map_err(|error| Failure::Environment(error.to_string()))
    }

    async fn serve(self, config: Config, certificates: Arc<Certificates>) -> Result<(), Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::Environment(format!("{what}: {error}"));
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|error| failed("signals", error))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|error| failed("signals", error))?;
        let socket = TcpListener::bind(self.address)
            .await
            .map_err(|error| failed(&self.address.to_string(), error))?;
        let address = socket.local_addr().map_err(|error| failed("the socket", error))?;
        let cluster = Cluster {
            address: self.api_server,
            authority: self.api_server_ca,
            token: self.api_server_token,
        };
        let version = match self.kubernetes_version {
            Some(version) => version,
            // Before the first review, and not for long: what a pod is made of depends on it.
            None => cluster.version().await.unwrap_or(UNKNOWN),
        };
        let injector = Arc::new(Injector::new(config, version));
        let stop = CancellationToken::new();
        tracing::info!(%address, "serving");
        let asking = async {
            if self.kubernetes_version.is_some() {
                return std::future::pending().await;
            }
            cluster.keep_asking(&injector).await
        };
        let leaving = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("leaving: readiness is false, what is under way ends");
            injector.leave();
            tokio::select! {
                () = time::sleep(LINGER) => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
            std::future::pending().await
        };
        let served = server::serve(socket, &certificates, injector.clone(), stop.clone());
        tokio::select! {
            served = served => served.map_err(|error| Failure::Environment(error.to_string())),
            () = certificates.keep_looking(injector.metrics()) => Ok(()),
            () = asking => Ok(()),
            () = leaving => Ok(()),
        }
    }
}
