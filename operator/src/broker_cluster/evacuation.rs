//! Masters leave nodes that take no new pods (`kubectl cordon`, `kubectl drain`): their disruption budget admits no eviction of a master, and that of the
//! slaves one at a time. So a drained node waits until the master has become a slave, and nobody's writes stop. Pure.

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::safety::{Consent, may_restart};
use crate::broker_cluster::steps::{Step, elect};
use crate::broker_cluster::view::{Observed, PodFact};

/// The hand-over that lets a node be drained, where one waits for it; why others do not happen.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Option<Step> {
    for group in cluster.groups() {
        let Some(pod) = master(cluster, observed, &group) else { continue };
        let Some(node) = pod.node.as_ref().filter(|n| observed.nodes.cordoned.contains(*n)) else { continue };
        let why = match may_restart(cluster, observed, pod) {
            Ok(Consent::MoveMasterFirst { to, id }) if !observed.on_cordoned(&to) => {
                return Some(elect(observed, &group, to, id, &pod.name));
            }
            Ok(_) => "no replica in sync is on another node".to_owned(),
            Err(hold) => hold.why(),
        };
        holds.push(Hold::NodeCordoned { pod: pod.name.clone(), node: node.clone(), why });
    }
    None
}

/// The master of a group that has somebody to hand over to.
fn master<'a>(cluster: &Cluster, observed: &'a Observed, group: &str) -> Option<&'a PodFact> {
    let master = observed.engine.sync(group).ok()?.master.as_ref().filter(|_| cluster.replicas_of(group) > 1)?;
    observed.pods.iter().find(|p| p.name == *master && !p.terminating)
}
