//! What is learned, from whom, and what is forgotten.

use super::*;
use proptest::prelude::*;

const ANN: Kind = Kind { tenant: 1, model: 10, route: 100 };
const BOB: Kind = Kind { tenant: 2, ..ANN };
const OTHER_MODEL: Kind = Kind { tenant: 3, model: 11, ..ANN };

fn output(tokens: u64) -> Took {
    Took { output: Some(tokens), ..Took::default() }
}

fn head(ms: u64) -> Took {
    Took { head_ms: Some(ms), ..Took::default() }
}

fn learned(kinds: &[(Kind, Took)]) -> Estimator {
    let mut estimator = Estimator::default();
    for (kind, took) in kinds {
        for _ in 0..50 {
            estimator.learn(kind, took, 0);
        }
    }
    estimator
}

#[test]
fn each_tenant_is_known_by_its_own_and_a_stranger_by_its_model_and_then_its_route() {
    let estimator = learned(&[(ANN, output(10)), (BOB, output(1_000))]);
    let of = |kind: &Kind| estimator.estimate(kind, 0).output;
    assert_eq!(of(&ANN), Some(10));
    assert!((900..=1_000).contains(&of(&BOB).unwrap()));
    let stranger = Kind { tenant: 9, ..ANN };
    assert!((500..=1_000).contains(&of(&stranger).unwrap()), "of the model, which bob used last");
    assert!((500..=1_000).contains(&of(&OTHER_MODEL).unwrap()), "of the route");
    assert_eq!(of(&Kind { tenant: 9, model: 9, route: 9 }), None);
}

#[test]
fn few_calls_say_nothing_and_neither_does_what_nobody_reported() {
    let mut estimator = Estimator::default();
    for nth in 0..SAMPLES_MIN {
        assert_eq!(estimator.estimate(&ANN, 0).output, None, "after {nth}");
        estimator.learn(&ANN, &output(7), 0);
    }
    assert_eq!(estimator.estimate(&ANN, 0), Estimate { output: Some(7), ..Estimate::default() });
}

#[test]
fn a_service_takes_at_least_what_its_fastest_of_late_did() {
    let steady = learned(&[(ANN, head(400))]);
    let least = steady.estimate(&ANN, 0).head_least_ms.unwrap();
    assert_eq!(least, 400);
    let mut fickle = Estimator::default();
    for nth in 0..100_u64 {
        fickle.learn(&ANN, &head(if nth % 2 == 0 { 10 } else { 790 }), 0);
    }
    let least = fickle.estimate(&ANN, 0).head_least_ms.unwrap();
    assert_eq!(least, 10, "every second call is that fast");
    // And is not so fast any more.
    for at_ms in [WINDOW_MS, 2 * WINDOW_MS, 3 * WINDOW_MS] {
        fickle.learn(&ANN, &head(790), at_ms);
    }
    assert_eq!(fickle.estimate(&ANN, 3 * WINDOW_MS).head_least_ms, Some(790));
}

/// Goal: one tenant's long answers are no reason to refuse another's short ones.
#[test]
fn a_deadline_is_held_against_nobody_elses_calls() {
    let mut estimator = learned(&[(ANN, head(20_000)), (BOB, head(100))]);
    assert_eq!(estimator.estimate(&BOB, 0).head_least_ms, Some(100));
    // Bob was away for a while, and a stranger was never there.
    estimator.learn(&ANN, &head(20_000), 2 * BELIEVED_MS);
    for kind in [BOB, Kind { tenant: 9, ..ANN }] {
        assert_eq!(estimator.estimate(&kind, 2 * BELIEVED_MS).head_least_ms, None);
    }
}

#[test]
fn a_time_that_nobody_has_seen_again_is_not_believed_for_ever() {
    let mut estimator = learned(&[(ANN, head(400))]);
    assert!(estimator.estimate(&ANN, BELIEVED_MS).head_least_ms.is_some());
    assert_eq!(estimator.estimate(&ANN, BELIEVED_MS + 1).head_least_ms, None);
    // One that takes a minute is not seen every ten seconds.
    estimator = learned(&[(ANN, head(60_000))]);
    assert!(estimator.estimate(&ANN, 4 * 60_000).head_least_ms.is_some());
    estimator.learn(&ANN, &head(60_000), 1_000_000);
    assert!(estimator.estimate(&ANN, 1_000_000).head_least_ms.is_some());
}

#[test]
fn made_up_tenants_and_models_cost_a_bounded_memory_and_the_route_is_still_known() {
    let mut estimator = learned(&[(ANN, output(10))]);
    for made_up in 1_000..40_000_u64 {
        let kind = Kind { tenant: made_up, model: made_up, route: 100 };
        estimator.learn(&kind, &output(10), 0);
    }
    assert!(estimator.kinds() <= 2 * (TENANTS_MAX + MODELS_MAX + ROUTES_MAX));
    assert_eq!(estimator.estimate(&ANN, 0).output, Some(10), "by the route");
}

#[test]
fn who_keeps_calling_is_remembered_among_many_who_call_once() {
    let mut estimator = learned(&[(ANN, output(10))]);
    for made_up in 1_000..40_000_u64 {
        estimator.learn(&Kind { tenant: made_up, ..ANN }, &output(5_000), 0);
        if made_up % 1_000 == 0 {
            estimator.learn(&ANN, &output(10), 0);
        }
    }
    assert_eq!(estimator.estimate(&ANN, 0).output, Some(10));
}

proptest! {
    /// No estimate is outside of what was seen, and none overflows.
    #[test]
    fn a_mean_is_among_what_was_seen(values in prop::collection::vec(0_u64..=u64::MAX, 4..200)) {
        let mut estimator = Estimator::default();
        for value in &values {
            let took = Took { output: Some(*value), head_ms: Some(*value), held_ms: Some(*value) };
            estimator.learn(&ANN, &took, 0);
        }
        let least = values.iter().min().unwrap().min(&VALUE_MAX).saturating_sub(PART);
        let most = *values.iter().max().unwrap().min(&VALUE_MAX);
        let estimate = estimator.estimate(&ANN, 0);
        prop_assert!((least..=most).contains(&estimate.output.unwrap()));
        prop_assert!(estimate.head_least_ms.unwrap() <= estimate.output.unwrap());
    }
}
