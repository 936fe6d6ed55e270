//! `routes[].cache.encodings`: one entry, given to each caller in the content coding it prefers.

use crate::cache_stage::{
    CHAT, assert_hit, assert_miss, by_url, chat, content, record_of, streamed,
};
use http::Method;
use serde_json::{Value, json};
use std::io::Read as _;
use tollgate_tests::{Reply, Scripted, World, until};

const LONG: &str = "/static/a?cache-control=max-age%3D60&bytes=8000&etag=%22v1%22";

fn decoded(reply: &Reply) -> Vec<u8> {
    let body = &*reply.body;
    let mut plain = Vec::new();
    match reply.header("content-encoding") {
        "zstd" => return zstd::decode_all(body).unwrap(),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).unwrap(),
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
        "" => return body.to_vec(),
        other => panic!("{other} was not asked for"),
    };
    plain
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Reply {
    world.client.send(Method::GET, path, headers, "").await
}

/// A world by URL that codes, with the answer of [`LONG`] in it.
async fn coding(encodings: Value) -> (World, Reply) {
    let world = by_url().set("routes.0.cache.encodings", encodings).start().await;
    let first = world.client.get(LONG).await;
    assert_miss(&first);
    (world, first)
}

#[tokio::test]
async fn an_answer_stored_once_is_given_in_the_coding_its_caller_prefers() {
    let world = content(json!({ "encodings": { "min": "64B" } })).start().await;
    let long = "say it again and again and ".repeat(40);
    let first = world.client.post(CHAT, &chat(&long)).await;
    assert_miss(&first);
    for (accept, expected) in [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, br", "br"),
        ("br;q=0, zstd;q=0, *", "gzip"),
        ("identity, gzip;q=0.5", ""),
        ("gzip;q=0", ""),
        ("deflate", ""),
        // Once more, of what lies beside by now.
        ("gzip", "gzip"),
        ("br", "br"),
    ] {
        let reply =
            world.client.post_with(CHAT, &[("accept-encoding", accept)], &chat(&long)).await;
        assert_hit(&reply);
        assert_eq!(reply.header("content-encoding"), expected, "{accept}");
        assert_eq!(reply.header("vary"), "accept-encoding", "{accept}");
        assert_eq!(decoded(&reply), &*first.body, "{accept}");
        let len: usize = reply.header("content-length").parse().unwrap();
        assert_eq!(len, reply.body.len(), "{accept}");
        let record = record_of(&world, &reply).await.record;
        assert_eq!(record.bytes_out, reply.body.len() as u64, "{accept}");
    }
    assert_eq!(world.standin.counts().calls, 1, "the key knows nothing of it");
    assert_eq!(world.metric("tollgate_cache_entries"), Some(1.0));
}

#[tokio::test]
async fn where_nothing_is_said_answers_go_out_as_they_are_kept() {
    let world = by_url().start().await;
    assert_miss(&world.client.get(LONG).await);
    let reply = get(&world, LONG, &[("accept-encoding", "gzip, br, zstd")]).await;
    assert_hit(&reply);
    assert_eq!((reply.header("content-encoding"), reply.header("vary")), ("", ""));
    assert_eq!(reply.header("etag"), "\"v1\"");
}

#[tokio::test]
async fn a_coded_answer_has_a_weak_tag_and_a_range_is_one_of_the_answer_as_it_is() {
    let (world, first) = coding(json!("auto")).await;
    let br = ("accept-encoding", "br");
    let coded = get(&world, LONG, &[br]).await;
    assert_eq!((coded.header("content-encoding"), coded.header("etag")), ("br", "W/\"v1\""));
    assert_eq!(decoded(&coded), &*first.body);

    let head = world.client.send(Method::HEAD, LONG, &[br], "").await;
    assert_hit(&head);
    assert_eq!(head.header("content-length"), coded.header("content-length"));
    assert_eq!((head.header("content-encoding"), head.body.len()), ("br", 0));
    let head = world.client.send(Method::HEAD, LONG, &[], "").await;
    assert_eq!((head.header("content-length"), head.header("etag")), ("8000", "\"v1\""));

    let part = get(&world, LONG, &[br, ("range", "bytes=0-9")]).await;
    assert_eq!((part.status.as_u16(), part.header("content-encoding")), (206, ""));
    assert_eq!((&*part.body, part.header("vary")), (&first.body[..10], "accept-encoding"));
    for (condition, status) in [("\"v1\"", 206), ("W/\"v1\"", 200)] {
        let headers = [br, ("range", "bytes=0-9"), ("if-range", condition)];
        assert_eq!(get(&world, LONG, &headers).await.status, status, "{condition}");
    }

    let known = get(&world, LONG, &[br, ("if-none-match", "W/\"v1\"")]).await;
    assert_eq!((known.status.as_u16(), known.header("etag")), (304, "W/\"v1\""));
    assert_eq!((known.header("vary"), known.header("content-encoding")), ("accept-encoding", ""));
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn a_date_does_not_tell_codings_apart_so_that_no_range_goes_by_it() {
    let changed = "last-modified=Sun%2C%2006%20Nov%201994%2008%3A49%3A37%20GMT";
    let path = format!("/static/d?cache-control=max-age%3D60&bytes=8000&{changed}");
    let world = by_url().set("routes.0.cache.encodings", json!("auto")).start().await;
    assert_miss(&world.client.get(&path).await);
    let range = [("range", "bytes=5-"), ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")];
    assert_eq!(get(&world, &path, &range).await.status, 206);
    let coded = [range[0], range[1], ("accept-encoding", "gzip")];
    let reply = get(&world, &path, &coded).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-encoding")), (200, "gzip"));
}

#[tokio::test]
async fn what_is_short_no_text_coded_or_not_to_be_changed_is_given_as_it_is() {
    let world = by_url().set("routes.0.cache.encodings", json!(["gzip", "br"])).start().await;
    for query in [
        "bytes=1000",
        "bytes=8000&content-type=image%2Fpng",
        "bytes=8000&content-encoding=zstd",
        "bytes=8000&content-digest=sha-256%3D%3Ax%3A",
        "bytes=8000&cache-control=no-transform%2C%20max-age%3D60",
    ] {
        let path = format!("/static/x?cache-control=max-age%3D60&{query}");
        let first = get(&world, &path, &[("accept-encoding", "gzip")]).await;
        let reply = get(&world, &path, &[("accept-encoding", "gzip")]).await;
        assert_hit(&reply);
        let fields = |reply: &Reply| reply.header("content-encoding").to_owned();
        assert_eq!((fields(&reply), &reply.body), (fields(&first), &first.body), "{query}");
        assert_eq!(reply.header("vary"), "", "{query}");
    }
    let path = "/static/y?cache-control=max-age%3D60&bytes=8000";
    assert_miss(&world.client.get(path).await);
    let untouched = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
    assert_eq!(get(&world, path, &untouched).await.header("content-encoding"), "");
    let zstd = get(&world, path, &[("accept-encoding", "zstd, br;q=0.1")]).await;
    assert_eq!(zstd.header("content-encoding"), "br", "only what is offered");
}

#[tokio::test]
async fn a_long_answer_is_coded_beside_and_nobody_waits_for_it() {
    let path = "/static/long?cache-control=max-age%3D60&bytes=3000000";
    let world = by_url().set("routes.0.cache.encodings", json!("auto")).start().await;
    let first = world.client.get(path).await;
    let coded = || get(&world, path, &[("accept-encoding", "br")]);
    let reply = coded().await;
    assert_hit(&reply);
    assert_eq!((reply.header("content-encoding"), &reply.body), ("", &first.body));
    assert_eq!(reply.header("vary"), "accept-encoding");
    let is_coded = |reply: &Reply| reply.header("content-encoding") == "br";
    let reply = until("the coded form", coded, is_coded).await;
    assert_eq!(decoded(&reply), &*first.body);
    assert!(reply.body.len() < 100_000);
}

#[tokio::test]
async fn coded_forms_are_in_the_bytes_of_the_memory_tier_and_no_caller_makes_more_of_them() {
    let (world, _) = coding(json!("auto")).await;
    let bytes = || world.metric("tollgate_cache_bytes").unwrap();
    let mut seen = vec![bytes()];
    for accept in ["gzip", "br", "zstd"] {
        get(&world, LONG, &[("accept-encoding", accept)]).await;
        seen.push(bytes());
    }
    assert!(seen.is_sorted_by(|one, other| one < other), "{seen:?}");
    for n in 0..50 {
        let strange = format!("x-{n}, gzip;q=0.{n}, *;q=0.{}", 99 - n);
        get(&world, LONG, &[("accept-encoding", &*strange)]).await;
    }
    assert_eq!(bytes(), seen[3]);
    assert_eq!(world.standin.counts().calls, 1);
}

#[tokio::test]
async fn a_stream_goes_out_as_it_is() {
    let world = content(json!({ "encodings": { "min": "64B" } })).start().await;
    let ask = streamed(&chat("hello"));
    assert_miss(&world.client.post(CHAT, &ask).await);
    let reply = world.client.post_with(CHAT, &[("accept-encoding", "gzip")], &ask).await;
    assert_hit(&reply);
    assert_eq!((reply.header("content-encoding"), reply.header("vary")), ("", ""));
    // Nor what it amounts to: that is made at every call.
    let whole = world.client.post_with(CHAT, &[("accept-encoding", "gzip")], &chat("hello")).await;
    assert_hit(&whole);
    assert_eq!((whole.header("content-encoding"), whole.header("vary")), ("", ""));
}

/// What is asked for in one spelling and comes in another is its caller's; it is not kept, and not
/// unpacked by us either.
#[tokio::test]
async fn an_answer_that_comes_coded_though_it_was_not_to_be_is_passed_and_not_kept() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
                  content-length: 2\r\n\r\n{}";
    let upstream = Scripted::always(answer.to_owned()).await;
    let world = content(json!({ "encodings": "auto" })).upstream(upstream.url()).start().await;
    for _ in 0..2 {
        let reply = world.client.post_with(CHAT, &[("accept-encoding", "br")], &chat("a")).await;
        assert_miss(&reply);
        assert_eq!((reply.header("content-encoding"), &*reply.body), ("gzip", &b"{}"[..]));
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].fields("accept-encoding"), ["identity"], "whatever the caller accepts");
}
