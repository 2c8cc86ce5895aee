//! What a broker says of itself, and its configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::command::Command;
use crate::properties;
use crate::request::{AnswerError, Request, accepted, body};

/// Asks a broker for its counters and state.
#[derive(Clone, Copy, Debug)]
pub struct GetRuntimeInfo;

/// A broker's counters and state, all of them text; the accessors read those that Gantry uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// Everything that the broker said.
    pub table: BTreeMap<String, String>,
}

impl RuntimeInfo {
    /// True when the broker does a master's work.
    #[must_use]
    pub fn is_active(&self) -> Option<bool> {
        self.number("brokerActive")
    }

    /// Bytes that are stored but not yet in the consume queues; they can't be consumed.
    #[must_use]
    pub fn dispatch_behind_bytes(&self) -> Option<i64> {
        self.number("dispatchBehindBytes")
    }

    /// How full the commit log's volume is, from 0 to 1.
    #[must_use]
    pub fn commit_log_disk_ratio(&self) -> Option<f64> {
        self.number("commitLogDiskRatio")
    }

    /// Delayed messages that are not yet due: in the timer wheel, on their way into it, and on the fixed levels. A message that a consumer holds and has
    /// not acknowledged is one of them. None where the broker does not say.
    #[must_use]
    pub fn delayed_messages(&self) -> Option<i64> {
        Some(self.number::<i64>("timerCongestNum")?.saturating_add(self.delayed_elsewhere()?))
    }

    /// Those among the [delayed messages](Self::delayed_messages) that [`crate::consumption::GetTimerMetrics`] does not count by topic: on their way into
    /// the timer wheel, and on the fixed levels. None where the broker does not say.
    #[must_use]
    pub fn delayed_elsewhere(&self) -> Option<i64> {
        let on_the_way: i64 = self.number("timerOffsetBehind")?;
        // `delivered,end` of each level.
        let levels = self.table.iter().filter(|(key, _)| key.starts_with("scheduleMessageOffset_"));
        let mut left = levels.map(|(_, value)| {
            let (delivered, end) = value.split_once(',')?;
            Some(end.parse::<i64>().ok()?.saturating_sub(delivered.parse().ok()?))
        });
        left.try_fold(on_the_way.max(0), |sum, level| Some(sum.saturating_add(level?)))
    }

    /// By how many seconds the timer wheel is late.
    #[must_use]
    pub fn timer_behind_seconds(&self) -> Option<i64> {
        self.number("timerReadBehind")
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.table.get(name).and_then(|text| text.parse().ok())
    }
}

impl Request for GetRuntimeInfo {
    type Answer = RuntimeInfo;
    const CODE: Code = Code::GetBrokerRuntimeInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<RuntimeInfo, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Asks a broker how it replicates.
#[derive(Clone, Copy, Debug)]
pub struct GetHaStatus;

/// Replication as one broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HaStatus {
    /// True on a master.
    pub master: bool,
    /// The end of the commit log in bytes, on a master; 0 on others.
    pub master_commit_log_max_offset: i64,
    /// Replicas beside the master that are in the sync state set, on a master.
    pub in_sync_slave_nums: u32,
    /// The replicas connected to a master.
    #[serde(default)]
    pub ha_connection_info: Vec<HaConnection>,
    /// A replica's connection to its master.
    pub ha_client_runtime_info: HaClient,
}

/// A replica connected to a master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HaConnection {
    /// The replica's end of the connection: its IP and a passing port.
    pub addr: String,
    /// Up to where the replica has the log, in bytes.
    pub slave_ack_offset: i64,
    /// Bytes that the replica lacks.
    pub diff: i64,
    /// True when the replica is in the sync state set.
    pub in_sync: bool,
    /// Where the transfer began; -1 when it has not.
    pub transfer_from_where: i64,
}

/// A replica's connection to its master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HaClient {
    /// The master's replication address; absent on a master.
    #[serde(default)]
    pub master_addr: Option<String>,
    /// Up to where this replica has the log, in bytes.
    pub max_offset: i64,
    /// When it last read from its master, in milliseconds of the epoch; 0 for never.
    pub last_read_timestamp: i64,
}

impl Request for GetHaStatus {
    type Answer = HaStatus;
    const CODE: Code = Code::GetBrokerHaStatus;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<HaStatus, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Tells a replica where its master's log is to be had. By itself it learns this from a name server with its next registration, up to 10 s later.
#[derive(Clone, Debug)]
pub struct FollowMaster {
    /// The master's `host:port` for clients.
    pub master: String,
    /// The master's `host:port` for replicas.
    pub log: String,
}

impl Request for FollowMaster {
    type Answer = ();
    const CODE: Code = Code::ExchangeBrokerHaInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("masterAddress", &self.master).with("masterHaAddress", &self.log)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Asks a broker for the epochs in its log.
#[derive(Clone, Copy, Debug)]
pub struct GetEpochCache;

/// The epochs in one broker's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochCache {
    /// The engine's cluster name.
    pub cluster_name: String,
    /// The group.
    pub broker_name: String,
    /// 0 on a master, else the controller id.
    pub broker_id: u64,
    /// Oldest first.
    pub epoch_list: Vec<EpochEntry>,
    /// The end of the log, in bytes.
    pub max_offset: i64,
}

/// Part of a log that one master wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochEntry {
    /// The master's epoch.
    pub epoch: u32,
    /// Where it begins, in bytes.
    pub start_offset: i64,
    /// Where it ends; the largest number while it goes on.
    pub end_offset: i64,
}

impl Request for GetEpochCache {
    type Answer = EpochCache;
    const CODE: Code = Code::GetBrokerEpochCache;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<EpochCache, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Reads a broker's configuration.
#[derive(Clone, Copy, Debug)]
pub struct GetBrokerConfig;

impl Request for GetBrokerConfig {
    type Answer = BTreeMap<String, String>;
    const CODE: Code = Code::GetBrokerConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        Ok(properties::parse(&String::from_utf8_lossy(&accepted(reply)?.body)))
    }
}

/// Sets configuration keys of a running broker. Success means set, not effective: many keys are read at start only, and keys that
/// the broker does not know are dropped without a word.
#[derive(Clone, Debug)]
pub struct UpdateBrokerConfig {
    /// Keys and their new values.
    pub properties: BTreeMap<String, String>,
}

impl Request for UpdateBrokerConfig {
    type Answer = ();
    const CODE: Code = Code::UpdateBrokerConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE).body(properties::format(&self.properties))
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delayed_messages_are_those_of_the_wheel_and_of_the_levels() {
        let info = |keys: &[(&str, &str)]| {
            let table = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let info = RuntimeInfo { table };
            (info.delayed_messages(), info.delayed_elsewhere())
        };
        let wheel = [("timerCongestNum", "3"), ("timerOffsetBehind", "1")];
        assert_eq!(info(&wheel), (Some(4), Some(1)));
        assert_eq!(info(&[wheel[0], wheel[1], ("scheduleMessageOffset_3", "5,7")]), (Some(6), Some(3)));
        assert_eq!(info(&[wheel[0], wheel[1], ("scheduleMessageOffset_3", "none")]), (None, None));
        assert_eq!(info(&wheel[..1]), (None, None));
    }
}
