//! What a broker pod is in its group, as a label of the pod: for people, and for disruption budgets. Pure.

use serde::Serialize;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::view::{Observed, PodFact};
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

/// Labels that are not as the controllers say. New masters first: at no time is a master without its budget.
#[must_use]
pub fn labels(cluster: &Cluster, observed: &Observed) -> Vec<Role> {
    let mut all: Vec<Role> = Vec::new();
    for group in cluster.groups() {
        let Ok(sync) = observed.engine.sync(&group) else { continue };
        // Without a master the former one keeps its label: it may be master again, and has the newest messages.
        let Some(master) = &sync.master else { continue };
        let role = |p: &PodFact| if p.name == *master { MASTER } else { SLAVE };
        let own = observed.pods.iter().filter(|p| p.set == group && !p.terminating);
        let wrong = own.filter(|p| p.role.as_deref() != Some(role(p)));
        all.extend(wrong.map(|p| Role { pod: p.name.clone(), uid: p.uid.clone(), role: role(p) }));
    }
    all.sort_by_key(|r| (r.role != MASTER, r.pod.clone()));
    all
}
