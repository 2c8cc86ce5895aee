//! What is reported: computed from what the server and the engine answered, also when something failed. Pure.

use gantry_crds::condition::{ConditionType, condition, keep_transition_times};
use gantry_crds::names::{self, Component};
use gantry_crds::status::{
    BrokerClusterStatus, EndpointStatus, GroupPhase, GroupStatus, HoldStatus, ReplicaState, ReplicaStatus,
};
use gantry_crds::{BrokerCluster, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::counts::Counts;
use crate::broker_cluster::judgements::{Judgement, degraded, progressing, ready};
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::steps::{Outcome, Plan};
use crate::broker_cluster::view::Observed;
use crate::broker_cluster::{extent, progress};

/// A status for a spec that can't be parsed: what was known stays, Ready and Degraded say why.
#[must_use]
pub fn of_failure(object: &BrokerCluster, reason: Reason, message: &str, now: Time) -> BrokerClusterStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let conditions = vec![
        condition(ConditionType::Ready, false, reason, message, generation, now.clone()),
        condition(ConditionType::Progressing, false, reason, message, generation, now.clone()),
        condition(ConditionType::Degraded, true, reason, message, generation, now),
    ];
    BrokerClusterStatus {
        observed_generation: generation,
        conditions: keep_transition_times(&old.conditions, conditions),
        ..old
    }
}

/// The status of a cluster.
#[must_use]
pub fn status(
    cluster: &Cluster,
    observed: &Observed,
    outcome: &Outcome<'_>,
    old: &BrokerClusterStatus,
    now: &Time,
) -> BrokerClusterStatus {
    let all = extent::existing(cluster, &observed.live);
    let mut groups: Vec<GroupStatus> = all.groups().iter().map(|g| group(&all, observed, g)).collect();
    for g in &mut groups {
        g.phase = outcome.plan.phases.get(&g.name).copied().unwrap_or_default();
        g.closed_since = closed_since(&g.name, observed, outcome.plan, old, now);
        if g.phase == GroupPhase::Draining {
            let before = old.groups.iter().find(|o| o.name == g.name).and_then(|o| o.drain.as_ref());
            g.drain = progress::drain(before, observed.engine.groups.get(&g.name).and_then(|v| v.left.as_ref()), now);
        }
    }
    let counts = Counts::of(cluster, &all, observed, &groups);
    let generation = cluster.generation;
    let is = |type_, (status, reason, message): Judgement| {
        condition(type_, status, reason, message, generation, now.clone())
    };
    let conditions = vec![
        is(ConditionType::Ready, ready(cluster, observed, &counts, outcome)),
        is(ConditionType::Progressing, progressing(cluster, observed, &counts, outcome, &groups)),
        is(ConditionType::Degraded, degraded(cluster, observed, &counts, outcome, &groups)),
    ];
    BrokerClusterStatus {
        observed_generation: generation,
        // Not written from here: see `publish`.
        deletions: old.deletions.clone(),
        metadata_on: old.metadata_on.clone(),
        conditions: keep_transition_times(&old.conditions, conditions),
        version: version(cluster, observed),
        summary: counts.summary(),
        groups,
        controller_leader: observed.engine.controller_leader.clone().ok().flatten(),
        endpoints: endpoints(cluster),
        holds: outcome
            .plan
            .holds
            .iter()
            .map(|h| HoldStatus { reason: h.reason().as_str().into(), message: h.to_string() })
            .collect(),
        // What is not acted on is not decided.
        upgrade: if cluster.mode == Mode::Apply { outcome.plan.upgrade.clone() } else { old.upgrade.clone() },
        plan: outcome.plan.outlook.clone(),
        plan_hash: cluster.plan_hash.clone().filter(|_| !outcome.plan.outlook.is_empty()),
    }
}

fn group(cluster: &Cluster, observed: &Observed, name: &str) -> GroupStatus {
    let sync = observed.engine.sync(name);
    let replicas = cluster
        .pods_of(name)
        .into_iter()
        .map(|pod| {
            let fact = observed.pods.iter().find(|p| p.name == pod);
            let state = match (&sync, fact) {
                (_, None) => ReplicaState::Missing,
                (Err(_), Some(p)) if p.ready => ReplicaState::Unknown,
                (Ok(s), Some(p)) if s.master.as_ref() == Some(&pod) && p.ready => ReplicaState::Master,
                (Ok(s), Some(p)) if s.in_sync.contains(&pod) && p.ready => ReplicaState::InSync,
                (Ok(s), Some(_)) if s.ids.contains_key(&pod) && s.behind.contains_key(&pod) => ReplicaState::CatchingUp,
                (_, Some(_)) => ReplicaState::Starting,
            };
            let behind =
                sync.as_ref().ok().and_then(|s| s.behind.get(&pod)).filter(|_| state == ReplicaState::CatchingUp);
            ReplicaStatus { pod, state, behind_bytes: behind.map(|b| up_to_mebibyte(*b)) }
        })
        .collect();
    GroupStatus {
        name: name.into(),
        master: sync.as_ref().ok().and_then(|s| s.master.clone()),
        epoch: sync.as_ref().ok().map(|s| s.epoch),
        replicas,
        ..GroupStatus::default()
    }
}

/// Since when the master of a group takes no new messages, because it is about to go.
fn closed_since(group: &str, observed: &Observed, plan: &Plan, old: &BrokerClusterStatus, now: &Time) -> Option<Time> {
    let closed = |pod: &&String| observed.engine.live_key(pod, PERMISSION) == Some(CLOSED);
    plan.closing.iter().filter(closed).find(|pod| pod.rsplit_once('-').is_some_and(|(set, _)| set == group))?;
    let before = old.groups.iter().find(|o| o.name == group).and_then(|o| o.closed_since.clone());
    Some(before.unwrap_or_else(|| now.clone()))
}

/// Whole MiB, so that a busy replica does not make a write to the API server of every message.
fn up_to_mebibyte(bytes: i64) -> i64 {
    const MIB: i64 = 1 << 20;
    (bytes.max(0) / MIB + i64::from(bytes % MIB != 0)) * MIB
}

/// The version that brokers run, or `old → new` while they differ.
fn version(cluster: &Cluster, observed: &Observed) -> Option<String> {
    let brokers = observed.pods.iter().filter(|p| p.component == Component::Broker);
    let mut running: Vec<&str> = brokers.map(|p| p.version.as_str()).collect();
    running.sort_unstable();
    running.dedup();
    match running[..] {
        [] => None,
        [v] => Some(v.to_owned()),
        _ => {
            let old = running.into_iter().find(|v| *v != cluster.version).unwrap_or_default();
            Some(format!("{old} → {}", cluster.version))
        }
    }
}

fn endpoints(cluster: &Cluster) -> Vec<EndpointStatus> {
    cluster
        .endpoints
        .iter()
        .map(|e| {
            let service = names::endpoint_service(&cluster.name, &e.name);
            let host = names::service_host(&service, &cluster.namespace, &cluster.domain);
            EndpointStatus {
                name: e.name.clone(),
                grpc: Some(format!("{host}:{}", names::PROXY_GRPC_PORT)),
                remoting: Some(format!("{host}:{}", names::PROXY_REMOTING_PORT)),
            }
        })
        .collect()
}

/// Whether a group that takes messages has a master and too few replicas that follow it: a matter of seconds, in which nothing is acknowledged.
#[must_use]
pub fn waits(status: &BrokerClusterStatus) -> bool {
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
    let led = |g: &GroupStatus| g.master.is_some() && g.replicas.len() > 1;
    ready.is_some_and(|c| c.status == "False" && c.reason == Reason::NotEnoughInSync.as_str())
        && status.groups.iter().any(led)
}

/// Whether a cluster has nothing left to wait for, so that it may be looked at less often.
#[must_use]
pub fn is_settled(status: &BrokerClusterStatus) -> bool {
    status.conditions.iter().any(|c| c.type_ == ConditionType::Progressing.as_str() && c.status == "False")
}
