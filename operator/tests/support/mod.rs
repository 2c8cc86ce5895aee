//! What several tests need: clusters from YAML, a world of API objects, pods and engine, and an operator that acts on it.

// Every test file compiles this anew and uses a part of it.
#![allow(dead_code)]

pub mod api;
pub mod golden;
pub mod operator;
pub mod oracle;
pub mod requests;
pub mod schedule;
pub mod world;

use gantry::broker_cluster::cluster::Cluster;
use gantry::broker_cluster::parse::{self};
use gantry::config::Settings;
use gantry_crds::BrokerCluster;
use serde_json::{Map, Value, json};

/// Namespace of every object.
pub const NAMESPACE: &str = "ns";

/// Settings of an operator out of the box.
pub fn settings() -> Settings {
    Settings::default()
}

/// A BrokerCluster as the API server would hold it.
pub fn object(name: &str, spec: Value) -> BrokerCluster {
    object_of(json!({"metadata": {"name": name}, "spec": spec}))
}

/// A BrokerCluster of a manifest that may leave out what the API server adds.
pub fn object_of(mut manifest: Value) -> BrokerCluster {
    let added = json!({
        "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster",
        "metadata": {"namespace": NAMESPACE, "uid": "uid-of-the-cluster", "generation": 1},
    });
    merge(&mut manifest, &added);
    serde_json::from_value(manifest).expect("a BrokerCluster")
}

/// The parsed cluster of a spec that can be.
pub fn parsed(object: &BrokerCluster) -> Cluster {
    parse::parse(object, &settings()).expect("a spec that can be")
}

/// JSON merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
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
