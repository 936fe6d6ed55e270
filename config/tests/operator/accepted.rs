//! What is taken, and what it then means.

use super::*;
use std::time::Duration;
use tollgate_config::{
    AdminAddress, CacheMode, EvictionPolicy, HostHeader, HttpPolicy, MemcachedServer, ModelVersion,
    PathRule, RedisLease, RedisMode, Scope, TagPart, Tier, Trust, keep_what_needs_a_restart,
    needs_restart, redacted,
};

const FULL: &str = include_str!("../../examples/full.yaml");

fn full_table() -> Table {
    [
        "tls.crt",
        "tls.key",
        "clients.pem",
        "upstream-ca.pem",
        "client.crt",
        "client.key",
        "redis-ca.pem",
        "postgres-ca.pem",
        "prices.csv",
        "warm.jsonl",
        "peak.jsonl",
        "news.jsonl",
    ]
    .iter()
    .fold(Table::default(), |table, name| table.file(&format!("/etc/tollgate/{name}"), ""))
    .file("/etc/tollgate/redis-password", "geheim-kennwort\n")
    .file("/etc/tollgate/cms-token", "geheim-haken\n")
    .file("/etc/tollgate/sentinel-password", "geheim-wache\n")
    .file("/run/secrets/tollgate-admin", "geheim-token\n")
    .file("/etc/tollgate/cache-key-of-last-year", "geheim/geheim/geheim/geheim/geheim/geheim+o=\n")
    .var("TOLLGATE_CACHE_KEY", &"9e".repeat(32))
    .var("TOLLGATE_REDIS_URL", "rediss://u:geheim-redis@redis:6379/2")
    .var("TOLLGATE_POSTGRES_URL", "postgres://geheim-wer@db:5433/answers?sslmode=verify-full")
    .file("/etc/tollgate/postgres-password", "geheim-datenbank\n")
}

#[test]
fn every_example_is_valid() {
    let folders =
        ["examples", "profiles"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let mut n = 0;
    for entry in folders.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap()) {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let (config, warnings) =
            load(&text, &full_table()).unwrap_or_else(|problems| panic_with(&problems));
        assert!(!config.routes.is_empty());
        Problems::at_run(warnings).unwrap();
        n += 1;
    }
    assert!(n >= 8, "three examples and five profiles");
}

#[test]
fn the_full_example_says_the_defaults_it_claims() {
    let (full, _) = load(FULL, &full_table()).unwrap();
    let least = valid(SMALLEST);
    assert_eq!(full.listeners[0].limits, least.listeners[0].limits);
    assert_eq!(full.classes, least.classes);
    assert_eq!(full.class_default, least.class_default);
    assert_eq!(full.drain, least.drain);
    assert_eq!(full.logs, least.logs);
    assert_eq!(full.data_dir, least.data_dir);
    assert_eq!(full.admin.address, least.admin.address);
    assert_eq!(full.cache.memory_bytes_max, least.cache.memory_bytes_max);
    assert_eq!(full.cache.memory_policy, least.cache.memory_policy);
    let default_of = |config: &Config, name: &str| {
        config.upstreams.iter().find(|upstream| upstream.name == name).unwrap().clone()
    };
    let (mut spelled, plain) = (default_of(&full, "model"), default_of(&least, "model"));
    spelled.endpoints.clone_from(&plain.endpoints);
    spelled.concurrency_limit = plain.concurrency_limit;
    (spelled.queue_max, spelled.reserve) = (plain.queue_max, plain.reserve);
    spelled.preempt_per_s = plain.preempt_per_s;
    (spelled.share, spelled.tokens_max) = (plain.share, plain.tokens_max);
    // Off where nothing stands; these are what they are where they do.
    let bare = valid(&SMALLEST.replace("{ model: {", "{ model: { retries: {}, breaker: {},"));
    let bare = default_of(&bare, "model");
    assert_eq!((&spelled.retries, spelled.breaker), (&bare.retries, bare.breaker));
    (spelled.retries, spelled.breaker, spelled.fallback) = (None, None, None);
    spelled.tenant_weights.clone_from(&plain.tenant_weights);
    assert_eq!(spelled, plain);
}

#[test]
fn the_full_example_means_what_it_says() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    let [chat, .., rest] = config.routes.as_slice() else { unreachable!("several routes") };
    assert_eq!(chat.matches.path, PathRule::Exact("/v1/chat/completions".into()));
    assert_eq!(config.upstream(chat.upstream).unwrap().name, "model");
    assert_eq!(chat.body_bytes_max, Some(8 << 20));
    assert_eq!(chat.cache.mode, CacheMode::Content);
    let tiers: Vec<_> =
        chat.cache.tiers.iter().map(|tier| (tier.tier, tier.ttl.as_secs())).collect();
    assert_eq!(tiers, [(Tier::Memory, 600), (Tier::Redis, 24 * 3600)]);
    assert_eq!(chat.cache.tags[2].parts[1], TagPart::Segment(1));
    assert_eq!(chat.class.trust, Trust::Only(vec!["key-0123456789abcdef".into()]));
    assert_eq!(rest.matches.path, PathRule::Any);
    assert_eq!(rest.cache.mode, CacheMode::Off);
    let provider = config.upstream(rest.upstream).unwrap();
    assert_eq!(provider.host, HostHeader::Upstream);
    assert_eq!(provider.model_version, ModelVersion::Static("2026-11".into()));
    assert!(!provider.via);
    let client = provider.tls.client.as_ref().unwrap();
    assert_eq!(client.private_key, Path::new("/etc/tollgate/client.key"));
    assert_eq!(config.resources[0].hourly_pico_usd, 2_500_000_000_000);
    assert_eq!(config.namespace(provider), "prod/chat");
    assert_eq!(
        config.redis.as_ref().unwrap().urls[0].expose(),
        "rediss://u:geheim-redis@redis:6379/2"
    );
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "geheim-token");
}

#[test]
fn the_full_example_says_who_we_are_to_redis() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    let redis = config.redis.unwrap();
    assert_eq!(redis.user.as_deref(), Some("tollgate"));
    assert_eq!(redis.password.unwrap().expose(), "geheim-kennwort");
    assert_eq!(redis.tls.ca.as_deref(), Some(Path::new("/etc/tollgate/redis-ca.pem")));
    assert!(redis.tls.client.is_some());
}

#[test]
fn a_fleet_waits_for_each_others_calls_unless_told_not_to() {
    let says = |cache: &str| valid(&format!("{SMALLEST}\n{cache}")).cache.redis_lease;
    let default = RedisLease { ttl: Duration::from_secs(5), wait: Duration::from_secs(10) };
    assert_eq!(says(""), Some(default));
    assert_eq!(says("cache: { redis: { lease: on } }"), Some(default));
    assert_eq!(says("cache: { redis: { lease: off } }"), None);
    assert_eq!(says("cache: { redis: { lease: false } }"), None);
    let longer = RedisLease { wait: Duration::from_secs(60), ..default };
    assert_eq!(says("cache: { redis: { lease: { wait: 1m } } }"), Some(longer));
}

#[test]
fn redis_may_be_many_servers() {
    let says = |redis: &str| {
        let text = SMALLEST
            .replace("upstreams:", &format!("stores: {{ redis: {{ {redis} }} }}\nupstreams:"));
        load(&text, &Table::default().var("P", "geheim")).unwrap().0
    };
    let cluster = says(r#"urls: ["redis://a", "redis://b:7000"], mode: cluster"#).redis.unwrap();
    assert_eq!((cluster.urls.len(), cluster.mode), (2, RedisMode::Cluster));
    let config = says(
        r#"urls: ["redis://:geheim@a:26379/2", "redis://b:26379/2"], mode: sentinel,
           master: cache, sentinel_user: s, sentinel_password: { env: P }, user: u, password: { env: P }"#,
    );
    let shown = redacted(&config).to_string();
    assert!(shown.contains(r#""master":"cache""#) && !shown.contains("geheim"), "{shown}");
    let RedisMode::Sentinel { master, user, password } = config.redis.unwrap().mode else {
        panic!("{shown}")
    };
    assert_eq!((master.as_str(), user.as_deref()), ("cache", Some("s")));
    assert_eq!(password.unwrap().expose(), "geheim");
}

#[test]
fn the_full_example_says_where_postgresql_is_and_how_entries_lie_there() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    let shown = redacted(&config);
    assert!(!shown.to_string().contains("geheim"), "{shown}");
    let postgres = config.postgres.unwrap();
    assert_eq!(postgres.url.to_string(), "postgres://***@db:5433/answers?sslmode=verify-full");
    assert_eq!(postgres.password.unwrap().expose(), "geheim-datenbank");
    assert_eq!((postgres.schema.as_deref(), postgres.connections), (Some("answers"), 2));
    assert_eq!(postgres.timeout, Duration::from_millis(20));
    assert_eq!(config.cache.postgres.bytes_max, 4 << 30);
    assert!(config.cache.postgres.store.compress);
}

#[test]
fn the_full_example_says_where_memcached_is_and_how_entries_lie_there() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    let memcached = config.memcached.unwrap();
    let servers = [
        MemcachedServer::Tcp("127.0.0.1:11211".to_owned()),
        MemcachedServer::Unix("/run/memcached.sock".into()),
    ];
    assert_eq!((memcached.servers, memcached.timeout), (servers.into(), Duration::from_millis(10)));
    assert!(config.cache.memcached.compress && config.cache.memcached.encryption.is_none());
}

#[test]
fn the_full_example_says_how_entries_lie_in_redis() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    assert!(config.cache.redis.compress);
    let encryption = config.cache.redis.encryption.as_ref().unwrap();
    assert_eq!(encryption.key.expose(), Some([0x9e; 32]));
    assert_eq!(encryption.previous.len(), 1);
}

#[test]
fn the_full_example_shows_what_a_route_decides_in_mode_http() {
    let (config, _) = load(FULL, &full_table()).unwrap();
    let cache = &config.routes[1].cache;
    assert_eq!(cache.mode, CacheMode::Http);
    assert_eq!(cache.stale.while_revalidate, Duration::from_secs(30));
    assert_eq!(cache.stale.if_error, Duration::from_secs(3600));
    assert_eq!(cache.http.query.ignore, ["utm_*", "gclid"]);
    let default = HttpPolicy::default();
    assert_eq!(cache.http.heuristic, default.heuristic, "it says that this is the default");
    assert_eq!(cache.http.set_cookie, default.set_cookie, "it says that this is the default");
}

#[test]
fn what_is_shown_of_a_configuration_is_the_same_configuration() {
    for text in [FULL, SMALLEST, include_str!("../../examples/minimal.yaml")] {
        let (config, _) = load(text, &full_table()).unwrap();
        let shown = redacted(&config).to_string(); // JSON is YAML
        let (again, _) =
            load(&shown, &full_table()).unwrap_or_else(|problems| panic_with(&problems));
        assert_eq!(format!("{config:?}"), format!("{again:?}"));
    }
}

#[test]
fn an_upstream_alone_is_a_complete_set_up() {
    let over = Overrides::default();
    let (config, warnings) =
        Config::for_upstream("http://127.0.0.1:8000", &over, &Table::default()).unwrap();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9900");
    assert_eq!(config.metrics.address.to_string(), "127.0.0.1:9464");
    assert_eq!(config.data_dir, Path::new("./tollgate-data"));
    let [route] = config.routes.as_slice() else { unreachable!("one route") };
    assert!(route.matches.accepts("GET", "anything", "/any/path", |_| None));
    assert_eq!(route.dialect, None);
    assert_eq!(route.cache.mode, CacheMode::Auto);
    assert_eq!(route.cache.tiers[0].tier, Tier::Memory);
    assert_eq!(route.cache.scope, Scope::Tenant);
    assert!(!route.class.trust.believes("anonymous"), "nobody raises its class");
    assert_eq!(route.class.header, None);
    let names: Vec<_> = config.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["emergency", "vip", "normal", "batch"]);
    assert_eq!(config.class(config.class_default).unwrap().name, "normal");
    Problems::at_run(warnings).unwrap();
}

#[test]
fn the_mistakes_of_a_command_line_are_named_by_its_flags() {
    let over = Overrides {
        listen: Some("8080".into()),
        admin: Some("unix:run".into()),
        metrics: Some("localhost:9".into()),
        data_dir: None,
    };
    let problems = Config::for_upstream("127.0.0.1:8000", &over, &Table::default()).unwrap_err();
    insta::assert_snapshot!(problems, @r#"
    --upstream: must be a URL like http://127.0.0.1:8000, not "127.0.0.1:8000"
    --listen: must be an IP address and a port like 127.0.0.1:8080, not "8080"
    --admin: must be unix: and an absolute path
    --metrics: must be an IP address and a port like 127.0.0.1:8080, not "localhost:9"
    "#);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let over = Overrides {
        listen: Some("127.0.0.1:1".into()),
        admin: Some("unix:/run/tollgate.sock".into()),
        metrics: Some("127.0.0.1:0".into()),
        data_dir: Some("/var/lib/tollgate".into()),
    };
    let (config, _) =
        tollgate_config::load(FULL, Path::new("/etc/tollgate"), &over, &full_table()).unwrap();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1");
    assert_eq!(config.listeners[1].address.to_string(), "0.0.0.0:8443");
    assert_eq!(config.admin.address, AdminAddress::Unix("/run/tollgate.sock".into()));
    assert_eq!(config.metrics.address.port(), 0);
    assert_eq!(config.data_dir, Path::new("/var/lib/tollgate"));
}

#[test]
fn a_yaml_1_1_tool_in_between_changes_nothing() {
    // Such a tool writes `off` as `false` and `on` as `true`.
    let text = r#"
upstreams: { m: { endpoints: [{ url: "http://m" }], via: false } }
routes: [{ name: a, upstream: m, cache: true }, { name: b, upstream: m, match: { path: /b }, cache: false },
         { name: c, upstream: m, cache: { mode: false } }]
"#;
    let config = valid(text);
    assert!(!config.upstreams[0].via);
    let modes: Vec<_> = config.routes.iter().map(|route| route.cache.mode).collect();
    assert_eq!(modes, [CacheMode::Auto, CacheMode::Off, CacheMode::Off]);
}

#[test]
fn an_empty_section_is_an_absent_one() {
    let config = valid(&with("admin:\ntelemetry:\n  metrics:\nidentity: {}"));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9900");
}

#[test]
fn an_anchor_may_be_used_again() {
    let text = r#"
upstreams:
  a: { endpoints: [{ url: "http://a" }], timeouts: &t { connect: 1s } }
  b: { endpoints: [{ url: "http://b" }], timeouts: *t }
routes: [{ name: all, upstream: a }]
"#;
    assert_eq!(valid(text).upstreams[1].timeouts.connect, Duration::from_secs(1));
}

#[test]
fn the_memory_tier_evicts_by_frequency_unless_told_otherwise() {
    let policy = |said: &str| valid(&format!("{SMALLEST}\ncache: {said}\n")).cache.memory_policy;
    assert_eq!(policy("{}"), EvictionPolicy::Lfu);
    assert_eq!(policy("{ memory: { policy: lfu } }"), EvictionPolicy::Lfu);
    assert_eq!(policy("{ memory: { policy: lru } }"), EvictionPolicy::Lru);
    assert_eq!(policy("{ memory: { policy: cost } }"), EvictionPolicy::Cost);
}

#[test]
fn the_memory_tier_takes_a_quarter_of_what_the_container_may_use() {
    let size = |memory_limit| {
        let table = Table { memory_limit, ..Table::default() };
        load(SMALLEST, &table).unwrap().0.cache.memory_bytes_max
    };
    assert_eq!(size(None), 256 << 20);
    assert_eq!(size(Some(8 << 30)), 256 << 20);
    assert_eq!(size(Some(512 << 20)), 128 << 20);
    assert_eq!(size(Some(1 << 20)), 1 << 20);
}

#[test]
fn the_namespace_comes_from_the_file_the_injector_or_the_upstream() {
    let injected = Table::default().var("TOLLGATE_NAMESPACE", "prod/x");
    let namespace = |text: &str, table: &Table| {
        let config = load(text, table).unwrap().0;
        config.namespace(&config.upstreams[0]).to_owned()
    };
    assert_eq!(namespace(SMALLEST, &Table::default()), "model");
    assert_eq!(namespace(SMALLEST, &injected), "prod/x");
    assert_eq!(namespace(&with("cache: { namespace: own }"), &injected), "own");
}

#[test]
fn a_prefix_matches_whole_segments() {
    let rule = valid(
        &SMALLEST.replace("upstream: model", "upstream: model, match: { path_prefix: /v1/ }"),
    )
    .routes[0]
        .matches
        .path
        .clone();
    for path in ["/v1", "/v1/", "/v1/x"] {
        assert!(rule.accepts(path), "{path}");
    }
    for path in ["/", "/v1x", "/v", "/V1", "/x/v1"] {
        assert!(!rule.accepts(path), "{path}");
    }
}

#[test]
fn all_of_a_match_must_hold() {
    let text = SMALLEST.replace(
        "upstream: model",
        "upstream: model, match: { host: A.example, headers: { X-Api: '2' }, methods: [POST, PUT] }",
    );
    let config = valid(&text);
    let matches = &config.routes[0].matches;
    let header = |name: &str| (name == "x-api").then_some(b"2".as_slice());
    assert!(matches.accepts("PUT", "a.EXAMPLE", "/", header));
    assert!(!matches.accepts("GET", "a.example", "/", header));
    assert!(!matches.accepts("PUT", "b.example", "/", header));
    assert!(!matches.accepts("PUT", "a.example", "/", |_| None));
}

#[test]
fn a_reload_leaves_what_needs_a_restart() {
    let old = valid(SMALLEST);
    let new = valid(
        r#"
listeners: [{ address: "127.0.0.1:1", limits: { headers: 7 } }, { address: "127.0.0.1:2" }]
admin: { address: "unix:/run/x" }
telemetry: { metrics: { address: "127.0.0.1:3" }, logs: { level: debug } }
data_dir: /elsewhere
stores: { redis: { urls: ["redis://h"] }, memcached: { servers: [h] }, postgres: { url: "postgres://h/d" } }
cache: { redis: { compression: zstd }, memcached: { compression: zstd }, postgres: { size: 2MiB }, memory: { size: 3MiB, policy: cost } }
upstreams: { other: { endpoints: [{ url: "http://other" }] } }
routes: [{ name: all, upstream: other }]
"#,
    );
    assert_eq!(needs_restart(&old, &old), [""; 0]);
    assert_eq!(
        needs_restart(&old, &new),
        [
            "listeners[0].address",
            "listeners[1].address",
            "admin.address",
            "telemetry.metrics.address",
            "data_dir",
            "stores.redis",
            "cache.redis",
            "stores.memcached",
            "cache.memcached",
            "stores.postgres",
            "cache.postgres",
            "cache.memory.size",
            "cache.memory.policy"
        ]
    );
    let kept = keep_what_needs_a_restart(&old, new.clone());
    assert_eq!(needs_restart(&old, &kept), [""; 0]);
    assert_eq!(kept.listeners[0].limits.headers_max, 7, "the rest is new");
    assert_eq!(kept.upstreams[0].name, "other");
    let back = keep_what_needs_a_restart(&new, old.clone());
    assert_eq!(back.listeners.len(), 2, "a bound listener stays");
}
