//! What was seen of a cluster's topics and consumer groups: plain data, from which plans and statuses are made.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker_cluster::view::Known;
use crate::engine::BrokerMetadata;
use crate::metadata::kind::{Abilities, Key};
use crate::metadata::replicas::Lags;

/// A broker group and a topic there.
pub type Place = (String, String);

/// What was seen of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every declared broker group: its master (`host:port`) with all that it holds, or why that is not known.
    pub groups: BTreeMap<String, Known<Master>>,
    /// Kinds and engine names of objects under deletion that are not empty, or of which nobody could say.
    pub not_empty: BTreeMap<(&'static str, String), String>,
    /// Messages that wait for their time by broker group, of which the engine does not tell the topic; none where it does not say how many. Asked only
    /// where it matters.
    pub delayed_elsewhere: BTreeMap<String, Option<i64>>,
    /// Objects of which their status does not say yet that the engine had them as declared, by kind.
    pub adopted: BTreeSet<(&'static str, Key)>,
    /// How long a transaction may stay undecided, in seconds.
    pub longest_transaction: i64,
    /// Replicas that differ from their masters, and for how long.
    pub lags: Lags,
    /// Topics with queues that are to go, and what keeps them.
    pub draining: BTreeMap<Place, Option<String>>,
    /// Brokers whose configuration is known, by address: `None` where they keep no users, else whether they keep ACLs as well.
    pub access: BTreeMap<String, Option<bool>>,
    /// What the engine can do.
    pub abilities: Abilities,
    /// Namespaces that are going away: nothing may keep their objects.
    pub terminating: BTreeSet<String>,
}

/// A group's master.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Master {
    /// `host:port`.
    pub address: String,
    /// Other replicas of the group.
    pub replicas: Vec<Replica>,
    /// What it holds.
    pub metadata: BrokerMetadata,
}

/// A replica that is not the master.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// `host:port`.
    pub address: String,
    /// What it holds, or why that is not known.
    pub metadata: Known<BrokerMetadata>,
}
