//! Every child as it should be, and what brings the API server there. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::resources::proxy::keep_replicas;
use crate::broker_cluster::resources::{Resources, resources};
use crate::broker_cluster::view::Observed;
use crate::broker_cluster::volumes::{keep_claims, tell_claims_that_go};
use crate::child::{ChildKind, Write, compare};
use crate::labels;

/// Every child as it should be, and the writes that bring the API server there. `removed`: the group whose objects go.
pub(super) fn wanted(
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
        tell_claims_that_go(set, observed);
    }
    for deployment in &mut declared.deployments {
        keep_replicas(deployment, cluster, &observed.live.deployments);
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
