//! Which names of models have series of their own, and how many.

use super::*;

#[test]
fn a_hundred_models_have_series_and_all_others_share_one() {
    let stage = Stage::new();
    let spending =
        Spending { usage: Usage { input: 1, ..Usage::default() }, ..Spending::default() };
    // What callers made up, first: it must not use up places.
    for stranger in 0..1000 {
        stage.chat().model(&format!("stranger-{stranger}"), || Naming::Asked).spent(&spending);
    }
    stage.chat().model(&"x".repeat(129), || Naming::Own).spent(&spending);
    for known in 0..150 {
        for route in &stage.handles.routes {
            route.model(&format!("model-{known}"), || Naming::Own).spent(&spending);
        }
    }
    let series = stage.series(stage.at(2));
    let tokens = |part: &str| -> Vec<f64> {
        let tokens =
            series.iter().filter(|(name, _)| name.starts_with("tollgate_tokens_total{kind=input,"));
        tokens.filter(|(name, _)| name.contains(part)).map(|(_, value)| *value).collect()
    };
    assert_eq!(tokens("route=chat").len(), MODELS_MAX + 1);
    assert_eq!(tokens("route=recommend").len(), MODELS_MAX + 1);
    assert_eq!(tokens("model=other,route=chat"), [1000.0 + 1.0 + 50.0]);
    assert!(tokens("stranger").is_empty());
}

#[test]
fn names_that_only_answers_know_leave_half_of_the_places_to_the_price_book() {
    let stage = Stage::new();
    let spending =
        Spending { usage: Usage { input: 1, ..Usage::default() }, ..Spending::default() };
    for foreign in 0..200 {
        stage.chat().model(&format!("foreign-{foreign}"), || Naming::Answered).spent(&spending);
    }
    for own in 0..MODELS_MAX - FOREIGN_MAX {
        stage.chat().model(&format!("own-{own}"), || Naming::Own).spent(&spending);
    }
    let series = stage.series(stage.at(2));
    let of = |name: &str| {
        let part = format!("tollgate_tokens_total{{kind=input,model={name}");
        series.keys().filter(|series| series.starts_with(&part)).count()
    };
    assert_eq!(
        (of("own-"), of("foreign-"), of("other")),
        (MODELS_MAX - FOREIGN_MAX, FOREIGN_MAX, 1)
    );
}
