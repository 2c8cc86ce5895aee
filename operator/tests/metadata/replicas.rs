use gantry::engine::EngineWrite;
use serde_json::json;

use crate::shop::Shop;

const GROUP: &str = "shop-broker-0";

/// Two replicas, one topic and one consumer group, all settled.
async fn settled() -> Shop {
    let shop = Shop::new(json!({"brokers": {"replicas": 2}})).await;
    shop.topic("orders", json!({"type": "FIFO"}));
    shop.group("billing", json!({}));
    shop.settle().await;
    shop.wait(30);
    shop.settle().await;
    assert_eq!(shop.ready("topics", "orders").0, "True", "{:?}", shop.ready("topics", "orders"));
    assert_eq!(shop.ready("consumergroups", "billing").0, "True");
    shop.api.with(|s| s.events.clear());
    shop.engine.changes();
    shop.engine.calls();
    shop
}

#[tokio::test]
async fn what_a_new_master_lost_is_put_back_counted_and_told() {
    let shop = settled().await;
    let master = shop.master(GROUP);
    shop.engine.world(|w| {
        w.corrupt(&master, |m| {
            m.topics.remove("orders");
            m.groups.remove("billing");
        })
    });
    shop.settle().await;
    assert_eq!(shop.ready("topics", "orders").0, "True");
    assert!(
        shop.engine
            .world(|w| w.holds(&master, |m| m.topics.contains_key("orders") && m.groups.contains_key("billing")))
    );
    assert_eq!((shop.repairs("Topic", "Restored"), shop.repairs("ConsumerGroup", "Restored")), (1, 1));
    let told = shop.api.with(|s| s.events.clone());
    let note = "shop-broker-0 had lost Topic orders: put it back";
    for object in ["orders", "shop"] {
        assert!(told.contains(&("Restored".into(), object.into(), note.into())), "{told:?}");
    }
}

#[tokio::test]
async fn what_was_edited_on_a_master_is_put_right_and_what_is_new_is_no_repair() {
    let shop = settled().await;
    let master = shop.master(GROUP);
    shop.engine.world(|w| w.edit(&master, |m| m.topics.get_mut("orders").unwrap().perm = 4));
    shop.topic("invoices", json!({}));
    shop.settle().await;
    assert_eq!(shop.repairs("Topic", "DriftReverted"), 1);
    assert_eq!(shop.repairs("Topic", "Restored"), 0);
    assert!(shop.engine.world(|w| w.holds(&master, |m| m.topics["orders"].perm == 6)));
}

#[tokio::test]
async fn a_changed_declaration_is_no_repair() {
    let shop = settled().await;
    shop.edit("topics", "orders", |o| o["spec"]["queues"] = json!(16));
    shop.settle().await;
    assert_eq!(shop.repairs("Topic", "DriftReverted"), 0);
    assert!(shop.api.with(|s| s.events.is_empty()));
}

#[tokio::test]
async fn a_replica_that_copies_late_is_not_spoken_of() {
    let shop = settled().await;
    let replica = shop.replica(GROUP);
    // As mqadmin does with a replica's own address; the replica forgets it with its next copy.
    shop.engine.world(|w| w.edit(&replica, |m| drop(m.topics.remove("orders"))));
    let writes = shop.api.with(|s| s.writes.len());
    shop.pass().await;
    shop.wait(10);
    shop.pass().await;
    assert_eq!(shop.api.with(|s| s.writes.len()), writes);
    assert!(shop.engine.changes().is_empty());
    assert!(shop.engine.world(|w| w.holds(&replica, |m| m.topics.contains_key("orders"))));
}

#[tokio::test]
async fn a_replica_that_does_not_copy_is_made_to_by_writing_to_its_master() {
    let shop = settled().await;
    let (master, replica) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        w.corrupt(&replica, |m| {
            m.topics.remove("orders");
            m.groups.get_mut("billing").unwrap().retry_max_times = 1;
        })
    });
    let again = shop.pass().await;
    assert!(again.as_secs() <= 15, "it is looked at again when the replica should have copied, not later: {again:?}");
    assert!(shop.engine.changes().is_empty(), "it may still copy by itself");
    shop.wait(again.as_secs());
    shop.pass().await;
    let written = shop.engine.changes();
    assert_eq!(written.len(), 2, "{written:?}");
    for write in written {
        match write {
            EngineWrite::UpsertTopics { broker, .. } | EngineWrite::UpsertGroups { broker, .. } => {
                assert_eq!(broker, master, "a replica forgets what is written to it");
            }
            other => panic!("{other:?}"),
        }
    }
    let (ready, reason, message) = shop.ready("topics", "orders");
    assert_eq!((ready.as_str(), reason.as_str()), ("True", "ReplicaStale"));
    assert!(message.contains("shop-broker-0-1: missing"), "{message}");
    assert_eq!(shop.condition("topics", "ns", "orders", "Degraded").0, "True");
    shop.wait(10);
    shop.pass().await;
    assert!(shop.engine.world(|w| {
        w.holds(&replica, |m| m.topics.contains_key("orders") && m.groups["billing"].retry_max_times == 16)
    }));
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
    assert_eq!((shop.repairs("Topic", "ReplicaRefreshed"), shop.repairs("ConsumerGroup", "ReplicaRefreshed")), (1, 1));
}

#[tokio::test]
async fn with_observe_a_stale_replica_is_told_and_not_touched() {
    let shop = settled().await;
    shop.edit("topics", "orders", |o| o["spec"]["reconcilePolicy"] = json!("Observe"));
    shop.settle().await;
    let replica = shop.replica(GROUP);
    shop.engine.world(|w| w.corrupt(&replica, |m| drop(m.topics.remove("orders"))));
    for _ in 0..4 {
        shop.pass().await;
        shop.wait(10);
    }
    assert!(shop.engine.changes().is_empty());
    assert_eq!(shop.ready("topics", "orders").1, "ReplicaStale");
}

#[tokio::test]
async fn a_replica_that_is_away_is_not_told_on_every_topic() {
    let shop = settled().await;
    let replica = shop.replica(GROUP);
    shop.engine.world(|w| w.kill(&replica));
    let writes = shop.api.with(|s| s.writes.len());
    for _ in 0..4 {
        shop.pass().await;
        shop.wait(20);
    }
    assert_eq!(shop.api.with(|s| s.writes.len()), writes);
}

#[tokio::test]
async fn a_resync_costs_as_much_with_500_topics_as_with_one_and_writes_nothing() {
    let mut costs = Vec::new();
    for topics in [1, 500] {
        let shop = Shop::new(json!({"brokers": {"replicas": 2}})).await;
        for n in 0..topics {
            shop.topic(&format!("t{n}"), json!({}));
        }
        shop.settle().await;
        shop.wait(30);
        shop.settle().await;
        shop.engine.calls();
        let writes = shop.api.with(|s| s.writes.len());
        shop.pass().await;
        assert_eq!(shop.api.with(|s| s.writes.len()), writes);
        costs.push(shop.engine.calls());
    }
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0]["metadata"], 2, "once per replica: {costs:?}");
}
