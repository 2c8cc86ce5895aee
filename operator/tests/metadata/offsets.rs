//! Offsets of consumer groups across a change of master.

use gantry::engine::{ClusterId, ConsumerOffsets, Engine, EngineWrite};
use serde_json::json;

use crate::shop::Shop;

const GROUP: &str = "shop-broker-0";

/// Two replicas, and a consumer group that has read some of each queue.
async fn reading() -> Shop {
    let shop = Shop::new(json!({"brokers": {"replicas": 2}})).await;
    shop.topic("orders", json!({"queues": 4}));
    shop.group("billing", json!({}));
    shop.settle().await;
    shop.engine.world(|w| w.queues = (0..4).map(|queue| (("orders".to_owned(), queue), 120)).collect());
    let queues = (0..4).map(|queue| (queue, 100)).collect();
    let offsets = [("billing".to_owned(), [("orders".to_owned(), queues)].into())].into();
    let write = EngineWrite::SetOffsets { broker: shop.master(GROUP), offsets };
    shop.engine.execute(&ClusterId::new("ns", "shop"), &write).await.unwrap();
    shop.wait(30);
    shop.settle().await;
    shop.engine.changes();
    shop
}

async fn offsets(shop: &Shop) -> ConsumerOffsets {
    shop.engine.offsets(&ClusterId::new("ns", "shop"), &shop.master(GROUP)).await.unwrap()
}

fn all() -> ConsumerOffsets {
    [(("orders".to_owned(), "billing".to_owned()), (0..4).map(|queue| (queue, 100)).collect())].into()
}

/// The master dies, and the replica that follows it has no offsets, and not the topic or the group either.
fn switch(shop: &Shop, topic_too: bool, group_too: bool) {
    let (old, new) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        w.kill(&old);
        w.forget_offsets(&new);
        w.corrupt(&new, |m| {
            m.topics.retain(|name, _| name != "orders" || !topic_too);
            m.groups.retain(|name, _| name != "billing" || !group_too);
        });
    });
    shop.wait(15);
    assert_eq!(shop.master(GROUP), new);
}

#[tokio::test]
async fn a_new_master_that_also_lost_the_topic_or_the_group_gets_the_offsets_with_them_in_one_pass() {
    for (topic_too, group_too) in [(false, false), (true, false), (false, true), (true, true)] {
        let shop = reading().await;
        assert_eq!(offsets(&shop).await, all());
        switch(&shop, topic_too, group_too);
        assert!(offsets(&shop).await.is_empty());
        shop.pass().await;
        assert_eq!(offsets(&shop).await, all(), "topic lost: {topic_too}, group lost: {group_too}");
        assert_eq!(shop.repairs("Offset", "Restored"), 4);
    }
}

#[tokio::test]
async fn offsets_wait_for_a_topic_that_comes_back_late() {
    let shop = reading().await;
    let pause = |value: &str| {
        let annotations = json!({"gantry.dev/paused": value});
        shop.edit("topics", "orders", |o| o["metadata"]["annotations"] = annotations);
    };
    pause("true");
    switch(&shop, true, false);
    for _ in 0..5 {
        shop.pass().await;
        shop.wait(25);
    }
    assert!(offsets(&shop).await.is_empty(), "the engine takes no offsets of a topic that it does not have");
    pause("false");
    shop.pass().await;
    assert_eq!(offsets(&shop).await, all());
    shop.engine.changes();
    shop.wait(25);
    shop.settle().await;
    assert!(shop.engine.changes().is_empty(), "once");
}

#[tokio::test]
async fn what_a_group_has_read_since_is_not_overruled_and_what_nobody_declares_is_not_waited_for() {
    let shop = reading().await;
    shop.delete("topics", "ns", "orders");
    switch(&shop, true, false);
    shop.settle().await;
    shop.topic("orders", json!({"queues": 4}));
    shop.settle().await;
    assert!(offsets(&shop).await.is_empty(), "another topic of the same name begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_cut_off_forgets_nothing() {
    let shop = reading().await;
    switch(&shop, true, true);
    shop.pass_that_is_cut_off("offsets").await;
    shop.settle().await;
    assert_eq!(offsets(&shop).await, all());
}

#[tokio::test]
async fn offsets_behind_the_end_of_a_queue_are_those_of_another_log_and_are_not_put_back() {
    let shop = reading().await;
    switch(&shop, false, false);
    shop.engine.world(|w| {
        w.queues.insert(("orders".to_owned(), 0), 99);
        w.queues.insert(("orders".to_owned(), 1), 100);
    });
    shop.pass().await;
    let known = offsets(&shop).await;
    assert_eq!(known[&("orders".to_owned(), "billing".to_owned())].keys().collect::<Vec<_>>(), [&1, &2, &3]);
}

#[tokio::test]
async fn a_cluster_that_is_made_anew_gets_no_offsets_of_the_one_before_it() {
    let shop = reading().await;
    switch(&shop, false, false);
    shop.edit("brokerclusters", "shop", |o| o["metadata"]["uid"] = json!("another"));
    shop.pass().await;
    shop.wait(30);
    shop.settle().await;
    assert!(offsets(&shop).await.is_empty());
    assert_eq!(shop.repairs("Offset", "Restored"), 0);
}
