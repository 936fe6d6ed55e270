//! What the admin address promises, asked in process.

mod answers;
mod protection;

use super::*;
use crate::app::App;
use http::HeaderMap;
use http_body_util::Full;
use std::{io, path::Path};
use tempfile::TempDir;
use tollgate_config::{Environment, Overrides};

const TOKEN: &str = "correct-horse-battery";

/// A Tollgate with an admin side of its own, and nobody upstream.
struct House {
    app: App,
    host: &'static str,
    _dir: TempDir,
}

/// What it answered.
#[derive(Debug)]
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

/// An environment with a token in it, or without.
struct Given(Option<&'static str>);

impl Environment for Given {
    fn var(&self, name: &str) -> Option<String> {
        self.0.filter(|_| name == "TOLLGATE_ADMIN_TOKEN").map(str::to_owned)
    }

    fn read(&self, _: &Path, _: u64) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, _: &Path) -> bool {
        false
    }

    fn memory_limit(&self) -> Option<u64> {
        None
    }
}

fn config(dir: &Path, admin: &str, token: Option<&'static str>) -> Config {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        admin: Some(admin.to_owned()),
        metrics: Some("127.0.0.1:0".to_owned()),
        data_dir: Some(dir.join("data")),
    };
    Config::for_upstream("http://127.0.0.1:9", &overrides, &Given(token)).unwrap().0
}

async fn open_house(admin: &str, host: &'static str, token: Option<&'static str>) -> House {
    let dir = TempDir::new().unwrap();
    let admin = admin.replace("DIR", dir.path().to_str().unwrap());
    let app = App::start(config(dir.path(), &admin, token)).await.unwrap();
    House { app, host, _dir: dir }
}

/// On loopback, without a token.
async fn house() -> House {
    open_house("127.0.0.1:0", "localhost:9900", None).await
}

impl House {
    async fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Told {
        self.ask_from("127.0.0.1", method, target, fields, body).await
    }

    async fn ask_from(
        &self,
        from: &str,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Told {
        let from = Some(from.parse().unwrap());
        let mut request = Request::builder().method(method).uri(target);
        if !self.host.is_empty() && fields.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", self.host);
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = answer(self.app.parts.clone(), from, request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Told { status: head.status, headers: head.headers, text }
    }

    async fn get(&self, target: &str) -> Told {
        self.ask("GET", target, &[], "").await
    }

    async fn post(&self, target: &str, body: impl Into<Bytes>) -> Told {
        self.ask("POST", target, &[("content-type", "application/json")], body).await
    }
}

impl Told {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The detail of a problem of that status.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}
