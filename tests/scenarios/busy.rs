//! A provider that is busy: one call runs, held there, and all others wait.

use crate::ask::{self, chat, limited, send};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{
    Reply, Settings, World,
    standin::{Gate, Options},
};

pub(crate) const MODEL: &str = "gpt-4o-mini";

pub(crate) fn four_classes(settings: &mut Settings) {
    settings.set(
        "classes",
        json!([
            { "name": "emergency", "strict": true, "queue": 64, "max_wait": "60s" },
            { "name": "vip", "weight": 8, "queue": 256, "max_wait": "60s" },
            { "name": "normal", "weight": 4, "queue": 512, "max_wait": "60s", "default": true },
            { "name": "batch", "weight": 1, "queue": 1024, "max_wait": "60s" },
        ]),
    );
    let map = json!({ "emergency": "emergency", "vip": "vip", "batch": "batch" });
    settings.set("routes.0.class", json!({ "header": "x-priority", "map": map }));
}

/// One class whose queue is `queue` long, with this patience.
pub(crate) fn one_class(settings: &mut Settings, queue: u64, max_wait: &str) {
    let class = json!({ "name": "only", "default": true, "queue": queue, "max_wait": max_wait });
    settings.set("classes", json!([class]));
}

/// A world in which one call runs, held at the provider, and all others wait.
pub(crate) struct Busy {
    pub(crate) world: World,
    pub(crate) gate: Gate,
    pub(crate) calls: JoinSet<Reply>,
    waiting: u32,
}

impl Busy {
    pub(crate) async fn new(change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        let gate = Gate::heads();
        let options = Options {
            gate: Some(gate.clone()),
            concurrency_limit: Some(1),
            requests_max: 1000,
            ..Options::default()
        };
        let world = World::builder()
            .standin(options)
            .config(|settings| {
                limited(settings, 1);
                change(settings);
            })
            .start()
            .await;
        let mut calls = ask::calls();
        send(&mut calls, &world.client, &[], chat(MODEL, "first"));
        world.standin.wait_for_calls(1).await;
        Self { world, gate, calls, waiting: 0 }
    }

    /// A call that is in the queue when this returns.
    pub(crate) async fn waits(&mut self, headers: &[(&'static str, &str)], text: &str) {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        send(&mut self.calls, &self.world.client, &headers, chat(MODEL, text));
        self.waiting += 1;
        self.world.metric_when("request_queue_length", f64::from(self.waiting)).await;
    }

    /// Lets all run; the texts in the order in which the provider was asked.
    pub(crate) async fn run(mut self) -> Vec<String> {
        self.gate.open();
        while let Some(reply) = self.calls.join_next().await {
            assert_eq!(reply.unwrap().status, 200);
        }
        let counts = self.world.standin.counts();
        assert_eq!((counts.limit_exceeded, counts.max_in_flight), (0, 1));
        check_rest(&self.world);
        self.world.standin.last_requests().iter().map(|request| text_of(&request.body)).collect()
    }
}

fn text_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

/// Nobody runs and nobody waits, and the gauges know.
#[track_caller]
pub(crate) fn check_rest(world: &World) {
    for (series, value) in world.metrics() {
        let is_gauge = [
            "request_queue_length",
            "request_concurrency",
            "request_inflight",
            "request_queue_oldest_seconds",
        ]
        .contains(&series.as_str())
            || series.starts_with("tollgate_queue_length")
            || series.starts_with("tollgate_permits_leaked");
        assert!(!is_gauge || value == 0.0, "{series} {value}");
    }
}
