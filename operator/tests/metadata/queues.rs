use gantry_remoting::stats::{ConsumeOffset, ConsumeStats, MessageQueue};
use serde_json::{Value, json};

use crate::shop::Shop;

/// Read and write queues of the topic.
fn queues(shop: &Shop) -> (u32, u32) {
    let master = shop.master("shop-broker-0");
    let mut found = (0, 0);
    shop.engine.world(|w| {
        w.holds(&master, |m| {
            found = (m.topics["orders"].read_queue_nums, m.topics["orders"].write_queue_nums);
            true
        })
    });
    found
}

/// A group that has read so many messages of queue 6.
fn reader(read: i64) -> ConsumeStats {
    let queue = MessageQueue { topic: "orders".into(), broker_name: "shop-broker-0".into(), queue_id: 6 };
    let offset = ConsumeOffset { broker_offset: 5, consumer_offset: read, pull_offset: read, last_timestamp: 0 };
    ConsumeStats { consume_tps: 0.0, offset_table: vec![(queue, offset)] }
}

/// A topic of eight queues that is to have four.
async fn shrinking(messages: i64, readers: &[(&str, i64)]) -> Shop {
    shrinking_of("Normal", json!({}), messages, readers).await
}

/// The same of another type, in a cluster with this spec.
async fn shrinking_of(type_: &str, cluster: Value, messages: i64, readers: &[(&str, i64)]) -> Shop {
    let shop = Shop::new(cluster).await;
    shop.topic("orders", json!({"type": type_}));
    shop.settle().await;
    shop.engine.world(|w| {
        w.queues.insert(("orders".into(), 6), messages);
        w.consume_stats = readers.iter().map(|(g, read)| ((*g).to_owned(), reader(*read))).collect();
    });
    shop.edit("topics", "orders", |o| o["spec"]["queues"] = json!(4));
    shop.settle().await;
    shop
}

#[tokio::test]
async fn queues_that_go_take_no_messages_at_once_and_are_read_until_all_groups_have_them() {
    let shop = shrinking(5, &[("billing", 5), ("audit", 4)]).await;
    assert_eq!(queues(&shop), (8, 4));
    assert_eq!(
        (shop.ready("topics", "orders").0.as_str(), shop.ready("topics", "orders").1.as_str()),
        ("True", "Draining")
    );
    assert_eq!(shop.condition("topics", "ns", "orders", "Progressing").0, "True");
    shop.wait(60);
    shop.settle().await;
    let (_, _, message) = shop.ready("topics", "orders");
    assert!(message.ends_with("shop-broker-0: queues from 4 on hold messages that audit has not read"), "{message}");
    let writes = shop.api.with(|s| s.writes.len());
    shop.pass().await;
    assert_eq!(shop.api.with(|s| s.writes.len()), writes, "waiting is said once");
    shop.engine.world(|w| w.consume_stats.insert("audit".into(), reader(5)));
    shop.settle().await;
    assert_eq!(queues(&shop), (4, 4));
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
}

#[tokio::test]
async fn empty_queues_go_a_minute_later_since_producers_may_not_have_heard() {
    let shop = shrinking(0, &[]).await;
    assert_eq!(queues(&shop), (8, 4));
    shop.wait(59);
    shop.settle().await;
    assert_eq!(queues(&shop), (8, 4));
    shop.wait(1);
    shop.settle().await;
    assert_eq!(queues(&shop), (4, 4));
}

#[tokio::test]
async fn queues_stay_while_messages_wait_for_their_time_because_they_may_be_for_them() {
    let shop = shrinking_of("Delay", json!({}), 0, &[]).await;
    shop.engine.world(|w| w.delayed = [("orders".into(), 1)].into());
    shop.wait(600);
    shop.settle().await;
    assert_eq!(queues(&shop), (8, 4));
    let message = || shop.ready("topics", "orders").2;
    assert!(message().ends_with("messages of the topic wait for their time, and may be for them"), "{}", message());
    // On a level of RocketMQ 4, where nobody can say of which topic it is.
    shop.engine.world(|w| {
        w.delayed.clear();
        w.delayed_elsewhere = Some(1);
    });
    shop.settle().await;
    assert_eq!(queues(&shop), (8, 4));
    assert!(message().contains("nobody can say whether they are for them"), "{}", message());
    shop.engine.world(|w| w.delayed_elsewhere = Some(0));
    shop.settle().await;
    assert_eq!(queues(&shop), (4, 4));
}

#[tokio::test]
async fn queues_stay_as_long_as_a_transaction_that_began_before_may_be_decided() {
    for (config, seconds) in [
        (json!({}), 60 + 6 + 16 * 30),
        (json!({"transactionTimeOut": "10000", "transactionCheckInterval": "60000", "transactionCheckMax": "2"}), 250),
    ] {
        let shop = shrinking_of("Transaction", json!({"brokers": {"config": config}}), 0, &[]).await;
        shop.wait(seconds - 1);
        shop.settle().await;
        assert_eq!(queues(&shop), (8, 4));
        let (_, _, message) = shop.ready("topics", "orders");
        assert!(message.ends_with("transactions that began before may still put messages into them"), "{message}");
        shop.wait(1);
        shop.settle().await;
        assert_eq!(queues(&shop), (4, 4));
    }
}

#[tokio::test]
async fn queues_whose_messages_nobody_reads_stay() {
    let shop = shrinking(5, &[]).await;
    shop.wait(600);
    shop.settle().await;
    assert_eq!(queues(&shop), (8, 4));
    assert!(shop.ready("topics", "orders").2.ends_with("no consumer group reads the topic"));
}

#[tokio::test]
async fn more_queues_come_at_once() {
    let shop = shrinking(0, &[]).await;
    shop.edit("topics", "orders", |o| o["spec"]["queues"] = json!(16));
    shop.settle().await;
    assert_eq!(queues(&shop), (16, 16));
}

#[tokio::test]
async fn what_the_engine_does_not_have_is_refused_with_what_to_write() {
    let old = Shop::new(json!({"version": "5.4.0"})).await;
    old.topic("sessions", json!({"type": "Lite"}));
    old.topic("urgent", json!({"type": "Priority"}));
    old.settle().await;
    let (ready, reason, message) = old.ready("topics", "sessions");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "UnsupportedByEngine"));
    assert_eq!(message, "RocketMQ 5.4.0 has no topics of type Lite: write another type, or a later version");
    assert_eq!(old.ready("topics", "urgent").1, "InSync");
    let without = Shop::new(json!({})).await;
    without.topic("sessions", json!({"type": "Lite"}));
    without.settle().await;
    assert!(without.ready("topics", "sessions").2.contains("enableLmq: true"));
    let with = Shop::new(json!({"brokers": {"config": {"enableLmq": "true", "enableMultiDispatch": "true"}}})).await;
    with.topic("sessions", json!({"type": "Lite"}));
    with.settle().await;
    assert_eq!(with.ready("topics", "sessions").1, "InSync");
}

#[tokio::test]
async fn a_topic_without_a_type_is_a_normal_one_and_is_adopted_as_it_is() {
    let shop = Shop::new(json!({})).await;
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| {
        w.edit(&master, |m| {
            m.topics.insert("orders".into(), gantry_remoting::topic::TopicConfig::new("orders", 8));
        })
    });
    shop.engine.changes();
    shop.topic("orders", json!({}));
    shop.settle().await;
    shop.wait(30);
    shop.settle().await;
    let topics = shop
        .engine
        .changes()
        .into_iter()
        .filter(|w| matches!(w, gantry::engine::EngineWrite::UpsertTopics { .. }))
        .count();
    assert_eq!((topics, shop.ready("topics", "orders").1.as_str()), (0, "InSync"));
}
