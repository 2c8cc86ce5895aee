//! What the engine says of itself.

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::broker::EpochEntry;
use gantry_remoting::consumption::GroupConsumption;
use gantry_remoting::group::{GroupConfig, dead_letter_topic};
use gantry_remoting::topic::TopicConfig;
use serde::{Deserialize, Serialize};

use super::EngineError;

/// Something that was asked: the answer, or why there is none. Unknown is not empty, and not false.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact<T> {
    /// Why there is no answer.
    Unknown {
        /// The reason.
        unknown: EngineError,
    },
    /// The answer.
    Known(T),
}

impl<T> Fact<T> {
    /// The answer, if there is one.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Unknown { .. } => None,
        }
    }

    /// Why there is no answer, if there is none.
    #[must_use]
    pub fn unknown(&self) -> Option<&EngineError> {
        match self {
            Fact::Known(_) => None,
            Fact::Unknown { unknown } => Some(unknown),
        }
    }

    /// The same made of the answer.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Fact::Known(value) => Fact::Known(f(value)),
            Fact::Unknown { unknown } => Fact::Unknown { unknown },
        }
    }
}

impl<T> From<Result<T, EngineError>> for Fact<T> {
    fn from(result: Result<T, EngineError>) -> Self {
        match result {
            Ok(value) => Fact::Known(value),
            Err(unknown) => Fact::Unknown { unknown },
        }
    }
}

/// Everything that one observation learnt. Maps are keyed by the address that was asked, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineFacts {
    /// By name server: the brokers that it knows.
    pub name_servers: BTreeMap<String, Fact<Vec<Registered>>>,
    /// By controller: the leader that it sees.
    pub controllers: BTreeMap<String, Fact<ControllerFacts>>,
    /// By broker group: what the leading controller knows of it; nothing when it never heard of the group.
    pub groups: BTreeMap<String, Fact<Option<GroupFacts>>>,
    /// By broker: what it says of itself.
    pub brokers: BTreeMap<String, BrokerFacts>,
}

/// One broker in a name server's list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Its group.
    pub group: String,
    /// 0 for a master, else its controller id.
    pub id: u64,
    /// The address that it registered.
    pub address: String,
}

/// What one controller says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerFacts {
    /// True when it leads.
    pub is_leader: bool,
    /// Who leads, as it sees it; nobody during an election.
    pub leader: Option<ControllerLeader>,
    /// All controllers by their id, as it was told when it started.
    pub peers: BTreeMap<String, String>,
}

/// The controllers' leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerLeader {
    /// Its id, such as `n0`.
    pub id: String,
    /// Its address.
    pub address: String,
}

/// One broker group as the controllers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupFacts {
    /// The master's controller id; none while there is no master.
    pub master_id: Option<u64>,
    /// The master's address.
    pub master_address: Option<String>,
    /// Rises with every election.
    pub master_epoch: u32,
    /// Rises with every change of the sync state set.
    pub sync_state_set_epoch: u32,
    /// Who is in sync, ordered by id.
    pub in_sync: Vec<ReplicaFacts>,
    /// All others that ever registered and were not cleaned, ordered by id; also those that are gone for good.
    pub not_in_sync: Vec<ReplicaFacts>,
}

/// One replica as the controllers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaFacts {
    /// Its controller id, from 1 on. A broker that lost its disk comes back under a new one.
    pub id: u64,
    /// The address under which it registered last.
    pub address: String,
    /// True when the leader had a heartbeat of it lately.
    pub alive: bool,
}

/// What one broker says of itself, each for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerFacts {
    /// How full its volume is, from 0 to 1, where it says so; asked anew after half a minute.
    pub disk_ratio: Fact<Option<f64>>,
    /// How it replicates.
    pub replication: Fact<Replication>,
    /// The epochs in its log, oldest first.
    pub epochs: Fact<Vec<EpochEntry>>,
    /// The configuration with which it runs.
    pub config: Fact<BTreeMap<String, String>>,
}

/// What a broker counts when it is asked how it is: its whole timer wheel, which takes a third of a second of a core (5.5.0,
/// TimerMessageStore.getAllCongestNum). So it is asked only where that matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerRuntime {
    /// Bytes stored that can't be consumed yet.
    pub dispatch_behind_bytes: Option<i64>,
    /// Delayed messages that are not yet due, those among them that a consumer holds and has not acknowledged.
    pub delayed_messages: Option<i64>,
    /// Those among them of which the broker does not tell the topic: on RocketMQ 4's fixed levels, and on their way into the timer wheel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_elsewhere: Option<i64>,
    /// By how many seconds delayed messages are late.
    pub timer_behind_seconds: Option<i64>,
    /// How full its volume is, from 0 to 1.
    pub disk_ratio: Option<f64>,
}

/// How a broker replicates, as it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// True on a master.
    pub master: bool,
    /// The end of its log in bytes. A master's minus a replica's is what the replica is behind by.
    pub max_offset: i64,
    /// Replicas in sync beside the master, on a master; 0 on others.
    pub in_sync_replicas: u32,
    /// IP addresses of the replicas to which it sends its log, on a master.
    pub followers: BTreeSet<String>,
    /// The replication address of the master that it follows, on a replica that does.
    pub follows: Option<String>,
}

/// All topics and consumer groups of one broker by name, the engine's own among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerMetadata {
    /// Topics.
    pub topics: BTreeMap<String, TopicConfig>,
    /// Consumer groups.
    pub groups: BTreeMap<String, GroupConfig>,
}

impl BrokerMetadata {
    /// What a broker holds; each group with its dead-letter topic.
    #[must_use]
    pub fn new(topics: BTreeMap<String, TopicConfig>, mut groups: BTreeMap<String, GroupConfig>) -> Self {
        for (name, group) in &mut groups {
            group.dead_letter_topic = topics.get(&dead_letter_topic(name)).cloned();
        }
        BrokerMetadata { topics, groups }
    }
}

/// How far the consumer groups are on one master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerConsumption {
    /// Groups that ever consumed something there, by name.
    pub groups: BTreeMap<String, GroupConsumption>,
    /// Messages that wait for their time, by topic.
    pub delayed: BTreeMap<String, i64>,
}

impl EngineFacts {
    /// The group's master, when the controllers know one.
    #[must_use]
    pub fn master(&self, group: &str) -> Option<&str> {
        self.groups.get(group)?.known()?.as_ref()?.master_address.as_deref()
    }

    /// IP addresses of the replicas to which a group's master sends its log.
    #[must_use]
    pub fn followers(&self, group: &str) -> Option<BTreeSet<String>> {
        let master = self.brokers.get(self.master(group)?)?.replication.known()?;
        master.master.then(|| master.followers.clone())
    }

    /// How many bytes a broker's log is shorter than that of its group's master, when both said.
    #[must_use]
    pub fn behind_bytes(&self, group: &str, broker: &str) -> Option<i64> {
        let master = self.brokers.get(self.master(group)?)?.replication.known()?;
        let broker = self.brokers.get(broker)?.replication.known()?;
        Some(master.max_offset.saturating_sub(broker.max_offset).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_fact_reads_in_yaml_as_what_it_is() {
        let facts: BTreeMap<&str, Fact<Vec<u32>>> = BTreeMap::from([
            ("empty", Fact::Known(vec![])),
            ("unknown", Err(EngineError::unreachable("a:1", "connection refused")).into()),
        ]);
        let yaml = serde_yaml::to_string(&facts).unwrap();
        assert_eq!(
            yaml,
            "empty: []\nunknown:\n  unknown:\n    reason: EngineUnreachable\n    address: a:1\n    problem: connection refused\n"
        );
        let back: BTreeMap<&str, Fact<Vec<u32>>> = serde_yaml::from_str(&yaml).unwrap();
        assert_eq!(back, facts);
    }
}
