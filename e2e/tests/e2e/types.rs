//! Types of topics: what proxies refuse, and those that RocketMQ 5.4 and 5.5 brought, as the official client over gRPC uses them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::Client;
use serde_json::Value;

use crate::shop::{GRPC, REMOTING, Shop};

/// The groups of what was received, in the order of arrival: for priorities `g` and their number, for lite topics their name.
fn groups(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|e| e["event"] == "received").filter_map(|e| e["group"].as_str()).collect()
}

#[test]
fn messages_of_higher_priority_arrive_first() -> Result<()> {
    let shop = Shop::together()?;
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
    let shop = Shop::together()?;
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

/// A topic's type, and messages of it.
const TYPES: [(&str, &str); 4] = [
    ("Normal", "--type normal"),
    ("FIFO", "--type fifo"),
    ("Delay", "--type delay --delay-ms 100"),
    ("Transaction", "--type transaction"),
];

/// Clients over gRPC refuse wrong messages themselves; those over remoting leave that to the proxy.
#[test]
fn a_proxy_refuses_messages_of_another_type_than_the_topics() -> Result<()> {
    let shop = Shop::together()?;
    for (type_, _) in TYPES {
        shop.topic(&format!("only-{}", type_.to_lowercase()), type_)?;
    }
    let mut session = shop.clients()?.session()?;
    for (to, _) in TYPES {
        let topic = format!("only-{}", to.to_lowercase());
        let mut types = TYPES;
        // First what must go, so that a refusal is not a route that is not there yet; over gRPC, as whole transactions can be.
        types.sort_by_key(|(of, _)| *of != to);
        for (of, how) in types {
            let name = format!("{of}-to-{to}");
            let (protocol, endpoint, attempts) = if of == to { ("grpc", GRPC, 20) } else { ("remoting", REMOTING, 1) };
            session.say(&format!(
                "{name} produce --protocol {protocol} --endpoint {endpoint} --topic {topic} --run {name} --count 1 --attempts {attempts} {how}"
            ))?;
            let summary = session.event(&name, "summary")?;
            ensure!((summary["ok"] == true) == (of == to), "{name}: {summary}");
            if of != to {
                let error = session.event(&name, "failed")?["error"].to_string();
                let (expected, actual) = (to.to_uppercase(), of.to_uppercase());
                let sentence = format!("the expected type is {expected}, but actual type is {actual}");
                ensure!(error.contains(&sentence), "{name}: {error}");
            }
        }
    }
    session.end()
}
