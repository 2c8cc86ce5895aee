//! The whole declared set of one kind against what the masters hold: changes in batches, and a verdict for every object. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::topic::DeletionPolicy;

use crate::broker_cluster::view::{Known, Unknown};
use crate::engine::BrokerMetadata;
use crate::metadata::kind::{Declared, Key, Kind};

/// What was seen of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every declared broker group: its master (`host:port`) with all that it holds, or why that is not known.
    pub groups: BTreeMap<String, Known<Master>>,
    /// Engine names of objects under deletion that are not empty, or of which nobody could say.
    pub not_empty: BTreeMap<String, String>,
}

/// A group's master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Master {
    /// `host:port`.
    pub address: String,
    /// Other replicas of the group, `host:port`.
    pub replicas: Vec<String>,
    /// What it holds.
    pub metadata: BrokerMetadata,
}

/// What is to be done for one kind.
#[derive(Clone, Debug)]
pub struct Plan<K: Kind> {
    /// Changes by master.
    pub upserts: BTreeMap<String, Vec<K::Change>>,
    /// Names to delete everywhere.
    pub deletes: Vec<String>,
    /// What is said of each object.
    pub verdicts: BTreeMap<Key, Verdict>,
}

impl<K: Kind> Plan<K> {
    /// Whether nothing is to be written to the engine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty()
    }
}

/// What is said of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Name in the engine.
    pub engine_name: String,
    /// How it stands.
    pub state: State,
    /// Broker groups that hold it as declared.
    pub held_by: Vec<String>,
    /// Differences between engine and declaration.
    pub differences: Vec<String>,
}

/// How an object stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Held by all its broker groups as declared.
    InSync,
    /// Being written.
    Changing,
    /// The engine holds something else and may not be changed.
    Drifted,
    /// The annotation stops all writes.
    Paused,
    /// Another object declares the same name, and is older.
    Conflict {
        /// The older one.
        with: Key,
    },
    /// A broker group can't be asked or has no master.
    Waiting {
        /// The group.
        group: String,
        /// Why.
        unknown: Unknown,
    },
    /// A broker group that it names does not exist.
    NoSuchGroup {
        /// The name.
        group: String,
    },
    /// The object goes, and the engine keeps it or has it no more: the finalizer can go.
    Released,
    /// The object goes; the engine is being told.
    Deleting,
    /// The object goes, but it is not empty.
    NotEmpty {
        /// What is in it.
        what: String,
    },
}

/// What is to be done for `objects` of one kind where `observed` was seen.
#[must_use]
pub fn plan<K: Kind>(objects: &[(Declared, &K::Object)], observed: &Observed) -> Plan<K> {
    let mut plan = Plan { upserts: BTreeMap::new(), deletes: Vec::new(), verdicts: BTreeMap::new() };
    let mut by_name: BTreeMap<&str, Vec<&(Declared, &K::Object)>> = BTreeMap::new();
    for object in objects {
        by_name.entry(&object.0.engine_name).or_default().push(object);
    }
    for (_, mut rivals) in by_name {
        rivals.sort_by_key(|(d, _)| (d.deleting, d.created.clone(), d.key.clone()));
        let Some((winner, rest)) = rivals.split_first() else { continue };
        judge::<K>(winner, rest, observed, &mut plan);
        for (loser, _) in rest {
            let state = if loser.deleting { State::Released } else { State::Conflict { with: winner.0.key.clone() } };
            plan.verdicts.insert(loser.key.clone(), verdict(loser, state));
        }
    }
    plan
}

fn verdict(declared: &Declared, state: State) -> Verdict {
    Verdict { engine_name: declared.engine_name.clone(), state, held_by: Vec::new(), differences: Vec::new() }
}

fn judge<K: Kind>(
    (declared, object): &(Declared, &K::Object),
    rivals: &[&(Declared, &K::Object)],
    observed: &Observed,
    plan: &mut Plan<K>,
) {
    let verdict = if declared.deleting {
        deletion::<K>(declared, rivals.is_empty(), observed, plan)
    } else {
        upsert::<K>(declared, object, observed, plan)
    };
    plan.verdicts.insert(declared.key.clone(), verdict);
}

fn deletion<K: Kind>(declared: &Declared, alone: bool, observed: &Observed, plan: &mut Plan<K>) -> Verdict {
    // Another object declares the same name and stays: so does the topic.
    if declared.deletion == DeletionPolicy::Retain || !declared.has_finalizer || !alone {
        return verdict(declared, State::Released);
    }
    if declared.policy != Some(ReconcilePolicy::Apply) {
        return verdict(declared, State::Released);
    }
    for (group, master) in &observed.groups {
        if let Err(unknown) = master {
            return verdict(declared, State::Waiting { group: group.clone(), unknown: unknown.clone() });
        }
    }
    let held = observed.groups.values().flatten().any(|m| K::held(&m.metadata).contains_key(&declared.engine_name));
    if !held {
        return verdict(declared, State::Released);
    }
    if declared.deletion == DeletionPolicy::DeleteIfEmpty
        && let Some(what) = observed.not_empty.get(&declared.engine_name)
    {
        return verdict(declared, State::NotEmpty { what: what.clone() });
    }
    plan.deletes.push(declared.engine_name.clone());
    verdict(declared, State::Deleting)
}

fn upsert<K: Kind>(declared: &Declared, object: &K::Object, observed: &Observed, plan: &mut Plan<K>) -> Verdict {
    if let Some(group) = declared.broker_groups.iter().find(|g| !observed.groups.contains_key(*g)) {
        return verdict(declared, State::NoSuchGroup { group: group.clone() });
    }
    let named: BTreeSet<&String> = declared.broker_groups.iter().collect();
    let mut v = verdict(declared, State::InSync);
    let mut waiting = None;
    for (group, master) in observed.groups.iter().filter(|(g, _)| named.is_empty() || named.contains(g)) {
        let master = match master {
            Ok(master) => master,
            Err(unknown) => {
                waiting.get_or_insert(State::Waiting { group: group.clone(), unknown: unknown.clone() });
                continue;
            }
        };
        let current = K::held(&master.metadata).get(&declared.engine_name);
        let desired = K::desired(object, current);
        let Some(change) = K::change(current, &desired) else {
            v.held_by.push(group.clone());
            continue;
        };
        match current {
            Some(current) => {
                v.differences.extend(K::differences(current, &desired).into_iter().map(|d| format!("{group}: {d}")))
            }
            None => v.differences.push(format!("{group}: missing")),
        }
        match declared.policy {
            Some(ReconcilePolicy::Apply) => {
                plan.upserts.entry(master.address.clone()).or_default().push(change);
                v.state = State::Changing;
            }
            Some(ReconcilePolicy::Plan | ReconcilePolicy::Observe) => v.state = State::Drifted,
            None => v.state = State::Paused,
        }
    }
    if declared.policy.is_none() {
        v.state = State::Paused;
    }
    // What can be done on other groups is done; what is said is the trouble.
    if let Some(waiting) = waiting {
        v.state = waiting;
    }
    v
}
