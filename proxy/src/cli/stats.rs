//! `tollgate stats`: how the cache of a running instance is doing.

use super::{Failure, admin::AdminAt, block_on, print_line, write_text};
use http::Method;
use serde_json::Value;
use std::fmt::Write as _;

/// Show how the cache of a running instance is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate stats -c tollgate.yaml\n  \
    tollgate stats --admin unix:/run/tollgate/admin.sock --json")]
pub(super) struct Stats {
    #[command(flatten)]
    at: AdminAt,
    /// Print what the instance says as it says it
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let admin = self.at.find()?;
        let stats = block_on(admin.call(Method::GET, "/api/cache/stats", None))??;
        if self.json {
            print_line(&format!("{stats:#}"));
        } else {
            write_text(&page(&stats));
        }
        Ok(())
    }
}

const COLUMNS: [(&str, &str); 8] = [
    ("entries", "/entries"),
    ("bytes", "/bytes"),
    ("hits", "/hits"),
    ("misses", "/misses"),
    ("failed", "/failed"),
    ("stored", "/stored"),
    ("evicted", "/evictions/size"),
    ("purged", "/evictions/purged"),
];

fn page(stats: &Value) -> String {
    let mut text = format!("{:<8}", "tier");
    for (name, _) in COLUMNS {
        write!(text, "{name:>9}").ok();
    }
    text.push('\n');
    let tiers = stats.get("tiers").and_then(Value::as_array);
    for tier in tiers.into_iter().flatten() {
        write!(text, "{:<8}", word(tier.get("tier"))).ok();
        for (_, pointer) in COLUMNS {
            write!(text, "{:>9}", word(tier.pointer(pointer))).ok();
        }
        let is_down = tier.get("up").and_then(Value::as_bool) == Some(false);
        text.push_str(if is_down { "  down\n" } else { "\n" });
    }
    if let Some(recent) = stats.get("recent") {
        let share = |name: &str| match recent.get(name).and_then(Value::as_f64) {
            None => "–".to_owned(),
            Some(share) => format!("{share:.2}"),
        };
        let seconds = word(recent.get("window_s"));
        write!(text, "\nlast {seconds} s: hit ratio {} (", share("hit_ratio")).ok();
        let tiers = stats.get("tiers").and_then(Value::as_array).into_iter().flatten();
        for name in tiers.filter_map(|tier| tier.get("tier").and_then(Value::as_str)) {
            write!(text, "{} {}, ", name.escape_debug(), share(name)).ok();
        }
        writeln!(text, "collapsed {})", share("collapsed")).ok();
    }
    if let Some(flights) = stats.get("flights") {
        writeln!(text, "calls that others may join: {}", word(Some(flights))).ok();
    }
    text
}

/// A value as a cell of a table; foreign text cannot move the cursor.
fn word(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tier_is_a_line_and_what_is_not_known_is_a_dash() {
        let stats = json!({
            "tiers": [
                { "tier": "memory", "entries": 3, "bytes": 4096, "hits": 9, "misses": 1, "failed": 0,
                  "stored": 3, "evictions": { "size": 0, "expired": 0, "purged": 2 } },
                { "tier": "redis", "up": false, "hits": 0, "misses": 0, "failed": 7, "stored": 0 },
            ],
            "flights": 2,
            "recent": { "window_s": 300, "hit_ratio": 0.9, "memory": 0.9, "redis": null, "collapsed": 0.0 },
        });
        insta::assert_snapshot!(page(&stats), @"
        tier      entries    bytes     hits   misses   failed   stored  evicted   purged
        memory          3     4096        9        1        0        3        0        2
        redis           –        –        0        0        7        0        –        –  down

        last 300 s: hit ratio 0.90 (memory 0.90, redis –, collapsed 0.00)
        calls that others may join: 2
        ");
    }

    #[test]
    fn an_answer_of_another_shape_is_no_crash() {
        assert!(page(&json!({ "tiers": 7, "recent": [] })).starts_with("tier"));
        assert!(page(&Value::Null).starts_with("tier"));
    }
}
