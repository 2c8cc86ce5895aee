//! Replicas that follow nobody. RocketMQ 5.5.0 tells a replica whom to follow through the name servers; where one of those still names the former
//! master in the moment of a switch, the replica connects to that one, which accepts it and has nothing to give, and it never looks again
//! (`AutoSwitchHAClient.updateHaMasterAddress` leaves the connection as it is). A restart of its process is the cure. Pure.

use gantry_crds::names::Component;

use crate::broker_cluster::parse::Cluster;
use crate::broker_cluster::plan::{Cause, Step};
use crate::broker_cluster::view::{Observed, PodFact};

/// For how long a replica must not have been ready, in seconds: the engine itself takes 15 s and more to bring one back.
const AFTER: i64 = 60;

/// A replica that runs, answers, is known to be alive, and to which its master does not send: to be restarted. It serves nothing, so nobody is disturbed.
#[must_use]
pub fn next(cluster: &Cluster, observed: &Observed) -> Option<Step> {
    let stranded =
        observed.pods.iter().find(|p| p.component == Component::Broker && is_stranded(cluster, observed, p))?;
    Some(Step::Restart {
        pod: stranded.name.clone(),
        uid: stranded.uid.clone(),
        component: Component::Broker,
        cause: Cause::Stranded,
    })
}

fn is_stranded(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> bool {
    let Ok(sync) = observed.engine.sync(&pod.set) else { return false };
    let (Some(master), Some(followers), Some(ip)) = (&sync.master, &sync.followers, &pod.ip) else { return false };
    let long = !pod.ready && pod.since.is_some_and(|since| observed.now - since >= AFTER);
    let declared = cluster.pods_of(&pod.set).contains(&pod.name);
    let alive = sync.identities.iter().any(|i| i.pod == pod.name && i.alive && !i.in_sync);
    let master_serves = observed.pods.iter().any(|p| p.name == *master && p.ready && !p.terminating);
    long && declared
        && alive
        && master_serves
        && !pod.terminating
        && pod.name != *master
        && !sync.in_sync.contains(&pod.name)
        && sync.answering.contains(&pod.name)
        && !followers.contains(ip)
}
