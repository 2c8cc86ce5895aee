//! Broker groups and replicas come and go while clients of both protocols work.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::audit::{Audit, accounted, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, FLOWS, GRPC, ground, topic_and_group};
use gantry_e2e::clients::{Client, Clients};
use gantry_e2e::engine::{BROKER, Engine, NAME_SERVER};
use gantry_e2e::faults::Target;
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};
use gantry_remoting::broker::GetBrokerConfig;
use gantry_remoting::cluster::GetClusterInfo;
use serde_json::Value;

use crate::shop::START;

/// A group's three JVMs start, copy or are read empty.
const SCALE: Duration = Duration::from_secs(600);

/// Patches `spec.brokers`.
pub fn patch(namespace: &Namespace, brokers: &str) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"brokers\":{brokers}}}}}");
    namespace.kubectl(&["patch", "brokercluster", CLUSTER, "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Waits until there are that many groups of that many replicas, and nothing else is to be done.
pub fn settled(namespace: &Namespace, what: &str, groups: usize, replicas: usize) -> Result<Value> {
    until(what, SCALE, || {
        let object = namespace.get(&format!("brokercluster/{CLUSTER}"))?;
        let status = &object["status"];
        let is = |type_: &str, wanted: &str| {
            status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == type_ && c["status"] == wanted)
        };
        let has: Vec<usize> = status["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|g| g["replicas"].as_array().map_or(0, Vec::len))
            .collect();
        let done = has == vec![replicas; groups]
            && is("Progressing", "False")
            && is("Degraded", "False")
            && status["observedGeneration"] == object["metadata"]["generation"];
        let said = format!("groups of {has:?}; {}; {}", status["conditions"], status["holds"]);
        Ok(Answer::when(done, object, || said))
    })
}

#[test]
fn a_group_comes_and_goes_and_no_message_is_skipped_or_left_behind() -> Result<()> {
    let namespace = ground(2, &FLOWS[..4], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    patch(&namespace, "{\"groups\":2}")?;
    let grown = settled(&namespace, "there are two groups", 2, 2)?;
    audit.until_received(Duration::from_secs(120))?;
    // The new one is really used.
    let master = grown["status"]["groups"][1]["master"].as_str().context("the new group has no master")?.to_owned();
    let address = format!("{master}.ha-broker.ha:10911");
    until("the new group has messages", Duration::from_secs(120), || {
        let status =
            namespace.kubectl(&["exec", &master, "--", "rocketmq", "admin", "brokerStatus", "-b", &address])?;
        let today = status.lines().find(|l| l.starts_with("msgPutTotalTodayNow")).unwrap_or_default().to_owned();
        let count: u64 = today.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok(Answer::when(count > 0, (), || today))
    })?;
    patch(&namespace, "{\"groups\":1}")?;
    settled(&namespace, "there is one group again", 1, 2)?;
    let sets = namespace
        .list("statefulset", &format!("app.kubernetes.io/instance={CLUSTER},app.kubernetes.io/component=broker"))?;
    ensure!(sets.len() == 1, "{} broker StatefulSets are left", sets.len());
    audit.until_received(Duration::from_secs(120))?;
    nothing_lost(&audit.finish()?)
}

#[test]
fn replicas_come_and_go_one_at_a_time() -> Result<()> {
    let namespace = ground(2, &FLOWS[..2], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    patch(&namespace, "{\"replicas\":3}")?;
    settled(&namespace, "there are three replicas", 1, 3)?;
    patch(&namespace, "{\"replicas\":2}")?;
    settled(&namespace, "there are two replicas again", 1, 2)?;
    audit.until_received(Duration::from_secs(120))?;
    nothing_lost(&audit.finish()?)
}

/// The controllers miss a broker that ends in good order after seconds, and elect it when the master dies in these.
#[test]
fn a_master_that_dies_while_the_other_replica_goes_costs_no_message_and_no_hand() -> Result<()> {
    let namespace = ground(2, &FLOWS[..2], START)?;
    let clients = Clients::start(&namespace)?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    let done = (|| {
        patch(&namespace, "{\"replicas\":1}")?;
        until("the second replica is told to go", SCALE, || {
            let pods = namespace.list("pod", "app.kubernetes.io/component=broker")?;
            let going = pods.iter().find(|p| !p["metadata"]["deletionTimestamp"].is_null());
            Ok(Answer::when(going.is_some(), (), || format!("{} brokers, none of them goes", pods.len())))
        })?;
        println!("{}", target.kill("ha-broker-0-0")?);
        // The one that was killed is the one that is declared: it must get everything that the other one has before that goes for good.
        let settled = settled(&namespace, "there is one replica, and it serves", 1, 1)?;
        println!("after {} masters", settled["status"]["groups"][0]["epoch"]);
        audit.until_received(Duration::from_secs(120))?;
        patch(&namespace, "{\"replicas\":2}")?;
        self::settled(&namespace, "there are two replicas again", 1, 2).map(drop)
    })();
    accounted(done, audit.finish())
}

/// The group that comes and goes.
const GOES: &str = "ha-broker-1";
/// Messages for somebody who is away.
const AWAY: u32 = 40;
/// Messages that nobody gets for a while.
const LATER: u32 = 8;

fn produce(clients: &Clients<'_>, topic: &str, run: &str, count: u32, more: &str) -> Result<()> {
    let endpoint = GRPC.1;
    let command = format!(
        "produce --protocol grpc --endpoint {endpoint} --topic {topic} --run {run} --count {count} --attempts 5 --timeout-ms 10000 {more}"
    );
    clients.run(Client::Java, &command).map(drop)
}

fn consume(clients: &Clients<'_>, topic: &str, run: &str, count: u32) -> Result<()> {
    let endpoint = GRPC.1;
    let command = format!(
        "consume --protocol grpc --endpoint {endpoint} --topic {topic} --consumer-group {topic}-readers --run {run} --expect {count} --timeout 420"
    );
    clients.run(Client::Java, &command).map(drop)
}

/// Waits until the status says of the group that goes what is looked for.
fn drain_says(namespace: &Namespace, what: &str, says: impl Fn(&Value) -> bool) -> Result<()> {
    until(what, SCALE, || {
        let status = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"].clone();
        let group = status["groups"].as_array().into_iter().flatten().find(|g| g["name"] == GOES).cloned();
        let group = group.with_context(|| format!("there is no {GOES}"))?;
        Ok(Answer::when(says(&group), (), || group.to_string()))
    })
}

/// Nothing of the group is left: no volume, and neither controllers nor name servers know it.
fn is_forgotten(namespace: &Namespace) -> Result<()> {
    let engine = Engine::of(namespace);
    until(&format!("nothing is left of {GOES}"), SCALE, || {
        let claims = namespace.kubectl(&["get", "pvc", "-o", "name"])?;
        ensure!(!claims.contains(GOES), "{claims}");
        let known = engine.sync_state(&["ha-broker-0".into(), GOES.into()])?;
        ensure!(known.contains_key("ha-broker-0"), "the controllers know no group");
        ensure!(!known.contains_key(GOES), "the controllers know {known:?}");
        for server in engine.members("nameserver")? {
            let brokers = server.ask(NAME_SERVER, &GetClusterInfo)?.brokers;
            ensure!(
                brokers.contains_key("ha-broker-0") && !brokers.contains_key(GOES),
                "{} has {brokers:?}",
                server.pod
            );
        }
        Ok(Answer::Yes(()))
    })
}

/// Every broker takes messages.
pub fn all_brokers_are_open(namespace: &Namespace) -> Result<()> {
    for broker in Engine::of(namespace).members("broker")? {
        let config = broker.ask(BROKER, &GetBrokerConfig)?;
        let permission = config.get("brokerPermission").cloned().unwrap_or_default();
        ensure!(permission == "6", "{} has brokerPermission={permission}", broker.pod);
    }
    Ok(())
}

#[test]
fn a_group_waits_for_those_who_are_away_can_be_called_back_and_leaves_nothing_behind() -> Result<()> {
    let namespace = ground(2, &FLOWS[..2], START)?;
    topic_and_group(&namespace, "ha-away", "Normal", "Concurrent", START)?;
    topic_and_group(&namespace, "ha-later", "Delay", "Concurrent", START)?;
    let clients = Clients::start(&namespace)?;
    patch(&namespace, "{\"groups\":2}")?;
    settled(&namespace, "there are two groups", 2, 2)?;
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    let done = comes_back_and_goes(&namespace, &clients);
    accounted(done, audit.finish())
}

fn comes_back_and_goes(namespace: &Namespace, clients: &Clients<'_>) -> Result<()> {
    // They have been here before: the brokers know them.
    for topic in ["ha-away", "ha-later"] {
        let delay = if topic == "ha-later" { "--type delay --delay-ms 1000" } else { "" };
        produce(clients, topic, "before", AWAY, delay)?;
        consume(clients, topic, "before", AWAY)?;
    }
    produce(clients, "ha-away", "away", AWAY, "")?;
    produce(clients, "ha-later", "later", LATER, "--type delay --delay-ms 240000")?;
    patch(namespace, "{\"groups\":1}")?;
    drain_says(namespace, "the status names who is away, and messages to come", |group| {
        let consumers = group["drain"]["consumers"].as_array().cloned().unwrap_or_default();
        let away = consumers.iter().find(|c| c["group"] == "ha-away-readers");
        group["phase"] == "Draining"
            && away.is_some_and(|c| c["messages"].as_u64() > Some(0))
            && group["drain"]["delayed"].as_u64() > Some(0)
    })?;
    // Called back, it takes messages as before.
    patch(namespace, "{\"groups\":2}")?;
    settled(namespace, "both groups are open again", 2, 2)?;
    drain_says(namespace, "it is open", |group| group["phase"].is_null() || group["phase"] == "Open")?;
    all_brokers_are_open(namespace)?;
    let claims = namespace.kubectl(&["get", "pvc", "-o", "name"])?;
    ensure!(claims.contains(GOES), "its volumes are not to be seen in {claims}");
    // Then for good: it waits until everything has been read.
    patch(namespace, "{\"groups\":1}")?;
    consume(clients, "ha-away", "away", AWAY)?;
    consume(clients, "ha-later", "later", LATER)?;
    settled(namespace, "there is one group again", 1, 2)?;
    is_forgotten(namespace)
}

/// Pods of brokers and how often their processes started; without one that was declared away and still ends.
fn starts(namespace: &Namespace) -> Result<BTreeSet<String>> {
    let mut pods = namespace.list("pods", "app.kubernetes.io/component=broker")?;
    pods.retain(|p| p["metadata"]["deletionTimestamp"].is_null());
    let start = |p: &Value| format!("{} {}", p["metadata"]["uid"], p["status"]["containerStatuses"][0]["restartCount"]);
    Ok(pods.iter().map(start).collect())
}

#[test]
fn volumes_grow_while_clients_work_and_no_broker_restarts() -> Result<()> {
    let namespace = ground(2, &FLOWS[..2], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    let done = grow(&namespace, &audit);
    let accounts = audit.finish();
    let failed: usize = accounts.iter().flatten().map(|a| a.failed.len()).sum();
    accounted(done, accounts)?;
    ensure!(failed == 0, "{failed} sends failed");
    // A smaller size would be refused: the next test makes a cluster of its own.
    namespace.kubectl(&["delete", "brokercluster", CLUSTER, "--wait=true", "--timeout=120s"])?;
    Ok(())
}

fn grow(namespace: &Namespace, audit: &Audit<'_>) -> Result<()> {
    let before = starts(namespace)?;
    patch(namespace, "{\"storage\":{\"size\":\"2Gi\"}}")?;
    for replica in 0..2 {
        let claim = format!("pvc/data-ha-broker-0-{replica}");
        until(&format!("{claim} asks for more"), Duration::from_secs(120), || {
            let asked = namespace.get(&claim)?["spec"]["resources"]["requests"]["storage"].clone();
            Ok(Answer::when(asked == "2Gi", (), || asked.to_string()))
        })?;
        // Volumes of the Kubernetes under test are directories: what a driver's resizer says at the end is said here.
        let said = r#"{"status":{"capacity":{"storage":"2Gi"}}}"#;
        namespace.kubectl(&["patch", &claim, "--subresource=status", "--type=merge", "-p", said])?;
    }
    settled(namespace, "volumes have grown", 1, 2)?;
    audit.until_received(Duration::from_secs(120))?;
    let after = starts(namespace)?;
    ensure!(after == before, "brokers were {before:?} and are {after:?}");
    Ok(())
}
