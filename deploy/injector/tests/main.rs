//! What the injector promises: of pods in files (`golden`), of any pod (`properties`),
//! and of reviews over TLS (`server`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

mod golden;
mod properties;
mod raw;
mod review;
mod server;

use tollgate_injector::config::{Config, NATIVE_SINCE, OnFailure, Preferred, Resources};

/// What an operator gets who says nothing but the image.
fn config() -> Config {
    Config {
        image: "tollgate:0.1.0".to_owned(),
        image_pull_policy: None,
        image_pull_secret: None,
        excluded: vec!["tollgate".to_owned()],
        config_map: None,
        bind: "0.0.0.0".to_owned(),
        ports: Preferred::default(),
        resources: Resources {
            cpu_request: "100m".parse().unwrap(),
            cpu_limit: None,
            memory_request: "128Mi".parse().unwrap(),
            memory_limit: Some("384Mi".parse().unwrap()),
        },
        ledger_size: "1Gi".parse().unwrap(),
        drain_deadline_s: 25,
        native_from: NATIVE_SINCE,
        on_failure: OnFailure::Allow,
    }
}
