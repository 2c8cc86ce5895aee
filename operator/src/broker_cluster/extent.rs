//! What there is of a cluster, whatever is declared: surplus groups and replicas with messages in them, and groups on their way in or out. Pure.

use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::{Resources, config};
use crate::labels;

/// The cluster with everything that there is: nothing of it may be forgotten while it may hold messages.
#[must_use]
pub fn existing(cluster: &Cluster, live: &Resources) -> Cluster {
    let mut all = cluster.clone();
    if let Some(n) = set(live, &cluster.component(Component::Controller)).and_then(replicas) {
        all.controllers.replicas = n;
    }
    // Also those behind one that somebody deleted.
    let numbers = live.stateful_sets.iter().filter_map(|s| number(cluster, &s.name_any()));
    all.brokers.groups = numbers.map(|n| n + 1).fold(all.brokers.groups, i32::max);
    for group in all.groups() {
        let Some(set) = set(live, &group) else { continue };
        let phase = phase(set);
        if !phase.is_open() {
            all.brokers.extent.phases.insert(group.clone(), phase);
        }
        if let Some(n) = min_in_sync(live, &group).filter(|n| *n < cluster.brokers.min_in_sync) {
            all.brokers.extent.min_in_sync.insert(group.clone(), n);
        }
        if phase == GroupPhase::Removing {
            all.brokers.extent.sizes.insert(group, 0);
        } else if let Some(n) = replicas(set).filter(|n| *n > cluster.brokers.replicas) {
            all.brokers.extent.sizes.insert(group, n);
        }
    }
    all
}

/// Which broker group a StatefulSet is.
fn number(cluster: &Cluster, set: &str) -> Option<i32> {
    let number = set.rsplit_once('-')?.1.parse().ok()?;
    (names::broker_group(&cluster.name, number) == set).then_some(number)
}

/// The live StatefulSet of this name.
#[must_use]
pub fn set<'a>(live: &'a Resources, name: &str) -> Option<&'a StatefulSet> {
    live.stateful_sets.iter().find(|s| s.name_any() == name)
}

fn replicas(set: &StatefulSet) -> Option<i32> {
    let declared = set.annotations().get(labels::REPLICAS).and_then(|n| n.parse().ok());
    declared.or(set.spec.as_ref()?.replicas)
}

/// Replicas that must hold a message, as the brokers of a group were told last.
fn min_in_sync(live: &Resources, group: &str) -> Option<i32> {
    let name = config::live_name(group);
    let text = live.config_maps.iter().find(|m| m.name_any() == name)?.data.as_ref()?.get(config::LIVE_FILE)?;
    text.lines().find_map(|line| line.strip_prefix("minInSyncReplicas=")?.parse().ok())
}

fn phase(set: &StatefulSet) -> GroupPhase {
    set.annotations().get(labels::PHASE).map(|name| GroupPhase::from_name(name)).unwrap_or_default()
}
