//! How far all consumer groups are on one broker, in two calls whatever their number.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::code::Code;
use crate::command::Command;
use crate::fastjson;
use crate::request::{AnswerError, Request, body};
use crate::stats::{ConsumeOffset, MessageQueue};

/// One consumer group on one broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupConsumption {
    /// Messages consumed per second, over all topics.
    pub tps: f64,
    /// Messages not yet acknowledged by topic, retry topics among them.
    pub lag: BTreeMap<String, i64>,
}

/// Asks a master how far all its consumer groups are. Messages in flight are not told apart: [`crate::stats::GetConsumeStats`] does.
#[derive(Clone, Copy, Debug)]
pub struct GetBrokerConsumeStats;

impl Request for GetBrokerConsumeStats {
    /// Consumer groups that ever consumed something there, by name.
    type Answer = BTreeMap<String, GroupConsumption>;
    const CODE: Code = Code::GetBrokerConsumeStats;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("isOrder", false)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            consume_stats_list: Vec<BTreeMap<String, Vec<Stats>>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stats {
            #[serde(default)]
            consume_tps: Option<f64>,
            #[serde(deserialize_with = "fastjson::pairs")]
            offset_table: Vec<(MessageQueue, ConsumeOffset)>,
        }
        let mut groups = Self::Answer::new();
        for (name, topics) in body::<Body>(Self::CODE, reply)?.consume_stats_list.into_iter().flatten() {
            if topics.is_empty() {
                continue;
            }
            let group = groups.entry(name).or_default();
            for stats in topics {
                group.tps += stats.consume_tps.unwrap_or_default();
                for (queue, offset) in stats.offset_table {
                    let lag = group.lag.entry(queue.topic).or_default();
                    *lag = lag.saturating_add(offset.lag());
                }
            }
        }
        Ok(groups)
    }
}

/// Asks a broker how many messages wait for their time, delayed ones and those to be tried again.
#[derive(Clone, Copy, Debug)]
pub struct GetTimerMetrics;

impl Request for GetTimerMetrics {
    /// Messages by topic.
    type Answer = BTreeMap<String, i64>;
    const CODE: Code = Code::GetTimerMetrics;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            timing_count: BTreeMap<String, Count>,
        }
        #[derive(Deserialize)]
        struct Count {
            #[serde(default)]
            count: i64,
        }
        let counts = body::<Body>(Self::CODE, reply)?.timing_count;
        Ok(counts.into_iter().filter(|(_, c)| c.count > 0).map(|(topic, c)| (topic, c.count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: Code, body: &'static str) -> Command {
        Command { code: 0, ..Command::request(code) }.body(body)
    }

    #[test]
    fn queues_of_a_topic_are_one_figure_and_a_group_that_never_consumed_is_left_out() {
        let body = r#"{"brokerAddr":"b:1","consumeStatsList":[{"idle":[]},{"billing":[{"consumeTps":1.5,"offsetTable":{
            {"brokerName":"b","queueId":0,"topic":"orders"}:{"brokerOffset":9,"consumerOffset":4,"lastTimestamp":1,"pullOffset":0},
            {"brokerName":"b","queueId":1,"topic":"orders"}:{"brokerOffset":2,"consumerOffset":3,"lastTimestamp":1,"pullOffset":0}}},
            {"consumeTps":0.5,"offsetTable":{}}]}],"totalDiff":4,"totalInflightDiff":0}"#;
        let groups = GetBrokerConsumeStats.answer(&reply(Code::GetBrokerConsumeStats, body)).unwrap();
        assert_eq!(groups.keys().collect::<Vec<_>>(), ["billing"]);
        assert_eq!(groups["billing"], GroupConsumption { tps: 2.0, lag: BTreeMap::from([("orders".into(), 5)]) });
    }

    #[test]
    fn waiting_messages_are_counted_by_topic() {
        let body = r#"{"dataVersion":{"counter":3},"timingCount":{"later":{"count":7,"timeStamp":1},"none":{"count":0,"timeStamp":1}}}"#;
        let counts = GetTimerMetrics.answer(&reply(Code::GetTimerMetrics, body)).unwrap();
        assert_eq!(counts, BTreeMap::from([("later".to_owned(), 7)]));
    }
}
