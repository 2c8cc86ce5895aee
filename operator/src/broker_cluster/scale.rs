//! Broker groups and replicas on their way in and out. Pure.
//!
//! The annotation `gantry.dev/phase` of a group's StatefulSet is the record of where it is; what is done of it is done again until the engine says that
//! it is so. A group that is not open has `brokerPermission=4` on every replica, from its start on and while it runs: its routes send no producer there.
//! Before a group goes it is fenced: what was acknowledged before is seen by one more look, and nothing is after.

use gantry_crds::names;
use gantry_crds::status::GroupPhase;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::extent::{existing, set};
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::identities::is_superseded;
use crate::broker_cluster::keys::{CLOSED, FENCE, NEVER, PERMISSION};
use crate::broker_cluster::safety::{Consent, copies, hand_over, overwritten};
use crate::broker_cluster::steps::Step;
use crate::broker_cluster::view::{Left, Observed, PodFact, Queues};
use crate::broker_cluster::volumes::of_group;

/// Seconds for which nothing may be left before a group goes: clients ask for routes every 30 s, and what a consumer holds comes back within seconds of
/// its time.
pub const QUIET: i64 = 60;

/// The cluster as it should be now, on the way to what is declared.
pub fn phases(declared: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Cluster {
    let mut cluster = existing(declared, &observed.live);
    if cluster.controllers.replicas != declared.controllers.replicas {
        let live = cluster.controllers.replicas;
        holds.push(Hold::ControllersFixed { live, declared: declared.controllers.replicas });
    }
    cluster.brokers.extent.min_in_sync.retain(|group, live| {
        let in_sync = observed.engine.sync(group).map_or(0, |s| s.in_sync.len());
        let waits = i32::try_from(in_sync).unwrap_or(i32::MAX) < declared.brokers.min_in_sync;
        if waits {
            let (group, live, declared) = (group.clone(), *live, declared.brokers.min_in_sync);
            holds.push(Hold::TooFewInSync { group, live, declared });
        }
        waits
    });
    call_back(&mut cluster, observed, holds);
    let before = cluster.clone();
    let groups = cluster.groups();
    let is_there = |group: &String| set(&observed.live, group).is_some();
    let any = groups.iter().any(is_there);
    let (kept, surplus) = groups.split_at(usize::try_from(declared.brokers.groups).unwrap_or(0).min(groups.len()));
    for group in kept {
        let phase = match before.phase_of(group) {
            _ if !is_there(group) && any => GroupPhase::Opening,
            GroupPhase::Removing => GroupPhase::Removing,
            GroupPhase::Opening => opening(&before, observed, group, holds),
            // Called back: what came to the cluster meanwhile is checked before it opens.
            GroupPhase::Draining => GroupPhase::Opening,
            GroupPhase::Open => GroupPhase::Open,
        };
        enter(&mut cluster, group, phase);
    }
    let Some((last, others)) = surplus.split_last() else { return cluster };
    for group in others {
        if !is_there(group) {
            // Somebody deleted it; what its volumes hold must not wait for ever.
            enter(&mut cluster, group, GroupPhase::Draining);
        }
        holds.push(Hold::ScaleIn { what: format!("broker group {group}"), why: format!("{last} goes first") });
    }
    let phase = going(&before, observed, last, kept, holds);
    enter(&mut cluster, last, phase);
    if phase == GroupPhase::Draining && is_quiet(observed, last) {
        cluster.brokers.extent.fenced.insert(last.clone());
    }
    cluster
}

/// A replica that was declared away and that the controllers elected while it stopped, because its master died in that moment: it has what nobody else has,
/// and whoever is left may not be master. It comes back with its volume, and goes when the others have caught up.
fn call_back(cluster: &mut Cluster, observed: &Observed, holds: &mut Vec<Hold>) {
    for group in cluster.groups() {
        let Ok(sync) = observed.engine.sync(&group) else { continue };
        let removing = cluster.phase_of(&group) == GroupPhase::Removing;
        if removing || sync.master.is_some() || set(&observed.live, &group).is_none() {
            continue;
        }
        let gone = |pod: &String| observed.pods.iter().any(|p| p.name == *pod && p.gone_since.is_some());
        let copies: Vec<String> =
            sync.identities.iter().filter(|i| i.in_sync && !is_superseded(sync, i)).map(|i| i.pod.clone()).collect();
        let replicas = cluster.replicas_of(&group);
        let ordinal = |pod: &String| pod.rsplit_once('-')?.1.parse::<i32>().ok();
        let has_volume = |pod: &String| {
            let name = names::claim_of(pod);
            observed.claims.iter().any(|c| c.name == name && !c.terminating)
        };
        let (surplus, kept): (Vec<&String>, Vec<&String>) =
            copies.iter().partition(|p| ordinal(p).is_some_and(|n| n >= replicas));
        if kept.into_iter().any(|p| !gone(p)) {
            continue;
        }
        let last = surplus.into_iter().filter(|p| has_volume(p) && !gone(p)).min_by_key(|p| ordinal(p));
        let Some((pod, n)) = last.and_then(|p| Some((p, ordinal(p)?))) else { continue };
        cluster.brokers.extent.sizes.insert(group.clone(), n + 1);
        let why = "it alone has all messages that were acknowledged, and goes when another replica has them".to_owned();
        holds.push(Hold::ScaleIn { what: pod.clone(), why });
    }
}

fn enter(cluster: &mut Cluster, group: &str, phase: GroupPhase) {
    let extent = &mut cluster.brokers.extent;
    if phase.is_open() {
        extent.phases.remove(group);
    } else {
        extent.phases.insert(group.to_owned(), phase);
    }
    if phase == GroupPhase::Removing {
        extent.sizes.insert(group.to_owned(), 0);
        extent.fenced.insert(group.to_owned());
    }
}

/// A new group opens when it has everything, on every replica.
fn opening(cluster: &Cluster, observed: &Observed, group: &str, holds: &mut Vec<Hold>) -> GroupPhase {
    match lacks(cluster, observed, group) {
        None => GroupPhase::Open,
        Some(why) => {
            holds.push(Hold::Opening { group: group.to_owned(), why });
            GroupPhase::Opening
        }
    }
}

fn lacks(cluster: &Cluster, observed: &Observed, group: &str) -> Option<String> {
    let sync = match observed.engine.sync(group) {
        Ok(sync) => sync,
        Err(unknown) => return Some(unknown.message),
    };
    if sync.master.is_none() {
        return Some("it has no master yet".into());
    }
    if let Some(pod) = cluster.pods_of(group).into_iter().find(|p| !sync.in_sync.contains(p)) {
        return Some(format!("{pod} is not in sync"));
    }
    let view = observed.engine.groups.get(group)?;
    if !observed.metadata_on.contains(group) {
        return Some("it does not hold all topics, consumer groups, users and ACLs yet".into());
    }
    match &view.lacks {
        None => Some("nobody has looked at its offsets yet".into()),
        Some(Err(unknown)) => Some(unknown.message.clone()),
        Some(Ok(lacks)) if !lacks.groups.is_empty() => {
            let groups: Vec<&str> = lacks.groups.iter().map(String::as_str).take(5).collect();
            Some(format!("it lacks consumer groups that read its topics elsewhere: {}", groups.join(", ")))
        }
        Some(Ok(lacks)) if !lacks.offsets.is_empty() => Some("it lacks offsets of consumer groups".into()),
        Some(Ok(lacks)) => {
            lacks.replicas.first().map(|pod| format!("{pod} has not yet copied the offsets of consumer groups"))
        }
    }
}

/// The group that goes next.
fn going(cluster: &Cluster, observed: &Observed, group: &str, kept: &[String], holds: &mut Vec<Hold>) -> GroupPhase {
    match cluster.phase_of(group) {
        GroupPhase::Removing => GroupPhase::Removing,
        GroupPhase::Open | GroupPhase::Opening if set(&observed.live, group).is_some() => {
            let serves = |g: &&String| {
                cluster.phase_of(g).is_open() && observed.engine.sync(g).is_ok_and(|s| s.master.is_some())
            };
            if kept.iter().find(serves).is_some() {
                return GroupPhase::Draining;
            }
            let why = "no broker group that stays takes messages".to_owned();
            holds.push(Hold::ScaleIn { what: format!("broker group {group}"), why });
            cluster.phase_of(group)
        }
        phase => match still_needed(observed, group) {
            None => GroupPhase::Removing,
            Some(why) => {
                holds.push(Hold::Draining { group: group.to_owned(), why });
                phase
            }
        },
    }
}

fn still_needed(observed: &Observed, group: &str) -> Option<String> {
    let view = observed.engine.groups.get(group);
    match view.and_then(|v| v.left.as_ref()) {
        None => return Some("nobody has looked at what it holds yet".into()),
        Some(Err(unknown)) => return Some(unknown.message.clone()),
        Some(Ok(left)) if !left.is_empty() => return Some(format!("it holds messages {}", kinds(left))),
        Some(Ok(_)) => {}
    }
    if !is_quiet(observed, group) {
        return Some("it is empty; clients that have not heard of it may still send for a minute".into());
    }
    let sync = match observed.engine.sync(group) {
        Ok(sync) => sync,
        Err(unknown) => return Some(unknown.message),
    };
    let key = |pod: &str, key| observed.engine.live_key(pod, key).unwrap_or_default().to_owned();
    // Whoever lives may be master a moment later.
    let fenced = |pod: &str| key(pod, PERMISSION) == CLOSED && key(pod, FENCE) == NEVER;
    let sends = sync.identities.iter().find(|i| i.alive && !fenced(&i.pod));
    sends.map(|i| format!("{} is not known to refuse messages", i.pod))
}

/// What kinds of messages are left. Without numbers: those are in the status, and not written with every look.
fn kinds(left: &Left) -> String {
    let some = |names: Vec<&String>| {
        let more = if names.len() > 3 { " and others" } else { "" };
        let names: Vec<&str> = names.into_iter().take(3).map(String::as_str).collect();
        format!("{}{more}", names.join(", "))
    };
    let mut kinds = Vec::new();
    if !left.consumers.is_empty() {
        kinds.push(format!("that {} has not read", some(left.consumers.keys().collect())));
    }
    if !left.unread.is_empty() {
        kinds.push(format!("that nobody reads, of {}", some(left.unread.keys().collect())));
    }
    if left.delayed > 0 {
        kinds.push("that are delayed, or that a consumer holds".into());
    }
    if left.transactions > 0 {
        kinds.push("of transactions that are not decided".into());
    }
    if left.undispatched > 0 {
        kinds.push("that are not yet in a queue".into());
    }
    kinds.join("; ")
}

/// Nothing has been left for a minute.
fn is_quiet(observed: &Observed, group: &str) -> bool {
    let left = observed.engine.groups.get(group).and_then(|v| v.left.as_ref());
    let empty = left.is_some_and(|l| l.as_ref().is_ok_and(Left::is_empty));
    empty && observed.empty_since.get(group).is_some_and(|since| observed.now - since >= QUIET)
}

/// Offsets that new groups lack, from the first message on; some of them where they are many.
#[must_use]
pub fn offsets(cluster: &Cluster, observed: &Observed) -> Vec<Call> {
    let of = |group: String| {
        let lacks = observed.engine.groups.get(&group)?.lacks.as_ref()?.as_ref().ok()?;
        let master = observed.engine.sync(&group).ok()?.master.clone()?;
        let opening = cluster.phase_of(&group) == GroupPhase::Opening && !lacks.offsets.is_empty();
        opening.then(|| Call::StartOffsets { group, master, queues: first(&lacks.offsets) })
    };
    cluster.groups().into_iter().filter_map(of).collect()
}

/// As many as a pass has time for; each queue is a request, and takes about a millisecond.
fn first(offsets: &Queues) -> Queues {
    let mut room = 5_000_usize;
    let mut some = Queues::new();
    for (group, topics) in offsets {
        for (topic, queues) in topics {
            if room == 0 {
                return some;
            }
            room = room.saturating_sub(queues.len());
            some.entry(group.clone()).or_default().insert(topic.clone(), queues.clone());
        }
    }
    some
}

/// A group whose pods have stopped: what is still to be done, or that its objects may go.
pub enum Gone {
    /// Its objects may go.
    Delete(String),
    /// First its volumes go: were they there when the group is declared again, they would hold ids that nobody knows.
    Volumes(String),
    /// First the controllers forget it.
    Forget(Call),
}

/// The group that is being removed, once its pods have stopped.
#[must_use]
pub fn gone(declared: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Option<Gone> {
    let all = existing(declared, &observed.live);
    let group = all.groups().into_iter().find(|g| all.phase_of(g) == GroupPhase::Removing)?;
    let mut pods = observed.pods.iter().filter(|p| p.set == group).peekable();
    if pods.peek().is_some() {
        if let Some(pod) = pods.find(|p| p.gone_since.is_some_and(|since| since < observed.now)) {
            let why = format!("{} does not end, its node does not answer", pod.name);
            holds.push(Hold::Draining { group, why });
        }
        return None;
    }
    // A volume that is kept keeps its id: without it the engine would refuse the broker that finds the volume again.
    if declared.brokers.volume.retain {
        return Some(Gone::Delete(group));
    }
    let held = |why: String| Hold::Draining { group: group.clone(), why };
    match observed.engine.sync(&group) {
        Ok(sync) if sync.identities.is_empty() => {
            let volumes = of_group(observed, &group);
            if volumes.is_empty() {
                return Some(Gone::Delete(group));
            }
            holds.push(held("its volumes are being deleted".into()));
            Some(Gone::Volumes(group))
        }
        Ok(sync) if sync.master.is_none() => Some(Gone::Forget(Call::ForgetGroup { group })),
        Ok(_) => {
            holds.push(held("the controllers have not missed its master yet".into()));
            None
        }
        Err(unknown) => {
            holds.push(held(unknown.message));
            None
        }
    }
}

/// One replica fewer of one group, where more are there than declared: the group, or the election that comes first.
pub fn shrink(cluster: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Option<Result<String, Step>> {
    let mut surplus = cluster.groups();
    surplus.retain(|g| cluster.replicas_of(g) > cluster.brokers.replicas);
    for group in surplus {
        match may_shrink(cluster, observed, &group) {
            Ok(None) => return Some(Ok(group)),
            Ok(Some(step)) => return Some(Err(step)),
            Err(hold) => holds.push(hold),
        }
    }
    None
}

fn may_shrink(cluster: &Cluster, observed: &Observed, group: &str) -> Result<Option<Step>, Hold> {
    let mut rest = cluster.pods_of(group);
    let Some(pod) = rest.pop() else { return Ok(None) };
    let held = |why: String| Hold::ScaleIn { what: pod.clone(), why };
    let sync = observed.engine.sync(group).map_err(|u| held(u.message))?;
    if let Some(behind) = rest.iter().find(|p| !sync.in_sync.contains(*p)) {
        return Err(held(format!("{behind} is not in sync")));
    }
    // What is taken away does not come back: the controllers and the probes miss one that hangs only after 10 s.
    if let Some(silent) = rest.iter().find(|p| !sync.answering.contains(*p)) {
        return Err(held(format!("{silent} does not answer")));
    }
    let ready = |name: &String| observed.pods.iter().any(|p| p.name == *name && p.ready && !p.terminating);
    if let Some(other) = rest.iter().find(|p| !ready(p)) {
        return Err(held(format!("{other} is not ready")));
    }
    if i32::try_from(rest.len()).unwrap_or(0) < cluster.brokers.min_in_sync {
        return Err(held(format!("fewer than {} copies would stay in sync", cluster.brokers.min_in_sync)));
    }
    match &sync.master {
        None => Err(held(format!("{group} has no master"))),
        Some(master) if *master == pod => match hand_over(observed, sync, &pod, &rest) {
            Ok(Consent::MoveMasterFirst { to, id, end }) => {
                Ok(Some(Step::Elect { group: group.to_owned(), to, id, from: pod.clone(), end }))
            }
            Ok(Consent::Stop) => Ok(None),
            Err(unknown) => Err(held(unknown.message)),
        },
        Some(_) => {
            // Its volume may come back with the next replica that is declared, and what was cut off its log with it.
            let catches_up = |p: &&PodFact| p.name == pod && (copies(sync, p) || !overwritten(sync, p));
            match observed.pods.iter().find(catches_up) {
                Some(_) => Err(held(Hold::CatchesUp { pod: pod.clone() }.why())),
                None => Ok(None),
            }
        }
    }
}
