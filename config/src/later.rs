//! What the contract names and this version does not have yet.
//!
//! Such a key or value is refused by name (`budgets: not in this version`) and is
//! absent from the schema: never accepted and ignored, never called unknown. When a feature is built, its line
//! moves from here to `raw`.

/// Keys, under the pattern of the mapping they stand in: `*` is any name, `[]` any place.
const KEYS: &[(&str, &[&str])] = &[
    ("", &["readiness", "budgets"]),
    ("telemetry", &["traces"]),
    ("telemetry.metrics.profiles", &["knative", "orca"]),
    ("upstreams.*", &["health"]),
    ("upstreams.*.endpoints[]", &["weight", "zone", "priority"]),
    ("upstreams.*.balance", &["hash"]),
    ("identity.tenant", &["jwt", "mtls"]),
];

/// Words, under the pattern of the value they stand in.
const WORDS: &[(&str, &[&str])] = &[
    ("upstreams.*.balance", &["cheapest", "hash"]),
    ("upstreams.*.concurrency.limit", &["auto"]),
    ("identity.tenant", &["jwt", "mtls"]),
    ("routes[].dialect", &["bedrock", "vertex", "azure", "grpc"]),
    ("resources[].kind", &["storage", "network", "fixed"]),
];

/// The keys that `pattern` will have one day.
pub(crate) fn keys(pattern: &str) -> &'static [&'static str] {
    find(KEYS, pattern)
}

/// Whether `word` will be a value of `pattern` one day.
pub(crate) fn has_word(pattern: &str, word: &str) -> bool {
    find(WORDS, pattern).contains(&word)
}

/// What is said of both.
pub(crate) const MESSAGE: &str = "not in this version";

fn find(table: &[(&str, &'static [&'static str])], pattern: &str) -> &'static [&'static str] {
    table.iter().find(|(own, _)| *own == pattern).map_or(&[], |(_, names)| names)
}
