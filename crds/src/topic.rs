//! Kind `Topic`.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::policy::{ClusterRef, ReconcilePolicy};
use crate::role::ConfigValue;

/// A topic of a BrokerCluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketmq.gantry.dev",
    version = "v1alpha1",
    kind = "Topic",
    plural = "topics",
    shortname = "rmqt",
    namespaced,
    category = "rocketmq",
    status = "TopicStatus",
    derive = "PartialEq",
    doc = "A RocketMQ topic, the same on every broker group that it names.",
    validation = Rule::new("has(self.spec.topicName) || self.metadata.name.matches('^[a-zA-Z0-9_-]{1,127}$')")
        .message("metadata.name is no topic name for RocketMQ (it holds a dot or is longer than 127 characters): set spec.topicName"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topicName"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Queues", type_ = "integer", json_path = ".spec.queues"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.topicName) == has(oldSelf.topicName) && (!has(self.topicName) || self.topicName == oldSelf.topicName)")
        .message("topicName can't change, it would be another topic: create a new Topic"),
    // Here and not at `attributes`: a rule of an optional field is not asked when the whole field comes or goes.
    validation = Rule::new("(has(self.attributes) && 'queue.type' in self.attributes ? self.attributes['queue.type'] : '') == (has(oldSelf.attributes) && 'queue.type' in oldSelf.attributes ? oldSelf.attributes['queue.type'] : '')")
        .message("queue.type can't change: create a new Topic"),
    validation = Rule::new("(has(self.attributes) && 'cleanup.policy' in self.attributes ? self.attributes['cleanup.policy'] : '') == (has(oldSelf.attributes) && 'cleanup.policy' in oldSelf.attributes ? oldSelf.attributes['cleanup.policy'] : '')")
        .message("cleanup.policy can't change: create a new Topic")
)]
pub struct TopicSpec {
    /// The BrokerCluster.
    #[x_kube(validation = Rule::new("self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)")
        .message("clusterRef can't change, it would be another topic: create a new Topic"))]
    pub cluster_ref: ClusterRef,
    /// Name in the engine: 1 to 127 letters, digits, '_', '-', '%' or '|'. Default: metadata.name. RocketMQ allows names that Kubernetes does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    #[x_kube(
        validation = Rule::new("self.matches('^[%|a-zA-Z0-9_-]+$')")
            .message("topicName holds a character that RocketMQ refuses: write letters, digits, '_', '-', '%' and '|'"),
        validation = Rule::new("!(self in ['TBW102', 'SELF_TEST_TOPIC', 'SCHEDULE_TOPIC_XXXX', 'BenchmarkTest', 'OFFSET_MOVED_EVENT', 'DefaultHeartBeatSyncerTopic', 'DefaultCluster']) && !self.startsWith('RMQ_SYS_') && !self.startsWith('rmq_sys_') && !self.startsWith('%')")
            .message("topicName belongs to the engine (TBW102, RMQ_SYS_*, %RETRY%*, %DLQ%*, …): write another one")
    )]
    pub topic_name: Option<String>,
    /// What messages it takes: Normal (default), FIFO, Delay, Transaction, Priority, Lite (from 5.5.0 on, needs `enableLmq` and `enableMultiDispatch` in
    /// the cluster's brokers.config) or Mixed (all but Lite, as topics of RocketMQ 4 did). Fixed at creation.
    #[serde(default, rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("type can't change, messages of the old type may be there: create a new Topic"))]
    pub type_: TopicType,
    /// Queues on each broker group, 1 to 1024. Default 8. More queues let more consumers share a topic in queue mode. Fewer: those that go take no more
    /// messages at once, and are read until every consumer group has what is in them, and what may still come into them: messages that wait for their time,
    /// and with types Transaction and Mixed those of transactions that are not decided (8 minutes as brokers are made).
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1024))]
    pub queues: i32,
    /// The topic's `order` as brokers keep it. Alone it changes nothing: clients of RocketMQ 4 keep to a fixed list of queues while a broker is away only where
    /// name servers run with `orderMessageEnable` and have the topic's list (`mqadmin updateOrderConf`), which Gantry does not write. For messages in order
    /// write type FIFO. Default false.
    #[serde(default)]
    pub order: bool,
    /// What clients may do: ReadWrite (default), ReadOnly, WriteOnly.
    #[serde(default)]
    pub permission: Permission,
    /// Names of the broker groups that hold it, e.g. `shop-broker-0`. Default: all, also those that come later. On others nothing is done: a group that is
    /// no longer named keeps the topic, also when this object is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self.all(g, self.exists_one(h, h == g))")
        .message("brokerGroups names a group twice: remove one"))]
    pub broker_groups: Vec<String>,
    /// Engine attributes, e.g. `{reserve.time: "3600000"}`, without the engine's leading '+'. `message.type` comes from `type`.
    /// Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new("self.all(k, k != 'message.type')").message("attribute message.type follows from spec.type: remove it"),
        validation = Rule::new("self.all(k, k.matches('^[a-z][a-z.]{0,63}$'))")
            .message("an attribute's name holds only a-z and dots, without a leading '+': write it as RocketMQ documents it, e.g. reserve.time")
    )]
    pub attributes: BTreeMap<String, ConfigValue>,
    /// What becomes of the topic and its messages when this object is deleted: Retain (default), Delete, or DeleteIfEmpty (it holds no message, none is
    /// on its way into it, and no consumer of it is connected).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How far Gantry goes: Apply (default), Plan or Observe (report differences in the status, change nothing).
    #[serde(default)]
    pub reconcile_policy: ReconcilePolicy,
}

fn eight() -> i32 {
    8
}

/// What messages a topic takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TopicType {
    /// Messages without order.
    #[default]
    Normal,
    /// Messages in order within a message group.
    FIFO,
    /// Messages that are delivered at a given time.
    Delay,
    /// Messages that are delivered when a transaction commits.
    Transaction,
    /// Messages that are delivered by priority.
    Priority,
    /// Messages of many small topics in one, such as one per session.
    Lite,
    /// Messages of all types but Lite.
    Mixed,
}

impl TopicType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::Normal, Self::FIFO, Self::Delay, Self::Transaction, Self::Priority, Self::Lite, Self::Mixed];

    /// Value of the engine's attribute `message.type`.
    #[must_use]
    pub fn message_type(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::FIFO => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Priority => "PRIORITY",
            Self::Lite => "LITE",
            Self::Mixed => "MIXED",
        }
    }
}

/// What clients may do with a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Permission {
    /// Send and receive.
    #[default]
    ReadWrite,
    /// Receive only.
    ReadOnly,
    /// Send only.
    WriteOnly,
}

impl Permission {
    /// The engine's bits: 4 read, 2 write.
    #[must_use]
    pub fn bits(self) -> i32 {
        match self {
            Self::ReadWrite => 6,
            Self::ReadOnly => 4,
            Self::WriteOnly => 2,
        }
    }

    /// What these bits of the engine are here; `None` for others, such as 0.
    #[must_use]
    pub fn of_bits(bits: i32) -> Option<Self> {
        [Self::ReadWrite, Self::ReadOnly, Self::WriteOnly].into_iter().find(|p| p.bits() == bits)
    }
}

/// What becomes of a topic or group in the engine when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays in the engine as it is.
    #[default]
    Retain,
    /// It is deleted, with its messages or offsets.
    Delete,
    /// A topic is deleted once it holds no message, none waits for its time or for the end of a transaction, and no consumer of it is connected; a group
    /// once no consumer is connected. Until then, and while nobody can say, deletion waits and says so.
    DeleteIfEmpty,
}

/// What Gantry reports about a Topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: on every broker group as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Name in the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// Broker groups that hold it as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broker_groups: Vec<String>,
    /// Differences between engine and declaration that may not be removed, or between a replica and its master, one a line; and broker groups that hold
    /// the topic although `brokerGroups` leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Whether the engine once had it as this object declares: from then on what differs is put right. Before, what is there with other settings is not
    /// changed without annotation `gantry.dev/adopt`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}
