//! How a route finds classes, as it is in force.

use crate::{ClassRule, ClassSource, Config, Says, Trust};
use serde_json::{Map, Value, json};
use tollgate_core::class::ClassId;

/// `None`: every call is of the default class.
pub(super) fn rule(config: &Config, rule: &ClassRule) -> Option<Value> {
    if *rule == ClassRule::default() {
        return None;
    }
    let sources: Vec<Value> = rule.sources.iter().map(|one| source(config, one)).collect();
    Some(json!({
        "tenants": names(config, &rule.tenants),
        "header": rule.header,
        "map": names(config, &rule.map),
        "sources": sources,
        "trust": match &rule.trust {
            Trust::Anyone => None,
            Trust::Only(tenants) => Some(tenants),
        },
        "ceiling": rule.ceiling.and_then(|class| name(config, class)),
        "ceilings": names(config, &rule.ceilings),
    }))
}

fn source(config: &Config, one: &ClassSource) -> Value {
    let (how, says) = match &one.says {
        Says::Words(map) => ("map", names(config, map)),
        Says::AtLeast(steps) => ("at_least", names(config, steps)),
        Says::AtMost(steps) => ("at_most", names(config, steps)),
    };
    let mut shown = Map::new();
    shown.insert("from".to_owned(), one.from.kind().into());
    if let Some(name) = one.from.name() {
        shown.insert("name".to_owned(), name.into());
    }
    shown.insert(how.to_owned(), says);
    Value::Object(shown)
}

fn names<K: ToString>(config: &Config, list: &[(K, ClassId)]) -> Value {
    let named =
        list.iter().filter_map(|(key, class)| Some((key.to_string(), name(config, *class)?)));
    Value::Object(named.collect())
}

fn name(config: &Config, class: ClassId) -> Option<Value> {
    Some(config.class(class)?.name.clone().into())
}
