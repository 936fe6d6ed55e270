//! `tollgate purge`: voids what a running instance (and its fleet) has stored.

use super::{Failure, admin::AdminAt, block_on, print_line};
use http::Method;
use serde_json::{Value, json};

/// Void cached answers of a running instance, and of its fleet through its stores
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate purge --tag kb:7\n  \
    tollgate purge --pattern 'kb:7:*' --soft\n  \
    tollgate purge --tag kb:7 --dry-run\n  \
    tollgate purge --all --admin http://127.0.0.1:9900 --token-file admin.token")]
pub(super) struct Purge {
    #[command(flatten)]
    target: Target,
    /// Not void but past their time: renewed when they are asked for, given meanwhile where stale ones may be
    #[arg(long)]
    soft: bool,
    /// Only count what the instance's memory holds of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: AdminAt,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// One answer: the 64 hexadecimal digits that `explain` shows
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Answers that carry a tag
    #[arg(long)]
    tag: Option<String>,
    /// Answers that carry a tag which this fits: * is any text, ? one character, \ takes the next as it is
    #[arg(long, value_name = "GLOB")]
    pattern: Option<String>,
    /// Answers of a route
    #[arg(long)]
    route: Option<String>,
    /// Answers of a model
    #[arg(long)]
    model: Option<String>,
    /// Answers to a tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

impl Purge {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let order = self.order();
        let admin = self.at.find()?;
        let done = block_on(admin.call(Method::POST, "/api/cache/purge", Some(&order)))??;
        print_line(&said(&done, self.dry_run));
        Ok(())
    }
}

impl Purge {
    fn order(&self) -> Value {
        let mut order = self.target.order();
        for (name, asked) in [("soft", self.soft), ("dry_run", self.dry_run)] {
            if let (true, Some(order)) = (asked, order.as_object_mut()) {
                order.insert(name.to_owned(), true.into());
            }
        }
        order
    }
}

impl Target {
    fn order(&self) -> Value {
        let named = [
            ("key", &self.key),
            ("tag", &self.tag),
            ("pattern", &self.pattern),
            ("route", &self.route),
            ("model", &self.model),
            ("tenant", &self.tenant),
        ];
        let named = named.into_iter().find_map(|(kind, name)| Some((kind, name.as_ref()?)));
        named.map_or_else(|| json!({ "all": true }), |(kind, name)| json!({ kind: name }))
    }
}

/// The answer in a line.
fn said(done: &Value, dry_run: bool) -> String {
    let n = match done.get("purged").and_then(Value::as_u64) {
        // A purge by generation does not count what it voids.
        None => "purged".to_owned(),
        Some(n) if dry_run => format!("would purge {n} entries of the memory"),
        Some(n) => format!("purged {n} entries"),
    };
    let reach = match done.get("reach").and_then(Value::as_str) {
        Some("fleet") => " in the whole fleet",
        _ => " in this instance",
    };
    let pending = match done.get("pending").and_then(Value::as_bool) {
        Some(true) => "; the fleet will follow when its store is back",
        _ => "",
    };
    format!("{n}{reach}{pending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        purge: Purge,
    }

    #[track_caller]
    fn check(flags: &[&str], expected: Option<Value>) {
        let typed = Typed::try_parse_from(["purge"].iter().chain(flags));
        assert_eq!(typed.ok().map(|typed| typed.purge.order()), expected, "{flags:?}");
    }

    #[test]
    fn a_purge_has_exactly_one_target() {
        check(&["--tag", "kb:7"], Some(json!({ "tag": "kb:7" })));
        check(&["--pattern", "kb:*"], Some(json!({ "pattern": "kb:*" })));
        check(&["--key", "ab"], Some(json!({ "key": "ab" })));
        check(&["--route", "r"], Some(json!({ "route": "r" })));
        check(&["--model", "m"], Some(json!({ "model": "m" })));
        check(&["--tenant", "t"], Some(json!({ "tenant": "t" })));
        check(&["--all"], Some(json!({ "all": true })));
        let both = json!({ "tag": "x", "soft": true, "dry_run": true });
        check(&["--tag", "x", "--soft", "--dry-run"], Some(both));
        check(&[], None);
        check(&["--all", "--tag", "x"], None);
        check(&["--tag", "x", "--route", "y"], None);
    }

    #[test]
    fn the_answer_says_how_far_it_reached() {
        let done = json!({ "purged": null, "reach": "fleet", "pending": false });
        assert_eq!(said(&done, false), "purged in the whole fleet");
        let done = json!({ "purged": 3, "reach": "instance", "pending": true });
        let expected =
            "purged 3 entries in this instance; the fleet will follow when its store is back";
        assert_eq!(said(&done, false), expected);
        let done = json!({ "purged": 3, "reach": "instance", "pending": false });
        assert_eq!(said(&done, true), "would purge 3 entries of the memory in this instance");
    }
}
