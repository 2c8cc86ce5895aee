//! How consumer groups consume on one broker: modes and offsets.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::code::Code;
use crate::command::Command;
use crate::group::RequestMode;
use crate::request::{AnswerError, Request, accepted, body};

/// Says how messages of a topic are shared among the consumers of a group, on one broker. Refused with `TOPIC_NOT_EXIST` or
/// `SUBSCRIPTION_GROUP_NOT_EXIST` where it has not both.
#[derive(Clone, Debug)]
pub struct SetRequestMode {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// How.
    pub mode: RequestMode,
}

impl Request for SetRequestMode {
    type Answer = ();
    const CODE: Code = Code::SetMessageRequestMode;

    fn command(&self) -> Command {
        let body = serde_json::json!({
            // 0: every consumer asks all queues.
            "topic": self.topic, "consumerGroup": self.group, "mode": self.mode, "popShareQueueNum": 0,
        });
        Command::request(Self::CODE).body(serde_json::to_vec(&body).unwrap_or_default())
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Asks a broker for all modes that were set there.
#[derive(Clone, Copy, Debug)]
pub struct GetRequestModes;

impl Request for GetRequestModes {
    /// Modes by consumer group and topic.
    type Answer = BTreeMap<String, BTreeMap<String, RequestMode>>;
    const CODE: Code = Code::GetAllMessageRequestMode;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            message_request_mode_map: BTreeMap<String, BTreeMap<String, Entry>>,
        }
        #[derive(Deserialize)]
        struct Entry {
            mode: RequestMode,
        }
        let by_topic = body::<Body>(Self::CODE, reply)?.message_request_mode_map;
        let mut modes = Self::Answer::new();
        for (topic, groups) in by_topic {
            for (group, entry) in groups {
                modes.entry(group).or_default().insert(topic.clone(), entry.mode);
            }
        }
        Ok(modes)
    }
}

/// Sets a consumer group's offsets of a topic on one master to the first message stored at a time or later; consumers go on from there.
#[derive(Clone, Debug)]
pub struct ResetOffset {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Milliseconds of the epoch; 0 is the beginning.
    pub timestamp: i64,
}

impl Request for ResetOffset {
    type Answer = ();
    const CODE: Code = Code::InvokeBrokerToResetOffset;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
            .with("group", &self.group)
            .with("topic", &self.topic)
            .with("timestamp", self.timestamp)
            .with("isForce", true)
            // All queues.
            .with("queueId", -1)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_kept_by_topic_and_read_by_group() {
        let body = r#"{"messageRequestModeMap":{"orders":{"billing":{"consumerGroup":"billing","mode":"POP","popShareQueueNum":0,"topic":"orders"}}}}"#;
        let reply = Command { code: 0, ..Command::request(Code::GetAllMessageRequestMode) }.body(body);
        let modes = GetRequestModes.answer(&reply).unwrap();
        assert_eq!(modes["billing"]["orders"], RequestMode::Pop);
        let sent =
            SetRequestMode { topic: "orders".into(), group: "billing".into(), mode: RequestMode::Pull }.command();
        let sent: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(
            sent,
            serde_json::json!({"topic": "orders", "consumerGroup": "billing", "mode": "PULL", "popShareQueueNum": 0})
        );
    }
}
