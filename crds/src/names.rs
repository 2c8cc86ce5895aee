//! Names and DNS names of what Gantry makes. One place, so that operator, tests and docs agree.

/// Port on which a name server listens.
pub const NAME_SERVER_PORT: u16 = 9876;
/// Port on which a controller listens for brokers and admin calls.
pub const CONTROLLER_PORT: u16 = 9878;
/// Port on which controllers keep their state in agreement among themselves (jRaft).
pub const CONTROLLER_RAFT_PORT: u16 = 9880;
/// Port on which a broker listens for clients and admin calls.
pub const BROKER_PORT: u16 = 10911;
/// Port on which a master sends its log to slaves.
pub const BROKER_HA_PORT: u16 = 10912;
/// Port on which a proxy serves gRPC (5.x clients).
pub const PROXY_GRPC_PORT: u16 = 8081;
/// Port on which a proxy serves remoting (4.x clients).
pub const PROXY_REMOTING_PORT: u16 = 8080;
/// Port of Prometheus metrics on brokers, controllers and proxies (the engine's default).
pub const METRICS_PORT: u16 = 5557;

/// Port on which the image answers the kubelet's probes, in every role.
pub const PROBE_PORT: u16 = 10900;

/// The engine's roles. `as_str` is the value of the label `app.kubernetes.io/component` and part of every child's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Tells clients where brokers are.
    NameServer,
    /// Elects masters.
    Controller,
    /// Stores messages.
    Broker,
    /// What clients talk to.
    Proxy,
}

impl Component {
    /// All of them, in the order in which they are upgraded.
    pub const ALL: [Self; 4] = [Self::NameServer, Self::Controller, Self::Broker, Self::Proxy];

    /// The component whose lower-case name this is.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// Lower-case name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NameServer => "nameserver",
            Self::Controller => "controller",
            Self::Broker => "broker",
            Self::Proxy => "proxy",
        }
    }
}

/// `<cluster>-<component>`: the name of a component's StatefulSet or Deployment, headless Service, PodDisruptionBudget and ServiceAccount.
#[must_use]
pub fn component(cluster: &str, component: Component) -> String {
    format!("{cluster}-{}", component.as_str())
}

/// Name of broker group number `ordinal`: its StatefulSet, its PodDisruptionBudget, and the engine's brokerName.
#[must_use]
pub fn broker_group(cluster: &str, ordinal: i32) -> String {
    format!("{cluster}-broker-{ordinal}")
}

/// Name of the Service of an endpoint.
#[must_use]
pub fn endpoint_service(cluster: &str, endpoint: &str) -> String {
    format!("{cluster}-proxy-{endpoint}")
}

/// DNS name of a Service.
#[must_use]
pub fn service_host(service: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{service}.{namespace}.svc.{cluster_domain}")
}

/// DNS name of pod number `ordinal` of a StatefulSet governed by `service`.
#[must_use]
pub fn pod_host(stateful_set: &str, ordinal: i32, service: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{stateful_set}-{ordinal}.{}", service_host(service, namespace, cluster_domain))
}

/// The pod whose `host:port` this is: the first label of its DNS name, as [`pod_host`] makes it.
#[must_use]
pub fn pod_of(address: &str) -> String {
    address.split(['.', ':']).next().unwrap_or(address).to_owned()
}

/// What comes before a pod's name in the name of its PersistentVolumeClaim.
pub const CLAIM_PREFIX: &str = "data-";

/// Name of the PersistentVolumeClaim of a pod: `data-<pod>`.
#[must_use]
pub fn claim_of(pod: &str) -> String {
    format!("{CLAIM_PREFIX}{pod}")
}

/// The same of pod number `ordinal`.
#[must_use]
pub fn claim(stateful_set: &str, ordinal: i32) -> String {
    claim_of(&format!("{stateful_set}-{ordinal}"))
}
