//! Controllers that take no part in their Raft group. A jRaft node whose snapshot could not be saved or loaded, or whose disk refused a write, stops for
//! good (`STATE_ERROR` in jraft-core 1.3.14): its process runs and answers, follows no leader and votes for nobody, until it is started anew.
//!
//! There is a leader, too, that sends nothing to one of the others as long as it leads: where that one was stopped in the very moment of the election,
//! jraft-core's `Replicator` ends with its first heartbeat and none takes its place. To start that one anew helps nothing; another leader does. Pure.

use gantry_crds::names::Component;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::safety::may_restart_leader;
use crate::broker_cluster::steps::{Cause, Step};
use crate::broker_cluster::view::{Observed, PodFact};

/// For how long a controller must not have been ready where the others have a leader, in seconds: an election takes a few, a start some more.
const AFTER: i64 = 60;
/// The same where all of them run, answer, and elect nobody.
const AFTER_ALL: i64 = 300;
/// The same where it follows no leader though it was started anew and the leader changed since: all was tried, so its own disk is likely why, and to try
/// all of it again costs a leader.
const AFTER_BOTH: i64 = 1800;
/// How long the others must have run before their leader is restarted, in seconds: a roll or a fault may still be going on.
const LEADER_RUNS: i64 = 300;
/// How long after it was made a pod that never was ready says so, in seconds: it is scheduled first.
const STARTS: i64 = 30;

/// A controller that answers and knows no leader while the others have one, or while all are like this: to be restarted. It counts for no majority, so
/// none is lost by it. Where that did not help, their leader, once.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed) -> Option<Step> {
    let declared: Vec<String> = (0..cluster.controllers.replicas)
        .map(|i| format!("{}-{i}", cluster.component(Component::Controller)))
        .collect();
    let leaderless = &observed.engine.leaderless;
    let leader = observed.engine.controller_leader.as_ref().ok()?;
    let after = match leader {
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
    let others: Vec<&PodFact> =
        observed.pods.iter().filter(|p| declared.contains(&p.name) && p.name != outsider.name).collect();
    let leader = leader.as_ref().and_then(|leader| others.iter().find(|p| p.name == *leader));
    match leader.zip(newborn(outsider)) {
        None => Some(restart(outsider, Cause::Outsider)),
        Some((leader, (born, since))) => {
            let now = observed.now;
            let made = |pod: &&PodFact| pod.created.unwrap_or(now);
            // Later than a roll that it was part of would have made them, so for its sake.
            if others.iter().any(|pod| made(pod) - since >= AFTER) {
                return (now - born >= AFTER_BOTH).then(|| restart(outsider, Cause::Outsider));
            }
            let settled = others.iter().all(|pod| now - made(pod) >= LEADER_RUNS);
            let may = settled && may_restart_leader(cluster, observed, leader, outsider).is_ok();
            Some(if may { restart(leader, Cause::Unheard) } else { restart(outsider, Cause::Outsider) })
        }
    }
}

/// When a pod was made that was never ready, or only just, and since when it is not.
fn newborn(pod: &PodFact) -> Option<(i64, i64)> {
    pod.created.zip(pod.since).filter(|(created, since)| since - created <= STARTS)
}

fn restart(pod: &PodFact, cause: Cause) -> Step {
    Step::Restart { pod: pod.name.clone(), uid: pod.uid.clone(), component: Component::Controller, cause }
}
