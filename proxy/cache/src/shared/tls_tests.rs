//! A real Redis behind TLS that wants a certificate of ours and lets us do the least.

use super::server::{Instance, Question, settings, wait_until};
use crate::{
    generations::Target,
    outer::{StoreTls, stage::Authority},
    shared::{BadRedis, LinkState, RedisSettings, RedisTier},
    tiers::{Purged, Reach},
    versions::{Current, Said},
};
use std::{net::TcpListener, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// As `site` tells the operator.
const ACL: &str = "user tollgate on >s3cret resetkeys ~tollgate:* resetchannels &tollgate:* -@all \
    +hello +select +getrange +set +eval +hget +hset +hmget +hgetall +hincrby +hlen +hdel +del +publish \
    +subscribe";

struct Server {
    _dir: TempDir,
    _child: Child,
    port: u16,
}

impl Server {
    async fn start(authority: &Authority) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (certificate, key) = authority.sign("127.0.0.1");
        std::fs::write(at("ca"), &authority.pem).unwrap();
        std::fs::write(at("crt"), certificate).unwrap();
        std::fs::write(at("key"), key).unwrap();
        std::fs::write(at("acl"), format!("user default off\n{ACL}\n")).unwrap();
        // Redis cannot be given port 0 nor a socket: should the one that was free be taken
        // meanwhile, it ends, and the next is tried.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(child) = spawn(dir.path(), port).await {
                return Self { _dir: dir, _child: child, port };
            }
        }
        panic!("no port was free ten times");
    }

    fn settings(&self, tls: StoreTls) -> RedisSettings {
        RedisSettings {
            user: Some("tollgate".to_owned()),
            password: Some("s3cret".to_owned()),
            tls,
            ..settings(format!("rediss://127.0.0.1:{}", self.port))
        }
    }
}

/// The server, once it listens.
async fn spawn(dir: &Path, port: u16) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--tls-auth-clients", "yes", "--bind", "127.0.0.1"])
        .args(["--tls-cert-file", "crt", "--tls-key-file", "key", "--tls-ca-cert-file", "ca"])
        .args(["--aclfile", "acl", "--tls-port", &port.to_string()])
        .current_dir(dir)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed (Debian: apt-get install redis-server)");
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    while let Some(line) = lines.next_line().await.ok()? {
        if line.contains("Ready to accept connections") {
            return Some(child);
        }
    }
    None
}

async fn up(settings: RedisSettings) -> Instance {
    let instance = Instance::start(settings);
    instance.wait_for(LinkState::Up).await;
    instance
}

#[tokio::test]
async fn the_least_user_behind_tls_can_do_all_there_is_to_do() {
    let authority = Authority::new();
    let server = Server::start(&authority).await;
    let a = up(server.settings(authority.tls("127.0.0.1"))).await;
    let b = up(server.settings(authority.tls("127.0.0.1"))).await;
    let question = Question::new("question");
    a.share(&question, b"answer").await;
    assert!(b.in_redis(&question).await.is_some());
    let fleet = Purged { reach: Reach::Fleet, pending: false };
    assert_eq!(b.tiers.purge(Target::Tag("question")).await, fleet);
    wait_until(|| a.in_memory(&question).is_some(), |there| !there).await;
    assert_eq!(b.tiers.purge(Target::All).await, fleet);
    a.tiers.versions().observe("u", "m", Said::Version("1"), 0);
    let current = || b.tiers.versions().current("u", "m");
    wait_until(current, |now| *now == Current::Known("1".into())).await;
    assert_eq!(a.redis().counters().dropped_down.value(), 0);
}

#[tokio::test]
async fn a_server_or_a_caller_of_another_authority_is_not_talked_to() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start(&authority).await;
    let good = up(server.settings(authority.tls("127.0.0.1"))).await;
    let refused = [
        StoreTls { ca: other.tls("127.0.0.1").ca, ..authority.tls("127.0.0.1") },
        StoreTls { client: other.tls("127.0.0.1").client, ..authority.tls("127.0.0.1") },
        StoreTls { client: None, ..authority.tls("127.0.0.1") },
    ];
    let refused: Vec<_> =
        refused.into_iter().map(|tls| Instance::start(server.settings(tls))).collect();
    let wrong = RedisSettings {
        password: Some("guess".to_owned()),
        ..server.settings(authority.tls("127.0.0.1"))
    };
    let wrong = Instance::start(wrong);
    // By the time another has been let in, they have been turned away many times over.
    let _later = up(server.settings(authority.tls("127.0.0.1"))).await;
    let question = Question::new("question");
    good.share(&question, b"answer").await;
    for one in refused.iter().chain([&wrong]) {
        assert!(!one.redis().is_up());
        assert!(one.in_redis(&question).await.is_none());
        assert_eq!(one.redis().counters().skipped.value(), 1);
    }
}

#[tokio::test]
async fn tls_files_that_are_none_are_told_before_the_start() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let good = Authority::new().tls("127.0.0.1");
    let bad = || Some(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".to_vec());
    for tls in [
        StoreTls { ca: bad(), ..good.clone() },
        StoreTls { client: Some((bad().unwrap(), good.client.clone().unwrap().1)), ..good.clone() },
        StoreTls { client: Some((good.client.clone().unwrap().0, b"none".to_vec())), ca: None },
    ] {
        let settings =
            RedisSettings { tls, password: Some("s3cret".into()), ..settings("rediss://h".into()) };
        assert!(!format!("{settings:?}").contains("s3cret"));
        let started =
            RedisTier::start(settings, Default::default(), Default::default(), &tasks, &stop);
        assert!(matches!(started, Err(BadRedis::Tls(_))), "{started:?}");
    }
}
