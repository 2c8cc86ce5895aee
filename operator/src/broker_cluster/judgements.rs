//! The three conditions of a cluster: what is so, why, and a sentence about it. Pure.

use std::collections::BTreeSet;

use gantry_crds::condition::Truth;
use gantry_crds::names::Component;
use gantry_crds::status::{GroupPhase, GroupStatus, ReplicaState, UpgradePhase};
use gantry_crds::{APPROVE_PLAN_ANNOTATION, Reason};

use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::counts::{Count, Counts, all, shown};
use crate::broker_cluster::steps::Outcome;
use crate::broker_cluster::steps::{Plan, Step};
use crate::broker_cluster::view::Observed;
use crate::child::Write;

/// A condition's status, reason and message.
pub(super) type Judgement = (Truth, Reason, String);

/// The engine's reason why the counts of replicas are not known, where they are not.
fn unknown(cluster: &Cluster, observed: &Observed, counts: &Counts) -> Option<Judgement> {
    if counts.in_sync.0.is_some() {
        return None;
    }
    let unknown = cluster.groups().iter().find_map(|g| observed.engine.sync(g).err())?;
    Some((Truth::Unknown, Reason::from_name(&unknown.reason), unknown.message))
}

/// Can clients send to and receive from every group?
pub(super) fn ready(cluster: &Cluster, observed: &Observed, counts: &Counts, outcome: &Outcome<'_>) -> Judgement {
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
            let message = format!("broker group {g} has no master that serves{}", waited_for(cluster, observed, g));
            let message = with_trouble(message, observed, Component::Broker);
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

/// Whom a group without a master waits for, where not every replica may be it: nobody else is known to have all messages.
fn waited_for(cluster: &Cluster, observed: &Observed, group: &str) -> String {
    let Some(sync) = observed.engine.sync(group).ok().filter(|s| s.master.is_none()) else { return String::new() };
    let copies: BTreeSet<&str> = sync.identities.iter().filter(|i| i.in_sync).map(|i| i.pod.as_str()).collect();
    if copies.is_empty() || cluster.pods_of(group).iter().all(|pod| copies.contains(pod.as_str())) {
        return String::new();
    }
    let copies: Vec<&str> = copies.into_iter().collect();
    format!(" and waits for {}: nobody else is in sync", copies.join(", "))
}

/// The sentence, with what Kubernetes says about the first pod of the role that does not run.
fn with_trouble(sentence: String, observed: &Observed, component: Component) -> String {
    let troubled = observed.pods.iter().find(|p| p.component == component && p.trouble.is_some());
    match troubled {
        Some(p) => format!("{sentence}; pod {}: {}", p.name, p.trouble.as_deref().unwrap_or_default()),
        None => sentence,
    }
}

pub(super) fn progressing(
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

pub(super) fn degraded(
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
