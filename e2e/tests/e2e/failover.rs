//! Every single failure, one after the other, under an audit of all message types: nothing acknowledged is lost, and all becomes whole by itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::audit::{Audit, accounted};
use gantry_e2e::chaos::{CALM, CLUSTER, Episode, FLOWS, ground, until_whole};
use gantry_e2e::checks;
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target, nodes};
use gantry_e2e::target::kill_operator;
use gantry_e2e::wait::{Answer, until};

use crate::scale::{all_brokers_are_open, patch, settled};
use crate::shop::START;

/// Five minutes is the least that `giveUpAfter` takes; before that the node is missed and its pods are asked to leave, after it a log is copied.
const GIVEN_UP: Duration = Duration::from_secs(900);

#[test]
fn no_single_failure_loses_an_acknowledged_message() -> Result<()> {
    // FAULTS names some of them, with a semicolon between, for somebody who works on just these.
    let faults = Fault::chosen(&std::env::var("FAULTS").unwrap_or_default())?;
    ensure!(
        nodes()?.len() >= 3 || !faults.iter().any(|f| f.needs_nodes()),
        "some failures take three nodes: make e2e-faults brings them up"
    );
    let namespace = ground(3, &FLOWS[..CALM], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..CALM])?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    let done = faults.into_iter().enumerate().try_for_each(|(nth, fault)| {
        let episode = Episode::run(&audit, target, fault, nth).context(fault.name())?;
        println!("{episode}");
        Ok(())
    });
    accounted(done, audit.finish())?;
    namespace.kubectl(&["delete", "brokercluster", CLUSTER, "--wait=false"])?;
    Ok(())
}

#[test]
fn a_replica_on_a_node_that_is_gone_for_good_is_given_up_and_made_anew() -> Result<()> {
    ensure!(nodes()?.len() >= 3, "it takes three nodes: make e2e-faults brings them up");
    let namespace = ground(3, &FLOWS[..2], START)?;
    let clients = Clients::start(&namespace)?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    patch(&namespace, "{\"storage\":{\"giveUpAfter\":\"5m\"}}")?;
    until_whole(target, "a time to give replicas up", Instant::now())?;
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    let done = give_up(target, &audit);
    accounted(done, audit.finish())?;
    patch(&namespace, "{\"storage\":{\"giveUpAfter\":null}}")
}

fn give_up(target: Target<'_>, audit: &Audit<'_>) -> Result<()> {
    let namespace = target.namespace;
    let before = checks::events(namespace, "ReplicaGivenUp")?;
    let killed = Fault::KillNode.inject(target, 0)?;
    println!("{}", killed.what);
    until("a replica is given up and all three are in sync without the node", GIVEN_UP, || {
        let said = checks::events(namespace, "ReplicaGivenUp")?;
        let in_sync = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"]["summary"]["inSync"].clone();
        let done = said.difference(&before).count() == 1 && in_sync == "3/3";
        Ok(Answer::when(done, (), || format!("in sync {in_sync}, Events {said:?}")))
    })?;
    audit.until_received(Duration::from_secs(120))?;
    // What was on the node must not come back beside the replica that took its place.
    killed.heal();
    until_whole(target, "the node is back", Instant::now())?;
    // The tests that follow want a group whose replicas are on nodes of their own.
    target.spread()?;
    checks::one_identity_each(namespace)?;
    checks::metadata_is_as_declared(namespace)
}

#[test]
fn an_operator_that_dies_while_a_master_is_drained_leaves_no_broker_closed() -> Result<()> {
    let namespace = ground(2, &FLOWS[..4], START)?;
    patch(&namespace, "{\"groups\":2}")?;
    settled(&namespace, "there are two groups", 2, 2)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    let done = die_while_draining(target, &audit);
    let accounts = audit.finish();
    let failed: Vec<String> = accounts.iter().flatten().flat_map(|a| a.failed.clone()).collect();
    accounted(done, accounts)?;
    ensure!(failed.is_empty(), "{} sends failed: {failed:?}", failed.len());
    patch(&namespace, "{\"groups\":1}")?;
    settled(&namespace, "there is one group again", 1, 2).map(drop)
}

fn die_while_draining(target: Target<'_>, audit: &Audit<'_>) -> Result<()> {
    let namespace = target.namespace;
    let rolled = Fault::Roll.inject(target, 7)?;
    until("a master takes no new messages, because it is to be restarted", Duration::from_secs(600), || {
        let groups = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"]["groups"].clone();
        let closed = groups.as_array().into_iter().flatten().any(|g| !g["closedSince"].is_null());
        Ok(Answer::when(closed, (), || groups.to_string()))
    })?;
    kill_operator()?;
    until_whole(target, &rolled.what, Instant::now())?;
    audit.until_received(Duration::from_secs(120))?;
    all_brokers_are_open(namespace)
}
