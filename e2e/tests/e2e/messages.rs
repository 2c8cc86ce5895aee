//! Messages through the Service, with the official clients: every body checked, every count exact, order per group checked.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::clients::Client;
use serde_json::Value;

use crate::shop::{GRPC, REMOTING, Shop};

/// One kind of message: which client sends, which receives, over what.
struct Case {
    /// Topic; the consumer group is `<name>-readers`.
    name: &'static str,
    /// `spec.type` of the topic.
    topic_type: &'static str,
    /// `spec.delivery` of the group.
    delivery: &'static str,
    /// Who sends, over which protocol.
    send: (Client, &'static str),
    /// Who receives, over which protocol.
    receive: (Client, &'static str),
    /// Messages sent.
    sent: u64,
    /// Messages to be received.
    received: u64,
}

/// The official Java client over gRPC.
const GRPC_JAVA: (Client, &str) = (Client::Java, "--protocol grpc --endpoint");
const GRPC_GO: (Client, &str) = (Client::Go, "--protocol grpc --endpoint");
const REMOTING_JAVA: (Client, &str) = (Client::Java, "--protocol remoting --endpoint");

fn endpoint((_, protocol): (Client, &str)) -> &'static str {
    if protocol.contains("remoting") { REMOTING } else { GRPC }
}

/// All events of a sender and of a receiver; the last of each is its summary.
struct Events {
    /// Of who sent.
    sent: Vec<Value>,
    /// Of who received.
    received: Vec<Value>,
}

/// Makes topic and group, sends, receives, and checks all of it.
fn run(case: &Case, more_to_send: &str, more_to_receive: &str) -> Result<Events> {
    let shop = Shop::together()?;
    let (topic, group) = (case.name, format!("{}-readers", case.name));
    shop.topic(topic, case.topic_type)?;
    shop.group(&group, case.delivery)?;
    let clients = shop.clients()?;
    let run = format!("{}-{}", case.name, std::process::id());
    let sent = clients.run(
        case.send.0,
        &format!(
            "produce {} {} --topic {topic} --run {run} --count {} --attempts 5 {more_to_send}",
            case.send.1,
            endpoint(case.send),
            case.sent
        ),
    )?;
    let summary = sent.last().context("no summary")?;
    println!("{}: sent {summary}", case.name);
    ensure!(summary["failed"] == 0, "{summary}");
    let received = clients.run(
        case.receive.0,
        &format!(
            "consume {} {} --topic {topic} --consumer-group {group} --run {run} --expect {} --timeout 120 --abandon {more_to_receive}",
            case.receive.1,
            endpoint(case.receive),
            case.received
        ),
    )?;
    let got = received.last().context("no summary")?;
    println!("{}: received {got}", case.name);
    ensure!(got["distinct"] == case.received && got["bad_bodies"] == 0 && got["order_violations"] == 0, "{got}");
    ensure!(got["duplicates"] == 0, "some came twice: {got}");
    Ok(Events { sent, received })
}

#[test]
fn normal_messages_over_grpc_arrive() -> Result<()> {
    let case = Case {
        name: "normal",
        topic_type: "Normal",
        delivery: "Concurrent",
        send: GRPC_JAVA,
        receive: GRPC_JAVA,
        sent: 100,
        received: 100,
    };
    run(&case, "--type normal", "--mode push").map(drop)
}

#[test]
fn fifo_messages_over_grpc_arrive_in_order_of_their_group() -> Result<()> {
    let case = Case {
        name: "fifo",
        topic_type: "FIFO",
        delivery: "Ordered",
        send: GRPC_JAVA,
        receive: GRPC_JAVA,
        sent: 60,
        received: 60,
    };
    run(&case, "--type fifo --groups 4", "--mode push --ordered").map(drop)
}

/// No message came before its five seconds were over. Birth is taken a moment after the time of delivery was reckoned from it.
fn after_their_delay(events: &Events) -> Result<()> {
    let summary = events.received.last().context("no summary")?;
    let soonest = summary["delay_min_ms"].as_i64().context("no delay")?;
    ensure!(soonest >= 4900, "one came after {soonest} ms: {summary}");
    Ok(())
}

#[test]
fn delayed_messages_over_grpc_arrive_after_their_delay() -> Result<()> {
    let case = Case {
        name: "delay",
        topic_type: "Delay",
        delivery: "Concurrent",
        send: GRPC_JAVA,
        receive: GRPC_JAVA,
        sent: 20,
        received: 20,
    };
    after_their_delay(&run(&case, "--type delay --delay-ms 5000", "--mode push")?)
}

#[test]
fn normal_messages_over_remoting_arrive() -> Result<()> {
    let case = Case {
        name: "classic",
        topic_type: "Normal",
        delivery: "Concurrent",
        send: REMOTING_JAVA,
        receive: REMOTING_JAVA,
        sent: 100,
        received: 100,
    };
    run(&case, "--type normal", "--mode push").map(drop)
}

#[test]
fn ordered_messages_over_remoting_arrive_in_order() -> Result<()> {
    let case = Case {
        name: "classic-ordered",
        topic_type: "Normal",
        delivery: "Ordered",
        send: REMOTING_JAVA,
        receive: REMOTING_JAVA,
        sent: 60,
        received: 60,
    };
    run(&case, "--type ordered --groups 4", "--mode push --ordered").map(drop)
}

#[test]
fn messages_sent_over_grpc_are_received_over_remoting() -> Result<()> {
    let case = Case {
        name: "grpc-to-remoting",
        topic_type: "Normal",
        delivery: "Concurrent",
        send: GRPC_JAVA,
        receive: REMOTING_JAVA,
        sent: 50,
        received: 50,
    };
    run(&case, "--type normal", "--mode push").map(drop)
}

#[test]
fn messages_sent_over_remoting_are_received_over_grpc() -> Result<()> {
    let case = Case {
        name: "remoting-to-grpc",
        topic_type: "Normal",
        delivery: "Concurrent",
        send: REMOTING_JAVA,
        receive: GRPC_JAVA,
        sent: 50,
        received: 50,
    };
    run(&case, "--type normal", "--mode push").map(drop)
}

#[test]
fn a_client_in_another_language_sends_and_receives() -> Result<()> {
    let case = Case {
        name: "golang",
        topic_type: "Normal",
        delivery: "Concurrent",
        send: GRPC_GO,
        receive: GRPC_GO,
        sent: 50,
        received: 50,
    };
    run(&case, "--type normal", "--mode simple").map(drop)
}

#[test]
fn a_client_in_another_language_keeps_the_order_of_groups() -> Result<()> {
    let case = Case {
        name: "golang-fifo",
        topic_type: "FIFO",
        delivery: "Ordered",
        send: GRPC_GO,
        receive: GRPC_GO,
        sent: 40,
        received: 40,
    };
    run(&case, "--type fifo --groups 4", "--mode simple --ordered").map(drop)
}

#[test]
fn a_client_in_another_language_delays_messages() -> Result<()> {
    let case = Case {
        name: "golang-delay",
        topic_type: "Delay",
        delivery: "Concurrent",
        send: GRPC_GO,
        receive: GRPC_GO,
        sent: 10,
        received: 10,
    };
    after_their_delay(&run(&case, "--type delay --delay-ms 5000", "--mode simple")?)
}

#[test]
fn committed_transactions_over_grpc_arrive_and_those_rolled_back_do_not() -> Result<()> {
    let case = Case {
        name: "transaction",
        topic_type: "Transaction",
        delivery: "Concurrent",
        send: GRPC_JAVA,
        receive: GRPC_JAVA,
        sent: 40,
        received: 30,
    };
    let events = run(&case, "--type transaction --rollback-every 4", "--mode push")?;
    let numbers = |events: &[Value], event: &str| -> BTreeSet<u64> {
        events.iter().filter(|e| e["event"] == event).filter_map(|e| e["seq"].as_u64()).collect()
    };
    let (rolled_back, received) = (numbers(&events.sent, "rolledback"), numbers(&events.received, "received"));
    ensure!(rolled_back.len() == 10, "rolled back {rolled_back:?}");
    let missing: BTreeSet<u64> = (0..case.sent).filter(|number| !received.contains(number)).collect();
    ensure!(missing == rolled_back, "missing {missing:?}, rolled back {rolled_back:?}");
    Ok(())
}
