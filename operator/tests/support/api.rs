//! A small API server for the kinds of children: server-side apply, owners of fields, generations, defaults, what can't be changed.

use std::collections::BTreeMap;

use gantry::broker_cluster::resources::Resources;
use gantry::child::{ChildKind, ChildRef};
use gantry::labels;
use serde_json::{Value, json};

/// Key of an object: kind and name.
pub type Key = (ChildKind, String);

/// Why the server refuses a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another owner holds a field that is to be set otherwise.
    Conflict,
    /// A field can't change.
    Invalid(String),
}

#[derive(Clone, Debug)]
struct Stored {
    /// As it is read.
    live: Value,
    /// As Gantry applied it last: these fields are its own.
    applied: Value,
}

/// Objects by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Api {
    objects: BTreeMap<Key, Stored>,
    version: u64,
}

impl Api {
    /// Rises with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The object as it is read.
    pub fn get(&self, kind: ChildKind, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned())).map(|s| &s.live)
    }

    /// All objects, in order.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().map(|(key, stored)| (key, &stored.live))
    }

    /// Objects of a kind, in order of their names.
    pub fn of_kind(&self, kind: ChildKind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((k, _), _)| *k == kind).map(|(_, stored)| &stored.live)
    }

    /// Server-side apply as Gantry. `true`: something changed.
    pub fn apply(&mut self, child: &ChildRef, object: &Value, force: bool) -> Result<bool, Refusal> {
        let key = (child.kind, child.name.clone());
        let Some(stored) = self.objects.get(&key) else {
            self.version += 1;
            let mut live = object.clone();
            let uid = format!("uid-{}", self.version);
            super::merge(&mut live, &json!({"metadata": {"uid": uid, "generation": 1}}));
            default(child.kind, &mut live);
            live["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.objects.insert(key, Stored { live, applied: object.clone() });
            return Ok(true);
        };
        if !force && conflicts(object, &stored.live, &stored.applied) {
            return Err(Refusal::Conflict);
        }
        let mut live = stored.live.clone();
        remove_given_up(&mut live, &stored.applied, object);
        put(&mut live, object);
        default(child.kind, &mut live);
        if let Some(field) = unchangeable(child.kind, &stored.live, &live) {
            return Err(Refusal::Invalid(format!("{child}: {field} can't be changed")));
        }
        Ok(self.replace(key, live, Some(object.clone())))
    }

    /// What a person does with kubectl edit: the fields are not Gantry's any more.
    pub fn edit(&mut self, kind: ChildKind, name: &str, change: impl FnOnce(&mut Value)) {
        let key = (kind, name.to_owned());
        let Some(stored) = self.objects.get(&key) else { return };
        let mut live = stored.live.clone();
        change(&mut live);
        if unchangeable(kind, &stored.live, &live).is_none() {
            self.replace(key, live, None);
        }
    }

    /// Writes a status: no generation, no owner.
    pub fn set_status(&mut self, kind: ChildKind, name: &str, status: Value) {
        let key = (kind, name.to_owned());
        let Some(stored) = self.objects.get(&key) else { return };
        if stored.live["status"] != status {
            let mut live = stored.live.clone();
            live["status"] = status;
            self.replace(key, live, None);
        }
    }

    /// Deletes where the uid is this one, or where none is given. `true`: it was there.
    pub fn delete(&mut self, kind: ChildKind, name: &str, uid: Option<&str>) -> Result<bool, Refusal> {
        let key = (kind, name.to_owned());
        let Some(stored) = self.objects.get(&key) else { return Ok(false) };
        if uid.is_some_and(|uid| stored.live["metadata"]["uid"] != uid) {
            return Err(Refusal::Conflict);
        }
        self.version += 1;
        self.objects.remove(&key);
        Ok(true)
    }

    /// What a list by the labels of a cluster returns.
    pub fn list(&self, cluster: &str) -> Resources {
        let mut found = Resources::default();
        for ((kind, _), stored) in &self.objects {
            let label = |key: &str| stored.live["metadata"]["labels"][key].as_str().unwrap_or_default();
            if label(labels::MANAGED_BY) == labels::MANAGER && label(labels::INSTANCE) == cluster {
                found.insert(*kind, stored.live.clone()).expect("what was written can be read");
            }
        }
        found
    }

    fn replace(&mut self, key: Key, mut live: Value, applied: Option<Value>) -> bool {
        let Some(stored) = self.objects.get_mut(&key) else { return false };
        if let Some(applied) = applied {
            stored.applied = applied;
        }
        if live == stored.live {
            return false;
        }
        if live["spec"] != stored.live["spec"] {
            live["metadata"]["generation"] = json!(stored.live["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        self.version += 1;
        live["metadata"]["resourceVersion"] = self.version.to_string().into();
        stored.live = live;
        true
    }
}

/// Does `object` set a field otherwise that somebody else set? Fields that are as Gantry applied them are its own.
fn conflicts(object: &Value, live: &Value, applied: &Value) -> bool {
    match (object, live) {
        (Value::Object(o), Value::Object(l)) => {
            o.iter().any(|(key, value)| l.get(key).is_some_and(|live| conflicts(value, live, &applied[key])))
        }
        (o, l) => o != l && l != applied,
    }
}

/// Removes fields that were applied before and are not any more.
fn remove_given_up(live: &mut Value, before: &Value, now: &Value) {
    let (Some(fields), Value::Object(before)) = (live.as_object_mut(), before) else { return };
    for (key, was) in before {
        match now.get(key) {
            None => {
                fields.remove(key);
            }
            Some(now) => {
                if let Some(live) = fields.get_mut(key) {
                    remove_given_up(live, was, now);
                }
            }
        }
    }
}

/// Sets all fields of `object`; items of lists of equal length keep what the server added to them.
fn put(live: &mut Value, object: &Value) {
    match (live, object) {
        (Value::Object(live), Value::Object(object)) => {
            for (key, value) in object {
                put(live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(live), Value::Array(object)) if live.len() == object.len() => {
            live.iter_mut().zip(object).for_each(|(live, object)| put(live, object));
        }
        (live, object) => *live = object.clone(),
    }
}

/// A few of the fields that a real server fills in.
fn default(kind: ChildKind, object: &mut Value) {
    let set = |value: &mut Value, key: &str, default: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.entry(key).or_insert(default);
        }
    };
    if let Some(metadata) = object.get_mut("metadata") {
        set(metadata, "creationTimestamp", json!("2026-01-01T00:00:00Z"));
    }
    let Some(spec) = object.get_mut("spec") else { return };
    match kind {
        ChildKind::Service => {
            set(spec, "clusterIP", json!("10.96.0.1"));
            set(spec, "type", json!("ClusterIP"));
            set(spec, "sessionAffinity", json!("None"));
        }
        ChildKind::StatefulSet | ChildKind::Deployment => {
            set(spec, "replicas", json!(1));
            let Some(pod) = spec.pointer_mut("/template/spec") else { return };
            set(pod, "restartPolicy", json!("Always"));
            set(pod, "dnsPolicy", json!("ClusterFirst"));
            set(pod, "schedulerName", json!("default-scheduler"));
            for container in pod["containers"].as_array_mut().into_iter().flatten() {
                set(container, "imagePullPolicy", json!("IfNotPresent"));
                for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                    if let Some(probe) = container.get_mut(probe) {
                        set(probe, "successThreshold", json!(1));
                    }
                }
            }
        }
        ChildKind::ServiceAccount
        | ChildKind::ConfigMap
        | ChildKind::PodDisruptionBudget
        | ChildKind::HorizontalPodAutoscaler => {}
    }
}

/// The first field that differs and can't, as a real server has it.
fn unchangeable(kind: ChildKind, old: &Value, new: &Value) -> Option<String> {
    let fields: Vec<&str> = match kind {
        ChildKind::StatefulSet => {
            // ValidateStatefulSetUpdate in Kubernetes' pkg/apis/apps/validation.
            let free = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let spec = old["spec"].as_object().into_iter().chain(new["spec"].as_object());
            return spec
                .flat_map(|s| s.keys())
                .find(|key| !free.contains(&key.as_str()) && old["spec"][*key] != new["spec"][*key])
                .map(|key| format!("spec.{key}"));
        }
        ChildKind::Deployment => vec!["/spec/selector"],
        ChildKind::Service => vec!["/spec/clusterIP"],
        ChildKind::ConfigMap if old["immutable"] == true => vec!["/data", "/immutable"],
        ChildKind::ConfigMap
        | ChildKind::ServiceAccount
        | ChildKind::PodDisruptionBudget
        | ChildKind::HorizontalPodAutoscaler => vec![],
    };
    fields.into_iter().find(|path| old.pointer(path) != new.pointer(path)).map(str::to_owned)
}
