use std::collections::BTreeMap;
use std::time::Duration;

use gantry::engine::EngineWrite;
use gantry::metadata::order::MOST;
use serde_json::{Value, json};

use crate::shop::Shop;

/// Writes to topics and consumer groups.
fn writes(shop: &Shop) -> Vec<String> {
    let mut writes = shop.api.with(|s| std::mem::take(&mut s.writes));
    writes.retain(|w| !w.starts_with("brokerclusters/"));
    writes
}

fn upserted(shop: &Shop) -> Vec<String> {
    let of = |write| match write {
        EngineWrite::UpsertTopics { changes, .. } => changes.into_iter().map(|c| c.config.topic_name).collect(),
        _ => Vec::new(),
    };
    shop.engine.changes().into_iter().flat_map(of).collect()
}

// A turn has a limit of time, too: a machine that is busy must not reach it.
#[tokio::test(start_paused = true)]
async fn a_burst_is_worked_off_in_turns_with_one_write_for_each_object() {
    let shop = Shop::new(json!({})).await;
    shop.topic("old", json!({}));
    shop.settle().await;
    let burst = MOST * 2 + MOST / 2;
    for i in 0..burst {
        shop.topic(&format!("t{i:05}"), json!({}));
    }
    writes(&shop);
    upserted(&shop);
    let again = shop.pass().await;
    assert!(again < Duration::from_secs(1), "the next turn comes at once");
    assert_eq!((upserted(&shop).len(), writes(&shop).len()), (MOST, MOST));
    let waiting = || shop.ctx.metrics.waiting.with_label_values(&["Topic"]).get();
    assert!(waiting() >= i64::try_from(burst - MOST).unwrap(), "{}", waiting());
    // An edit, and an object of somebody else's, go before all that wait.
    shop.edit("topics", "old", |o| o["spec"]["queues"] = json!(9));
    shop.pass().await;
    let second = upserted(&shop);
    assert!(second.len() == MOST && second.contains(&"old".to_owned()), "{}", second.len());
    assert_eq!(writes(&shop).len(), MOST);
    assert_eq!(shop.get::<Value>("topics", "ns", "old").unwrap()["status"]["conditions"][0]["observedGeneration"], 2);
    shop.settle().await;
    assert_eq!(writes(&shop).len(), burst + 1 - 2 * MOST, "never a second write for one object");
    assert_eq!(shop.ready("topics", &format!("t{:05}", burst - 1)).1, "InSync");
    assert_eq!(waiting(), 0);
}

#[tokio::test]
async fn only_objects_whose_deletion_changes_the_engine_take_a_second_write() {
    let shop = Shop::new(json!({})).await;
    shop.topic("kept", json!({}));
    shop.topic("goes", json!({"deletionPolicy": "Delete"}));
    shop.group("stays", json!({}));
    writes(&shop);
    shop.settle().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    writes(&shop).into_iter().for_each(|w| *counts.entry(w).or_default() += 1);
    let expected =
        [("consumergroups/stays/status", 1), ("topics/goes", 1), ("topics/goes/status", 1), ("topics/kept/status", 1)];
    assert_eq!(counts, expected.map(|(w, n)| (w.to_owned(), n)).into());
}

// A turn has a limit of time, too: a machine that is busy must not reach it.
#[tokio::test(start_paused = true)]
async fn a_burst_of_refused_objects_is_told_in_turns() {
    let shop = Shop::new(json!({})).await;
    for i in 0..MOST + 10 {
        shop.declare("Topic", "topics", "strangers", &format!("t{i:05}"), json!({}));
    }
    shop.pass().await;
    assert_eq!(writes(&shop).len(), MOST);
    shop.settle().await;
    assert_eq!(writes(&shop).len(), 10);
}

// A turn has a limit of time, too: a machine that is busy must not reach it.
#[tokio::test(start_paused = true)]
async fn an_operator_that_dies_in_the_middle_of_a_burst_is_followed_by_one_that_ends_it() {
    let mut shop = Shop::new(json!({})).await;
    for i in 0..MOST + 200 {
        shop.topic(&format!("t{i:05}"), json!({}));
    }
    shop.pass().await;
    // The engine was told of some whose statuses were not written.
    shop.api.with(|s| {
        for i in 0..100 {
            let key = ("topics".to_owned(), "ns".to_owned(), format!("t{i:05}"));
            s.objects.get_mut(&key).unwrap().as_object_mut().unwrap().remove("status");
        }
    });
    shop.restart_the_operator();
    writes(&shop);
    upserted(&shop);
    shop.settle().await;
    assert_eq!((upserted(&shop).len(), writes(&shop).len()), (200, 300), "what is there is not written again");
    assert_eq!(shop.repairs("Topic", "Restored"), 0);
}
