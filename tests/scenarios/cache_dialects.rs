//! Every dialect through the proxy: one entry for all forms of an answer, tokens as the
//! provider bills them, and nothing kept that is no finished answer.

use crate::{
    ask::input_and_output,
    cache_stage::{
        MISS, Told as _, assert_bypass, assert_hit, assert_miss, content, cost_pico, is_cached,
        record_of,
    },
};
use serde_json::{Value, json};
use tollgate_ledger::Quality;
use tollgate_tests::{Reply, World, standin::Fault};

/// A question in all its forms: the whole one first.
struct Case {
    /// `None`: detected.
    dialect: Option<&'static str>,
    forms: Vec<(&'static str, Value)>,
    /// Each form can be made of each other.
    converts_both_ways: bool,
}

const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const EVENTS: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=secret";
const ARRAY: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?key=secret";

fn contents(text: &str) -> Value {
    json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] })
}

fn set(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn cases(text: &str) -> Vec<Case> {
    let messages = json!([{ "role": "user", "content": text }]);
    let response = json!({ "model": "gpt-4o", "input": text });
    let chat = json!({ "model": "llama3.2", "messages": messages });
    let generate = json!({ "model": "llama3.2", "prompt": text, "options": { "num_predict": 3 } });
    let cohere = json!({ "model": "command-a-03-2025", "messages": messages });
    let inputs = json!({ "inputs": text, "parameters": { "details": true } });
    let completion = json!({ "model": "gpt-4o", "prompt": text });
    let unstreamed = |body: &Value| set(body.clone(), "stream", json!(false));
    let streamed = |body: &Value| set(body.clone(), "stream", json!(true));
    let case = |dialect, converts_both_ways, forms| Case { dialect, forms, converts_both_ways };
    vec![
        case(
            None,
            true,
            vec![("/v1/responses", response.clone()), ("/v1/responses", streamed(&response))],
        ),
        case(
            None,
            true,
            vec![
                ("/v1/completions", completion.clone()),
                ("/v1/completions", streamed(&completion)),
            ],
        ),
        case(
            None,
            true,
            vec![(GENERATE, contents(text)), (EVENTS, contents(text)), (ARRAY, contents(text))],
        ),
        case(
            Some("ollama"),
            true,
            vec![("/api/chat", unstreamed(&chat)), ("/api/chat", chat.clone())],
        ),
        case(
            Some("ollama"),
            true,
            vec![("/api/generate", unstreamed(&generate)), ("/api/generate", generate.clone())],
        ),
        case(
            Some("cohere"),
            true,
            vec![("/v2/chat", cohere.clone()), ("/v2/chat", streamed(&cohere))],
        ),
        case(
            Some("tgi"),
            false,
            vec![("/generate", inputs.clone()), ("/generate_stream", inputs.clone())],
        ),
        case(Some("tgi"), false, vec![("/", inputs.clone()), ("/", streamed(&inputs))]),
    ]
}

async fn world(dialect: Option<&'static str>, policy: Value) -> World {
    let builder = content(policy).config(move |settings| {
        if let Some(dialect) = dialect {
            settings.set("routes.0.dialect", json!(dialect));
        }
    });
    builder.start().await
}

/// The credential is the same whether it stands in the query or in the head.
async fn ask(world: &World, (path, body): &(&'static str, Value)) -> Reply {
    world.client.post_with(path, &[("x-goog-api-key", "secret")], body).await
}

/// The JSON texts of an answer, however it is framed.
fn pieces(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Array(list)) if list.iter().all(|one| one.get("candidates").is_some()) => list,
        Ok(whole) => vec![whole],
        Err(_) => {
            let data = |line: &str| match line.strip_prefix("data:") {
                Some(data) => serde_json::from_str(data).ok(),
                None => serde_json::from_str(line).ok(),
            };
            text.lines().filter_map(data).collect()
        }
    }
}

fn said(reply: &Reply) -> String {
    let pieces = pieces(reply);
    let is_stream = pieces.len() > 1;
    let places: &[&str] = if is_stream {
        &[
            "/candidates/0/content/parts/0/text",
            "/message/content",
            "/response",
            "/delta/message/content/text",
            "/token/text",
            "/choices/0/text",
            "/delta",
        ]
    } else {
        &[
            "/candidates/0/content/parts/0/text",
            "/message/content/0/text",
            "/message/content",
            "/response",
            "/generated_text",
            "/0/generated_text",
            "/output/0/content/0/text",
            "/choices/0/text",
        ]
    };
    let text = |piece: &Value| {
        places.iter().find_map(|place| piece.pointer(place)?.as_str().map(str::to_owned))
    };
    pieces.iter().filter_map(text).collect()
}

/// Without what is of one call and not of the answer.
fn scrubbed(mut answer: Value) -> Value {
    fn scrub(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in ["id", "created", "created_at", "responseId", "call_id"] {
                    members.remove(name);
                }
                members.values_mut().for_each(scrub);
            }
            Value::Array(items) => items.iter_mut().for_each(scrub),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    scrub(&mut answer);
    answer
}

fn kind(reply: &Reply) -> String {
    reply.header("content-type").split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn in_every_dialect_one_entry_answers_every_form() {
    for (place, case) in cases("how many coins?").into_iter().enumerate() {
        for (recorder, recorded) in case.forms.iter().enumerate() {
            let world = world(case.dialect, json!({})).await;
            let first = ask(&world, recorded).await;
            assert_eq!((first.status.as_u16(), first.cache_status()), (200, MISS), "{first:?}");
            assert!(said(&first).len() > 3, "{first:?}");
            for (form, question) in case.forms.iter().enumerate() {
                if recorder == 0 && form > 0 && !case.converts_both_ways {
                    assert_miss(&ask(&world, question).await);
                    continue;
                }
                let calls = world.standin.counts().calls;
                let hit = ask(&world, question).await;
                assert_hit(&hit);
                assert_eq!(world.standin.counts().calls, calls, "{place}");
                assert_eq!(said(&hit), said(&first), "{hit:?}");
                if form == recorder {
                    assert_eq!(hit.body, first.body);
                }
                // As its provider would have sent it, but for what is of one call.
                let headers = [("cache-control", "no-store"), ("x-goog-api-key", "secret")];
                let own = world.client.post_with(question.0, &headers, &question.1).await;
                assert_eq!(kind(&hit), kind(&own), "{hit:?}");
                if form == 0 {
                    assert_eq!(scrubbed(hit.json()), scrubbed(own.json()), "{place} {recorder}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_call_of_a_tool_goes_there_and_back() {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let function = json!({ "name": "weather", "parameters": parameters });
    for case in cases("use the weather tool") {
        let tools = match case.forms[0].0 {
            GENERATE => json!([{ "functionDeclarations": [function] }]),
            "/v1/responses" => {
                json!([{ "type": "function", "name": "weather", "parameters": parameters }])
            }
            "/api/chat" | "/v2/chat" => json!([{ "type": "function", "function": function }]),
            _ => continue,
        };
        let forms: Vec<_> = case
            .forms
            .iter()
            .map(|(path, body)| (*path, set(body.clone(), "tools", tools.clone())))
            .collect();
        let world = world(case.dialect, json!({})).await;
        assert_miss(&ask(&world, &forms[1]).await);
        let whole = ask(&world, &forms[0]).await;
        assert_hit(&whole);
        assert!(whole.text().contains("weather"), "{whole:?}");
        let headers = [("cache-control", "no-store"), ("x-goog-api-key", "secret")];
        let own = world.client.post_with(forms[0].0, &headers, &forms[0].1).await;
        assert_eq!(scrubbed(whole.json()), scrubbed(own.json()));
    }
}

#[tokio::test]
async fn in_every_dialect_tokens_are_those_the_provider_bills() {
    for case in cases("how many coins does the gate take from a traveller?") {
        for form in &case.forms {
            for fault in ["", "cached-usage"] {
                let world = world(case.dialect, json!({})).await;
                let headers = [("x-goog-api-key", "secret"), ("x-standin-fault", fault)];
                let reply = world.client.post_with(form.0, &headers, &form.1).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let billed = world.standin.counts().billed;
                let record = record_of(&world, &reply).await;
                assert_eq!(record.record.quality, Quality::Reported, "{} {fault}", form.0);
                assert_eq!(input_and_output(&record), (billed.input, billed.output), "{}", form.0);
                assert!(billed.input > 0 && billed.output > 0);
                // And what a hit would have cost is what was paid.
                let hit = ask(&world, form).await;
                assert_hit(&hit);
                assert_eq!(record_of(&world, &hit).await.record.tokens, record.record.tokens);
            }
        }
    }
}

#[tokio::test]
async fn in_every_dialect_only_a_finished_answer_is_kept() {
    for case in cases("is it kept?") {
        let world = world(case.dialect, json!({})).await;
        let is_tgi = case.dialect == Some("tgi");
        for (place, form) in case.forms.iter().enumerate() {
            let is_stream = place > 0;
            let mut faults = vec![
                Fault::Fail(http::StatusCode::INTERNAL_SERVER_ERROR),
                Fault::Fail(http::StatusCode::TOO_MANY_REQUESTS),
                Fault::ErrorEvent,
                Fault::Empty,
                Fault::CutMidstream,
                Fault::BadJson,
                Fault::Reset,
            ];
            // TGI has no filter, and says no end of a whole answer.
            faults.extend((!is_tgi).then_some(Fault::ContentFilter));
            faults.extend((is_stream || !is_tgi).then_some(Fault::Unfinished));
            for fault in faults {
                world.standin.fault_next(fault, 1);
                let spoilt = ask(&world, form).await;
                assert!(spoilt.is_miss() || spoilt.status == 502, "{fault:?}: {spoilt:?}");
                assert!(!is_cached(&world.client, form.0, &form.1).await, "{fault:?} {}", form.0);
                let headers = [("x-goog-api-key", "secret"), ("cache-control", "only-if-cached")];
                let kept = world.client.post_with(form.0, &headers, &form.1).await;
                assert_eq!(kept.refusal(), (504, "not_cached"), "{fault:?} {}", form.0);
            }
        }
        assert_miss(&ask(&world, &case.forms[0]).await);
        assert_hit(&ask(&world, &case.forms[0]).await);
    }
}

#[tokio::test]
async fn gemini_s_model_and_form_are_read_from_the_path() {
    let world = world(None, json!({})).await;
    let question = contents("the same words");
    for model in ["gemini-2.5-flash", "gemini-2.5-pro"] {
        let path = format!("/v1beta/models/{model}:generateContent");
        let first = world.client.post(&path, &question).await;
        assert_miss(&first);
        assert_eq!(first.json()["modelVersion"], model);
        assert_hit(&world.client.post(&path, &question).await);
        assert_eq!(world.standin.calls_of_model(model), 1);
        let record = record_of(&world, &first).await;
        assert!(serde_json::to_string(&record).unwrap().contains(model));
        // Of a body that was read before, under another method.
        let count =
            world.client.post(&path.replace("generateContent", "countTokens"), &question).await;
        assert_miss(&count);
        assert!(count.json()["totalTokens"].is_u64());
        // Its answer names no model.
        let record = record_of(&world, &count).await;
        assert!(serde_json::to_string(&record).unwrap().contains(model), "{record:?}");
    }
}

#[tokio::test]
async fn a_question_too_long_to_hold_is_metered_in_every_form() {
    let builder = content(json!({})).config(|settings| {
        settings.set("listeners.0.limits", json!({ "body": "1KiB" }));
    });
    let world = builder.start().await;
    for path in [GENERATE, EVENTS, ARRAY] {
        let before = world.standin.counts().billed;
        let reply = ask(&world, &(path, contents(&"long ".repeat(500)))).await;
        assert_bypass(&reply, "body-too-large");
        let (record, billed) = (record_of(&world, &reply).await, world.standin.counts().billed);
        let billed = (billed.input - before.input, billed.output - before.output);
        assert_eq!(input_and_output(&record), billed, "{path}");
        assert_eq!(record.record.quality, Quality::Reported, "{path}");
    }
}

#[tokio::test]
async fn a_credential_in_the_query_is_the_tenant_and_no_part_of_the_question() {
    let path = |key: &str| format!("{GENERATE}?key={key}");
    let question = contents("whose?");
    let apart = world(None, json!({})).await;
    assert_miss(&apart.client.post(&path("a"), &question).await);
    assert_miss(&apart.client.post(&path("b"), &question).await);
    assert_hit(&apart.client.post(&path("a"), &question).await);
    assert_hit(&apart.client.post_with(GENERATE, &[("x-goog-api-key", "a")], &question).await);

    // One that is not what the tenant was made of parts callers, too.
    let gateway = [("authorization", "Bearer gateway")];
    for target in ["a", "b", "a&key=c"] {
        let first = apart.client.post_with(&path(target), &gateway, &question).await;
        assert_miss(&first);
        assert_hit(&apart.client.post_with(&path(target), &gateway, &question).await);
    }
    assert_miss(&apart.client.post(&path("a&key=d"), &question).await);

    let shared = world(None, json!({ "scope": "shared" })).await;
    assert_miss(&shared.client.post(&path("a"), &question).await);
    assert_hit(&shared.client.post(&path("b"), &question).await);
    // Any other parameter may change the answer.
    let fields = format!("{GENERATE}?fields=usageMetadata");
    assert_miss(&shared.client.post(&fields, &question).await);
}

#[tokio::test]
async fn what_goes_on_from_what_the_provider_keeps_passes_by() {
    let gemini = world(None, json!({})).await;
    let kept = set(contents("a"), "cachedContent", json!("cachedContents/1"));
    assert_bypass(&gemini.client.post(GENERATE, &kept).await, "not-pure");
    // A path that may be anybody's is read only where the route says so.
    let chat = json!({ "model": "llama3.2", "messages": [] });
    assert_bypass(&gemini.client.post("/api/chat", &chat).await, "not-pure");
    let ollama = world(Some("ollama"), json!({})).await;
    assert_bypass(&ollama.client.post("/api/pull", &json!({ "model": "m" })).await, "not-pure");
}

#[tokio::test]
async fn embeddings_counts_and_reranks_of_every_dialect_are_cached_and_metered() {
    let calls = [
        (
            None,
            GENERATE.replace("generateContent", "embedContent"),
            set(json!({}), "content", json!({ "parts": [{ "text": "a b c d" }] })),
            true,
        ),
        (
            None,
            GENERATE.replace("generateContent", "batchEmbedContents"),
            json!({ "requests": [{ "content": { "parts": [{ "text": "a b c d" }] } }] }),
            true,
        ),
        (
            Some("ollama"),
            "/api/embed".to_owned(),
            json!({ "model": "all-minilm", "input": ["a b c d", "e"] }),
            true,
        ),
        (
            Some("cohere"),
            "/v2/embed".to_owned(),
            json!({ "model": "embed-v4.0", "texts": ["a b c d"], "input_type": "search_query" }),
            true,
        ),
        (
            Some("cohere"),
            "/v2/rerank".to_owned(),
            json!({ "model": "rerank-v3.5", "query": "a", "documents": ["b", "c"] }),
            false,
        ),
    ];
    for (dialect, path, question, has_tokens) in calls {
        let world = world(dialect, json!({})).await;
        let first = world.client.post(&path, &question).await;
        assert_eq!((first.status.as_u16(), first.cache_status()), (200, MISS), "{first:?}");
        let hit = world.client.post(&path, &question).await;
        assert_hit(&hit);
        assert_eq!(hit.body, first.body);
        let record = record_of(&world, &first).await;
        let billed = world.standin.counts().billed;
        assert_eq!(input_and_output(&record), (billed.input, billed.output), "{path}");
        let quality = if has_tokens { Quality::Reported } else { Quality::Absent };
        assert_eq!(record.record.quality, quality, "{path}");
    }
}

#[tokio::test]
async fn a_rerank_of_more_documents_than_one_search_has_costs_more_than_one() {
    let builder = content(json!({}));
    let file = builder.dir().join("prices.csv");
    std::fs::write(&file, "model,effective_from,per,input,output\nrerank-v3.5,,request,0.002,\n")
        .unwrap();
    let world = builder
        .config(move |settings| {
            settings
                .set("routes.0.dialect", json!("cohere"))
                .set("prices", json!({ "book": "builtin", "files": [file], "currency": "USD" }));
        })
        .start()
        .await;
    for (documents, searches) in [(2, 1), (150, 2)] {
        let documents: Vec<String> = (0..documents).map(|n| format!("document {n}")).collect();
        let question = json!({ "model": "rerank-v3.5", "query": "a", "documents": documents });
        let reply = world.client.post("/v2/rerank", &question).await;
        let record = record_of(&world, &reply).await;
        assert_eq!(cost_pico(&record), searches * 2_000_000_000);
    }
}

#[tokio::test]
async fn a_refusal_has_the_shape_of_its_dialect() {
    for case in cases("refused") {
        let world = world(case.dialect, json!({})).await;
        let (path, question) = &case.forms[0];
        let only = [("cache-control", "only-if-cached")];
        let refused = world.client.post_with(path, &only, question).await;
        assert_eq!(refused.refusal(), (504, "not_cached"));
        let body = refused.json();
        match case.dialect {
            None if *path == GENERATE => {
                assert_eq!(body["error"]["code"], 504);
                assert_eq!(body["error"]["status"], "DEADLINE_EXCEEDED");
                assert_eq!(body["error"]["details"][0]["reason"], "not_cached");
            }
            None => assert_eq!(body["error"]["code"], "not_cached"),
            Some("ollama") => assert!(body["error"].is_string(), "{body}"),
            Some("cohere") => assert!(body["message"].is_string(), "{body}"),
            Some(_) => assert_eq!(body["error_type"], "generation"),
        }
    }
}
