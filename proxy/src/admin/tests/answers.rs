//! What is answered: as the OpenAPI document says, and true.

use super::*;
use crate::admission::{Ask as Turn, Like, Limits};
use serde_json::json;
use std::{collections::BTreeSet, future::poll_fn, num::NonZeroU32, task::Poll};
use tollgate_cache::{
    delivery::Delivery,
    entry::{Entry, Form, Hits, Rule, subjects},
    generations::CheckedAt,
    key::{CacheKey, Check},
    tiers::{Plan, TierName, TierUse},
};
use tollgate_ledger::{CacheOutcome, Cost, Dims, Tokens, UsageRecord, mint_id};

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_document_describes_exactly_the_endpoints_there_are() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let served = ENDPOINTS.iter().map(|(method, path, _)| ((*method).into(), (*path).into()));
    assert_eq!(described.collect::<BTreeSet<(String, String)>>(), served.collect());
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for later in LATER {
        assert!(!paths.contains_key(later), "{later}");
    }
}

#[tokio::test]
async fn what_this_version_lacks_is_refused_by_name_and_what_never_was_is_not() {
    let house = house().await;
    for path in LATER {
        for method in ["GET", "POST"] {
            let told = house.ask(method, path, &[("content-type", "application/json")], "").await;
            assert_eq!(told.problem(404), "not in this version", "{path}");
        }
    }
    assert!(house.get("/api/nothing").await.problem(404).contains("openapi"));
    let told = house.get("/api/drain").await;
    assert_eq!(
        (told.problem(405).as_str(), &told.headers["allow"]),
        ("use POST", &"POST".parse().unwrap())
    );
    assert!(house.get("/api/queue?x=1").await.problem(400).contains("\"x\""));
}

/// The schema behind a reference.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Fails where `value` has a member that is not described, lacks one that is required,
/// or is of another type.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let own = kind(value);
    let fits =
        types.is_empty() || types.contains(&own) || own == "integer" && types.contains(&"number");
    assert!(fits, "{at}: {value} is no {types:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value}");
    }
    if let (Some(items), Some(members)) = (value.as_array(), schema.get("items")) {
        items.iter().for_each(|item| conforms(document, members, item, &format!("{at}[]")));
    }
    if let (Some(members), Some(described)) = (value.as_object(), schema["properties"].as_object())
    {
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(members.contains_key(required.as_str().unwrap()), "{at}: no {required}");
        }
        for (name, member) in members {
            let described = described.get(name).unwrap_or_else(|| panic!("{at}: {name}?"));
            conforms(document, described, member, &format!("{at}.{name}"));
        }
    }
}

#[track_caller]
fn check_answer(method: &str, path: &str, told: &Told) -> Value {
    let document = document();
    let responses = &document["paths"][path][method]["responses"];
    let response = resolve(&document, &responses[told.status.as_str()]);
    let content = response["content"].as_object().unwrap_or_else(|| panic!("{path}: {told:?}"));
    let schema = &content[told.headers["content-type"].to_str().unwrap()]["schema"];
    let value = told.json();
    conforms(&document, schema, &value, path);
    value
}

/// Books a call of `model` that cost `pico`, or had no price.
fn book(house: &House, model: &str, pico: Option<i64>, outcome: CacheOutcome) -> UsageRecord {
    let ledger = &house.app.parts.meter.ledger;
    let dims = Dims { model: ledger.dim(model), route: ledger.dim("all"), ..Dims::default() };
    let now_ms = crate::meter::unix_ms();
    let record = UsageRecord {
        status: 200,
        outcome,
        unpriced: pico.is_none(),
        tokens: Tokens { input: 7, output: 5, ..Tokens::default() },
        cost: Cost { input: pico.unwrap_or(0), ..Cost::default() },
        ..UsageRecord::new(mint_id(u64::try_from(now_ms).unwrap()), now_ms, dims)
    };
    ledger.close(&record);
    record
}

#[tokio::test]
async fn every_answer_is_as_the_document_says() {
    let house = house().await;
    book(&house, "m", Some(24_400_000), CacheOutcome::Miss);
    house.app.flush_ledger().await.unwrap();
    let (key, now_ms) = (CacheKey::from_hex(&"0a".repeat(32)).unwrap(), crate::cache::now_ms());
    let kept = Entry { stored_at_ms: now_ms, ..Entry::clone(&entry(&house, key)) };
    let plan = Plan::new([TierUse::new(TierName::Memory, 60_000)]);
    assert!(house.app.parts.cache.tiers.store(key, Arc::new(kept), &plan, now_ms).is_kept());
    for path in [
        "/api/cache/stats",
        "/api/cache/entries",
        "/api/usage",
        "/api/usage/records",
        "/api/queue",
        "/api/upstreams",
        "/api/forecast",
    ] {
        check_answer("get", path, &house.get(path).await);
    }
    check_answer("get", "/api/usage", &house.get("/api/usage?by=model,status&step=5m").await);
    check_answer("get", "/api/config", &house.get("/api/config").await);
    check_answer(
        "post",
        "/api/cache/purge",
        &house.post("/api/cache/purge", r#"{"tag":"kb:7"}"#).await,
    );
    check_answer("post", "/api/cache/purge", &house.post("/api/cache/purge", "{}").await);
    let entries = house.get("/api/cache/entries").await.json();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 0, "the purge of its tag");
    let json = [("content-type", "application/json")];
    let put = house.ask("PUT", "/api/cache/entries", &json, "{}").await;
    check_answer("put", "/api/cache/entries", &put);
    check_answer("post", "/api/config/reload", &house.post("/api/config/reload", "").await);
    check_answer("post", "/api/drain", &house.post("/api/drain", "{}").await);
}

#[tokio::test]
async fn the_queue_tells_who_waits_for_what_and_what_was_decided() {
    let house = house().await;
    let snapshot = house.app.parts.snapshot.load_full();
    let admission = snapshot.destinations[0].admission.clone();
    let limits = Limits { limit: NonZeroU32::new(1), ..Limits::default() };
    admission.set_limits(limits);
    let classes = &snapshot.classes;
    let (class, who) = (classes.default_class(), "<b>ann");
    let like = Like::default();
    let ask =
        || Turn { class, classes, tenant: 1, who, weight: 1, like, deadline: None, queued: None };
    let running = admission.admit(ask()).await.unwrap();
    let mut waits = Box::pin(admission.admit(ask()));
    poll_fn(|context| {
        assert!(waits.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;

    let told = house.get("/api/queue").await;
    check_answer("get", "/api/queue", &told);
    let told = told.json();
    let upstream = &told["upstreams"][0];
    assert_eq!(upstream["limit_from"]["source"], "configuration");
    assert_eq!((&upstream["inflight"], &upstream["waiting"]), (&json!(1), &json!(1)));
    let of_class = &upstream["classes"][class.place()];
    assert_eq!(of_class["waits_for"], "limit");
    assert_eq!(of_class["tenants"][0]["tenant"], "<b>ann");
    assert_eq!(of_class["recent"]["granted"], json!({ "at_once": 1 }));
    let page = house.get("/").await.text;
    assert!(page.contains("&lt;b&gt;ann") && !page.contains("<b>ann"));
    drop((waits, running));
    let told = house.get("/api/queue").await.json();
    assert_eq!(told["upstreams"][0]["classes"][class.place()]["recent"]["left"], 1);
}

#[tokio::test]
async fn money_is_a_decimal_string_and_what_has_no_price_is_null() {
    let house = house().await;
    book(&house, "priced", Some(24_400_000), CacheOutcome::Miss);
    book(&house, "unpriced", None, CacheOutcome::Miss);
    house.app.flush_ledger().await.unwrap();
    let report = house.get("/api/usage?by=model").await.json();
    let rows = report["rows"].as_array().unwrap();
    let cost = |model| &rows.iter().find(|row| row["model"] == model).unwrap()["cost"];
    assert_eq!(*cost("priced"), "0.0000244");
    assert!(cost("unpriced").is_null());
    assert_eq!(report["total"]["calls"], 2);
    assert_eq!(report["total"]["unpriced_calls"], 1);
}

#[tokio::test]
async fn pages_of_records_go_back_in_time_and_miss_and_repeat_none() {
    let house = house().await;
    let mut booked: Vec<_> =
        (0..5).map(|_| book(&house, "m", Some(1), CacheOutcome::Miss).id.to_string()).collect();
    booked.sort();
    booked.reverse();
    house.app.flush_ledger().await.unwrap();
    let mut seen = Vec::new();
    let mut target = "/api/usage/records?limit=2".to_owned();
    loop {
        let page = house.get(&target).await.json();
        let ids = page["records"].as_array().unwrap().iter().map(|record| record["id"].as_str());
        seen.extend(ids.map(|id| id.unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/api/usage/records?limit=2&before={next}");
    }
    assert_eq!(seen, booked);
    for wrong in ["limit=0", "limit=1001", "limit=x", "before=7"] {
        let told = house.get(&format!("/api/usage/records?{wrong}")).await;
        assert!(told.problem(400).contains(wrong.split('=').next().unwrap()));
    }
}

const CHECK: Check = Check { len: 8, digest128: [7; 16] };

/// An answer to the question of `key`, about everything that can be purged by name.
fn entry(house: &House, key: CacheKey) -> Arc<Entry> {
    let tags = vec!["kb:7".into()];
    Arc::new(Entry {
        status: 200,
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
        frame_ends: Box::default(),
        form: Form::Whole,
        check: CHECK,
        stored_at_ms: 1000,
        ttl_ms: 60_000,
        rule: Rule::Ttl,
        model: "m".into(),
        model_version: "".into(),
        tenant: "t".into(),
        route: "chat".into(),
        subjects: subjects(key, "chat", "m", "t", &tags),
        tags,
        note: Bytes::new(),
        worth: 1,
        stamp: house.app.parts.cache.tiers.stamp(),
        checked: CheckedAt::default(),
        hits: Hits::default(),
        delivery: Delivery::default(),
    })
}

#[tokio::test]
async fn a_purge_is_in_force_when_it_is_answered() {
    let house = house().await;
    let tiers = &house.app.parts.cache.tiers;
    let key = CacheKey::from_hex(&"0a".repeat(32)).unwrap();
    let by_key = json!({ "key": key.to_hex() }).to_string();
    let plan = Plan::new([TierUse::new(TierName::Memory, 60_000)]);
    let is_there = || tiers.look_up_now(&key, &CHECK, 2000).is_some();
    for order in [
        by_key.as_str(),
        r#"{"tag":"kb:7"}"#,
        r#"{"route":"chat"}"#,
        r#"{"model":"m"}"#,
        r#"{"tenant":"t"}"#,
        r#"{"all":true}"#,
    ] {
        assert!(tiers.store(key, entry(&house, key), &plan, 2000).is_kept());
        house.post("/api/cache/purge", r#"{"tag":"another"}"#).await.json();
        assert!(is_there(), "{order}");
        let told = house.post("/api/cache/purge", order.to_owned()).await.json();
        assert_eq!(told, json!({ "purged": null, "reach": "instance", "pending": false }));
        assert!(!is_there(), "{order}");
    }
}

#[tokio::test]
async fn a_bad_configuration_is_told_mistake_by_mistake_and_the_old_one_stays() {
    let house = house().await;
    assert!(house.post("/api/config/reload", "").await.problem(409).contains("without"));
    let outcomes = std::sync::Mutex::new(Vec::new());
    let own = house.app.parts.snapshot.load().config.clone();
    outcomes.lock().unwrap().push(Ok((*own).clone()));
    outcomes.lock().unwrap().push(Err(vec!["routes[0]: a".to_owned(), "classes: b".to_owned()]));
    house.app.set_source(move || outcomes.lock().unwrap().pop().unwrap());
    let told = house.post("/api/config/reload", "").await;
    assert!(told.problem(422).contains("the old one stays"));
    assert_eq!(told.json()["problems"], json!(["routes[0]: a", "classes: b"]));
    assert!(Arc::ptr_eq(&own, &house.app.parts.snapshot.load().config));
    let told = house.post("/api/config/reload", "{}").await;
    check_answer("post", "/api/config/reload", &told);
    assert_eq!(told.json()["in_force"], true);
    assert!(!Arc::ptr_eq(&own, &house.app.parts.snapshot.load().config));
    assert!(house.post("/api/config/reload", r#"{"x":1}"#).await.problem(400).contains("\"x\""));
}

#[tokio::test]
async fn a_drain_fails_readiness_at_once_and_whoever_serves_hears_of_it() {
    let house = house().await;
    assert_eq!(house.get("/readyz").await.status, StatusCode::OK);
    assert_eq!(house.post("/api/drain", "").await.status, StatusCode::ACCEPTED);
    assert_eq!(house.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    house.app.drain_asked().await;
    assert_eq!(house.post("/api/drain", "").await.status, StatusCode::ACCEPTED, "again");
}

#[tokio::test(start_paused = true)]
async fn reads_of_the_ledger_are_few_at_a_time_and_who_waits_too_long_is_told() {
    let house = house().await;
    let reads = house.app.parts.admin.ledger_reads.clone();
    let busy = reads.acquire_many(u32::try_from(reading::READS_MAX).unwrap()).await.unwrap();
    let told = house.get("/api/usage").await;
    told.problem(503);
    assert_eq!(told.headers["retry-after"], "1");
    drop(busy);
    assert_eq!(house.get("/api/usage").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_name_that_a_caller_made_up_is_text_on_the_page() {
    let house = house().await;
    book(&house, "<script>alert(1)</script>", Some(24_400_000), CacheOutcome::Miss);
    house.app.flush_ledger().await.unwrap();
    let page = house.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.text);
    assert!(!page.text.contains("<script>"), "{}", page.text);
    assert!(page.text.contains("$0.0000244"), "{}", page.text);
}

#[tokio::test]
async fn an_announced_event_is_told_and_is_known_after_a_restart() {
    let house = house().await;
    let order = r#"{"name":"sale","at":"now","for":"2h","factor":5}"#;
    let told = house.post("/api/forecast/events", order).await;
    let said = check_answer("post", "/api/forecast/events", &told);
    assert_eq!((&said["kept"], &said["events"][0]["name"]), (&json!(true), &json!("sale")));
    let House { app, _dir, .. } = &house;
    let parts = app.parts.clone();
    // A quiet hour, and then the question what an hour of sale would come to.
    let begun = crate::meter::unix_ms() - 2 * 60 * 60_000;
    let again = crate::forecast::Forecasts::new(&Default::default(), &_dir.path().join("data"));
    assert_eq!(again.events(crate::meter::unix_ms()), parts.forecasts.events(begun));
    for minute in 0..60 {
        again.tick(begun + minute * 60_000, 4.0);
    }
    let said = again.outlook(crate::meter::unix_ms(), 4.0);
    assert!(said.iter().all(|outlook| (outlook.load - 20.0).abs() < 0.1), "{said:?}");

    let told = house.post("/api/forecast/events", r#"{"name":"sale","withdraw":true}"#).await;
    assert_eq!(check_answer("post", "/api/forecast/events", &told)["events"], json!([]));
    let told = house.post("/api/forecast/events", r#"{"name":"sale","withdraw":true}"#).await;
    assert!(told.problem(404).contains("no event"));
    assert!(house.post("/api/forecast/events", "{}").await.problem(400).contains("factor"));
}
