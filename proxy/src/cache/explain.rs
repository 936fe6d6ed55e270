//! Says what a key is made of: for `explain`, by the code that makes keys.

use super::{Mode, question::Question};
use std::sync::Arc;
use tollgate_cache::key::{CacheKey, KeyParts, Scope};
use tollgate_config::KeyPolicy;

/// A key and everything that it binds.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) key: CacheKey,
    /// Names and values, in the order in which they are bound; foreign bytes are escaped.
    pub(crate) members: Vec<(String, String)>,
    /// For how long the answer will be kept, and what says so; empty where its headers decide.
    pub(crate) kept_for: Vec<String>,
}

impl Question {
    /// The key under `version`. `host` is the call's: a member where the URL is the
    /// question.
    pub(crate) fn explain(&self, version: &str, host: Option<&[u8]>) -> Explained {
        let host = host.filter(|_| self.mode == Mode::Http);
        self.with_parts(version, host, |parts| Explained {
            key: parts.key().0,
            kept_for: match self.mode {
                Mode::Content => {
                    let mut lines = self.route.conditions.explain(self.fitting);
                    lines.extend(self.route.freshness.explain());
                    lines.extend(self.route.prefetch.as_ref().map(|ahead| ahead.explain()));
                    if !self.route.layouts(self.operation).is_empty() {
                        lines.push("each item of its list by itself, if it has several".to_owned());
                    }
                    lines
                }
                Mode::Http | Mode::Off => Vec::new(),
            },
            members: members(parts, self.mode, &self.route.config.cache.key),
        })
    }

    /// The version that the key was made with; `None` where no answer has said one.
    pub(crate) fn version(&self) -> Option<&Arc<str>> {
        self.version.as_ref()
    }

    pub(crate) fn tags(&self) -> &[Box<str>] {
        &self.tags
    }
}

fn members(parts: &KeyParts<'_>, mode: Mode, rule: &KeyPolicy) -> Vec<(String, String)> {
    let mut members: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &[u8]| {
        members.push((name.to_owned(), value.escape_ascii().to_string()));
    };
    add("namespace", parts.namespace.as_bytes());
    add("upstream", parts.upstream.as_bytes());
    add("method", parts.method.as_bytes());
    if !parts.path.is_empty() {
        add("path", parts.path.as_bytes());
    }
    if let Some(query) = parts.query {
        add("query", query.as_bytes());
    }
    add("model", parts.model.as_bytes());
    add("model version", parts.model_version.as_bytes());
    for (name, value) in parts.versions {
        let name = if name.is_empty() { "host" } else { name };
        add(name, value);
    }
    match parts.scope {
        Scope::Tenant(tenant) => add("tenant", tenant.as_bytes()),
        Scope::User { tenant, user } => {
            add("tenant", tenant.as_bytes());
            add("user", user.as_bytes());
        }
        Scope::Shared => add("scope", b"shared"),
    }
    for (name, value) in parts.headers {
        add(name, value);
    }
    if mode == Mode::Content {
        // Bound to the body's digest: routes that look at other parts share no answers.
        let of = rule.of.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
        for (name, list) in [("of", &of), ("without", &rule.ignore)] {
            if !list.is_empty() {
                add(name, list.join(" ").as_bytes());
            }
        }
    }
    let body = format!("{}  {} bytes", parts.body.to_hex(), parts.body.form_len());
    // Of a URL there is no body: in its place stand the fields that services choose by.
    add(if mode == Mode::Http { "chosen by" } else { "body" }, body.as_bytes());
    members
}
