//! What is to be done: the whole desired set, at most one disruptive step, and the holds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::names::Component;
use kube::ResourceExt;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::closing::closed;
use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::resources::config;
use crate::broker_cluster::safety::{Consent, may_restart};
use crate::broker_cluster::scale::{self, Gone};
use crate::broker_cluster::steps::{Cause, Plan, Step};
use crate::broker_cluster::upgrade::course;
use crate::broker_cluster::view::{Observed, PodFact};
use crate::broker_cluster::volumes::{growths, of_group, ownerships, surplus_claims};
use crate::broker_cluster::writes::wanted;
use crate::broker_cluster::{evacuation, formats, given_up, identities, outlook, outsiders, roles, stranded};
use crate::child::{ChildKind, ChildRef, Write};
use crate::engine::same_value;

/// What is to be done for a cluster where `observed` was seen.
///
/// # Errors
/// Where a child can't be written as JSON, which would be a defect.
pub fn plan(declared: &Cluster, observed: &Observed) -> Result<Plan, serde_json::Error> {
    let mut holds = Vec::new();
    let mut cluster = scale::phases(declared, observed, &mut holds);
    let course = course(&cluster, observed, &mut holds);
    if course.refused {
        return Ok(Plan { holds, ..Plan::default() });
    }
    formats::keep(&mut cluster, observed, &mut holds);
    cluster.engines = course.engines;
    let gone = scale::gone(&cluster, observed, &mut holds);
    let removed = match &gone {
        Some(Gone::Delete(group)) => Some(group.clone()),
        Some(Gone::Forget(_) | Gone::Volumes(_)) | None => None,
    };
    let removed = removed.as_deref();
    let (mut resources, mut writes) = wanted(&cluster, observed, removed, &mut holds)?;
    let outdated = outdated(observed);
    for group in cluster.groups() {
        holds.extend(observed.engine.sync(&group).ok().and_then(|s| identities::copies_lost(&group, s)));
    }
    let mut step = given_up::next(&cluster, observed, &mut holds)
        .or_else(|| outsiders::next(&cluster, observed))
        .or_else(|| stranded::next(&cluster, observed))
        .or_else(|| evacuation::next(&cluster, observed, &mut holds));
    holds.extend(observed.nodes.unknown.clone().map(|why| Hold::NodesUnknown { why }));
    let mut closing = BTreeSet::new();
    // First the declared state, then the pods: a StatefulSet that is about to change would make a pod outdated twice.
    if step.is_none() && !(sets_change(&writes) || status_lags(observed)) {
        step = next_step(&cluster, observed, &outdated, &course.waiting, &mut closing, &mut holds);
    }
    // A replica goes only when nothing else is to be done: what rolls may change how many copies are needed.
    let mut calls = keys_to_set(&cluster, observed, &closing);
    let upgrades = course.record.is_some();
    let rolls = step.is_some() || !outdated.is_empty() || sets_change(&writes) || status_lags(observed);
    if !(rolls || upgrades || !calls.is_empty()) {
        match scale::shrink(&cluster, observed, &mut holds) {
            Some(Ok(group)) => {
                let replicas = cluster.replicas_of(&group) - 1;
                cluster.brokers.extent.sizes.insert(group, replicas);
                (resources, writes) = wanted(&cluster, observed, removed, &mut Vec::new())?;
            }
            Some(Err(election)) => step = Some(election),
            None => {}
        }
    }
    calls.extend(stranded::strays(&cluster, observed));
    calls.extend(identities::stale(&cluster, observed));
    calls.extend(scale::offsets(&cluster, observed));
    let mut claims = surplus_claims(&cluster, observed);
    match gone {
        Some(Gone::Forget(call)) => calls.push(call),
        Some(Gone::Volumes(group)) => {
            claims.extend(of_group(observed, &group).into_iter().filter(|c| !c.terminating).cloned());
        }
        Some(Gone::Delete(_)) | None => {}
    }
    let mut plan = Plan {
        resources,
        writes,
        growths: growths(&cluster, observed),
        ownerships: ownerships(&cluster, observed),
        claims,
        roles: roles::labels(&cluster, observed, step.as_ref()),
        closing,
        calls,
        step,
        holds,
        outdated: outdated.iter().map(|p| p.name.clone()).collect(),
        phases: cluster.brokers.extent.phases.clone(),
        upgrade: course.record,
        outlook: Vec::new(),
    };
    if matches!(cluster.mode, Mode::Plan | Mode::Observe) || cluster.plan_hash.is_some() {
        let end = outlook::end(&cluster, &plan);
        let (_, writes) = wanted(&end, observed, removed, &mut Vec::new())?;
        plan.outlook = outlook::outlook(declared, &end, observed, &plan, &writes, &outdated);
    }
    Ok(plan)
}

/// Keys that running brokers have otherwise than they should, of those that they take while they run. A key that a broker does not have at all is none of
/// its version.
fn keys_to_set(cluster: &Cluster, observed: &Observed, closing: &BTreeSet<String>) -> Vec<Call> {
    let mut calls = Vec::new();
    for group in cluster.groups() {
        let of_group = config::live_keys(cluster, &group);
        for pod in cluster.pods_of(&group) {
            let mut wanted = of_group.clone();
            if closing.contains(&pod) {
                wanted.insert(PERMISSION.into(), CLOSED.into());
            }
            let differs = |(key, value): &(&String, &String)| {
                observed.engine.live_key(&pod, key).is_some_and(|has| !same_value(has, value))
            };
            let keys: BTreeMap<_, _> = wanted.iter().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect();
            let stays = observed.pods.iter().any(|p| p.name == pod && !p.terminating);
            if stays && !keys.is_empty() {
                calls.push(Call::Set { pod, keys });
            }
        }
    }
    calls
}

/// Pods that run another template than their StatefulSet has now, in the order in which they should go: name servers, controllers, slaves,
/// masters.
fn outdated(observed: &Observed) -> Vec<&PodFact> {
    let mut pods: Vec<&PodFact> = observed
        .pods
        .iter()
        .filter(|p| {
            let set = observed.live.stateful_sets.iter().find(|s| s.name_any() == p.set);
            set.and_then(|s| s.status.as_ref()?.update_revision.as_ref()).is_some_and(|r| *r != p.revision)
                && !p.terminating
        })
        .collect();
    pods.sort_by_key(|p| {
        let leads = observed.engine.sync(&p.set).is_ok_and(|s| s.master.as_deref() == Some(&p.name));
        // One that does not serve first: it is disturbed by nothing, and no other goes before it is back.
        (p.component, leads, p.ready, p.name.clone())
    });
    pods
}

fn next_step(
    cluster: &Cluster,
    observed: &Observed,
    outdated: &[&PodFact],
    waiting: &BTreeSet<String>,
    closing: &mut BTreeSet<String>,
    holds: &mut Vec<Hold>,
) -> Option<Step> {
    // One that serves waits until its StatefulSet gets the other version, too: a second restart would be for nothing.
    let due = || outdated.iter().filter(|p| !(p.ready && waiting.contains(&p.set)));
    let first = due().next()?.component;
    // Roles one after the other: brokers wait until name servers and controllers have taken the change.
    for pod in due().filter(|p| p.component == first) {
        if let Some(other) = still_starting(cluster, observed, closing, pod) {
            // For one that takes no new messages there is a hold of its own.
            if !closing.contains(&other) {
                holds.push(Hold::OtherPodDown { pod: pod.name.clone(), other });
            }
            continue;
        }
        let consent = may_restart(cluster, observed, pod);
        let quiet = |consent| closed(cluster, observed, pod, closing).map(|()| consent);
        match consent.and_then(quiet) {
            Ok(Consent::Stop) => {
                return Some(Step::Restart {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    component: pod.component,
                    cause: Cause::Outdated,
                });
            }
            Ok(Consent::MoveMasterFirst { to, id, end }) => {
                return Some(Step::Elect { group: pod.set.clone(), to, id, from: pod.name.clone(), end });
            }
            Err(hold) => holds.push(hold),
        }
    }
    None
}

fn sets_change(writes: &[Write]) -> bool {
    writes.iter().any(|w| matches!(w.child(), ChildRef { kind: ChildKind::StatefulSet, .. }))
}

fn status_lags(observed: &Observed) -> bool {
    observed.live.stateful_sets.iter().any(|s| {
        s.status.as_ref().and_then(|st| st.observed_generation) != s.metadata.generation
            && s.metadata.generation.is_some()
    })
}

/// A pod of another StatefulSet that does not serve: the last step is still under way, or something else is. Pods of later roles do not count, they may need
/// this one to serve; nor does a pod matter to one that does not serve itself.
fn still_starting(cluster: &Cluster, observed: &Observed, closing: &BTreeSet<String>, pod: &PodFact) -> Option<String> {
    if !pod.ready {
        return None;
    }
    let mut sets = vec![
        (Component::NameServer, cluster.component(Component::NameServer), cluster.name_servers.replicas),
        (Component::Controller, cluster.component(Component::Controller), cluster.controllers.replicas),
    ];
    sets.extend(cluster.groups().into_iter().map(|g| {
        let replicas = cluster.replicas_of(&g);
        (Component::Broker, g, replicas)
    }));
    let serves = |name: &String| observed.pods.iter().any(|p| p.name == *name && p.ready && !p.terminating);
    let goes = |name: &String| closing.contains(name) || !serves(name);
    let going: Vec<(Component, String, String)> = sets
        .into_iter()
        .filter(|(component, set, _)| *component <= pod.component && *set != pod.set)
        .flat_map(|(component, set, n)| (0..n).map(move |i| (component, set.clone(), format!("{set}-{i}"))))
        .filter(|(_, _, name)| goes(name))
        .collect();
    let zone = |name: &String| observed.pods.iter().find(|p| p.name == *name)?.zone.as_ref();
    // Two zones at once, and the loss of a third would find groups with a single copy.
    let elsewhere = |name: &String| pod.zone.is_some() && zone(name) != pod.zone.as_ref();
    let groups: BTreeSet<&String> = going.iter().map(|(_, set, _)| set).collect();
    let full = groups.len() >= cluster.brokers.max_unavailable;
    let blocks = |(component, _, name): &&(Component, String, String)| {
        full || *component != Component::Broker || pod.component != Component::Broker || elsewhere(name)
    };
    going.iter().find(blocks).map(|(_, _, name)| name.clone())
}
