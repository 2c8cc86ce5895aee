//! What is asked of the engine beside steps: changes that disturb nobody who serves. Plain data.

use std::collections::BTreeSet;

use gantry_crds::Reason;
use serde::Serialize;

use crate::broker_cluster::parse::Cluster;
use crate::engine::EngineWrite;

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
}

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
        }
    }

    /// Name for metrics and `status.plan`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Forget { .. } => "Forget",
        }
    }

    /// Broker group that it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Forget { group, .. } => group,
        }
    }

    /// The Event that tells of it.
    #[must_use]
    pub fn event(&self) -> (Reason, String) {
        match self {
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
