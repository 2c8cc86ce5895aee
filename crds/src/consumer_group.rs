//! Kind `ConsumerGroup`.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::policy::{ClusterRef, ReconcilePolicy};
use crate::topic::DeletionPolicy;

/// A consumer group of a BrokerCluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketmq.gantry.dev",
    version = "v1alpha1",
    kind = "ConsumerGroup",
    plural = "consumergroups",
    shortname = "rmqg",
    namespaced,
    category = "rocketmq",
    status = "ConsumerGroupStatus",
    derive = "PartialEq",
    doc = "A RocketMQ consumer group: how messages are delivered to it and retried.",
    validation = Rule::new("has(self.spec.groupName) || self.metadata.name.matches('^[a-zA-Z0-9_-]{1,120}$')")
        .message("metadata.name is no group name for RocketMQ (it holds a dot or is longer than 120 characters): set spec.groupName"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Group", type_ = "string", json_path = ".status.groupName"),
    printcolumn(name = "Delivery", type_ = "string", json_path = ".spec.delivery"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.groupName) == has(oldSelf.groupName) && (!has(self.groupName) || self.groupName == oldSelf.groupName)")
        .message("groupName can't change, it would be another group: create a new ConsumerGroup"),
    validation = Rule::new("!(self.broadcast && self.delivery == 'Ordered')")
        .message("broadcast and delivery: Ordered exclude each other: write one of them")
)]
pub struct ConsumerGroupSpec {
    /// The BrokerCluster.
    #[x_kube(validation = Rule::new("self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)")
        .message("clusterRef can't change, it would be another group: create a new ConsumerGroup"))]
    pub cluster_ref: ClusterRef,
    /// Name in the engine: 1 to 120 letters, digits, '_' or '-'. Default: metadata.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120))]
    #[x_kube(
        validation = Rule::new("self.matches('^[%a-zA-Z0-9_-]+$')")
            .message("groupName holds a character that RocketMQ refuses: write letters, digits, '_' and '-'"),
        validation = Rule::new("!(self in ['DEFAULT_CONSUMER', 'DEFAULT_PRODUCER', 'TOOLS_CONSUMER', 'SCHEDULE_CONSUMER', 'FILTERSRV_CONSUMER', 'SELF_TEST_C_GROUP', '__MONITOR_CONSUMER', 'CID_DefaultHeartBeatSyncerTopic']) && !self.startsWith('CID_RMQ_SYS_') && !self.startsWith('CID_ONSAPI') && !self.startsWith('%')")
            .message("groupName belongs to the engine (CID_RMQ_SYS_*, DEFAULT_CONSUMER, …): write another one")
    )]
    pub group_name: Option<String>,
    /// Concurrent (default), or Ordered: messages of one message group one after the other.
    #[serde(default)]
    pub delivery: Delivery,
    /// What happens to messages that a consumer does not acknowledge.
    #[serde(default)]
    pub retry: Retry,
    /// Whether consumers may receive. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether every consumer gets every message. Default false.
    #[serde(default)]
    pub broadcast: bool,
    /// Whether a new group starts with the oldest message. Default true; false starts with messages sent from then on.
    #[serde(default = "yes")]
    pub consume_from_min: bool,
    /// What becomes of the group and its offsets when this object is deleted: Retain (default), Delete, or DeleteIfEmpty (no consumer is connected).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How far Gantry goes: Apply (default), Plan or Observe (report differences in the status, change nothing).
    #[serde(default)]
    pub reconcile_policy: ReconcilePolicy,
}

fn yes() -> bool {
    true
}

/// How messages reach the consumers of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// Any message to any consumer at once.
    #[default]
    Concurrent,
    /// Messages of one message group one after the other.
    Ordered,
}

/// What happens to messages that a consumer does not acknowledge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.exponential) && has(self.intervals))")
    .message("retry.exponential and retry.intervals exclude each other: write one of them"))]
pub struct Retry {
    /// How often a message is delivered again before it goes to the dead-letter topic, 0 to 1000. Default 16.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_attempts: i32,
    /// Intervals between attempts that grow by a factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<Exponential>,
    /// Intervals between attempts one by one, e.g. `[10s, 30s, 5m]`; the last one repeats. Default: the engine's, from 10 s to 2 h.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 12)))]
    #[x_kube(validation = Rule::new("self.all(d, d.matches('^[1-9][0-9]{0,8}(ms|s|m|h)$'))")
        .message("an interval is a number with a unit: write e.g. 500ms, 10s, 5m or 2h"))]
    pub intervals: Vec<String>,
}

fn sixteen() -> i32 {
    16
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 16, exponential: None, intervals: Vec::new() }
    }
}

/// Intervals between attempts: `initial × multiplier^n`, at most `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exponential {
    /// First interval, e.g. `5s`, 1s or more.
    #[schemars(length(max = 12))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,8}(s|m|h)$')")
        .message("retry.exponential.initial is a number of s, m or h: write e.g. 5s"))]
    pub initial: String,
    /// Longest interval, e.g. `2h`.
    #[schemars(length(max = 12))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,8}(s|m|h)$')")
        .message("retry.exponential.max is a number of s, m or h: write e.g. 2h"))]
    pub max: String,
    /// Factor from one interval to the next, 2 to 5. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 2, max = 5))]
    pub multiplier: i32,
}

fn two() -> i32 {
    2
}

/// What Gantry reports about a ConsumerGroup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: on every broker group as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Name in the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// Broker groups that have it as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broker_groups: Vec<String>,
    /// Differences between engine and declaration that may not be removed, or between a replica and its master, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}
