//! The cases of `rules.yaml`. Also compiled into operator/tests/api_server.rs.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Stands in a patch for each of [`ROLES`].
const EACH_ROLE: &str = "EACH_ROLE";
const ROLES: [&str; 4] = ["nameServers", "controllers", "brokers", "proxies"];

/// Who refuses an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// A CEL rule.
    #[default]
    Rule,
    /// The OpenAPI schema.
    Schema,
}

/// One case, ready to be tried.
#[derive(Clone, Debug)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// The object as it was, for updates.
    pub old: Option<Value>,
    /// The object as it is sent.
    pub new: Value,
    /// Text that the answer must hold; `None`: the object must be taken.
    pub refused: Option<String>,
    /// Who refuses.
    pub by: By,
}

#[derive(Deserialize)]
struct File {
    base: Map<String, Value>,
    cases: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    kind: String,
    old: Option<Value>,
    #[serde(default)]
    patch: Value,
    refused: Option<String>,
    #[serde(default)]
    by: By,
}

/// All cases, those of [`EACH_ROLE`] once for each role.
pub fn cases() -> Vec<Case> {
    let file: File = serde_yaml::from_str(include_str!("../rules.yaml")).expect("rules.yaml can be read");
    let mut found = Vec::new();
    for entry in &file.cases {
        let base = file.base.get(&entry.kind).unwrap_or_else(|| panic!("there is no base for {}", entry.kind));
        let for_each = entry.patch.to_string().contains(EACH_ROLE);
        for role in if for_each { &ROLES[..] } else { &[""][..] } {
            let old = entry.old.as_ref().map(|patch| merged(base, patch));
            let patch = named(&entry.patch, role);
            found.push(Case {
                name: if role.is_empty() { entry.case.clone() } else { format!("{} ({role})", entry.case) },
                kind: entry.kind.clone(),
                new: merged(old.as_ref().unwrap_or(base), &patch),
                old,
                refused: entry.refused.clone(),
                by: entry.by,
            });
        }
    }
    found
}

/// The patch with the name of a role in place of [`EACH_ROLE`].
fn named(patch: &Value, role: &str) -> Value {
    match patch {
        Value::Object(o) => Value::Object(
            o.iter().map(|(k, v)| (if k == EACH_ROLE { role.to_owned() } else { k.clone() }, named(v, role))).collect(),
        ),
        other => other.clone(),
    }
}

/// `base` after a JSON merge patch (RFC 7396).
pub fn merged(base: &Value, patch: &Value) -> Value {
    match patch {
        Value::Null => base.clone(),
        patch => {
            let mut target = base.clone();
            merge(&mut target, patch);
            target
        }
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
