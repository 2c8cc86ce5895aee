//! Broker groups on their way in and out.

use std::collections::BTreeMap;

use gantry::engine::{ACLS_PROVIDER, ConfigTarget, Engine, EngineWrite, USERS_PROVIDER};
use gantry_remoting::group::GroupConfig;
use gantry_remoting::topic::TopicConfig;
use serde_json::{Value, json};

use crate::access::{billing, held};
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

/// A second group on its way where brokers keep users and ACLs, and the first one has some.
async fn with_users() -> Shop {
    let shop = shop(2, "Opening").await;
    let providers = [USERS_PROVIDER, ACLS_PROVIDER].map(|key| (key.to_owned(), "Local".to_owned()));
    let brokers = ["shop-broker-0", "shop-broker-1"].map(|group| shop.cluster().broker_addresses(group)).concat();
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| {
        brokers.iter().for_each(|a| w.configure(a, BTreeMap::from(providers.clone())));
        w.edit_access(&master, |access| billing().apply(access));
    });
    close(&shop, "shop-broker-1").await;
    shop
}

#[tokio::test]
async fn a_new_group_is_complete_only_with_the_users_and_acls_of_the_others() {
    let shop = with_users().await;
    let new = shop.master("shop-broker-1");
    let access = |shop: &Shop| shop.engine.world(|w| w.access_of(&new));
    shop.pass().await;
    assert!(has_orders(&shop, "shop-broker-1"));
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0"]), "what was just written is looked at again first");
    assert_eq!(access(&shop), held());
    shop.pass().await;
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0", "shop-broker-1"]));
    // Until it opens it is held to it.
    shop.engine.world(|w| w.edit_access(&new, |access| access.users.clear()));
    shop.pass().await;
    assert_eq!(metadata_on(&shop), json!(["shop-broker-0"]));
    shop.settle().await;
    assert_eq!((access(&shop), metadata_on(&shop)), (held(), json!(["shop-broker-0", "shop-broker-1"])));
}

#[tokio::test]
async fn a_new_group_waits_while_nobody_can_say_what_users_the_others_have() {
    let shop = with_users().await;
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.kill(&master));
    for _ in 0..3 {
        shop.wait(20);
        shop.pass().await;
        assert!(!metadata_on(&shop).to_string().contains("shop-broker-1"), "{}", metadata_on(&shop));
    }
}
