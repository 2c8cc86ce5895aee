//! An operator is killed at each of its writes, before it was carried out or after: the next one ends where one that lives would have ended.

use std::time::Duration;

use gantry::engine::BrokerMetadata;
use serde_json::{Value, json};

use crate::fuse::Carried;
use crate::shop::Shop;

const GROUPS: [&str; 2] = ["shop-broker-0", "shop-broker-1"];

/// What can be seen from outside: what masters hold, and objects without what changes with every write.
fn outcome(shop: &Shop) -> (Vec<BrokerMetadata>, Vec<Value>) {
    let held = GROUPS.map(|group| {
        let (master, mut held) = (shop.master(group), BrokerMetadata::default());
        shop.engine.world(|w| {
            w.holds(&master, |m| {
                held = m.clone();
                true
            })
        });
        held
    });
    let objects = shop.api.with(|s| s.objects.clone()).into_iter().filter(|(key, _)| key.0 != "brokerclusters");
    let bare = |(_, object): (_, Value)| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = |c: &Value| format!("{} {} {} {}", c["type"], c["status"], c["reason"], c["observedGeneration"]);
        let conditions: Vec<String> = conditions.iter().map(said).collect();
        json!({"name": object["metadata"]["name"], "finalizers": object["metadata"]["finalizers"], "conditions": conditions})
    };
    (held.into(), objects.map(bare).collect())
}

async fn settle(shop: &Shop) {
    // Twice: what was done by the one before is looked at anew.
    shop.settle().await;
    shop.wait(30);
    shop.settle().await;
}

/// Does `change` to what `begin` made, and kills the operator at each write of what follows.
async fn killed_at_each_write(begin: impl AsyncFn() -> Shop, change: impl Fn(&Shop), least: usize) {
    let undisturbed = begin().await;
    change(&undisturbed);
    settle(&undisturbed).await;
    let wanted = outcome(&undisturbed);
    for carried in [Carried::Not, Carried::Out] {
        let mut kills = 0;
        loop {
            let mut shop = begin().await;
            change(&shop);
            shop.api.fuse.set(kills, carried);
            let killed = tokio::time::timeout(Duration::from_secs(900), settle(&shop)).await.is_err();
            shop.api.fuse.remove();
            shop.restart_the_operator();
            settle(&shop).await;
            assert_eq!(outcome(&shop), wanted, "killed at write {kills}, carried {carried:?}");
            if !killed {
                break;
            }
            kills += 1;
        }
        assert!(kills >= least, "there were only {kills} writes to be killed at");
    }
}

async fn empty() -> Shop {
    Shop::new(json!({"brokers": {"groups": 2}})).await
}

async fn full() -> Shop {
    let shop = empty().await;
    create(&shop);
    settle(&shop).await;
    shop
}

/// With so many others that the breaker lets one go, also where it was written down before a kill and is counted twice.
async fn crowded() -> Shop {
    let shop = empty().await;
    create(&shop);
    for i in 0..12 {
        shop.topic(&format!("t{i}"), json!({}));
        shop.group(&format!("g{i}"), json!({}));
    }
    settle(&shop).await;
    shop
}

fn create(shop: &Shop) {
    for (topic, policy) in [("orders", "Delete"), ("views", "Retain"), ("clicks", "DeleteIfEmpty")] {
        shop.topic(topic, json!({"deletionPolicy": policy, "queues": 4}));
    }
    shop.group("billing", json!({"deletionPolicy": "Delete"}));
    shop.group("audit", json!({"loadBalancing": "Message", "subscriptions": [{"topic": "orders"}]}));
}

#[tokio::test(start_paused = true)]
async fn topics_and_groups_are_created_by_whoever_lives() {
    killed_at_each_write(empty, create, 10).await;
}

#[tokio::test(start_paused = true)]
async fn edits_are_finished_by_whoever_lives() {
    let edit = |shop: &Shop| {
        shop.edit("topics", "orders", |o| o["spec"]["queues"] = json!(9));
        shop.edit("topics", "views", |o| o["spec"]["deletionPolicy"] = json!("Delete"));
        shop.edit("topics", "clicks", |o| o["spec"]["deletionPolicy"] = json!("Retain"));
        shop.edit("consumergroups", "billing", |o| o["spec"]["retry"] = json!({"maxAttempts": 3}));
    };
    killed_at_each_write(full, edit, 6).await;
}

#[tokio::test(start_paused = true)]
async fn deletions_are_finished_by_whoever_lives() {
    let delete = |shop: &Shop| {
        shop.delete("topics", "ns", "orders");
        shop.delete("consumergroups", "ns", "billing");
        shop.delete("topics", "ns", "views");
    };
    killed_at_each_write(crowded, delete, 4).await;
}
