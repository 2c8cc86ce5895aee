//! What is asked of the engine beside steps: changes that disturb nobody who serves. Plain data.

use std::collections::BTreeSet;

use gantry_crds::Reason;
use serde::Serialize;

use crate::broker_cluster::parse::Cluster;
use crate::broker_cluster::scale::CLOSED;
use crate::broker_cluster::view::{Queues, Writes};
use crate::engine::{ConfigTarget, EngineWrite};

/// One such change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum Call {
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
    /// Lets producers send to one replica, or not.
    SetWrites {
        /// Broker group.
        group: String,
        /// Its pod.
        pod: String,
        /// What it should let them do.
        writes: Writes,
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

/// Key of a broker's configuration: what its routes let clients do, 4 to read, 6 to write too.
pub const PERMISSION: &str = "brokerPermission";
/// Key of a broker's configuration: until then, in milliseconds of the epoch, it refuses every message of a producer.
pub const FENCE: &str = "startAcceptSendRequestTimeStamp";
/// Far enough: the year 2286, with as many digits as now.
const NEVER: &str = "9999999999999";

impl Call {
    /// As the engine takes it.
    #[must_use]
    pub fn write(&self, cluster: &Cluster) -> EngineWrite {
        match self {
            Self::Forget { group, ids, .. } => EngineWrite::CleanReplicas {
                controllers: cluster.controller_addresses(),
                group: group.clone(),
                ids: ids.clone(),
            },
            Self::ForgetGroup { group } => {
                EngineWrite::CleanGroup { controllers: cluster.controller_addresses(), group: group.clone() }
            }
            Self::SetWrites { pod, writes, .. } => EngineWrite::UpdateConfig {
                target: ConfigTarget::Broker(cluster.address_of_broker(pod)),
                properties: [
                    (PERMISSION.to_owned(), writes.permission.to_string()),
                    (FENCE.to_owned(), if writes.fenced { NEVER } else { "0" }.to_owned()),
                ]
                .into(),
            },
            Self::StartOffsets { master, queues, .. } => {
                EngineWrite::StartOffsets { broker: cluster.address_of_broker(master), queues: queues.clone() }
            }
        }
    }

    /// Name for metrics and `status.plan`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Forget { .. } => "Forget",
            Self::ForgetGroup { .. } => "ForgetGroup",
            Self::SetWrites { writes, .. } if writes.permission == CLOSED => "Close",
            Self::SetWrites { .. } => "Open",
            Self::StartOffsets { .. } => "StartOffsets",
        }
    }

    /// Broker group that it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Forget { group, .. }
            | Self::ForgetGroup { group }
            | Self::SetWrites { group, .. }
            | Self::StartOffsets { group, .. } => group,
        }
    }

    /// The Event that tells of it.
    #[must_use]
    pub fn event(&self) -> (Reason, String) {
        match self {
            Self::ForgetGroup { group } => {
                (Reason::ReplicaForgotten, format!("the controllers forgot {group}: it is removed with its volumes"))
            }
            Self::SetWrites { pod, writes, .. } if writes.fenced => {
                (Reason::GroupClosed, format!("{pod} refuses messages: it is empty and about to go"))
            }
            Self::SetWrites { pod, writes, .. } if writes.permission == CLOSED => {
                (Reason::GroupClosed, format!("producers send no messages to {pod} for now"))
            }
            Self::SetWrites { pod, .. } => (Reason::GroupOpened, format!("producers send messages to {pod} again")),
            Self::StartOffsets { group, queues, .. } => {
                let n = queues.len();
                (Reason::GroupOpening, format!("{n} consumer groups read {group} from its first message on"))
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
        }
    }
}
