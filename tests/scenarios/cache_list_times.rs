//! Lists whose items are past their time, near its end, or checked: given at once, and looked after
//! beside, item by item.

use crate::{
    cache_items::{EMBED, asked, embed},
    cache_lease::Fleet,
    cache_stage::{Told as _, assert_hit, assert_miss, content, cost_pico, purge},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_ledger::{CacheOutcome, RecordView};
use tollgate_tests::{
    Reply, World,
    standin::{Fault, Gate},
    until,
};

async fn world(policy: Value) -> World {
    content(policy).start().await
}

async fn ask(world: &World, texts: &[&str]) -> Reply {
    world.client.post(EMBED, &embed(texts)).await
}

/// Ends the time of all that is kept, softly.
async fn end_their_time(world: &World) {
    purge(world, json!({ "route": "all", "soft": true })).await;
}

#[track_caller]
fn assert_stale(reply: &Reply) {
    let status = reply.cache_status();
    let ttl = status.strip_prefix("tollgate; hit; ttl=").and_then(|rest| rest.split(';').next());
    let ttl: i64 = ttl.unwrap_or_else(|| panic!("{reply:?}")).parse().unwrap();
    assert!(reply.status == 200 && ttl <= 0, "{reply:?}");
}

fn renewed_while_given() -> Value {
    json!({ "stale": { "while_revalidate": "1h" } })
}

#[tokio::test]
async fn a_list_past_its_time_is_given_at_once_and_one_call_renews_what_is_old_of_it() {
    let world = world(renewed_while_given()).await;
    let old = ask(&world, &["a", "b"]).await;
    assert_miss(&old);
    end_their_time(&world).await;
    assert_miss(&ask(&world, &["c"]).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    for _ in 0..5 {
        let reply = ask(&world, &["a", "c", "b", "a"]).await;
        assert_stale(&reply);
        assert_eq!(reply.json()["data"].as_array().map(Vec::len), Some(4));
        assert_eq!(reply.json()["data"][2]["embedding"], old.json()["data"][1]["embedding"]);
    }
    world.standin.wait_for_in_flight(1).await;
    assert_eq!(world.standin.counts().in_flight, 1, "one renewal for all");
    gate.open();
    let all = || ask(&world, &["a", "c", "b"]);
    let new = until("the new answer", all, |reply| !reply.cache_status().contains("ttl=-")).await;
    assert_hit(&new);
    assert_eq!(asked(&world), embed(&["a", "b"]), "what is old, each once");
    assert_eq!(world.standin.counts().calls, 3);
    // Each is known by itself, and each item was paid for twice, but for the one that was of its time.
    assert_hit(&ask(&world, &["b"]).await);
    let misses = |records: &Vec<RecordView>| {
        records.iter().filter(|view| view.record.outcome == CacheOutcome::Miss).count()
    };
    let look = || world.records();
    let records = until("the record of the renewal", look, |all| misses(all) == 3).await;
    let spent = records.iter().filter(|view| view.record.outcome == CacheOutcome::Miss);
    assert_eq!(spent.clone().map(|view| view.record.tokens.input).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(spent.clone().all(|view| view.record.saved_pico == 0 && cost_pico(view) > 0));
    let stale = records.iter().filter(|view| view.record.outcome == CacheOutcome::Stale);
    assert!(stale.count() >= 5, "{records:?}");
}

#[tokio::test]
async fn what_is_missing_is_asked_for_together_with_what_is_old() {
    let world = world(renewed_while_given()).await;
    assert_miss(&ask(&world, &["a", "b"]).await);
    end_their_time(&world).await;
    assert_miss(&ask(&world, &["a", "z"]).await);
    assert_eq!(asked(&world), embed(&["a", "z"]));
    assert_eq!(world.standin.counts().calls, 2);
    assert_hit(&ask(&world, &["z", "a"]).await);
}

#[tokio::test]
async fn who_wants_a_list_newer_is_never_given_what_is_old_of_it() {
    let world = world(renewed_while_given()).await;
    assert_miss(&ask(&world, &["a", "b"]).await);
    end_their_time(&world).await;
    for control in ["no-cache", "max-age=0", "min-fresh=1", "no-store"] {
        world.standin.fault_next(Fault::Reset, 1);
        let control = [("cache-control", control)];
        let reply = world.client.post_with(EMBED, &control, &embed(&["a", "b"])).await;
        assert_eq!(reply.status, 502, "{control:?}: {reply:?}");
    }
    let only = [("cache-control", "only-if-cached")];
    assert_stale(&world.client.post_with(EMBED, &only, &embed(&["b", "a"])).await);
}

/// Goal: whatever lists an item stands in, a renewal of it that fails is tried once a second, in memory
/// and behind it.
#[tokio::test]
async fn an_item_whose_renewal_fails_is_tried_once_a_second() {
    for tiers in [json!(["memory", "redis"]), json!(["redis"])] {
        let fleet = Fleet::new().await;
        fleet.gate.open();
        let policy = json!({
            "tiers": tiers, "writes": "through", "stale": { "while_revalidate": "1h" },
        });
        let world = fleet.member_by(policy).await;
        assert_miss(&ask(&world, &["a", "b"]).await);
        until("the answer", || ask(&world, &["a", "b"]), |reply| reply.is_hit()).await;
        end_their_time(&world).await;
        fleet.provider.fault_next(Fault::Reset, 1_000_000);
        let (began, calls) = (Instant::now(), fleet.provider.counts().calls);
        let look = || async {
            for list in [&["a", "b"][..], &["b", "a", "b"], &["b", "a"]].repeat(5) {
                assert_stale(&ask(&world, list).await);
            }
            fleet.provider.counts().calls - calls
        };
        let tried = until("two tries", look, |tried| *tried >= 2).await;
        assert!(tried <= began.elapsed().as_secs() + 1, "{tried} in {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_hot_item_is_renewed_before_its_end_beside_the_lists_it_stands_in() {
    let policy = json!({ "ttl": "60s", "hot": { "hits": 3, "refresh_ahead": "99%" } });
    let world = world(policy).await;
    assert_miss(&ask(&world, &["hot", "cold"]).await);
    let gate = Gate::heads();
    world.standin.set_gate(Some(gate.clone()));
    let look = || async {
        assert_hit(&ask(&world, &["hot"]).await);
        assert_hit(&ask(&world, &["hot"]).await);
        world.standin.counts().in_flight
    };
    until("the renewal", look, |in_flight| *in_flight == 1).await;
    assert_hit(&ask(&world, &["cold", "hot"]).await);
    assert_eq!(world.standin.counts().in_flight, 1, "it is under way");
    gate.open();
    world.metric_when("request_inflight", 0.0).await;
    assert_eq!(asked(&world), embed(&["hot"]), "and nothing of what is asked for seldom");
}

#[tokio::test]
async fn a_list_of_hot_items_has_those_renewed_that_are_hot() {
    let policy = json!({ "ttl": "60s", "hot": { "hits": 5, "refresh_ahead": "99%" } });
    let world = world(policy).await;
    assert_miss(&ask(&world, &["a", "b", "c"]).await);
    let lists = [&["a", "b"][..], &["b", "a"], &["a", "a", "b"]];
    let look = || async {
        for list in lists {
            assert_hit(&ask(&world, list).await);
        }
        world.standin.counts().calls
    };
    until("the renewal", look, |calls| *calls == 2).await;
    let mut renewed = asked(&world)["input"].as_array().unwrap().clone();
    renewed.sort_by_key(ToString::to_string);
    assert_eq!(renewed, [json!("a"), json!("b")], "each once");
    assert_hit(&ask(&world, &["c"]).await);
}

#[tokio::test]
async fn a_share_of_the_lists_that_are_given_is_checked() {
    let version = json!({ "from": "static", "value": "1" });
    let world = content(json!({ "shadow": { "share": "100%" } }))
        .set("upstreams.model.model_version", version)
        .start()
        .await;
    let checks = |outcome: &str| {
        let series = "tollgate_cache_shadow_total";
        world.metric(&format!("{series}{{route=\"all\",outcome=\"{outcome}\"}}"))
    };
    let old = ask(&world, &["a", "b"]).await;
    assert_miss(&old);
    assert_hit(&ask(&world, &["b", "a"]).await);
    until("a check", || async { checks("same") }, |same| *same == Some(1.0)).await;
    assert_eq!(asked(&world), embed(&["b", "a"]), "all of it, as it was asked");
    // One that brings no answer is told, too, and what is kept stays.
    world.standin.fault_next(Fault::Reset, 1);
    let again = ask(&world, &["a", "b"]).await;
    assert_hit(&again);
    assert_eq!(again.json()["data"], old.json()["data"]);
    until("a check", || async { checks("failed") }, |failed| *failed == Some(1.0)).await;
}
