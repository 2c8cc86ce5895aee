//! Consumer groups of one broker; the engine calls them subscription groups.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::command::Command;
use crate::request::{AnswerError, Request, accepted, body};
use crate::topic::{TopicChange, TopicConfig};

/// A consumer group as a broker holds it. The defaults are the engine's (SubscriptionGroupConfig.java).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupConfig {
    /// Its name.
    pub group_name: String,
    /// May it consume at all?
    #[serde(default = "yes")]
    pub consume_enable: bool,
    /// May it begin at a queue's beginning?
    #[serde(default = "yes")]
    pub consume_from_min_enable: bool,
    /// May each of its consumers receive every message?
    #[serde(default = "yes")]
    pub consume_broadcast_enable: bool,
    /// Are messages of one group (FIFO) or queue delivered one after the other?
    #[serde(default)]
    pub consume_message_orderly: bool,
    /// Queues of its retry topic.
    #[serde(default = "one")]
    pub retry_queue_nums: u32,
    /// Deliveries after the first before a message goes to the dead-letter topic.
    #[serde(default = "sixteen")]
    pub retry_max_times: i32,
    /// How long to wait before a message is delivered again.
    #[serde(default)]
    pub group_retry_policy: RetryPolicy,
    /// Minutes that a message may be in consumption.
    #[serde(default = "fifteen")]
    pub consume_timeout_minute: u32,
    /// The broker that serves it: 0, the master.
    #[serde(default)]
    pub broker_id: u64,
    /// The replica that serves a consumer which is behind: 1.
    #[serde(default = "one_id")]
    pub which_broker_when_consume_slowly: u64,
    /// Are consumers told when others come and go?
    #[serde(default = "yes")]
    pub notify_consumer_ids_changed_enable: bool,
    /// Bits of the engine.
    #[serde(default)]
    pub group_sys_flag: i32,
    /// What its clients should subscribe to, when the group was told; an update without it would make the broker forget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<BTreeSet<SimpleSubscription>>,
    /// `priority.factor`, `lite.bind.topic` and the like.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// How messages of a topic are shared among its consumers. The engine keeps this apart: see [`crate::consume`].
    #[serde(skip)]
    pub request_modes: BTreeMap<String, RequestMode>,
    /// Its dead-letter topic on the same broker, where there is one. To the engine it is a topic like others: see [`dead_letter_topic`].
    #[serde(skip)]
    pub dead_letter_topic: Option<TopicConfig>,
}

/// Name of the topic of what a group gave up (MixAll.getDLQTopic).
#[must_use]
pub fn dead_letter_topic(group: &str) -> String {
    format!("%DLQ%{group}")
}

/// How messages of a topic are shared among the consumers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RequestMode {
    /// Each queue belongs to one consumer.
    Pull,
    /// Any consumer may have any message.
    Pop,
}

/// A subscription that a group's clients should have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SimpleSubscription {
    /// The topic.
    pub topic: String,
    /// `TAG` or `SQL92`.
    #[serde(default)]
    pub expression_type: Option<String>,
    /// The filter.
    #[serde(default)]
    pub expression: Option<String>,
    /// A number of the client's.
    #[serde(default)]
    pub version: i64,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn one_id() -> u64 {
    1
}

fn sixteen() -> i32 {
    16
}

fn fifteen() -> u32 {
    15
}

/// How long to wait before a message is delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Which of the two counts.
    #[serde(rename = "type")]
    pub kind: RetryPolicyKind,
    /// Waits that grow by a factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetry>,
    /// Waits that are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetry>,
}

/// Which policy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RetryPolicyKind {
    /// Waits that grow by a factor.
    Exponential,
    /// Waits that are listed.
    #[default]
    Customized,
}

/// Waits that grow by a factor, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExponentialRetry {
    /// The first wait.
    pub initial: i64,
    /// The longest wait.
    pub max: i64,
    /// The factor.
    pub multiplier: i64,
}

/// Waits that are listed, in milliseconds; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomizedRetry {
    /// The waits.
    pub next: Vec<i64>,
}

impl GroupConfig {
    /// A group as the engine makes it when nothing else is said.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        GroupConfig {
            group_name: name.into(),
            consume_enable: true,
            consume_from_min_enable: true,
            consume_broadcast_enable: true,
            consume_message_orderly: false,
            retry_queue_nums: 1,
            retry_max_times: 16,
            group_retry_policy: RetryPolicy::default(),
            consume_timeout_minute: 15,
            broker_id: 0,
            which_broker_when_consume_slowly: 1,
            notify_consumer_ids_changed_enable: true,
            group_sys_flag: 0,
            subscription_data_set: None,
            attributes: BTreeMap::new(),
            request_modes: BTreeMap::new(),
            dead_letter_topic: None,
        }
    }
}

/// How to make of what a broker holds what it should hold; attributes are told as differences, as with topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupChange {
    /// The group as it should be; its attributes are not sent.
    pub config: GroupConfig,
    /// Attributes to set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Attributes to delete.
    #[serde(default)]
    pub unset: BTreeSet<String>,
    /// Modes to set, by topic. There is no way to unset one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<String, RequestMode>,
    /// How to make its dead-letter topic. There is no way to delete it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<TopicChange>,
}

impl GroupChange {
    /// The creation of a group.
    #[must_use]
    pub fn create(desired: GroupConfig) -> Self {
        let (set, modes) = (desired.attributes.clone(), desired.request_modes.clone());
        let dead_letter_topic = desired.dead_letter_topic.clone().map(TopicChange::create);
        GroupChange { config: desired, set, unset: BTreeSet::new(), modes, dead_letter_topic }
    }

    /// What turns `current` into `desired`; none when they are equal.
    #[must_use]
    pub fn between(current: Option<&GroupConfig>, desired: &GroupConfig) -> Option<Self> {
        let Some(current) = current else { return Some(Self::create(desired.clone())) };
        if current == desired {
            return None;
        }
        let new = |(key, value): &(&String, &String)| current.attributes.get(*key) != Some(value);
        let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
        let set = desired.attributes.iter().filter(new).map(owned).collect();
        let unset = current.attributes.keys().filter(|key| !desired.attributes.contains_key(*key)).cloned().collect();
        let another = |(topic, mode): &(&String, &RequestMode)| current.request_modes.get(*topic) != Some(mode);
        let modes = desired.request_modes.iter().filter(another).map(|(topic, mode)| (topic.clone(), *mode)).collect();
        let held = current.dead_letter_topic.as_ref();
        let dead_letter_topic =
            desired.dead_letter_topic.as_ref().and_then(|wanted| TopicChange::between(held, wanted));
        Some(GroupChange { config: desired.clone(), set, unset, modes, dead_letter_topic })
    }

    /// Writes a group once more as it is: its broker's version rises, so that replicas copy all groups anew.
    #[must_use]
    pub fn refresh(current: &GroupConfig) -> Self {
        GroupChange {
            config: current.clone(),
            set: BTreeMap::new(),
            unset: BTreeSet::new(),
            modes: BTreeMap::new(),
            dead_letter_topic: current.dead_letter_topic.as_ref().map(TopicChange::refresh),
        }
    }

    fn as_sent(&self) -> GroupConfig {
        let set = self.set.iter().map(|(key, value)| (format!("+{key}"), value.clone()));
        let attributes = set.chain(self.unset.iter().map(|key| (format!("-{key}"), String::new()))).collect();
        GroupConfig { attributes, ..self.config.clone() }
    }
}

/// Creates or updates one consumer group on one broker.
#[derive(Clone, Debug)]
pub struct UpsertGroup(pub GroupChange);

impl Request for UpsertGroup {
    type Answer = ();
    const CODE: Code = Code::UpdateAndCreateSubscriptiongroup;

    fn command(&self) -> Command {
        // Strings and numbers only: there is nothing in it that JSON can't hold.
        Command::request(Self::CODE).body(serde_json::to_vec(&self.0.as_sent()).unwrap_or_default())
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Creates or updates many consumer groups on one broker; the answer does not say which one was refused.
#[derive(Clone, Debug)]
pub struct UpsertGroups(pub Vec<GroupChange>);

impl Request for UpsertGroups {
    type Answer = ();
    const CODE: Code = Code::UpdateAndCreateSubscriptiongroupList;

    fn command(&self) -> Command {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List {
            group_config_list: Vec<GroupConfig>,
        }
        let list = List { group_config_list: self.0.iter().map(GroupChange::as_sent).collect() };
        // Strings and numbers only: there is nothing in it that JSON can't hold.
        Command::request(Self::CODE).body(serde_json::to_vec(&list).unwrap_or_default())
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Asks a broker for all its consumer groups, the engine's own among them.
#[derive(Clone, Copy, Debug)]
pub struct GetAllGroups;

impl Request for GetAllGroups {
    /// Groups by name.
    type Answer = BTreeMap<String, GroupConfig>;
    const CODE: Code = Code::GetAllSubscriptiongroupConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            subscription_group_table: BTreeMap<String, GroupConfig>,
        }
        body::<Body>(Self::CODE, reply).map(|body| body.subscription_group_table)
    }
}

/// Asks a broker for one consumer group.
#[derive(Clone, Debug)]
pub struct GetGroup {
    /// Its name.
    pub group: String,
}

impl Request for GetGroup {
    type Answer = GroupConfig;
    const CODE: Code = Code::GetSubscriptiongroupConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("group", &self.group)
    }

    fn answer(&self, reply: &Command) -> Result<GroupConfig, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Deletes a consumer group on one broker; succeeds also when there is none.
#[derive(Clone, Debug)]
pub struct DeleteGroup {
    /// Its name.
    pub group: String,
    /// Also forget how far it was.
    pub clean_offset: bool,
}

impl Request for DeleteGroup {
    type Answer = ();
    const CODE: Code = Code::DeleteSubscriptiongroup;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("groupName", &self.group).with("cleanOffset", self.clean_offset)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}
