//! Manifests of all that brokers hold, and the proof that applying them changes nothing. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::consumer_group::ConsumerGroups;
use crate::engine::BrokerMetadata;
use crate::import::{names, spec};
use crate::metadata::kind::{Key, Kind};
use crate::topic::Topics;

/// What a cluster's masters hold.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The cluster, as namespace and name. The objects are for this namespace.
    pub cluster: Key,
    /// By broker group.
    pub groups: BTreeMap<String, BrokerMetadata>,
}

/// Names in the engine that objects declare already: they are not declared twice.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Topics.
    pub topics: BTreeSet<String>,
    /// Consumer groups.
    pub groups: BTreeSet<String>,
}

/// One manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object; nothing where it can't be declared.
    pub object: Option<Value>,
    /// What to know about it.
    pub remarks: Vec<String>,
}

/// A manifest for everything that is live and not declared, the engine's own left out. What an object can't say is in its remarks, and such an
/// object only observes.
#[must_use]
pub fn manifests(live: &Live, declared: &Declared) -> Vec<Manifest> {
    let topic = |name: &str, held: &BTreeMap<&String, &_>| {
        let mut fields = spec::of_topic(held.values().next()?);
        if held.len() < live.groups.len() {
            fields.insert("brokerGroups".into(), json!(held.keys().collect::<Vec<_>>()));
        }
        Some(("topicName", fields)).filter(|_| name.bytes().all(is_allowed))
    };
    let group = |name: &str, held: &BTreeMap<&String, &_>| {
        let fields = spec::of_group(&held.values().copied().collect::<Vec<_>>())?;
        Some(("groupName", fields)).filter(|_| name.bytes().all(is_allowed))
    };
    let mut all = of_kind::<Topics>(live, &declared.topics, topic);
    all.extend(of_kind::<ConsumerGroups>(live, &declared.groups, group));
    all
}

/// What the schema of both kinds lets into a name, as the engine does.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%|_-".contains(&byte)
}

fn of_kind<K: Kind>(
    live: &Live,
    declared: &BTreeSet<String>,
    spec: impl Fn(&str, &BTreeMap<&String, &K::Config>) -> Option<(&'static str, Map<String, Value>)>,
) -> Vec<Manifest> {
    let groups: Vec<String> = live.groups.keys().cloned().collect();
    let mut by_name: BTreeMap<&String, BTreeMap<&String, &K::Config>> = BTreeMap::new();
    for (group, metadata) in &live.groups {
        for (name, held) in K::held(metadata) {
            if !K::is_system(name, &live.cluster.1, &groups) && !declared.contains(name) {
                by_name.entry(name).or_default().insert(group, held);
            }
        }
    }
    let names = names::object_names(by_name.keys().copied());
    let one = |(name, held): (&&String, &BTreeMap<&String, &K::Config>)| match spec(name, held) {
        Some((field, fields)) => manifest::<K>(live, (*name, &names[*name]), field, fields, held),
        None => Manifest {
            object: None,
            remarks: vec![format!(
                "{} {name} can't be declared: its name holds more than letters, digits, '%', '|', '_' and '-'",
                K::NAME
            )],
        },
    };
    by_name.iter().map(one).collect()
}

fn manifest<K: Kind>(
    live: &Live,
    (name, object_name): (&String, &String),
    name_field: &str,
    mut fields: Map<String, Value>,
    held: &BTreeMap<&String, &K::Config>,
) -> Manifest {
    fields.insert("clusterRef".into(), json!({"name": live.cluster.1}));
    if name != object_name {
        fields.insert(name_field.into(), json!(name));
    }
    let object = |fields: &Map<String, Value>| {
        json!({
            "apiVersion": format!("{}/v1alpha1", gantry_crds::GROUP),
            "kind": K::NAME,
            "metadata": {"name": object_name, "namespace": live.cluster.0},
            "spec": fields,
        })
    };
    let remarks = remarks::<K>(object(&fields), live, held);
    if !remarks.is_empty() {
        fields.insert("reconcilePolicy".into(), json!("Observe"));
    }
    Manifest { object: Some(object(&fields)), remarks }
}

/// What the operator would change were this applied: found by asking the operator's own code.
fn remarks<K: Kind>(object: Value, live: &Live, held: &BTreeMap<&String, &K::Config>) -> Vec<String> {
    let object: K::Object = match serde_json::from_value(object) {
        Ok(object) => object,
        Err(error) => return vec![format!("it can't be read back: {error}")],
    };
    let mut remarks = Vec::new();
    for (group, config) in held {
        let desired = K::desired(&object, Some(config));
        if K::change(Some(config), &desired).is_some() {
            remarks.extend(K::differences(config, &desired).into_iter().map(|d| format!("{group}: {d}")));
        }
    }
    // A consumer group is of all broker groups; what is missing on one would be created there.
    let named = K::parse(&object).broker_groups;
    let missing = live.groups.keys().filter(|g| !held.contains_key(*g) && named.is_empty());
    remarks.extend(missing.map(|g| format!("{g}: missing")));
    remarks
}

/// All as one YAML stream, remarks as comments.
#[must_use]
pub fn yaml(manifests: &[Manifest]) -> String {
    let mut text = String::new();
    for Manifest { object, remarks } in manifests {
        let yaml = object.as_ref().and_then(|o| serde_yaml::to_string(o).ok());
        if yaml.is_some() {
            text.push_str("---\n");
        }
        if object.is_some() && !remarks.is_empty() {
            text.push_str("# It only observes, because to apply it would change the engine: where that is meant, remove reconcilePolicy and add annotation gantry.dev/adopt: \"true\".\n");
        }
        for remark in remarks {
            let _ = writeln!(text, "#   {remark}");
        }
        text.push_str(&yaml.unwrap_or_default());
    }
    text
}
