use gantry::metadata::questions::MOST;
use serde_json::{Value, json};

use crate::shop::Shop;

/// A cluster with so many topics, which are deleted with their objects.
async fn topics(n: usize) -> Shop {
    let shop = Shop::new(json!({})).await;
    for i in 0..n {
        shop.topic(&format!("t{i}"), json!({"deletionPolicy": "Delete"}));
    }
    shop.settle().await;
    shop.settle().await;
    shop.wait(3600);
    shop.api.with(|s| s.events.clear());
    shop
}

/// Topics `t…` that the engine holds.
fn left(shop: &Shop) -> usize {
    let master = shop.master("shop-broker-0");
    let mut n = 0;
    shop.engine.world(|w| {
        w.holds(&master, |m| {
            n = m.topics.keys().filter(|t| t.starts_with('t')).count();
            true
        })
    });
    n
}

fn confirm(shop: &Shop) {
    let cluster: Value = shop.get("brokerclusters", "ns", "shop").unwrap();
    let until = cluster["status"]["deletions"]["topics"]["confirm"].clone();
    assert!(until.is_string(), "{cluster:#}");
    shop.edit("brokerclusters", "shop", |o| {
        o["metadata"]["annotations"] = json!({"gantry.dev/confirm-deletions": until})
    });
}

#[tokio::test]
async fn a_pruned_folder_deletes_nothing_until_somebody_confirms_also_with_another_operator() {
    let mut shop = topics(60).await;
    (0..60).for_each(|i| shop.delete("topics", "ns", &format!("t{i}")));
    shop.settle().await;
    assert_eq!(left(&shop), 60);
    let (ready, reason, message) = shop.ready("topics", "t7");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "DeletionHeld"));
    assert!(message.contains("--overwrite gantry.dev/confirm-deletions=2026-01-01T01:0"), "{message}");
    let told = shop.api.with(|s| s.events.clone());
    assert!(told.iter().any(|(reason, object, _)| reason == "DeletionHeld" && object == "shop"), "{told:?}");
    shop.wait(100_000);
    shop.restart_the_operator();
    shop.settle().await;
    assert_eq!(left(&shop), 60, "time confirms nothing");
    confirm(&shop);
    shop.settle().await;
    shop.settle().await;
    assert_eq!(left(&shop), 0);
    assert_eq!(shop.get::<Value>("topics", "ns", "t7"), None);
}

#[tokio::test]
async fn one_after_the_other_no_more_than_ten_go_also_with_another_operator_each_time() {
    let mut shop = topics(100).await;
    for i in 0..30 {
        shop.delete("topics", "ns", &format!("t{i}"));
        shop.restart_the_operator();
        shop.settle().await;
        shop.wait(5);
    }
    assert_eq!(left(&shop), 90);
}

#[tokio::test]
async fn slowly_all_may_go() {
    let shop = topics(60).await;
    for i in 0..30 {
        shop.delete("topics", "ns", &format!("t{i}"));
        shop.settle().await;
        shop.wait(60);
    }
    assert_eq!(left(&shop), 30);
}

#[tokio::test]
async fn what_is_kept_by_its_policy_goes_at_once_and_counts_for_nothing() {
    let shop = topics(60).await;
    for i in 0..60 {
        shop.edit("topics", &format!("t{i}"), |o| o["spec"]["deletionPolicy"] = json!("Retain"));
    }
    shop.settle().await;
    (0..60).for_each(|i| shop.delete("topics", "ns", &format!("t{i}")));
    shop.settle().await;
    assert_eq!(left(&shop), 60);
    assert!(shop.get::<Value>("topics", "ns", "t1").is_none());
}

#[tokio::test]
async fn a_namespace_that_goes_away_takes_its_objects_and_the_engine_keeps_what_is_held() {
    let shop = topics(60).await;
    (0..60).for_each(|i| shop.delete("topics", "ns", &format!("t{i}")));
    shop.api.with(|s| s.terminating.insert("ns".into()));
    shop.settle().await;
    assert!(shop.get::<Value>("topics", "ns", "t1").is_none());
    assert_eq!(left(&shop), 60);
}

#[tokio::test]
async fn a_cluster_that_is_gone_or_silent_keeps_no_object_but_those_that_are_to_be_deleted() {
    let shop = topics(10).await;
    shop.edit("topics", "t1", |o| o["spec"]["deletionPolicy"] = json!("Retain"));
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.kill(&master));
    shop.delete("topics", "ns", "t1");
    shop.delete("topics", "ns", "t2");
    shop.pass().await;
    assert!(shop.get::<Value>("topics", "ns", "t1").is_none(), "with Retain nobody need be asked");
    assert_eq!(shop.ready("topics", "t2").1, "ClusterNotReady");
    shop.api.with(|s| s.objects.retain(|key, _| key.0 != "brokerclusters"));
    shop.pass().await;
    assert!(shop.get::<Value>("topics", "ns", "t2").is_none(), "what is gone with its cluster need not be deleted");
}

#[tokio::test]
async fn a_held_deletion_is_written_down_once() {
    let shop = topics(60).await;
    (0..60).for_each(|i| shop.delete("topics", "ns", &format!("t{i}")));
    shop.settle().await;
    let writes = shop.api.with(|s| s.writes.len());
    for _ in 0..10 {
        shop.pass().await;
        shop.wait(60);
    }
    assert_eq!(shop.api.with(|s| s.writes.len()), writes);
}

#[tokio::test]
async fn a_cluster_that_cannot_be_understood_keeps_no_namespace_from_going_away() {
    let shop = topics(2).await;
    shop.edit("brokerclusters", "shop", |o| {
        o["spec"]["brokers"] = json!({"resources": {"limits": {"memory": "1Mi"}}});
    });
    shop.delete("topics", "ns", "t1");
    shop.pass().await;
    assert_eq!(shop.ready("topics", "t1").1, "InvalidSpec");
    assert!(shop.get::<Value>("topics", "ns", "t1").is_some(), "the engine still has it, and may be told later");
    shop.api.with(|s| s.terminating.insert("ns".into()));
    shop.pass().await;
    assert!(shop.get::<Value>("topics", "ns", "t1").is_none());
    assert_eq!(left(&shop), 2);
}

#[tokio::test]
async fn what_the_breaker_holds_is_not_asked_about_and_of_the_rest_a_pass_asks_some() {
    let shop = Shop::new(json!({})).await;
    let (many, empty) = (MOST * 2 + 20, 10);
    for i in 0..many {
        shop.topic(&format!("t{i}"), json!({"deletionPolicy": "DeleteIfEmpty"}));
    }
    shop.settle().await;
    shop.settle().await;
    shop.wait(3600);
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| (empty..many).for_each(|i| w.put_messages(&master, &format!("t{i}"), 1)));
    (0..many).for_each(|i| shop.delete("topics", "ns", &format!("t{i}")));
    shop.engine.calls();
    for _ in 0..3 {
        shop.pass().await;
        shop.wait(2);
    }
    assert_eq!(shop.engine.calls().get("topic_stats"), None, "all of them are held");
    confirm(&shop);
    for _ in 0..6 {
        shop.pass().await;
        let asked = shop.engine.calls().get("topic_stats").copied().unwrap_or(0);
        assert!(asked <= MOST as u64, "{asked} questions in one pass");
        shop.wait(2);
    }
    assert_eq!(left(&shop), many - empty, "each had its turn");
    assert_eq!(shop.ready("topics", &format!("t{}", many - 1)).1, "NotEmpty");
    let writes = shop.api.with(|s| s.writes.len());
    for _ in 0..5 {
        shop.pass().await;
        shop.wait(25);
    }
    assert_eq!(shop.api.with(|s| s.writes.len()), writes, "what waits for its turn says what it said");
}
