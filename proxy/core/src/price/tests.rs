//! Which price holds for a call, and what a bad price file is told.

use super::*;
use proptest::prelude::*;

const DAY_MS: i64 = 86_400_000;
/// 2025-06-01.
const NOW: i64 = 20_240 * DAY_MS;

fn a_million_each() -> Usage {
    Usage { input: 1_000_000, output: 1_000_000, ..Usage::default() }
}

fn book(csv: &str) -> PriceBook {
    let mut book = PriceBook::builtin();
    assert_eq!(book.with_csv("own.csv", csv), Ok(vec![]));
    book
}

/// Dollars for a million tokens in and out; "unpriced" without a price.
#[track_caller]
fn check(book: &PriceBook, model: &str, at: i64, expected: &str) {
    let shown = book.resolve(model, at).map_or("unpriced".to_owned(), |price| {
        let cost = price.cost(&a_million_each());
        format!("{} {}", cost.input, cost.output)
    });
    assert_eq!(shown, expected, "{model}");
}

#[track_caller]
fn check_problems(csv: &str, expected: &[&str]) {
    let mut book = PriceBook::default();
    let problems = book.with_csv("own.csv", csv).unwrap_err();
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected);
    assert!(book.own.by_name.is_empty(), "a file with an error changes nothing");
}

#[test]
fn every_row_of_the_built_in_book_is_good() {
    let (prices, problems) = file::read("prices.csv", BUILTIN);
    assert_eq!(problems, []);
    assert!(prices.len() > 150, "{}", prices.len());
}

#[test]
fn a_price_holds_from_its_day_on() {
    let book = book(
        "model,provider,effective_from,per,input,output\n\
         gpt-3.5-turbo,openai,2023-06-13,1M,1.5,2\n\
         gpt-3.5-turbo,openai,2024-01-25,1K,0.0005,0.0015\n\
         gpt-4,openai,,1M,30,60\n",
    );
    let superseded = 19_747 * DAY_MS; // 2024-01-25
    check(&book, "gpt-3.5-turbo", superseded - 1, "1.5 2");
    check(&book, "gpt-3.5-turbo", superseded, "0.5 1.5");
    check(&book, "gpt-3.5-turbo", NOW, "0.5 1.5");
    // Before the operator's first row the built-in one stands.
    check(&book, "gpt-3.5-turbo", 0, "0.5 1.5");
    check(&book, "gpt-4", 0, "30 60");
    check(&book, "gpt-4", NOW, "30 60");
}

#[test]
fn a_model_is_found_by_its_names() {
    let book = PriceBook::builtin();
    check(&book, "gpt-4o", NOW, "2.5 10");
    check(&book, "openai/gpt-4o", NOW, "2.5 10");
    check(&book, "my-gateway/gpt-4o", NOW, "2.5 10");
    check(&book, "gpt-4o-2024-05-13", NOW, "5 15"); // a row of its own
    check(&book, "gpt-4o-2024-11-20", NOW, "2.5 10");
    check(&book, "gpt-4o-mini-2024-07-18", NOW, "0.15 0.6");
    check(&book, "claude-sonnet-4-5-20250929", NOW, "3 15");
    check(&book, "vertex_ai/claude-sonnet-4-5@20250929", NOW, "3 15");
    // Two providers of one open model: the first keeps the name, both have their own.
    check(&book, "together_ai/openai/gpt-oss-120b", NOW, "0.15 0.6");
    check(&book, "cerebras/gpt-oss-120b", NOW, "0.35 0.75");
}

#[test]
fn what_is_not_in_the_book_is_unpriced_and_not_guessed() {
    let book = PriceBook::builtin();
    for model in ["", "gpt-4o-finetune", "gpt-4o-2024-08-06-ft", "gpt", "-2024-01-01", "4o", "/"] {
        check(&book, model, NOW, "unpriced");
    }
}

#[test]
fn the_operators_word_is_above_the_books() {
    let book = book("model,per,input,output\ngpt-4o,1M,1,2\nin-house,1M,0,0\n");
    check(&book, "gpt-4o", NOW, "1 2");
    check(&book, "openai/gpt-4o", NOW, "1 2");
    check(&book, "gpt-4o-2024-11-20", NOW, "1 2");
    // But a dated model that the book knows is not the operator's `gpt-4o`.
    check(&book, "gpt-4o-2024-05-13", NOW, "5 15");
    check(&book, "in-house", NOW, "0 0");
}

#[test]
fn of_two_providers_in_a_file_the_first_has_the_bare_name() {
    let book = book("model,provider,per,input,output\nm,a,1M,1,1\nm,b,1M,2,2\n");
    check(&book, "m", NOW, "1 1");
    check(&book, "a/m", NOW, "1 1");
    check(&book, "b/m", NOW, "2 2");
    check(&book, "c/m", NOW, "1 1");
}

#[test]
fn a_later_file_replaces_the_same_day() {
    let mut book = book("model,per,input,output\nm,1M,1,1\n");
    assert_eq!(book.with_csv("b.csv", "model,per,input,output\nm,1M,2,2\n"), Ok(vec![]));
    check(&book, "m", NOW, "2 2");
}

#[test]
fn a_missing_cache_price_is_the_input_price_and_a_written_zero_is_zero() {
    let book = book(
        "model,per,input,output,cached_input,cache_write,cache_write_1h,audio_input,audio_output\n\
         none,1M,3,15,,,,,\n\
         zero,1M,3,15,0,0,0,0,0\n\
         all,1M,3,15,0.3,3.75,6,40,80\n",
    );
    let usage = Usage {
        cached_input: 1_000_000,
        cache_write: 1_000_000,
        cache_write_1h: 1_000_000,
        audio_input: 1_000_000,
        audio_output: 1_000_000,
        reasoning: 1_000_000,
        ..Usage::default()
    };
    for (model, expected) in [("none", "3 3 6 30"), ("zero", "0 0 0 15"), ("all", "40 0.3 9.75 95")]
    {
        let cost = book.resolve(model, NOW).unwrap().cost(&usage);
        let shown =
            format!("{} {} {} {}", cost.input, cost.cached_input, cost.cache_write, cost.output);
        assert_eq!(shown, expected, "{model}");
    }
}

#[test]
fn a_price_per_request_does_not_look_at_tokens() {
    let book = book("model,per,input,output\nrank,request,0.002,\n");
    let cost = book.resolve("rank", NOW).unwrap().cost(&a_million_each());
    assert_eq!((cost.request.to_string(), cost.total()), ("0.002".to_owned(), cost.request));
}

#[test]
fn every_mistake_is_named_with_its_place() {
    check_problems(
        "model,per,input,output,effective_from\n\
         a,1M,\"1,5\",2,\n\
         b,1G,1,2,\n\
         c,1M,1,,2025-02-30\n\
         d,second,1,2,\n\
         ,1M,1,2,\n\
         e,1M,1\n\
         f,1M,0.0000001,2,\n\
         g,request,1,2,\n\
         h,1M,1,2,\n\
         h,1M,1,3,\n\
         i,request,-1,,\n",
        &[
            r#"own.csv:2: input: not a decimal number like 2.50: "1,5""#,
            r#"own.csv:3: per: must be 1M, 1K, 1 (tokens) or request, got "1G""#,
            r#"own.csv:4: effective_from: not a day like 2025-01-31 (it begins at 00:00 UTC): "2025-02-30""#,
            "own.csv:4: output: is empty; write 0 where it is free",
            "own.csv:5: per: second: not in this version",
            "own.csv:6: model: is empty; name the model as answers do",
            "own.csv:7: has 3 fields where the first line names 5 columns",
            "own.csv:8: input: finer than a trillionth of a dollar per token: 0.0000001; write fewer decimals",
            "own.csv:9: output: must be empty with per=request (the price stands in input)",
            r#"own.csv:11: model: a second price for "h" from the same day; which one holds?"#,
            "own.csv:12: input: must not be negative: -1",
        ],
    );
}

#[test]
fn a_column_is_known_or_refused_by_name() {
    check_problems(
        "model,per,input,output,batch_input,colour,input\n",
        &[
            "own.csv:1: batch_input: not in this version",
            "own.csv:1: no such column: \"colour\"; known are model, provider, effective_from, per, \
             input, output, cached_input, cache_write, cache_write_1h, audio_input, audio_output",
            "own.csv:1: input: there are two columns of this name",
        ],
    );
    check_problems("model,input\n", &["own.csv:1: per: this column is missing"]);
    check_problems("", &["own.csv:1: model: this column is missing"]);
}

#[test]
fn a_slip_of_the_unit_gets_a_word_and_is_taken() {
    let mut book = PriceBook::default();
    let warned = book.with_csv("own.csv", "model,per,input,output\nm,1,2.5,10\nn,1M,0.00001,1\n");
    let shown: Vec<String> = warned.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "own.csv:2: input: 2500000 dollars per million tokens; is `per` right?",
            "own.csv:2: output: 10000000 dollars per million tokens; is `per` right?",
            "own.csv:3: input: 0.00001 dollars per million tokens; is `per` right?",
        ]
    );
    check(&book, "m", NOW, "2500000 10000000");
}

#[test]
fn a_name_that_looks_like_a_pattern_gets_a_word_for_it_is_none() {
    let mut book = PriceBook::default();
    let warned = book.with_csv("own.csv", "model,per,input,output\ngpt-*,1M,1,2\ngpt,1M,1,2\n");
    let shown: Vec<String> = warned.unwrap().iter().map(ToString::to_string).collect();
    let said =
        "own.csv:2: model: \"gpt-*\" is taken as a name, not as a pattern: write one row a model";
    assert_eq!(shown, [said]);
    assert!(book.resolve("gpt-5", NOW).is_none() && book.names("gpt") && !book.names("gpt-5"));
}

#[test]
fn the_id_changes_with_the_price_and_with_nothing_else() {
    let id = |csv: &str| book(csv).resolve("m", NOW).unwrap().id();
    let base = id("model,per,input,output\nm,1M,1,2\n");
    assert_eq!(base, id("output,input,model,per\n0.002,0.001,m,1K\n"));
    assert_ne!(base, id("model,per,input,output\nm,1M,1,3\n"));
    assert_ne!(base, id("model,provider,per,input,output\nm,p,1M,1,2\n"));
    assert_ne!(base, id("model,effective_from,per,input,output\nm,2025-01-01,1M,1,2\n"));
    assert_eq!(base.to_string().len(), 16);
}

proptest! {
    #[test]
    fn the_components_are_the_total(tokens in prop::array::uniform8(0_u64..1 << 40), rate in 0_u32..2_000_000_000) {
        let [input, cached_input, cache_write, cache_write_1h, audio_input, output, reasoning, audio_output] = tokens;
        let usage = Usage { input, cached_input, cache_write, cache_write_1h, audio_input, output, reasoning, audio_output };
        let usd = PicoUsdPerToken::new(u64::from(rate)).usd_per_million();
        let mut book = PriceBook::default();
        book.with_csv("own.csv", &format!("model,per,input,output\nm,1M,{usd},{usd}\n")).unwrap();
        let cost = book.resolve("m", NOW).unwrap().cost(&usage);
        // With one rate for all, the total is the sum of all tokens times it, to the pico-dollar.
        let sum = tokens.iter().map(|&tokens| i128::from(tokens)).sum::<i128>() * i128::from(rate);
        prop_assert_eq!(cost.total(), PicoUsd::new(sum));
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "(model|per|input|output|,|\n|\"|1M|#|\\PC){0,60}") {
        let mut book = PriceBook::default();
        let _taken = book.with_csv("own.csv", &text);
        let _price = book.resolve(&text, NOW);
    }
}
