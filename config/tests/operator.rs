//! What an operator sees of a configuration: that it is taken, or all that is wrong.
//!
//! The environment is a table here: no variable, file or cgroup of the machine the
//! tests run on can change what they say.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, a panic is the report"
)]

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};
use tollgate_config::{Config, Environment, Overrides, Problems, Warning};

#[path = "operator/accepted.rs"]
mod accepted;
#[path = "operator/events.rs"]
mod events;
#[path = "operator/forecast.rs"]
mod forecast;
#[path = "operator/http.rs"]
mod http;
#[path = "operator/keys.rs"]
mod keys;
#[path = "operator/refused.rs"]
mod refused;
#[path = "operator/schema.rs"]
mod schema;
#[path = "operator/secrets.rs"]
mod secrets;
#[path = "operator/upkeep.rs"]
mod upkeep;
#[path = "operator/warned.rs"]
mod warned;
#[path = "operator/wire.rs"]
mod wire;

#[derive(Default)]
struct Table {
    vars: HashMap<String, String>,
    files: HashMap<PathBuf, String>,
    memory_limit: Option<u64>,
}

impl Table {
    fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(PathBuf::from(path), text.to_owned());
        self
    }
}

impl Environment for Table {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn is_file(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }
}

const SMALLEST: &str = r#"
upstreams: { model: { endpoints: [{ url: "http://127.0.0.1:8000" }] } }
routes: [{ name: all, upstream: model }]
"#;

fn load(text: &str, table: &Table) -> Result<(Config, Vec<Warning>), Problems> {
    tollgate_config::load(text, Path::new("/etc/tollgate"), &Overrides::default(), table)
}

#[track_caller]
fn valid(text: &str) -> Config {
    load(text, &Table::default()).unwrap_or_else(|problems| panic_with(&problems)).0
}

#[track_caller]
fn panic_with(problems: &Problems) -> ! {
    panic!("{problems}")
}

#[track_caller]
fn problems(text: &str) -> String {
    load(text, &Table::default()).expect_err("should be refused").to_string()
}

/// Everything below `SMALLEST`'s two sections.
fn with(section: &str) -> String {
    format!("{section}\n{SMALLEST}")
}

fn lines(warnings: &[Warning]) -> String {
    let lines: Vec<_> =
        warnings.iter().map(|warning| format!("{:?} {warning}", warning.kind)).collect();
    lines.join("\n")
}
