//! What several kinds have in common: the reference to a cluster, and how far Gantry may go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far Gantry goes with an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReconcilePolicy {
    /// Make it so and keep it so.
    #[default]
    Apply,
    /// Compute what would be done and show it in the status; write nothing else.
    Plan,
    /// Only watch and report; write nothing but the status.
    Observe,
}

/// Names the BrokerCluster that an object belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// Name of the BrokerCluster.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Namespace of the BrokerCluster. Default: the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl ClusterRef {
    /// Namespace and name of the cluster for an object that lives in `own_namespace`.
    #[must_use]
    pub fn resolve(&self, own_namespace: &str) -> (String, String) {
        (self.namespace.clone().unwrap_or_else(|| own_namespace.to_owned()), self.name.clone())
    }
}
