//! What is asked of the engine beside steps: changes that disturb nobody who serves. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::Reason;
use gantry_remoting::stats::QueueOffsets;
use serde::Serialize;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::keys::{CLOSED, FENCE, PERMISSION};
use crate::broker_cluster::view::Queues;
use crate::engine::{ConfigTarget, EngineWrite};

/// One such change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum Call {
    /// A running broker takes keys, and is asked whether it did.
    Set {
        /// Its pod.
        pod: String,
        /// Keys with their new values.
        keys: BTreeMap<String, String>,
    },
    /// Replicas are told where their new master's log is to be had, which they would learn up to 10 s later.
    Follow {
        /// Pod of the master.
        master: String,
        /// Pods of the replicas.
        replicas: BTreeSet<String>,
    },
    /// The controllers forget ids of replicas that are gone.
    Forget {
        /// Broker group.
        group: String,
        /// Broker ids.
        ids: BTreeSet<u64>,
        /// Pods that had them.
        pods: BTreeSet<String>,
    },
    /// The controllers forget a group that was removed with its volumes.
    ForgetGroup {
        /// Broker group.
        group: String,
    },
    /// Consumer groups read a new group's queues from their first message on.
    StartOffsets {
        /// Broker group.
        group: String,
        /// Pod of its master.
        master: String,
        /// By consumer group and topic.
        queues: Queues,
    },
}

/// The first offset of each of these queues.
fn beginnings(queues: &Queues) -> BTreeMap<String, BTreeMap<String, QueueOffsets>> {
    let of = |topics: &BTreeMap<String, BTreeSet<u32>>| {
        topics.iter().map(|(topic, ids)| (topic.clone(), ids.iter().map(|id| (*id, 0)).collect())).collect()
    };
    queues.iter().map(|(group, topics)| (group.clone(), of(topics))).collect()
}

impl Call {
    /// As the engine takes it.
    #[must_use]
    pub fn write(&self, cluster: &Cluster) -> EngineWrite {
        match self {
            Self::Set { pod, keys } => EngineWrite::UpdateConfig {
                target: ConfigTarget::Broker(cluster.address_of_broker(pod)),
                properties: keys.clone(),
            },
            Self::Follow { master, replicas } => EngineWrite::Follow {
                replicas: replicas.iter().map(|pod| cluster.address_of_broker(pod)).collect(),
                master: cluster.address_of_broker(master),
                log: cluster.log_of_broker(master),
            },
            Self::Forget { group, ids, .. } => EngineWrite::CleanReplicas {
                controllers: cluster.controller_addresses(),
                group: group.clone(),
                ids: ids.clone(),
            },
            Self::ForgetGroup { group } => {
                EngineWrite::CleanGroup { controllers: cluster.controller_addresses(), group: group.clone() }
            }
            Self::StartOffsets { master, queues, .. } => {
                EngineWrite::SetOffsets { broker: cluster.address_of_broker(master), offsets: beginnings(queues) }
            }
        }
    }

    /// Name for metrics, Events and `status.plan`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Set { .. } => "Set",
            Self::Follow { .. } => "Follow",
            Self::Forget { .. } => "Forget",
            Self::ForgetGroup { .. } => "ForgetGroup",
            Self::StartOffsets { .. } => "StartOffsets",
        }
    }

    /// What it is about.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Set { pod, .. } => format!("Pod/{pod}"),
            Self::Follow { master, .. } => format!("Pod/{master}"),
            Self::Forget { group, .. } | Self::ForgetGroup { group } | Self::StartOffsets { group, .. } => {
                format!("broker group {group}")
            }
        }
    }

    /// The Event that tells of it.
    #[must_use]
    pub fn event(&self) -> (Reason, String) {
        match self {
            Self::Set { pod, keys } => {
                let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let reason = match (keys.get(FENCE).map(String::as_str), keys.get(PERMISSION).map(String::as_str)) {
                    (Some(until), _) if until != "0" => Reason::GroupClosed,
                    (_, Some(CLOSED)) => Reason::GroupClosed,
                    (_, Some(_)) => Reason::GroupOpened,
                    (_, None) => Reason::Updated,
                };
                (reason, format!("set {} on {pod} while it runs", pairs.join(", ")))
            }
            Self::Follow { master, replicas } => {
                let replicas = replicas.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                (Reason::HandingOver, format!("told {replicas} to follow {master}"))
            }
            Self::Forget { group, ids, pods } => {
                let list = |all: Vec<String>| all.join(", ");
                let (ids, pods) =
                    (list(ids.iter().map(u64::to_string).collect()), list(pods.iter().cloned().collect()));
                (
                    Reason::ReplicaForgotten,
                    format!("the controllers forgot ids {ids} of {group}: the volumes of {pods} are gone"),
                )
            }
            Self::ForgetGroup { group } => {
                (Reason::ReplicaForgotten, format!("the controllers forgot {group}: it is removed with its volumes"))
            }
            Self::StartOffsets { group, queues, .. } => {
                let n = queues.len();
                (Reason::GroupOpening, format!("{n} consumer groups read {group} from its first message on"))
            }
        }
    }
}
