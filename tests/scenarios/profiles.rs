//! The five systems of `config/profiles`, each run as its file says but for addresses, and held to what
//! its users were promised. (How many calls a second, and how late the slowest: `bench/profile`.)

use crate::{
    cache_redis::detail,
    cache_stage::{CHAT, Told as _, assert_hit, assert_miss, chat, cost_pico, record_of, send},
    stores::{Database, Memcached, Redis, Store},
};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::sync::Semaphore;
use tollgate_config::{Environment, Overrides, load};
use tollgate_tests::{Client, Reply, Scripted, Settings, World, WorldBuilder, until};

/// Everything a profile asks its surroundings for.
struct Surroundings;

impl Environment for Surroundings {
    fn var(&self, name: &str) -> Option<String> {
        Some(match name {
            "TOLLGATE_REDIS_URL" => "redis://127.0.0.1:6379".to_owned(),
            "TOLLGATE_POSTGRES_URL" => "postgres://tollgate@127.0.0.1/tollgate".to_owned(),
            "TOLLGATE_CACHE_KEY" => "9e".repeat(32),
            _ => return None,
        })
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> std::io::Result<String> {
        Err(std::io::Error::other(format!("{} is not a profile's", path.display())))
    }

    fn is_file(&self, _path: &Path) -> bool {
        false
    }

    fn memory_limit(&self) -> Option<u64> {
        None
    }
}

/// The service of a profile: it counts its answers, can be away, and can be slow.
struct Service {
    line: Scripted,
    is_away: Arc<AtomicBool>,
    turns: Arc<Semaphore>,
}

impl Service {
    /// `turns`: how many answers it gives before it is told to go on.
    async fn start(turns: usize) -> Self {
        let is_away = Arc::<AtomicBool>::default();
        let turns = Arc::new(Semaphore::new(turns));
        let asked = Arc::<AtomicUsize>::default();
        let state = (is_away.clone(), turns.clone());
        let line = Scripted::start(move |mut line| {
            let ((is_away, turns), asked) = (state.clone(), asked.clone());
            async move {
                while line.request().await.is_some() && !is_away.load(SeqCst) {
                    turns.acquire().await.unwrap().forget();
                    let body = answer(asked.fetch_add(1, SeqCst)).to_string();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                    line.wire
                        .send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()))
                        .await;
                }
            }
        })
        .await;
        Self { line, is_away, turns }
    }
}

fn answer(n: usize) -> Value {
    json!({
        "id": format!("answer-{n}"), "object": "chat.completion", "model": "gpt-4",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": format!("answer {n}") },
        }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150 },
    })
}

/// The profile before this service, with the stores at hand.
fn profile(
    text: &'static str,
    service: &Service,
    stores: &[(&'static str, Value)],
) -> WorldBuilder {
    let (config, _) = load(text, Path::new("."), &Overrides::default(), &Surroundings).unwrap();
    let tiers = ["redis", "memcached", "postgres"];
    let is_sealed = |tier: &&str| {
        let own = Settings::of(&config).get(&format!("cache.{tier}.encryption"));
        !own.is_null()
    };
    let sealed: Vec<&str> = tiers.into_iter().filter(is_sealed).collect();
    let url = service.line.url();
    let mut builder = World::builder();
    let key = builder.dir().join("cache-key");
    std::fs::write(&key, "9e".repeat(32)).unwrap();
    builder = builder.config(move |settings| {
        let data_dir = settings.get("data_dir");
        *settings = Settings::of(&config);
        settings
            .set("listeners.0.address", json!("127.0.0.1:0"))
            .set("admin.address", json!("127.0.0.1:0"))
            .set("telemetry.metrics.address", json!("127.0.0.1:0"))
            .set("data_dir", data_dir)
            .set("drain", json!({ "quiet": "0s", "deadline": "10s" }))
            .set("upstreams.model.endpoints", json!([{ "url": url }]))
            // A machine that stands still for a while is nobody's fault.
            .set("upstreams.model.timeouts", json!({}))
            // Nobody asks beside the calls of the scenario.
            .set("cache.warm", Value::Null);
        for tier in sealed {
            let file = json!({ "file": key });
            settings.set(&format!("cache.{tier}.encryption"), json!({ "key": file }));
        }
    });
    for (path, value) in stores {
        builder = builder.set(*path, value.clone());
    }
    builder
}

async fn ask(world: &World, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let reply = world.client.post_with(path, headers, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

/// Waits until a call that may not be asked for is answered, or is not.
async fn is_known(
    world: &World,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
    wanted: bool,
) -> Reply {
    let mut headers = headers.to_vec();
    headers.push(("cache-control", "only-if-cached"));
    let look = || world.client.post_with(path, &headers, body);
    until("the answer in the cache or out of it", look, |reply: &Reply| reply.is_hit() == wanted)
        .await
}

async fn up(world: &World, stores: &[&str]) {
    for store in stores {
        world.metric_when(&format!("tollgate_store_up{{store=\"{store}\"}}"), 1.0).await;
    }
}

#[tokio::test]
async fn marketing_finds_an_answer_in_its_tiers_and_knows_what_whom_it_cost() {
    let service = Service::start(usize::MAX >> 4).await;
    let (redis, postgres) = (Redis::start().await, Database::start().await);
    let stores = [redis.settings(), postgres.settings()].concat();
    let start = async || {
        let text = include_str!("../../config/profiles/marketing.yaml");
        let world = profile(text, &service, &stores).start().await;
        up(&world, &["redis", "postgres"]).await;
        world
    };
    let world = start().await;
    let caller = [
        ("x-tenant-id", "shop"),
        ("x-user-id", "u1"),
        ("x-user-tier", "gold"),
        ("x-business", "content"),
        ("x-priority", "vip"),
        ("x-campaign", "spring"),
    ];
    let first = ask(&world, CHAT, &caller, &chat("a slogan")).await;
    assert_miss(&first);
    let record = record_of(&world, &first).await;
    let words = ["generate", "shop", "u1", "gold", "", "content", "vip", "gpt-4", ""];
    assert_eq!(record.words, words);
    // 100 and 50 tokens of gpt-4, at 30 and 60 dollars a million.
    assert_eq!(cost_pico(&record), 6_000_000_000);
    let again = ask(&world, CHAT, &caller, &chat("a slogan")).await;
    assert_eq!((detail(&again), &again.body), ("memory", &first.body));
    assert_eq!(cost_pico(&record_of(&world, &again).await), 0);

    let other = start().await;
    let reply = is_known(&other, CHAT, &caller, &chat("a slogan"), true).await;
    assert_eq!(reply.body, first.body);
    // A campaign's answers end with its data, on every instance.
    redis.says("marketing-changes", &json!({ "campaign": "spring" }), 2).await;
    for world in [&world, &other] {
        is_known(world, CHAT, &caller, &chat("a slogan"), false).await;
    }
}

#[tokio::test]
async fn customer_service_answers_by_question_base_and_user_and_when_the_service_is_down() {
    let service = Service::start(usize::MAX >> 4).await;
    let redis = Redis::start().await;
    let text = include_str!("../../config/profiles/customer-service.yaml");
    let world = profile(text, &service, &redis.settings()).start().await;
    up(&world, &["redis"]).await;
    let base = |version: &'static str| [("x-kb-version", version), ("x-doc", "returns")];
    let asked = |text: &str, session: &str| json!({ "question": text, "session": session });
    let first = ask(&world, "/faq", &base("1"), &asked("how do I return it?", "s1")).await;
    assert_miss(&first);
    // Whoever asks it, in whatever session.
    let again = ask(&world, "/faq", &base("1"), &asked("how do I return it?", "s2")).await;
    assert_eq!((again.is_hit(), &again.body), (true, &first.body));
    assert_miss(&ask(&world, "/faq", &base("2"), &asked("how do I return it?", "s1")).await);
    // Of two users each has a conversation of its own; what changes by the minute is not kept.
    let of = |user: &'static str| [("x-user-id", user), ("x-kb-version", "1")];
    let order = json!({ "model": "gpt-4", "messages": [], "metadata": { "kind": "order" } });
    for user in ["one", "two"] {
        assert_miss(&ask(&world, CHAT, &of(user), &chat("and then?")).await);
        assert_hit(&ask(&world, CHAT, &of(user), &chat("and then?")).await);
        assert!(!ask(&world, CHAT, &of(user), &order).await.is_hit());
        assert!(!ask(&world, CHAT, &of(user), &order).await.is_hit());
    }
    // A document has changed.
    redis.says("kb-changes", &json!({ "doc": "returns" }), 1).await;
    is_known(&world, "/faq", &base("1"), &asked("how do I return it?", "s1"), false).await;
    assert_hit(&ask(&world, CHAT, &of("one"), &chat("and then?")).await);
    // All of it is old, and the service is away: an old answer rather than none.
    crate::cache_stage::purge(&world, json!({ "tag": "kb", "soft": true })).await;
    service.is_away.store(true, SeqCst);
    assert_eq!(ask(&world, CHAT, &of("two"), &chat("and then?")).await.status, 200);
}

#[tokio::test]
async fn code_generation_forgets_the_file_that_was_pushed_and_no_other() {
    let service = Service::start(usize::MAX >> 4).await;
    let redis = Redis::start().await;
    let text = include_str!("../../config/profiles/code-generation.yaml");
    let world = profile(text, &service, &redis.settings()).start().await;
    up(&world, &["redis"]).await;
    let admin = Client::new(world.app.addresses().admin.unwrap());
    let push = async |event: Value| {
        let reply = admin.post("/api/cache/events/push", &event).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    let path = |project: &str, file: &str| format!("/projects/{project}/reviews?file={file}");
    let files = [path("shop", "a.rs"), path("shop", "b.rs"), path("bank", "a.rs")];
    let team = [("x-tenant-id", "team")];
    let body = json!({ "diff": "+ fn main() {}" });
    for file in &files {
        assert_miss(&ask(&world, file, &team, &body).await);
        assert_hit(&ask(&world, file, &team, &body).await);
    }
    push(json!({ "project": "shop", "file": "a.rs" })).await;
    for (file, known) in files.iter().zip([false, true, true]) {
        is_known(&world, file, &team, &body, known).await;
    }
    push(json!({ "all_of": "shop" })).await;
    for (file, known) in files.iter().zip([false, false, true]) {
        is_known(&world, file, &team, &body, known).await;
    }
    let project = [team[0], ("x-project", "shop")];
    let reply = ask(&world, CHAT, &project, &chat("a parser")).await;
    assert_eq!(record_of(&world, &reply).await.words[4], "shop");
}

#[tokio::test]
async fn medical_lets_emergencies_go_first_and_keeps_answers_by_the_image_sealed() {
    let service = Service::start(0).await;
    let (redis, memcached, postgres) =
        (Redis::start().await, Memcached::start().await, Database::start().await);
    let stores = [redis.settings(), memcached.settings(), postgres.settings()].concat();
    let text = include_str!("../../config/profiles/medical.yaml");
    let world = profile(text, &service, &stores).start().await;
    up(&world, &["redis", "memcached", "postgres"]).await;
    let image = |name: &str| json!({ "image": name });
    // Four are looked at, and then there is a queue.
    let sent = |name: &str, class: &'static str| {
        send(
            &world.client,
            "/diagnoses",
            &[("x-tenant-id", "ward"), ("x-priority", class)],
            &image(name),
        )
    };
    let mut asked: Vec<_> = (0..4).map(|n| sent(&format!("batch {n}"), "batch")).collect();
    service.line.requests(4).await;
    for (n, (name, class)) in
        [("batch 4", "batch"), ("visit", "normal"), ("emergency", "emergency")].iter().enumerate()
    {
        asked.push(sent(name, class));
        world.metric_when("request_queue_length", f64::from(u32::try_from(n).unwrap() + 1)).await;
    }
    let mut order = Vec::new();
    for n in 5..=7 {
        service.turns.add_permits(1);
        let seen = service.line.requests(n).await;
        order.push(String::from_utf8(seen[n - 1].body.clone()).unwrap());
    }
    assert_eq!(order, ["emergency", "visit", "batch 4"].map(|name| image(name).to_string()));
    service.turns.add_permits(usize::MAX >> 5);
    for one in asked {
        assert_eq!(crate::cache_stage::answered(one).await.status, 200);
    }
    // The same image is known, by its bytes alone, to a colleague, too.
    let ward = [("x-tenant-id", "ward"), ("x-user-id", "colleague")];
    // Redis, which is asked first, is written last.
    let look = async || world.client.post_with("/diagnoses", &ward, &image("visit")).await;
    until("it in Redis", look, |reply: &Reply| detail(reply) == "redis").await;
    is_known(&world, "/diagnoses", &ward, &image("another"), false).await;
    is_known(&world, "/diagnoses", &[("x-tenant-id", "other ward")], &image("visit"), false).await;
    // And what lies there says nothing.
    let dump = redis.dump().await;
    assert!(!dump.is_empty() && !dump.contains("answer"), "{dump}");
}

#[tokio::test]
async fn personalization_answers_four_of_five_from_the_cache_and_fails_nobody() {
    const CALLS: u32 = 6_000;
    let service = Service::start(usize::MAX >> 4).await;
    let redis = Redis::start().await;
    let text = include_str!("../../config/profiles/personalization.yaml");
    let world = profile(text, &service, &redis.settings()).start().await;
    up(&world, &["redis"]).await;
    // Users by Zipf's law (1.1): a few are there all the time.
    let weights: Vec<f64> = (1..=1_000).map(|rank| f64::from(rank).powf(-1.1)).collect();
    let all: f64 = weights.iter().sum();
    let mut state = 7_u64;
    let mut answers: HashMap<usize, Reply> = HashMap::new();
    let mut hits = 0;
    for _ in 0..CALLS {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut at = f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31) * all;
        let user = weights.iter().position(|weight| {
            at -= weight;
            at <= 0.0
        });
        let user = user.unwrap_or_default();
        let name = format!("u{user}");
        let headers = [("x-user-id", &*name), ("x-features-version", "3")];
        let reply = ask(&world, "/recommend", &headers, &json!({ "page": "home" })).await;
        hits += u32::from(reply.is_hit());
        // Nobody is given another's.
        let known = answers.entry(user).or_insert_with(|| reply.clone());
        assert_eq!(known.body, reply.body, "{user}");
    }
    assert!(hits * 5 > CALLS * 4, "{hits} of {CALLS}");
    let failed = world.metric("request_error_ratio").unwrap();
    assert!(failed < 0.001, "{failed}");
    assert!(world.metric("recommendation_latency_p99").is_some());
    // By kind: for a day, and not at all.
    let user = [("x-user-id", "u0"), ("x-features-version", "3")];
    for (kind, wanted) in [("static", true), ("moving", true), ("live", false)] {
        let body = json!({ "kind": kind });
        ask(&world, "/features", &user, &body).await;
        assert_eq!(ask(&world, "/features", &user, &body).await.is_hit(), wanted, "{kind}");
    }
    // Something has happened: what there is is old, and is renewed beside.
    let before = service.line.seen().len();
    redis.says("user-events", &json!({ "user": "u0" }), 1).await;
    let look = async || {
        ask(&world, "/recommend", &user, &json!({ "page": "home" })).await;
        service.line.seen().len()
    };
    until("a renewal", look, |seen| *seen > before).await;
    let get = world.client.send(Method::GET, "/lists/shoes", &[], "").await;
    assert_eq!(get.status, 200);
}
