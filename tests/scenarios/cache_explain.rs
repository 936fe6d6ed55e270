//! What a running instance says of a call before it is made, and of one that missed: why, and in
//! what it differs from the nearest answer there is.

use crate::{
    cache_items::{EMBED, embed},
    cache_stage::{CHAT, Told as _, assert_hit, assert_miss, by_url, chat, content, with},
};
use http::Method;
use serde_json::{Value, json};
use std::{io::Write as _, process::Stdio};
use tollgate_tests::{Client, Process, Reply, Scripted, Settings, World, WorldBuilder};

const ONE: (&str, &str) = ("authorization", "Bearer one");
const OTHER: (&str, &str) = ("authorization", "Bearer other");

fn noted(builder: WorldBuilder) -> WorldBuilder {
    builder.set("cache.explain", json!({ "entries": 100 }))
}

fn admin(world: &World) -> Client {
    Client::new(world.app.addresses().admin.unwrap())
}

/// What would happen to a question.
async fn would(world: &World, headers: Value, body: &Value) -> Value {
    let request = json!({ "path": CHAT, "headers": headers, "body": body });
    let reply = admin(world).post("/api/cache/explain", &request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn why(world: &World, call: &Reply) -> Reply {
    let path = format!("/api/cache/explain?record={}", call.header("tollgate-record"));
    admin(world).get(&path).await
}

fn reload(world: &mut World, entries: u16) {
    let change = |settings: &mut Settings| {
        settings.set("cache.explain.entries", json!(entries));
    };
    world.reload(change).unwrap();
}

fn outcome(answer: &Value) -> (&str, &str) {
    (answer["outcome"].as_str().unwrap(), answer["why"].as_str().unwrap())
}

/// The parts in which the nearest differs, and how.
fn differs(answer: &Value) -> Vec<(&str, &str)> {
    let all = answer["nearest"]["differs"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let word = |one: &'_ Value, name| one[name].as_str().unwrap().to_owned();
    let all = all.iter().map(|one| (word(one, "part").leak(), word(one, "how").leak()));
    all.map(|(part, how)| (&*part, &*how)).collect()
}

#[tokio::test]
async fn a_miss_names_the_parts_in_which_it_differs_from_the_nearest_answer() {
    let policy = json!({ "key": { "versions": { "kb": { "header": "x-kb" } } } });
    let world = noted(content(policy)).start().await;
    let question = with(&chat("a"), json!({ "temperature": 0, "metadata": { "trace": "1" } }));
    let headers = json!({ "authorization": ONE.1, "x-kb": "7" });
    world.client.post_with(CHAT, &[ONE, ("x-kb", "7")], &chat("quite another question")).await;
    world.client.post_with(CHAT, &[ONE, ("x-kb", "7")], &question).await;

    let same = would(&world, headers.clone(), &question).await;
    assert_eq!(outcome(&same), ("hit", "found"), "{same}");
    let hotter = with(&question, json!({ "temperature": 1, "seed": 7 }));
    let answer = would(&world, headers.clone(), &hotter).await;
    assert_eq!(outcome(&answer), ("miss", "not-there"), "{answer}");
    assert_eq!(differs(&answer), [("/seed", "only here"), ("/temperature", "another value")]);

    let traced = with(&question, json!({ "metadata": { "trace": "2" } }));
    assert_eq!(
        differs(&would(&world, headers, &traced).await),
        [("/metadata/trace", "another value")]
    );
    let without = json!({ "authorization": ONE.1 });
    assert_eq!(differs(&would(&world, without, &question).await), [("kb", "only there")]);
}

#[tokio::test]
async fn nobody_is_told_of_what_another_tenant_asked() {
    let world = noted(content(json!({}))).start().await;
    world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    let own = would(&world, json!({ "authorization": ONE.1 }), &chat("b")).await;
    assert_eq!(differs(&own), [("/messages/0", "another value")]);
    for question in [chat("a"), chat("b")] {
        let others = would(&world, json!({ "authorization": OTHER.1 }), &question).await;
        assert_eq!(
            (outcome(&others).0, &others["nearest"], &others["was"]),
            ("miss", &Value::Null, &Value::Null),
            "{others}"
        );
    }
}

#[tokio::test]
async fn to_ask_about_a_call_changes_nothing_and_sends_nothing() {
    let world = noted(content(json!({ "stale": { "while_revalidate": "1h" } })))
        .set("routes.0.cache.vote_out", json!({ "trust": [] }))
        .start()
        .await;
    world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    let before = (world.standin.counts().calls, world.metrics());
    for wish in ["no-cache", "no-store", "only-if-cached", "max-age=0"] {
        let headers =
            json!({ "authorization": ONE.1, "cache-control": wish, "tollgate-vote": "bad" });
        would(&world, headers.clone(), &chat("a")).await;
        would(&world, headers, &chat("never asked")).await;
    }
    assert_eq!(world.standin.counts().calls, before.0);
    let changed: Vec<_> = world
        .metrics()
        .into_iter()
        .filter(|(series, value)| {
            series.starts_with("tollgate_cache") && before.1.get(series) != Some(value)
        })
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_hit(&world.client.post_with(CHAT, &[ONE], &chat("a")).await);
}

#[tokio::test]
async fn what_a_caller_wishes_and_what_a_tier_has_are_told_with_what_comes_of_them() {
    let world = noted(content(json!({ "ttl": "1h" }))).start().await;
    let ask = |wish: &str| json!({ "authorization": ONE.1, "cache-control": wish });
    let answer = would(&world, ask(""), &chat("a")).await;
    assert_eq!(outcome(&answer), ("miss", "version-unknown"), "{answer}");
    assert_miss(&world.client.post_with(CHAT, &[ONE], &chat("a")).await);
    for (wish, expected) in [
        ("", ("hit", "found")),
        ("no-cache", ("miss", "no-cache")),
        ("no-store", ("bypass", "no-store")),
        ("min-fresh=7200", ("miss", "unwanted")),
    ] {
        let answer = would(&world, ask(wish), &chat("a")).await;
        assert_eq!(outcome(&answer), expected, "{answer}");
    }
    let tiers = would(&world, ask(""), &chat("a")).await["tiers"].clone();
    assert_eq!((&tiers[0]["tier"], &tiers[0]["verdict"]), (&json!("memory"), &json!("given")));
    assert!((3_500_000..=3_600_000).contains(&tiers[0]["left_ms"].as_u64().unwrap()), "{tiers}");
    let answer = would(&world, ask("only-if-cached"), &chat("b")).await;
    assert_eq!(outcome(&answer), ("not_cached", "not-there"), "{answer}");
    let refused = would(&world, json!({ "host": "a b" }), &chat("b")).await;
    assert_eq!((outcome(&refused), &refused["status"]), (("refused", "bad_request"), &json!(400)));
}

/// Goal: what is said of a list is what would happen to it.
#[tokio::test]
async fn of_a_list_it_is_told_how_much_of_it_is_there() {
    let world = content(json!({})).start().await;
    let (known, more) = (embed(&["a", "b"]), embed(&["b", "c", "b"]));
    assert_miss(&world.client.post_with(EMBED, &[ONE], &known).await);
    let told = async |body: &Value| {
        let headers = json!({ "authorization": ONE.1 });
        let request = json!({ "path": EMBED, "headers": headers, "body": body });
        admin(&world).post("/api/cache/explain", &request).await.json()
    };
    let answer = told(&known).await;
    assert_eq!(outcome(&answer), ("hit", "item-by-item"), "{answer}");
    assert_eq!(answer["items"], json!({ "known": 2, "of": 2 }));
    let answer = told(&more).await;
    assert_eq!(outcome(&answer), ("miss", "item-by-item"), "{answer}");
    assert_eq!(answer["items"], json!({ "known": 2, "of": 3 }));
    assert_eq!(world.standin.counts().calls, 1);
    assert_hit(&world.client.post_with(EMBED, &[ONE], &known).await);
}

#[tokio::test]
async fn a_purged_answer_is_told_from_one_that_never_was() {
    let world = noted(content(json!({}))).start().await;
    world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    admin(&world).post("/api/cache/purge", &json!({ "route": "all" })).await;
    let answer = would(&world, json!({ "authorization": ONE.1 }), &chat("a")).await;
    assert_eq!(outcome(&answer), ("miss", "purged"), "{answer}");
    let answer = would(&world, json!({ "authorization": ONE.1 }), &chat("b")).await;
    assert_eq!(outcome(&answer), ("miss", "not-there"), "{answer}");
}

#[tokio::test]
async fn a_call_of_late_is_explained_by_its_record() {
    let world = noted(content(json!({ "when": { "temperature_max": 0 } }))).start().await;
    let cold = |text| with(&chat(text), json!({ "temperature": 0 }));
    let first = world.client.post_with(CHAT, &[ONE], &cold("a")).await;
    let second = world.client.post_with(CHAT, &[ONE], &cold("b")).await;
    let sampled = world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    let hit = world.client.post_with(CHAT, &[ONE], &cold("a")).await;
    assert_hit(&hit);

    let told = why(&world, &first).await.json();
    assert_eq!(outcome(&told), ("miss", "version-unknown"), "{told}");
    assert_eq!(told["nearest"], Value::Null, "what came later is no reason: {told}");
    let told = why(&world, &second).await.json();
    assert_eq!(outcome(&told), ("miss", "miss"), "{told}");
    assert_eq!(differs(&told), [("/messages/0", "another value")]);
    let told = why(&world, &sampled).await.json();
    let reason = sampled.cache_status().rsplit_once("detail=").unwrap().1.to_owned();
    assert_eq!(outcome(&told), ("bypass", &*reason), "{told}");
    assert_eq!(why(&world, &hit).await.status, 404);
    for bad in ["", "?record=x", "?key=1"] {
        let reply = admin(&world).get(&format!("/api/cache/explain{bad}")).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn nothing_is_remembered_unless_there_is_room_and_a_reload_makes_it() {
    let mut world = content(json!({})).start().await;
    let first = world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    assert_eq!(why(&world, &first).await.status, 404);
    let answer = would(&world, json!({ "authorization": ONE.1 }), &chat("b")).await;
    assert_eq!((&answer["notes"], &answer["nearest"]), (&json!(false), &Value::Null));

    reload(&mut world, 2);
    let calls = ["b", "c", "d"];
    let mut replies = Vec::new();
    for text in calls {
        replies.push(world.client.post_with(CHAT, &[ONE], &chat(text)).await);
    }
    assert_eq!(why(&world, &replies[0]).await.status, 404, "only the last two");
    assert_eq!(why(&world, &replies[2]).await.status, 200);
    reload(&mut world, 0);
    assert_eq!(why(&world, &replies[2]).await.status, 404);
}

#[tokio::test]
async fn a_url_is_explained_too() {
    let upstream = Scripted::always(
        "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let world = noted(by_url()).upstream(upstream.url()).start().await;
    let first = world.client.send(Method::GET, "/page?a=1", &[("host", "h")], "").await;
    assert_miss(&first);
    let ask = async |path: &str| {
        let request = json!({ "path": path, "headers": { "host": "h" } });
        admin(&world).post("/api/cache/explain", &request).await.json()
    };
    let before = world.metrics();
    let hit = ask("/page?a=1").await;
    assert_eq!(outcome(&hit), ("hit", "found"));
    let tier = &hit["tiers"][0];
    assert_eq!((&tier["tier"], &tier["verdict"]), (&json!("memory"), &json!("given")), "{hit}");
    assert!(tier["left_ms"].as_u64().unwrap() > 500_000, "{hit}");
    ask("/page?a=3").await;
    let changed: Vec<_> = world
        .metrics()
        .into_iter()
        .filter(|(name, value)| {
            name.starts_with("tollgate_cache") && before.get(name) != Some(value)
        })
        .collect();
    assert!(changed.is_empty(), "who asks about a call is no caller: {changed:?}");
    let other = ask("/page?a=2").await;
    assert_eq!(outcome(&other), ("miss", "uri-miss"), "{other}");
    assert_eq!(differs(&other), [("query", "another value")]);
    assert_eq!(outcome(&why(&world, &first).await.json()), ("miss", "uri-miss"));
    assert_eq!(other["tiers"][0]["found"], false, "{other}");
    // By the key that is told it is purged, too.
    let purged = json!({ "key": hit["key"] });
    assert_eq!(admin(&world).post("/api/cache/purge", &purged).await.status, 200);
    assert_eq!(outcome(&ask("/page?a=1").await).0, "miss");
}

/// The command says of a running instance what its API says.
#[tokio::test]
async fn the_command_asks_a_running_instance() {
    let world = noted(content(json!({}))).start().await;
    world.client.post_with(CHAT, &[ONE], &chat("a")).await;
    let at = format!("http://{}", world.app.addresses().admin.unwrap());
    let run = |arguments: &[&str], input: String| {
        let mut command = Process::command(&[&["explain", "--admin", &at], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(text).unwrap())
        })
    };
    let request = json!({
        "path": CHAT, "headers": { "authorization": ONE.1 },
        "body": with(&chat("a"), json!({ "temperature": 1 })),
    });
    let (code, page) = run(&["--request", "-"], request.to_string()).await.unwrap();
    assert_eq!(code, Some(0), "{page}");
    for line in [
        "cache       miss: not-there",
        "differs in /temperature (only here)",
        "memory      nothing",
    ] {
        assert!(page.contains(line), "{line:?} in {page}");
    }
    assert!(!page.contains("Bearer"), "{page}");
    let (code, page) = run(&[], String::new()).await.unwrap();
    assert_eq!(code, Some(1), "{page}");
    let missed = world.client.post_with(CHAT, &[ONE], &chat("b")).await;
    let record = missed.header("tollgate-record").to_owned();
    let (code, page) = run(&["--record", &record], String::new()).await.unwrap();
    assert_eq!(code, Some(0), "{page}");
    assert!(page.contains("differs in /messages/0 (another value)"), "{page}");
}
