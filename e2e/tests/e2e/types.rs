//! Topics of the types that RocketMQ 5.4 and 5.5 brought, as the official client over gRPC uses them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::Client;
use serde_json::Value;

use crate::shop::{GRPC, Shop};

/// The groups of what was received, in the order of arrival: for priorities `g` and their number, for lite topics their name.
fn groups(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|e| e["event"] == "received").filter_map(|e| e["group"].as_str()).collect()
}

#[test]
fn messages_of_higher_priority_arrive_first() -> Result<()> {
    let shop = Shop::ready()?;
    shop.topic("urgent", "Priority")?;
    shop.group("urgent-readers", "Concurrent")?;
    let clients = shop.clients()?;
    let run = format!("urgent-{}", std::process::id());
    let to = format!("--protocol grpc --endpoint {GRPC} --topic urgent --run {run}");
    clients.run(Client::Java, &format!("produce {to} --type priority --groups 4 --count 40 --attempts 5"))?;
    // One receiver that takes 32 at a time: what arrives first is what the broker gives first.
    let events = clients.run(
        Client::Java,
        &format!("consume {to} --consumer-group urgent-readers --mode simple --expect 40 --timeout 120 --abandon"),
    )?;
    let priorities = groups(&events);
    ensure!(priorities.len() == 40, "received {priorities:?}");
    ensure!(priorities.is_sorted_by(|a, b| a >= b), "a message came after one of lower priority: {priorities:?}");
    Ok(())
}

#[test]
fn messages_of_a_lite_topic_reach_who_subscribes_to_it_and_nobody_else() -> Result<()> {
    let shop = Shop::ready()?;
    shop.topic("chats", "Lite")?;
    shop.namespace.apply(
        "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: ConsumerGroup, metadata: {name: chats-readers}, spec: {clusterRef: {name: shop}, attributes: {lite.bind.topic: chats}}}",
    )?;
    let group = "consumergroups.rocketmq.gantry.dev/chats-readers";
    shop.namespace.wait_for_condition(group, "Ready", "True", Duration::from_secs(90))?;
    let clients = shop.clients()?;
    let run = format!("chats-{}", std::process::id());
    let to = format!("--protocol grpc --endpoint {GRPC} --topic chats --run {run}");
    clients.run(Client::Java, &format!("produce {to} --type lite --groups 4 --count 40 --attempts 5"))?;
    let events = clients.run(
        Client::Java,
        &format!(
            "consume {to} --consumer-group chats-readers --mode lite --lite-topics g1,g2 --expect 20 --linger-ms 3000 --timeout 120 --abandon"
        ),
    )?;
    let received = groups(&events);
    let lite_topics: BTreeSet<&str> = received.iter().copied().collect();
    ensure!(received.len() == 20 && lite_topics == BTreeSet::from(["g1", "g2"]), "received {received:?}");
    Ok(())
}
