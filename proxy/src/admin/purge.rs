//! `POST /api/cache/purge`: voids what is stored about one thing.

use super::Problem;
use crate::app::Parts;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_cache::{
    generations::Target,
    key::CacheKey,
    tiers::{Purged, Reach},
};

/// What is sent. Members of the contract that this version lacks are named here, so
/// that they are refused by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    key: Option<String>,
    tag: Option<String>,
    route: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    all: Option<bool>,
    pattern: Option<Value>,
    soft: bool,
    dry_run: bool,
}

const TARGETS: &str = "key, tag, route, model, tenant or all";

/// Purges, here at once and elsewhere as far as the answer says.
pub(super) async fn purge(parts: &Parts, body: &Bytes) -> Result<Value, Problem> {
    let order = Order::read(body)?;
    let (kind, name, target) = order.target()?;
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
    let soft = order.soft;
    tracing::info!(
        by = kind,
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

    /// The kind, the name and the target of the purge: exactly one.
    fn target(&self) -> Result<(&'static str, &str, Target<'_>), Problem> {
        if self.pattern.is_some() {
            return Err(Problem::bad("pattern: not in this version"));
        }
        let named = [
            ("key", &self.key),
            ("tag", &self.tag),
            ("route", &self.route),
            ("model", &self.model),
            ("tenant", &self.tenant),
        ];
        let mut targets = named.iter().filter_map(|(kind, name)| Some((*kind, name.as_deref()?)));
        let (first, second) = (targets.next(), targets.next());
        let (kind, name) = match (first, second, self.all) {
            (Some(target), None, None) => target,
            (None, None, Some(true)) => return Ok(("all", "", Target::All)),
            (None, None, Some(false)) => return Err(Problem::bad("all: false purges nothing")),
            (None, ..) => return Err(Problem::bad(format!("name what to purge: {TARGETS}"))),
            (Some((first, _)), second, _) => {
                let second = second.map_or("all", |(kind, _)| kind);
                let detail = format!("{first} and {second}: a purge has one target, {TARGETS}");
                return Err(Problem::bad(detail));
            }
        };
        if name.is_empty() {
            return Err(Problem::bad(format!("{kind}: empty")));
        }
        let target = match kind {
            "key" => Target::Key(CacheKey::from_hex(name).ok_or_else(|| {
                Problem::bad("key: not the 64 hexadecimal digits that explain shows")
            })?),
            "tag" => Target::Tag(name),
            "route" => Target::Route(name),
            "model" => Target::Model(name),
            _ => Target::Tenant(name),
        };
        Ok((kind, name, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<&str, &str>) {
        let order: Result<Order, _> = serde_json::from_str(body);
        let found = match &order {
            Ok(order) => order.target().map(|(kind, ..)| kind).map_err(|problem| problem.detail),
            Err(error) => Err(error.to_string()),
        };
        match (&found, expected) {
            (Ok(kind), Ok(expected)) => assert_eq!(*kind, expected, "{body}"),
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
    }

    #[test]
    fn what_this_version_lacks_is_refused_by_name_and_what_is_unknown_too() {
        check(r#"{"pattern":"kb:*"}"#, Err("pattern: not in this version"));
        check(r#"{"tagg":"a"}"#, Err("tagg"));
        check(r#"{"tag":"a","tag":"b"}"#, Err("duplicate"));
        check(r#"{"tag":7}"#, Err("line 1 column"));
        check("", Err("EOF"));
    }
}
