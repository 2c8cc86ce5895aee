//! All that is to be done until everything is as declared, in order, with what clients may notice: for people who want to see it first. Pure.
//!
//! A plan holds what is to be done now. What follows from it is foreseen here: pods that restart because their StatefulSet is about to change, in the order
//! in which they will; masters that hand over before.

use std::collections::BTreeMap;

use gantry_crds::names::Component;
use gantry_crds::status::{PlannedChange, Risk, UpgradePhase};

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::extent::existing;
use crate::broker_cluster::steps::{Cause, Plan, Step};
use crate::broker_cluster::version::Version;
use crate::broker_cluster::view::{Observed, PodFact};
use crate::child::{ChildKind, Write};
use crate::labels;

/// Most changes that a status holds.
const MOST: usize = 200;

/// The cluster at the end of the way: with the version that it is on the way to.
#[must_use]
pub fn end(cluster: &Cluster, plan: &Plan) -> Cluster {
    let rolls = plan.upgrade.as_ref().is_some_and(|u| u.phase == UpgradePhase::Rolling);
    let mut end = cluster.clone();
    if rolls {
        end.engines = BTreeMap::new();
    }
    end
}

/// What is to be done. `end` is the cluster at the end of the way, `writes` lead there.
#[must_use]
pub fn outlook(
    declared: &Cluster,
    end: &Cluster,
    observed: &Observed,
    plan: &Plan,
    writes: &[Write],
    outdated: &[&PodFact],
) -> Vec<PlannedChange> {
    let (labels, others): (Vec<&Write>, Vec<&Write>) = writes.iter().partition(|w| only_version(w));
    let (sets, others): (Vec<&Write>, Vec<&Write>) = others.into_iter().partition(|w| changes_pods(w));
    let mut changes: Vec<PlannedChange> = others.into_iter().map(|w| written(end, observed, w)).collect();
    if !labels.is_empty() {
        let why = format!("label {}", labels::VERSION);
        changes.push(change("Update", format!("{} objects", labels.len()), Some(why)));
    }
    changes.extend(plan.growths.iter().map(|g| {
        change("Grow", format!("PersistentVolumeClaim/{}", g.claim), Some(format!("from {} to {}", g.from, g.to)))
    }));
    changes.extend(plan.ownerships.iter().map(|o| {
        let why = if o.owned { "it goes with the BrokerCluster" } else { "it stays when the BrokerCluster goes" };
        change("Update", format!("PersistentVolumeClaim/{}", o.claim), Some(why.into()))
    }));
    changes.extend(plan.claims.iter().map(|c| PlannedChange {
        risk: Risk::DataLoss,
        ..change(
            "Delete",
            format!("PersistentVolumeClaim/{}", c.name),
            Some("its replica was declared away, with its volume".into()),
        )
    }));
    changes.extend(plan.calls.iter().map(|c| change(c.action(), c.object(), Some(c.event().1))));
    changes.extend(removals(declared, &existing(declared, &observed.live)));
    changes.extend(restarts(end, observed, plan, &sets, outdated));
    changes.extend(taken(plan.step.as_ref(), &changes));
    let more = changes.len().saturating_sub(MOST);
    if more > 0 {
        changes.truncate(MOST - 1);
        changes.push(change("More", format!("{} more changes", more + 1), None));
    }
    changes
}

/// Does a write change nothing but the label that tells the version?
fn only_version(write: &Write) -> bool {
    let label = format!("metadata.labels.{}", labels::VERSION);
    matches!(write, Write::Update { differences, .. } if *differences == [label])
}

/// Does a write change what pods are made from?
fn changes_pods(write: &Write) -> bool {
    let template = |differences: &[String]| differences.iter().any(|d| d.starts_with("spec.template"));
    matches!(write, Write::Update { differences, .. } if template(differences))
}

fn change(action: &str, object: String, why: Option<String>) -> PlannedChange {
    PlannedChange { action: action.into(), object, why, ..PlannedChange::default() }
}

fn written(cluster: &Cluster, observed: &Observed, write: &Write) -> PlannedChange {
    let object = write.child().to_string();
    match write {
        Write::Create { .. } => change("Create", object, None),
        Write::Update { differences, .. } => change("Update", object, Some(differences.join(", "))),
        Write::Delete { child, .. } if child.kind == ChildKind::StatefulSet => {
            let affects = observed.pods.iter().filter(|p| p.set == child.name).map(|p| p.name.clone()).collect();
            let risk = if cluster.brokers.volume.retain { Risk::None } else { Risk::DataLoss };
            PlannedChange { risk, affects, ..change("Delete", object, Some("its broker group is empty".into())) }
        }
        Write::Delete { .. } => change("Delete", object, None),
    }
}

/// Broker groups and replicas that are declared away, last first.
fn removals(declared: &Cluster, live: &Cluster) -> Vec<PlannedChange> {
    let deleted = if live.brokers.volume.retain { "kept" } else { "deleted" };
    let risk = if live.brokers.volume.retain { Risk::Restart } else { Risk::DataLoss };
    let groups = live.groups();
    let (kept, surplus) = groups.split_at(usize::try_from(declared.brokers.groups).unwrap_or(0).min(groups.len()));
    let group = |g: &String| PlannedChange {
        risk,
        affects: live.pods_of(g),
        ..change(
            "Remove",
            format!("broker group {g}"),
            Some(format!(
                "declared away: it takes no more messages, goes when consumers have read all of them, and its volumes are {deleted}"
            )),
        )
    };
    let mut all: Vec<PlannedChange> = surplus.iter().rev().map(group).collect();
    for g in kept {
        let (is, wanted) = (live.replicas_of(g), declared.brokers.replicas);
        all.extend((wanted.max(0)..is).rev().map(|n| PlannedChange {
            risk,
            affects: vec![format!("{g}-{n}")],
            ..change("Remove", format!("Pod/{g}-{n}"), Some(format!("declared away, its volume is {deleted}")))
        }));
    }
    all
}

/// StatefulSets and the Deployment that change, each before its pods restart, in the order of roles.
fn restarts(
    end: &Cluster,
    observed: &Observed,
    plan: &Plan,
    writes: &[&Write],
    outdated: &[&PodFact],
) -> Vec<PlannedChange> {
    let changing = |set: &str| writes.iter().any(|w| w.child().kind == ChildKind::StatefulSet && w.child().name == set);
    let known = |pod: &PodFact| outdated.iter().any(|o| o.name == pod.name);
    let due = |p: &&PodFact| !p.set.is_empty() && !p.terminating && (known(p) || changing(&p.set));
    let leads = |p: &PodFact| observed.engine.sync(&p.set).is_ok_and(|s| s.master.as_deref() == Some(&p.name));
    let (up, canary) = match &plan.upgrade {
        Some(u) if u.phase == UpgradePhase::Rolling => {
            (Version::of(&u.to) > Version::of(&u.from), Some(u.canary.clone()))
        }
        Some(u) => (Version::of(&u.from) > Version::of(&u.to), None),
        None => (true, None),
    };
    let mut pods: Vec<&PodFact> = observed.pods.iter().filter(due).collect();
    pods.sort_by_key(|p| (canary.as_ref() != Some(&p.set), leads(p), p.ready, p.name.clone()));
    let of_role = |role: Component| -> Vec<PlannedChange> {
        let own = |w: &&&Write| role_of(end, w) == role;
        let sets = writes.iter().filter(own).map(|w| written(end, observed, w));
        let pods = pods.iter().filter(|p| p.component == role).flat_map(|p| restart(end, observed, p, leads(p)));
        sets.chain(pods).chain(writes.iter().filter(own).filter_map(|w| replaced(observed, w))).collect()
    };
    let mut roles = Component::ALL;
    if !up {
        roles.reverse();
    }
    roles.into_iter().flat_map(of_role).collect()
}

fn role_of(end: &Cluster, write: &Write) -> Component {
    let name = &write.child().name;
    Component::ALL.into_iter().find(|c| end.component(*c) == *name).unwrap_or(Component::Broker)
}

/// Kubernetes itself replaces the pods of a Deployment.
fn replaced(observed: &Observed, write: &Write) -> Option<PlannedChange> {
    let proxies = observed.pods.iter().filter(|p| p.component == Component::Proxy).map(|p| p.name.clone());
    (write.child().kind == ChildKind::Deployment).then(|| PlannedChange {
        risk: Risk::Restart,
        affects: proxies.collect(),
        ..change(
            "Replace",
            format!("pods of {}", write.child()),
            Some("its template changes: a new one serves before an old one goes".into()),
        )
    })
}

fn restart(end: &Cluster, observed: &Observed, pod: &PodFact, leads: bool) -> Vec<PlannedChange> {
    let replicas = match pod.component {
        Component::NameServer => end.name_servers.replicas,
        Component::Controller => end.controllers.replicas,
        Component::Broker | Component::Proxy => end.replicas_of(&pod.set),
    };
    let risk = if replicas > 1 { Risk::Restart } else { Risk::Interruption };
    let again = PlannedChange {
        risk,
        affects: vec![pod.name.clone()],
        ..change("Restart", format!("Pod/{}", pod.name), Some("its template changes".into()))
    };
    if !leads || replicas < 2 || pod.component != Component::Broker {
        return vec![again];
    }
    let to = observed.engine.sync(&pod.set).ok().and_then(|s| s.in_sync.iter().find(|p| **p != pod.name).cloned());
    let affects = to.clone().into_iter().chain([pod.name.clone()]).collect();
    let to = to.unwrap_or_else(|| "another replica".into());
    let elect = PlannedChange {
        risk: Risk::HandOver,
        affects,
        ..change("Elect", format!("{}/{to}", pod.set), Some(format!("so that {} can go", pod.name)))
    };
    vec![elect, again]
}

/// The step of now, where it does not follow from a template.
fn taken(step: Option<&Step>, changes: &[PlannedChange]) -> Option<PlannedChange> {
    match step? {
        Step::GiveUp { pod, .. } => Some(PlannedChange {
            risk: Risk::DataLoss,
            affects: vec![pod.clone()],
            ..change("GiveUp", format!("Pod/{pod}"), Some("its node is gone: its volume is deleted too".into()))
        }),
        Step::Elect { group, to, from, .. } => {
            let object = format!("{group}/{to}");
            let known = changes.iter().any(|c| c.action == "Elect" && c.affects.contains(from));
            (!known).then(|| PlannedChange {
                risk: Risk::HandOver,
                affects: vec![to.clone(), from.clone()],
                ..change("Elect", object, Some(format!("so that {from} can go")))
            })
        }
        Step::Restart { cause: Cause::Outdated, .. } => None,
        Step::Restart { pod, cause, .. } => Some(PlannedChange {
            risk: Risk::Restart,
            affects: vec![pod.clone()],
            ..change("Restart", format!("Pod/{pod}"), Some(cause.as_str().into()))
        }),
    }
}
