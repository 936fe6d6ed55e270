//! How an explanation is written down.

use crate::{
    app::Snapshot,
    explain::{Cached, Charge, Keyed, Price, Way},
    identity::Tenant,
    respond::Verdict,
    route::{By, Classed, Route},
};
use http::HeaderValue;
use std::{fmt::Write as _, time::Duration};
use tollgate_config::{
    CacheMode, ClaimedIn, ClassRule, ClassSource, PathRule, Says, Trust, Writes,
};
use tollgate_core::{class::ClassId, dialect::Operation};

/// Width of the labels.
const LABEL: usize = 12;

pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn line(&mut self, label: &str, text: &str) {
        writeln!(self.0, "{label:<LABEL$}{text}").ok();
    }
}

pub(super) fn refusal(asked: &str, verdict: &Verdict, why: &str) -> String {
    let mut page = Page(format!("{}\n\n", asked.escape_debug()));
    page.line("refused", &format!("{} {}", verdict.status.as_u16(), verdict.reason));
    page.line("because", why);
    page.0
}

pub(super) fn way(asked: &str, snapshot: &Snapshot, way: &Way) -> String {
    let mut page = Page(format!("{}\n\n", asked.escape_debug()));
    let route = &way.route;
    page.line("route", &format!("{} → upstream {}", route.name, upstream(route)));
    who(&mut page, way);
    page.line("class", &class(snapshot, way));
    let dialect = route.dialect(way.ask.operation);
    let form = if way.stream { ", streamed" } else { "" };
    page.line("dialect", &format!("{dialect}, {}{form}", what(way.ask.operation)));
    page.line("deadline", &length(way.deadline));
    match &way.cache {
        Cached::Bypass(why) => {
            page.line("cache", &format!("bypass: {why}"));
            let known = way.ask.known.as_ref();
            if let Some(unmet) = known.and_then(|known| known.unmet.as_ref()) {
                page.line("", &unmet.to_string());
            }
        }
        Cached::Keyed(keyed) => self::keyed(&mut page, route, keyed),
    }
    if let Some(model) = way.ask.model() {
        let price = match &way.price {
            None => format!("{}: not in the price book: calls are unpriced", model.escape_debug()),
            Some(Price { model, provider, charge: Charge::Request(usd) }) => {
                format!("{model} ({provider}): {usd} USD per request")
            }
            Some(Price { model, provider, charge: Charge::Tokens { input, output } }) => {
                format!("{model} ({provider}): {input} in, {output} out, USD per million tokens")
            }
        };
        page.line("price", &price);
    }
    page.0.push_str("\nnothing was sent\n");
    page.0
}

fn who(page: &mut Page, way: &Way) {
    let caller = &way.caller;
    let how = match (&caller.tenant, caller.tenant_configured) {
        (Tenant::Anonymous, true) => " (identity.tenant yields nothing)",
        (Tenant::Anonymous, false) => " (no credential)",
        (Tenant::Key(_), _) => " (digest of the credential)",
        (Tenant::Named(_), _) => "",
    };
    page.line("tenant", &format!("{}{how}", caller.tenant.as_str()));
    let dimensions = [
        ("user", &caller.user),
        ("tier", &caller.tier),
        ("project", &caller.project),
        ("business", &caller.business),
    ];
    for (name, value) in dimensions {
        if let Some(value) = value.as_ref().and_then(|value: &HeaderValue| value.to_str().ok()) {
            page.line(name, value);
        }
    }
    if !way.is_trusted {
        page.line("trust", "not a trusted peer: claims in its headers were removed");
    }
}

fn class(snapshot: &Snapshot, way: &Way) -> String {
    let Classed { class, by, is_lowered, .. } = way.class;
    let name = snapshot.config.class(class).map_or("?", |class| class.name.as_str());
    let rule = &way.route.config.class;
    let mut why = match by {
        By::Nothing if *rule == ClassRule::default() => {
            "the default; this route reads no claim".to_owned()
        }
        By::Nothing => "the default; nothing that this route knows claims another".to_owned(),
        By::Tenant => "its tenant's".to_owned(),
        By::Header => format!("claimed by {}", rule.header.as_deref().unwrap_or_default()),
        By::Source(place) => {
            let source = rule.sources.get(place).map(source).unwrap_or_default();
            format!("claimed by {source}")
        }
    };
    if is_lowered {
        why.push_str("; lowered to its caller's ceiling");
    }
    format!("{name} ({why})")
}

fn keyed(page: &mut Page, route: &Route, keyed: &Keyed) {
    page.line("cache", &cache(route));
    if keyed.only_if_cached {
        page.line("", "only-if-cached: 504 not_cached unless it is stored already");
    }
    page.line("key", &keyed.explained.key.to_hex());
    for (name, value) in &keyed.explained.members {
        let note = match name.as_str() {
            "model version" if keyed.version_unknown => {
                "  (--model-version; not known before the upstream's first answer)"
            }
            _ => "",
        };
        let value = if value.is_empty() { "\"\"" } else { value.as_str() };
        page.line("", &format!("{name} = {value}{note}"));
    }
    for (place, line) in keyed.explained.kept_for.iter().enumerate() {
        page.line(if place == 0 { "kept for" } else { "" }, line);
    }
    let tags = if keyed.tags.is_empty() { "none".to_owned() } else { keyed.tags.join(", ") };
    page.line("tags", &tags.escape_debug().to_string());
}

fn what(operation: Operation) -> &'static str {
    match operation {
        Operation::OpenAiChat => "chat completion",
        Operation::OpenAiCompletions => "completion",
        Operation::OpenAiResponses => "response",
        Operation::OpenAiEmbeddings => "embeddings",
        Operation::OpenAiModerations => "moderation",
        Operation::OpenAiRerank => "rerank",
        Operation::AnthropicMessages => "messages",
        Operation::AnthropicCountTokens => "count of tokens",
        Operation::GeminiGenerate => "generated content",
        Operation::GeminiCountTokens => "count of tokens",
        Operation::GeminiEmbed => "embeddings",
        Operation::OllamaChat => "chat",
        Operation::OllamaGenerate | Operation::TgiGenerate | Operation::TgiRoot => "generation",
        Operation::OllamaEmbed => "embeddings",
        Operation::CohereChat | Operation::CohereChatV1 => "chat",
        Operation::CohereEmbed => "embeddings",
        Operation::CohereRerank => "rerank",
        Operation::Other => "a call that no dialect lists",
    }
}

/// As the configuration writes it: `10m`, `1500ms`.
pub(super) fn length(length: Duration) -> String {
    let ms = length.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let whole = units.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{ms}ms"), |(name, unit)| format!("{}{name}", ms / unit))
}

/// Mode, tiers and their times.
fn cache(route: &Route) -> String {
    let policy = &route.config.cache;
    let tiers = policy.tiers.iter();
    let tiers = tiers.map(|used| match (policy.mode, used.ttl_written) {
        // Unwritten, it is content mode's: what the answer says is not cut by it.
        (CacheMode::Http, None) => used.tier.name().to_owned(),
        _ => format!("{} {}", used.tier.name(), length(used.ttl)),
    });
    let mut tiers = tiers.collect::<Vec<_>>().join(", ");
    match policy.writes {
        Writes::Back => {}
        Writes::Through => tiers.push_str(", written through"),
        Writes::Around => tiers.push_str(", written around"),
    }
    match policy.mode {
        CacheMode::Off => "off".to_owned(),
        CacheMode::Http => format!("http, for as long as answers say; {tiers}"),
        mode @ (CacheMode::Auto | CacheMode::Content) => {
            let (mode, scope) = (mode.name(), policy.scope.name());
            format!("{mode}, ttl {}, scope {scope}; {tiers}", length(policy.ttl))
        }
    }
}

fn upstream(route: &Route) -> String {
    let upstream = &route.destination.config;
    let endpoints = upstream.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("{} ({})", upstream.name, endpoints.join(", "))
}

/// What every route does.
pub(super) fn routes(snapshot: &Snapshot) -> String {
    let mut page = Page("routes, the first that matches wins\n".to_owned());
    for route in snapshot.routes.iter() {
        page.0.push('\n');
        page.line(&route.name, &matches(route));
        page.line("  upstream", &upstream(route));
        let dialect = route.config.dialect.map_or("detected", |dialect| dialect.name());
        page.line("  dialect", dialect);
        page.line("  class", &claims(snapshot, route));
        page.line("  cache", &cache(route));
        let tags: Vec<String> = route.config.cache.tags.iter().map(ToString::to_string).collect();
        if !tags.is_empty() {
            page.line("  tags", &tags.join(", "));
        }
    }
    page.0
}

fn matches(route: &Route) -> String {
    let rule = &route.config.matches;
    let mut words = Vec::new();
    if !rule.methods.is_empty() {
        words.push(rule.methods.join("|"));
    }
    words.push(match &rule.path {
        PathRule::Any => "every path".to_owned(),
        PathRule::Exact(path) => path.clone(),
        PathRule::Prefix(path) => format!("{path} and below"),
    });
    words.extend(rule.host.as_ref().map(|host| format!("host {host}")));
    words.extend(rule.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    words.join(", ")
}

fn claims(snapshot: &Snapshot, route: &Route) -> String {
    let name = |id| snapshot.config.class(id).map_or("?", |class| class.name.as_str());
    let default = name(route.classes.default_class());
    let rule = &route.config.class;
    if *rule == ClassRule::default() {
        return format!("{default}, always");
    }
    let mut said = Vec::new();
    if !rule.tenants.is_empty() {
        said.push(format!("by tenant ({})", listed(&rule.tenants, " = ", name)));
    }
    let trust = match &rule.trust {
        Trust::Anyone => "from anyone".to_owned(),
        Trust::Only(tenants) if tenants.is_empty() => "from nobody".to_owned(),
        Trust::Only(tenants) => format!("from {}", tenants.join(", ")),
    };
    if let Some(header) = &rule.header {
        said.push(format!("{header} ({}) {trust}", listed(&rule.map, " = ", name)));
    }
    for one in &rule.sources {
        let classes = match &one.says {
            Says::Words(map) => listed(map, " = ", name),
            Says::AtLeast(steps) => listed(steps, " and above = ", name),
            Says::AtMost(steps) => listed(steps, " and below = ", name),
        };
        let is_claim = matches!(one.from, ClaimedIn::Header(_) | ClaimedIn::Body(_));
        let trust = if is_claim { format!(" {trust}") } else { String::new() };
        said.push(format!("{} ({classes}){trust}", source(one)));
    }
    let ceiling = rule.ceiling.map(|class| format!("; not above {}", name(class)));
    let own = rule
        .ceilings
        .iter()
        .map(|(tenant, class)| format!("; {tenant} not above {}", name(*class)));
    let ceilings: String = ceiling.into_iter().chain(own).collect();
    format!("{}, else {default}{ceilings}", said.join(", else "))
}

fn listed<'a, K: ToString>(
    list: &[(K, ClassId)],
    sign: &str,
    name: impl Fn(ClassId) -> &'a str,
) -> String {
    let all = list.iter().map(|(key, class)| format!("{}{sign}{}", key.to_string(), name(*class)));
    all.collect::<Vec<_>>().join(", ")
}

/// `header priority`, `body service_tier`, `tier`.
fn source(one: &ClassSource) -> String {
    let name = one.from.name().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{name}", one.from.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_as_the_configuration_writes_it() {
        let check = |ms, expected: &str| assert_eq!(length(Duration::from_millis(ms)), expected);
        check(0, "0ms");
        check(10, "10ms");
        check(1500, "1500ms");
        check(90_000, "90s");
        check(600_000, "10m");
        check(86_400_000, "1d");
    }
}
