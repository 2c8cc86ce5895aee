//! Replicas that their master does not send to. Pure.
//!
//! RocketMQ tells a replica where its master's log is to be had through the name servers, with its registration every 10 s: until then it copies nothing, and
//! with one replica in sync fewer than `minInSyncReplicas` no message is acknowledged. So replicas are told at once.
//!
//! In 5.5.0 there is a dead end, too: where a name server still names the former master in the moment of a switch, the replica connects to that one, which
//! accepts it and has nothing to give, and it never looks again (`AutoSwitchHAClient.updateHaMasterAddress` leaves the connection as it is). A restart of its
//! process is the cure.

use std::collections::BTreeSet;

use gantry_crds::names::Component;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::steps::{Cause, Step};
use crate::broker_cluster::view::{Observed, PodFact};

/// Replicas of which a master does not know, and which live.
#[must_use]
pub fn strays(cluster: &Cluster, observed: &Observed) -> Vec<Call> {
    let mut calls = Vec::new();
    for group in cluster.groups() {
        let Some(master) = observed.engine.sync(&group).ok().and_then(|s| s.master.clone()) else { continue };
        let of_group = observed.pods.iter().filter(|p| p.set == group && is_stray(cluster, observed, p));
        let replicas: BTreeSet<String> = of_group.map(|p| p.name.clone()).collect();
        if !replicas.is_empty() {
            calls.push(Call::Follow { master, replicas });
        }
    }
    calls
}

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
    let long = !pod.ready && pod.since.is_some_and(|since| observed.now - since >= AFTER);
    let master_serves = observed.engine.sync(&pod.set).is_ok_and(|s| {
        s.master.as_ref().is_some_and(|m| observed.pods.iter().any(|p| p.name == *m && p.ready && !p.terminating))
    });
    long && master_serves && is_stray(cluster, observed, pod)
}

/// Does its master, which says to whom it sends, not send to this replica, which lives?
fn is_stray(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> bool {
    let Ok(sync) = observed.engine.sync(&pod.set) else { return false };
    let (Some(master), Some(followers), Some(ip)) = (&sync.master, &sync.followers, &pod.ip) else { return false };
    let declared = cluster.pods_of(&pod.set).contains(&pod.name);
    let alive = sync.identities.iter().any(|i| i.pod == pod.name && i.alive && !i.in_sync);
    declared
        && alive
        && !pod.terminating
        && pod.name != *master
        && !sync.in_sync.contains(&pod.name)
        && sync.answering.contains(&pod.name)
        && !followers.contains(ip)
}
