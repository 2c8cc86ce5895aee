//! What the operator is told at start: flags of `gantry run`, each also an environment variable.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

/// Settings of the process. Every flag has an environment variable of the same name with the prefix `GANTRY_`.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Namespaces to watch, separated by commas. Empty: all.
    #[arg(long, env = "GANTRY_WATCH_NAMESPACES", value_delimiter = ',', default_value = "")]
    pub watch_namespaces: Vec<String>,

    /// DNS domain of the Kubernetes cluster.
    #[arg(long, env = "GANTRY_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Image of the engine, `{version}` stands for `spec.version`.
    #[arg(long, env = "GANTRY_ENGINE_IMAGE", default_value = "gantry/rocketmq:{version}")]
    pub engine_image: String,

    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "GANTRY_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Namespace of the leader Lease and of this pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,

    /// Identity of this process in the leader Lease: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "gantry")]
    pub identity: String,

    /// Seconds between two looks at a cluster at which nothing happens, 5 to 300.
    #[arg(long, env = "GANTRY_RESYNC_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=300))]
    pub resync_seconds: u64,

    /// Clusters that are reconciled at the same time, 1 to 256. One slow cluster takes one place.
    #[arg(long, env = "GANTRY_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            watch_namespaces: Vec::new(),
            cluster_domain: "cluster.local".into(),
            engine_image: "gantry/rocketmq:{version}".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            namespace: "default".into(),
            identity: "gantry".into(),
            resync_seconds: 20,
            concurrency: 16,
        }
    }
}

impl Settings {
    /// The namespaces to watch; empty means all of them.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.watch_namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
    }

    /// Time between two looks at a cluster at which nothing happens.
    #[must_use]
    pub fn resync(&self) -> Duration {
        Duration::from_secs(self.resync_seconds)
    }

    /// Image for an engine version.
    #[must_use]
    pub fn image(&self, version: &str) -> String {
        self.engine_image.replace("{version}", version)
    }
}
