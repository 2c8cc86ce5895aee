//! Topics of one broker.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::code::Code;
use crate::command::Command;
use crate::request::{AnswerError, Request, accepted, body};

/// The permission bit for reading.
pub const READ: u32 = 4;
/// The permission bit for writing.
pub const WRITE: u32 = 2;

/// The attribute that says what kind of messages a topic takes; it may change over a topic's life, in the engine's eyes.
pub const MESSAGE_TYPE: &str = "message.type";

/// A topic as a broker holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicConfig {
    /// Its name.
    pub topic_name: String,
    /// Queues that are read, on this broker.
    pub read_queue_nums: u32,
    /// Queues that are written, on this broker.
    pub write_queue_nums: u32,
    /// Permission bits: [`READ`], [`WRITE`].
    pub perm: u32,
    /// Bits of the engine; 0 for ordinary topics.
    #[serde(default)]
    pub topic_sys_flag: i32,
    /// True when queues must not move while a broker is away.
    #[serde(default)]
    pub order: bool,
    /// `message.type`, `cleanup.policy` and the like.
    #[serde(default)]
    pub attributes: Attributes,
}

impl TopicConfig {
    /// A topic that may be read and written, without attributes.
    #[must_use]
    pub fn new(name: impl Into<String>, queues: u32) -> Self {
        TopicConfig {
            topic_name: name.into(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: READ | WRITE,
            topic_sys_flag: 0,
            order: false,
            attributes: Attributes::default(),
        }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }
}

/// How to make of what a broker holds what it should hold. Attributes are told as differences, because the engine refuses an
/// unchangeable attribute (`cleanup.policy`, `queue.type`) that is merely repeated, and an attribute to delete that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicChange {
    /// The topic as it should be; its attributes are not sent.
    pub config: TopicConfig,
    /// Attributes to set.
    pub set: BTreeMap<String, String>,
    /// Attributes to delete.
    #[serde(default)]
    pub unset: BTreeSet<String>,
}

impl TopicChange {
    /// The creation of a topic.
    #[must_use]
    pub fn create(desired: TopicConfig) -> Self {
        let set = desired.attributes.to_map();
        TopicChange { config: desired, set, unset: BTreeSet::new() }
    }

    /// What turns `current` into `desired`; none when they are equal.
    #[must_use]
    pub fn between(current: Option<&TopicConfig>, desired: &TopicConfig) -> Option<Self> {
        let Some(current) = current else { return Some(Self::create(desired.clone())) };
        if current == desired {
            return None;
        }
        let new = |(key, value): &(&str, &str)| current.attributes.get(key) != Some(value);
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut set: BTreeMap<_, _> = desired.attributes.iter().filter(new).map(owned).collect();
        // See `is_sure_in_a_list`.
        if let Some(kind) = desired.attributes.get(MESSAGE_TYPE) {
            set.insert(MESSAGE_TYPE.to_owned(), kind.to_owned());
        }
        let gone = |key: &&str| !desired.attributes.contains_key(key);
        let unset = current.attributes.iter().map(|(key, _)| key).filter(gone).map(str::to_owned).collect();
        Some(TopicChange { config: desired.clone(), set, unset })
    }

    /// Writes a topic once more as it is: its broker's version rises, so that replicas copy all topics anew.
    #[must_use]
    pub fn refresh(current: &TopicConfig) -> Self {
        let kind = current.attributes.get(MESSAGE_TYPE).map(|kind| (MESSAGE_TYPE.to_owned(), kind.to_owned()));
        TopicChange { config: current.clone(), set: kind.into_iter().collect(), unset: BTreeSet::new() }
    }

    /// False for a change without any attribute. The engine (5.5.0, updateAndCreateTopicList) compares every topic of a list with what
    /// it has, finds one equal, answers success **for the whole list and applies none of it**. What it compares are attributes as
    /// they were sent, `+message.type`, with attributes as they are kept, `message.type`: a change with attributes is never equal.
    /// A change without any can be, when somebody else just made it; it goes alone, by [`UpsertTopic`].
    #[must_use]
    pub fn is_sure_in_a_list(&self) -> bool {
        !self.set.is_empty() || !self.unset.is_empty()
    }

    fn attributes(&self) -> Attributes {
        let set = self.set.iter().map(|(key, value)| (format!("+{key}"), value.clone()));
        set.chain(self.unset.iter().map(|key| (format!("-{key}"), String::new()))).collect()
    }
}

/// Creates or updates one topic on one broker. A replica takes it too, and loses it when it next copies its master's topics.
#[derive(Clone, Debug)]
pub struct UpsertTopic(pub TopicChange);

impl Request for UpsertTopic {
    type Answer = ();
    const CODE: Code = Code::UpdateAndCreateTopic;

    fn command(&self) -> Command {
        let config = &self.0.config;
        // AttributeParser.java: `+key=value,-key`.
        let attributes = self.0.attributes();
        let attributes = attributes
            .iter()
            .map(|(key, value)| if key.starts_with('+') { format!("{key}={value}") } else { key.to_owned() });
        Command::request(Self::CODE)
            .with("topic", &config.topic_name)
            .with("defaultTopic", "TBW102")
            .with("readQueueNums", config.read_queue_nums)
            .with("writeQueueNums", config.write_queue_nums)
            .with("perm", config.perm)
            .with("topicFilterType", "SINGLE_TAG")
            .with("topicSysFlag", config.topic_sys_flag)
            .with("order", config.order)
            .with("attributes", attributes.collect::<Vec<_>>().join(","))
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Creates or updates many topics on one broker. One topic that the engine refuses makes it refuse all (a name), or leaves those
/// before it done and those after it not (an attribute); the answer does not say which one it was.
#[derive(Clone, Debug)]
pub struct UpsertTopics(pub Vec<TopicChange>);

impl Request for UpsertTopics {
    type Answer = ();
    const CODE: Code = Code::UpdateAndCreateTopicList;

    fn command(&self) -> Command {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List {
            topic_config_list: Vec<TopicConfig>,
        }
        let as_sent = |change: &TopicChange| TopicConfig { attributes: change.attributes(), ..change.config.clone() };
        let list = List { topic_config_list: self.0.iter().map(as_sent).collect() };
        // Strings and numbers only: there is nothing in it that JSON can't hold.
        Command::request(Self::CODE).body(serde_json::to_vec(&list).unwrap_or_default())
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Asks a broker for all its topics, the engine's own among them.
#[derive(Clone, Copy, Debug)]
pub struct GetAllTopics;

impl Request for GetAllTopics {
    /// Topics by name.
    type Answer = BTreeMap<String, TopicConfig>;
    const CODE: Code = Code::GetAllTopicConfig;

    fn command(&self) -> Command {
        // Without a sequence number the broker sends all topics at once, whatever enableSplitMetadata says.
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            topic_config_table: BTreeMap<String, TopicConfig>,
        }
        body::<Body>(Self::CODE, reply).map(|body| body.topic_config_table)
    }
}

/// Asks a broker for one topic; refused with `TOPIC_NOT_EXIST` when it has none of that name.
#[derive(Clone, Debug)]
pub struct GetTopic {
    /// Its name.
    pub topic: String,
}

impl Request for GetTopic {
    type Answer = TopicConfig;
    const CODE: Code = Code::GetTopicConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic)
    }

    fn answer(&self, reply: &Command) -> Result<TopicConfig, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Deletes a topic with its messages on one broker; succeeds also when there is none.
#[derive(Clone, Debug)]
pub struct DeleteTopic {
    /// Its name.
    pub topic: String,
}

impl Request for DeleteTopic {
    type Answer = ();
    const CODE: Code = Code::DeleteTopicInBroker;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo(queues: u32) -> TopicConfig {
        TopicConfig::new("orders", queues)
            .with_attribute(MESSAGE_TYPE, "FIFO")
            .with_attribute("cleanup.policy", "COMPACTION")
    }

    #[test]
    fn equal_topics_need_no_change() {
        assert_eq!(TopicChange::between(Some(&fifo(8)), &fifo(8)), None);
    }

    #[test]
    fn a_new_topic_is_sent_with_all_its_attributes() {
        let command = UpsertTopic(TopicChange::between(None, &fifo(8)).unwrap()).command();
        assert_eq!(command.ext["attributes"], "+cleanup.policy=COMPACTION,+message.type=FIFO");
        assert_eq!((command.ext["readQueueNums"].as_str(), command.ext["order"].as_str()), ("8", "false"));
    }

    #[test]
    fn an_update_repeats_no_unchangeable_attribute_and_always_its_type() {
        let change = TopicChange::between(Some(&fifo(8)), &fifo(16)).unwrap();
        assert_eq!(UpsertTopic(change.clone()).command().ext["attributes"], "+message.type=FIFO");
        assert!(change.is_sure_in_a_list());
        let plain = TopicChange::between(Some(&TopicConfig::new("t", 1)), &TopicConfig::new("t", 2)).unwrap();
        assert!(!plain.is_sure_in_a_list());
    }

    #[test]
    fn an_attribute_that_should_not_be_there_is_deleted() {
        let current = fifo(8).with_attribute("reserve.time", "1000");
        let change = TopicChange::between(Some(&current), &fifo(8)).unwrap();
        assert_eq!(UpsertTopic(change.clone()).command().ext["attributes"], "+message.type=FIFO,-reserve.time");
        let body: serde_json::Value = serde_json::from_slice(&UpsertTopics(vec![change]).command().body).unwrap();
        assert_eq!(
            body["topicConfigList"][0],
            serde_json::json!({"topicName": "orders", "readQueueNums": 8, "writeQueueNums": 8, "perm": 6, "topicSysFlag": 0,
                "order": false, "attributes": {"+message.type": "FIFO", "-reserve.time": ""}})
        );
    }
}
