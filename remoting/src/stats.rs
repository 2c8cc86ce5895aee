//! Offsets and clients on one broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::code::{Code, ResponseCode};
use crate::command::Command;
use crate::fastjson;
use crate::request::{AnswerError, Request, accepted, body};

/// A queue of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueue {
    /// The topic.
    pub topic: String,
    /// The broker group that has the queue.
    pub broker_name: String,
    /// Counted from 0 within the group.
    pub queue_id: u32,
}

/// Asks a broker for the offsets of a topic's queues; refused with `TOPIC_NOT_EXIST` when it has no such topic.
#[derive(Clone, Debug)]
pub struct GetTopicStats {
    /// The topic.
    pub topic: String,
}

/// The queues of a topic on one broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicStats {
    /// Queues in order.
    #[serde(deserialize_with = "fastjson::pairs")]
    pub offset_table: Vec<(MessageQueue, TopicOffset)>,
}

/// From where to where a queue reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicOffset {
    /// The first message that is still there.
    pub min_offset: i64,
    /// The next message to come.
    pub max_offset: i64,
    /// When the last message was stored, in milliseconds of the epoch; 0 for never.
    pub last_update_timestamp: i64,
}

impl TopicOffset {
    /// Messages that are still there.
    #[must_use]
    pub fn messages(&self) -> i64 {
        self.max_offset.saturating_sub(self.min_offset).max(0)
    }
}

impl TopicStats {
    /// Messages that are still there, over all queues.
    #[must_use]
    pub fn messages(&self) -> i64 {
        self.offset_table.iter().map(|(_, offset)| offset.messages()).fold(0, i64::saturating_add)
    }
}

impl Request for GetTopicStats {
    type Answer = TopicStats;
    const CODE: Code = Code::GetTopicStatsInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic)
    }

    fn answer(&self, reply: &Command) -> Result<TopicStats, AnswerError> {
        let mut stats: TopicStats = body(Self::CODE, reply)?;
        stats.offset_table.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(stats)
    }
}

/// Asks a master how far a consumer group is. Ask the brokers that have the topic.
#[derive(Clone, Debug)]
pub struct GetConsumeStats {
    /// The group. One that never consumed is answered with no queues.
    pub group: String,
    /// Only this topic.
    pub topic: Option<String>,
}

/// How far a group is on one broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages consumed per second.
    pub consume_tps: f64,
    /// Queues in order, retry topics among them.
    #[serde(deserialize_with = "fastjson::pairs")]
    pub offset_table: Vec<(MessageQueue, ConsumeOffset)>,
}

/// How far a group is in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumeOffset {
    /// The next message to come.
    pub broker_offset: i64,
    /// The next message to be acknowledged.
    pub consumer_offset: i64,
    /// The next message to be delivered; between this and the former are those in flight.
    #[serde(default)]
    pub pull_offset: i64,
    /// When the last consumed message was stored, in milliseconds of the epoch; 0 for none.
    pub last_timestamp: i64,
}

impl ConsumeOffset {
    /// Messages not yet acknowledged.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.broker_offset.saturating_sub(self.consumer_offset).max(0)
    }

    /// How many of them are delivered.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.pull_offset.saturating_sub(self.consumer_offset).clamp(0, self.lag())
    }
}

impl ConsumeStats {
    /// Messages not yet acknowledged, over all queues.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.offset_table.iter().map(|(_, offset)| offset.lag()).fold(0, i64::saturating_add)
    }
}

impl Request for GetConsumeStats {
    type Answer = ConsumeStats;
    const CODE: Code = Code::GetConsumeStats;

    fn command(&self) -> Command {
        let command = Command::request(Self::CODE).with("consumerGroup", &self.group);
        match &self.topic {
            Some(topic) => command.with("topic", topic),
            None => command,
        }
    }

    fn answer(&self, reply: &Command) -> Result<ConsumeStats, AnswerError> {
        let mut stats: ConsumeStats = body(Self::CODE, reply)?;
        stats.offset_table.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(stats)
    }
}

/// Asks a broker up to where every consumer group has read every topic.
#[derive(Clone, Copy, Debug)]
pub struct GetAllConsumerOffsets;

/// Where a consumer group goes on reading, by queue.
pub type QueueOffsets = BTreeMap<u32, i64>;

impl Request for GetAllConsumerOffsets {
    /// By topic and consumer group, the engine's own among them.
    type Answer = BTreeMap<(String, String), QueueOffsets>;
    const CODE: Code = Code::GetAllConsumerOffset;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            offset_table: BTreeMap<String, QueueOffsets>,
        }
        // `topic@group`; neither may hold an @.
        let split = |(key, queues): (String, QueueOffsets)| {
            let (topic, group) = key.split_once('@')?;
            Some(((topic.to_owned(), group.to_owned()), queues))
        };
        Ok(body::<Body>(Self::CODE, reply)?.offset_table.into_iter().filter_map(split).collect())
    }
}

/// Tells a master where a consumer group goes on reading a queue. Refused where it has no such group or topic.
#[derive(Clone, Debug)]
pub struct SetConsumerOffset {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue_id: u32,
    /// The next message to be read.
    pub offset: i64,
}

impl Request for SetConsumerOffset {
    type Answer = ();
    const CODE: Code = Code::UpdateConsumerOffset;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
            .with("consumerGroup", &self.group)
            .with("topic", &self.topic)
            .with("queueId", self.queue_id)
            .with("commitOffset", self.offset)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Asks a broker which consumer groups consume a topic, or once did.
#[derive(Clone, Debug)]
pub struct GetTopicConsumers {
    /// The topic.
    pub topic: String,
}

impl Request for GetTopicConsumers {
    /// Consumer groups in order.
    type Answer = Vec<String>;
    const CODE: Code = Code::QueryTopicConsumeByWho;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic)
    }

    fn answer(&self, reply: &Command) -> Result<Vec<String>, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            group_list: Vec<String>,
        }
        let mut groups = body::<Body>(Self::CODE, reply)?.group_list;
        groups.sort();
        Ok(groups)
    }
}

/// Asks a broker for the clients of a consumer group that are connected to it.
#[derive(Clone, Debug)]
pub struct GetConsumerConnections {
    /// The group.
    pub group: String,
}

/// The clients of a consumer group on one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerConnections {
    /// The clients, ordered by their id; none when the group is not online here.
    pub connection_set: Vec<Connection>,
    /// `CONSUME_ACTIVELY`, `CONSUME_PASSIVELY` or `CONSUME_POP`.
    #[serde(default)]
    pub consume_type: Option<String>,
    /// `CLUSTERING` or `BROADCASTING`.
    #[serde(default)]
    pub message_model: Option<String>,
    /// What they subscribe to, by topic: the last one's word.
    #[serde(default)]
    pub subscription_table: BTreeMap<String, Subscribed>,
}

/// A subscription of a group's consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscribed {
    /// `*`, tags joined by `||`, or a condition.
    #[serde(default)]
    pub sub_string: Option<String>,
    /// `TAG` or `SQL92`; none is `TAG`.
    #[serde(default)]
    pub expression_type: Option<String>,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Its name for itself.
    pub client_id: String,
    /// Its end of the connection; behind a proxy, the proxy's.
    #[serde(default)]
    pub client_addr: Option<String>,
    /// Its language.
    #[serde(default)]
    pub language: Option<String>,
    /// Its version, an ordinal of the engine's MQVersion.
    #[serde(default)]
    pub version: i32,
}

impl Request for GetConsumerConnections {
    type Answer = ConsumerConnections;
    const CODE: Code = Code::GetConsumerConnectionList;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("consumerGroup", &self.group)
    }

    fn answer(&self, reply: &Command) -> Result<ConsumerConnections, AnswerError> {
        // A group without clients is not an error of the engine's, although it answers like one.
        if reply.response_code() == ResponseCode::ConsumerNotOnline {
            return Ok(ConsumerConnections::default());
        }
        let mut connections: ConsumerConnections = body(Self::CODE, reply)?;
        connections.connection_set.sort_by(|one, other| one.client_id.cmp(&other.client_id));
        Ok(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_all_groups_are_read_with_keys_that_are_no_json() {
        let text = r#"{"dataVersion":{"counter":3},"offsetTable":{"orders@billing":{0:12,1:7},"%RETRY%billing@billing":{0:0}}}"#;
        let reply = Command { code: 0, ..Command::request(Code::GetAllConsumerOffset) }.body(text);
        let offsets = GetAllConsumerOffsets.answer(&reply).unwrap();
        assert_eq!(offsets[&("orders".to_owned(), "billing".to_owned())], BTreeMap::from([(0, 12), (1, 7)]));
        assert_eq!(offsets.len(), 2);
    }
}
