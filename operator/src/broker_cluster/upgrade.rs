//! A change of the engine's version: role by role, one broker group before the others, and back where it does not go well. Pure.
//!
//! A client is never newer than what it asks: on the way up name servers, controllers, the canary group, the other groups, proxies; on the way down
//! the other way round. A StatefulSet gets another engine only when its turn has come, so that a pod that dies meanwhile comes back as it was. What is
//! decided is written into `status.upgrade` first and acted on by the next pass: an operator that starts anew goes on from there.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::Reason;
use gantry_crds::names::Component;
use gantry_crds::status::{UpgradePhase, UpgradeStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::broker_cluster::cluster::{Cluster, Engine, Mode};
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::stages::{self, Stages};
use crate::broker_cluster::version::Version;
use crate::broker_cluster::view::{Observed, PodFact};
use crate::broker_cluster::{formats, hazards};
use crate::labels;

/// Restarts after which a pod that crashes again is not well: about a minute of trying.
const CRASHES: i32 = 3;

/// What the engine's version should be now, where.
#[derive(Debug, Default)]
pub struct Course {
    /// What does not run the declared engine for now: see [`Cluster::engines`].
    pub engines: BTreeMap<String, Engine>,
    /// What is to be written down.
    pub record: Option<UpgradeStatus>,
    /// StatefulSets whose pods wait, though some of them may have changed: their turn is to come, and one restart is enough.
    pub waiting: BTreeSet<String>,
    /// Nothing of this cluster is to be made: there is none yet, and the version that it would have is refused.
    pub refused: bool,
}

/// Where the engine's version is on its way to what is declared.
pub fn course(cluster: &Cluster, observed: &Observed, holds: &mut Vec<Hold>) -> Course {
    let running = running(observed);
    let there = running.values().any(|e| e.version == cluster.version);
    let hazard = hazards::of_version(cluster, &cluster.version).filter(|_| there || running.is_empty());
    holds.extend(hazard.map(|h| Hold::Hazard { version: cluster.version.clone(), what: h.sentence() }));
    if running.is_empty() {
        return Course { refused: hazard.is_some(), ..Course::default() };
    }
    match &observed.upgrade {
        None => begin(cluster, observed, &running, holds),
        Some(record) => go_on(cluster, observed, &running, record, holds),
    }
}

/// Version and image of every StatefulSet and Deployment that there is, by its template.
fn running(observed: &Observed) -> BTreeMap<String, Engine> {
    let sets = observed.live.stateful_sets.iter();
    let sets = sets.filter_map(|s| Some((s.metadata.name.clone()?, engine(&s.spec.as_ref()?.template)?)));
    let deployments = observed.live.deployments.iter();
    let deployments = deployments.filter_map(|d| Some((d.metadata.name.clone()?, engine(&d.spec.as_ref()?.template)?)));
    sets.chain(deployments).collect()
}

fn engine(template: &PodTemplateSpec) -> Option<Engine> {
    let version = template.metadata.as_ref()?.labels.as_ref()?.get(labels::VERSION)?.clone();
    let image = template.spec.as_ref()?.containers.first()?.image.clone()?;
    Some(Engine { version, image })
}

/// What ran before: the brokers' version where it is another than declared, else whatever is.
fn before(cluster: &Cluster, running: &BTreeMap<String, Engine>) -> Option<Engine> {
    // A label that somebody edited is no version.
    let other = |e: &&Engine| e.version != cluster.version && Version::of(&e.version).is_some();
    let groups = cluster.groups();
    let of_brokers = groups.iter().rev().find_map(|g| running.get(g).filter(other));
    let version = of_brokers.or_else(|| running.values().find(other))?.version.clone();
    Some(Engine { image: image(running, &version)?, version })
}

/// The image that most have of a version: a single one may be somebody's edit.
fn image(running: &BTreeMap<String, Engine>, version: &str) -> Option<String> {
    let mut images: BTreeMap<&String, usize> = BTreeMap::new();
    for engine in running.values().filter(|e| e.version == version) {
        *images.entry(&engine.image).or_default() += 1;
    }
    images.into_iter().max_by_key(|(_, n)| *n).map(|(image, _)| image.clone())
}

fn everywhere(cluster: &Cluster, engine: &Engine) -> BTreeMap<String, Engine> {
    all(cluster).map(|name| (name, engine.clone())).collect()
}

fn begin(cluster: &Cluster, observed: &Observed, running: &BTreeMap<String, Engine>, holds: &mut Vec<Hold>) -> Course {
    let Some(from) = before(cluster, running) else { return Course::default() };
    let engines = kept(cluster, running, &from);
    let keys = formats::live(cluster, observed).unwrap_or_default();
    let version = hazards::of_version(cluster, &cluster.version);
    if let Some(hazard) = version.or_else(|| hazards::of_step(cluster, &keys, &from.version, &cluster.version)) {
        let version = format!("{} in place of {}", cluster.version, from.version);
        holds.push(Hold::Hazard { version, what: hazard.sentence() });
        return Course { engines, ..Course::default() };
    }
    let record = UpgradeStatus {
        from: from.version,
        from_image: from.image,
        to: cluster.version.clone(),
        phase: UpgradePhase::Rolling,
        canary: cluster.groups().first().cloned().unwrap_or_default(),
        done: 0,
        total: 0,
        progress: String::new(),
        reason: None,
        since: now(observed),
        generation: cluster.generation,
        retry: cluster.retry.clone(),
    };
    decided(cluster, observed, engines, record)
}

/// Something was decided: it is written down, and nothing is done before.
fn decided(cluster: &Cluster, observed: &Observed, engines: BTreeMap<String, Engine>, record: UpgradeStatus) -> Course {
    let waiting = all(cluster).collect();
    Course { engines, record: Some(counted(cluster, observed, record)), waiting, refused: false }
}

/// Names of all StatefulSets and the Deployment, and of the component that all broker groups are.
fn all(cluster: &Cluster) -> impl Iterator<Item = String> {
    Component::ALL.map(|c| cluster.component(c)).into_iter().chain(cluster.groups())
}

/// As it is: what does not run the declared version keeps what it has.
fn kept(cluster: &Cluster, running: &BTreeMap<String, Engine>, from: &Engine) -> BTreeMap<String, Engine> {
    let mut engines = everywhere(cluster, from);
    engines.retain(|name, _| running.get(name).is_none_or(|e| e.version != cluster.version));
    engines
}

fn go_on(
    cluster: &Cluster,
    observed: &Observed,
    running: &BTreeMap<String, Engine>,
    old: &UpgradeStatus,
    holds: &mut Vec<Hold>,
) -> Course {
    let from = Engine { version: old.from.clone(), image: old.from_image.clone() };
    let to = goal(cluster, running, old);
    let asked_again = old.generation != cluster.generation || old.retry != cluster.retry;
    let another = |phase, reason: Option<String>| UpgradeStatus {
        phase,
        reason,
        since: now(observed),
        generation: cluster.generation,
        retry: cluster.retry.clone(),
        ..old.clone()
    };
    match old.phase {
        // Nobody has it yet: nothing is to be finished.
        UpgradePhase::Rolling if cluster.version != old.to && !has_any(running, &old.to) => {
            begin(cluster, observed, running, holds)
        }
        UpgradePhase::Rolling => {
            let up = Version::of(&to.version) > Version::of(&from.version);
            let stages = Stages::new(cluster, observed, running, &to, up, true);
            let engines = stages.engines(&from);
            let again = (cluster.version == from.version).then(|| format!("{} is declared again", from.version));
            if let Some(why) = not_well(cluster, observed, &to).or(again) {
                let (phase, why) = way_back(cluster, observed, running, old, why);
                return decided(cluster, observed, differing(cluster, engines), another(phase, Some(why)));
            }
            if stages.are_done() {
                return Course { engines: differing(cluster, engines), ..Course::default() };
            }
            if cluster.version != to.version {
                let (declared, from, to) = (cluster.version.clone(), from.version.clone(), to.version.clone());
                holds.push(Hold::UpgradeUnderWay { declared, from, to });
            }
            holds.extend(stages.waits());
            under_way(cluster, observed, engines, &from, old)
        }
        UpgradePhase::RollingBack => {
            let up = Version::of(&from.version) > Version::of(&to.version);
            let stages = Stages::new(cluster, observed, running, &from, up, false);
            let engines = stages.engines(&to);
            let wanted = cluster.version == from.version;
            if stages.are_done() && wanted {
                return Course { engines: differing(cluster, engines), ..Course::default() };
            }
            if !wanted {
                holds.push(failed(old, &format!("goes back to {}", from.version)));
            }
            if stages.are_done() {
                let (generation, retry) = (old.generation, old.retry.clone());
                let record = another(UpgradePhase::RolledBack, old.reason.clone());
                return decided(cluster, observed, engines, UpgradeStatus { generation, retry, ..record });
            }
            under_way(cluster, observed, engines, &to, old)
        }
        UpgradePhase::RolledBack if cluster.version == from.version => Course::default(),
        UpgradePhase::RolledBack if asked_again => begin(cluster, observed, running, holds),
        UpgradePhase::RolledBack => {
            holds.push(failed(old, &format!("went back to {}", from.version)));
            let record = Some(counted(cluster, observed, old.clone()));
            Course { engines: everywhere(cluster, &from), record, ..Course::default() }
        }
        UpgradePhase::Stopped => {
            let engines = Stages::new(cluster, observed, running, &to, true, false).as_they_are(&from);
            let record = if asked_again { another(UpgradePhase::Rolling, None) } else { old.clone() };
            if !asked_again {
                holds.push(failed(old, "stopped"));
            }
            decided(cluster, observed, differing(cluster, engines), record)
        }
    }
}

fn has_any(running: &BTreeMap<String, Engine>, version: &str) -> bool {
    running.values().any(|e| e.version == version)
}

/// On the way: pods of StatefulSets that still have `before` wait for their turn.
fn under_way(
    cluster: &Cluster,
    observed: &Observed,
    engines: BTreeMap<String, Engine>,
    before: &Engine,
    record: &UpgradeStatus,
) -> Course {
    let waits = |(name, engine): (&String, &Engine)| (engine == before).then(|| name.clone());
    let waiting = engines.iter().filter_map(waits).collect();
    let record = Some(counted(cluster, observed, record.clone()));
    Course { engines: differing(cluster, engines), record, waiting, refused: false }
}

/// The engine that the record speaks of: the declared one, or while another is declared the one that runs already.
fn goal(cluster: &Cluster, running: &BTreeMap<String, Engine>, old: &UpgradeStatus) -> Engine {
    let version = old.to.clone();
    let declared = (cluster.version == version).then(|| cluster.image.clone());
    let image = declared.or_else(|| image(running, &version)).unwrap_or_default();
    Engine { version, image }
}

/// Only what is otherwise than declared.
fn differing(cluster: &Cluster, mut engines: BTreeMap<String, Engine>) -> BTreeMap<String, Engine> {
    engines.retain(|_, e| e.version != cluster.version || e.image != cluster.image);
    engines
}

/// A pod of the new version that is not well, and why.
fn not_well(cluster: &Cluster, observed: &Observed, to: &Engine) -> Option<String> {
    observed.pods.iter().filter(|p| p.version == to.version).find_map(|p| trouble(cluster, observed, p))
}

fn trouble(cluster: &Cluster, observed: &Observed, pod: &PodFact) -> Option<String> {
    // A node that is gone, or full, says nothing of the version.
    if pod.ready || pod.terminating || pod.gone_since.is_some() {
        return None;
    }
    let trouble = pod.trouble.as_deref().unwrap_or_default();
    let begins = |reasons: &[&str]| reasons.iter().any(|r| trouble.starts_with(r));
    if begins(&["Unschedulable"]) {
        return None;
    }
    if begins(&["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"]) {
        return Some(format!("{} can't get its image ({trouble})", pod.name));
    }
    if begins(&["CrashLoopBackOff"]) && pod.restarts >= CRASHES {
        return Some(format!("{} crashed {} times", pod.name, pod.restarts));
    }
    let late = pod.since.is_some_and(|since| observed.now - since >= cluster.upgrade_timeout);
    late.then(|| format!("{} does not serve after {} s", pod.name, cluster.upgrade_timeout))
}

/// Back, or no further where what was stored can't go back; and why.
fn way_back(
    cluster: &Cluster,
    observed: &Observed,
    running: &BTreeMap<String, Engine>,
    old: &UpgradeStatus,
    why: String,
) -> (UpgradePhase, String) {
    let keys = formats::live(cluster, observed).unwrap_or_default();
    // Name servers and proxies store nothing, and controllers nothing that differs.
    let stored = cluster.groups().iter().any(|g| running.get(g).is_some_and(|e| e.version == old.to));
    let hazard = hazards::of_step(cluster, &keys, &old.to, &old.from);
    // A hazard that people may accept does not keep pods from going back to what they ran.
    match hazard.filter(|h| stored && !h.acceptable) {
        Some(hazard) => (UpgradePhase::Stopped, format!("{why}; it can't go back to {}: {}", old.from, hazard.why)),
        None => (UpgradePhase::RollingBack, why),
    }
}

fn failed(record: &UpgradeStatus, what: &str) -> Hold {
    let why = record.reason.clone().unwrap_or_default();
    Hold::UpgradeFailed { from: record.from.clone(), to: record.to.clone(), what: what.to_owned(), why }
}

/// With the figures of now.
fn counted(cluster: &Cluster, observed: &Observed, record: UpgradeStatus) -> UpgradeStatus {
    let backward = matches!(record.phase, UpgradePhase::RollingBack | UpgradePhase::RolledBack);
    let wanted = if backward { &record.from } else { &record.to };
    let done = observed.pods.iter().filter(|p| p.version == *wanted && !p.terminating).count();
    let total = stages::pods(cluster, observed);
    let done = i32::try_from(done).unwrap_or(i32::MAX).min(total);
    let progress = format!("{done}/{total} pods run {wanted}");
    UpgradeStatus { done, total, progress, ..record }
}

fn now(observed: &Observed) -> Time {
    Time(Timestamp::from_second(observed.now).unwrap_or_default())
}

/// What people are told when the record changes: whether it is good news, why, and a sentence.
#[must_use]
pub fn news(
    old: Option<&UpgradeStatus>,
    new: Option<&UpgradeStatus>,
    cluster: &Cluster,
) -> Option<(bool, Reason, String)> {
    let key = |r: Option<&UpgradeStatus>| r.map(|r| (r.phase, r.from.clone(), r.to.clone(), r.since.clone()));
    if key(old) == key(new) || cluster.mode != Mode::Apply {
        return None;
    }
    let Some(new) = new else {
        let old = old?;
        let back = old.phase != UpgradePhase::Rolling;
        let (reason, version) = if back { (Reason::RolledBack, &old.from) } else { (Reason::Upgraded, &old.to) };
        return Some((true, reason, format!("every pod runs {version}")));
    };
    let UpgradeStatus { from, to, .. } = new;
    let why = new.reason.clone().unwrap_or_default();
    Some(match new.phase {
        UpgradePhase::Rolling => (true, Reason::UpgradeStarted, format!("from {from} to {to}: {} first", new.canary)),
        UpgradePhase::RollingBack => (false, Reason::UpgradeFailed, format!("back from {to} to {from}: {why}")),
        UpgradePhase::RolledBack => (true, Reason::RolledBack, format!("every pod runs {from} again: {why}")),
        UpgradePhase::Stopped => (false, Reason::UpgradeFailed, format!("from {from} to {to}: stopped: {why}")),
    })
}
