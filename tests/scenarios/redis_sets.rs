//! Real sets of redis-servers: a cluster of three masters with or without replicas, and one master
//! with replicas that three sentinels watch. They are started by plain commands, found by events.
//!
//! A server of a set must have a port, as it tells it to the others. Each set has a loopback
//! address of its own (all of 127.0.0.0/8 is here), so no other program's port is in the way.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tollgate_tests::{Authority, until};

/// So many slots every cluster has.
const SLOTS: u32 = 16384;

/// How soon the others agree that a silent node is dead. Short, but not for a busy machine.
const NODE_TIMEOUT_MS: &str = "1000";

/// One server.
pub(crate) struct Server {
    dir: TempDir,
    child: Child,
    pub(crate) addr: SocketAddrV4,
    arguments: Vec<String>,
    /// Options of redis-cli, where it must be somebody.
    as_who: Vec<String>,
}

/// What is the same for all servers of a set.
#[derive(Clone, Default)]
pub(crate) struct Kind {
    arguments: Vec<String>,
    as_who: Vec<String>,
    is_tls: bool,
}

impl Kind {
    /// All that is said is behind TLS, of callers with a certificate of `authority`, and who does
    /// not say `password` is nobody.
    pub(crate) fn guarded(authority: &Authority, ip: Ipv4Addr, password: &str) -> Self {
        let own = authority.sign(&ip.to_string());
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let [ca, chain, key] = [&authority.file, &own.certificate, &own.private_key]
            .map(|path| path.display().to_string());
        Self {
            arguments: words(&[
                "--tls-ca-cert-file",
                &ca,
                "--tls-cert-file",
                &chain,
                "--tls-key-file",
                &key,
                "--tls-replication",
                "yes",
                "--tls-cluster",
                "yes",
                "--requirepass",
                password,
                "--masterauth",
                password,
            ]),
            as_who: words(&[
                "--tls",
                "--cacert",
                &ca,
                "--cert",
                &chain,
                "--key",
                &key,
                "-a",
                password,
                "--no-auth-warning",
            ]),
            is_tls: true,
        }
    }

    pub(crate) fn url(&self, addr: SocketAddrV4) -> String {
        format!("{}://{addr}", if self.is_tls { "rediss" } else { "redis" })
    }
}

/// An address that no other set has.
pub(crate) fn own_ip() -> Ipv4Addr {
    static SETS: AtomicU32 = AtomicU32::new(0);
    let set = SETS.fetch_add(1, Ordering::Relaxed) % 16;
    let [_, b, c, d] = ((std::process::id() % 0x7_ffff) * 16 + set).to_be_bytes();
    Ipv4Addr::new(127, 128 | b, c, d)
}

fn free_port(ip: Ipv4Addr) -> u16 {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    /// One that keeps nothing over its end, unless `arguments` say so.
    async fn start(ip: Ipv4Addr, kind: &Kind, arguments: &[&str]) -> Self {
        let addr = SocketAddrV4::new(ip, free_port(ip));
        let (ip, port) = (ip.to_string(), addr.port().to_string());
        let ports = if kind.is_tls { ["0", &port] } else { [&port, "0"] };
        // The others learn from where it calls them where it is.
        let common = [
            "--bind",
            &ip,
            "--bind-source-addr",
            &ip,
            "--protected-mode",
            "no",
            "--port",
            ports[0],
            "--tls-port",
            ports[1],
        ];
        let keeps = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];
        let all = common.iter().chain(&keeps).chain(arguments).map(ToString::to_string);
        let all = all.chain(kind.arguments.iter().cloned()).collect();
        Self::run(TempDir::new().unwrap(), addr, all, kind.as_who.clone()).await
    }

    async fn run(
        dir: TempDir,
        addr: SocketAddrV4,
        arguments: Vec<String>,
        as_who: Vec<String>,
    ) -> Self {
        let child = spawn(&dir, &arguments);
        let server = Self { dir, child, addr, arguments, as_who };
        server.answers().await;
        server
    }

    async fn answers(&self) {
        let look = || async { self.cli(&["PING"]).await };
        until("redis-server", look, |said| said == "PONG").await;
    }

    /// What redis-cli prints.
    pub(crate) async fn cli(&self, words: &[&str]) -> String {
        let (host, port) = (self.addr.ip().to_string(), self.addr.port().to_string());
        let output: Output = Command::new("redis-cli")
            .args(["-h", &host, "-p", &port])
            .args(&self.as_who)
            .args(words)
            .output()
            .await
            .expect("redis-cli is installed (Debian: apt-get install redis-tools)");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) async fn ok(&self, words: &[&str]) {
        assert_eq!(self.cli(words).await, "OK", "{words:?}");
    }

    /// Waits until the answer of a command has a line that begins so.
    pub(crate) async fn says(&self, words: &[&str], wanted: &str) {
        let look = || async { self.cli(words).await };
        let is = |said: &String| said.lines().any(|line| line.starts_with(wanted));
        until(wanted, look, is).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// As it was, but empty.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.dir, &self.arguments);
        self.answers().await;
    }
}

fn spawn(dir: &TempDir, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed (Debian: apt-get install redis-server)")
}

/// The first three are masters at first, each of a third of the slots; the others, if there are,
/// their replicas in the same order.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
    kind: Kind,
}

impl Cluster {
    /// Of three masters and as many replicas. `whole`: it serves only if all slots are served.
    pub(crate) async fn of_six() -> Self {
        Self::start(own_ip(), Kind::default(), 6, true).await
    }

    pub(crate) async fn start(ip: Ipv4Addr, kind: Kind, servers: usize, whole: bool) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..servers {
            let bus_port = free_port(ip).to_string();
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus_port,
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
                "--cluster-replica-validity-factor",
                "0",
                "--cluster-require-full-coverage",
                if whole { "yes" } else { "no" },
            ];
            nodes.push(Server::start(ip, &kind, &arguments).await);
        }
        let cluster = Self { nodes, kind };
        cluster.join().await;
        cluster
    }

    async fn join(&self) {
        let (first, n) = (&self.nodes[0], self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            node.ok(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]).await;
            if let Some(third) = u32::try_from(i).ok().filter(|third| *third < 3) {
                let (from, to) = (third * SLOTS / 3, (third + 1) * SLOTS / 3 - 1);
                node.ok(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
            }
        }
        for node in &self.nodes[1..] {
            let place = node.arguments.iter().position(|word| word == "--cluster-port").unwrap();
            let (ip, port) = (node.addr.ip().to_string(), node.addr.port().to_string());
            first.ok(&["CLUSTER", "MEET", &ip, &port, &node.arguments[place + 1]]).await;
        }
        for node in &self.nodes {
            node.says(&["CLUSTER", "INFO"], &format!("cluster_known_nodes:{n}")).await;
        }
        for (i, node) in self.nodes.iter().enumerate().skip(3) {
            let master = self.nodes[i - 3].cli(&["CLUSTER", "MYID"]).await;
            // It must have heard that the master is one.
            let look = || async { node.cli(&["CLUSTER", "REPLICATE", &master]).await };
            until("a replica", look, |said| said == "OK").await;
            node.says(&["INFO", "replication"], "master_link_status:up").await;
        }
        for node in &self.nodes {
            node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await;
            let masters = self.nodes.len().min(3);
            let look = || async { node.cli(&["CLUSTER", "SLOTS"]).await.lines().count() };
            // Three ranges, each with who serves them.
            until("the slots", look, |lines| *lines >= masters * 5).await;
        }
    }

    /// The place of the master that serves `key`, as it was at first.
    pub(crate) async fn master_of(&self, key: &str) -> usize {
        let slot: u32 = self.nodes[1].cli(&["CLUSTER", "KEYSLOT", key]).await.parse().unwrap();
        (0..3).rfind(|third| third * SLOTS / 3 <= slot).unwrap().try_into().unwrap()
    }

    /// As a configuration names it, by two of its nodes.
    pub(crate) fn settings(&self) -> Value {
        let urls: Vec<_> = self.nodes[..2].iter().map(|node| self.kind.url(node.addr)).collect();
        json!({ "urls": urls, "mode": "cluster", "timeout": "2s" })
    }
}

/// A master with replicas, and three who watch it.
pub(crate) struct Watched {
    /// The first is the master at first.
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Server>,
    kind: Kind,
}

impl Watched {
    pub(crate) async fn start() -> Self {
        Self::of(own_ip(), Kind::default(), "").await
    }

    /// `password`: the servers', where they have one.
    pub(crate) async fn of(ip: Ipv4Addr, kind: Kind, password: &str) -> Self {
        let master = Server::start(ip, &kind, &[]).await;
        let (host, port) = (ip.to_string(), master.addr.port().to_string());
        let of = ["--replicaof", &format!("{host} {port}")];
        let replica = Server::start(ip, &kind, &of).await;
        replica.says(&["INFO", "replication"], "master_link_status:up").await;
        // A sentinel hears of replicas when it first asks the master, and then only now and then.
        master.says(&["INFO", "replication"], "slave0:").await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel(ip, &kind, password, master.addr).await);
        }
        for one in &sentinels {
            for wanted in ["num-slaves 1", "num-other-sentinels 2"] {
                let look = || async {
                    let said = one.cli(&["SENTINEL", "MASTER", "answers"]).await;
                    said.lines().collect::<Vec<_>>().chunks(2).map(|two| two.join(" ")).collect()
                };
                let is = |fields: &Vec<String>| fields.iter().any(|field| field == wanted);
                until("sentinels that know each other", look, is).await;
            }
        }
        Self { servers: vec![master, replica], sentinels, kind }
    }

    /// Waits until most sentinels name another server than the first.
    pub(crate) async fn has_another_master(&self) {
        let first = self.servers[0].addr.port().to_string();
        for one in &self.sentinels {
            let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "answers"];
            let look = || async { one.cli(&words).await };
            until("another master", look, |said| !said.ends_with(&first)).await;
        }
    }

    /// As a configuration names it.
    pub(crate) fn settings(&self) -> Value {
        let urls: Vec<_> = self.sentinels.iter().map(|one| self.kind.url(one.addr)).collect();
        json!({ "urls": urls, "mode": "sentinel", "master": "answers", "timeout": "2s" })
    }
}

async fn sentinel(ip: Ipv4Addr, kind: &Kind, password: &str, master: SocketAddrV4) -> Server {
    let addr = SocketAddrV4::new(ip, free_port(ip));
    let port = addr.port();
    let ports = if kind.is_tls { (0, port) } else { (port, 0) };
    let mut text = format!(
        "bind {ip}\nbind-source-addr {ip}\nprotected-mode no\nport {}\ntls-port {}\nsentinel monitor answers {ip} {} 2\n\
         sentinel down-after-milliseconds answers 500\nsentinel failover-timeout answers 5000\n",
        ports.0,
        ports.1,
        master.port(),
    );
    if !password.is_empty() {
        text.push_str(&format!("sentinel auth-pass answers {password}\n"));
        text.push_str(&format!("sentinel sentinel-pass {password}\n"));
    }
    for pair in kind.arguments.chunks(2).filter(|pair| !pair[0].contains("masterauth")) {
        text.push_str(&format!("{} {}\n", pair[0].trim_start_matches("--"), pair[1]));
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("sentinel.conf");
    fs::write(&file, text).unwrap();
    let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
    Server::run(dir, addr, arguments, kind.as_who.clone()).await
}
