//! Whatever is known already, the answer is the one that the whole call would have had.

use super::*;
use crate::dialect::Operation;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The dialects with a list, and how a service of each answers: the same to the same item,
/// whatever stands beside it. An item is worth as many tokens as it has bytes.
const OPERATIONS: [Operation; 5] = [
    Operation::OpenAiEmbeddings,
    Operation::OllamaEmbed,
    Operation::GeminiEmbed,
    Operation::CohereEmbed,
    Operation::CohereRerank,
];

fn request(operation: Operation, items: &[String], top_n: Option<usize>) -> Vec<u8> {
    let list = &Layout::of(operation)[0].list;
    let name = &*list[0];
    let mut body = json!({ "model": "m", name: items, "z": [{ "a": "}]" }] });
    if let Some(top_n) = top_n.filter(|_| operation == Operation::CohereRerank) {
        body["top_n"] = top_n.into();
    }
    body.to_string().into_bytes()
}

fn vector(item: &str) -> Vec<usize> {
    item.bytes().map(usize::from).collect()
}

/// What a service answers to a request.
fn answer(operation: Operation, body: &[u8]) -> Vec<u8> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let items = ["input", "requests", "texts", "documents"].iter().find_map(|name| body.get(name));
    let items: Vec<String> = serde_json::from_value(items.unwrap().clone()).unwrap();
    let vectors: Vec<Value> = items.iter().map(|item| json!(vector(item))).collect();
    // Before quotes and brackets, as JSON has them.
    let tokens: usize = items.iter().map(|item| serde_json::to_string(item).unwrap().len()).sum();
    let said = match &*Layout::of(operation)[0].list[0] {
        "input" if operation == Operation::OpenAiEmbeddings => json!({
            "data": vectors.iter().enumerate().map(|(index, vector)| json!({
                "object": "embedding", "index": index, "embedding": vector,
            })).collect::<Vec<_>>(),
            "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        }),
        "input" => json!({ "embeddings": vectors, "prompt_eval_count": tokens }),
        "requests" => json!({
            "embeddings": vectors.iter().map(|values| json!({ "values": values })).collect::<Vec<_>>(),
        }),
        "texts" => json!({
            "embeddings": { "float": vectors, "int8": vectors },
            "meta": { "billed_units": { "input_tokens": tokens } },
            "texts": items,
        }),
        _ => {
            let score = |item: &String| vector(item).iter().sum::<usize>();
            let mut results: Vec<(usize, usize)> = items.iter().map(score).enumerate().collect();
            results.sort_by_key(|(index, score)| (std::cmp::Reverse(*score), *index));
            let top_n = body.get("top_n").and_then(Value::as_u64).unwrap_or(u64::MAX);
            results.truncate(usize::try_from(top_n).unwrap());
            let results = results.iter().map(|(index, score)| {
                json!({ "index": index, "relevance_score": score, "document": { "text": items[*index] } })
            });
            json!({ "results": results.collect::<Vec<_>>(), "meta": { "billed_units": { "search_units": 1 } } })
        }
    };
    said.to_string().into_bytes()
}

fn weights(asked: &Asked, body: &[u8], places: &[usize]) -> Vec<u64> {
    places.iter().map(|place| u64::try_from(asked.item(body, *place).len()).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_known_already_does_not_change_the_answer(
        operation in prop::sample::select(&OPERATIONS[..]),
        // Few letters, so that items come twice.
        items in prop::collection::vec("[ab\"\\]é]{1,3}", 1..8),
        known in any::<u8>(),
        top_n in prop::option::of(1..9_usize),
    ) {
        let body = request(operation, &items, top_n);
        let layout = &Layout::of(operation)[0];
        let asked = layout.read(&body).unwrap();
        prop_assert_eq!(asked.len(), items.len());
        let is_known = |place: usize| known >> place & 1 == 1;
        let unknown: Vec<usize> = (0..items.len()).filter(|place| !is_known(*place)).collect();

        // Each known item was once one of a call of all of them.
        let all: Vec<usize> = (0..items.len()).collect();
        let before = answer(operation, &asked.body_of(&body, &all));
        let before = layout.split(&before, items.len()).unwrap();
        let own = before.divided(&weights(&asked, &body, &all));
        let kept: Vec<Vec<u8>> = (0..items.len()).map(|place| {
            let element = before.places().iter().position(|own| *own == place).unwrap();
            before.one(element, &own[element])
        }).collect();
        for (place, one) in kept.iter().enumerate() {
            let alone = answer(operation, &asked.body_of(&body, &[place]));
            prop_assert_eq!(String::from_utf8_lossy(one), String::from_utf8_lossy(&alone));
        }
        let kept: Vec<Answers<'_>> =
            kept.iter().map(|one| layout.split(one, 1).unwrap()).collect();

        let rest = answer(operation, &asked.body_of(&body, &unknown));
        let rest = layout.split(&rest, unknown.len());
        let own = rest.as_ref().map(|rest| rest.divided(&weights(&asked, &body, &unknown)));
        let pieces: Vec<Piece<'_>> = (0..items.len()).map(|place| {
            let (Some(rest), Some(own)) = (&rest, &own) else { return Piece::of(&kept[place], 0) };
            match unknown.iter().position(|other| *other == place) {
                None => Piece::of(&kept[place], 0),
                Some(nth) => {
                    let element = rest.places().iter().position(|own| *own == nth).unwrap();
                    Piece::with_shares(rest, element, &own[element])
                }
            }
        }).collect();
        let envelope = rest.as_ref().unwrap_or(&kept[0]);
        let composed = compose(envelope, &pieces, asked.wanted()).unwrap();
        let whole = answer(operation, &body);
        prop_assert_eq!(String::from_utf8_lossy(&composed), String::from_utf8_lossy(&whole));
    }

    #[test]
    fn pieces_of_whatever_comes_are_pieces_of_it(text in "[\\[\\]{}\",:a01\\\\ inputdexs]{0,60}") {
        assert_pieces_are_of_the_whole(text.as_bytes());
    }
}

fn read(operation: Operation, body: &Value) -> Option<usize> {
    let body = body.to_string();
    Layout::of(operation).iter().find_map(|layout| layout.read(body.as_bytes())).map(|it| it.len())
}

#[test]
fn a_list_of_tokens_is_one_item_and_a_list_of_such_lists_are_many() {
    let of = |input: Value| read(Operation::OpenAiEmbeddings, &json!({ "input": input }));
    assert_eq!(of(json!([1, 2, 3])), None);
    assert_eq!(of(json!([[1, 2], [3]])), Some(2));
    assert_eq!(of(json!("a")), None);
    assert_eq!(of(json!([])), None);
    assert_eq!(of(json!([{ "image": "x" }, "a"])), Some(2));
}

#[test]
fn items_that_are_read_together_are_not_taken_apart() {
    let of = |late: Value| {
        read(Operation::OpenAiEmbeddings, &json!({ "input": ["a"], "late_chunking": late }))
    };
    assert_eq!((of(json!(true)), of(json!(false))), (None, Some(1)));
}

#[test]
fn a_single_item_is_a_list_of_one() {
    let of = |body: &str| {
        String::from_utf8(bare_as_list(Operation::OpenAiEmbeddings, body.as_bytes()).into())
            .unwrap()
    };
    assert_eq!(of(r#"{"input":"a","x":1}"#), r#"{"input":["a"],"x":1}"#);
    assert_eq!(of(r#"{"input": [1,2]}"#), r#"{"input": [[1,2]]}"#);
    for same in [r#"{"input":["a"]}"#, r#"{"input":[[1]]}"#, r#"{"input":[]}"#, "{}", "[", ""] {
        assert_eq!(of(same), same);
    }
}

#[test]
fn an_answer_that_does_not_fit_is_not_split() {
    let layout = &Layout::of(Operation::OpenAiEmbeddings)[0];
    let fits = |data: Value, asked: usize| {
        layout.split(json!({ "data": data }).to_string().as_bytes(), asked).is_some()
    };
    let at = |index: usize| json!({ "index": index, "embedding": [1] });
    assert!(fits(json!([at(0), at(1)]), 2) && fits(json!([at(1), at(0)]), 2));
    assert!(fits(json!([{}, {}]), 2), "in the order of the items");
    assert!(
        !fits(json!([at(0)]), 2) && !fits(json!([at(0), at(1), at(2)]), 2),
        "too few, too many"
    );
    assert!(!fits(json!([at(0), at(0)]), 2) && !fits(json!([at(0), at(2)]), 2), "twice, another");
    assert!(!fits(json!([at(0), {}]), 2) && !fits(json!([]), 0) && !fits(json!("x"), 1));
}

#[test]
fn what_is_wanted_of_a_ranking_goes_with_its_comma() {
    let layout = &Layout::of(Operation::CohereRerank)[0];
    for (body, expected) in [
        (r#"{"top_n": 1 , "documents":["a","b"]}"#, r#"{ "documents":["b"]}"#),
        (r#"{"documents":["a","b"] , "top_n":1}"#, r#"{"documents":["b"] }"#),
    ] {
        let asked = layout.read(body.as_bytes()).unwrap();
        assert_eq!(asked.wanted(), Some(1));
        assert_eq!(String::from_utf8(asked.body_of(body.as_bytes(), &[1])).unwrap(), expected);
    }
    assert!(layout.read(br#"{"documents":["a"],"top_n":"x"}"#).is_none());
}
