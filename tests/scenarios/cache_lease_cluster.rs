//! Leases in a cluster: they lie with their entries, on whichever node that is.

use crate::{
    cache_redis_modes::{member, member_with, provider, share},
    cache_stage::{CHAT, Told as _, answered, chat, send},
    redis_sets::{Cluster, Kind, own_ip},
};
use serde_json::json;
use tollgate_tests::{standin::Gate, until};

/// The node with a lease that somebody waits for.
async fn waited_for(redis: &Cluster) -> Option<usize> {
    for (place, node) in redis.nodes.iter().enumerate() {
        let key = node.cli(&["--scan", "--pattern", "tollgate:l*"]).await;
        if !key.is_empty() && node.cli(&["GET", &key]).await.ends_with('w') {
            return Some(place);
        }
    }
    None
}

/// Goal: the lease lies with its entry, and its end is heard on every node.
#[tokio::test]
async fn equal_calls_on_two_instances_of_a_cluster_are_one_upstream_call() {
    let redis = Cluster::start(own_ip(), Kind::default(), 3, true).await;
    let provider = provider().await;
    let (a, b) =
        (member(redis.settings(), &provider).await, member(redis.settings(), &provider).await);
    share(&a, &b, &chat("the version")).await;
    let calls = provider.counts().calls;
    for n in 0..9_u64 {
        let gate = Gate::heads();
        provider.set_gate(Some(gate.clone()));
        let question = chat(&format!("question {n}"));
        let leader = send(&a.client, CHAT, &[], &question);
        provider.wait_for_in_flight(1).await;
        let waiter = send(&b.client, CHAT, &[], &question);
        until("somebody who waits", || waited_for(&redis), Option::is_some).await;
        gate.open();
        let (first, second) = (answered(leader).await, answered(waiter).await);
        assert_eq!(first.body, second.body);
        assert!(second.cache_status().ends_with("detail=redis"), "{second:?}");
        assert_eq!(provider.counts().calls, calls + n + 1);
    }
}

/// Goal: who waits for news of a lease does not wait for a node that cannot tell any.
#[tokio::test]
async fn a_killed_node_does_not_hold_those_who_wait_for_its_leases() {
    let mut redis = Cluster::start(own_ip(), Kind::default(), 3, false).await;
    let home = redis.master_of("{fleet}").await;
    let provider = provider().await;
    let long = json!({ "lease": { "ttl": "5m", "wait": "5m" } });
    let a = member_with(redis.settings(), long.clone(), &provider).await;
    let b = member_with(redis.settings(), long, &provider).await;
    share(&a, &b, &chat("the version")).await;
    for n in 0.. {
        let gate = Gate::heads();
        provider.set_gate(Some(gate.clone()));
        let question = chat(&format!("question {n}"));
        let leader = send(&a.client, CHAT, &[], &question);
        provider.wait_for_in_flight(1).await;
        let waiter = send(&b.client, CHAT, &[], &question);
        let place = until("somebody who waits", || waited_for(&redis), Option::is_some).await;
        let place = place.unwrap();
        if place != home {
            redis.nodes[place].kill().await;
            provider.wait_for_in_flight(2).await;
        }
        gate.open();
        assert_eq!(answered(leader).await.status, 200);
        assert_eq!(answered(waiter).await.status, 200);
        if place != home {
            return;
        }
    }
}
