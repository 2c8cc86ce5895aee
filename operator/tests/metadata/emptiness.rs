//! What keeps a topic whose deletionPolicy is DeleteIfEmpty.

use gantry_remoting::stats::{Connection, ConsumeOffset, ConsumeStats, ConsumerConnections, MessageQueue, Subscribed};
use gantry_remoting::topic::TopicConfig;
use serde_json::{Value, json};

use crate::shop::Shop;

const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";

/// A topic of this type that is deleted if it is empty, and what is done to the engine before its object is deleted.
async fn deleted(type_: &str, before: impl FnOnce(&Shop)) -> Shop {
    let shop = Shop::new(json!({})).await;
    shop.topic("orders", json!({"type": type_, "deletionPolicy": "DeleteIfEmpty"}));
    shop.settle().await;
    shop.settle().await;
    before(&shop);
    shop.delete("topics", "ns", "orders");
    shop.settle().await;
    shop
}

/// Why the topic is still there.
fn kept(shop: &Shop) -> String {
    assert!(is_there(shop), "the topic is gone");
    let (ready, reason, message) = shop.ready("topics", "orders");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "NotEmpty"), "{message}");
    message.strip_prefix("orders is kept: ").unwrap().to_owned()
}

fn is_there(shop: &Shop) -> bool {
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.holds(&master, |m| m.topics.contains_key("orders")))
}

/// It is gone, and so is its object.
async fn goes(shop: &Shop) {
    shop.settle().await;
    assert!(!is_there(shop), "{:?}", shop.ready("topics", "orders"));
    assert_eq!(shop.get::<Value>("topics", "ns", "orders"), None);
}

/// A group that has read so far in queue 0 of a topic.
fn read(topic: &str, to: i64) -> ConsumeStats {
    let queue = MessageQueue { topic: topic.into(), broker_name: "shop-broker-0".into(), queue_id: 0 };
    let offset = ConsumeOffset { broker_offset: to, consumer_offset: to, pull_offset: to, last_timestamp: 0 };
    ConsumeStats { consume_tps: 0.0, offset_table: vec![(queue, offset)] }
}

fn online(topics: &[&str]) -> ConsumerConnections {
    let client =
        Connection { client_id: "h@1@0@a".into(), client_addr: None, language: Some("JAVA".into()), version: 513 };
    let subscribed = Subscribed { sub_string: Some("*".into()), expression_type: Some("TAG".into()) };
    ConsumerConnections {
        connection_set: vec![client],
        subscription_table: topics.iter().map(|t| ((*t).to_owned(), subscribed.clone())).collect(),
        ..ConsumerConnections::default()
    }
}

#[tokio::test]
async fn an_empty_topic_that_nobody_consumes_goes() {
    let shop = deleted("Mixed", |_| {}).await;
    goes(&shop).await;
}

#[tokio::test]
async fn messages_keep_it() {
    let shop = deleted("Normal", |s| s.engine.world(|w| w.queues = [(("orders".into(), 3), 2)].into())).await;
    assert_eq!(kept(&shop), "it holds 2 messages");
    shop.engine.world(|w| w.queues.clear());
    goes(&shop).await;
}

#[tokio::test]
async fn messages_that_wait_for_their_time_keep_it_although_no_queue_has_them() {
    let shop = deleted("Delay", |s| s.engine.world(|w| w.delayed = [("orders".into(), 3)].into())).await;
    assert_eq!(kept(&shop), "3 of its messages wait for their time");
    shop.engine.world(|w| w.delayed = [("others".to_owned(), 9)].into());
    goes(&shop).await;
}

#[tokio::test]
async fn messages_that_wait_somewhere_keep_a_topic_that_may_have_them_and_no_other() {
    let waiting = |s: &Shop| s.engine.world(|w| w.delayed_elsewhere = Some(4));
    let normal = deleted("Normal", waiting).await;
    goes(&normal).await;
    let shop = deleted("Delay", waiting).await;
    let why = "messages on shop-broker-0 wait for their time, and the engine does not tell of which topic";
    assert_eq!(kept(&shop), why);
    shop.engine.world(|w| w.delayed_elsewhere = None);
    shop.settle().await;
    assert_eq!(kept(&shop), "shop-broker-0 does not say what waits for its time there");
    shop.engine.world(|w| w.delayed_elsewhere = Some(0));
    goes(&shop).await;
}

#[tokio::test]
async fn transactions_that_are_not_decided_keep_a_topic_that_may_have_them_and_no_other() {
    let half = |s: &Shop| {
        let master = s.master("shop-broker-0");
        s.engine.world(|w| {
            w.edit(&master, |m| drop(m.topics.insert(HALF.into(), TopicConfig::new(HALF, 1))));
            w.put_messages(&master, HALF, 7);
            w.consume_stats.insert("CID_RMQ_SYS_TRANS".into(), read(HALF, 6));
        });
    };
    let normal = deleted("Normal", half).await;
    goes(&normal).await;
    let shop = deleted("Transaction", half).await;
    let why = "transactions on shop-broker-0 are not decided, and the engine does not tell of which topic";
    assert_eq!(kept(&shop), why);
    shop.engine.world(|w| w.consume_stats.clear());
    shop.settle().await;
    assert_eq!(kept(&shop), why, "nobody has looked at them");
    shop.engine.world(|w| w.consume_stats.insert("CID_RMQ_SYS_TRANS".into(), read(HALF, 7)));
    goes(&shop).await;
}

#[tokio::test]
async fn consumers_that_are_connected_keep_it_whoever_knows_them() {
    let shop = deleted("Normal", |s| {
        s.engine.world(|w| {
            w.consume_stats.insert("billing".into(), read("orders", 0));
            w.proxied_consumers = Some([("billing".to_owned(), online(&["orders"]))].into());
        });
    })
    .await;
    assert_eq!(kept(&shop), "consumers of billing are connected");
    let known_to_brokers = |topics: &[&str]| {
        shop.engine.world(|w| {
            w.proxied_consumers = Some([].into());
            w.consumers = [("billing".to_owned(), online(topics))].into();
        });
    };
    known_to_brokers(&["orders"]);
    shop.settle().await;
    assert_eq!(kept(&shop), "consumers of billing are connected");
    known_to_brokers(&[]);
    shop.settle().await;
    assert_eq!(kept(&shop), "consumers of billing are connected", "they may be there for it");
    known_to_brokers(&["views"]);
    goes(&shop).await;
}

#[tokio::test]
async fn what_nobody_can_say_keeps_it() {
    let shop = deleted("Normal", |s| {
        s.engine.world(|w| {
            w.consume_stats.insert("billing".into(), read("orders", 0));
            w.proxied_consumers = None;
        });
    })
    .await;
    let why = kept(&shop);
    assert!(why.starts_with("nobody can say whether it is empty: ") && why.contains("proxy"), "{why}");
    shop.engine.world(|w| w.proxied_consumers = Some([].into()));
    goes(&shop).await;
}

#[tokio::test]
async fn a_consumer_group_of_the_same_name_does_not_keep_it() {
    let shop = Shop::new(json!({})).await;
    shop.topic("orders", json!({"deletionPolicy": "DeleteIfEmpty"}));
    shop.group("orders", json!({"deletionPolicy": "DeleteIfEmpty"}));
    shop.settle().await;
    shop.settle().await;
    shop.engine.world(|w| w.consumers = [("orders".to_owned(), online(&["views"]))].into());
    shop.delete("consumergroups", "ns", "orders");
    shop.delete("topics", "ns", "orders");
    goes(&shop).await;
    assert_eq!(shop.ready("consumergroups", "orders").1, "NotEmpty");
}
