//! Replicas against their masters. Pure.
//!
//! A replica asks its master for all topics and groups every 10 s and copies them when the master's version differs from its own
//! (SlaveSynchronize.java, 5.5.0). So it may differ for a while; but one whose version is the same and whose content is not stays so for ever, and
//! what it lacks is lost when it becomes master (rocketmq #9804, #9826, #9864). Writing to the replica itself helps nobody: it takes that, and
//! forgets it with its next copy. Writing to the master again what it has raises the version, and the replica copies.

use std::collections::BTreeMap;

use crate::metadata::kind::{Declared, Kind};
use crate::metadata::view::{Master, Observed};

/// How long a replica may differ, in seconds: its 10 s, and 5 s to read ten thousand topics on a busy machine.
pub const SYNC_PERIOD: i64 = 15;

/// What replicas lacked or had otherwise when they were last looked at. Kept between passes; an operator that starts anew counts anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lags(BTreeMap<Subject, Lag>);

/// Kind, address of the replica, name in the engine.
type Subject = (&'static str, String, String);

/// Since when a replica differs from its master in one topic or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// First time that it was seen, in seconds of the epoch.
    since: i64,
    /// When the replica was last made to copy.
    asked: Option<i64>,
    /// Whether it is to be made to copy now.
    pub due: bool,
}

/// One replica that differs for longer than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Whether it is to be made to copy now.
    pub due: bool,
    /// `shop-broker-0-1: missing`.
    pub differences: Vec<String>,
}

impl Lags {
    /// What is remembered after a look at `now`, in seconds of the epoch. What is level again is forgotten.
    #[must_use]
    pub fn seen<K: Kind>(mut self, objects: &[(Declared, &K::Object)], observed: &Observed, now: i64) -> Self {
        let mut found = BTreeMap::new();
        for (replica, name) in lagging::<K>(objects, observed) {
            let subject = (K::NAME, replica, name);
            let old = self.0.get(&subject).copied().unwrap_or(Lag { since: now, asked: None, due: false });
            let due = now - old.asked.unwrap_or(old.since) >= SYNC_PERIOD;
            found.insert(subject, Lag { asked: if due { Some(now) } else { old.asked }, due, ..old });
        }
        self.0.retain(|subject, _| subject.0 != K::NAME);
        self.0.extend(found);
        self
    }

    /// Seconds until the next replica is to be made to copy, where there is one.
    #[must_use]
    pub fn next(&self, now: i64) -> Option<i64> {
        self.0.values().map(|l| (l.asked.unwrap_or(l.since) + SYNC_PERIOD - now).max(1)).min()
    }

    /// The replicas of `master` that differ in `name` for too long.
    #[must_use]
    pub fn stale<K: Kind>(&self, master: &Master, name: &str) -> Vec<Stale> {
        let of = |address: &String, held: &BTreeMap<String, K::Config>| {
            let lag = self.0.get(&(K::NAME, address.clone(), name.to_owned())).filter(|l| l.asked.is_some())?;
            let pod = address.split(['.', ':']).next().unwrap_or(address);
            let differences = match (held.get(name), K::held(&master.metadata).get(name)) {
                (Some(theirs), Some(ours)) => {
                    K::differences(theirs, ours).into_iter().map(|d| format!("{pod}: {d}")).collect()
                }
                _ => vec![format!("{pod}: missing")],
            };
            Some(Stale { due: lag.due, differences })
        };
        let known = master.replicas.iter().filter_map(|r| Some((&r.address, r.metadata.as_ref().ok()?)));
        known.filter_map(|(address, metadata)| of(address, K::held(metadata))).collect()
    }
}

/// Replica and name of all that is declared, held by a master, and otherwise or not at all on its replica. Of a replica that can't be asked nothing
/// is said here: the cluster's own status tells it once, not ten thousand topics.
fn lagging<K: Kind>(objects: &[(Declared, &K::Object)], observed: &Observed) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for master in observed.groups.values().flatten() {
        let held = K::held(&master.metadata);
        for replica in &master.replicas {
            let Ok(theirs) = replica.metadata.as_ref().map(K::held) else { continue };
            let differs = |name: &&String| held.get(*name).is_some_and(|ours| theirs.get(*name) != Some(ours));
            let names = objects.iter().filter(|(d, _)| !d.deleting()).map(|(d, _)| &d.engine_name).filter(differs);
            found.extend(names.map(|name| (replica.address.clone(), name.clone())));
        }
    }
    found
}
