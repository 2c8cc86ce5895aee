//! Where a topic's queues are.

use serde::{Deserialize, Serialize};

use crate::cluster::BrokerData;
use crate::code::Code;
use crate::command::Command;
use crate::request::{AnswerError, Request, body};

/// Asks a name server for a topic's routes; refused with `TOPIC_NOT_EXIST` when no broker has registered the topic.
#[derive(Clone, Debug)]
pub struct GetRoute {
    /// The topic. The cluster's name is a topic that every broker has, `TBW102` one that every broker with topic creation has.
    pub topic: String,
}

/// A topic's queues and the brokers that have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The topic's queues, by broker group.
    #[serde(rename = "queueDatas", default)]
    pub queues: Vec<QueueData>,
    /// The broker groups.
    #[serde(rename = "brokerDatas", default)]
    pub brokers: Vec<BrokerData>,
}

/// A topic's queues on one broker group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueData {
    /// The group.
    pub broker_name: String,
    /// Queues that are read.
    pub read_queue_nums: u32,
    /// Queues that are written.
    pub write_queue_nums: u32,
    /// Permission bits: 4 read, 2 write, 1 inherit.
    pub perm: u32,
}

impl Route {
    /// True when some broker group has a master whose queues of this topic may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.queues.iter().filter(|queue| queue.perm & crate::topic::WRITE != 0 && queue.write_queue_nums > 0).any(
            |queue| {
                let mut brokers = self.brokers.iter().filter(|broker| broker.broker_name == queue.broker_name);
                brokers.any(|broker| broker.broker_addrs.contains_key(&crate::cluster::MASTER_ID))
            },
        )
    }
}

impl Request for GetRoute {
    type Answer = Route;
    const CODE: Code = Code::GetRouteinfoByTopic;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic).with("acceptStandardJsonOnly", true)
    }

    fn answer(&self, reply: &Command) -> Result<Route, AnswerError> {
        body(Self::CODE, reply)
    }
}
