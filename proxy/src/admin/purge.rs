//! `POST /api/cache/purge`: voids what is stored about one thing.

use super::Problem;
use crate::{app::Parts, purge::Aim};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_cache::tiers::{Purged, Reach};
use tollgate_config::PurgeKind;

/// What is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    key: Option<String>,
    tag: Option<String>,
    pattern: Option<String>,
    route: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    all: Option<bool>,
    soft: bool,
    dry_run: bool,
}

const TARGETS: &str = "key, tag, pattern, route, model, tenant or all";

/// Purges, here at once and elsewhere as far as the answer says.
pub(super) async fn purge(parts: &Parts, body: &Bytes) -> Result<Value, Problem> {
    let order = Order::read(body)?;
    let aim = order.aim()?;
    let target = aim.target();
    let tiers = &parts.cache.tiers;
    if order.dry_run {
        // Of this instance's memory: what the other tiers hold is not searched.
        return Ok(json!({ "purged": tiers.count(target), "reach": "instance", "pending": false }));
    }
    let purged =
        if order.soft { tiers.purge_softly(target).await } else { tiers.purge(target).await };
    let Purged { reach, pending } = purged;
    let reach = match reach {
        Reach::Instance => "instance",
        Reach::Fleet => "fleet",
    };
    let (soft, name) = (order.soft, aim.to_string());
    tracing::info!(
        by = %aim.kind(),
        name,
        soft,
        reach,
        pending,
        "the cache was purged by an administrator"
    );
    Ok(json!({ "purged": null, "reach": reach, "pending": pending }))
}

impl Order {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            // serde takes a list for the members in their order.
            return Err(Problem::bad("body: not a JSON object"));
        }
        serde_json::from_slice(body).map_err(|error| Problem::bad(format!("body: {error}")))
    }

    /// What is to be purged: exactly one thing.
    fn aim(&self) -> Result<Aim, Problem> {
        let named = [
            (PurgeKind::Key, &self.key),
            (PurgeKind::Tag, &self.tag),
            (PurgeKind::Pattern, &self.pattern),
            (PurgeKind::Route, &self.route),
            (PurgeKind::Model, &self.model),
            (PurgeKind::Tenant, &self.tenant),
        ];
        let mut targets = named.iter().filter_map(|(kind, name)| Some((*kind, name.as_deref()?)));
        let (first, second) = (targets.next(), targets.next());
        let (kind, name) = match (first, second, self.all) {
            (Some(target), None, None) => target,
            (None, None, Some(true)) => (PurgeKind::All, ""),
            (None, None, Some(false)) => return Err(Problem::bad("all: false purges nothing")),
            (None, ..) => return Err(Problem::bad(format!("name what to purge: {TARGETS}"))),
            (Some((first, _)), second, _) => {
                let second = second.map_or(PurgeKind::All, |(kind, _)| kind);
                let detail = format!("{first} and {second}: a purge has one target, {TARGETS}");
                return Err(Problem::bad(detail));
            }
        };
        Aim::new(kind, name).map_err(Problem::bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<&str, &str>) {
        let order: Result<Order, _> = serde_json::from_str(body);
        let found = match &order {
            Ok(order) => order.aim().map(|aim| aim.kind()).map_err(|problem| problem.detail),
            Err(error) => Err(error.to_string()),
        };
        match (&found, expected) {
            (Ok(kind), Ok(expected)) => assert_eq!(kind.to_string(), expected, "{body}"),
            (Err(detail), Err(part)) => assert!(detail.contains(part), "{body}: {detail}"),
            _ => panic!("{body}: {found:?}"),
        }
    }

    #[test]
    fn a_list_is_not_taken_for_an_order() {
        for body in ["[]", " [null]", "7", "\"all\""] {
            let Err(problem) = Order::read(body.as_bytes()) else { panic!("{body}") };
            assert_eq!(problem.detail, "body: not a JSON object", "{body}");
        }
        assert!(Order::read(b" {}").is_ok());
    }

    #[test]
    fn a_purge_has_exactly_one_target() {
        check(r#"{"tag":"kb:7"}"#, Ok("tag"));
        check(r#"{"route":"chat","soft":true,"dry_run":true}"#, Ok("route"));
        check(r#"{"model":"m"}"#, Ok("model"));
        check(r#"{"tenant":"t"}"#, Ok("tenant"));
        check(r#"{"all":true}"#, Ok("all"));
        check(&format!(r#"{{"key":"{}"}}"#, "0a".repeat(32)), Ok("key"));
        check("{}", Err("name what to purge"));
        check(r#"{"all":false}"#, Err("all: false"));
        check(r#"{"tag":"a","route":"b"}"#, Err("tag and route"));
        check(r#"{"tag":"a","all":true}"#, Err("tag and all"));
        check(r#"{"tag":""}"#, Err("tag: empty"));
        check(r#"{"key":"xyz"}"#, Err("key:"));
        check(r#"{"pattern":"kb:*"}"#, Ok("pattern"));
        check(r#"{"pattern":""}"#, Err("pattern: empty"));
        check(r#"{"pattern":"a\n"}"#, Err("pattern: has a control character"));
        check(&format!(r#"{{"pattern":"{}"}}"#, "a".repeat(129)), Err("longer than 128"));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        check(r#"{"tagg":"a"}"#, Err("tagg"));
        check(r#"{"tag":"a","tag":"b"}"#, Err("duplicate"));
        check(r#"{"tag":7}"#, Err("line 1 column"));
        check("", Err("EOF"));
    }
}
