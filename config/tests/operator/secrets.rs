//! Secrets: where they come from, and that they are never seen.

use super::*;
use tollgate_config::{WarningKind, redacted};

const TEXT: &str = r#"
admin: { token: { env: TOKEN } }
stores: { redis: { urls: ["redis://user:geheim2@redis:6379/1"] } }
upstreams: { model: { endpoints: [{ url: "http://127.0.0.1:8000" }] } }
routes: [{ name: all, upstream: model }]
"#;

#[test]
fn no_way_of_printing_shows_a_secret() {
    let table = Table::default().var("TOKEN", "geheim1");
    let (config, warnings) = load(TEXT, &table).unwrap();
    assert_eq!(config.admin.token.as_ref().unwrap().expose(), "geheim1");
    let redis = config.redis.as_ref().unwrap();
    assert_eq!(redis.urls[0].expose(), "redis://user:geheim2@redis:6379/1");
    let all = format!("{config:?}{config:#?}{}{}{warnings:?}", redis.urls[0], redacted(&config));
    assert!(!all.contains("geheim"), "{all}");
    assert!(all.contains("redis://***@redis:6379/1"));
}

#[test]
fn a_missing_secret_is_a_warning_at_check_and_an_error_at_run() {
    let text = TEXT.replace("\"redis://user:geheim2@redis:6379/1\"", "{ file: redis-url }");
    let table = Table::default().file("/etc/tollgate/redis-url", "\n");
    let (config, warnings) = load(&text, &table).unwrap();
    assert!(config.admin.token.unwrap().is_missing());
    assert!(warnings.iter().any(|warning| warning.kind == WarningKind::Missing));
    insta::assert_snapshot!(Problems::at_run(warnings).unwrap_err(), @r#"
    admin.token: environment variable "TOKEN" is not set
    stores.redis.urls[0]: file /etc/tollgate/redis-url is empty
    "#);
}

#[test]
fn a_mistaken_reference_does_not_quote_the_secret() {
    for wrong in ["geheim", "{ env: A, file: geheim }", "{ value: geheim }", "{}", "[geheim]"] {
        let text = TEXT.replace("{ env: TOKEN }", wrong).replace("geheim2", "x");
        let problems = problems(&text);
        assert!(problems.contains("admin.token"), "{problems}");
        assert!(!problems.contains("geheim"), "{problems}");
    }
}

#[test]
fn only_the_whole_token_is_known_and_a_missing_one_to_nobody() {
    let token = |table: &Table| load(TEXT, table).unwrap().0.admin.token.unwrap();
    let set = token(&Table::default().var("TOKEN", "geheim"));
    assert!(set.is_known_to(b"geheim"));
    for claim in ["", "gehei", "geheim1", "Geheim"] {
        assert!(!set.is_known_to(claim.as_bytes()), "{claim}");
    }
    assert!(!token(&Table::default()).is_known_to(b""));
}

#[test]
fn a_cache_key_is_not_shown_and_a_missing_one_is_a_warning() {
    let text = format!(
        "{TEXT}\ncache: {{ redis: {{ encryption: {{ key: {{ env: KEY }}, previous: [{{ file: old }}] }} }} }}"
    );
    let table = Table::default().var("TOKEN", "geheim1").var("KEY", &"9e".repeat(32));
    let (config, warnings) = load(&text, &table).unwrap();
    let all = format!("{config:?}{}{warnings:?}", redacted(&config));
    assert!(!all.contains("9e9e") && !all.contains("158, 158"), "{all}");
    let encryption = config.cache.redis.encryption.unwrap();
    assert_eq!(encryption.key.expose(), Some([0x9e; 32]));
    assert_eq!(encryption.previous[0].expose(), None);
    insta::assert_snapshot!(
        Problems::at_run(warnings).unwrap_err(),
        @"cache.redis.encryption.previous[0]: cannot read /etc/tollgate/old: entity not found"
    );
}
