use gantry::engine::{BrokerMetadata, EngineWrite};
use gantry_remoting::group::RequestMode;
use gantry_remoting::stats::{Connection, ConsumeOffset, ConsumeStats, ConsumerConnections, MessageQueue};
use serde_json::{Value, json};

use crate::shop::Shop;

fn consumed(topics: &[&str]) -> ConsumeStats {
    let of = |topic: &&str| {
        let queue = MessageQueue { topic: (*topic).to_owned(), broker_name: "shop-broker-0".into(), queue_id: 0 };
        (queue, ConsumeOffset { broker_offset: 9, consumer_offset: 5, pull_offset: 5, last_timestamp: 0 })
    };
    ConsumeStats { consume_tps: 0.0, offset_table: topics.iter().map(of).collect() }
}

async fn consuming() -> Shop {
    let shop = Shop::new(json!({"brokers": {"groups": 2}})).await;
    shop.topic("orders", json!({}));
    shop.topic("views", json!({}));
    shop.group("billing", json!({}));
    shop.settle().await;
    shop.engine.world(|w| w.consume_stats.insert("billing".into(), consumed(&["orders", "views", "%RETRY%billing"])));
    shop.engine.changes();
    shop
}

fn resets(shop: &Shop) -> Vec<(String, Vec<String>, i64)> {
    let of = |write| match write {
        EngineWrite::ResetOffsets { broker, topics, timestamp, .. } => Some((broker, topics, timestamp)),
        _ => None,
    };
    shop.engine.changes().into_iter().filter_map(of).collect()
}

fn reset_status(shop: &Shop) -> Value {
    shop.get::<Value>("consumergroups", "ns", "billing").unwrap()["status"]["resetOffset"].clone()
}

#[tokio::test]
async fn offsets_are_set_once_per_value_and_it_is_recorded() {
    let mut shop = consuming().await;
    shop.edit("consumergroups", "billing", |o| o["spec"]["resetOffset"] = json!({"to": "Earliest"}));
    shop.settle().await;
    let done = resets(&shop);
    assert_eq!(done.len(), 2, "one on each broker group: {done:?}");
    assert!(done.iter().all(|(_, topics, at)| topics == &["orders", "views"] && *at == 0), "{done:?}");
    assert_eq!(reset_status(&shop)["done"], true);
    assert!(shop.api.with(|s| s.events.iter().any(|(reason, ..)| reason == "OffsetsReset")));
    shop.restart_the_operator();
    shop.settle().await;
    shop.edit("consumergroups", "billing", |o| o["spec"]["retry"] = json!({"maxAttempts": 3}));
    shop.settle().await;
    assert!(resets(&shop).is_empty(), "once per value");
    shop.edit("consumergroups", "billing", |o| {
        o["spec"]["resetOffset"] = json!({"to": "Latest", "topics": ["orders", "nowhere"]})
    });
    shop.settle().await;
    let done = resets(&shop);
    assert!(done.len() == 2 && done.iter().all(|(_, topics, at)| topics == &["orders"] && *at > 0), "{done:?}");
}

#[tokio::test]
async fn it_is_written_down_before_it_is_carried_out_so_that_another_operator_finishes_it() {
    let mut shop = consuming().await;
    shop.edit("consumergroups", "billing", |o| o["spec"]["resetOffset"] = json!({"to": "Latest"}));
    let master = shop.master("shop-broker-1");
    // The first pass tells the new generation, the second begins: the time is fixed, nothing is set.
    shop.pass().await;
    shop.pass().await;
    let begun = reset_status(&shop);
    assert!(resets(&shop).is_empty() && begun["done"] == false, "{begun}");
    // Half of it is done, then the operator dies.
    shop.api.with(|s| {
        let group = s.objects.get_mut(&("consumergroups".into(), "ns".into(), "billing".into())).unwrap();
        group["status"]["resetOffset"]["topics"] = json!(["shop-broker-0/orders", "shop-broker-0/views"]);
    });
    shop.restart_the_operator();
    shop.wait(600);
    shop.settle().await;
    let at = begun["timestamp"].as_i64().unwrap();
    assert_eq!(
        resets(&shop),
        [(master, vec!["orders".to_owned(), "views".to_owned()], at)],
        "the rest, to the same time"
    );
    assert_eq!(reset_status(&shop)["done"], true);
}

#[tokio::test]
async fn a_pass_that_has_not_seen_yet_that_it_is_done_does_not_do_it_again() {
    let mut shop = consuming().await;
    shop.edit("consumergroups", "billing", |o| o["spec"]["resetOffset"] = json!({"to": "Earliest"}));
    shop.pass().await;
    let unseen = shop.work();
    shop.pass().await;
    // What began is remembered too: otherwise "Latest" would be another moment.
    let begun = reset_status(&shop);
    shop.wait(10);
    assert_eq!(begun["done"], false, "{begun}");
    shop.pass_over(&unseen).await;
    assert_eq!(resets(&shop).len(), 2, "carried out as it was begun");
    assert_eq!(reset_status(&shop)["done"], true);
    for _ in 0..3 {
        shop.pass_over(&unseen).await;
        assert!(resets(&shop).is_empty());
        assert_eq!(reset_status(&shop)["done"], true, "nor is what was written taken back");
    }
    shop.restart_the_operator();
    shop.settle().await;
    assert!(resets(&shop).is_empty());
}

#[tokio::test]
async fn what_the_same_pass_wrote_into_the_status_stays() {
    let shop = consuming().await;
    shop.edit("consumergroups", "billing", |o| o["spec"]["resetOffset"] = json!({"to": "Earliest"}));
    shop.pass().await;
    shop.pass().await;
    assert!(resets(&shop).is_empty());
    shop.wait(60);
    let lag = |shop: &Shop| {
        shop.get::<Value>("consumergroups", "ns", "billing").unwrap()["status"]["consumption"]["lag"].clone()
    };
    let before = lag(&shop);
    shop.engine.world(|w| w.consume_stats.insert("billing".into(), consumed(&["orders"])));
    shop.pass().await;
    assert_eq!((resets(&shop).len(), reset_status(&shop)["done"].clone()), (2, json!(true)));
    assert_ne!(lag(&shop), before);
}

#[tokio::test]
async fn with_observe_no_offset_is_set() {
    let shop = consuming().await;
    let spec = json!({"to": "Earliest"});
    shop.edit("consumergroups", "billing", |o| {
        o["spec"]["resetOffset"] = spec;
        o["spec"]["reconcilePolicy"] = json!("Observe");
    });
    shop.settle().await;
    assert!(resets(&shop).is_empty());
}

#[tokio::test]
async fn load_balancing_is_set_for_each_subscribed_topic_and_drift_is_put_right() {
    let shop = consuming().await;
    shop.group(
        "audit",
        json!({"loadBalancing": "Message", "subscriptions": [{"topic": "orders"}, {"topic": "nowhere"}]}),
    );
    shop.settle().await;
    assert_eq!(shop.ready("consumergroups", "audit").1, "InSync");
    let master = shop.master("shop-broker-0");
    let mode = |shop: &Shop| {
        let mut found = None;
        shop.engine.world(|w| {
            w.holds(&master, |m| {
                found = m.groups["audit"].request_modes.get("orders").copied();
                true
            })
        });
        found
    };
    assert_eq!(mode(&shop), Some(RequestMode::Pop));
    shop.engine.world(|w| {
        w.edit(&master, |m| {
            m.groups.get_mut("audit").unwrap().request_modes.insert("orders".into(), RequestMode::Pull);
        })
    });
    shop.settle().await;
    assert_eq!(mode(&shop), Some(RequestMode::Pop));
    assert_eq!(shop.repairs("ConsumerGroup", "DriftReverted"), 1);
    shop.edit("consumergroups", "audit", |o| o["spec"]["loadBalancing"] = json!("Queue"));
    shop.settle().await;
    assert_eq!(mode(&shop), Some(RequestMode::Pull));
}

#[tokio::test]
async fn a_group_whose_consumers_only_the_proxies_know_is_in_use() {
    let shop = consuming().await;
    shop.group("audit", json!({"deletionPolicy": "DeleteIfEmpty"}));
    shop.settle().await;
    shop.settle().await;
    let client =
        Connection { client_id: "grpc-1".into(), client_addr: None, language: Some("RUST".into()), version: 0 };
    let online = ConsumerConnections { connection_set: vec![client], ..ConsumerConnections::default() };
    shop.engine.world(|w| w.proxied_consumers = Some([("audit".to_owned(), online)].into()));
    shop.delete("consumergroups", "ns", "audit");
    shop.settle().await;
    assert_eq!(shop.ready("consumergroups", "audit").1, "NotEmpty");
    shop.engine.world(|w| w.proxied_consumers = None);
    shop.settle().await;
    assert!(shop.ready("consumergroups", "audit").2.contains("nobody can say whether it is in use"));
    shop.engine.world(|w| w.proxied_consumers = Some([].into()));
    shop.settle().await;
    assert!(shop.get::<Value>("consumergroups", "ns", "audit").is_none());
}

#[tokio::test]
async fn a_dead_letter_topic_is_kept_as_declared_and_one_that_nobody_declared_is_left_alone() {
    let shop = consuming().await;
    let perm = |shop: &Shop, group: &str, topic: &str| {
        let (mut found, master) = (None, shop.master(group));
        shop.engine.world(|w| {
            w.holds(&master, |m| {
                found = m.topics.get(topic).map(|t| t.perm);
                true
            })
        });
        found
    };
    let edit = |shop: &Shop, bits: Option<u32>| {
        let master = shop.master("shop-broker-0");
        shop.engine.world(|w| {
            w.edit(&master, |m| match bits {
                Some(bits) => m.topics.get_mut("%DLQ%audit").unwrap().perm = bits,
                None => drop(m.topics.remove("%DLQ%audit")),
            })
        });
    };
    shop.group("audit", json!({"deadLetterTopic": {"permission": "WriteOnly"}}));
    shop.settle().await;
    assert_eq!(shop.ready("consumergroups", "audit").1, "InSync");
    for group in ["shop-broker-0", "shop-broker-1"] {
        assert_eq!(perm(&shop, group, "%DLQ%audit"), Some(2), "there before the first dead letter");
        assert_eq!(perm(&shop, group, "%DLQ%billing"), None, "nobody declared it");
    }
    for (drift, repairs) in [(Some(6), 1), (None, 2)] {
        edit(&shop, drift);
        shop.settle().await;
        assert_eq!(perm(&shop, "shop-broker-0", "%DLQ%audit"), Some(2));
        assert_eq!(shop.repairs("ConsumerGroup", "DriftReverted"), repairs);
    }
    shop.edit("consumergroups", "audit", |o| drop(o["spec"].as_object_mut().unwrap().remove("deadLetterTopic")));
    shop.settle().await;
    edit(&shop, Some(6));
    shop.engine.changes();
    shop.settle().await;
    assert_eq!(perm(&shop, "shop-broker-0", "%DLQ%audit"), Some(6), "as the engine has it");
    assert!(shop.engine.changes().is_empty());
}

/// Proxies end at once on a cluster without it, and no user declares it.
#[tokio::test]
async fn a_cluster_for_which_nothing_is_declared_gets_the_proxies_own_group_on_every_master() {
    let shop = Shop::new(json!({"brokers": {"groups": 2, "replicas": 2}})).await;
    shop.settle().await;
    for group in ["shop-broker-0", "shop-broker-1"] {
        let master = shop.master(group);
        let is_there = |m: &BrokerMetadata| {
            m.groups.get("CID_DefaultHeartBeatSyncerTopic").is_some_and(|g| g.consume_broadcast_enable)
        };
        assert!(shop.engine.world(|w| w.holds(&master, is_there)), "on {master}");
    }
}
