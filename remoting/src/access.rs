//! Users and what they may do (ACL 2.0), on one broker. Each broker keeps its own, also a replica: nothing copies them
//! (SlaveSynchronize.java of 5.5.0). Every request is refused with `SYSTEM_ERROR` by a broker without a provider for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::command::Command;
use crate::fastjson;
use crate::request::{AnswerError, Request, accepted};

/// A password in clear text, as the engine keeps and tells it. `Debug` hides it, and it can be neither displayed nor serialized.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// This one.
    #[must_use]
    pub fn new(clear_text: impl Into<String>) -> Self {
        Password(clear_text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The name, which is its access key.
    pub username: String,
    /// Never serialized, so it is empty in what was read back: the engine creates no user with an empty one, and an update with an empty one
    /// leaves the password as it is.
    #[serde(skip)]
    pub password: Password,
    /// `Super` or `Normal`; none is `Normal` for a new user, and what it is for one that is there.
    pub user_type: Option<String>,
    /// `enable` or `disable`; none is `enable` for a new user, and what it is for one that is there.
    pub user_status: Option<String>,
}

/// UserInfo.java.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserInfo {
    username: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_status: Option<String>,
}

impl User {
    fn command(&self, code: Code) -> Command {
        let info = UserInfo {
            username: self.username.clone(),
            password: Some(self.password.0.clone()),
            user_type: self.user_type.clone(),
            user_status: self.user_status.clone(),
        };
        // Strings only: there is nothing in it that JSON can't hold.
        Command::request(code).with("username", &self.username).body(serde_json::to_vec(&info).unwrap_or_default())
    }
}

/// A list in the body of a successful reply; without a body it is empty. What is wrong with another one is not told: it might show a password.
fn list<T: DeserializeOwned>(request: Code, reply: &Command) -> Result<Vec<T>, AnswerError> {
    let body = &accepted(reply)?.body;
    if body.is_empty() {
        return Ok(Vec::new());
    }
    fastjson::from_slice(body).map_err(|_| AnswerError::NotUnderstood {
        request,
        problem: "the list has another form than 5.5.0 gives it".into(),
    })
}

/// Asks a broker for all its users.
#[derive(Clone, Copy, Debug)]
pub struct ListUsers;

impl Request for ListUsers {
    /// Users by name.
    type Answer = BTreeMap<String, User>;
    const CODE: Code = Code::AuthListUser;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        let user = |info: UserInfo| {
            let password = Password(info.password.unwrap_or_default());
            let (user_type, user_status) = (info.user_type, info.user_status);
            (info.username.clone(), User { username: info.username, password, user_type, user_status })
        };
        Ok(list::<UserInfo>(Self::CODE, reply)?.into_iter().map(user).collect())
    }
}

/// Creates a user on one broker; refused with `NO_PERMISSION` when there is one of its name.
#[derive(Clone, Debug)]
pub struct CreateUser(pub User);

impl Request for CreateUser {
    type Answer = ();
    const CODE: Code = Code::AuthCreateUser;

    fn command(&self) -> Command {
        self.0.command(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Changes a user on one broker; refused with `NO_PERMISSION` when there is none of its name.
#[derive(Clone, Debug)]
pub struct UpdateUser(pub User);

impl Request for UpdateUser {
    type Answer = ();
    const CODE: Code = Code::AuthUpdateUser;

    fn command(&self) -> Command {
        self.0.command(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Deletes a user on one broker, with its ACL; succeeds also when there is none.
#[derive(Clone, Debug)]
pub struct DeleteUser {
    /// Its name.
    pub username: String,
}

impl Request for DeleteUser {
    type Answer = ();
    const CODE: Code = Code::AuthDeleteUser;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("username", &self.username)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// All that a subject may do and may not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acl {
    /// Such as `User:billing`.
    pub subject: String,
    /// Ordered by type and resource, of which there is one of each.
    pub entries: Vec<AclEntry>,
}

/// What a subject may do, or may not, with one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AclEntry {
    /// `Custom`, or `Default` for what holds where no custom one matches.
    pub policy_type: String,
    /// Such as `Topic:orders`, `Group:bill*` or `*`.
    pub resource: String,
    /// Such as `Pub` and `Sub`.
    pub actions: BTreeSet<String>,
    /// Addresses or CIDRs; none is any.
    pub source_ips: BTreeSet<String>,
    /// `Allow` or `Deny`.
    pub decision: String,
}

/// AclInfo.java.
#[derive(Serialize, Deserialize)]
struct AclInfo {
    subject: String,
    #[serde(default)]
    policies: Vec<PolicyInfo>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyInfo {
    #[serde(default)]
    policy_type: Option<String>,
    #[serde(default)]
    entries: Vec<PolicyEntryInfo>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyEntryInfo {
    resource: String,
    #[serde(default)]
    actions: BTreeSet<String>,
    #[serde(default)]
    source_ips: BTreeSet<String>,
    decision: String,
}

impl From<AclInfo> for Acl {
    fn from(info: AclInfo) -> Self {
        let mut entries = BTreeMap::new();
        for policy in info.policies {
            let policy_type = policy.policy_type.unwrap_or_else(|| "Custom".to_owned());
            for PolicyEntryInfo { resource, actions, source_ips, decision } in policy.entries {
                let key = (policy_type.clone(), resource.clone());
                let policy_type = policy_type.clone();
                entries.insert(key, AclEntry { policy_type, resource, actions, source_ips, decision });
            }
        }
        Acl { subject: info.subject, entries: entries.into_values().collect() }
    }
}

impl From<&Acl> for AclInfo {
    fn from(acl: &Acl) -> Self {
        let mut policies: BTreeMap<&str, Vec<PolicyEntryInfo>> = BTreeMap::new();
        for AclEntry { policy_type, resource, actions, source_ips, decision } in &acl.entries {
            policies.entry(policy_type).or_default().push(PolicyEntryInfo {
                resource: resource.clone(),
                actions: actions.clone(),
                source_ips: source_ips.clone(),
                decision: decision.clone(),
            });
        }
        let policy =
            |(policy_type, entries): (&str, _)| PolicyInfo { policy_type: Some(policy_type.to_owned()), entries };
        AclInfo { subject: acl.subject.clone(), policies: policies.into_iter().map(policy).collect() }
    }
}

/// Asks a broker for all its ACLs.
#[derive(Clone, Copy, Debug)]
pub struct ListAcls;

impl Request for ListAcls {
    /// ACLs by subject.
    type Answer = BTreeMap<String, Acl>;
    const CODE: Code = Code::AuthListAcl;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        let infos = list::<AclInfo>(Self::CODE, reply)?;
        Ok(infos.into_iter().map(|info| (info.subject.clone(), info.into())).collect())
    }
}

/// Creates an ACL on one broker, or adds its entries to the one that is there, in the place of those for the same resources
/// (AuthorizationMetadataManagerImpl.java). Refused with `NO_PERMISSION` when there is no such user.
#[derive(Clone, Debug)]
pub struct CreateAcl(pub Acl);

impl Request for CreateAcl {
    type Answer = ();
    const CODE: Code = Code::AuthCreateAcl;

    fn command(&self) -> Command {
        // Strings only: there is nothing in it that JSON can't hold.
        let body = serde_json::to_vec(&AclInfo::from(&self.0)).unwrap_or_default();
        Command::request(Self::CODE).with("subject", &self.0.subject).body(body)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Deletes one entry of an ACL on one broker; the last one takes the ACL with it. Refused with `NO_PERMISSION` when there is no such ACL.
#[derive(Clone, Debug)]
pub struct DeleteAclEntry {
    /// Whose.
    pub subject: String,
    /// `Custom` or `Default`.
    pub policy_type: String,
    /// For which resource. (To the engine none would mean the whole ACL; that is not offered.)
    pub resource: String,
}

impl Request for DeleteAclEntry {
    type Answer = ();
    const CODE: Code = Code::AuthDeleteAcl;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
            .with("subject", &self.subject)
            .with("policyType", &self.policy_type)
            .with("resource", &self.resource)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Command {
        Command { code: 0, ..Command::request(Code::AuthListUser) }.body(text)
    }

    #[test]
    fn users_are_read_and_written_with_their_passwords() {
        let text = r#"[{"password":"s3cret","userStatus":"enable","userType":"Normal","username":"billing"}]"#;
        let users = ListUsers.answer(&reply(text)).unwrap();
        assert_eq!(users["billing"].password, Password::new("s3cret"));
        let command = CreateUser(users["billing"].clone()).command();
        assert_eq!(command.ext["username"], "billing");
        let sent: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
        let expected = serde_json::json!({"username": "billing", "password": "s3cret", "userType": "Normal", "userStatus": "enable"});
        assert_eq!(sent, expected);
        assert!(ListUsers.answer(&reply("")).unwrap().is_empty(), "a broker without users answers without a body");
    }

    #[test]
    fn a_password_is_in_no_output() {
        let user = User { username: "billing".into(), password: Password::new("s3cret"), ..User::default() };
        let request = CreateUser(user.clone());
        let wrong = ListUsers.answer(&reply(r#"[{"username":{"password":"s3cret"}}]"#)).unwrap_err();
        let number = ListUsers
            .answer(&reply(r#"[{"username":"billing","password":"s3cret","userType":["s3cret"]}]"#))
            .unwrap_err();
        let shown = [
            format!("{request:?} {user:?} {:?}", request.command()),
            serde_json::to_string(&user).unwrap(),
            format!("{wrong} {wrong:?} {number} {number:?}"),
        ];
        assert!(shown.iter().all(|text| !text.contains("s3cret")), "{shown:?}");
        let back: User = serde_json::from_str(&shown[1]).unwrap();
        assert_eq!(back.password, Password::default());
    }

    #[test]
    fn an_acl_is_read_in_one_order_and_written_as_the_engine_wants_it() {
        let text = r#"[{"policies":[{"entries":[
            {"actions":["Sub","Pub"],"decision":"Allow","resource":"Topic:orders","sourceIps":["10.0.0.0/8"]},
            {"actions":["Sub"],"decision":"Deny","resource":"Group:*"}],"policyType":"Custom"}],"subject":"User:billing"}]"#;
        let acls = ListAcls.answer(&reply(text)).unwrap();
        let acl = &acls["User:billing"];
        let resources: Vec<&str> = acl.entries.iter().map(|entry| entry.resource.as_str()).collect();
        assert_eq!(resources, ["Group:*", "Topic:orders"]);
        let command = CreateAcl(acl.clone()).command();
        assert_eq!(command.ext["subject"], "User:billing");
        let again = format!("[{}]", String::from_utf8(command.body).unwrap());
        assert_eq!(ListAcls.answer(&reply(&again)).unwrap(), acls);
    }
}
