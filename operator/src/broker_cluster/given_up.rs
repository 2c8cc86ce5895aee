//! Replicas whose node is gone for good: given up after the time that the spec states, to be made anew elsewhere. Pure.

use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::steps::Step;
use crate::broker_cluster::view::{Observed, PodFact};

/// The replica to be given up now, if one may be; why others may not.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Option<Step> {
    let after = cluster.brokers.give_up_after?;
    let lost = |p: &&PodFact| {
        p.component == Component::Broker && p.gone_since.is_some_and(|since| observed.now - since >= after)
    };
    let lost: Vec<&PodFact> = observed.pods.iter().filter(lost).collect();
    for pod in &lost {
        match may_give_up(cluster, observed, &lost, pod) {
            Ok(()) => {
                let claim = names::claim_of(&pod.name);
                // Of a group that goes the volume is kept or deleted with the group, of a replica that goes by reclaimPolicy.
                let goes = cluster.phase_of(&pod.set) == GroupPhase::Removing || is_surplus(cluster, pod);
                let claim = observed.claims.iter().find(|c| c.name == claim && !c.terminating && !goes);
                return Some(Step::GiveUp {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    claim: claim.map(|c| (c.name.clone(), c.uid.clone())),
                });
            }
            Err(hold) => holds.push(hold),
        }
    }
    None
}

fn may_give_up(cluster: &Cluster, observed: &Observed, lost: &[&PodFact], pod: &PodFact) -> Result<(), Hold> {
    let group = &pod.set;
    let held = |why: String| Err(Hold::NodeGone { pod: pod.name.clone(), why });
    if cluster.phase_of(group) == GroupPhase::Removing {
        // It is empty: nobody needs a copy.
        return Ok(());
    }
    let replicas = cluster.replicas_of(group);
    let surplus = is_surplus(cluster, pod);
    if replicas == 1 && !surplus {
        return held(format!("it is the only copy of {group}"));
    }
    let sync = observed.engine.sync(group).map_err(|u| Hold::NodeGone { pod: pod.name.clone(), why: u.message })?;
    if sync.identities.iter().any(|i| i.pod == pod.name && i.alive) {
        return held("the controllers still hear of it, so its node works".into());
    }
    if sync.master.as_ref().is_none_or(|master| *master == pod.name) {
        return held(format!("{group} has no other master"));
    }
    if surplus {
        // It was declared away, and nothing is made in its place.
        let counts = sync.identities.iter().any(|i| i.pod == pod.name && i.in_sync);
        return if counts { held(format!("{group} still counts it as in sync")) } else { Ok(()) };
    }
    let others: Vec<String> = (0..replicas).map(|i| format!("{group}-{i}")).filter(|p| *p != pod.name).collect();
    if let Some(behind) = others.iter().find(|p| !sync.in_sync.contains(*p)) {
        return held(format!("{behind} of the same group is not in sync"));
    }
    if let Some(silent) = others.iter().find(|p| !sync.answering.contains(*p)) {
        return held(format!("{silent} of the same group does not answer"));
    }
    if i32::try_from(others.len()).unwrap_or(0) < cluster.brokers.min_in_sync {
        return held(format!("{group} would have fewer than {} copies in sync", cluster.brokers.min_in_sync));
    }
    let starting = |p: &&PodFact| {
        let ready = p.ready && !p.terminating;
        p.component == Component::Broker && !ready && !lost.iter().any(|l| l.name == p.name)
    };
    match observed.pods.iter().find(starting) {
        Some(other) => held(format!("{} is not ready: one replica at a time", other.name)),
        None => Ok(()),
    }
}

/// A replica that was declared away: its node was gone before it could end.
fn is_surplus(cluster: &Cluster, pod: &PodFact) -> bool {
    !cluster.pods_of(&pod.set).contains(&pod.name)
}
