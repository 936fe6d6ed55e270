//! Which class a call is of: what its caller is known for, what it claims in its head and its body, and
//! what of that is lowered, counted or not believed.

use crate::{
    ask::{CHAT, chat},
    busy::{MODEL, four_classes},
    cache_stage::record_of,
};
use serde_json::{Value, json};
use tollgate_tests::{Settings, World, WorldBuilder};

type Fields = [(&'static str, &'static str)];

fn world(class: Value) -> WorldBuilder {
    World::builder().config(move |settings: &mut Settings| {
        four_classes(settings);
        settings.set("identity.tenant", json!({ "header": "x-tenant" }));
        settings.set("identity.tier", json!({ "header": "x-user-tier" }));
        settings.set("routes.0.class", class);
    })
}

/// The class of a chat with these fields, and these members beside its own.
async fn class_with(world: &World, fields: &Fields, members: Value) -> String {
    let mut body = chat(MODEL, "hello");
    if let (Some(body), Value::Object(members)) = (body.as_object_mut(), members) {
        body.extend(members);
    }
    let reply = world.client.post_with(CHAT, fields, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    record_of(world, &reply).await.words[6].clone()
}

async fn class_of(world: &World, fields: &Fields) -> String {
    class_with(world, fields, json!({})).await
}

fn claims(world: &World, outcome: &str) -> f64 {
    let series = format!("tollgate_class_claims_total{{route=\"all\",outcome=\"{outcome}\"}}");
    world.metric(&series).unwrap_or_else(|| panic!("{}", world.app.metrics_text()))
}

#[tokio::test]
async fn the_first_that_says_a_class_counts_and_a_tenants_own_goes_before_all() {
    let world = world(json!({
        "tenants": { "night": "batch" },
        "header": "x-priority",
        "map": { "emergency": "emergency", "vip": "vip", "batch": "batch" },
        "sources": [
            { "from": "header", "name": "x-dynamo-request-priority", "at_least": { "50": "vip", "90": "emergency" } },
            { "from": "header", "name": "priority", "at_most": { "0": "emergency", "1": "vip" } },
            { "from": "tier", "map": { "gold": "vip", "free": "batch" } },
        ],
    }))
    .start()
    .await;
    let cases: [(&Fields, &str); 12] = [
        (&[], "normal"),
        (&[("x-priority", "vip")], "vip"),
        (&[("x-tenant", "night"), ("x-priority", "vip")], "batch"),
        (&[("x-dynamo-request-priority", "50")], "vip"),
        (&[("x-dynamo-request-priority", "1000")], "emergency"),
        (&[("x-dynamo-request-priority", "49")], "normal"),
        (&[("priority", "u=1, i")], "vip"),
        (&[("priority", "u=0")], "emergency"),
        (&[("priority", "u=7")], "normal"),
        (&[("x-user-tier", "gold")], "vip"),
        (&[("x-priority", "batch"), ("x-user-tier", "gold")], "batch"),
        (&[("x-priority", "unheard-of"), ("x-user-tier", "free")], "batch"),
    ];
    for (fields, wanted) in cases {
        assert_eq!(class_of(&world, fields).await, wanted, "{fields:?}");
    }
    assert!((claims(&world, "unknown") - 3.0).abs() < 0.1, "49, u=7 and a word");
    assert!((claims(&world, "obeyed") - 8.0).abs() < 0.1);
}

#[tokio::test]
async fn a_body_says_its_class_by_a_word_or_by_a_number_of_which_less_is_more_urgent() {
    let world = world(json!({
        "sources": [
            { "from": "body", "name": "service_tier", "map": { "priority": "vip", "flex": "batch" } },
            { "from": "body", "name": "priority", "at_most": { "-10": "emergency", "-1": "vip" } },
        ],
    }))
    .start()
    .await;
    for (members, wanted) in [
        (json!({}), "normal"),
        (json!({ "service_tier": "priority" }), "vip"),
        (json!({ "service_tier": "flex", "priority": -50 }), "batch"),
        (json!({ "priority": -5 }), "vip"),
        (json!({ "priority": -10 }), "emergency"),
        (json!({ "priority": 3 }), "normal"),
        (json!({ "metadata": { "priority": -50 } }), "normal"),
    ] {
        assert_eq!(class_with(&world, &[], members.clone()).await, wanted, "{members}");
    }
    for (class, calls) in [("emergency", 1.0), ("vip", 2.0), ("normal", 3.0), ("batch", 1.0)] {
        let dispatched = format!("tollgate_dispatched_total{{class=\"{class}\"}}");
        assert_eq!(world.metric(&dispatched), Some(calls), "{class}");
    }
}

#[tokio::test]
async fn nobody_is_above_its_ceiling_and_who_is_not_believed_claims_nothing() {
    let world = world(json!({
        "header": "x-priority",
        "map": { "emergency": "emergency", "vip": "vip" },
        "sources": [{ "from": "tier", "map": { "gold": "emergency" } }],
        "trust": ["clinic", "shop"],
        "ceiling": "vip",
        "ceilings": { "clinic": "emergency", "trial": "batch" },
    }))
    .start()
    .await;
    let urgent = ("x-priority", "emergency");
    let cases: [(&Fields, &str); 5] = [
        (&[("x-tenant", "clinic"), urgent], "emergency"),
        (&[("x-tenant", "shop"), urgent], "vip"),
        (&[("x-tenant", "stranger"), urgent], "normal"),
        (&[("x-tenant", "stranger"), ("x-user-tier", "gold")], "vip"),
        (&[("x-tenant", "trial")], "batch"),
    ];
    for (fields, wanted) in cases {
        assert_eq!(class_of(&world, fields).await, wanted, "{fields:?}");
    }
    for (outcome, calls) in
        [("obeyed", 1.0), ("lowered", 2.0), ("untrusted", 1.0), ("unknown", 0.0)]
    {
        assert!((claims(&world, outcome) - calls).abs() < 0.1, "{outcome}");
    }
}

#[tokio::test]
async fn what_peers_that_are_not_trusted_claim_in_a_header_is_removed() {
    let class =
        json!({ "sources": [{ "from": "header", "name": "priority", "at_most": { "1": "vip" } }] });
    let world = world(class)
        .config(|settings| {
            settings.set("listeners.0.trusted", json!(["192.0.2.0/24"]));
        })
        .start()
        .await;
    assert_eq!(class_of(&world, &[("priority", "u=0")]).await, "normal");
}
