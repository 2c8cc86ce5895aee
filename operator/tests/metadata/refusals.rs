//! What the API server or the engine refuses of one object concerns no other.

use std::time::Duration;

use gantry::engine::EngineWrite;
use serde_json::{Value, json};

use crate::shop::Shop;

fn refuse(shop: &Shop, name: &str, status: bool) {
    shop.api.with(|s| s.refused.insert(("topics".into(), name.into(), status)));
}

fn holds(shop: &Shop, topic: &str) -> bool {
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.holds(&master, |m| m.topics.contains_key(topic)))
}

fn lose(shop: &Shop, topic: &str) {
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.corrupt(&master, |m| drop(m.topics.remove(topic))));
}

/// Writes of topics since the last time.
fn upserts(shop: &Shop) -> Vec<String> {
    let of = |write| match write {
        EngineWrite::UpsertTopics { changes, .. } => changes.into_iter().map(|c| c.config.topic_name).collect(),
        _ => Vec::new(),
    };
    shop.engine.changes().into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn an_object_whose_finalizer_is_refused_says_so_and_everything_else_goes_on() {
    let shop = Shop::new(json!({})).await;
    shop.topic("good", json!({}));
    shop.settle().await;
    refuse(&shop, "bad", false);
    shop.topic("bad", json!({"deletionPolicy": "Delete"}));
    lose(&shop, "good");
    let again = shop.pass().await;
    assert!(holds(&shop, "good"), "drift is put right in the same pass");
    assert!(!holds(&shop, "bad"), "without its finalizer it could not be deleted");
    assert!(again >= Duration::from_secs(1), "{again:?}");
    let (ready, reason, message) = shop.ready("topics", "bad");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "ApplyFailed"));
    assert!(message.contains("a policy of ours says no"), "{message}");
    // Less and less often, and not at all what it said already.
    shop.api.with(|s| s.writes.clear());
    let begun = *shop.now.lock().unwrap();
    while *shop.now.lock().unwrap() < begun + 600 {
        let again = shop.pass().await;
        shop.wait(again.as_secs().max(1));
    }
    let writes = shop.api.with(|s| std::mem::take(&mut s.writes));
    assert!(writes.len() <= 12 && writes.iter().all(|w| w == "topics/bad"), "{writes:?}");
    // An edit is tried at once.
    shop.api.with(|s| s.refused.clear());
    shop.edit("topics", "bad", |o| o["spec"]["queues"] = json!(3));
    shop.settle().await;
    assert!(holds(&shop, "bad"));
    assert_eq!(shop.ready("topics", "bad").1, "InSync");
}

#[tokio::test]
async fn an_object_whose_status_is_refused_keeps_nobody_from_being_served() {
    let shop = Shop::new(json!({})).await;
    shop.topic("good", json!({}));
    shop.settle().await;
    refuse(&shop, "bad", true);
    shop.topic("bad", json!({}));
    lose(&shop, "good");
    shop.pass().await;
    assert!(holds(&shop, "good") && holds(&shop, "bad"));
    shop.topic("later", json!({}));
    shop.settle().await;
    assert_eq!(shop.ready("topics", "later").1, "InSync");
    shop.api.with(|s| s.refused.clear());
    shop.wait(300);
    shop.settle().await;
    assert_eq!(shop.ready("topics", "bad").1, "InSync");
}

#[tokio::test]
async fn nothing_is_deleted_that_cannot_be_written_down_and_the_rest_goes_on() {
    let shop = Shop::new(json!({})).await;
    shop.topic("goes", json!({"deletionPolicy": "Delete"}));
    shop.topic("good", json!({}));
    shop.settle().await;
    shop.api.with(|s| s.refused.insert(("brokerclusters".into(), "shop".into(), true)));
    shop.delete("topics", "ns", "goes");
    lose(&shop, "good");
    shop.pass().await;
    assert!(holds(&shop, "goes") && holds(&shop, "good"));
    shop.api.with(|s| s.refused.clear());
    shop.settle().await;
    assert!(!holds(&shop, "goes"));
}

#[tokio::test]
async fn what_the_engine_refuses_is_tried_less_and_less_often_and_at_once_when_it_is_edited() {
    let shop = Shop::new(json!({})).await;
    shop.topic("good", json!({}));
    shop.topic("bad", json!({"topicName": "not.allowed"}));
    shop.settle().await;
    shop.wait(300);
    upserts(&shop);
    let (begun, mut passes) = (*shop.now.lock().unwrap(), 0);
    shop.engine.calls();
    shop.api.with(|s| s.writes.clear());
    while *shop.now.lock().unwrap() < begun + 1800 {
        let again = shop.pass().await;
        shop.wait(again.as_secs().max(1));
        passes += 1;
    }
    let tries = upserts(&shop);
    assert!((4..=20).contains(&tries.len()) && tries.iter().all(|name| name == "not.allowed"), "{tries:?}");
    assert!(passes <= 1800 / 20 + 40, "it is looked at no more often for that: {passes} passes");
    assert!(shop.api.with(|s| s.writes.is_empty()), "it says the same all the time");
    let (ready, reason, message) = shop.ready("topics", "bad");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "EngineRefused"));
    assert!(message.contains("contains illegal characters"), "{message}");
    // Others do not wait for it.
    lose(&shop, "good");
    shop.pass().await;
    assert!(holds(&shop, "good"));
    upserts(&shop);
    shop.edit("topics", "bad", |o| o["spec"]["topicName"] = json!("allowed"));
    shop.pass().await;
    assert_eq!(upserts(&shop), ["allowed"]);
    assert_eq!(shop.ready("topics", "bad").1, "InSync");
}

#[tokio::test]
async fn another_operator_tries_at_once_what_was_refused() {
    let mut shop = Shop::new(json!({})).await;
    shop.topic("bad", json!({"topicName": "not.allowed"}));
    shop.settle().await;
    shop.wait(300);
    shop.pass().await;
    upserts(&shop);
    shop.pass().await;
    assert!(upserts(&shop).is_empty());
    shop.restart_the_operator();
    shop.pass().await;
    assert_eq!(upserts(&shop), ["not.allowed"]);
    assert_eq!(shop.get::<Value>("topics", "ns", "bad").unwrap()["status"]["conditions"][0]["reason"], "EngineRefused");
}
