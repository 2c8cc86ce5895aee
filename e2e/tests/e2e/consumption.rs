//! How groups consume: messages spread as declared, offsets reset, figures in the status, wrong messages refused.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::clients::{Client, Clients};
use gantry_e2e::wait::{Answer, until};
use serde_json::Value;

use crate::shop::{GRPC, Shop};

/// Name servers: clients of RocketMQ 4 that let brokers share messages out must reach brokers.
const NAME_SERVERS: &str = "shop-nameserver-0.shop-nameserver.shop.svc.cluster.local:9876;shop-nameserver-1.shop-nameserver.shop.svc.cluster.local:9876";
/// A look at figures comes every 30 s, a pass every 20; the rest is this machine's.
const FIGURES: Duration = Duration::from_secs(150);
/// More than queues.
const CONSUMERS: usize = 8;

fn group(name: &str, topic: &str, more: &str) -> String {
    format!(
        "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: ConsumerGroup, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop}}, subscriptions: [{{topic: {topic}}}]{more}}}}}"
    )
}

fn object(name: &str) -> String {
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

    /// How many of eight consumers of a group receive, where 4 queues hold a thousand messages.
    fn spread(&self, clients: &Clients<'_>, topic: &str, group: &str) -> Result<usize> {
        let mut child = clients.serve()?;
        let mut stdin = child.stdin.take().context("no input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut event =
            move || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("the clients ended")??)?) };
        for i in 0..CONSUMERS {
            writeln!(
                stdin,
                "c{i} consume --protocol remoting --endpoint {NAME_SERVERS} --topic {topic} --consumer-group {group} --run {topic} --until-idle 200000 --timeout 300 --quiet --server-balancing"
            )?;
        }
        let mut ready = 0;
        while ready < CONSUMERS {
            ready += usize::from(event()?["event"] == "ready");
        }
        self.figures(group, "all clients are seen", |f| f["clients"] == CONSUMERS)?;
        writeln!(
            stdin,
            "p produce --protocol grpc --endpoint {GRPC} --topic {topic} --run {topic} --count 1000 --rate 50 --type normal --attempts 5"
        )?;
        loop {
            let event = event()?;
            if event["cmd"] == "p" && event["event"] == "summary" {
                ensure!(event["ok"] == true, "{event}");
                break;
            }
        }
        for i in 0..CONSUMERS {
            writeln!(stdin, "stop c{i}")?;
        }
        drop(stdin);
        let (mut ended, mut received) = (0, 0);
        while ended < CONSUMERS {
            let event = event()?;
            if event["event"] == "summary" {
                ended += 1;
                received += usize::from(event["distinct"].as_u64().unwrap_or(0) > 0);
            }
        }
        child.wait()?;
        Ok(received)
    }
}

#[test]
fn more_consumers_than_queues_all_receive_by_message_and_some_wait_by_queue() -> Result<()> {
    let shop = Shop::ready()?;
    let clients = shop.clients()?;
    for (sharing, receiving) in [("Message", CONSUMERS), ("Queue", 4)] {
        let topic = format!("spread-{}", sharing.to_lowercase());
        let readers = format!("{topic}-readers");
        shop.topic(&topic, "Normal")?;
        shop.namespace.apply(&group(&readers, &topic, &format!(", loadBalancing: {sharing}")))?;
        shop.is_ready(&object(&readers), "InSync")?;
        let received = shop.spread(&clients, &topic, &readers)?;
        ensure!(received == receiving, "{sharing}: {received} of {CONSUMERS} consumers received");
    }
    Ok(())
}

#[test]
fn a_message_of_another_type_than_the_topics_is_refused() -> Result<()> {
    let shop = Shop::ready()?;
    let clients = shop.clients()?;
    for (topic, type_, right, wrong) in [
        ("only-normal", "Normal", "--type normal", "--type fifo"),
        ("only-fifo", "FIFO", "--type fifo", "--type normal"),
        ("only-delay", "Delay", "--type delay --delay-ms 100", "--type normal"),
    ] {
        shop.topic(topic, type_)?;
        let send = |what: &str| {
            let command =
                format!("produce --protocol grpc --endpoint {GRPC} --topic {topic} --run {topic} --count 1 {what}");
            clients.summary(Client::Java, &command)
        };
        // First what must go, so that a refusal is not a route that is not there yet.
        send(&format!("{right} --attempts 20"))?;
        ensure!(send(wrong).is_err(), "{topic} of type {type_} took a message sent with {wrong}");
    }
    Ok(())
}

#[test]
fn lag_clients_and_subscriptions_are_in_the_status_and_a_reset_of_offsets_brings_messages_back() -> Result<()> {
    let shop = Shop::ready()?;
    let clients = shop.clients()?;
    shop.topic("counted", "Normal")?;
    shop.namespace.apply(&group("counted-readers", "counted", ""))?;
    shop.is_ready(&object("counted-readers"), "InSync")?;
    let send = |run: &str, count: u32| {
        let command = format!(
            "produce --protocol grpc --endpoint {GRPC} --topic counted --run {run} --count {count} --type normal --attempts 5"
        );
        clients.summary(Client::Java, &command)
    };
    let read = |run: &str, count: u32| {
        let command = format!(
            "consume --protocol grpc --endpoint {GRPC} --topic counted --consumer-group counted-readers --run {run} --expect {count} --timeout 120 --quiet --mode simple"
        );
        clients.summary(Client::Java, &command)
    };
    send("first", 20)?;
    read("first", 20)?;
    send("second", 30)?;
    let figures = shop.figures("counted-readers", "30 messages wait", |f| f["lag"] == 30)?;
    ensure!(figures["topics"][0]["topic"] == "counted" && figures["deadLetters"] == 0, "{figures}");
    let table = shop.namespace.kubectl(&["get", &object("counted-readers")])?;
    let head = table.lines().next().unwrap_or_default();
    ensure!(["LAG", "CLIENTS", "DLQ"].iter().all(|column| head.contains(column)), "{table}");
    read("second", 30)?;
    shop.figures("counted-readers", "nothing waits", |f| f["lag"] == 0)?;
    // Back to the beginning: what was read comes again.
    shop.namespace.kubectl(&[
        "patch",
        &object("counted-readers"),
        "--type=merge",
        "-p",
        r#"{"spec": {"resetOffset": {"to": "Earliest"}}}"#,
    ])?;
    until("the reset is carried out", FIGURES, || {
        let reset = shop.namespace.get(&object("counted-readers"))?["status"]["resetOffset"].clone();
        Ok(Answer::when(reset["done"] == true, (), || reset.to_string()))
    })?;
    let again = read("first", 20)?;
    ensure!(again["distinct"] == 20, "{again}");
    Ok(())
}

#[test]
fn clients_that_subscribe_otherwise_than_declared_are_told_while_they_are_there() -> Result<()> {
    let shop = Shop::ready()?;
    let clients = shop.clients()?;
    shop.topic("expected", "Normal")?;
    shop.topic("subscribed", "Normal")?;
    shop.namespace.apply(&group("surprising", "expected", ""))?;
    shop.is_ready(&object("surprising"), "InSync")?;
    let mut child = clients.serve()?;
    let mut stdin = child.stdin.take().context("no input")?;
    writeln!(
        stdin,
        "c consume --protocol grpc --endpoint {GRPC} --topic subscribed --consumer-group surprising --run r --until-idle 200000 --timeout 300 --quiet --mode push --abandon"
    )?;
    let figures = shop.figures("surprising", "the client is seen", |f| f["clients"] == 1)?;
    ensure!(figures["clientKinds"][0]["protocol"] == "gRPC", "{figures}");
    shop.is_ready(&object("surprising"), "SubscriptionMismatch")?;
    writeln!(stdin, "stop c")?;
    drop(stdin);
    child.wait()?;
    Ok(())
}
