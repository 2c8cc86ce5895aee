//! Whom to ask.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Which cluster something belongs to, for the circuit breaker, the audit log and signatures: two namespaces may each have a `shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId {
    /// The namespace of the BrokerCluster.
    pub namespace: String,
    /// Its name, which is also the engine's cluster name.
    pub name: String,
}

impl ClusterId {
    /// The BrokerCluster `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ClusterId { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All processes of one cluster, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAddresses {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// The name servers.
    pub name_servers: Vec<String>,
    /// The controllers.
    pub controllers: Vec<String>,
    /// The brokers, by the name of their group.
    pub groups: BTreeMap<String, Vec<String>>,
}
