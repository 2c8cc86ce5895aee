//! Controllers that take no part in their Raft group. A jRaft node whose snapshot could not be saved or loaded, or whose disk refused a write, stops for
//! good (`STATE_ERROR` in jraft-core 1.3.14): its process runs and answers, follows no leader and votes for nobody, until it is started anew. Pure.

use gantry_crds::names::Component;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::steps::{Cause, Step};
use crate::broker_cluster::view::{Observed, PodFact};

/// For how long a controller must not have been ready where the others have a leader, in seconds: an election takes a few, a start some more.
const AFTER: i64 = 60;
/// The same where all of them run, answer, and elect nobody.
const AFTER_ALL: i64 = 300;

/// A controller that answers and knows no leader while the others have one, or while all are like this: to be restarted. It counts for no majority, so
/// none is lost by it.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed) -> Option<Step> {
    let declared: Vec<String> = (0..cluster.controllers.replicas)
        .map(|i| format!("{}-{i}", cluster.component(Component::Controller)))
        .collect();
    let leaderless = &observed.engine.leaderless;
    let after = match observed.engine.controller_leader.as_ref().ok()? {
        Some(_) => AFTER,
        None if declared.iter().all(|pod| leaderless.contains(pod)) => AFTER_ALL,
        // A majority is missing: to bring it back is what helps.
        None => return None,
    };
    let long = |pod: &PodFact| !pod.ready && pod.since.is_some_and(|since| observed.now - since >= after);
    let is_outsider = |pod: &&PodFact| {
        declared.contains(&pod.name) && leaderless.contains(&pod.name) && long(pod) && !pod.terminating
    };
    let outsider = observed.pods.iter().find(is_outsider)?;
    Some(Step::Restart {
        pod: outsider.name.clone(),
        uid: outsider.uid.clone(),
        component: Component::Controller,
        cause: Cause::Outsider,
    })
}
