//! Broker groups on their way in and out.

use gantry::engine::{ConfigTarget, Engine, EngineWrite};
use gantry_remoting::group::GroupConfig;
use gantry_remoting::topic::TopicConfig;
use serde_json::{Value, json};

use crate::shop::Shop;

/// Two groups, of which the second is on its way.
async fn shop(declared: i32, phase: &str) -> Shop {
    let shop = Shop::new(json!({"brokers": {"groups": 2}})).await;
    shop.topic("orders", json!({}));
    shop.group("billing", json!({}));
    shop.edit("brokerclusters", "shop", |cluster| {
        cluster["spec"]["brokers"]["groups"] = json!(declared);
        cluster["status"]["groups"] = json!([{"name": "shop-broker-0"}, {"name": "shop-broker-1", "phase": phase}]);
    });
    shop
}

async fn close(shop: &Shop, group: &str) {
    let write = EngineWrite::UpdateConfig {
        target: ConfigTarget::Broker(shop.master(group)),
        properties: [("brokerPermission".to_owned(), "4".to_owned())].into(),
    };
    shop.engine.execute(&gantry::engine::ClusterId::new("ns", "shop"), &write).await.unwrap();
}

fn has_group(shop: &Shop, group: &str, name: &str) -> bool {
    let master = shop.master(group);
    shop.engine.world(|w| w.holds(&master, |m| m.groups.contains_key(name)))
}

fn has_orders(shop: &Shop, group: &str) -> bool {
    let master = shop.master(group);
    shop.engine.world(|w| w.holds(&master, |m| m.topics.contains_key("orders")))
}

fn metadata_on(shop: &Shop) -> Value {
    shop.get::<Value>("brokerclusters", "ns", "shop").unwrap()["status"]["metadataOn"].clone()
}

#[tokio::test]
async fn a_new_group_gets_topics_only_once_producers_are_not_sent_to_it() {
    let shop = shop(2, "Opening").await;
    shop.pass().await;
    assert!(has_orders(&shop, "shop-broker-0") && !has_orders(&shop, "shop-broker-1"));
    assert_eq!(shop.ready("topics", "orders").1, "ClusterNotReady");
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0"]));

    close(&shop, "shop-broker-1").await;
    shop.settle().await;
    assert!(has_orders(&shop, "shop-broker-1"));
    assert_eq!(shop.ready("topics", "orders").0, "True");
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0", "shop-broker-1"]));
}

#[tokio::test]
async fn a_group_that_is_to_go_still_gets_what_its_consumers_need() {
    let shop = shop(1, "Draining").await;
    shop.settle().await;
    assert!(has_group(&shop, "shop-broker-1", "billing"));
    shop.edit("brokerclusters", "shop", |cluster| cluster["status"]["groups"][1]["phase"] = json!("Removing"));
    shop.group("late", json!({}));
    shop.settle().await;
    assert!(!has_group(&shop, "shop-broker-1", "late"));
}

#[tokio::test]
async fn a_group_that_waits_for_its_turn_to_go_takes_part_like_any_other() {
    let shop = shop(1, "Open").await;
    shop.settle().await;
    assert!(has_orders(&shop, "shop-broker-1") && has_group(&shop, "shop-broker-1", "billing"));
}

#[tokio::test]
async fn a_new_group_gets_consumer_groups_that_nobody_declared_and_no_such_topics() {
    let shop = shop(2, "Opening").await;
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| {
        w.edit(&master, |m| {
            let by_hand = GroupConfig { retry_max_times: 3, ..GroupConfig::new("by-hand") };
            m.groups.insert("by-hand".into(), by_hand);
            m.topics.insert("by-hand".into(), TopicConfig::new("by-hand", 1));
        });
    });
    close(&shop, "shop-broker-1").await;
    shop.settle().await;
    let own = shop.master("shop-broker-1");
    assert!(shop.engine.world(|w| w.holds(&own, |m| m.groups["by-hand"].retry_max_times == 3)));
    assert!(shop.engine.world(|w| w.holds(&own, |m| !m.topics.contains_key("by-hand"))));
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0", "shop-broker-1"]));
    // Once it is open, what is made by hand is somebody else's affair again.
    shop.edit("brokerclusters", "shop", |cluster| cluster["status"]["groups"][1]["phase"] = json!("Open"));
    shop.engine.world(|w| w.edit(&master, |m| drop(m.groups.insert("later".into(), GroupConfig::new("later")))));
    shop.settle().await;
    assert!(!has_group(&shop, "shop-broker-1", "later"));
}
