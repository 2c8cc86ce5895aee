use gantry_remoting::stats::{Connection, ConsumeOffset, ConsumeStats, ConsumerConnections, MessageQueue, Subscribed};
use gantry_remoting::topic::TopicConfig;
use serde_json::{Value, json};

use crate::shop::Shop;

fn stats(end: i64, delivered: i64, acknowledged: i64) -> ConsumeStats {
    let queue = MessageQueue { topic: "orders".into(), broker_name: "shop-broker-0".into(), queue_id: 0 };
    let offset =
        ConsumeOffset { broker_offset: end, pull_offset: delivered, consumer_offset: acknowledged, last_timestamp: 0 };
    ConsumeStats { consume_tps: 0.0, offset_table: vec![(queue, offset)] }
}

fn online(topic: &str) -> ConsumerConnections {
    let client =
        Connection { client_id: "h@1@0@a".into(), client_addr: None, language: Some("JAVA".into()), version: 513 };
    let subscribed = Subscribed { sub_string: Some("*".into()), expression_type: Some("TAG".into()) };
    ConsumerConnections {
        connection_set: vec![client],
        subscription_table: [(topic.to_owned(), subscribed)].into(),
        ..ConsumerConnections::default()
    }
}

async fn shop() -> Shop {
    let shop = Shop::new(json!({})).await;
    shop.topic("orders", json!({}));
    shop.group("billing", json!({"subscriptions": [{"topic": "orders"}]}));
    shop.settle().await;
    shop
}

fn figures(shop: &Shop) -> Value {
    shop.get::<Value>("consumergroups", "ns", "billing").unwrap()["status"]["consumption"].clone()
}

fn writes(shop: &Shop) -> Vec<String> {
    shop.api.with(|s| std::mem::take(&mut s.writes))
}

/// Passes for a minute.
async fn minute(shop: &Shop) {
    for _ in 0..4 {
        shop.pass().await;
        shop.wait(15);
    }
}

#[tokio::test]
async fn lag_clients_and_dead_letters_are_told() {
    let shop = shop().await;
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| {
        w.consume_stats.insert("billing".into(), stats(10, 7, 4));
        w.delayed.insert("orders".into(), 2);
        w.proxied_consumers = Some([("billing".to_owned(), online("orders"))].into());
        w.queues.insert(("%DLQ%billing".into(), 1), 3);
        w.edit(&master, |m| {
            m.topics.insert("%DLQ%billing".into(), TopicConfig::new("%DLQ%billing", 1));
        });
    });
    minute(&shop).await;
    let all = figures(&shop);
    assert_eq!((&all["lag"], &all["clients"], &all["deadLetters"]), (&json!(6), &json!(1), &json!(3)), "{all}");
    assert_eq!(all["topics"], json!([{"topic": "orders", "ready": 3, "inFlight": 3, "delayed": 2}]));
    assert_eq!(all["clientKinds"], json!([{"protocol": "gRPC", "language": "JAVA", "count": 1}]));
    assert_eq!(shop.ready("consumergroups", "billing").1, "InSync");
    let text = String::from_utf8(shop.ctx.metrics.render().unwrap()).unwrap();
    let row = r#"{cluster="shop",consumer_group="billing",namespace="ns"}"#;
    assert!(text.contains(&format!("gantry_consumer_group_lag_messages{row} 6")), "{text}");
    assert!(text.contains(&format!("gantry_consumer_group_dead_letter_messages{row} 3")), "{text}");
}

#[tokio::test]
async fn a_group_that_is_idle_is_never_written() {
    let shop = shop().await;
    writes(&shop);
    minute(&shop).await;
    assert!(writes(&shop).is_empty() && figures(&shop).is_null(), "nothing to tell of a new group");
    shop.engine.world(|w| w.consume_stats.insert("billing".into(), stats(10, 7, 4)));
    minute(&shop).await;
    assert_eq!(writes(&shop), ["consumergroups/billing/status"]);
    for _ in 0..5 {
        minute(&shop).await;
    }
    assert!(writes(&shop).is_empty(), "the same figures");
}

#[tokio::test]
async fn figures_that_change_all_the_time_are_written_every_thirty_seconds() {
    let shop = shop().await;
    writes(&shop);
    let before = *shop.now.lock().unwrap();
    for i in 0..40 {
        shop.engine.world(|w| w.consume_stats.insert("billing".into(), stats(100 + i, 50, 4)));
        shop.pass().await;
        shop.wait(5);
    }
    let spent = *shop.now.lock().unwrap() - before;
    let count = writes(&shop).len() as i64;
    assert!(count > 3 && count <= spent / 30 + 1, "{count} writes in {spent} s");
}

#[tokio::test]
async fn clients_that_subscribe_otherwise_are_a_reason() {
    let shop = shop().await;
    shop.engine.world(|w| {
        w.consume_stats.insert("billing".into(), stats(10, 7, 4));
        w.proxied_consumers = Some([("billing".to_owned(), online("views"))].into());
    });
    minute(&shop).await;
    let (status, reason, message) = shop.ready("consumergroups", "billing");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "SubscriptionMismatch"));
    assert!(message.contains("views: clients subscribe to it, and it is not declared"), "{message}");
    assert_eq!(shop.condition("consumergroups", "ns", "billing", "Degraded").0, "True");
}

#[tokio::test]
async fn what_nobody_can_say_stays_as_it_was_also_after_the_operator_starts_anew() {
    let mut shop = shop().await;
    shop.engine.world(|w| {
        w.consume_stats.insert("billing".into(), stats(10, 7, 4));
        w.proxied_consumers = Some([("billing".to_owned(), online("orders"))].into());
    });
    minute(&shop).await;
    let before = figures(&shop);
    shop.restart_the_operator();
    shop.engine.world(|w| w.proxied_consumers = None);
    writes(&shop);
    minute(&shop).await;
    assert_eq!(figures(&shop), before);
    assert!(writes(&shop).is_empty());
}

#[tokio::test]
async fn calls_do_not_grow_with_the_number_of_topics_and_hardly_with_that_of_groups() {
    let shop = shop().await;
    for i in 0..150 {
        shop.group(&format!("g{i}"), json!({}));
        shop.topic(&format!("t{i}"), json!({}));
    }
    shop.settle().await;
    shop.engine.calls();
    shop.wait(30);
    shop.pass().await;
    let calls = shop.engine.calls();
    assert_eq!((calls["consumption"], calls.get("topic_stats")), (1, None));
    assert!(calls["consume_stats"] <= 100 && calls["consumers"] <= 200, "{calls:?}");
    shop.wait(5);
    shop.pass().await;
    let calls = shop.engine.calls();
    assert_eq!(
        calls.keys().copied().collect::<Vec<_>>(),
        ["config", "leaders", "metadata"],
        "between two looks: {calls:?}"
    );
}
