//! What Gantry reports about a BrokerCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// What Gantry saw last. Fields that depend on the engine keep saying so when it can't be asked: see the conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerClusterStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: clients can send and receive. Progressing: Gantry is at work. Degraded: something is missing or stuck. Reasons are a closed,
    /// documented set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Engine version that all brokers run; the old and the new one with an arrow while they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The figures of `kubectl get`.
    #[serde(default)]
    pub summary: Summary,
    /// A change of the engine's version that is under way, or that did not go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// Every broker group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub groups: Vec<GroupStatus>,
    /// Name of the controller that leads, where one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_leader: Option<String>,
    /// Addresses ready to copy into a client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub endpoints: Vec<EndpointStatus>,
    /// What is not being done now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldStatus>,
    /// With reconcilePolicy Plan or Observe: what Gantry would do, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlannedChange>,
    /// With reconcilePolicy Plan: stamp of what is declared. Annotation gantry.dev/approve-plan with this very value lets Gantry make it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// Deletions of topics and consumer groups: how many there were lately, and how many are held until somebody confirms them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Deletions>,
    /// Broker groups that hold every topic and consumer group that is declared for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata_on: Vec<String>,
}

/// Deletions of topics and consumer groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletions {
    /// Topics.
    #[serde(default)]
    pub topics: KindDeletions,
    /// Consumer groups.
    #[serde(default)]
    pub consumer_groups: KindDeletions,
}

/// Deletions of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindDeletions {
    /// Those of the last 5 minutes, and older ones while they matter for what is held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RecentDeletions>,
    /// How many are held.
    #[serde(default)]
    pub held: i32,
    /// What annotation gantry.dev/confirm-deletions of this BrokerCluster must say to confirm all that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// Objects whose deletion was asked for at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecentDeletions {
    /// When, to the second.
    pub at: Time,
    /// How many.
    pub count: i32,
}

/// Counts as `ready/wanted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Broker groups that take messages / wanted.
    #[serde(default)]
    pub groups: String,
    /// Broker replicas in sync (masters included) / wanted.
    #[serde(default)]
    pub in_sync: String,
    /// Proxies ready / wanted.
    #[serde(default)]
    pub proxies: String,
    /// Name servers ready / wanted.
    #[serde(default)]
    pub name_servers: String,
    /// Controllers ready / wanted.
    #[serde(default)]
    pub controllers: String,
}

/// One broker group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// The engine's brokerName, which is also the StatefulSet's name.
    pub name: String,
    /// Pod of the master, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Epoch of the master: how many elections the group has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Every replica, by pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
    /// Whether it takes messages: Open, or on its way in or out.
    #[serde(default, skip_serializing_if = "GroupPhase::is_open")]
    pub phase: GroupPhase,
    /// What a group that is to go still holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// Since when its master takes no new messages, because it is to be restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_since: Option<Time>,
}

/// Where a broker group is between its creation and its removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum GroupPhase {
    /// Takes messages.
    #[default]
    Open,
    /// New: takes no messages before it has all topics, consumer groups and offsets.
    Opening,
    /// Declared away: takes no messages, and consumers read what is in it.
    Draining,
    /// Empty: its pods are stopped, then its objects go. It can't be cancelled any more.
    Removing,
}

impl GroupPhase {
    /// Whether it takes messages.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }

    /// The phase of this name; what is none is Open.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let all = [Self::Open, Self::Opening, Self::Draining, Self::Removing];
        all.into_iter().find(|p| p.as_str() == name).unwrap_or_default()
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Opening => "Opening",
            Self::Draining => "Draining",
            Self::Removing => "Removing",
        }
    }
}

/// What a broker group that is to go still holds. Figures are looked at every few seconds and written down every 10 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// When it was first looked at.
    pub since: Time,
    /// When these figures were taken.
    pub at: Time,
    /// Since when nothing at all is left. It goes after a minute of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
    /// Messages that are left, of all kinds.
    pub messages: i64,
    /// Delayed messages that are not yet due, and messages that a consumer holds and has not acknowledged.
    #[serde(default)]
    pub delayed: i64,
    /// Transactions that are neither committed nor rolled back.
    #[serde(default)]
    pub transactions: i64,
    /// Seconds until nothing is left, at the speed of the last look. Absent where nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_seconds: Option<i64>,
    /// Consumer groups that have not read everything, retries included; the largest 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerLag>,
    /// Topics that hold messages and that no consumer group reads; the first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread_topics: Vec<String>,
}

/// What a consumer group has not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerLag {
    /// Its name in the engine.
    pub group: String,
    /// Messages.
    pub messages: i64,
    /// When it last got on, or was first seen.
    pub progressed_at: Time,
    /// It has not got on for 5 minutes.
    #[serde(default)]
    pub stuck: bool,
}

/// One replica of a broker group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Name of the pod.
    pub pod: String,
    /// What it is.
    pub state: ReplicaState,
    /// How many bytes of the commit log it lacks, where it is catching up and the master could be asked. Rounded to whole MiB up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<i64>,
}

/// What a broker replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ReplicaState {
    /// Takes writes.
    Master,
    /// Has every acknowledged message: may become master.
    InSync,
    /// Runs and copies what it lacks.
    CatchingUp,
    /// Its pod is there but not yet, or no longer, serving.
    Starting,
    /// There is no such pod.
    Missing,
    /// Nobody could be asked.
    Unknown,
}

/// Addresses of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Name as in the spec.
    pub name: String,
    /// `host:port` for 5.x clients (gRPC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// `host:port` for 4.x clients (remoting): their `namesrvAddr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remoting: Option<String>,
}

/// Something that is not being done, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// From the same closed set as the conditions' reasons.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Something that Gantry would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// Create, Update, Delete, Grow, Set, Elect, Restart, Replace, …
    pub action: String,
    /// What, e.g. `StatefulSet/shop-broker-0`.
    pub object: String,
    /// Why, or which fields differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What clients may notice of it.
    #[serde(default)]
    pub risk: Risk,
    /// Pods that it disturbs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

/// What clients may notice of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Risk {
    /// Nothing.
    #[default]
    None,
    /// A process stops and starts again while others serve.
    Restart,
    /// Another replica becomes master: writers to the group pause for about a second.
    HandOver,
    /// A process stops and starts again, and nobody serves in its place meanwhile: it is the only one of its kind or group.
    Interruption,
    /// A volume is deleted, with what is on it.
    DataLoss,
}

/// A change of the engine's version. What is written here is acted on by the next pass, so that it is known also after the operator starts anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStatus {
    /// Version before.
    pub from: String,
    /// Image before.
    pub from_image: String,
    /// Version to be.
    pub to: String,
    /// Where it is.
    pub phase: UpgradePhase,
    /// The broker group that takes the version before the others do.
    pub canary: String,
    /// Pods that run what they should: `to`, or `from` while and after rolling back.
    pub done: i32,
    /// Pods there should be.
    pub total: i32,
    /// A sentence, e.g. `3/11 pods run 5.5.0`.
    pub progress: String,
    /// Why it was stopped, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is in this phase.
    pub since: Time,
    /// `metadata.generation` for which it was begun or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Annotation gantry.dev/retry-upgrade as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
}

/// Where a change of the engine's version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum UpgradePhase {
    /// Roles take the new version one after the other.
    Rolling,
    /// A pod of the new version is not well: all go back to the version before.
    RollingBack,
    /// All went back. Tried again when the spec changes, or annotation gantry.dev/retry-upgrade gets another value.
    RolledBack,
    /// A pod of the new version is not well, and what it stored keeps it from going back: no further pod takes it.
    Stopped,
}
