//! Events by `NOTIFY` of a real PostgreSQL, which ends the connection and is killed meanwhile.

use crate::{
    cache_events::{ask_all, goes, heard, is_there},
    cache_redis::provider,
    cache_stage::content,
};
use serde_json::{Value, json};
use tollgate_tests::{Postgres, World, standin::Options, until};

const UP: &str = "tollgate_store_up{store=\"postgres\"}";

fn server() -> Postgres {
    Postgres::start(5432, &[], &[])
}

async fn member(server: &Postgres, source: Value, upstream: &str) -> World {
    let policy = json!({ "tiers": ["memory"], "tags": ["kb:{header.x-kb}"] });
    let world = content(policy)
        .set("stores.postgres", json!({ "url": server.url(), "timeout": "2s" }))
        .set("cache.namespace", json!("fleet"))
        .set("cache.events", json!([source]))
        .upstream(upstream)
        .start()
        .await;
    world.metric_when(UP, 1.0).await;
    world
}

fn source() -> Value {
    json!({ "name": "kb", "postgres": { "channel": "Kb \"changes\"" }, "purge": [{ "tag": "kb:{/id}" }] })
}

/// Says it, and waits until it is heard and comes to that.
async fn notify(server: &Postgres, world: &World, event: &str, outcome: &str) {
    listening(server).await;
    let before = heard(world, outcome);
    let event = event.replace('\'', "''");
    server.sql(&format!("SELECT pg_notify('Kb \"changes\"', '{event}')"));
    let now = || async { heard(world, outcome) };
    until("it to be heard", now, |now| *now > before).await;
}

/// The connection that listens, once it does: who listens later has not heard it.
async fn listening(server: &Postgres) -> String {
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tollgate events'";
    until("somebody to listen", || async { server.sql(pid) }, |pid| !pid.is_empty()).await
}

#[tokio::test]
async fn what_postgresql_is_notified_of_is_asked_anew() {
    let (server, provider) = (server(), provider(Options::default()).await);
    let world = member(&server, source(), &provider.url()).await;
    ask_all(&world).await;
    notify(&server, &world, r#"{"id": [1, "2"], "op": "it's put"}"#, "purged").await;
    goes(&world, "1").await;
    goes(&world, "2").await;
    notify(&server, &world, "{", "unclear").await;
    for odd in [r#"{"no":"id"}"#, "text", ""] {
        notify(&server, &world, odd, "nothing").await;
    }
    assert!(is_there(&world, "3").await);
}

#[tokio::test]
async fn who_listens_is_back_after_its_connection_was_ended_and_says_that_it_was_away() {
    let (server, provider) = (server(), provider(Options::default()).await);
    let mut source = source();
    source["lost"] = json!({ "tag": "kb:3" });
    let world = member(&server, source, &provider.url()).await;
    ask_all(&world).await;
    notify(&server, &world, r#"{"id":1}"#, "purged").await;
    goes(&world, "1").await;
    let before = listening(&server).await;
    server.sql(&format!("SELECT pg_terminate_backend({before})"));
    goes(&world, "3").await;
    assert!(is_there(&world, "2").await);
    assert_eq!(heard(&world, "lost"), 1.0);
    assert_eq!(world.metric(UP), Some(1.0), "the tier has connections of its own");
    let now = listening(&server).await;
    assert_ne!(now, before);
    notify(&server, &world, r#"{"id":2}"#, "purged").await;
    goes(&world, "2").await;
}

#[tokio::test]
async fn who_listens_is_back_after_the_server_was_killed() {
    let (mut server, provider) = (server(), provider(Options::default()).await);
    let world = member(&server, source(), &provider.url()).await;
    ask_all(&world).await;
    notify(&server, &world, r#"{"id":1}"#, "purged").await;
    goes(&world, "1").await;
    server.kill();
    world.metric_when(UP, 0.0).await;
    assert!(is_there(&world, "2").await, "calls go on");
    server.start_again();
    notify(&server, &world, r#"{"id":2}"#, "purged").await;
    goes(&world, "2").await;
    assert!(is_there(&world, "3").await);
}
