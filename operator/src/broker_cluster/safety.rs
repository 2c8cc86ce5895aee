//! May this pod stop now? A decision with a reason. What is not known is a no.
//!
//! Of brokers two facts are asked, and two others are not needed beside them. *How far a replica is behind* is what the sync state set says, and says better:
//! its master lets a message be acknowledged only when every member has it, so a member lacks nothing that matters, while a number of bytes is old when it is
//! read and never 0 where messages flow. *Epochs* tell which of two logs is the group's; the members of the set have the same history up to the last
//! acknowledged message, and the controllers elect nobody else. What neither the set nor an epoch tells is what lies on a disk behind the end of a log
//! (rocketmq #10666: both logs call it the same epoch): for that there are `ends`, and the end that a former master had ([`overwritten`]).

use gantry_crds::Reason;
use gantry_crds::names::Component;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::view::{Observed, PodFact, SyncState, Unknown};

/// How a pod may be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Now: nothing that serves is lost by it.
    Stop,
    /// Only after `to` has been made master of the group.
    MoveMasterFirst {
        /// In-sync replica to be elected.
        to: String,
        /// Its broker id.
        id: i64,
        /// Where the log of the pod ends, in bytes: it may not be stopped before the new master's log is longer.
        end: i64,
    },
}

/// May this pod be stopped now, to be started again at once with its volume?
///
/// # Errors
/// The reason why not.
pub fn may_restart(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> Result<Consent, Hold> {
    match pod.component {
        Component::NameServer => may_restart_name_server(cluster, observed, pod),
        Component::Controller => may_restart_controller(cluster, observed, pod),
        Component::Broker => may_restart_broker(cluster, observed, pod),
        // Kubernetes replaces proxies itself: a new one is ready before an old one goes.
        Component::Proxy => Ok(Consent::Stop),
    }
}

/// Another declared pod of the same set that is missing, not ready or going away.
fn not_well(observed: &Observed, pod: &PodFact, replicas: i32) -> Option<String> {
    (0..replicas)
        .map(|i| format!("{}-{i}", pod.set))
        .find(|name| *name != pod.name && !observed.pods.iter().any(|p| p.name == *name && p.ready && !p.terminating))
}

fn may_restart_name_server(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> Result<Consent, Hold> {
    match not_well(observed, pod, cluster.name_servers.replicas) {
        // One that does not serve may go whatever the others do: it may be waiting for just this change.
        Some(other) if pod.ready => Err(Hold::OtherPodDown { pod: pod.name.clone(), other }),
        _ => Ok(Consent::Stop),
    }
}

fn may_restart_controller(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> Result<Consent, Hold> {
    if !pod.ready {
        return Ok(Consent::Stop);
    }
    let replicas = cluster.controllers.replicas;
    if let Some(other) = not_well(observed, pod, replicas) {
        return Err(Hold::OtherPodDown { pod: pod.name.clone(), other });
    }
    let ready = observed.pods.iter().filter(|p| p.set == pod.set && p.ready && !p.terminating).count();
    let majority = usize::try_from(replicas / 2 + 1).unwrap_or(usize::MAX);
    // A single controller can't be restarted with a majority left; masters stay masters while it is away.
    if replicas > 1 && ready <= majority {
        return Err(Hold::ControllerQuorum { pod: pod.name.clone(), ready, replicas });
    }
    Ok(Consent::Stop)
}

/// May the leader of the controllers be stopped for the sake of one of them that never heard of it? As if that one were well: it runs and answers, and votes as
/// soon as another one leads.
///
/// # Errors
/// The reason why not.
pub fn may_restart_leader(
    cluster: &Cluster,
    observed: &Observed,
    leader: &PodFact,
    unheard: &PodFact,
) -> Result<Consent, Hold> {
    let mut as_if = observed.clone();
    as_if.pods.iter_mut().filter(|p| p.uid == unheard.uid).for_each(|p| p.ready = !p.terminating);
    may_restart_controller(cluster, &as_if, leader)
}

fn may_restart_broker(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> Result<Consent, Hold> {
    let group = &pod.set;
    let unknown = |unknown| Hold::Unknown { pod: pod.name.clone(), unknown };
    let replicas = cluster.replicas_of(group);
    if replicas == 1 {
        // Nobody could take over: the pause is what a single replica means.
        return Ok(Consent::Stop);
    }
    let sync = observed.engine.sync(group).map_err(unknown)?;
    let leads = sync.master.as_deref() == Some(&pod.name);
    if !pod.ready && !leads && !sync.in_sync.contains(&pod.name) {
        // It serves nothing and holds no copy that counts.
        return if copies(sync, pod) { Err(Hold::CatchesUp { pod: pod.name.clone() }) } else { Ok(Consent::Stop) };
    }
    if let Some(other) = not_well(observed, pod, replicas) {
        return Err(Hold::OtherPodDown { pod: pod.name.clone(), other });
    }
    let Some(master) = &sync.master else {
        return Err(Hold::NoMaster { pod: pod.name.clone(), group: group.clone() });
    };
    if !leads && !overwritten(sync, pod) {
        return Err(Hold::CatchesUp { pod: pod.name.clone() });
    }
    let left: Vec<String> = sync.in_sync.iter().filter(|p| **p != pod.name).cloned().collect();
    // Every other replica, not just as many as writes need: the next failure must not find a group already thin.
    let wanted = replicas - 1;
    if i32::try_from(left.len()).unwrap_or(i32::MAX) < wanted {
        return Err(Hold::NotEnoughInSync { pod: pod.name.clone(), group: group.clone(), in_sync: left, wanted });
    }
    route_is_everywhere(observed, pod, group, master)?;
    if !leads {
        return Ok(Consent::Stop);
    }
    if let Some(other) = just_started(observed, pod) {
        return Err(Hold::JustStarted { pod: pod.name.clone(), other, seconds: SETTLED });
    }
    hand_over(observed, sync, &pod.name, &left).map_err(unknown)
}

/// How long every other replica must have been ready before a master hands over for the sake of its own restart, in seconds. A JVM that has just started
/// takes the cores that the next master needs: where four share two, senders then waited 2.0 to 4.0 s for a hand-over.
const SETTLED: i64 = 5;

/// A replica of the pod's group that has not been ready for that long.
fn just_started(observed: &Observed, pod: &PodFact) -> Option<String> {
    let mut others = observed.pods.iter().filter(|p| p.set == pod.set && p.name != pod.name);
    others.find(|p| p.since.is_some_and(|since| observed.now - since < SETTLED)).map(|p| p.name.clone())
}

/// Does it copy what it lacks? A former master that is stopped between the truncation of its log and new data in that place finds the old data again
/// (rocketmq #10666) and goes on from there: its copy would be another one than the others', and nobody would notice.
pub fn copies(sync: &SyncState, pod: &PodFact) -> bool {
    let alive = sync.identities.iter().any(|i| i.pod == pod.name && i.alive);
    let in_sync = sync.in_sync.contains(&pod.name);
    !in_sync && alive && pod.trouble.is_none() && sync.answering.contains(&pod.name)
}

/// What was cut off its log when it handed over is valid on its disk until as much has come in its place. Who has not handed over has nothing of that kind.
pub fn overwritten(sync: &SyncState, pod: &PodFact) -> bool {
    let now = sync.master.as_ref().and_then(|master| sync.ends.get(master));
    pod.log_end.is_none_or(|end| now.is_some_and(|now| *now >= end))
}

/// To whom of `left`, all in sync, the master `from` hands over.
pub fn hand_over(observed: &Observed, sync: &SyncState, from: &str, left: &[String]) -> Result<Consent, Unknown> {
    let unknown = |message: &str| Unknown { reason: Reason::FactsUnknown.as_str().into(), message: message.into() };
    // Without it nobody could tell later when the former master may stop.
    let end = *sync.ends.get(from).ok_or_else(|| unknown("it has not said where its log ends"))?;
    // One that stays where it is, before one whose node is about to be drained.
    let (leaving, staying): (Vec<&String>, Vec<&String>) = left.iter().partition(|to| observed.on_cordoned(to));
    // The set shrinks to the new master: were it gone already, every message since would wait for it.
    let mut answering = staying.into_iter().chain(leaving).filter(|to| sync.answering.contains(*to));
    answering
        .find_map(|to| sync.ids.get(to).map(|id| Consent::MoveMasterFirst { to: to.clone(), id: *id, end }))
        .ok_or_else(|| unknown("no in-sync replica answers"))
}

/// Clients learn of masters from name servers: all that answer must agree before a pod goes, and all must answer.
fn route_is_everywhere(observed: &Observed, pod: &PodFact, group: &str, master: &str) -> Result<(), Hold> {
    for (name_server, view) in &observed.engine.routes {
        let masters = view.masters.as_ref().map_err(|u| Hold::Unknown { pod: pod.name.clone(), unknown: u.clone() })?;
        if masters.get(group).and_then(Option::as_deref) != Some(master) {
            return Err(Hold::RouteNotMoved {
                pod: pod.name.clone(),
                group: group.into(),
                master: master.into(),
                name_server: name_server.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "safety_tests.rs"]
mod tests;
