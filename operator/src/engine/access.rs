//! Users and ACLs of single brokers, and changes of them.

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::access::{Acl, User};
use serde::{Deserialize, Serialize};

/// Configuration key of a broker: the class that keeps its users.
pub const USERS_PROVIDER: &str = "authenticationMetadataProvider";
/// Configuration key of a broker: the class that keeps its ACLs.
pub const ACLS_PROVIDER: &str = "authorizationMetadataProvider";

/// Users and ACLs of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerAccess {
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// ACLs by subject.
    pub acls: BTreeMap<String, Acl>,
}

/// What is to be changed of one broker's users and ACLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessChange {
    /// Users that it lacks.
    pub create_users: Vec<User>,
    /// Users that it has otherwise.
    pub update_users: Vec<User>,
    /// Users by name, each with its ACL.
    pub delete_users: BTreeSet<String>,
    /// Entries of ACLs that it lacks or has otherwise; no others of these ACLs.
    pub set_entries: Vec<Acl>,
    /// Entries of ACLs, of which only policy type and resource count.
    pub delete_entries: Vec<Acl>,
}

impl AccessChange {
    /// True when there is nothing to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == AccessChange::default()
    }

    /// Without ACLs for a broker that has no place for them.
    #[must_use]
    pub fn fit(self, acls: bool) -> Self {
        if acls { self } else { Self { set_entries: Vec::new(), delete_entries: Vec::new(), ..self } }
    }

    /// How many users and how many ACLs it changes.
    #[must_use]
    pub fn counts(&self) -> [usize; 2] {
        let users = self.create_users.len() + self.update_users.len() + self.delete_users.len();
        let subjects: BTreeSet<&String> =
            self.set_entries.iter().chain(&self.delete_entries).map(|acl| &acl.subject).collect();
        [users, subjects.len()]
    }

    /// Does to what a broker holds what the broker does.
    pub fn apply(&self, access: &mut BrokerAccess) {
        for user in self.create_users.iter().chain(&self.update_users) {
            access.users.insert(user.username.clone(), user.clone());
        }
        for change in &self.set_entries {
            let new = || Acl { subject: change.subject.clone(), entries: Vec::new() };
            let acl = access.acls.entry(change.subject.clone()).or_insert_with(new);
            for entry in &change.entries {
                acl.entries.retain(|e| (&e.policy_type, &e.resource) != (&entry.policy_type, &entry.resource));
                acl.entries.push(entry.clone());
            }
            acl.entries.sort_by(|a, b| (&a.policy_type, &a.resource).cmp(&(&b.policy_type, &b.resource)));
        }
        for change in &self.delete_entries {
            let Some(acl) = access.acls.get_mut(&change.subject) else { continue };
            let goes = |p: &String, r: &String| change.entries.iter().any(|e| (&e.policy_type, &e.resource) == (p, r));
            acl.entries.retain(|e| !goes(&e.policy_type, &e.resource));
        }
        access.acls.retain(|_, acl| !acl.entries.is_empty());
        for user in &self.delete_users {
            access.users.remove(user);
            access.acls.remove(&format!("User:{user}"));
        }
    }
}

/// Whether a broker with this configuration keeps users, and if so, whether it keeps ACLs as well.
#[must_use]
pub fn kept(config: &BTreeMap<String, String>) -> Option<bool> {
    let has = |key: &str| config.get(key).is_some_and(|class| !class.trim().is_empty());
    has(USERS_PROVIDER).then(|| has(ACLS_PROVIDER))
}
