//! What topics and consumer groups have in common: declared by an object of Kubernetes, held by every broker group, compared as a set.

use std::collections::BTreeMap;
use std::fmt::Debug;

use gantry_crds::condition::{Condition, ConditionType};
use gantry_crds::consumer_group::Consumption;
use gantry_crds::policy::{ClusterRef, ReconcilePolicy};
use gantry_crds::topic::{DeletionPolicy, TopicType};
use gantry_crds::{ADOPT_ANNOTATION, PAUSED_ANNOTATION};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{BrokerMetadata, EngineWrite};

/// Finalizer of objects whose deletion changes the engine. Objects with deletionPolicy Retain have none: nothing can keep them.
pub const FINALIZER: &str = "rocketmq.gantry.dev/engine";

/// Namespace and name of an object of Kubernetes.
pub type Key = (String, String);

/// One of the two kinds.
pub trait Kind: Send + Sync + 'static {
    /// The object that declares it.
    type Object: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static;
    /// Its status.
    type Status: Clone + PartialEq + Serialize + Send + Sync;
    /// It as a broker holds it.
    type Config: Clone + PartialEq + Debug + Send + Sync;
    /// A change of it.
    type Change: Clone + PartialEq + Debug + Send + Sync;

    /// `Topic` or `ConsumerGroup`.
    const NAME: &'static str;

    /// Parses an object. It can't fail: the schema refuses what could not be parsed.
    fn parse(object: &Self::Object) -> Declared;
    /// How it names its cluster.
    fn cluster_ref(object: &Self::Object) -> &ClusterRef;
    /// Its cluster. Without parsing the rest: it is asked of every object in every pass.
    fn cluster(object: &Self::Object) -> Key {
        Self::cluster_ref(object).resolve(object.meta().namespace.as_deref().unwrap_or_default())
    }
    /// What it wants of its cluster.
    fn demand(object: &Self::Object) -> Demand;
    /// It as it should be on a broker that holds `current`. What the object does not speak of stays as it is.
    fn desired(object: &Self::Object, current: Option<&Self::Config>) -> Self::Config;
    /// `desired` without what this broker can't take because it has not what that speaks of.
    fn fit(desired: Self::Config, current: Option<&Self::Config>, broker: &BrokerMetadata) -> Self::Config;
    /// `current` with those parts of `desired` that it lacks altogether: what is missing can be made, and is nobody's.
    fn completed(current: &Self::Config, desired: &Self::Config) -> Self::Config;
    /// Why this cluster's engine can't have it, or `None`.
    fn unsupported(object: &Self::Object, abilities: &Abilities) -> Option<String>;
    /// `desired` with what must not be cut off from `current` at once; `None` where there is no such thing.
    fn gently(current: &Self::Config, desired: &Self::Config) -> Option<Self::Config>;
    /// What turns `current` into `desired`; `None` where they are equal.
    fn change(current: Option<&Self::Config>, desired: &Self::Config) -> Option<Self::Change>;
    /// Writes `current` once more as it is, so that replicas copy it from their master anew.
    fn refresh(current: &Self::Config) -> Self::Change;
    /// Name of a change's subject in the engine.
    fn name_of(change: &Self::Change) -> &str;
    /// Differences for people, `field: engine → declared`.
    fn differences(current: &Self::Config, desired: &Self::Config) -> Vec<String>;
    /// All of this kind that a broker holds.
    fn held(metadata: &BrokerMetadata) -> &BTreeMap<String, Self::Config>;
    /// Whether a name belongs to the engine.
    fn is_system(name: &str, cluster: &str, broker_groups: &[String]) -> bool;
    /// Creates or updates on a master.
    fn upsert(broker: String, changes: Vec<Self::Change>) -> EngineWrite;
    /// Deletes everywhere. `masters` and `replicas` are the brokers of the groups that hold it.
    fn delete(
        names: Vec<String>,
        masters: Vec<String>,
        replicas: Vec<String>,
        name_servers: Vec<String>,
    ) -> EngineWrite;
    /// The status that the object has.
    fn old_status(object: &Self::Object) -> Option<&Self::Status>;
    /// A status. What the report does not speak of stays as in `old`.
    fn status(report: Report, old: Option<&Self::Status>) -> Self::Status;
    /// The conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// Broker groups that held it as declared, by a status.
    fn held_by(status: &Self::Status) -> &[String];
    /// Whether the engine once had it as declared, by a status.
    fn adopted(status: &Self::Status) -> bool;
}

/// What a cluster's engine can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Its version, e.g. `5.5.0`.
    pub version: String,
    /// Whether brokers keep many small topics in one (`enableLmq`, `enableMultiDispatch`).
    pub light_queues: bool,
}

impl Abilities {
    /// Whether its version is this one or a later one. What is no version has nothing.
    #[must_use]
    pub fn from(&self, version: [u32; 3]) -> bool {
        let numbers: Option<Vec<u32>> = self.version.split('.').map(|n| n.parse().ok()).collect();
        numbers.is_some_and(|n| n.as_slice() >= version.as_slice())
    }
}

/// An object, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Which object.
    pub key: Key,
    /// When it was created; the oldest of several for one name wins.
    pub created: Option<Time>,
    /// The cluster, as namespace and name.
    pub cluster: Key,
    /// Name in the engine.
    pub engine_name: String,
    /// Broker groups that should hold it; empty: all.
    pub broker_groups: Vec<String>,
    /// What becomes of it when the object is deleted.
    pub deletion: DeletionPolicy,
    /// When the deletion of the object was asked for; the API server's clock.
    pub deleted: Option<Time>,
    /// Whether Gantry's finalizer is on the object.
    pub has_finalizer: bool,
    /// Whether the annotation lets it take over what is there with other settings.
    pub adopts: bool,
    /// How far to go; `None`: paused.
    pub policy: Option<ReconcilePolicy>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
}

/// Objects of one kind, parsed.
pub type Parsed<'a, K> = Vec<(Declared, &'a <K as Kind>::Object)>;

/// What an object wants of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A topic of this type with so many queues on each broker group.
    Topic {
        /// Its type.
        type_: TopicType,
        /// Its queues.
        queues: i32,
    },
    /// A consumer group.
    ConsumerGroup,
}

/// Name in the engine: what the object says, or its own.
#[must_use]
pub fn engine_name(object: &impl ResourceExt, name: Option<&String>) -> String {
    name.cloned().unwrap_or_else(|| object.name_any())
}

impl Declared {
    /// What is common to parsing both kinds.
    #[must_use]
    pub fn new(
        object: &impl ResourceExt,
        cluster: &ClusterRef,
        name: Option<&String>,
        deletion: DeletionPolicy,
        policy: ReconcilePolicy,
    ) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let says = |annotation: &str| object.annotations().get(annotation).is_some_and(|v| v == "true");
        Self {
            created: object.creation_timestamp(),
            cluster: cluster.resolve(&namespace),
            engine_name: engine_name(object, name),
            broker_groups: Vec::new(),
            deletion,
            deleted: object.meta().deletion_timestamp.clone(),
            has_finalizer: object.finalizers().iter().any(|f| f == FINALIZER),
            policy: (!says(PAUSED_ANNOTATION)).then_some(policy),
            adopts: says(ADOPT_ANNOTATION),
            generation: object.meta().generation,
            key: (namespace, object.name_any()),
        }
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.deleted.is_some()
    }

    /// Whether it is about this broker group.
    #[must_use]
    pub fn is_about(&self, group: &str) -> bool {
        self.broker_groups.is_empty() || self.broker_groups.iter().any(|g| g == group)
    }

    /// Whether the status says that the engine once had it as this object declared.
    #[must_use]
    pub fn was_adopted<K: Kind>(&self, object: &K::Object) -> bool {
        let ready = |c: &Condition| c.type_ == ConditionType::Ready.as_str() && c.status == "True";
        K::old_status(object).is_some_and(|s| K::adopted(s) || K::conditions(s).iter().any(ready))
    }

    /// Whether this very declaration was found in the engine before, on `group`: what differs there now was lost or edited since.
    #[must_use]
    pub fn was_held<K: Kind>(&self, object: &K::Object, group: &str) -> bool {
        let Some(status) = K::old_status(object) else { return false };
        let ready = |c: &Condition| {
            c.type_ == ConditionType::Ready.as_str() && c.status == "True" && c.observed_generation == self.generation
        };
        K::conditions(status).iter().any(ready) && K::held_by(status).iter().any(|g| g == group)
    }
}

/// What a status is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// The three conditions.
    pub conditions: Vec<Condition>,
    /// Name in the engine.
    pub engine_name: String,
    /// Broker groups that hold it as declared.
    pub broker_groups: Vec<String>,
    /// Differences, where they may not be removed.
    pub differences: Vec<String>,
    /// Whether the engine has or had it as declared.
    pub adopted: bool,
    /// How far a consumer group is, where it was looked at.
    pub consumption: Option<Consumption>,
}
