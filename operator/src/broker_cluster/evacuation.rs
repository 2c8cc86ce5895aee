//! Masters leave nodes that take no new pods (`kubectl cordon`, `kubectl drain`): their disruption budget admits no eviction, and that of the slaves one at
//! a time. So a drained node waits until the master has become a slave that has everything, and nobody's writes stop. Pure.

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::roles::waits_as_master;
use crate::broker_cluster::safety::{Consent, may_restart};
use crate::broker_cluster::steps::Step;
use crate::broker_cluster::view::{Observed, PodFact};

/// The hand-over that lets a node be drained, where one waits for it; why others do not happen.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Option<Step> {
    for group in cluster.groups() {
        holds.extend(former_masters(observed, &group));
        let Some(pod) = master(cluster, observed, &group) else { continue };
        let Some(node) = pod.node.as_ref().filter(|n| observed.nodes.cordoned.contains(*n)) else { continue };
        let why = match may_restart(cluster, observed, pod) {
            Ok(Consent::MoveMasterFirst { to, id, end }) if !observed.on_cordoned(&to) => {
                return Some(Step::Elect { group, to, id, from: pod.name.clone(), end });
            }
            Ok(_) => "no replica in sync is on another node".to_owned(),
            Err(hold) => hold.why(),
        };
        holds.push(Hold::NodeCordoned { pod: pod.name.clone(), node: node.clone(), why });
    }
    None
}

/// Former masters that a drained node still waits for.
fn former_masters(observed: &Observed, group: &str) -> Vec<Hold> {
    let Ok(sync) = observed.engine.sync(group) else { return Vec::new() };
    let stays = |p: &&PodFact| p.set == group && !p.terminating && waits_as_master(sync, p);
    let hold = |p: &PodFact| {
        let node = p.node.clone().filter(|n| observed.nodes.cordoned.contains(n))?;
        let (pod, why) = (p.name.clone(), Hold::CatchesUp { pod: p.name.clone() }.why());
        Some(Hold::NodeCordoned { pod, node, why })
    };
    observed.pods.iter().filter(stays).filter_map(hold).collect()
}

/// The master of a group that has somebody to hand over to.
fn master<'a>(cluster: &Cluster, observed: &'a Observed, group: &str) -> Option<&'a PodFact> {
    let master = observed.engine.sync(group).ok()?.master.as_ref().filter(|_| cluster.replicas_of(group) > 1)?;
    observed.pods.iter().find(|p| p.name == *master && !p.terminating)
}
