//! What a topic's declaration means to clients as it changes: queues that go, permissions, deletion that waits for readers.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::{Client, Clients};
use gantry_e2e::wait::{Answer, until};

use crate::consumption::{NAME_SERVERS, group, object};
use crate::shop::{GRPC, Shop};

const SOON: Duration = Duration::from_secs(60);
/// Queues that are to go are quiet after 60 s; passes come every 20 s, and the rest is this machine's.
const DRAINED: Duration = Duration::from_secs(180);

fn topic(name: &str) -> String {
    format!("topics.rocketmq.gantry.dev/{name}")
}

impl Shop {
    fn patch(&self, name: &str, spec: &str) -> Result<()> {
        let patch = format!(r#"{{"spec": {spec}}}"#);
        self.namespace.kubectl(&["patch", &topic(name), "--type=merge", "-p", &patch]).map(drop)
    }

    /// Queues to read and to write.
    fn both(&self, topic: &str) -> Result<(Option<u64>, Option<u64>)> {
        Ok((self.route(topic, "readQueueNums")?, self.route(topic, "writeQueueNums")?))
    }
}

fn send(clients: &Clients<'_>, topic: &str, count: u32) -> Result<()> {
    let command = format!(
        "produce --protocol grpc --endpoint {GRPC} --topic {topic} --run {topic} --count {count} --type normal --attempts 20"
    );
    clients.summary(Client::Java, &command).map(drop)
}

fn receive(clients: &Clients<'_>, topic: &str, count: u32) -> Result<()> {
    let command = format!(
        "consume --protocol grpc --endpoint {GRPC} --topic {topic} --consumer-group {topic}-readers --run {topic} --expect {count} --timeout 120 --quiet --mode simple"
    );
    clients.summary(Client::Java, &command).map(drop)
}

#[test]
fn queues_that_go_are_read_first_and_no_message_is_lost() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.namespace.apply(
        "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {name: shrinking}, spec: {clusterRef: {name: shop}, queues: 8}}",
    )?;
    shop.namespace.apply(&group("shrinking-readers", "shrinking", ""))?;
    shop.is_ready(&topic("shrinking"), "InSync")?;
    shop.is_ready(&object("shrinking-readers"), "InSync")?;
    // One after the other goes to one queue after the other: all eight hold some.
    send(&clients, "shrinking", 80)?;
    shop.patch("shrinking", r#"{"queues": 4}"#)?;
    shop.is_ready(&topic("shrinking"), "Draining")?;
    let queues = shop.both("shrinking")?;
    ensure!(queues == (Some(8), Some(4)), "while they are read there are {queues:?} queues to read and to write");
    receive(&clients, "shrinking", 80)?;
    until("they are gone", DRAINED, || {
        let status = shop.namespace.get(&topic("shrinking"))?["status"].to_string();
        Ok(Answer::when(status.contains("InSync"), (), || status))
    })?;
    let queues = shop.both("shrinking")?;
    ensure!(queues == (Some(4), Some(4)), "in the end there are {queues:?} queues to read and to write");
    Ok(())
}

#[test]
fn a_topic_that_is_read_only_takes_no_message_until_it_is_read_write_again() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    shop.topic("sealed", "Normal")?;
    let mut session = clients.session()?;
    let mut sent = 0;
    // Each is a new client that asks name servers for the route; a proxy would keep the one that it had for a while.
    let mut send = || {
        sent += 1;
        let name = format!("p{sent}");
        session.say(&format!(
            "{name} produce --protocol remoting --endpoint {NAME_SERVERS} --topic sealed --run {name} --count 1 --type normal"
        ))?;
        let summary = session.event(&name, "summary")?;
        let said =
            if summary["ok"] == true { None } else { Some(session.event(&name, "failed")?["error"].to_string()) };
        anyhow::Ok(said)
    };
    for (permission, refusal) in
        [("ReadWrite", None), ("ReadOnly", Some("No route info of this topic")), ("ReadWrite", None)]
    {
        shop.patch("sealed", &format!(r#"{{"permission": "{permission}"}}"#))?;
        shop.namespace.wait_for_condition(&topic("sealed"), "Ready", "True", SOON)?;
        until(&format!("a topic that is {permission} is so to a client"), SOON, || {
            let said: Option<String> = send()?;
            let right = match (&said, refusal) {
                (None, None) => true,
                (Some(said), Some(sentence)) => said.contains(sentence),
                _ => false,
            };
            Ok(Answer::when(right, (), || said.unwrap_or_else(|| "it was taken".into())))
        })?;
    }
    session.end()
}

#[test]
fn a_topic_that_is_deleted_if_empty_stays_with_its_messages_and_goes_without_any() -> Result<()> {
    let shop = Shop::together()?;
    let clients = shop.clients()?;
    for name in ["leaving", "leaving-empty"] {
        shop.namespace.apply(&format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}, spec: {{clusterRef: {{name: shop}}, queues: 2, deletionPolicy: DeleteIfEmpty}}}}"
        ))?;
        shop.is_ready(&topic(name), "InSync")?;
    }
    shop.namespace.apply(&group("leaving-readers", "leaving", ""))?;
    shop.is_ready(&object("leaving-readers"), "InSync")?;
    send(&clients, "leaving", 10)?;
    // That they were read changes nothing: another group may read them until their retention ends.
    receive(&clients, "leaving", 10)?;
    shop.namespace.kubectl(&["delete", &topic("leaving"), &topic("leaving-empty"), "--wait=false"])?;
    let gone = |name: &str| {
        until(&format!("{name} goes"), SOON, || {
            let left = shop.namespace.list("topics.rocketmq.gantry.dev", "")?;
            let said = left.iter().find(|t| t["metadata"]["name"] == name).map(|t| t["status"].to_string());
            Ok(Answer::when(said.is_none(), (), || said.unwrap_or_default()))
        })?;
        ensure!(shop.queues(name)?.is_none(), "the engine still has {name}");
        Ok(())
    };
    gone("leaving-empty")?;
    until("it stays, and says why", SOON, || {
        let said = shop.namespace.get(&topic("leaving"))?["status"]["conditions"].to_string();
        Ok(Answer::when(said.contains("NotEmpty") && said.contains("holds 10 messages"), (), || said))
    })?;
    ensure!(shop.queues("leaving")? == Some(2), "it is gone with its messages");
    // As the message says to who means it.
    shop.patch("leaving", r#"{"deletionPolicy": "Delete"}"#)?;
    gone("leaving")
}
