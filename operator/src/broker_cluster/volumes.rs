//! Volume claims: those that are to grow, those that are to go, those that stay as they are. Pure.

use gantry_crds::names::{self, Component};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use serde::Serialize;

use crate::broker_cluster::cluster::{Cluster, Volume};
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::view::{ClaimFact, Observed, SyncState};
use crate::labels;
use crate::quantity;

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

/// A volume claim that is to go with the BrokerCluster, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ownership {
    /// Name of the claim.
    pub claim: String,
    /// That very claim.
    pub uid: String,
    /// It is to go with the BrokerCluster.
    pub owned: bool,
}

/// Claims of the replicas that there are, where it is otherwise than declared with whom they go.
#[must_use]
pub fn ownerships(cluster: &Cluster, observed: &Observed) -> Vec<Ownership> {
    let of_set = |(set, replicas, volume): (String, i32, &Volume)| {
        let owned = !volume.retain;
        let claims = (0..replicas).map(move |i| names::claim(&set, i));
        let other = claims.filter_map(|name| observed.claims.iter().find(|c| c.name == name));
        let other = other.filter(|c| !c.terminating && c.owned != owned);
        other.map(|c| Ownership { claim: c.name.clone(), uid: c.uid.clone(), owned }).collect::<Vec<_>>()
    };
    sets(cluster).into_iter().flat_map(of_set).collect()
}

/// Claims of a broker group.
#[must_use]
pub fn of_group<'a>(observed: &'a Observed, group: &str) -> Vec<&'a ClaimFact> {
    let pod = |c: &&ClaimFact| c.name.strip_prefix(names::CLAIM_PREFIX)?.rsplit_once('-').map(|(set, _)| set == group);
    observed.claims.iter().filter(|c| pod(c).unwrap_or(false)).collect()
}

/// Every StatefulSet with volumes: its name, how many replicas it has, and their volume.
fn sets(cluster: &Cluster) -> Vec<(String, i32, &Volume)> {
    let controllers =
        (cluster.component(Component::Controller), cluster.controllers.replicas, &cluster.controllers.volume);
    let groups = cluster.groups().into_iter().map(|g| {
        let replicas = cluster.replicas_of(&g);
        (g, replicas, &cluster.brokers.volume)
    });
    std::iter::once(controllers).chain(groups).collect()
}

/// Volumes of replicas that were declared away, where volumes are not to be kept, and where the group has a master and nobody of them counts: one that is
/// elected while it stops, because the master died in that moment, has what nobody else has.
#[must_use]
pub fn surplus_claims(cluster: &Cluster, observed: &Observed) -> Vec<ClaimFact> {
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
        let counts = |s: &SyncState| s.identities.iter().any(|i| i.pod == pod && (i.in_sync || i.alive));
        let led = observed.engine.sync(group).is_ok_and(|s| s.master.is_some() && !counts(s));
        beyond && led && !used && !claim.terminating && groups.iter().any(|g| g == group)
    };
    observed.claims.iter().filter(is_surplus).cloned().collect()
}

/// Claims that ask for less than is declared.
#[must_use]
pub fn growths(cluster: &Cluster, observed: &Observed) -> Vec<Growth> {
    let growth = |claim: String, to: &str| {
        let from = &observed.claims.iter().find(|c| c.name == claim && !c.terminating)?.requested;
        let smaller = quantity::parse(from)? < quantity::parse(to)?;
        smaller.then(|| Growth { claim, from: from.clone(), to: to.to_owned() })
    };
    let of_set = |(set, replicas, volume): (String, i32, &Volume)| {
        (0..replicas).filter_map(|i| growth(names::claim(&set, i), &volume.size.0)).collect::<Vec<_>>()
    };
    sets(cluster).into_iter().flat_map(of_set).collect()
}

/// Writes at a StatefulSet which claims of its pods are being deleted, see [`labels::CLAIMS_GOING`].
pub fn tell_claims_that_go(set: &mut StatefulSet, observed: &Observed) {
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or_default();
    let goes = |name: &String| observed.claims.iter().any(|c| c.name == *name && c.terminating);
    let going: Vec<String> = (0..replicas).map(|i| names::claim(&set.name_any(), i)).filter(goes).collect();
    if !going.is_empty() {
        set.annotations_mut().insert(labels::CLAIMS_GOING.into(), going.join(" "));
    }
}

/// Size of the volumes of a StatefulSet, by its claims' template.
fn claimed(set: &StatefulSet) -> Option<&String> {
    let claim = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?.spec.as_ref()?;
    claim.resources.as_ref()?.requests.as_ref()?.get("storage").map(|q| &q.0)
}

/// Claim templates can't be changed in a StatefulSet: the live ones stay. Claims that exist grow one by one; a smaller size is held.
pub fn keep_claims(set: &mut StatefulSet, observed: &Observed, holds: &mut Vec<Hold>) {
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
