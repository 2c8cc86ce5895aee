//! Broker groups on their way in and out.

use gantry::engine::{ConfigTarget, Engine, EngineWrite};
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

    let write = EngineWrite::UpdateConfig {
        target: ConfigTarget::Broker(shop.master("shop-broker-1")),
        properties: [("brokerPermission".to_owned(), "4".to_owned())].into(),
    };
    let id = gantry::engine::ClusterId::new("ns", "shop");
    shop.engine.execute(&id, &write).await.unwrap();
    shop.settle().await;
    assert!(has_orders(&shop, "shop-broker-1"));
    assert_eq!(shop.ready("topics", "orders").0, "True");
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0", "shop-broker-1"]));
}

#[tokio::test]
async fn a_group_that_is_to_go_still_gets_what_its_consumers_need() {
    let shop = shop(1, "Draining").await;
    shop.settle().await;
    let master = shop.master("shop-broker-1");
    assert!(shop.engine.world(|w| w.holds(&master, |m| m.groups.contains_key("billing"))));
    shop.edit("brokerclusters", "shop", |cluster| cluster["status"]["groups"][1]["phase"] = json!("Removing"));
    shop.group("late", json!({}));
    shop.settle().await;
    assert!(!shop.engine.world(|w| w.holds(&master, |m| m.groups.contains_key("late"))));
}
