//! The stores behind memory as scenarios that are about each of them see them: a real server, or a
//! folder, that a proxy is put before, and that is broken and healed.

use crate::{
    cache_memcached,
    cache_redis::{self, Line},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tollgate_tests::{Postgres, World, WorldBuilder, until};

/// What a store may cost a call.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Stall,
    Flush,
    Fill,
    Partition,
}

const ALL: [Fault; 5] = [Fault::Kill, Fault::Stall, Fault::Flush, Fault::Fill, Fault::Partition];

pub(crate) trait Store: Sized {
    const NAME: &'static str;
    const FAULTS: &'static [Fault];
    /// How many proxies use it, of a fleet two.
    const PROXIES: usize;

    async fn start() -> Self;
    /// Where it is.
    fn settings(&self) -> Vec<(&'static str, Value)>;
    async fn breaks(&mut self, fault: Fault);
    async fn heals(&mut self, fault: Fault);

    /// The metric that says whether it is.
    fn up() -> String {
        format!("tollgate_store_up{{store=\"{}\"}}", Self::NAME)
    }

    /// A proxy that has reached it.
    async fn before(&self, mut builder: WorldBuilder) -> World {
        for (path, value) in self.settings() {
            builder = builder.set(path, value);
        }
        let world = builder.set("cache.namespace", json!("fleet")).start().await;
        world.metric_when(&Self::up(), 1.0).await;
        world
    }
}

pub(crate) struct Redis {
    server: cache_redis::Server,
    line: Line,
}

impl Redis {
    /// Says it until so many listen: who subscribes later has not heard it.
    pub(crate) async fn says(&self, channel: &str, event: &Value, listeners: usize) {
        let event = event.to_string();
        let say = || async { self.server.cli(&["PUBLISH", channel, &event]).await };
        let all = listeners.to_string();
        until("the listeners", say, |heard| heard.trim() == all).await;
    }

    /// All that lies there as a value.
    pub(crate) async fn dump(&self) -> String {
        const ALL: &str = "local all = {} for _, key in ipairs(redis.call('keys', '*')) do \
            if redis.call('type', key).ok == 'string' then all[#all + 1] = redis.call('get', key) end end \
            return all";
        self.server.cli(&["--raw", "EVAL", ALL, "0"]).await
    }
}

impl Store for Redis {
    const NAME: &'static str = "redis";
    const FAULTS: &'static [Fault] = &ALL;
    const PROXIES: usize = 2;

    async fn start() -> Self {
        let server = cache_redis::Server::start().await;
        let line = Line::to(&server).await;
        Self { server, line }
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let settings = json!({ "urls": [self.line.url()], "timeout": seconds(TIMEOUT) });
        vec![("stores.redis", settings)]
    }

    async fn breaks(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.kill().await,
            Fault::Stall => self.server.stop().await,
            Fault::Flush => drop(self.server.cli(&["FLUSHALL"]).await),
            Fault::Fill => {
                let said = self.server.cli(&["INFO", "memory"]).await;
                let used = said.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
                let most = used.trim().parse::<u64>().unwrap() + 64 * 1024;
                self.server.cli(&["CONFIG", "SET", "maxmemory", &most.to_string()]).await;
            }
            Fault::Partition => self.line.hold(),
        }
    }

    async fn heals(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.start_again().await,
            Fault::Stall => self.server.signal(Signal::CONT),
            Fault::Flush => {}
            Fault::Fill => {
                let said = self.server.cli(&["INFO", "errorstats"]).await;
                assert!(said.contains("errorstat_OOM"), "it was not full: {said}");
                self.server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            Fault::Partition => self.line.release(),
        }
    }
}

pub(crate) struct Memcached {
    server: cache_memcached::Server,
    line: Line,
}

impl Store for Memcached {
    const NAME: &'static str = "memcached";
    const FAULTS: &'static [Fault] = &ALL;
    const PROXIES: usize = 2;

    async fn start() -> Self {
        let server = cache_memcached::Server::of("8").await;
        let line = Line::to_socket(server.socket()).await;
        Self { server, line }
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let servers = json!([self.line.addr.to_string()]);
        vec![("stores.memcached", json!({ "servers": servers, "timeout": seconds(TIMEOUT) }))]
    }

    async fn breaks(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.kill().await,
            Fault::Stall => self.server.stop().await,
            Fault::Flush => drop(self.server.ask(b"flush_all\r\n").await),
            Fault::Fill => {
                // Twice what it holds, in values of others.
                let of = |n| {
                    [format!("ms other{n} 200000 T0 q\r\n").as_bytes(), &[b'x'; 200_000], b"\r\n"]
                        .concat()
                };
                self.server.ask(&(0..80).flat_map(of).collect::<Vec<u8>>()).await;
            }
            Fault::Partition => self.line.hold(),
        }
    }

    async fn heals(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.start_again().await,
            Fault::Stall => self.server.signal(Signal::CONT),
            Fault::Flush => {}
            Fault::Fill => {
                let said = self.server.said(b"stats\r\n", b"END\r\n").await;
                let said = String::from_utf8_lossy(&said).into_owned();
                assert!(!said.contains("STAT evictions 0\r\n"), "it was not full: {said}");
            }
            Fault::Partition => self.line.release(),
        }
    }
}

pub(crate) struct Database {
    server: Postgres,
    line: Line,
}

impl Store for Database {
    const NAME: &'static str = "postgres";
    const FAULTS: &'static [Fault] = &ALL;
    const PROXIES: usize = 2;

    async fn start() -> Self {
        let server = Postgres::start(5432, &[], &[]);
        let line = Line::to_socket(server.socket()).await;
        Self { server, line }
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let url = format!("postgres://tollgate@{}/postgres?sslmode=disable", self.line.addr);
        vec![("stores.postgres", json!({ "url": url, "timeout": seconds(TIMEOUT) }))]
    }

    async fn breaks(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.kill(),
            Fault::Stall => self.server.signal("STOP"),
            Fault::Flush => {
                self.server.sql("TRUNCATE tollgate_entries, tollgate_fleet, tollgate_purges");
            }
            Fault::Fill => {
                self.server.sql("ALTER SYSTEM SET default_transaction_read_only = on");
                self.server.sql("SELECT pg_reload_conf()");
            }
            Fault::Partition => self.line.hold(),
        }
    }

    async fn heals(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.server.start_again(),
            Fault::Stall => self.server.signal("CONT"),
            Fault::Flush => {}
            Fault::Fill => {
                self.server.sql("ALTER SYSTEM RESET default_transaction_read_only");
                self.server.sql("SELECT pg_reload_conf()");
            }
            Fault::Partition => self.line.release(),
        }
    }
}

pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    fn entries(&self) -> PathBuf {
        self.dir.path().join("cache/entries")
    }

    /// Even root cannot write a file where a directory is.
    fn obstacle(&self) -> PathBuf {
        self.entries().join("new/0")
    }
}

impl Store for Disk {
    const NAME: &'static str = "disk";
    const FAULTS: &'static [Fault] = &[Fault::Flush, Fault::Fill];
    const PROXIES: usize = 1;

    async fn start() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let timeout = json!(seconds(TIMEOUT));
        vec![("data_dir", json!(self.dir.path())), ("cache.disk.timeout", timeout)]
    }

    async fn breaks(&mut self, fault: Fault) {
        if fault == Fault::Fill {
            fs::remove_file(self.obstacle()).ok();
            // A write may be under way, and leave its file there once more.
            let make = || async { fs::create_dir(self.obstacle()).is_ok() };
            until("the obstacle", make, |made| *made).await;
            return;
        }
        for dir in fs::read_dir(self.entries()).unwrap() {
            let dir = dir.unwrap().path();
            for file in fs::read_dir(&dir).into_iter().flatten() {
                fs::remove_file(file.unwrap().path()).ok();
            }
        }
    }

    async fn heals(&mut self, fault: Fault) {
        if fault == Fault::Fill {
            fs::remove_dir(self.obstacle()).unwrap();
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}
