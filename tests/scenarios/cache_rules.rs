//! What a route says about its keys: what counts, what does not, and what never mixes.

use crate::cache_stage::{
    CHAT, assert_bypass, assert_hit, assert_miss, chat, content, post_raw, purge, streamed, with,
};
use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{Client, Reply, Scripted, World, WorldBuilder};

/// A plain service, of which every POST may be cached.
fn plain(policy: Value) -> WorldBuilder {
    content(policy).set("routes.0.dialect", json!("http"))
}

async fn send(
    world: &World,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Reply {
    world.client.send(Method::POST, target, headers, body.into()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn what_a_route_ignores_changes_nothing_and_everything_else_does() {
    let key = json!({ "ignore": ["/user", "/metadata/trace", "/messages/*/id"] });
    let world = content(json!({ "key": key })).start().await;
    let asked = |user: &str, id: u64, text: &str| {
        json!({
            "model": "gpt-4o-mini",
            "user": user,
            "metadata": { "trace": id, "kind": "faq" },
            "messages": [{ "role": "user", "id": id, "content": text }],
        })
    };
    assert_miss(&world.client.post(CHAT, &asked("ann", 1, "why?")).await);
    assert_hit(&world.client.post(CHAT, &asked("bob", 2, "why?")).await);
    assert_miss(&world.client.post(CHAT, &asked("ann", 1, "how?")).await);
    assert_miss(
        &world.client.post(CHAT, &with(&asked("ann", 1, "why?"), json!({ "seed": 1 }))).await,
    );
    let other_kind = with(&asked("ann", 1, "why?"), json!({ "metadata": { "kind": "order" } }));
    assert_miss(&world.client.post(CHAT, &other_kind).await);
    // The forms still meet, and what is sent upstream is what the caller wrote.
    assert_hit(&world.client.post(CHAT, &streamed(&asked("eve", 3, "why?"))).await);
    let sent = world.standin.last_requests();
    assert!(String::from_utf8_lossy(&sent[0].body).contains("\"ann\""), "{sent:?}");
    // A member that comes twice has no key, ignored or not.
    let twice = r#"{"model":"m","user":"a","user":"b","messages":[]}"#;
    assert_bypass(&post_raw(&world.client, CHAT, twice).await, "duplicate-member");
}

#[tokio::test]
async fn a_conversation_is_one_sessions_own() {
    let world = content(json!({ "key": { "include_headers": ["x-session"] } })).start().await;
    let h2 = Client::h2(world.addr()).await;
    let ask = async |client: &Client, sessions: &[&str]| {
        let headers: Vec<_> = sessions.iter().map(|session| ("x-session", *session)).collect();
        client.post_with(CHAT, &headers, &chat("and then?")).await
    };
    for sessions in [&["a"][..], &["b"], &[], &["a", "b"], &["b", "a"], &["a, b"]] {
        assert_miss(&ask(&world.client, sessions).await);
        assert_hit(&ask(&h2, sessions).await);
    }
}

#[tokio::test]
async fn a_question_is_its_text_and_the_version_of_the_knowledge_base() {
    let key = json!({ "of": ["body./query", "header.x-kb-version"] });
    let world = plain(json!({ "key": key })).start().await;
    let ask = async |query: &str, kb: &str, top: u64| {
        let body = json!({ "query": query, "top": top, "session": kb }).to_string();
        send(&world, "/echo", &[JSON, ("x-kb-version", kb)], body).await
    };
    assert_miss(&ask("opening hours", "7", 1).await);
    assert_hit(&ask("opening hours", "7", 2).await);
    assert_miss(&ask("opening hours", "8", 1).await);
    assert_miss(&ask("opening hour", "7", 1).await);
    // What a template names and a call has not got is not left out of the key: there is none.
    let body = r#"{"query":"opening hours"}"#;
    assert_bypass(&send(&world, "/echo", &[JSON], body).await, "key-part-absent");
    let without = send(&world, "/echo", &[JSON, ("x-kb-version", "7")], r#"{"q":1}"#).await;
    assert_bypass(&without, "key-part-absent");
    assert_bypass(&send(&world, "/echo", &[("x-kb-version", "7")], "query").await, "not-json");
}

#[tokio::test]
async fn an_answer_of_a_model_is_kept_by_question_context_and_the_models_version() {
    let key = json!({ "of": ["body./messages", "body./context"] });
    let world = content(json!({ "key": key })).start().await;
    let ask = async |text: &str, context: &str, seed: u64| {
        let question = with(&chat(text), json!({ "context": context, "seed": seed }));
        world.client.post(CHAT, &question).await
    };
    world.standin.set_model_version(Some("1"));
    assert_miss(&ask("why?", "x", 1).await);
    assert_hit(&ask("why?", "x", 2).await);
    assert_miss(&ask("why?", "y", 1).await);
    assert_miss(&ask("how?", "x", 1).await);
    let other = with(&chat("why?"), json!({ "context": "x", "model": "gpt-4o" }));
    assert_miss(&world.client.post(CHAT, &other).await);
    world.standin.set_model_version(Some("2"));
    assert_miss(&ask("new", "x", 1).await);
    assert_miss(&ask("why?", "x", 1).await);
    assert_hit(&ask("why?", "x", 1).await);
}

#[tokio::test]
async fn an_image_is_known_by_its_own_bytes() {
    let world = plain(json!({ "key": { "of": ["body"] } })).start().await;
    let image = [0x89, b'P', b'N', b'G', 0, 0xff];
    let ask = async |kind: &str, image: &[u8]| {
        send(&world, "/echo", &[("content-type", kind), ("x-file", kind)], image).await
    };
    assert_miss(&ask("image/png", &image).await);
    assert_hit(&ask("application/octet-stream", &image).await);
    assert_miss(&ask("image/png", &image[..5]).await);
    // The upstream, the path and the query stay.
    assert_miss(&send(&world, "/echo?a=1", &[], image).await);
}

fn form(boundary: &str, parts: &[(&str, &str)]) -> (String, String) {
    let mut body = String::new();
    for (name, content) in parts {
        body += &format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{boundary}.png\"\r\n\
             content-type: image/png\r\n\r\n{content}\r\n"
        );
    }
    (format!("multipart/form-data; boundary={boundary}"), format!("{body}--{boundary}--\r\n"))
}

async fn send_form(world: &World, boundary: &str, parts: &[(&str, &str)]) -> Reply {
    let (kind, body) = form(boundary, parts);
    send(world, "/echo", &[("content-type", &kind)], body).await
}

#[tokio::test]
async fn a_form_is_known_by_the_parts_that_are_named() {
    let world = plain(json!({ "key": { "of": ["part.image", "part.prompt"] } })).start().await;
    let parts = [("image", "\u{7f}PNG"), ("prompt", "what is this?")];
    assert_miss(&send_form(&world, "one", &parts).await);
    assert_hit(&send_form(&world, "two", &[parts[1], ("trace", "7"), parts[0]]).await);
    assert_miss(&send_form(&world, "one", &[parts[0], ("prompt", "and this?")]).await);
    assert_miss(&send_form(&world, "one", &[parts[0], parts[0], parts[1]]).await);
    assert_bypass(&send_form(&world, "one", &[parts[0]]).await, "key-part-absent");
    // The same bytes between other boundaries are another form, or none.
    let (kind, body) = form("one", &parts);
    let torn = body.replace("\r\n--one--", "\r\n--one\n--one--");
    let torn = send(&world, "/echo", &[("content-type", &kind)], torn).await;
    assert_bypass(&torn, "not-form-data");
    assert_bypass(&send(&world, "/echo", &[JSON], body).await, "not-form-data");
}

#[tokio::test]
async fn a_form_without_a_rule_is_all_its_parts_in_their_order() {
    let world = plain(json!({})).start().await;
    let parts = [("image", "x"), ("prompt", "y")];
    assert_miss(&send_form(&world, "one", &parts).await);
    assert_hit(&send_form(&world, "one", &parts).await);
    assert_miss(&send_form(&world, "one", &[parts[1], parts[0]]).await);
}

#[tokio::test]
async fn the_spelling_of_plain_json_does_not_count_and_its_kind_does() {
    let world = plain(json!({})).start().await;
    assert_miss(&send(&world, "/echo", &[JSON], r#"{"a":1.0,"b":2}"#).await);
    assert_hit(&send(&world, "/echo", &[JSON], r#"{ "b": 2, "a": 1 }"#).await);
    // A service that reads by the kind reads something else here.
    let text = [("content-type", "text/plain")];
    assert_miss(&send(&world, "/echo", &text, r#"{"a":1.0,"b":2}"#).await);
    assert_miss(&send(&world, "/echo", &text, r#"{ "b": 2, "a": 1 }"#).await);
    assert_miss(&send(&world, "/echo", &[], r#"{"a":1.0,"b":2}"#).await);
    assert_hit(&send(&world, "/echo", &text, r#"{"a":1.0,"b":2}"#).await);
}

#[tokio::test]
async fn code_is_known_by_project_and_file_and_both_can_be_purged() {
    let policy = json!({
        "key": { "of": ["path.2", "query.file", "body./cursor"] },
        "tags": ["project:{path.2}", "file:{path.2}:{query.file}"],
    });
    let service = Scripted::always(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    );
    let world = plain(policy).upstream(service.await.url()).start().await;
    let ask = async |project: &str, query: &str, cursor: u64| {
        let body = format!("{{\"cursor\":{cursor},\"session\":{}}}", query.len());
        send(&world, &format!("/projects/{project}/complete?{query}"), &[JSON], body).await
    };
    assert_miss(&ask("a", "file=x.rs&trace=1", 7).await);
    assert_hit(&ask("a", "trace=2&file=x.rs", 7).await);
    assert_miss(&ask("a", "file=x.rs", 8).await);
    assert_miss(&ask("a", "file=y.rs", 7).await);
    assert_miss(&ask("b", "file=x.rs", 7).await);
    assert_bypass(&ask("a", "trace=1", 7).await, "key-part-absent");
    // However a name is spelled, a service may read it; and one that ends parameters at `;`.
    assert_miss(&ask("a", "file=x.rs&%66ile=evil.rs", 7).await);
    assert_bypass(&ask("a", "file=x.rs;file=evil.rs", 7).await, "key-part-unclear");
    purge(&world, json!({ "tag": "file:a:x.rs" })).await;
    assert_miss(&ask("a", "file=x.rs", 7).await);
    assert_hit(&ask("a", "file=y.rs", 7).await);
    purge(&world, json!({ "tag": "project:a" })).await;
    assert_miss(&ask("a", "file=y.rs", 7).await);
    assert_hit(&ask("b", "file=x.rs", 7).await);
}

#[tokio::test]
async fn two_routes_that_look_at_different_parts_never_share_an_answer() {
    let world = plain(json!({ "key": { "of": ["body./q"] } }))
        .config(|settings| {
            let mut others = Vec::new();
            for (name, key) in [
                ("whole", json!({})),
                ("ignores", json!({ "ignore": ["/kb"] })),
                ("both", json!({ "of": ["body./q", "body./kb"] })),
                ("header", json!({ "of": ["body./q"], "include_headers": ["x-kb"] })),
                ("version", json!({ "versions": { "kb": { "header": "x-kb" } } })),
            ] {
                others.push(json!({
                    "name": name,
                    "match": { "headers": { "x-route": name } },
                    "upstream": "model",
                    "dialect": "http",
                    "cache": { "mode": "content", "key": key },
                }));
            }
            others.into_iter().for_each(|route| {
                settings.route_first(route);
            });
        })
        .start()
        .await;
    let body = r#"{"q":"x","kb":1}"#;
    for _ in 0..2 {
        for route in ["", "whole", "ignores", "both", "header", "version"] {
            let reply = send(&world, "/echo", &[JSON, ("x-route", route)], body).await;
            let echoed = reply.echoed("x-route");
            assert_eq!(echoed, [route], "an answer that was made for another route");
        }
    }
    assert_eq!(world.standin.counts().calls, 6, "each has its own");
}

#[tokio::test]
async fn what_a_service_may_read_of_a_bodys_kind_is_part_of_the_question() {
    let world = plain(json!({})).start().await;
    let kinds = [
        "application/json",
        "application/vnd.a.v1+json",
        "application/vnd.a.v2+json",
        "application/json; charset=iso-8859-1",
    ];
    for kind in kinds {
        assert_miss(&send(&world, "/echo", &[("content-type", kind)], r#"{"a":1}"#).await);
        assert_hit(&send(&world, "/echo", &[("content-type", kind)], r#"{ "a": 1 }"#).await);
    }
    let plain = [("content-type", "Application/JSON; charset=utf-8")];
    assert_hit(&send(&world, "/echo", &plain, r#"{"a":1}"#).await);

    let form = |file: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"a\"{file}\r\n\r\nx\r\n--b--\r\n")
    };
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    for file in ["", "; filename=\"a.csv\"", "; filename=\"b.pdf\""] {
        assert_miss(&send(&world, "/echo", &kind, form(file)).await);
        assert_hit(&send(&world, "/echo", &kind, form(file)).await);
    }
    let other = [("content-type", "multipart/form-data; boundary=b; charset=utf-16")];
    assert_miss(&send(&world, "/echo", &other, form("")).await);
}
