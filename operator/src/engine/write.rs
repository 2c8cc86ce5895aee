//! What the operator may change.

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::controller::Elected;
use gantry_remoting::group::GroupChange;
use gantry_remoting::topic::TopicChange;
use serde::{Deserialize, Serialize};

use super::{AccessChange, EngineError, QueueOffsets};

/// One change of the engine. Addresses are `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EngineWrite {
    /// Makes a replica its group's master. It must be alive and in sync; the engine refuses otherwise.
    ElectMaster {
        /// All controllers; the one that leads is found among them.
        controllers: Vec<String>,
        /// The group.
        group: String,
        /// The replica's controller id.
        id: u64,
    },
    /// Makes the controllers forget replicas that are gone for good. The engine refuses for one that is alive.
    CleanReplicas {
        /// All controllers; the one that leads is found among them.
        controllers: Vec<String>,
        /// The group.
        group: String,
        /// Controller ids, at least one. (To the engine none would mean all; that is not offered.)
        ids: BTreeSet<u64>,
    },
    /// Makes the controllers forget a whole group. The engine refuses while the group has a master.
    CleanGroup {
        /// All controllers; the one that leads is found among them.
        controllers: Vec<String>,
        /// The group.
        group: String,
    },
    /// Tells replicas where their master's log is to be had. One that does not answer is no failure: it learns it by itself.
    Follow {
        /// The replicas.
        replicas: Vec<String>,
        /// The master, for clients.
        master: String,
        /// The master, for replicas.
        log: String,
    },
    /// Makes the name servers forget a master that is none any more and does not say so: replicas would go on asking it for its log.
    ForgetMaster {
        /// All name servers. One that does not answer is no failure.
        name_servers: Vec<String>,
        /// The group.
        group: String,
        /// The former master.
        address: String,
    },
    /// Says from where consumer groups read queues of a master on.
    SetOffsets {
        /// The master.
        broker: String,
        /// By consumer group, topic and queue.
        offsets: BTreeMap<String, BTreeMap<String, QueueOffsets>>,
    },
    /// Changes users and ACLs of one broker, master or not: nothing copies them.
    ChangeAccess {
        /// The broker.
        broker: String,
        /// The change. Its passwords are in no output.
        change: AccessChange,
    },
    /// Sets configuration keys of one running process and reads them back.
    UpdateConfig {
        /// Which process.
        target: ConfigTarget,
        /// Keys and their new values.
        properties: BTreeMap<String, String>,
    },
    /// Takes the write permission from a group's routes, or gives it back, on every name server.
    SetWritePermission {
        /// All name servers.
        name_servers: Vec<String>,
        /// The group.
        group: String,
        /// False takes it.
        writable: bool,
    },
    /// Creates or updates topics on a master.
    UpsertTopics {
        /// The master.
        broker: String,
        /// The topics.
        changes: Vec<TopicChange>,
    },
    /// Deletes topics with their messages: on masters, then on the other replicas, then their routes on the name servers. A replica learns from
    /// its master that a topic is gone, but keeps its queues: a topic created anew under the name would have other offsets there than on its master
    /// (seen on 5.5.0: 21 against 5), and consumers would miss messages after the next election.
    DeleteTopics {
        /// Masters, one for each group that has the topics.
        masters: Vec<String>,
        /// All other replicas of these groups.
        replicas: Vec<String>,
        /// All name servers.
        name_servers: Vec<String>,
        /// Topics by name.
        topics: Vec<String>,
    },
    /// Creates or updates consumer groups on a master.
    UpsertGroups {
        /// The master.
        broker: String,
        /// The groups.
        changes: Vec<GroupChange>,
    },
    /// Sets a consumer group's offsets on a master to the first message stored at a time or later.
    ResetOffsets {
        /// The master.
        broker: String,
        /// The consumer group.
        group: String,
        /// Topics.
        topics: Vec<String>,
        /// Milliseconds of the epoch; 0 is the beginning.
        timestamp: i64,
    },
    /// Deletes consumer groups on masters.
    DeleteGroups {
        /// Masters.
        masters: Vec<String>,
        /// Consumer groups by name.
        groups: Vec<String>,
        /// Also forget how far they were.
        clean_offsets: bool,
    },
}

/// A process whose configuration is read or set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigTarget {
    /// A name server.
    NameServer(String),
    /// A controller; the others keep their own.
    Controller(String),
    /// A broker.
    Broker(String),
}

impl ConfigTarget {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            ConfigTarget::NameServer(address) | ConfigTarget::Controller(address) | ConfigTarget::Broker(address) => {
                address
            }
        }
    }
}

/// What became of a change that was not refused as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteOutcome {
    /// Who is master now, after an election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elected: Option<Elected>,
    /// What was not done, by what it is about: a topic's or consumer group's name, a configuration key, a name server's address.
    /// Everything else was done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, EngineError>,
}

impl WriteOutcome {
    /// True when nothing failed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Whether two spellings are one value of a configuration key: the engine reads `TRUE` and `072` and prints `true` and `72`.
#[must_use]
pub fn same_value(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim(), other.trim());
    let truth = |v: &str| v.eq_ignore_ascii_case("true") || v.eq_ignore_ascii_case("false");
    match (one.parse::<i64>(), other.parse::<i64>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => one == other || (truth(one) && one.eq_ignore_ascii_case(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::same_value;

    #[test]
    fn spellings_of_one_value_are_the_same() {
        for (one, other, same) in [
            ("72", "072", true),
            ("true", "TRUE", true),
            (" 04", "04", true),
            ("true", "false", false),
            ("72", "73", false),
            ("abc", "ABC", false),
            ("", "0", false),
        ] {
            assert_eq!(same_value(one, other), same, "{one} and {other}");
        }
    }
}
