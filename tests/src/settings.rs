//! A configuration that a scenario changes here and there.
//!
//! It is written out as JSON, which is YAML, and read by the same reader as an
//! operator's file.

use serde_json::{Map, Value, json};
use std::path::Path;

/// The text of a configuration, before it is text.
#[derive(Clone, Debug)]
pub struct Settings(Value);

impl Settings {
    /// One route `all` to one upstream `model`, nothing cached, ports by the system,
    /// no time lost when going down.
    pub fn new(upstream_url: &str, data_dir: &Path) -> Self {
        Self(json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "admin": { "address": "127.0.0.1:0" },
            "telemetry": { "metrics": { "address": "127.0.0.1:0" } },
            "data_dir": data_dir,
            "drain": { "quiet": "0s", "deadline": "10s" },
            "upstreams": { "model": { "endpoints": [{ "url": upstream_url }] } },
            "routes": [{ "name": "all", "upstream": "model", "cache": "off" }],
        }))
    }

    /// What an operator's file comes to, with its defaults written out and its secrets as references.
    pub fn of(config: &tollgate_config::Config) -> Self {
        Self(tollgate_config::redacted(config))
    }

    /// Sets what stands at `path` (`routes.0.cache.mode`), making what is missing on the
    /// way. An item one past the end of a list is added to it.
    ///
    /// # Panics
    /// Something on the way is neither object nor list, or an item is further away.
    pub fn set(&mut self, path: &str, value: Value) -> &mut Self {
        let mut place = &mut self.0;
        for step in path.split('.') {
            place = match (step.parse::<usize>(), &mut *place) {
                (Ok(item), Value::Array(items)) => {
                    if item == items.len() {
                        items.push(Value::Null);
                    }
                    &mut items[item]
                }
                (_, place) => {
                    if place.is_null() {
                        *place = Value::Object(Map::new());
                    }
                    let Value::Object(members) = place else {
                        panic!("{path}: {step} is looked for in {place}")
                    };
                    members.entry(step).or_insert(Value::Null)
                }
            };
        }
        *place = value;
        self
    }

    /// What stands at `path`; null if nothing does.
    pub fn get(&self, path: &str) -> Value {
        self.0.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default()
    }

    /// Adds a route before those there are.
    pub fn route_first(&mut self, route: Value) -> &mut Self {
        if let Some(routes) = self.0["routes"].as_array_mut() {
            routes.insert(0, route);
        }
        self
    }

    /// The text.
    pub fn text(&self) -> String {
        self.0.to_string()
    }
}
