//! For tests of stores: questions with their answers, certificates, a line to a server that can be
//! cut, and a process's signals.

use super::{Limits, StoreTls};
use crate::{
    entry::{Entry, subjects, tests::entry},
    generations::{Generations, Standing, Subject, Target},
    key::{BodyDigest, CacheKey, Check, KeyParts, Scope},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    task::JoinSet,
    time,
};

/// Generous: it is only reached when a promise is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const NOW_MS: u64 = 5_000;

/// Quick to notice and to come back, patient with a busy test machine.
pub(crate) fn limits() -> Limits {
    Limits {
        read_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        probe_timeout: Duration::from_secs(10),
        probe_interval: Duration::from_millis(20),
        reconnect_interval: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// A question with its key.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) key: CacheKey,
    pub(crate) check: Check,
    tag: Box<str>,
}

impl Question {
    /// With an answer that has a tag of the same name.
    pub(crate) fn new(text: &str) -> Self {
        let parts = KeyParts {
            namespace: "test",
            upstream: "u",
            method: "POST",
            path: "/",
            query: None,
            model: "m",
            model_version: "",
            versions: &[],
            scope: Scope::Tenant("acme"),
            headers: &[],
            body: &BodyDigest::of(text.as_bytes()),
        };
        let (key, check) = parts.key();
        Self { key, check, tag: text.into() }
    }

    /// An answer whose fill begins now.
    pub(crate) fn entry(&self, body: &'static [u8], generations: &Generations) -> Entry {
        let tags = vec![self.tag.clone()];
        Entry {
            check: self.check,
            stamp: generations.stamp(),
            subjects: subjects(self.key, "chat", "m", "acme", &tags),
            tags,
            ..entry(self.key, body)
        }
    }
}

/// Purges, as the tiers do, without the store.
pub(crate) fn purge_here(generations: &Generations, target: Target<'_>) -> Subject {
    let subject = Subject::of(target);
    generations.purge_here(subject);
    subject
}

pub(crate) fn is_valid(generations: &Generations, entry: &Entry) -> bool {
    generations.standing(entry.stamp, entry.about(), &entry.checked) != Standing::Void
}

/// Somebody who signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Another name than what it signs has, which would look self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `address` and its key.
    pub(crate) fn sign(&self, address: &str) -> (String, String) {
        let params = CertificateParams::new(vec![address.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn tls(&self, address: &str) -> StoreTls {
        let (certificate, key) = self.sign(address);
        StoreTls {
            ca: Some(self.pem.clone().into_bytes()),
            client: Some((certificate.into_bytes(), key.into_bytes())),
        }
    }
}

/// A line to a server's socket, which can be cut and mended.
pub(crate) struct Cable {
    dir: TempDir,
    name: &'static str,
    server: PathBuf,
    relay: JoinSet<()>,
}

impl Cable {
    /// `name`: of the near end's socket.
    pub(crate) fn to(server: PathBuf, name: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cable = Self { dir, name, server, relay: JoinSet::new() };
        cable.mend();
        cable
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join(self.name)
    }

    pub(crate) async fn cut(&mut self) {
        self.relay.shutdown().await;
        std::fs::remove_file(self.socket()).expect("it was there");
    }

    pub(crate) fn mend(&mut self) {
        let listener = UnixListener::bind(self.socket()).expect("bound");
        let server = self.server.clone();
        self.relay.spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                calls.spawn(async move {
                    if let Ok(mut far) = UnixStream::connect(server).await {
                        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
    }
}

/// Sends `kill -SIGNAL` to a child.
pub(crate) async fn signal(child: &Child, signal: &str) {
    let pid = child.id().expect("it runs");
    let done = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status().await;
    assert!(done.expect("sh runs").success());
    if signal == "STOP" {
        // `kill` only sends it: a thread may run on for a moment, and answer.
        wait_until(|| threads_running(pid), |running| *running == 0).await;
    }
}

/// Of a process that is being stopped: threads that are not yet (proc_pid_stat(5)).
fn threads_running(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it is there");
    let stats = threads.flatten().map(|one| std::fs::read_to_string(one.path().join("stat")));
    // The name, in brackets, may hold anything; the state follows it.
    let is_stopped =
        |stat: &String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    stats.flatten().filter(|stat| !is_stopped(stat)).count()
}

/// Looks until `done`, and says what it saw last if that does not come.
pub(crate) async fn wait_until<T: std::fmt::Debug>(
    mut look: impl FnMut() -> T,
    done: impl Fn(&T) -> bool,
) {
    let end = time::Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if done(&seen) {
            return;
        }
        assert!(time::Instant::now() < end, "it never came; last seen: {seen:?}");
        time::sleep(Duration::from_millis(2)).await;
    }
}
