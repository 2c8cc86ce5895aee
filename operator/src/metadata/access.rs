//! Users and ACLs (ACL 2.0). Each broker keeps its own, and replicas do not copy them (SlaveSynchronize.java, 5.5.0): a user that was created on the
//! master alone is refused after the next switch. So Gantry copies them from masters to replicas while all is well, and after a switch puts back what
//! the new master lacks of what the former one had. Brokers without a provider for them are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_crds::condition::Reason;
use gantry_remoting::access::{Acl, AclEntry};
use kube::runtime::events::EventType;

use crate::apply::tell;
use crate::broker_cluster::cluster::Cluster;
use crate::context::Context;
use crate::engine::{AccessChange, BrokerAccess, ClusterId, EngineWrite, WriteOutcome};
use crate::metadata::view::{Master, Observed};
use crate::metadata::work::Work;

/// Seconds between two looks at a master that stays.
const EVERY: i64 = 20;

/// Users and ACLs as masters had them last, by broker group. An operator that starts anew begins with none.
#[derive(Clone, Debug, Default)]
pub struct Access(BTreeMap<String, Arc<Seen>>);

/// One master, as it was seen last.
#[derive(Debug)]
struct Seen {
    /// `host:port` of the master.
    master: String,
    /// When, in seconds of the epoch.
    at: i64,
    access: BrokerAccess,
    /// All that it had since it is master: what is no longer there was deleted.
    ever: Names,
}

/// Users, and entries of ACLs, by name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    users: BTreeSet<String>,
    /// Subject, policy type and resource.
    entries: BTreeSet<(String, String, String)>,
}

impl Names {
    /// These and those of `access`.
    #[must_use]
    pub fn with(mut self, access: &BrokerAccess) -> Self {
        self.users.extend(access.users.keys().cloned());
        let entries = access.acls.values().flat_map(|acl| acl.entries.iter().map(|entry| name(acl, entry)));
        self.entries.extend(entries);
        self
    }
}

fn name(acl: &Acl, entry: &AclEntry) -> (String, String, String) {
    (acl.subject.clone(), entry.policy_type.clone(), entry.resource.clone())
}

/// What makes a replica hold what its master holds. What only the replica has stays, unless the master was seen to have had it, or has others of the
/// same subject: it may be all that is left of what a former master took.
#[must_use]
pub fn copy(master: &BrokerAccess, replica: &BrokerAccess, ever: &Names) -> AccessChange {
    let differs = |name: &&String| replica.users.get(*name) != master.users.get(*name);
    let (update, create): (Vec<&String>, Vec<&String>) =
        master.users.keys().filter(differs).partition(|name| replica.users.contains_key(*name));
    let users = |names: Vec<&String>| names.into_iter().filter_map(|n| master.users.get(n).cloned()).collect();
    let was_deleted = |name: &&String| !master.users.contains_key(*name) && ever.users.contains(*name);
    let delete_users: BTreeSet<String> = replica.users.keys().filter(was_deleted).cloned().collect();
    let goes_with_its_user =
        |acl: &Acl| acl.subject.strip_prefix("User:").is_some_and(|user| delete_users.contains(user));
    let delete_entries = entries(&replica.acls, |acl, entry| {
        let known = master.acls.contains_key(&acl.subject) || ever.entries.contains(&name(acl, entry));
        known && held(master, acl, entry).is_none() && !goes_with_its_user(acl)
    });
    AccessChange {
        create_users: users(create),
        update_users: users(update),
        set_entries: entries(&master.acls, |acl, entry| held(replica, acl, entry) != Some(entry)),
        delete_entries,
        delete_users,
    }
}

/// What a new master lacks of what the former one had. What it has otherwise is left alone: the master wins.
#[must_use]
pub fn lost(before: &BrokerAccess, now: &BrokerAccess) -> AccessChange {
    let lacking = before.users.values().filter(|user| !now.users.contains_key(&user.username));
    AccessChange {
        create_users: lacking.cloned().collect(),
        set_entries: entries(&before.acls, |acl, entry| held(now, acl, entry).is_none()),
        ..AccessChange::default()
    }
}

/// The entry for the same policy type and resource.
fn held<'a>(access: &'a BrokerAccess, acl: &Acl, entry: &AclEntry) -> Option<&'a AclEntry> {
    let same = |e: &&AclEntry| (&e.policy_type, &e.resource) == (&entry.policy_type, &entry.resource);
    access.acls.get(&acl.subject)?.entries.iter().find(same)
}

/// ACLs with those of their entries that are wanted, where there are any.
fn entries(acls: &BTreeMap<String, Acl>, wanted: impl Fn(&Acl, &AclEntry) -> bool) -> Vec<Acl> {
    let of = |acl: &Acl| {
        let entries: Vec<AclEntry> = acl.entries.iter().filter(|entry| wanted(acl, entry)).cloned().collect();
        (!entries.is_empty()).then(|| Acl { subject: acl.subject.clone(), entries })
    };
    acls.values().filter_map(of).collect()
}

/// Looks at masters that are new, and now and then at the others and their replicas; puts right what differs. What was seen is kept group by group: a pass
/// that is cut off loses nothing.
pub async fn audit(ctx: &Context, work: &Work, cluster: &Cluster, observed: &Observed) {
    let now = ctx.now().0.as_second();
    for (group, master) in &observed.groups {
        let Ok(master) = master else { continue };
        let Some(acls) = observed.access.get(&master.address).copied().flatten() else { continue };
        let before = work.memory().access.0.get(group).cloned();
        let before = before.as_deref();
        if before.is_some_and(|b| b.master == master.address && now - b.at < EVERY) {
            continue;
        }
        let audit = Audit { ctx, work, id: ClusterId::new(&cluster.namespace, &cluster.name), group };
        let Some(access) = audit.master(&master.address, acls, before).await else { continue };
        let ever = before.filter(|b| b.master == master.address).map(|b| b.ever.clone()).unwrap_or_default();
        let ever = ever.with(&access);
        audit.replicas(master, observed, &access, &ever).await;
        let seen = Seen { master: master.address.clone(), at: now, access, ever };
        work.memory().access.0.insert(group.clone(), Arc::new(seen));
    }
    work.memory().access.0.retain(|group, _| observed.groups.contains_key(group));
}

/// Gives broker groups that are not open yet the users and ACLs of those that are, on every replica. Returns those that do not have all of it yet, or of
/// which nobody can say: they must not open, clients would be refused there.
pub async fn inherit(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    observed: &Observed,
    unopened: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut lacking = BTreeSet::new();
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    for group in unopened {
        let Some(Ok(master)) = observed.groups.get(group) else { continue };
        let audit = Audit { ctx, work, id: id.clone(), group };
        if !audit.heir(master, observed, unopened).await.unwrap_or(false) {
            lacking.insert(group.clone());
        }
    }
    lacking
}

/// One look at one broker group.
struct Audit<'a> {
    ctx: &'a Context,
    work: &'a Work,
    id: ClusterId,
    group: &'a str,
}

impl Audit<'_> {
    /// What the master has, once it has what it lacked; `None` where that is not known, and it is looked at again with the next pass.
    async fn master(&self, address: &str, acls: bool, before: Option<&Seen>) -> Option<BrokerAccess> {
        let mut access = self.ctx.engine.access(&self.id, address, acls).await.ok()?;
        let Some(before) = before.filter(|b| b.master != address) else { return Some(access) };
        let lost = lost(&before.access, &access);
        if lost.is_empty() {
            return Some(access);
        }
        let outcome = self.write(address, &lost).await?;
        if outcome.is_complete() {
            let note = format!("the new master of {} lacked {}: put them back", self.group, sentence(&lost));
            self.announce(Reason::Restored, EventType::Warning, &lost, note).await;
            lost.apply(&mut access);
            return Some(access);
        }
        // What it refuses it would refuse again; what went wrong otherwise is worth another try.
        let refused = outcome.failed.values().all(|error| error.refusal().is_some());
        if refused { self.ctx.engine.access(&self.id, address, acls).await.ok() } else { None }
    }

    /// Whether every replica of a new group has what the groups that are open have; copies what it lacks. `None`: nobody can say.
    async fn heir(&self, master: &Master, observed: &Observed, unopened: &BTreeSet<String>) -> Option<bool> {
        let replicas = || [&master.address].into_iter().chain(master.replicas.iter().map(|r| &r.address));
        // Where it keeps no users there is nothing to wait for; where its configuration is unknown there is.
        if replicas().map(|a| observed.access.get(a).copied()).all(|kept| kept == Some(None)) {
            return Some(true);
        }
        let wanted = self.elsewhere(observed, unopened).await?;
        let mut equal = true;
        for address in replicas() {
            let Some(acls) = observed.access.get(address).copied()? else { continue };
            let theirs = self.ctx.engine.access(&self.id, address, acls).await.ok()?;
            let change = copy(&wanted, &theirs, &Names::default()).fit(acls);
            if !change.is_empty() {
                self.write(address, &change).await;
                equal = false;
            }
        }
        Some(equal)
    }

    /// What the masters of the groups that are open hold together; of what they hold otherwise the first one's word counts.
    async fn elsewhere(&self, observed: &Observed, unopened: &BTreeSet<String>) -> Option<BrokerAccess> {
        let mut all = BrokerAccess::default();
        for (_, master) in observed.groups.iter().filter(|(group, _)| !unopened.contains(*group)) {
            let address = &master.as_ref().ok()?.address;
            let Some(acls) = observed.access.get(address).copied()? else { continue };
            let access = self.ctx.engine.access(&self.id, address, acls).await.ok()?;
            lost(&access, &all).apply(&mut all);
        }
        Some(all)
    }

    /// Copies to the replicas that answer. The others are looked at again.
    async fn replicas(&self, master: &Master, observed: &Observed, access: &BrokerAccess, ever: &Names) {
        for replica in &master.replicas {
            let address = &replica.address;
            let Some(acls) = observed.access.get(address).copied().flatten() else { continue };
            let Ok(theirs) = self.ctx.engine.access(&self.id, address, acls).await else { continue };
            let change = copy(access, &theirs, ever).fit(acls);
            if change.is_empty() {
                continue;
            }
            let Some(outcome) = self.write(address, &change).await else { continue };
            if outcome.is_complete() {
                let pod = address.split(['.', ':']).next().unwrap_or(address);
                let note = format!("{pod} had other users or ACLs than its master: copied {}", sentence(&change));
                self.announce(Reason::ReplicaRefreshed, EventType::Normal, &change, note).await;
            }
        }
    }

    async fn write(&self, address: &str, change: &AccessChange) -> Option<WriteOutcome> {
        self.ctx.leadership.check().ok()?;
        let write = EngineWrite::ChangeAccess { broker: address.to_owned(), change: change.clone() };
        let outcome = self.ctx.engine.execute(&self.id, &write).await.ok()?;
        if let Some((what, error)) = outcome.failed.iter().next() {
            tracing::warn!(%what, %error, "users or ACLs could not be put right");
        }
        Some(outcome)
    }

    async fn announce(&self, reason: Reason, type_: EventType, change: &AccessChange, note: String) {
        for (kind, count) in ["User", "Acl"].into_iter().zip(change.counts()).filter(|(_, count)| *count > 0) {
            self.ctx.metrics.repairs.with_label_values(&[kind, reason.as_str()]).inc_by(count as u64);
        }
        if let Some(object) = &self.work.cluster {
            tell(self.ctx, &**object, type_, reason, "Repair Access".into(), note).await;
        }
    }
}

/// `2 users and 1 ACL (billing, User:orders)`: names, never passwords.
fn sentence(change: &AccessChange) -> String {
    let [users, acls] = change.counts();
    let plural = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
    let counted: Vec<String> = [plural(users, "user"), plural(acls, "ACL")].into_iter().flatten().collect();
    let names = change.create_users.iter().chain(&change.update_users).map(|user| &user.username);
    let subjects = change.set_entries.iter().chain(&change.delete_entries).map(|acl| &acl.subject);
    let names: Vec<&str> = names.chain(&change.delete_users).chain(subjects).take(5).map(String::as_str).collect();
    format!("{} ({})", counted.join(" and "), names.join(", "))
}

#[cfg(test)]
mod tests {
    use gantry_remoting::access::{Password, User};

    use super::*;

    /// Users as `name=password`, entries as `subject resource action`.
    fn access(users: &[&str], entries: &[&str]) -> BrokerAccess {
        let user = |text: &&str| {
            let (name, password) = text.split_once('=').unwrap();
            User { username: name.into(), password: Password::new(password), ..User::default() }
        };
        let acl = |text: &&str| {
            let [subject, resource, action] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
            let entry = AclEntry {
                policy_type: "Custom".into(),
                resource: resource.into(),
                actions: [action.to_owned()].into(),
                ..AclEntry::default()
            };
            Acl { subject: subject.into(), entries: vec![entry] }
        };
        let mut access = BrokerAccess::default();
        let change = AccessChange {
            create_users: users.iter().map(user).collect(),
            set_entries: entries.iter().map(acl).collect(),
            ..AccessChange::default()
        };
        change.apply(&mut access);
        access
    }

    #[test]
    fn a_replica_gets_what_its_master_has() {
        let master = access(&["a=1", "b=2"], &["User:a Topic:x Pub", "User:a Topic:y Sub", "User:b * Sub"]);
        for (case, replica, after) in [
            ("empty", access(&[], &[]), master.clone()),
            ("equal", master.clone(), master.clone()),
            ("other", access(&["a=9", "b=2"], &["User:a Topic:x Sub"]), master.clone()),
            ("a right too many", access(&["a=1"], &["User:a Topic:z Pub"]), master.clone()),
            (
                "another user",
                access(&["c=3"], &["User:c * Pub"]),
                access(
                    &["a=1", "b=2", "c=3"],
                    &["User:a Topic:x Pub", "User:a Topic:y Sub", "User:b * Sub", "User:c * Pub"],
                ),
            ),
        ] {
            let mut now = replica.clone();
            let change = copy(&master, &replica, &Names::default());
            change.apply(&mut now);
            assert_eq!(now, after, "{case}: {change:?}");
            assert_eq!(change.is_empty(), replica == after, "{case}");
            assert!(copy(&master, &now, &Names::default()).is_empty(), "{case}: it ends");
        }
    }

    #[test]
    fn what_was_deleted_on_a_master_goes_from_its_replicas() {
        let before = access(&["a=1", "b=2", "c=3"], &["User:a * Pub", "User:b * Sub"]);
        let ever = Names::default().with(&before);
        let master = access(&["a=1", "c=3"], &[]);
        let mut replica = access(&["a=1", "b=2", "c=3", "d=4"], &["User:a * Pub", "User:b * Sub", "User:d * Sub"]);
        let change = copy(&master, &replica, &ever);
        assert_eq!(change.counts(), [1, 1], "the ACL of b goes with its user: {change:?}");
        change.apply(&mut replica);
        assert_eq!(replica, access(&["a=1", "c=3", "d=4"], &["User:d * Sub"]), "d never was on the master");
    }

    #[test]
    fn a_new_master_gets_back_what_it_lacks_and_keeps_what_it_has_otherwise() {
        let before = access(&["a=1", "b=2"], &["User:a Topic:x Pub", "User:a Topic:y Pub", "User:b * Sub"]);
        let mut now = access(&["a=9", "c=3"], &["User:a Topic:x Sub"]);
        lost(&before, &now).apply(&mut now);
        let entries = ["User:a Topic:x Sub", "User:a Topic:y Pub", "User:b * Sub"];
        assert_eq!(now, access(&["a=9", "b=2", "c=3"], &entries));
        assert!(lost(&before, &now).is_empty());
    }

    #[test]
    fn what_is_told_names_users_and_hides_their_passwords() {
        let change = lost(&access(&["a=s3cret", "b=s3cret"], &["User:a * Pub"]), &BrokerAccess::default());
        assert_eq!(sentence(&change), "2 users and 1 ACL (a, b, User:a)");
        let write = EngineWrite::ChangeAccess { broker: "broker:10911".into(), change };
        let shown = [format!("{write:?}"), serde_yaml::to_string(&write).unwrap()];
        assert!(shown.iter().all(|text| !text.contains("s3cret")), "{shown:?}");
    }
}
