//! What was in the engine before the object that declares it.

use gantry::engine::EngineWrite;
use gantry_remoting::group::{CustomizedRetry, ExponentialRetry, GroupConfig, RetryPolicyKind};
use gantry_remoting::topic::{MESSAGE_TYPE, TopicConfig};
use serde_json::{Value, json};

use crate::shop::Shop;

const GROUPS: [&str; 2] = ["shop-broker-0", "shop-broker-1"];

/// Two broker groups, and a FIFO topic of six queues on these.
async fn with_topic(on: &[&str]) -> Shop {
    let shop = Shop::new(json!({"brokers": {"groups": 2}})).await;
    shop.settle().await;
    on.iter().for_each(|group| put(&shop, group, &six()));
    shop.engine.changes();
    shop
}

fn six() -> TopicConfig {
    let mut topic = TopicConfig::new("orders", 6);
    topic.attributes.insert(MESSAGE_TYPE, "FIFO");
    topic
}

/// As mqadmin does.
fn put(shop: &Shop, group: &str, topic: &TopicConfig) {
    let master = shop.master(group);
    shop.engine.world(|w| w.edit(&master, |m| drop(m.topics.insert(topic.topic_name.clone(), topic.clone()))));
}

fn held(shop: &Shop, group: &str) -> Option<TopicConfig> {
    let (mut found, master) = (None, shop.master(group));
    shop.engine.world(|w| {
        w.holds(&master, |m| {
            found = m.topics.get("orders").cloned();
            true
        })
    });
    found
}

fn differences(shop: &Shop, plural: &str, name: &str) -> Vec<String> {
    let object: Value = shop.get(plural, "ns", name).unwrap();
    let lines = object["status"]["differences"].as_array().cloned().unwrap_or_default();
    lines.into_iter().map(|l| l.as_str().unwrap().to_owned()).collect()
}

fn annotate(shop: &Shop, plural: &str, name: &str) {
    shop.edit(plural, name, |o| o["metadata"]["annotations"] = json!({"gantry.dev/adopt": "true"}));
}

/// Settles, and settles once more a while later.
async fn rest(shop: &Shop) {
    shop.settle().await;
    shop.wait(30);
    shop.settle().await;
}

#[tokio::test]
async fn a_topic_with_other_settings_is_not_changed_and_the_status_says_what_to_write() {
    let mut shop = with_topic(&GROUPS).await;
    shop.topic("orders", json!({"queues": 8}));
    rest(&shop).await;
    shop.restart_the_operator();
    rest(&shop).await;
    assert!(shop.engine.changes().is_empty());
    let (ready, reason, message) = shop.ready("topics", "orders");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "Drifted"));
    assert_eq!(
        message,
        "orders was there before this object, with other settings: write into the spec what is there, status.differences has it as engine → declared; or to \
         have what is declared written, kubectl annotate topics.rocketmq.gantry.dev orders -n ns gantry.dev/adopt=true"
    );
    let lines =
        |g: &str| ["queues (read): 6 → 8", "queues (write): 6 → 8", "type: FIFO → Normal"].map(|l| format!("{g}: {l}"));
    assert_eq!(differences(&shop, "topics", "orders"), GROUPS.map(lines).concat());
}

#[tokio::test]
async fn what_is_there_is_adopted_once_it_is_declared_and_kept_so_from_then_on() {
    let mut shop = with_topic(&GROUPS).await;
    shop.topic("orders", json!({"queues": 8}));
    rest(&shop).await;
    shop.edit("topics", "orders", |o| {
        o["spec"]["queues"] = json!(6);
        o["spec"]["type"] = json!("FIFO");
    });
    rest(&shop).await;
    assert!(shop.engine.changes().is_empty(), "equal settings are adopted without a change");
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
    shop.restart_the_operator();
    put(&shop, GROUPS[0], &TopicConfig { perm: 4, ..six() });
    rest(&shop).await;
    assert_eq!((held(&shop, GROUPS[0]).unwrap().perm, shop.repairs("Topic", "DriftReverted")), (6, 1));
    // Also while what is declared is not there yet, and nobody remembers anything.
    let master = shop.master(GROUPS[1]);
    shop.engine.world(|w| w.kill(&master));
    shop.edit("topics", "orders", |o| o["spec"]["queues"] = json!(9));
    shop.pass().await;
    shop.restart_the_operator();
    shop.engine.world(|w| w.start(&master));
    shop.wait(40);
    rest(&shop).await;
    assert_eq!(GROUPS.map(|g| held(&shop, g).unwrap().write_queue_nums), [9, 9]);
}

#[tokio::test]
async fn the_annotation_has_what_is_declared_written() {
    let shop = with_topic(&GROUPS).await;
    shop.topic("orders", json!({"queues": 8, "type": "FIFO"}));
    rest(&shop).await;
    annotate(&shop, "topics", "orders");
    rest(&shop).await;
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
    assert_eq!(GROUPS.map(|g| held(&shop, g).unwrap().write_queue_nums), [8, 8]);
    assert_eq!(shop.repairs("Topic", "DriftReverted"), 0, "nobody had edited it");
}

#[tokio::test]
async fn what_is_missing_on_some_broker_groups_is_made_there_unless_others_have_it_otherwise() {
    let shop = with_topic(&GROUPS[..1]).await;
    shop.topic("orders", json!({"queues": 6, "type": "FIFO"}));
    rest(&shop).await;
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
    assert_eq!(held(&shop, GROUPS[1]).unwrap().write_queue_nums, 6);
    let shop = with_topic(&GROUPS[..1]).await;
    shop.topic("orders", json!({"queues": 7, "type": "FIFO"}));
    rest(&shop).await;
    assert!(held(&shop, GROUPS[1]).is_none(), "all of it or nothing");
    let expected =
        ["shop-broker-0: queues (read): 6 → 7", "shop-broker-0: queues (write): 6 → 7", "shop-broker-1: missing"];
    assert_eq!(differences(&shop, "topics", "orders"), expected);
}

#[tokio::test]
async fn an_edit_that_comes_before_the_first_status_is_no_adoption() {
    let shop = with_topic(&[]).await;
    shop.topic("orders", json!({"queues": 4}));
    shop.pass().await;
    // As if that status had not been written before the turn was over.
    shop.edit("topics", "orders", |o| {
        o.as_object_mut().unwrap().remove("status");
        o["spec"]["queues"] = json!(5);
    });
    rest(&shop).await;
    assert_eq!(GROUPS.map(|g| held(&shop, g).unwrap().write_queue_nums), [5, 5]);
    assert_eq!(shop.ready("topics", "orders").1, "InSync");
}

#[tokio::test]
async fn an_object_that_never_held_a_topic_does_not_delete_it() {
    let shop = with_topic(&GROUPS).await;
    shop.topic("orders", json!({"queues": 8, "deletionPolicy": "Delete"}));
    rest(&shop).await;
    shop.delete("topics", "ns", "orders");
    rest(&shop).await;
    assert_eq!(shop.get::<Value>("topics", "ns", "orders"), None);
    assert_eq!(GROUPS.map(|g| held(&shop, g)), [Some(six()), Some(six())]);
}

#[tokio::test]
async fn a_consumer_group_with_other_settings_is_not_changed_until_somebody_says_so() {
    let shop = with_topic(&[]).await;
    for group in GROUPS {
        let master = shop.master(group);
        let mut config = GroupConfig { consume_broadcast_enable: false, ..GroupConfig::new("billing") };
        config.consume_message_orderly = true;
        config.group_retry_policy.customized_retry_policy = Some(CustomizedRetry { next: vec![500, 10_000, 300_000] });
        shop.engine.world(|w| w.edit(&master, |m| drop(m.groups.insert("billing".into(), config))));
    }
    shop.group("billing", json!({"retry": {"maxAttempts": 3, "exponential": {"initial": "5s", "max": "2h"}}}));
    rest(&shop).await;
    let upserts =
        || shop.engine.changes().into_iter().filter(|w| matches!(w, EngineWrite::UpsertGroups { .. })).count();
    assert_eq!(upserts(), 0);
    assert_eq!(shop.ready("consumergroups", "billing").1, "Drifted");
    let lines = [
        "delivery: Ordered → Concurrent",
        "retry.maxAttempts: 16 → 3",
        "retry.exponential: none → 5s × 2, at most 2h",
        "retry.intervals: 500ms, 10s, 5m → none",
    ];
    let of = |g: &str| lines.map(|l| format!("{g}: {l}"));
    assert_eq!(differences(&shop, "consumergroups", "billing"), GROUPS.map(of).concat());
    annotate(&shop, "consumergroups", "billing");
    rest(&shop).await;
    assert_eq!((upserts(), shop.ready("consumergroups", "billing").1.as_str()), (2, "InSync"));
}

/// How messages are shared and the dead-letter topic are written after the group is, and the topic may come later.
#[tokio::test]
async fn parts_that_a_consumer_group_lacks_altogether_are_made() {
    let shop = Shop::new(json!({"brokers": {"groups": 2}})).await;
    shop.topic("orders", json!({}));
    let subscriptions = json!([{"topic": "orders"}]);
    shop.group(
        "audit",
        json!({"loadBalancing": "Message", "subscriptions": subscriptions, "deadLetterTopic": {"permission": "WriteOnly"}}),
    );
    rest(&shop).await;
    assert_eq!(
        (shop.ready("consumergroups", "audit").0, shop.ready("topics", "orders").0),
        ("True".into(), "True".into())
    );
    for group in GROUPS {
        let master = shop.master(group);
        let whole = |g: &GroupConfig| g.request_modes.contains_key("orders") && g.dead_letter_topic.is_some();
        assert!(shop.engine.world(|w| w.holds(&master, |m| m.groups.get("audit").is_some_and(whole))));
    }
}

#[tokio::test]
async fn with_plan_and_observe_differences_are_told_by_the_objects_own_words() {
    for policy in ["Plan", "Observe"] {
        let shop = with_topic(&GROUPS[..1]).await;
        let mut held = TopicConfig { perm: 4, ..six() };
        held.attributes.insert("reserve.time", "60000");
        put(&shop, GROUPS[0], &held);
        let master = shop.master(GROUPS[0]);
        shop.engine.world(|w| {
            w.edit(&master, |m| {
                let mut group = GroupConfig { consume_broadcast_enable: false, ..GroupConfig::new("billing") };
                group.group_retry_policy.kind = RetryPolicyKind::Exponential;
                group.group_retry_policy.exponential_retry_policy =
                    Some(ExponentialRetry { initial: 90_000, max: 7_200_000, multiplier: 3 });
                m.groups.insert("billing".into(), group);
            })
        });
        shop.topic(
            "orders",
            json!({"queues": 8, "type": "FIFO", "attributes": {"reserve.time": "3600000", "lite.topic.expiration": "5"}, "reconcilePolicy": policy}),
        );
        shop.group(
            "billing",
            json!({"subscriptions": [{"topic": "orders"}], "loadBalancing": "Message", "reconcilePolicy": policy}),
        );
        rest(&shop).await;
        let topics = [
            "shop-broker-0: queues (read): 6 → 8",
            "shop-broker-0: queues (write): 6 → 8",
            "shop-broker-0: permission: ReadOnly → ReadWrite",
            "shop-broker-0: attributes.lite.topic.expiration: none → 5",
            "shop-broker-0: attributes.reserve.time: 60000 → 3600000",
            "shop-broker-1: missing",
        ];
        assert_eq!(differences(&shop, "topics", "orders"), topics, "{policy}");
        let groups = [
            "shop-broker-0: retry.exponential: 90s × 3, at most 2h → none",
            "shop-broker-0: retry.intervals: none → the engine's",
            "shop-broker-0: subscriptions: none → orders TAG *",
            "shop-broker-0: loadBalancing: none → orders Message",
            "shop-broker-1: missing",
        ];
        assert_eq!(differences(&shop, "consumergroups", "billing"), groups, "{policy}");
        let (ready, reason, message) = shop.ready("topics", "orders");
        assert_eq!((ready.as_str(), reason.as_str()), ("False", "Drifted"));
        assert_eq!(message, "reconcilePolicy forbids to change orders: see status.differences");
    }
}

/// On the first of two broker groups.
async fn selected() -> Shop {
    let shop = with_topic(&[]).await;
    shop.topic("orders", json!({"brokerGroups": [GROUPS[0]], "deletionPolicy": "Delete"}));
    rest(&shop).await;
    shop
}

#[tokio::test]
async fn a_topic_is_on_the_broker_groups_that_it_names_and_on_no_other() {
    let shop = selected().await;
    assert_eq!(GROUPS.map(|g| held(&shop, g).is_some()), [true, false]);
    assert_eq!(shop.ready("topics", "orders").2, "orders is on shop-broker-0 as declared");
    shop.topic("elsewhere", json!({"brokerGroups": ["shop-broker-7"]}));
    rest(&shop).await;
    let (_, reason, message) = shop.ready("topics", "elsewhere");
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("no broker group shop-broker-7"), "{message}");
}

#[tokio::test]
async fn it_is_deleted_there_and_stays_where_the_object_did_not_declare_it_and_is_found_there() {
    let shop = selected().await;
    put(&shop, GROUPS[1], &six());
    rest(&shop).await;
    let left_out = ["shop-broker-1: holds it, and brokerGroups leaves it out"];
    assert_eq!(
        (shop.ready("topics", "orders").1.as_str(), differences(&shop, "topics", "orders")),
        ("InSync", left_out.map(str::to_owned).to_vec())
    );
    shop.engine.changes();
    let (one, other) = (shop.master(GROUPS[0]), shop.master(GROUPS[1]));
    shop.delete("topics", "ns", "orders");
    rest(&shop).await;
    assert_eq!(shop.get::<Value>("topics", "ns", "orders"), None);
    assert_eq!(GROUPS.map(|g| held(&shop, g)), [None, Some(six())]);
    // Name servers forget the topic everywhere with the deletion; the broker that keeps it tells them again.
    let of_topics = |w: &EngineWrite| match w {
        EngineWrite::DeleteTopics { masters, .. } => Some(("delete", masters[0].clone())),
        EngineWrite::UpsertTopics { broker, .. } => Some(("renew", broker.clone())),
        _ => None,
    };
    let writes: Vec<_> = shop.engine.changes().iter().filter_map(of_topics).collect();
    assert_eq!(writes, [("delete", one), ("renew", other)]);
}

#[tokio::test]
async fn a_deletion_that_was_cut_short_has_the_rest_of_the_topic_found_again() {
    let mut shop = selected().await;
    put(&shop, GROUPS[1], &six());
    rest(&shop).await;
    let one = shop.master(GROUPS[0]);
    shop.engine.world(|w| w.edit(&one, |m| drop(m.topics.remove("orders"))));
    shop.delete("topics", "ns", "orders");
    shop.engine.changes();
    shop.restart_the_operator();
    rest(&shop).await;
    let other = shop.master(GROUPS[1]);
    let renewed = |w: &EngineWrite| matches!(w, EngineWrite::UpsertTopics { broker, .. } if *broker == other);
    assert!(shop.engine.changes().iter().any(renewed));
    assert_eq!(shop.get::<Value>("topics", "ns", "orders"), None);
}

#[tokio::test]
async fn a_broker_group_that_is_no_longer_named_keeps_the_topic_and_the_status_says_so() {
    let shop = with_topic(&[]).await;
    shop.topic("orders", json!({"deletionPolicy": "Delete"}));
    rest(&shop).await;
    shop.edit("topics", "orders", |o| o["spec"]["brokerGroups"] = json!([GROUPS[1]]));
    rest(&shop).await;
    assert!(held(&shop, GROUPS[0]).is_some(), "its messages may not have been read");
    assert_eq!(differences(&shop, "topics", "orders"), ["shop-broker-0: holds it, and brokerGroups leaves it out"]);
    let message = "orders is on shop-broker-1 as declared; it is also on shop-broker-0, which brokerGroups leaves out: it stays there as it is";
    assert_eq!(shop.ready("topics", "orders").2, message);
    shop.delete("topics", "ns", "orders");
    rest(&shop).await;
    assert_eq!(GROUPS.map(|g| held(&shop, g).is_some()), [true, false]);
}
