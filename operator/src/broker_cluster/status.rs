//! What is reported: computed from what the server and the engine answered, also when something failed. Pure.

use gantry_crds::condition::{ConditionType, Truth, condition, keep_transition_times};
use gantry_crds::names::{self, Component};
use gantry_crds::status::{
    BrokerClusterStatus, EndpointStatus, GroupPhase, GroupStatus, HoldStatus, ReplicaState, ReplicaStatus, UpgradePhase,
};
use gantry_crds::{APPROVE_PLAN_ANNOTATION, BrokerCluster, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::broker_cluster::counts::{Count, Counts, all, shown};
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::parse::{Cluster, Mode};
use crate::broker_cluster::plan::{Plan, Step};
use crate::broker_cluster::view::Observed;
use crate::broker_cluster::{extent, progress};
use crate::child::Write;

/// What one pass over a cluster came to.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Why applying it stopped, where it did: reason and sentence.
    pub failure: Option<(Reason, String)>,
}

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

/// A condition's status, reason and message.
type Judgement = (Truth, Reason, String);

/// The engine's reason why the counts of replicas are not known, where they are not.
fn unknown(cluster: &Cluster, observed: &Observed, counts: &Counts) -> Option<Judgement> {
    if counts.in_sync.0.is_some() {
        return None;
    }
    let unknown = cluster.groups().iter().find_map(|g| observed.engine.sync(g).err())?;
    Some((Truth::Unknown, Reason::from_name(&unknown.reason), unknown.message))
}

/// Can clients send to and receive from every group?
fn ready(cluster: &Cluster, observed: &Observed, counts: &Counts, outcome: &Outcome<'_>) -> Judgement {
    if counts.name_servers.0 == Some(0) {
        return (Truth::False, Reason::NameServersNotReady, "no name server is ready".into());
    }
    if let Some(unknown) = cluster.groups().iter().find_map(|g| observed.engine.sync(g).err()) {
        let broker_ready = observed.pods.iter().any(|p| p.component == Component::Broker && p.ready);
        return match &observed.engine.controller_leader {
            Ok(None) => (
                Truth::False,
                Reason::NoControllerLeader,
                with_trouble("the controllers have no leader".into(), observed, Component::Controller),
            ),
            // With a broker that serves and nobody to ask, clients may well be fine.
            _ if broker_ready => (Truth::Unknown, Reason::from_name(&unknown.reason), unknown.message),
            _ => {
                (Truth::False, Reason::NoMaster, with_trouble("no broker is ready".into(), observed, Component::Broker))
            }
        };
    }
    if let Some(lost) = outcome.plan.holds.iter().find(|h| h.reason() == Reason::CopiesLost) {
        return (Truth::False, Reason::CopiesLost, lost.to_string());
    }
    if !all((counts.groups.0, counts.groups.1 - counts.on_their_way)) {
        return not_serving(cluster, observed, outcome.plan);
    }
    if counts.proxies.0 == Some(0) {
        return (
            Truth::False,
            Reason::ProxiesNotReady,
            with_trouble("no proxy is ready".into(), observed, Component::Proxy),
        );
    }
    if counts.all() {
        return (Truth::True, Reason::AsDeclared, "all that is declared serves".into());
    }
    let message = if counts.on_their_way > 0 {
        "every broker group takes messages but those that are being prepared or removed"
    } else {
        "every broker group takes messages, with less redundancy than declared"
    };
    (Truth::True, Reason::Serving, message.into())
}

fn not_serving(cluster: &Cluster, observed: &Observed, plan: &Plan) -> Judgement {
    let with_master = |g: &&String| {
        let master = observed.engine.sync(g).ok().and_then(|s| s.master.clone());
        master.is_some_and(|m| observed.pods.iter().any(|p| p.name == m && p.ready))
    };
    match cluster.groups().iter().find(|g| !with_master(g) && !plan.phases.contains_key(*g)) {
        Some(g) => {
            let message =
                with_trouble(format!("broker group {g} has no master that serves"), observed, Component::Broker);
            (Truth::False, Reason::NoMaster, message)
        }
        None => {
            let message = format!(
                "a broker group has fewer than {} replicas in sync and refuses messages",
                cluster.brokers.min_in_sync
            );
            (Truth::False, Reason::NotEnoughInSync, message)
        }
    }
}

/// The sentence, with what Kubernetes says about the first pod of the role that does not run.
fn with_trouble(sentence: String, observed: &Observed, component: Component) -> String {
    let troubled = observed.pods.iter().find(|p| p.component == component && p.trouble.is_some());
    match troubled {
        Some(p) => format!("{sentence}; pod {}: {}", p.name, p.trouble.as_deref().unwrap_or_default()),
        None => sentence,
    }
}

fn progressing(
    cluster: &Cluster,
    observed: &Observed,
    counts: &Counts,
    outcome: &Outcome<'_>,
    groups: &[GroupStatus],
) -> Judgement {
    let plan = outcome.plan;
    match cluster.mode {
        Mode::Paused => return (Truth::False, Reason::Paused, "annotation gantry.dev/paused stops all changes".into()),
        Mode::Plan | Mode::Observe if !plan.is_empty() || !plan.outlook.is_empty() => {
            let sentence = "changes are held by reconcilePolicy: see status.plan".to_owned();
            let approve = |hash| format!("{sentence}; to approve it: annotation {APPROVE_PLAN_ANNOTATION}: {hash}");
            let hash = cluster.plan_hash.as_ref().filter(|_| cluster.mode == Mode::Plan);
            return (Truth::False, Reason::NotApplied, hash.map_or_else(|| sentence.clone(), approve));
        }
        Mode::Plan | Mode::Observe | Mode::Apply => {}
    }
    if let Some(upgrade) = &plan.upgrade {
        let (from, to) = (&upgrade.from, &upgrade.to);
        let now = plan.step.as_ref().map(|s| format!("; {}", doing(s))).unwrap_or_default();
        let progress = &upgrade.progress;
        match upgrade.phase {
            UpgradePhase::Rolling => {
                return (Truth::True, Reason::Rolling, format!("from {from} to {to}: {progress}{now}"));
            }
            UpgradePhase::RollingBack => {
                return (Truth::True, Reason::Rolling, format!("back from {to} to {from}: {progress}{now}"));
            }
            UpgradePhase::Stopped => {
                return (Truth::False, Reason::UpgradeFailed, format!("from {from} to {to}: {progress}, no more will"));
            }
            UpgradePhase::RolledBack => {}
        }
    }
    if !plan.outdated.is_empty() {
        let waiting = || format!("waiting to restart {}", plan.outdated.join(", "));
        let message = plan.step.as_ref().map_or_else(waiting, doing);
        return (Truth::True, Reason::Rolling, message);
    }
    if plan.writes.iter().any(|w| matches!(w, Write::Create { .. })) {
        return (Truth::True, Reason::Creating, format!("{} objects are being created or changed", plan.writes.len()));
    }
    if !plan.writes.is_empty() {
        return (Truth::True, Reason::Applying, format!("{} objects are being changed", plan.writes.len()));
    }
    if let Some(sentence) = growing(plan, observed) {
        return (Truth::True, Reason::Applying, sentence);
    }
    if let Some(group) = groups.iter().rev().find(|g| !g.phase.is_open()) {
        let reason = if group.phase == GroupPhase::Opening { Reason::GroupOpening } else { Reason::GroupDraining };
        let hold = plan.holds.iter().find(|h| h.reason() == reason);
        let phase = group.phase.as_str().to_lowercase();
        return (Truth::True, reason, hold.map_or_else(|| format!("{phase} {}", group.name), ToString::to_string));
    }
    if let Some(call) = plan.calls.first() {
        return (Truth::True, Reason::Applying, call.event().1);
    }
    if let Some(set) = groups.iter().find(|g| g.replicas.len() > usize::try_from(cluster.brokers.replicas).unwrap_or(0))
    {
        let hold = plan.holds.iter().find(|h| h.reason() == Reason::ScaleInHeld);
        let message = hold.map_or_else(|| format!("taking a replica from {}", set.name), ToString::to_string);
        return (Truth::True, Reason::Applying, message);
    }
    // Versions that are not made as declared: the hold says why.
    let held = [Reason::EngineHazard, Reason::UpgradeFailed];
    let kept = (!cluster_runs(cluster, observed)).then(|| plan.holds.iter().find(|h| held.contains(&h.reason())));
    if let Some(hold) = kept.flatten() {
        return (Truth::False, hold.reason(), hold.to_string());
    }
    if counts.all() {
        return (Truth::False, Reason::AsDeclared, "nothing is left to do".into());
    }
    if let Some(unknown) = unknown(cluster, observed, counts) {
        return unknown;
    }
    if let Some(replica) = groups.iter().flat_map(|g| &g.replicas).find(|r| r.state == ReplicaState::CatchingUp) {
        let mebibytes = replica.behind_bytes.unwrap_or(0) >> 20;
        return (Truth::True, Reason::CatchingUp, format!("{} catches up, {mebibytes} MiB behind", replica.pod));
    }
    (Truth::True, Reason::Creating, "waiting for pods to serve".into())
}

/// Do all pods run the declared version?
fn cluster_runs(cluster: &Cluster, observed: &Observed) -> bool {
    !observed.pods.is_empty() && observed.pods.iter().all(|p| p.version == cluster.version)
}

fn doing(step: &Step) -> String {
    match step {
        Step::Restart { pod, .. } => format!("restarting {pod}"),
        Step::Elect { group, to, from, .. } => format!("moving the master of {group} from {from} to {to}"),
        Step::GiveUp { pod, .. } => format!("giving up {pod}, its node is gone"),
    }
}

/// What is being done to volumes, where something is: asked for, or asked for and not there yet.
fn growing(plan: &Plan, observed: &Observed) -> Option<String> {
    if let Some(g) = plan.growths.first() {
        return Some(format!("growing {} from {} to {}", g.claim, g.from, g.to));
    }
    let size = crate::quantity::parse;
    observed.claims.iter().find_map(|c| {
        let has = c.capacity.as_ref()?;
        (size(has)? < size(&c.requested)?)
            .then(|| format!("{} has {has} of {}: its storage has to grow it", c.name, c.requested))
    })
}

/// How full a volume may be without a word, in percent: RocketMQ deletes messages before their time from 85 % on and refuses new ones at 90 %
/// (`diskSpaceCleanForciblyRatio`, `diskSpaceWarningLevelRatio`).
const DISK_PRESSURE: u8 = 80;

fn degraded(
    cluster: &Cluster,
    observed: &Observed,
    counts: &Counts,
    outcome: &Outcome<'_>,
    groups: &[GroupStatus],
) -> Judgement {
    if let Some((reason, message)) = &outcome.failure {
        return (Truth::True, *reason, message.clone());
    }
    let short = |what: &str, (ready, wanted): Count| format!("{} of {wanted} {what}", shown(ready));
    let checks = [
        (counts.name_servers, Component::NameServer, Reason::NameServersMissing, "name servers are ready"),
        (counts.controllers, Component::Controller, Reason::ControllersMissing, "controllers are ready"),
        (counts.in_sync, Component::Broker, Reason::ReplicasNotInSync, "broker replicas are in sync"),
        (counts.proxies, Component::Proxy, Reason::ProxiesMissing, "proxies are ready"),
    ];
    for (count, component, reason, what) in checks {
        if count.0.is_some() && !all(count) {
            return (Truth::True, reason, with_trouble(short(what, count), observed, component));
        }
    }
    if let Ok(None) = observed.engine.controller_leader {
        return (Truth::True, Reason::NoControllerLeader, "the controllers have no leader".into());
    }
    if let Some(unknown) = unknown(cluster, observed, counts) {
        return unknown;
    }
    if let Some((pod, percent)) =
        observed.engine.disks.iter().filter(|(_, p)| **p >= DISK_PRESSURE).max_by_key(|(_, p)| **p)
    {
        let message = format!(
            "the volume of {pod} is {percent} % full: from 85 % on RocketMQ deletes the oldest messages before their time, at 90 % it refuses new ones; write a larger brokers.storage.size or a smaller fileReservedTime"
        );
        return (Truth::True, Reason::DiskPressure, message);
    }
    if let Some(stuck) = stuck(groups) {
        return (Truth::True, Reason::ConsumerStuck, stuck);
    }
    // To wait for consumers, for a new group's offsets, for clients that go elsewhere, or for a turn, is how it should be.
    let expected = [Reason::GroupDraining, Reason::GroupOpening, Reason::HandingOver, Reason::Rolling];
    match outcome.plan.holds.iter().find(|h| !expected.contains(&h.reason())) {
        Some(hold) => (Truth::True, hold.reason(), hold.to_string()),
        None => (Truth::False, Reason::AsDeclared, format!("{} is as declared", cluster.name)),
    }
}

/// Who keeps a broker group from going.
fn stuck(groups: &[GroupStatus]) -> Option<String> {
    let group = groups.iter().find(|g| g.drain.as_ref().is_some_and(|d| d.consumers.iter().any(|c| c.stuck)))?;
    let consumers = group.drain.iter().flat_map(|d| &d.consumers).filter(|c| c.stuck).map(|c| c.group.clone());
    let consumers: Vec<String> = consumers.collect();
    Some(format!(
        "{} can't go: {} does not read on what it holds; start its consumers, or delete it where nobody needs it",
        group.name,
        consumers.join(", ")
    ))
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
