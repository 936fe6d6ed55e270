//! What a cache rule may say about answers that are looked after by themselves.

use super::*;
use std::time::Duration;
use tollgate_config::{Adapt, Hot, Succession, Upkeep, redacted};

fn file(rule: &str) -> String {
    SMALLEST.replace("upstream: model", &format!("upstream: model, cache: {rule}"))
}

#[track_caller]
fn upkeep(rule: &str) -> Upkeep {
    valid(&file(rule)).routes.remove(0).cache.upkeep
}

fn without_path(rule: &str) -> String {
    problems(&file(rule)).replace("routes[0].cache.", "")
}

#[test]
fn what_is_said_of_hot_answers_holds() {
    let hot = upkeep("{ hot: { hits: 20, extend: 30m, refresh_ahead: 10% } }").hot;
    let extend = Duration::from_secs(1800);
    assert_eq!(hot, Some(Hot { hits: 20, extend, refresh_ahead_ppm: 100_000 }));
    let hot = upkeep("{ mode: content, hot: { hits: 1, refresh_ahead: 0.5% } }").hot;
    let extend = Duration::ZERO;
    assert_eq!(hot, Some(Hot { hits: 1, extend, refresh_ahead_ppm: 5_000 }));
    assert_eq!(upkeep("{ mode: content }"), Upkeep::default());
}

#[test]
fn every_mistake_about_hot_answers_has_its_path() {
    insta::assert_snapshot!(without_path("{ hot: {} }"), @"hot.hits: missing");
    insta::assert_snapshot!(without_path("{ hot: { hits: 3 } }"), @"hot: must say extend, refresh_ahead or both");
    insta::assert_snapshot!(
        without_path("{ ttl: 10m, hot: { hits: 0, extend: 11m, refresh_ahead: 100%, often: 1 } }"), @r"
    hot.hits: must be 1 to 1000000
    hot.often: unknown key; known here: extend, hits, refresh_ahead
    hot.extend: must be 0s to 10m, not 11m
    hot.refresh_ahead: must be 0% to 99%, not 100%
    ");
    insta::assert_snapshot!(without_path("{ hot: { hits: 3, extend: 30, refresh_ahead: 10 } }"), @r"
    hot.extend: must be a duration like 10ms, 5s, 2m, 1h or 7d, not the number 30
    hot.refresh_ahead: must be a part like 10% or 0.5%, with at most 4 decimal places, not the number 10
    ");
    insta::assert_snapshot!(without_path("{ hot: { hits: 3, refresh_ahead: ten% } }"), @r#"hot.refresh_ahead: must be a part like 10% or 0.5%, with at most 4 decimal places, not "ten%""#);
    let disk = "{ tiers: [disk], hot: { hits: 3, extend: 1m } }";
    let text = format!("cache: {{ disk: {{}} }}\n{}", file(disk));
    insta::assert_snapshot!(problems(&text), @"routes[0].cache.hot: needs memory among the tiers: hits are counted there");
}

#[test]
fn what_a_mode_has_no_use_for_is_refused_here_too() {
    for mode in ["http", "off"] {
        for (key, rule) in [
            ("hot", "{ hits: 3, extend: 1m }"),
            ("shadow", "{ share: 1% }"),
            ("adapt", "{ min: 1m, max: 1d }"),
            ("prefetch", "{ per: { header: x-session }, budget: { calls_per_minute: 1 } }"),
        ] {
            let problems = without_path(&format!("{{ mode: {mode}, {key}: {rule} }}"));
            let expected = format!("{key}: has no meaning in mode {mode}, ");
            assert!(problems.starts_with(&expected), "{problems}");
        }
    }
}

#[test]
fn what_is_shown_of_it_reads_back() {
    for rule in [
        "{ mode: content, hot: { hits: 3, extend: 1m, refresh_ahead: 12.5% } }",
        "{ hot: { hits: 3, extend: 1m } }",
        "{ mode: content, shadow: { share: 0.5% } }",
        "{ mode: content, ttl: 5m, adapt: { min: 10s, max: 1d } }",
        "{ prefetch: { per: { header: x-a }, within: 1m, successors_max: 3, precision_min: 12.5%, \
            budget: { calls_per_minute: 7, money_per_hour: \"1.25\" } } }",
        "{ mode: content, prefetch: { per: { header: x-a }, budget: { calls_per_minute: 7 } } }",
    ] {
        let config = valid(&file(rule));
        let shown = redacted(&config).to_string();
        assert_eq!(valid(&shown).routes[0].cache, config.routes[0].cache, "{shown}");
    }
}

#[test]
fn an_extension_that_a_shorter_rule_cuts_is_advised_of() {
    let rule =
        "{ ttl_rules: [{ headers: { x-kind: live }, ttl: 1m }], hot: { hits: 3, extend: 30m } }";
    let (_, warnings) = load(&file(rule), &Table::default()).unwrap();
    insta::assert_snapshot!(lines(&warnings), @r"
    Advice routes[0].cache.hot.extend: less than 30m where a rule of ttl_rules says less: the time of an answer is at most doubled
    Advice routes: sampled answers are reused, too: an equal question gets the first answer, whatever its temperature (on all)
    ");
}

#[test]
fn a_share_of_the_hits_can_be_checked() {
    assert_eq!(upkeep("{ shadow: { share: 1% } }").shadow_ppm, 10_000);
    assert_eq!(upkeep("{ shadow: { share: 100% } }").shadow_ppm, 1_000_000);
    insta::assert_snapshot!(without_path("{ shadow: {} }"), @"shadow.share: missing");
    insta::assert_snapshot!(without_path("{ shadow: { share: 0% } }"), @"shadow.share: must be 0.0001% to 100%, not 0%");
    insta::assert_snapshot!(without_path("{ shadow: { share: 101% } }"), @"shadow.share: must be 0.0001% to 100%, not 101%");
}

#[test]
fn times_that_are_learned_lie_around_the_one_they_begin_with() {
    let learned = upkeep("{ ttl: 5m, adapt: { min: 10s, max: 1d } }").adapt;
    let (min, max) = (Duration::from_secs(10), Duration::from_secs(86_400));
    assert_eq!(learned, Some(Adapt { min, max }));
    insta::assert_snapshot!(without_path("{ adapt: {} }"), @r"
    adapt.min: missing
    adapt.max: missing
    ");
    insta::assert_snapshot!(without_path("{ ttl: 5m, adapt: { min: 6m, max: 4m } }"), @r"
    adapt.min: must be 1ms to 5m, not 6m
    adapt.max: must be 5m to 366d, not 4m
    ");
}

#[test]
fn what_is_asked_ahead_has_a_budget_and_somebody_who_asks() {
    let rule = "{ prefetch: { per: { header: X-Session }, budget: { calls_per_minute: 10 } } }";
    let ahead = upkeep(rule).prefetch.unwrap();
    assert_eq!(ahead.per, Succession::Header("x-session".to_owned()));
    assert_eq!((ahead.within, ahead.successors_max), (Duration::from_secs(300), 1));
    assert_eq!((ahead.precision_min_ppm, ahead.hourly_pico_usd), (300_000, None));
    let rule = "{ prefetch: { per: user, within: 1m, successors_max: 2, precision_min: 50%, \
        budget: { calls_per_minute: 10, money_per_hour: \"0.50\" } } }";
    let text = format!("identity: {{ user: {{ header: x-user }} }}\n{}", file(rule));
    let ahead = valid(&text).routes.remove(0).cache.upkeep.prefetch.unwrap();
    assert_eq!((ahead.per, ahead.successors_max), (Succession::User, 2));
    assert_eq!(ahead.hourly_pico_usd, Some(500_000_000_000));
    insta::assert_snapshot!(without_path("{ prefetch: {} }"), @r"
    prefetch.per: missing
    prefetch.budget: missing
    ");
    insta::assert_snapshot!(without_path(&rule.replace("1m", "2h").replace("50%", "0%").replace("0.50", "0")), @r"
    prefetch.within: must be 100ms to 1h, not 2h
    prefetch.precision_min: must be 1% to 100%, not 0%
    prefetch.budget.money_per_hour: must be more than nothing: without prefetch there is none
    prefetch.per: needs identity.user, which says who users are
    ");
}
