//! What the page promises, whatever it is made of.

use super::*;
use crate::{
    console::view::{Held, ModelView},
    metrics::{HitRatio, Rates, RouteRates},
};
use proptest::prelude::*;
use std::time::Duration;

/// A page with `name` wherever a name of somebody else's can stand.
fn view(name: &str) -> View {
    let held = Held { entries: 3, bytes: 2048, bytes_max: 1 << 20 };
    let sums = |unpriced_calls| Sums { calls: 1, unpriced_calls, ..Sums::default() };
    let model = |unpriced| ModelView { name: name.to_owned(), sums: sums(unpriced) };
    View {
        version: "1.2.3",
        now_ms: 1_763_700_000_000,
        started_ms: 1_763_690_000_000,
        is_draining: false,
        has_token: true,
        rates: Rates {
            calls_per_second: 12.5,
            hit_ratio: HitRatio {
                all: 0.5,
                memory: 0.25,
                redis: 0.125,
                memcached: 0.0,
                postgres: 0.0,
                disk: 0.0,
                collapsed: 0.125,
            },
            routes: vec![RouteRates {
                route: name.to_owned(),
                p99: Duration::from_millis(12),
                error_ratio: 0.0,
            }],
        },
        flights: 2,
        tiers: vec![
            TierView { name: "memory", is_up: None, hit_ratio: None, hits: 0, held: Some(held) },
            TierView {
                name: "redis",
                is_up: Some(false),
                hit_ratio: Some(0.5),
                hits: 9,
                held: None,
            },
        ],
        today: Ok(Today { models: vec![model(0), model(1)], models_left: 4, total: sums(1) }),
        queues: vec![QueueView {
            upstream: name.to_owned(),
            limit: Some(4),
            limit_why: Some("no_gain"),
            inflight: 2,
            oldest_s: Some(1.25),
            classes: vec![ClassView {
                name: name.to_owned(),
                inflight: 2,
                waiting: 7,
                waits_for: Some("limit"),
                oldest_s: Some(1.25),
                retry_after_s: 4,
                granted: 11,
                shed: 12,
                tenants: vec![(name.to_owned(), 5)],
                tenants_left: 2,
            }],
        }],
        endpoints: vec![EndpointView {
            upstream: name.to_owned(),
            name: name.to_owned(),
            health: Health::Failing,
            inflight: 2,
            answered: 5,
            failed: 1,
        }],
        ledger: Stats::default(),
    }
}

fn page(view: &View) -> String {
    render(view).into_string()
}

/// Escaped by other means than the page's.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

proptest! {
    #[test]
    fn whatever_a_name_is_it_stays_text(name in "[<>&\"'a-z/=;!-]{1,24}|\\PC{1,24}") {
        let plain = page(&view("PLACE"));
        prop_assert!(plain.matches("PLACE").count() >= 7);
        prop_assert_eq!(page(&view(&name)), plain.replace("PLACE", &escaped(&name)));
    }
}

#[test]
fn what_nobody_knows_is_a_dash_and_not_nothing() {
    let page = page(&view("m"));
    assert!(page.contains("<data>—</data>"), "{page}");
    assert!(page.contains(r#"<data value="0" title="$0 exactly">$0.00</data>"#), "{page}");
}

#[test]
fn every_cell_of_a_head_says_what_it_heads_and_nothing_is_styled_or_scripted_inline() {
    let page = page(&view("m"));
    assert_eq!(
        page.matches("<th").count() - page.matches("<thead").count(),
        page.matches(" scope=").count()
    );
    let is_listener = |rest: &str| {
        rest.trim_start_matches(|letter: char| letter.is_ascii_lowercase()).starts_with('=')
    };
    assert!(!page.contains(" style=") && !page.split(" on").skip(1).any(is_listener), "{page}");
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let mut view = view("m");
    view.is_draining = true;
    view.today = Err("<gone>".to_owned());
    view.ledger.dropped = 3;
    let page = page(&view);
    for words in
        ["Draining.", "cannot be read: &lt;gone&gt;", "3 records were lost", "failing", "away"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn lengths_and_sizes_read_as_a_person_says_them() {
    assert_eq!([span(40_000), span(720_000), span(11_000_000)], ["40 s", "12 min", "3 h 3 min"]);
    assert_eq!(span(273_600_000), "3 d 4 h");
    assert_eq!([bytes(0), bytes(2047), bytes(256 << 20)], ["0 B", "1 KiB", "256 MiB"]);
    assert_eq!([rate(0.04), rate(12.5), rate(1234.6)], ["0.0", "12.5", "1235"]);
}
