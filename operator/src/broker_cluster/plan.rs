//! What is to be done: the whole desired set, at most one disruptive step, and the holds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::parse::{Cluster, Volume};
use crate::broker_cluster::resources::{Resources, config, resources};
use crate::broker_cluster::safety::{Consent, Hold, may_restart};
use crate::broker_cluster::scale::{self, Gone};
use crate::broker_cluster::view::{ClaimFact, Observed, PodFact};
use crate::broker_cluster::{given_up, identities, outsiders, stranded};
use crate::child::{ChildKind, ChildRef, Write, compare};
use crate::engine::same_value;
use crate::{labels, quantity};

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
    /// Changes of the engine that disturb nobody who serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The one step that disturbs something that serves.
    pub step: Option<Step>,
    /// What was not done, and why.
    pub holds: Vec<Hold>,
    /// Pods that still have to be restarted to take up a change, this step's included.
    pub outdated: Vec<String>,
    /// Broker groups that do not take messages, on their way in or out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, GroupPhase>,
}

impl Plan {
    /// Nothing is to be done now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { writes, growths, claims, calls, step, .. } = self;
        writes.is_empty() && growths.is_empty() && claims.is_empty() && calls.is_empty() && step.is_none()
    }
}

/// A volume that is to grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// Name of its claim.
    pub claim: String,
    /// Size that is asked for now.
    pub from: String,
    /// Size to ask for.
    pub to: String,
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

/// What is to be done for `cluster` where `observed` was seen.
///
/// # Errors
/// Where a child can't be written as JSON, which would be a defect.
pub fn plan(cluster: &Cluster, observed: &Observed) -> Result<Plan, serde_json::Error> {
    let mut holds = Vec::new();
    let mut cluster = scale::phases(cluster, observed, &mut holds);
    let gone = scale::gone(&cluster, observed, &mut holds);
    let removed = match &gone {
        Some(Gone::Delete(group)) => Some(group.as_str()),
        Some(Gone::Forget(_)) | None => None,
    };
    let (mut resources, mut writes) = wanted(&cluster, observed, removed, &mut holds)?;
    let outdated = outdated(observed);
    for group in cluster.groups() {
        holds.extend(observed.engine.sync(&group).ok().and_then(|s| identities::copies_lost(&group, s)));
    }
    let mut step = given_up::next(&cluster, observed, &mut holds)
        .or_else(|| outsiders::next(&cluster, observed))
        .or_else(|| stranded::next(&cluster, observed))
        .or_else(|| next_step(&cluster, observed, &outdated, &writes, &mut holds));
    // A replica goes only when nothing else is to be done: what rolls may change how many copies are needed.
    let mut calls = keys_to_set(&cluster, observed);
    let busy =
        step.is_some() || !calls.is_empty() || !outdated.is_empty() || sets_change(&writes) || status_lags(observed);
    if !busy {
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
    calls.extend(identities::stale(&cluster, observed));
    calls.extend(scale::offsets(&cluster, observed));
    if let Some(Gone::Forget(call)) = gone {
        calls.push(call);
    }
    Ok(Plan {
        resources,
        writes,
        growths: growths(&cluster, observed),
        claims: surplus_claims(&cluster, observed),
        calls,
        step,
        holds,
        outdated: outdated.into_iter().map(|p| p.name.clone()).collect(),
        phases: cluster.brokers.extent.phases,
    })
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

/// Volumes of replicas that were declared away, where volumes are not to be kept.
fn surplus_claims(cluster: &Cluster, observed: &Observed) -> Vec<ClaimFact> {
    if cluster.brokers.volume.retain {
        return Vec::new();
    }
    let groups = cluster.groups();
    let is_surplus = |claim: &&ClaimFact| {
        let pod = claim.name.strip_prefix(names::CLAIM_PREFIX).unwrap_or_default();
        let Some((group, ordinal)) = pod.rsplit_once('-') else { return false };
        let most = cluster.replicas_of(group).max(cluster.brokers.replicas);
        let beyond = ordinal.parse::<i32>().is_ok_and(|n| n >= most);
        let used = observed.pods.iter().any(|p| p.name == pod);
        beyond && !used && !claim.terminating && groups.iter().any(|g| g == group)
    };
    observed.claims.iter().filter(is_surplus).cloned().collect()
}

/// Claims that ask for less than is declared.
fn growths(cluster: &Cluster, observed: &Observed) -> Vec<Growth> {
    let controllers =
        (cluster.component(Component::Controller), cluster.controllers.replicas, &cluster.controllers.volume);
    let mut sets = vec![controllers];
    sets.extend(cluster.groups().into_iter().map(|g| {
        let replicas = cluster.replicas_of(&g);
        (g, replicas, &cluster.brokers.volume)
    }));
    let growth = |claim: String, to: &str| {
        let from = &observed.claims.iter().find(|c| c.name == claim && !c.terminating)?.requested;
        let smaller = quantity::parse(from)? < quantity::parse(to)?;
        smaller.then(|| Growth { claim, from: from.clone(), to: to.to_owned() })
    };
    let of_set = |(set, replicas, volume): (String, i32, &Volume)| {
        (0..replicas).filter_map(|i| growth(names::claim(&set, i), &volume.size.0)).collect::<Vec<_>>()
    };
    sets.into_iter().flat_map(of_set).collect()
}

/// Size of the volumes of a StatefulSet, by its claims' template.
fn claimed(set: &StatefulSet) -> Option<&String> {
    let claim = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?.spec.as_ref()?;
    claim.resources.as_ref()?.requests.as_ref()?.get("storage").map(|q| &q.0)
}

/// Claim templates can't be changed in a StatefulSet: the live ones stay. Claims that exist grow one by one; a smaller size is held.
fn keep_claims(set: &mut StatefulSet, observed: &Observed, holds: &mut Vec<Hold>) {
    let name = set.name_any();
    let live = observed.live.stateful_sets.iter().find(|s| s.name_any() == name).and_then(claimed);
    let (Some(live), Some(declared)) = (live, claimed(set)) else { return };
    if quantity::parse(declared) < quantity::parse(live) {
        holds.push(Hold::VolumeSizeFixed { set: name, live: live.clone(), declared: declared.clone() });
    }
    let request = set
        .spec
        .as_mut()
        .and_then(|s| s.volume_claim_templates.as_mut()?.first_mut()?.spec.as_mut()?.resources.as_mut())
        .and_then(|r| r.requests.as_mut()?.get_mut("storage"));
    if let Some(request) = request {
        request.0.clone_from(live);
    }
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
fn keys_to_set(cluster: &Cluster, observed: &Observed) -> Vec<Call> {
    let mut calls = Vec::new();
    for group in cluster.groups() {
        let wanted = config::live_keys(cluster, &group);
        for pod in cluster.pods_of(&group) {
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
    writes: &[Write],
    holds: &mut Vec<Hold>,
) -> Option<Step> {
    // First the declared state, then the pods: a StatefulSet that is about to change would make a pod outdated twice.
    if sets_change(writes) || status_lags(observed) {
        return None;
    }
    let first = outdated.first()?.component;
    // Roles one after the other: brokers wait until name servers and controllers have taken the change.
    for pod in outdated.iter().filter(|p| p.component == first) {
        if let Some(other) = still_starting(cluster, observed, outdated, pod) {
            holds.push(Hold::OtherPodDown { pod: pod.name.clone(), other });
            continue;
        }
        match may_restart(cluster, observed, pod) {
            Ok(Consent::Stop) => {
                return Some(Step::Restart {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    component: pod.component,
                    cause: Cause::Outdated,
                });
            }
            Ok(Consent::MoveMasterFirst { to, id }) => {
                return Some(Step::Elect { group: pod.set.clone(), to, id, from: pod.name.clone() });
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

/// A pod of another StatefulSet that already has the change and does not serve yet: the last step is still under way. One that waits for its
/// own change does not count, it may be waiting for just this one; nor do pods of later roles, which need this one to serve; nor does a pod matter
/// to one that does not serve itself.
fn still_starting(cluster: &Cluster, observed: &Observed, outdated: &[&PodFact], pod: &PodFact) -> Option<String> {
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
    sets.into_iter()
        .filter(|(component, set, _)| *component <= pod.component && *set != pod.set)
        .flat_map(|(_, set, replicas)| (0..replicas).map(move |i| format!("{set}-{i}")))
        .find(|name| !serves(name) && !waits(name))
}
