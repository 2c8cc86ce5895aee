//! What a broker pod is in its group, as a label of the pod: for people, and for disruption budgets. Pure.

use serde::Serialize;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::safety::overwritten;
use crate::broker_cluster::steps::Step;
use crate::broker_cluster::view::{Observed, PodFact, SyncState};
use crate::labels::{MASTER, SLAVE};

/// A label that a pod is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Pod.
    pub pod: String,
    /// That very pod.
    pub uid: String,
    /// `master` or `slave`.
    pub role: &'static str,
}

/// Labels that are not as the controllers say, and as `step` is about to make it. New masters first: at no time is a master without its budget. A former
/// master stays in that budget until it may stop: see [`waits_as_master`].
#[must_use]
pub fn labels(cluster: &Cluster, observed: &Observed, step: Option<&Step>) -> Vec<Role> {
    let mut all: Vec<Role> = Vec::new();
    for group in cluster.groups() {
        let Ok(sync) = observed.engine.sync(&group) else { continue };
        // Without a master the former one keeps its label: it may be master again, and has the newest messages.
        let Some(master) = &sync.master else { continue };
        let elected = |p: &PodFact| matches!(step, Some(Step::Elect { to, .. }) if *to == p.name);
        let leads = |p: &PodFact| p.name == *master || elected(p) || waits_as_master(sync, p);
        let role = |p: &PodFact| if leads(p) { MASTER } else { SLAVE };
        let own = observed.pods.iter().filter(|p| p.set == group && !p.terminating);
        let wrong = own.filter(|p| p.role.as_deref() != Some(role(p)));
        all.extend(wrong.map(|p| Role { pod: p.name.clone(), uid: p.uid.clone(), role: role(p) }));
    }
    all.sort_by_key(|r| (r.role != MASTER, r.pod.clone()));
    all
}

/// A former master that an eviction would harm: the new master may be the only copy in sync, and what was cut off its own log comes back with a start
/// before it is overwritten. Its probe calls it ready for some seconds more, so the budget of the slaves would let it go. One that does not even run waits
/// for nothing.
#[must_use]
pub fn waits_as_master(sync: &SyncState, pod: &PodFact) -> bool {
    let follows = sync.master.as_ref().is_some_and(|master| *master != pod.name);
    let safe = sync.in_sync.contains(&pod.name) && overwritten(sync, pod);
    follows && pod.role.as_deref() == Some(MASTER) && pod.trouble.is_none() && !safe
}
