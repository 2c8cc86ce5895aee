//! How groups consume: messages spread as declared, tried again, given up or broadcast, figures in the status, offsets reset.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::clients::{Client, Clients, Session};
use gantry_e2e::wait::{Answer, until};
use serde_json::Value;

use crate::shop::{GRPC, Shop};

/// Name servers: clients of RocketMQ 4 that let brokers share messages out must reach brokers.
pub const NAME_SERVERS: &str = "shop-nameserver-0.shop-nameserver.shop.svc.cluster.local:9876;shop-nameserver-1.shop-nameserver.shop.svc.cluster.local:9876";
/// A look at figures comes every 30 s, a pass every 20; the rest is this machine's.
const FIGURES: Duration = Duration::from_secs(150);
/// Clients share queues out anew every 20 s (RebalanceService, rocketmq.client.rebalance.waitInterval); until all have done so with everybody there, a queue may
/// move on to somebody else.
const SHARED_OUT: Duration = Duration::from_secs(30);
/// More than queues.
const CONSUMERS: usize = 8;

pub fn group(name: &str, topic: &str, more: &str) -> String {
    format!(
        "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: ConsumerGroup, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop}}, subscriptions: [{{topic: {topic}}}]{more}}}}}"
    )
}

pub fn object(name: &str) -> String {
    format!("consumergroups.rocketmq.gantry.dev/{name}")
}

impl Shop {
    /// Waits for figures of a group.
    fn figures(&self, name: &str, what: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
        until(&format!("{name}: {what}"), FIGURES, || {
            let figures = self.namespace.get(&object(name))?["status"]["consumption"].clone();
            Ok(Answer::when(right(&figures), figures.clone(), || figures.to_string()))
        })
    }

    /// Eight consumers of a group, connected.
    fn consumers(&self, clients: &Clients<'_>, group: &str, how: &str) -> Result<Session> {
        let mut session = clients.session()?;
        for i in 0..CONSUMERS {
            session.say(&format!(
                "c{i} consume {how} --topic spread --consumer-group {group} --run spread --until-idle 900000 --timeout 900 --quiet --abandon"
            ))?;
        }
        for i in 0..CONSUMERS {
            session.event(&format!("c{i}"), "ready")?;
        }
        Ok(session)
    }

    /// Declares where a group's offsets are to be, and waits until they are.
    fn reset(&self, name: &str, to: &str, time: Option<&str>) -> Result<()> {
        let patch = serde_json::json!({"spec": {"resetOffset": {"to": to, "time": time}}}).to_string();
        let value = time.unwrap_or(to);
        self.namespace.kubectl(&["patch", &object(name), "--type=merge", "-p", &patch])?;
        until(&format!("{name} is reset to {to}"), FIGURES, || {
            let reset = self.namespace.get(&object(name))?["status"]["resetOffset"].clone();
            Ok(Answer::when(reset["value"] == value && reset["done"] == true, (), || reset.to_string()))
        })
    }
}

/// How many consumers of a session received anything.
fn receivers(mut session: Session) -> Result<usize> {
    let names: Vec<String> = (0..CONSUMERS).map(|i| format!("c{i}")).collect();
    session.say(&format!("stop {}", names.join(" ")))?;
    let mut received = 0;
    for name in &names {
        received += usize::from(session.event(name, "summary")?["distinct"].as_u64().unwrap_or(0) > 0);
    }
    session.end()?;
    Ok(received)
}

#[test]
fn more_consumers_than_queues_all_receive_by_message_and_some_wait_by_queue() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.topic("spread", "Normal")?;
    let remoting = format!("--protocol remoting --endpoint {NAME_SERVERS} --server-balancing");
    let grpc = format!("--protocol grpc --endpoint {GRPC} --mode push");
    let cases = [
        ("by-message", "Message", &remoting, CONSUMERS),
        ("by-message-grpc", "Message", &grpc, CONSUMERS),
        ("by-queue", "Queue", &remoting, 4),
    ];
    for (readers, sharing, ..) in &cases {
        shop.namespace.apply(&group(readers, "spread", &format!(", loadBalancing: {sharing}")))?;
    }
    for (readers, ..) in &cases {
        shop.is_ready(&object(readers), "InSync")?;
    }
    let mut sessions = Vec::new();
    for (readers, _, how, _) in &cases {
        sessions.push(shop.consumers(&clients, readers, how)?);
    }
    for (readers, ..) in &cases {
        shop.figures(readers, "all clients are seen", |f| f["clients"] == CONSUMERS)?;
    }
    std::thread::sleep(SHARED_OUT);
    clients.summary(
        Client::Java,
        &format!(
            "produce --protocol grpc --endpoint {GRPC} --topic spread --run spread --count 1000 --rate 50 --type normal --attempts 5"
        ),
    )?;
    for ((readers, .., expected), session) in cases.iter().zip(sessions) {
        let received = receivers(session)?;
        ensure!(received == *expected, "{readers}: {received} of {CONSUMERS} consumers received");
    }
    Ok(())
}

#[test]
fn lag_is_in_the_status_and_each_reset_of_offsets_is_carried_out_once() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    let readers = "counted-readers";
    shop.topic("counted", "Normal")?;
    shop.namespace.apply(&group(readers, "counted", ""))?;
    shop.is_ready(&object(readers), "InSync")?;
    let send = |run: &str, count: u32| {
        let command = format!(
            "produce --protocol grpc --endpoint {GRPC} --topic counted --run {run} --count {count} --type normal --attempts 5"
        );
        clients.summary(Client::Java, &command)
    };
    // All that the group gets: `count` of this run, and no more than this many of others.
    let read = |run: &str, count: u32, others: u64| {
        let command = format!(
            "consume --protocol grpc --endpoint {GRPC} --topic counted --consumer-group {readers} --run {run} --expect {count} --linger-ms 3000 --timeout 120 --quiet --mode simple"
        );
        let got = clients.summary(Client::Java, &command)?;
        ensure!(got["distinct"] == count && got["foreign"].as_u64() <= Some(others), "at most {others} others: {got}");
        anyhow::Ok(got)
    };
    send("first", 20)?;
    let between = read("first", 20, 0)?["wall_ms"].as_u64().context("no time")? / 1000;
    send("second", 30)?;
    let figures = shop.figures(readers, "30 messages wait", |f| f["lag"] == 30)?;
    ensure!(figures["topics"][0]["topic"] == "counted" && figures["deadLetters"] == 0, "{figures}");
    let table = shop.namespace.kubectl(&["get", &object(readers)])?;
    let head = table.lines().next().unwrap_or_default();
    ensure!(["LAG", "CLIENTS", "DLQ"].iter().all(|column| head.contains(column)), "{table}");

    // To the end: nothing waits any more, and what comes later arrives alone.
    shop.reset(readers, "Latest", None)?;
    shop.figures(readers, "nothing waits", |f| f["lag"] == 0)?;
    send("third", 5)?;
    read("third", 5, 0)?;
    // To a time: what was sent since then comes again, without what was sent before.
    let time = rfc3339(between)?;
    shop.reset(readers, "Time", Some(&time))?;
    read("second", 30, 5)?;
    // The same value once more: another field is edited, and offsets stay where they are.
    let edit = r#"{"spec": {"retry": {"maxAttempts": 7}}}"#;
    shop.namespace.kubectl(&["patch", &object(readers), "--type=merge", "-p", edit])?;
    shop.namespace.wait_for_condition(&object(readers), "Ready", "True", FIGURES)?;
    send("fourth", 5)?;
    read("fourth", 5, 0)?;
    // Back to the beginning: all comes again.
    shop.reset(readers, "Earliest", None)?;
    read("first", 20, 40)?;
    Ok(())
}

/// Seconds of the epoch as Kubernetes writes times.
fn rfc3339(seconds: u64) -> Result<String> {
    let output = std::process::Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output()?;
    ensure!(output.status.success(), "date: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn send(session: &mut Session, name: &str, topic: &str, run: &str, what: &str) -> Result<()> {
    session.say(&format!(
        "{name} produce --protocol grpc --endpoint {GRPC} --topic {topic} --run {run} {what} --attempts 20"
    ))?;
    let sent = session.event(name, "summary")?;
    ensure!(sent["ok"] == true, "{sent}");
    Ok(())
}

#[test]
fn messages_that_are_held_delayed_or_given_up_are_in_the_status_and_so_are_versions_of_clients() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.topic("held", "Delay")?;
    shop.topic("refused", "Normal")?;
    shop.namespace.apply(&group("holders", "held", ""))?;
    // At once, once more after a second, and once more: then it is given up.
    shop.namespace.apply(&group("refusers", "refused", ", retry: {maxAttempts: 2, intervals: [1s]}"))?;
    shop.is_ready(&object("holders"), "InSync")?;
    shop.is_ready(&object("refusers"), "InSync")?;
    let mut session = clients.session()?;
    let patience = "--until-idle 400000 --timeout 500 --abandon";
    // Brokers tell nothing of a group that has not consumed yet.
    let holder = format!("consume --protocol remoting --endpoint {NAME_SERVERS} --topic held --consumer-group holders");
    session.say(&format!("b {holder} --run before --expect 4 --timeout 120"))?;
    send(&mut session, "p0", "held", "before", "--count 4 --type delay --delay-ms 100")?;
    ensure!(session.event("b", "summary")?["ok"] == true, "{:?}", session.of("b"));
    session.say(&format!("h {holder} --run soon {patience} --hold"))?;
    session.say(&format!(
        "r consume --protocol grpc --endpoint {GRPC} --topic refused --consumer-group refusers --run now {patience} --mode push --refuse"
    ))?;
    for (name, topic, run, what) in [
        ("p1", "held", "soon", "--count 5 --type delay --delay-ms 1000"),
        ("p2", "held", "later", "--count 1 --type delay --delay-ms 3600000"),
        ("p3", "refused", "now", "--count 1 --type normal"),
    ] {
        send(&mut session, name, topic, run, what)?;
    }
    let figures = shop.figures("holders", "five are held, one is delayed", |f| {
        let topic = &f["topics"][0];
        f["clients"] == 1 && topic["inFlight"].as_i64() >= Some(5) && topic["delayed"].as_i64() >= Some(1)
    })?;
    let kind = &figures["clientKinds"][0];
    ensure!(kind["protocol"] == "Remoting" && kind["version"] == "5.5.0", "{figures}");
    shop.figures("refusers", "one is given up", |f| f["deadLetters"] == 1)?;
    session.say("stop h r")?;
    session.end()?;
    let refused: Vec<&Value> = session.of("r").into_iter().filter(|e| e["event"] == "received").collect();
    let attempts: Vec<i64> = refused.iter().filter_map(|e| e["attempt"].as_i64()).collect();
    ensure!(attempts == [1, 2, 3], "{refused:?}");
    Ok(())
}

#[test]
fn every_consumer_of_a_broadcast_group_gets_every_message() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.topic("announced", "Normal")?;
    shop.namespace.apply(&group("listeners", "announced", ", broadcast: true"))?;
    shop.is_ready(&object("listeners"), "InSync")?;
    let mut session = clients.session()?;
    session.say(&format!(
        "p produce --protocol grpc --endpoint {GRPC} --topic announced --run r --count 20 --type normal --attempts 20"
    ))?;
    for name in ["a", "b"] {
        session.say(&format!(
            "{name} consume --protocol remoting --endpoint {NAME_SERVERS} --topic announced --consumer-group listeners --run r --expect 20 --timeout 120 --quiet --broadcast"
        ))?;
    }
    for name in ["p", "a", "b"] {
        let summary = session.event(name, "summary")?;
        ensure!(summary["ok"] == true, "{name}: {summary}");
    }
    session.end()
}

#[test]
fn clients_that_subscribe_otherwise_than_declared_are_told_while_they_are_there() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.topic("expected", "Normal")?;
    shop.topic("subscribed", "Normal")?;
    shop.namespace.apply(&group("surprising", "expected", ""))?;
    shop.is_ready(&object("surprising"), "InSync")?;
    let mut session = clients.session()?;
    session.say(&format!(
        "c consume --protocol grpc --endpoint {GRPC} --topic subscribed --consumer-group surprising --run r --until-idle 200000 --timeout 300 --quiet --mode push --abandon"
    ))?;
    let figures = shop.figures("surprising", "the client is seen", |f| f["clients"] == 1)?;
    ensure!(figures["clientKinds"][0]["protocol"] == "gRPC", "{figures}");
    shop.is_ready(&object("surprising"), "SubscriptionMismatch")?;
    session.say("stop c")?;
    session.end()
}
