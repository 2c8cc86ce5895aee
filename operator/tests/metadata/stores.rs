//! What is done before everything has been read.

use std::time::Duration;

use serde_json::{Value, json};

use crate::shop::Shop;

/// A topic that goes, one that stays, and an older rival of that in another namespace.
async fn shop() -> Shop {
    let shop =
        Shop::new(json!({"tenants": [{"name": "other", "namespaces": ["other"], "topicPrefixes": ["orders"]}]})).await;
    shop.declare("Topic", "topics", "other", "orders", json!({"queues": 5}));
    shop.topic("orders", json!({"queues": 3}));
    shop.topic("goes", json!({"deletionPolicy": "Delete"}));
    shop.settle().await;
    shop.delete("topics", "ns", "goes");
    shop.api.with(|s| s.writes.clear());
    shop
}

fn queues(shop: &Shop) -> u32 {
    let master = shop.master("shop-broker-0");
    let mut found = 0;
    shop.engine.world(|w| {
        w.holds(&master, |m| {
            found = m.topics["orders"].write_queue_nums;
            m.topics.contains_key("goes")
        })
    });
    found
}

fn holds_what_goes(shop: &Shop) -> bool {
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.holds(&master, |m| m.topics.contains_key("goes")))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_every_store_has_been_filled() {
    for (plural, namespace) in [("brokerclusters", "ns"), ("topics", "other"), ("consumergroups", "other")] {
        let shop = shop().await;
        assert_eq!(queues(&shop), 5, "the older one's word counts");
        let unlisted = (plural.to_owned(), namespace.to_owned());
        shop.api.with(|s| s.unlisted.insert(unlisted));
        shop.engine.changes();
        let watched = ["ns", "other"].map(|namespace| Some(namespace.to_owned())).to_vec();
        let operator = tokio::spawn(gantry::metadata::run(shop.context(), watched));
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(shop.api.with(|s| s.writes.is_empty()), "{plural}: {:?}", shop.api.with(|s| s.writes.clone()));
        assert!(shop.engine.changes().is_empty() && holds_what_goes(&shop) && queues(&shop) == 5, "{plural}");
        assert!(shop.get::<Value>("topics", "ns", "goes").is_some());
        shop.api.with(|s| s.unlisted.clear());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!holds_what_goes(&shop), "{plural}: it is deleted in the engine");
        assert_eq!(queues(&shop), 5);
        operator.abort();
    }
}
