//! What is to be done: the whole desired set, at most one disruptive step, and the holds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::names::Component;
use gantry_crds::status::{GroupPhase, PlannedChange, UpgradeStatus};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::closing::closed;
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::parse::{Cluster, Mode};
use crate::broker_cluster::resources::{Resources, config, resources};
use crate::broker_cluster::roles::Role;
use crate::broker_cluster::safety::{Consent, Hold, may_restart};
use crate::broker_cluster::scale::{self, Gone};
use crate::broker_cluster::upgrade::course;
use crate::broker_cluster::view::{ClaimFact, Observed, PodFact};
pub use crate::broker_cluster::volumes::Growth;
use crate::broker_cluster::volumes::{growths, keep_claims, surplus_claims};
use crate::broker_cluster::{evacuation, formats, given_up, identities, outlook, outsiders, roles, stranded};
use crate::child::{ChildKind, ChildRef, Write, compare};
use crate::engine::same_value;
use crate::labels;

/// What is to be done now.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Every child as it should be.
    pub resources: Resources,
    /// Writes that bring the API server there.
    pub writes: Vec<Write>,
    /// Volumes that are to grow. They disturb nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub growths: Vec<Growth>,
    /// Volume claims of replicas that were declared away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimFact>,
    /// Pods whose label says another role in their group than they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Changes of the engine that disturb nobody who serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The one step that disturbs something that serves.
    pub step: Option<Step>,
    /// What was not done, and why.
    pub holds: Vec<Hold>,
    /// Masters that take no new messages, because they are about to be restarted.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub closing: BTreeSet<String>,
    /// Pods that still have to be restarted to take up a change, this step's included.
    pub outdated: Vec<String>,
    /// Broker groups that do not take messages, on their way in or out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, GroupPhase>,
    /// The change of version that is under way or failed, as it is to be written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// Where somebody wants to see it: all that is to be done until everything is as declared, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outlook: Vec<PlannedChange>,
}

impl Plan {
    /// Nothing is to be done now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { writes, growths, claims, roles, calls, step, .. } = self;
        writes.is_empty()
            && growths.is_empty()
            && claims.is_empty()
            && roles.is_empty()
            && calls.is_empty()
            && step.is_none()
    }
}

/// A step that disturbs something that serves. One at a time in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Step {
    /// Make an in-sync replica master, so that the old master can be restarted.
    Elect {
        /// Broker group.
        group: String,
        /// Pod to become master.
        to: String,
        /// Its broker id.
        id: i64,
        /// Pod that is master now.
        from: String,
        /// Where its log ended at the last look, in bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        end: Option<i64>,
    },
    /// Delete a pod; its StatefulSet makes it again from the new template.
    Restart {
        /// Pod.
        pod: String,
        /// That very pod.
        uid: String,
        /// Role.
        component: Component,
        /// Why.
        #[serde(skip_serializing_if = "Cause::is_outdated")]
        cause: Cause,
    },
    /// Delete the volume claim of a replica whose node is gone, and its pod without waiting for that node: it is made anew elsewhere.
    GiveUp {
        /// Pod.
        pod: String,
        /// That very pod.
        uid: String,
        /// Name and uid of the claim, where it is not yet deleted.
        claim: Option<(String, String)>,
    },
}

/// Why a pod is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// Its template changed.
    #[default]
    Outdated,
    /// It follows no master and does not notice.
    Stranded,
    /// It takes no part in its Raft group.
    Outsider,
}

impl Cause {
    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_outdated(&self) -> bool {
        *self == Self::Outdated
    }

    /// In a sentence, after "restarted POD".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outdated => "to take up a change",
            Self::Stranded => "because its master does not send to it",
            Self::Outsider => "because it answers and follows no leader",
        }
    }
}

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
        Some(Gone::Forget(_)) | None => None,
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
    if let Some(Gone::Forget(call)) = gone {
        calls.push(call);
    }
    let mut plan = Plan {
        resources,
        writes,
        growths: growths(&cluster, observed),
        claims: surplus_claims(&cluster, observed),
        roles: roles::labels(&cluster, observed),
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

/// Every child as it should be, and the writes that bring the API server there. `removed`: the group whose objects go.
fn wanted(
    cluster: &Cluster,
    observed: &Observed,
    removed: Option<&str>,
    holds: &mut Vec<Hold>,
) -> Result<(Resources, Vec<Write>), serde_json::Error> {
    let mut declared = resources(cluster);
    if let Some(group) = removed {
        let of_group = |labels: &BTreeMap<String, String>| labels.get(labels::GROUP).is_some_and(|g| g == group);
        let own = declared.stateful_sets.iter().find(|s| s.name_any() == group).map(mounts).unwrap_or_default();
        declared.config_maps.retain(|m| !own.contains(&m.name_any()));
        declared.stateful_sets.retain(|s| !of_group(s.labels()));
        declared.pod_disruption_budgets.retain(|b| !of_group(b.labels()));
    }
    for set in &mut declared.stateful_sets {
        keep_claims(set, observed, holds);
    }
    let writes = writes(cluster, &declared, observed, removed, holds)?;
    Ok((declared, writes))
}

/// Names of the ConfigMaps that a StatefulSet's pods mount.
fn mounts(set: &StatefulSet) -> BTreeSet<String> {
    let volumes = set.spec.iter().filter_map(|s| s.template.spec.as_ref()?.volumes.as_ref()).flatten();
    volumes.filter_map(|v| v.config_map.as_ref()).map(|c| c.name.clone()).collect()
}

/// Writes for all kinds. Destructured without `..`: a forgotten kind does not compile.
fn writes(
    cluster: &Cluster,
    declared: &Resources,
    observed: &Observed,
    removed: Option<&str>,
    holds: &mut Vec<Hold>,
) -> Result<Vec<Write>, serde_json::Error> {
    let Resources {
        service_accounts,
        config_maps,
        services,
        pod_disruption_budgets,
        stateful_sets,
        deployments,
        horizontal_pod_autoscalers,
    } = declared;
    let live = &observed.live;
    let mounted: BTreeSet<&String> = observed.pods.iter().flat_map(|p| &p.config_maps).collect();
    let mut w = Vec::new();
    let mut add = |found: Vec<Write>| w.extend(found);
    add(of_kind(cluster, ChildKind::ServiceAccount, service_accounts, &live.service_accounts, holds, |_| true)?);
    // A pod of an older revision that starts again needs the files that it started with.
    add(of_kind(cluster, ChildKind::ConfigMap, config_maps, &live.config_maps, holds, |m| {
        !mounted.contains(&m.name_any())
    })?);
    add(of_kind(cluster, ChildKind::Service, services, &live.services, holds, |_| true)?);
    add(of_kind(
        cluster,
        ChildKind::PodDisruptionBudget,
        pod_disruption_budgets,
        &live.pod_disruption_budgets,
        holds,
        |_| true,
    )?);
    // A StatefulSet that is not declared would be a broker group with messages: all that there are stay declared until they are empty.
    add(of_kind(cluster, ChildKind::StatefulSet, stateful_sets, &live.stateful_sets, holds, |s| {
        removed == Some(&s.name_any())
    })?);
    add(of_kind(cluster, ChildKind::Deployment, deployments, &live.deployments, holds, |_| true)?);
    add(of_kind(
        cluster,
        ChildKind::HorizontalPodAutoscaler,
        horizontal_pod_autoscalers,
        &live.horizontal_pod_autoscalers,
        holds,
        |_| true,
    )?);
    Ok(w)
}

fn of_kind<K: Resource + Serialize>(
    cluster: &Cluster,
    kind: ChildKind,
    declared: &[K],
    live: &[K],
    holds: &mut Vec<Hold>,
    prune: impl Fn(&K) -> bool,
) -> Result<Vec<Write>, serde_json::Error> {
    let ours = |l: &K| l.owner_references().iter().any(|o| o.uid == cluster.owner.uid);
    let mut writes = compare(kind, declared, live, |l| ours(l) && prune(l))?;
    writes.retain(|w| {
        let taken =
            !matches!(w, Write::Create { .. }) && live.iter().any(|l| l.name_any() == w.child().name && !ours(l));
        if taken {
            holds.push(Hold::NameTaken { child: w.child().to_string() });
        }
        !taken
    });
    Ok(writes)
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
        if let Some(other) = still_starting(cluster, observed, outdated, closing, pod) {
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
            Ok(Consent::MoveMasterFirst { to, id }) => {
                return Some(elect(observed, &pod.set, to, id, &pod.name));
            }
            Err(hold) => holds.push(hold),
        }
    }
    None
}

/// The election of another master than `from`.
#[must_use]
pub fn elect(observed: &Observed, group: &str, to: String, id: i64, from: &str) -> Step {
    let end = observed.engine.sync(group).ok().and_then(|s| s.ends.get(from).copied());
    Step::Elect { group: group.to_owned(), to, id, from: from.to_owned(), end }
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

/// A pod of another StatefulSet that already has the change and does not serve yet: the last step is still under way. One that waits for its
/// own change does not count, it may be waiting for just this one; nor do pods of later roles, which need this one to serve; nor does a pod matter
/// to one that does not serve itself.
fn still_starting(
    cluster: &Cluster,
    observed: &Observed,
    outdated: &[&PodFact],
    closing: &BTreeSet<String>,
    pod: &PodFact,
) -> Option<String> {
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
    let waits = |name: &String| outdated.iter().any(|p| p.name == *name);
    let goes = |name: &String| closing.contains(name) || !serves(name) && !waits(name);
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
