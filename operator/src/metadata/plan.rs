//! The whole declared set of one kind against what the masters hold: changes in batches, and a verdict for every object. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::condition::Reason;
use gantry_crds::consumer_group::Consumption;
use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::topic::DeletionPolicy;

use crate::broker_cluster::view::Unknown;
use crate::metadata::deletion::{Breaker, Pending};
use crate::metadata::kind::{Declared, Key, Kind};
use crate::metadata::order::MOST;
use crate::metadata::repairs::Repair;
use crate::metadata::view::{Master, Observed};

/// What is to be done for one kind.
#[derive(Clone, Debug)]
pub struct Plan<K: Kind> {
    /// Changes by master.
    pub upserts: BTreeMap<String, Vec<K::Change>>,
    /// Names to delete, and from which broker groups.
    pub deletes: BTreeMap<String, BTreeSet<String>>,
    /// What masters that keep a name are told anew after it was deleted elsewhere, by name and master: name servers forget it everywhere.
    pub renewals: BTreeMap<String, Vec<(String, K::Change)>>,
    /// Objects that the engine has as declared and whose status does not say so yet.
    pub adopted: BTreeSet<Key>,
    /// Changes among them that put right what was lost or edited.
    pub repairs: Vec<Repair>,
    /// What is said of each object.
    pub verdicts: BTreeMap<Key, Verdict>,
    /// Objects whose turn comes with a later pass: nothing is done for them, and nothing said.
    pub postponed: BTreeSet<Key>,
}

impl<K: Kind> Plan<K> {
    /// Names of what is to be written.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let upserts = self.upserts.values().flatten().map(|c| K::name_of(c).to_owned());
        upserts.chain(self.deletes.keys().chain(self.renewals.keys()).cloned()).collect()
    }

    /// Leaves these out; what is said of them stays.
    pub fn leave_out(&mut self, names: &BTreeSet<String>) {
        for changes in self.upserts.values_mut() {
            changes.retain(|c| !names.contains(K::name_of(c)));
        }
        self.upserts.retain(|_, changes| !changes.is_empty());
        self.deletes.retain(|name, _| !names.contains(name));
        self.renewals.retain(|name, _| !names.contains(name));
        self.repairs.retain(|r| !names.contains(&r.name));
    }

    /// Leaves out what is not among `names`.
    pub fn limit(&mut self, names: &BTreeSet<String>) {
        let left: BTreeSet<String> = self.names().difference(names).cloned().collect();
        if left.is_empty() {
            return;
        }
        self.leave_out(&left);
        let postponed = self.verdicts.iter().filter(|(_, v)| left.contains(&v.engine_name)).map(|(key, _)| key.clone());
        self.postponed.extend(postponed);
    }

    /// Leaves out all but the first [`MOST`] in this order, and those that `lack` their finalizer.
    pub fn take_turn(&mut self, objects: &[(Declared, &K::Object)], lack: &BTreeSet<Key>) {
        let wanted = self.names();
        let next = objects.iter().map(|(d, _)| d).filter(|d| !lack.contains(&d.key) && wanted.contains(&d.engine_name));
        let names = next.map(|d| d.engine_name.clone()).take(MOST).collect();
        self.limit(&names);
        self.postponed.extend(lack.iter().cloned());
    }

    /// Objects whose topics or groups are about to be deleted, and when that was asked for, in seconds of the epoch.
    #[must_use]
    pub fn deleting(&self) -> Vec<Pending> {
        let now = |key: &Key| !self.postponed.contains(key);
        let going = self.verdicts.iter().filter(|(key, v)| v.state == State::Deleting && now(key));
        going.filter_map(|(key, v)| Some((key.clone(), v.deleted?))).collect()
    }

    /// Whether nothing is to be written to the engine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty() && self.renewals.is_empty()
    }
}

/// What is said of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Name in the engine.
    pub engine_name: String,
    /// When its deletion was asked for, in seconds of the epoch.
    pub deleted: Option<i64>,
    /// How it stands.
    pub state: State,
    /// Broker groups that hold it as declared.
    pub held_by: Vec<String>,
    /// Differences between engine and declaration.
    pub differences: Vec<String>,
    /// Broker groups that hold it and that it leaves out.
    pub left_out: Vec<String>,
    /// Whether the engine has it as declared, or had.
    pub adopted: bool,
    /// What is still in queues that are to go, by broker group.
    pub draining: Vec<String>,
    /// How far a consumer group is, where it was looked at.
    pub consumption: Option<Box<Consumption>>,
}

/// How an object stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Held by all its broker groups as declared.
    InSync,
    /// Held by all masters as declared, and by a replica not, for longer than copying takes: see the differences.
    ReplicaStale,
    /// As declared, but for queues that are to go and are still read.
    Draining,
    /// The engine does not have what is declared.
    Unsupported {
        /// The sentence.
        why: String,
    },
    /// Being written.
    Changing,
    /// The engine holds something else and may not be changed.
    Drifted,
    /// The engine held something else before the object was there, and nobody said that it may be changed.
    NotAdopted,
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
    Released {
        /// Why the engine keeps it although it was to be deleted.
        kept: Option<String>,
    },
    /// The object goes; the engine is being told.
    Deleting,
    /// The object goes, but with so many others that somebody must confirm it.
    DeletionHeld {
        /// The sentence.
        why: String,
    },
    /// The object goes, but it is not empty.
    NotEmpty {
        /// What is in it.
        what: String,
    },
}

/// What is to be done for `objects` of one kind where `observed` was seen.
#[must_use]
pub fn plan<K: Kind>(objects: &[(Declared, &K::Object)], observed: &Observed, breaker: &Breaker) -> Plan<K> {
    let mut plan = Plan {
        upserts: BTreeMap::new(),
        deletes: BTreeMap::new(),
        renewals: BTreeMap::new(),
        adopted: BTreeSet::new(),
        repairs: Vec::new(),
        verdicts: BTreeMap::new(),
        postponed: BTreeSet::new(),
    };
    let mut by_name: Vec<&(Declared, &K::Object)> = objects.iter().collect();
    by_name.sort_by_key(|(d, _)| (&d.engine_name, d.deleting(), &d.created, &d.key));
    for rivals in by_name.chunk_by(|(a, _), (b, _)| a.engine_name == b.engine_name) {
        let Some((winner, rest)) = rivals.split_first() else { continue };
        judge::<K>(winner, rest, observed, breaker, &mut plan);
        for (loser, _) in rest {
            let state = if loser.deleting() {
                State::Released { kept: None }
            } else {
                State::Conflict { with: winner.0.key.clone() }
            };
            plan.verdicts.insert(loser.key.clone(), verdict(loser, state));
        }
    }
    plan
}

fn verdict(declared: &Declared, state: State) -> Verdict {
    let deleted = declared.deleted.as_ref().map(|t| t.0.as_second());
    Verdict {
        engine_name: declared.engine_name.clone(),
        deleted,
        state,
        held_by: Vec::new(),
        differences: Vec::new(),
        left_out: Vec::new(),
        adopted: false,
        draining: Vec::new(),
        consumption: None,
    }
}

fn judge<K: Kind>(
    (declared, object): &(Declared, &K::Object),
    rivals: &[&(Declared, &K::Object)],
    observed: &Observed,
    breaker: &Breaker,
    plan: &mut Plan<K>,
) {
    let published = declared.was_adopted::<K>(object);
    let adopted = published || observed.adopted.contains(&(K::NAME, declared.key.clone()));
    let mut verdict = if declared.deleting() {
        deletion::<K>(declared, rivals.is_empty() && adopted, observed, breaker, plan)
    } else {
        upsert::<K>(declared, object, adopted, observed, plan)
    };
    verdict.adopted = adopted || matches!(verdict.state, State::InSync | State::ReplicaStale | State::Draining);
    if verdict.adopted && !published {
        plan.adopted.insert(declared.key.clone());
    }
    plan.verdicts.insert(declared.key.clone(), verdict);
}

/// `ours`: no other object declares the same name and stays, and the engine had it as this one declared. Otherwise it is not this object's to delete.
fn deletion<K: Kind>(
    declared: &Declared,
    ours: bool,
    observed: &Observed,
    breaker: &Breaker,
    plan: &mut Plan<K>,
) -> Verdict {
    let released = || verdict(declared, State::Released { kept: None });
    if declared.deletion == DeletionPolicy::Retain || !declared.has_finalizer || !ours {
        return released();
    }
    if declared.policy != Some(ReconcilePolicy::Apply) {
        return released();
    }
    if let Some((why, state)) = obstacle::<K>(declared, observed, breaker) {
        // Its namespace must be able to go, and data must not go by surprise.
        let state = match observed.terminating.contains(&declared.key.0) {
            true => State::Released { kept: Some(why) },
            false => state,
        };
        return verdict(declared, state);
    }
    let name = &declared.engine_name;
    let known = observed.groups.iter().filter_map(|(group, master)| Some((group, master.as_ref().ok()?)));
    let holders = known.filter(|(_, m)| K::held(&m.metadata).contains_key(name));
    let (going, staying): (Vec<_>, Vec<_>) = holders.partition(|(group, _)| declared.is_about(group));
    // Also when it is gone: who did that may not have come to this.
    let renew = |(_, m): &(&String, &Master)| Some((m.address.clone(), K::refresh(K::held(&m.metadata).get(name)?)));
    if !staying.is_empty() {
        plan.renewals.insert(name.clone(), staying.iter().filter_map(renew).collect());
    }
    if going.is_empty() {
        return released();
    }
    plan.deletes.insert(name.clone(), going.into_iter().map(|(group, _)| group.clone()).collect());
    verdict(declared, State::Deleting)
}

/// What keeps something from being deleted now.
fn obstacle<K: Kind>(declared: &Declared, observed: &Observed, breaker: &Breaker) -> Option<(String, State)> {
    for (group, master) in observed.groups.iter().filter(|(g, _)| declared.is_about(g)) {
        if let Err(unknown) = master {
            let state = State::Waiting { group: group.clone(), unknown: unknown.clone() };
            return Some((format!("broker group {group}: {}", unknown.message), state));
        }
    }
    if let Some(why) = breaker.holds(K::NAME, declared) {
        return Some((why.clone(), State::DeletionHeld { why }));
    }
    let what = observed
        .not_empty
        .get(&(K::NAME, declared.engine_name.clone()))
        .filter(|_| declared.deletion == DeletionPolicy::DeleteIfEmpty)?;
    Some((what.clone(), State::NotEmpty { what: what.clone() }))
}

fn upsert<K: Kind>(
    declared: &Declared,
    object: &K::Object,
    adopted: bool,
    observed: &Observed,
    plan: &mut Plan<K>,
) -> Verdict {
    if let Some(group) = declared.broker_groups.iter().find(|g| !observed.groups.contains_key(*g)) {
        return verdict(declared, State::NoSuchGroup { group: group.clone() });
    }
    if let Some(why) = K::unsupported(object, &observed.abilities) {
        return verdict(declared, State::Unsupported { why });
    }
    let strange = !adopted && !declared.adopts && is_strange::<K>(declared, object, observed);
    let policy = declared.policy.map(|p| if strange { ReconcilePolicy::Observe } else { p });
    let subject = Declared { policy, ..declared.clone() };
    let mut v = verdict(declared, State::InSync);
    v.held_by.reserve_exact(observed.groups.len());
    let mut waiting = None;
    for (group, master) in &observed.groups {
        match master {
            Ok(master) if !declared.is_about(group) => {
                v.left_out.extend(K::held(&master.metadata).contains_key(&declared.engine_name).then(|| group.clone()));
            }
            Err(_) if !declared.is_about(group) => {}
            Ok(master) => on_group::<K>(&subject, object, (group, master), observed, plan, &mut v),
            Err(unknown) => {
                waiting.get_or_insert(State::Waiting { group: group.clone(), unknown: unknown.clone() });
            }
        }
    }
    if !v.draining.is_empty() && matches!(v.state, State::InSync | State::ReplicaStale) {
        v.state = State::Draining;
    }
    if strange && declared.policy == Some(ReconcilePolicy::Apply) {
        v.state = State::NotAdopted;
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

/// Whether some broker group has it with other settings. Where it or a part of it is missing it can be made.
fn is_strange<K: Kind>(declared: &Declared, object: &K::Object, observed: &Observed) -> bool {
    let about = observed.groups.iter().filter(|(group, _)| declared.is_about(group));
    about.filter_map(|(_, master)| master.as_ref().ok()).any(|master| {
        let Some(current) = K::held(&master.metadata).get(&declared.engine_name) else { return false };
        let desired = K::fit(K::desired(object, Some(current)), Some(current), &master.metadata);
        K::change(Some(&K::completed(current, &desired)), &desired).is_some()
    })
}

/// One object on one broker group.
fn on_group<K: Kind>(
    declared: &Declared,
    object: &K::Object,
    (group, master): (&String, &Master),
    observed: &Observed,
    plan: &mut Plan<K>,
    v: &mut Verdict,
) {
    let current = K::held(&master.metadata).get(&declared.engine_name);
    let (desired, draining) = reachable::<K>(declared, object, group, current, observed);
    let desired = K::fit(desired, current, &master.metadata);
    let Some(change) = K::change(current, &desired) else {
        match draining {
            Some(why) => v.draining.push(format!("{group}: {why}")),
            None => v.held_by.push(group.clone()),
        }
        return on_replicas::<K>(declared, (group, master), &desired, observed, plan, v);
    };
    match current {
        Some(current) => {
            v.differences.extend(K::differences(current, &desired).into_iter().map(|d| format!("{group}: {d}")))
        }
        None => v.differences.push(format!("{group}: missing")),
    }
    match declared.policy {
        Some(ReconcilePolicy::Apply) => {
            if declared.was_held::<K>(object, group) {
                let reason = if current.is_some() { Reason::DriftReverted } else { Reason::Restored };
                plan.repairs.push(repair(declared, group, reason));
            }
            plan.upserts.entry(master.address.clone()).or_default().push(change);
            v.state = State::Changing;
        }
        Some(ReconcilePolicy::Plan | ReconcilePolicy::Observe) => v.state = State::Drifted,
        None => v.state = State::Paused,
    }
}

/// What it should be now, and what keeps it from being what is declared: queues are not taken away while something is in them.
fn reachable<K: Kind>(
    declared: &Declared,
    object: &K::Object,
    group: &str,
    current: Option<&K::Config>,
    observed: &Observed,
) -> (K::Config, Option<String>) {
    let desired = K::desired(object, current);
    let Some(gentle) = current.and_then(|c| K::gently(c, &desired)) else { return (desired, None) };
    if declared.policy != Some(ReconcilePolicy::Apply) {
        return (desired, None);
    }
    match observed.draining.get(&(group.to_owned(), declared.engine_name.clone())) {
        Some(None) => (desired, None),
        Some(Some(why)) => (gentle, Some(why.clone())),
        None => (gentle, Some("first they take no more messages".into())),
    }
}

/// Replicas that did not copy what their master has: the master is written once more, and they do.
fn on_replicas<K: Kind>(
    declared: &Declared,
    (group, master): (&String, &Master),
    held: &K::Config,
    observed: &Observed,
    plan: &mut Plan<K>,
    v: &mut Verdict,
) {
    let stale = observed.lags.stale::<K>(master, &declared.engine_name);
    if stale.is_empty() {
        return;
    }
    if declared.policy == Some(ReconcilePolicy::Apply) && stale.iter().any(|s| s.due) {
        plan.repairs.push(repair(declared, group, Reason::ReplicaRefreshed));
        // Replicas copy everything or nothing: one write is enough for all.
        plan.upserts.entry(master.address.clone()).or_insert_with(|| vec![K::refresh(held)]);
    }
    v.differences.extend(stale.into_iter().flat_map(|s| s.differences));
    if v.state == State::InSync {
        v.state = State::ReplicaStale;
    }
}

fn repair(declared: &Declared, group: &str, reason: Reason) -> Repair {
    Repair { key: declared.key.clone(), name: declared.engine_name.clone(), group: group.to_owned(), reason }
}
