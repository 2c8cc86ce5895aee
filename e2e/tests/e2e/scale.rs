//! Broker groups and replicas come and go while clients of both protocols work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::audit::{Audit, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};
use serde_json::Value;

use crate::shop::START;

/// A group's three JVMs start, copy or are read empty.
const SCALE: Duration = Duration::from_secs(600);

fn patch(namespace: &Namespace, brokers: &str) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"brokers\":{brokers}}}}}");
    namespace.kubectl(&["patch", "brokercluster", CLUSTER, "--type=merge", "-p", &patch])?;
    Ok(())
}

fn settled(namespace: &Namespace, what: &str, groups: usize, replicas: usize) -> Result<Value> {
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
