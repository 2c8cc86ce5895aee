//! Kind `ConsumerGroup`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::policy::{ClusterRef, ReconcilePolicy};
use crate::role::ConfigValue;
use crate::topic::{DeletionPolicy, Permission};

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
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.consumption.lag"),
    printcolumn(name = "Clients", type_ = "integer", json_path = ".status.consumption.clients"),
    printcolumn(name = "DLQ", type_ = "integer", json_path = ".status.consumption.deadLetters"),
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
        .message("broadcast and delivery: Ordered exclude each other: write one of them"),
    validation = Rule::new("!has(self.loadBalancing) || (has(self.subscriptions) && self.subscriptions.size() > 0)")
        .message("loadBalancing is set topic by topic: write the topics into subscriptions")
)]
pub struct ConsumerGroupSpec {
    /// The BrokerCluster.
    #[x_kube(validation = Rule::new("self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)")
        .message("clusterRef can't change, it would be another group: create a new ConsumerGroup"))]
    pub cluster_ref: ClusterRef,
    /// Name in the engine: 1 to 120 letters, digits, '_', '-', '%' or '|'. Default: metadata.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120))]
    #[x_kube(
        validation = Rule::new("self.matches('^[%|a-zA-Z0-9_-]+$')")
            .message("groupName holds a character that RocketMQ refuses: write letters, digits, '_', '-', '%' and '|'"),
        validation = Rule::new("!(self in ['DEFAULT_CONSUMER', 'DEFAULT_PRODUCER', 'TOOLS_CONSUMER', 'SCHEDULE_CONSUMER', 'FILTERSRV_CONSUMER', 'SELF_TEST_C_GROUP', '__MONITOR_CONSUMER', 'CID_DefaultHeartBeatSyncerTopic']) && !self.startsWith('CID_RMQ_SYS_') && !self.startsWith('CID_ONSAPI') && !self.startsWith('%')")
            .message("groupName belongs to the engine (CID_RMQ_SYS_*, DEFAULT_CONSUMER, …): write another one")
    )]
    pub group_name: Option<String>,
    /// Concurrent (default), or Ordered: messages of one message group one after the other.
    #[serde(default)]
    pub delivery: Delivery,
    /// How messages are shared among its consumers; the type says it, and that is what is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// What its consumers subscribe to, at most 256. The engine uses it to tell how far the group is behind also while no consumer is there.
    /// Default: none, what consumers themselves say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topic".into()]))]
    pub subscriptions: Vec<Subscription>,
    /// Engine attributes, e.g. `{priority.factor: "0"}`, without the engine's leading '+'. What is not written stays as the engine has it.
    /// Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[a-z][a-z.]{0,63}$'))")
        .message("an attribute's name holds only a-z and dots, without a leading '+': write it as RocketMQ documents it, e.g. priority.factor"))]
    pub attributes: BTreeMap<String, ConfigValue>,
    /// Sets the group's offsets once. Each value is carried out one time and recorded in the status; another value is carried out again.
    /// Default: none, they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_offset: Option<ResetOffset>,
    /// What happens to messages that a consumer does not acknowledge.
    #[serde(default)]
    pub retry: Retry,
    /// The group's dead-letter topic, `%DLQ%` and the group's name: kept on every broker group from the start. Without it a broker makes its own with
    /// the first dead letter, to be read and written. It has one queue, the engine uses no more. It stays when the group is deleted.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<DeadLetterTopic>,
    /// Whether consumers may receive. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether every consumer gets every message. Default false.
    #[serde(default)]
    pub broadcast: bool,
    /// The engine's `consumeFromMinEnable`. Default true. RocketMQ 5.5.0 keeps it and acts on it nowhere: a new group of remoting clients starts where the
    /// client says, one over gRPC with the oldest message while that is in memory, else with the newest. To start elsewhere write resetOffset, with topics.
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

/// How messages are shared among consumers of the topics in `subscriptions`: Message (any consumer may have any message), or Queue (each queue
/// belongs to one consumer, as in RocketMQ 4). Default: as the engine has it. Clients that balance by themselves (4.x without `clientRebalance=false`)
/// stay with queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancing {
    /// Any consumer may have any message (POP): more consumers than queues all receive.
    Message,
    /// Each queue belongs to one consumer: more consumers than queues wait.
    Queue,
}

/// A topic that a group's consumers subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Name of the topic in the engine.
    #[schemars(length(min = 1, max = 127))]
    #[x_kube(validation = Rule::new("self.matches('^[|a-zA-Z0-9_-][%|a-zA-Z0-9_-]*$')")
        .message("subscriptions names what is no topic of yours: write letters, digits, '_', '-', '|' and, not first, '%'"))]
    pub topic: String,
    /// Which messages: tags, e.g. `created || paid`, or SQL92. Default `*`, all.
    #[serde(default = "all")]
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
    /// What the expression is: TAG (default) or SQL92.
    #[serde(default)]
    pub expression_type: ExpressionType,
}

fn all() -> String {
    "*".into()
}

/// What a subscription's expression is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpressionType {
    /// Tags, joined by `||`; `*` is all.
    #[default]
    TAG,
    /// A condition on properties.
    SQL92,
}

/// Where a group's offsets are set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.to == 'Time') == has(self.time)")
        .message("resetOffset: time belongs to `to: Time` and to nothing else: write both or neither")
)]
pub struct ResetOffset {
    /// Earliest (the oldest message that is still there), Latest (messages from now on), or Time.
    pub to: ResetTo,
    /// With `to: Time`: the first message stored then or later, e.g. `2026-01-31T12:00:00Z`. Default: none; `to: Time` needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Topics, by their names in the engine. Default: all that the group has consumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 127)))]
    pub topics: Vec<String>,
    /// Write another one to carry out the same once more, e.g. `again`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub id: Option<String>,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResetTo {
    /// The oldest message that is still there.
    Earliest,
    /// Messages from now on.
    Latest,
    /// The first message stored at a time or later.
    Time,
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
    /// Intervals between attempts that grow by a factor. Default: those of `intervals`, or the engine's.
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

/// The topic of what a group gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterTopic {
    /// What clients may do with it: ReadWrite (default), or WriteOnly, so that brokers put dead letters there and nobody receives them.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self != 'ReadOnly'")
        .message("brokers could not put dead letters into a topic that is ReadOnly: write ReadWrite or WriteOnly"))]
    pub permission: Permission,
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
    /// Whether the engine once had it as this object declares: from then on what differs is put right. Before, what is there with other settings is not
    /// changed without annotation `gantry.dev/adopt`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The last `resetOffset` that was begun or carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_offset: Option<ResetOffsetStatus>,
    /// How far the group is, and who consumes. Looked at every 30 s in a group that is at work, less often in one of very many; not there before a
    /// group has consumed anything or had a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumption: Option<Consumption>,
}

/// How far a consumer group is, and who consumes. Figures of one look; they change all the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consumption {
    /// Messages not yet acknowledged, over all topics: ready and in flight.
    #[serde(default)]
    pub lag: i64,
    /// Messages consumed per second over the last minute, rounded up.
    #[serde(default)]
    pub tps: i64,
    /// Messages in the group's dead-letter topic, `%DLQ%` and the group's name.
    #[serde(default)]
    pub dead_letters: i64,
    /// Clients online. Not there while nobody could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<i32>,
    /// The clients by protocol, language and version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_kinds: Vec<ClientKind>,
    /// The topics, the one with the greatest lag first, at most 32; `%RETRY%` topics hold what is to be delivered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicLag>,
    /// How the clients' subscriptions differ from spec.subscriptions, one a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<String>,
}

/// Clients of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientKind {
    /// `gRPC` (5.x clients, by a proxy) or `Remoting` (4.x clients).
    pub protocol: String,
    /// E.g. `JAVA`, as the client says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// E.g. `5.3.1`. Not there for gRPC: proxies do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many.
    pub count: i32,
}

/// How far a group is in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicLag {
    /// Name of the topic in the engine.
    pub topic: String,
    /// Messages that could be delivered now.
    #[serde(default)]
    pub ready: i64,
    /// Messages that were delivered and not yet acknowledged.
    #[serde(default)]
    pub in_flight: i64,
    /// Messages of the topic that wait for their time; the same for all its groups, and no part of the lag.
    #[serde(default)]
    pub delayed: i64,
}

/// What became of a `resetOffset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetOffsetStatus {
    /// What was asked for, in one line.
    pub value: String,
    /// The time that the offsets are set to, in milliseconds of the epoch; 0 for the beginning.
    #[serde(default)]
    pub timestamp: i64,
    /// Whether it was carried out on all broker groups.
    #[serde(default)]
    pub done: bool,
    /// Topics whose offsets were set, each with its broker group, e.g. `shop-broker-0/orders`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}
