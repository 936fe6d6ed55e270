//! What the windows promise, checked against an exact sort of the same numbers.

use super::{
    sketch::{LONGEST_NS, rank},
    *,
};
use proptest::prelude::*;
use std::sync::Arc;

const MINUTE: Duration = Duration::from_secs(60);

/// The definition the window approximates: the nearest rank of the sorted list.
fn exact(mut latencies: Vec<Duration>, quantile: f64) -> Duration {
    latencies.sort();
    let rank = rank(quantile, latencies.len() as u64);
    latencies[usize::try_from(rank).unwrap() - 1]
}

/// Latencies from nanoseconds to an hour, as many short as long ones.
fn latency() -> impl Strategy<Value = Duration> {
    (0_u32..42, any::<u64>()).prop_map(|(bits, noise)| {
        let low = 1_u64 << bits;
        Duration::from_nanos((low + noise % low).min(3_600_000_000_000))
    })
}

proptest! {
    #[test]
    fn a_quantile_is_within_the_stated_error_whatever_was_seen(
        latencies in prop::collection::vec(latency(), 1..300),
        quantile in 0.001..=1.0,
    ) {
        let window = Window::spanning(MINUTE);
        for latency in &latencies {
            window.record(1_000, Some(*latency), false);
        }
        let told = window.recent(1_000).latency(quantile);
        let truth = exact(latencies, quantile);
        let bound = truth.mul_f64(Sketch::ERROR_MAX).max(Duration::from_nanos(1));
        prop_assert!(told.abs_diff(truth) <= bound, "told {told:?}, true {truth:?}");
    }

    #[test]
    fn merged_sketches_are_the_one_that_saw_everything(
        some in prop::collection::vec(latency(), 0..100),
        others in prop::collection::vec(latency(), 0..100),
    ) {
        let of = |latencies: &[Duration]| {
            let mut sketch = Sketch::default();
            latencies.iter().for_each(|latency| sketch.add(*latency));
            sketch
        };
        let mut merged = of(&some);
        merged.merge(&of(&others));
        let all = [some, others].concat();
        prop_assert_eq!(merged.count(), all.len() as u64);
        prop_assert_eq!(merged, of(&all));
    }

    /// A window is the sketches of its slots, merged.
    #[test]
    fn calls_at_different_times_of_a_window_are_told_as_one(
        calls in prop::collection::vec((0_u64..55_000, latency()), 1..100),
    ) {
        let window = Window::spanning(MINUTE);
        let mut sketch = Sketch::default();
        for (at, latency) in &calls {
            window.record(*at, Some(*latency), false);
            sketch.add(*latency);
        }
        let recent = window.recent(55_000);
        for quantile in [0.5, 0.95, 0.99] {
            prop_assert_eq!(recent.latency(quantile), sketch.quantile(quantile));
        }
    }

    #[test]
    fn the_error_ratio_is_exact(outcomes in prop::collection::vec((any::<bool>(), any::<bool>()), 1..500)) {
        let window = Window::spanning(MINUTE);
        for (ran, failed) in &outcomes {
            window.record(7, ran.then_some(Duration::from_millis(3)), *failed);
        }
        let failed = outcomes.iter().filter(|(_, failed)| *failed).count() as u64;
        let told = window.recent(7).error_ratio();
        prop_assert_eq!(told, ratio(failed, outcomes.len() as u64));
    }

    #[test]
    fn the_places_are_in_order_without_gap_or_overlap(ns in 0..LONGEST_NS) {
        let here = place(Duration::from_nanos(ns));
        let next = place(Duration::from_nanos(ns + 1));
        prop_assert!(next == here || next == here + 1);
        prop_assert!(next < PLACES);
    }

    /// Calls a minute old or older are forgotten, those of the last 55 s are not.
    #[test]
    fn a_call_counts_for_55_to_60_seconds(at in 0_u64..1_000_000, later in 0_u64..200_000) {
        let window = Window::spanning(MINUTE);
        window.record(at, Some(Duration::from_secs(1)), true);
        let ratio = window.recent(at + later).error_ratio();
        if later <= 55_000 {
            prop_assert!(ratio > 0.99);
        } else if later >= 60_000 {
            prop_assert!(ratio == 0.0);
        }
    }
}

#[test]
fn an_idle_window_is_all_zeros_and_takes_no_memory_for_counts() {
    let window = Window::spanning(MINUTE);
    let recent = window.recent(123_456);
    assert_eq!(recent.latency(0.99), Duration::ZERO);
    assert_eq!(recent.error_ratio(), 0.0);
    assert!(window.ring.is_untouched());
}

#[test]
fn a_latency_beyond_the_scale_counts_as_the_longest() {
    let window = Window::spanning(MINUTE);
    window.record(0, Some(Duration::MAX), false);
    let told = window.recent(0).latency(0.5);
    let longest = Duration::from_nanos(LONGEST_NS);
    assert!(told.abs_diff(longest) < longest / 50, "{told:?}");
}

#[test]
fn a_shed_call_is_an_error_but_not_a_fast_call() {
    let window = Window::spanning(MINUTE);
    for _ in 0..99 {
        window.record(0, None, true);
    }
    window.record(0, Some(Duration::from_secs(2)), false);
    let recent = window.recent(0);
    assert_eq!(recent.error_ratio(), 0.99);
    assert!(recent.latency(0.5) > Duration::from_millis(1960));
}

#[test]
fn a_window_of_a_second_forgets_in_a_second() {
    let window = Window::spanning(Duration::from_secs(1));
    window.record(5_000, Some(Duration::from_secs(1)), false);
    assert!(window.recent(5_900).latency(0.5) > Duration::ZERO);
    assert_eq!(window.recent(6_100).latency(0.5), Duration::ZERO);
}

/// Threads cross slot borders together, each at its own pace; nothing is lost or doubled.
#[test]
fn no_count_is_lost_while_slots_turn_under_many_threads() {
    const EACH: u64 = 50_000;
    let ring = Arc::new(Ring::new(4, 1_000_000, 2));
    // The ring turns once before, so that every slot has old counts to clear.
    for slot in 0..4 {
        ring.add(slot * 1_000_000, [0]);
    }
    let start = Arc::new(std::sync::Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (ring, start) = (Arc::clone(&ring), Arc::clone(&start));
            scope.spawn(move || {
                start.wait();
                for step in 0..EACH {
                    // 4 .. 8 million: slots 4 to 7, each cleared once.
                    ring.add(4_000_000 + step * 4_000_000 / EACH, [1]);
                }
            });
        }
    });
    assert_eq!(ring.sums(7_999_999), [0, 4 * EACH]);
}

#[test]
fn a_report_that_is_a_whole_turn_late_is_dropped_and_spoils_nothing() {
    let ring = Ring::new(2, 1000, 1);
    ring.add(5_000, [0]);
    ring.add(1_000, [0]);
    assert_eq!(ring.sums(5_500), [1]);
}

#[test]
fn a_rate_counts_finished_slots_only() {
    let ring = Ring::new(11, 1000, 1);
    for second in 0..10 {
        ring.add(second * 1000 + 999, [0]);
    }
    ring.add(10_000, [0]);
    assert_eq!(ring.finished(10_999, 0), (10, 10_000));
    assert_eq!(ring.finished(11_000, 0), (10, 10_000));
}

fn alias(name: &str) -> Alias {
    Alias {
        name: name.to_owned(),
        quantile: 0.99,
        unit: Unit::Milliseconds,
        window: MINUTE,
        routes: vec!["recommend".to_owned()],
    }
}

fn mistakes(aliases: &[Alias]) -> Vec<String> {
    let routes = ["recommend".to_owned()];
    let found = Alias::mistakes(aliases, &routes, |name| name == "request_queue_length");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_alias_says_its_quantile_unit_window_and_routes_in_its_help() {
    let alias = alias("recommendation_latency_p99");
    assert_eq!(mistakes(std::slice::from_ref(&alias)), [] as [&str; 0]);
    insta::assert_snapshot!(alias.help(), @"Quantile 0.99 of the duration of calls that reached an upstream in the last 60s, in milliseconds, routes recommend; within 2 %.");
}

#[test]
fn every_mistake_of_every_alias_is_named_at_once() {
    let mut wrong = alias("p99");
    wrong.quantile = f64::NAN;
    wrong.window = Duration::ZERO;
    wrong.routes.push("chat".to_owned());
    let aliases = [
        wrong,
        alias("p99"),
        alias("9lives"),
        alias("höhe"),
        alias(""),
        alias("request_queue_length"),
        alias("tollgate_mine"),
        alias("calls_total"),
    ];
    insta::assert_snapshot!(mistakes(&aliases).join("\n"), @"
    alias `p99`: quantile NaN is not above 0 and at most 1
    alias `p99`: window 0ns is not between 1s and 1h
    alias `p99`: there is no route `chat`; name one of the configured routes
    alias `p99` is defined twice; remove one
    alias `9lives`: a metric's name is 1 to 128 of a-z A-Z 0-9 _ : and does not begin with a digit; rename it
    alias `höhe`: a metric's name is 1 to 128 of a-z A-Z 0-9 _ : and does not begin with a digit; rename it
    alias ``: a metric's name is 1 to 128 of a-z A-Z 0-9 _ : and does not begin with a digit; rename it
    alias `request_queue_length`: the name is taken by a metric of Tollgate; choose another
    alias `tollgate_mine`: names that begin with `tollgate_` or `process_` are reserved; choose another
    alias `calls_total`: the ending `_total` means something else in the metric text formats; choose another
    ");
}

#[test]
fn units_convert() {
    assert_eq!(Unit::Milliseconds.of(Duration::from_micros(1_500)), 1.5);
    assert_eq!(Unit::Seconds.of(Duration::from_micros(1_500)), 0.0015);
}
