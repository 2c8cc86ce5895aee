//! A cluster as declared, with every default resolved, and what follows from it: names, addresses, and how its groups are for now.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::broker_cluster::{Autoscaling, Endpoint};
use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;
use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::broker_cluster::memory::Memory;

/// A BrokerCluster, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Name; also the engine's cluster name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Owner of every child.
    pub owner: OwnerReference,
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
    /// Engine version.
    pub version: String,
    /// Engine image.
    pub image: String,
    /// Secrets to pull it with.
    pub pull_secrets: Vec<LocalObjectReference>,
    /// StatefulSets, the Deployment and components that run another engine than declared for now. Empty as parsed.
    pub engines: BTreeMap<String, Engine>,
    /// Seconds that a pod of another version may need until it serves.
    pub upgrade_timeout: i64,
    /// Annotation that lets a failed upgrade be tried again.
    pub retry: Option<String>,
    /// Names of hazards that are accepted.
    pub accepted: BTreeSet<String>,
    /// How far to go.
    pub mode: Mode,
    /// Stamp of what is declared, where it needs approval.
    pub plan_hash: Option<String>,
    /// Name servers.
    pub name_servers: NameServers,
    /// Controllers.
    pub controllers: Controllers,
    /// Brokers.
    pub brokers: Brokers,
    /// Proxies.
    pub proxies: Proxies,
    /// Client endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// Whether the engine exports Prometheus metrics.
    pub metrics: bool,
}

/// A version of the engine, and the image that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Version.
    pub version: String,
    /// Image.
    pub image: String,
}

/// How far to go with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write what is needed.
    Apply,
    /// Show what would be written.
    Plan,
    /// Report only.
    Observe,
    /// Paused by annotation: report only, and say so.
    Paused,
}

/// Name servers, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct NameServers {
    /// How many.
    pub replicas: i32,
    /// Their pods.
    pub pods: Pods,
}

/// Controllers, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Controllers {
    /// How many. Fixed once the StatefulSet exists.
    pub replicas: i32,
    /// Their volume.
    pub volume: Volume,
    /// Their pods.
    pub pods: Pods,
}

/// Brokers, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Brokers {
    /// How many groups.
    pub groups: i32,
    /// Replicas of each.
    pub replicas: i32,
    /// Where groups are otherwise than declared, on their way in or out. Empty as parsed.
    pub extent: Extent,
    /// Replicas that must hold a message before it is acknowledged.
    pub min_in_sync: i32,
    /// Groups that may have a replica restarted at the same time.
    pub max_unavailable: usize,
    /// Whether a master takes no new messages for a while before it is restarted.
    pub drain: bool,
    /// Their volume.
    pub volume: Volume,
    /// Seconds for which a replica's node may be gone before the replica is given up; `None`: for ever.
    pub give_up_after: Option<i64>,
    /// Their pods.
    pub pods: Pods,
}

/// Broker groups that are not, or not yet, as declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extent {
    /// Replicas of groups that have another number than declared.
    pub sizes: BTreeMap<String, i32>,
    /// Phases of groups that are not open.
    pub phases: BTreeMap<String, GroupPhase>,
    /// Groups that are empty and refuse every message.
    pub fenced: BTreeSet<String>,
    /// Replicas that must hold a message, of groups that have too few in sync for the number that is declared.
    pub min_in_sync: BTreeMap<String, i32>,
}

/// Proxies, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxies {
    /// Who decides how many.
    pub scale: ProxyScale,
    /// Their pods.
    pub pods: Pods,
}

/// Who decides how many proxies there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyScale {
    /// The spec.
    Fixed(i32),
    /// A HorizontalPodAutoscaler.
    Auto(Autoscaling),
}

/// A volume claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Size.
    pub size: Quantity,
    /// StorageClass; `None` is the default class.
    pub class: Option<String>,
    /// Whether it is kept when the cluster is deleted.
    pub retain: bool,
}

/// What all pods of a role have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Pods {
    /// The role.
    pub component: Component,
    /// Requests, with memory filled in.
    pub requests: BTreeMap<String, Quantity>,
    /// Limits, with memory filled in.
    pub limits: BTreeMap<String, Quantity>,
    /// How the memory limit is divided.
    pub memory: Memory,
    /// The user's engine keys.
    pub config: BTreeMap<String, String>,
    /// The user's JVM options.
    pub jvm_options: Vec<String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Affinity.
    pub affinity: Option<Affinity>,
    /// Replaces the default spread.
    pub spread: Option<Vec<TopologySpreadConstraint>>,
    /// PriorityClass.
    pub priority_class: Option<String>,
    /// Extra labels.
    pub labels: BTreeMap<String, String>,
    /// Extra annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Cluster {
    /// Name of a component's objects.
    #[must_use]
    pub fn component(&self, component: Component) -> String {
        names::component(&self.name, component)
    }

    /// What is declared for a StatefulSet, the Deployment or a component, with the engine that it is to run now.
    #[must_use]
    pub fn running(&self, name: &str) -> Cow<'_, Self> {
        match self.engines.get(name) {
            None => Cow::Borrowed(self),
            Some(engine) => {
                let Engine { version, image } = engine.clone();
                Cow::Owned(Self { version, image, ..self.clone() })
            }
        }
    }

    /// `host:port` of every name server, in order.
    #[must_use]
    pub fn name_server_addresses(&self) -> Vec<String> {
        self.addresses(Component::NameServer, self.name_servers.replicas, names::NAME_SERVER_PORT)
    }

    /// `host:port` of every controller, in order.
    #[must_use]
    pub fn controller_addresses(&self) -> Vec<String> {
        self.addresses(Component::Controller, self.controllers.replicas, names::CONTROLLER_PORT)
    }

    /// `host:port` at which controllers reach one another, in the order of [`Self::controller_addresses`].
    #[must_use]
    pub fn raft_addresses(&self) -> Vec<String> {
        self.addresses(Component::Controller, self.controllers.replicas, names::CONTROLLER_RAFT_PORT)
    }

    /// `host:port` of every replica of a broker group, in order.
    #[must_use]
    pub fn broker_addresses(&self, group: &str) -> Vec<String> {
        (0..self.replicas_of(group)).map(|i| self.broker_address(group, i)).collect()
    }

    /// Replicas of a broker group.
    #[must_use]
    pub fn replicas_of(&self, group: &str) -> i32 {
        self.brokers.extent.sizes.get(group).copied().unwrap_or(self.brokers.replicas)
    }

    /// Pods of a broker group, in order.
    #[must_use]
    pub fn pods_of(&self, group: &str) -> Vec<String> {
        (0..self.replicas_of(group)).map(|i| format!("{group}-{i}")).collect()
    }

    /// Whether a broker group takes messages, or is on its way in or out.
    #[must_use]
    pub fn phase_of(&self, group: &str) -> GroupPhase {
        self.brokers.extent.phases.get(group).copied().unwrap_or_default()
    }

    /// Whether a broker group refuses every message.
    #[must_use]
    pub fn is_fenced(&self, group: &str) -> bool {
        self.brokers.extent.fenced.contains(group)
    }

    /// Replicas of a broker group that must hold a message before it is acknowledged.
    #[must_use]
    pub fn min_in_sync_of(&self, group: &str) -> i32 {
        self.brokers.extent.min_in_sync.get(group).copied().unwrap_or(self.brokers.min_in_sync)
    }

    /// `host:port` of one broker replica.
    #[must_use]
    pub fn broker_address(&self, group: &str, ordinal: i32) -> String {
        let host = names::pod_host(group, ordinal, &self.component(Component::Broker), &self.namespace, &self.domain);
        format!("{host}:{}", names::BROKER_PORT)
    }

    /// `host:port` of the broker in a pod.
    #[must_use]
    pub fn address_of_broker(&self, pod: &str) -> String {
        let host = names::service_host(&self.component(Component::Broker), &self.namespace, &self.domain);
        format!("{pod}.{host}:{}", names::BROKER_PORT)
    }

    /// `host:port` from which replicas copy the log of the broker in a pod.
    #[must_use]
    pub fn log_of_broker(&self, pod: &str) -> String {
        let host = names::service_host(&self.component(Component::Broker), &self.namespace, &self.domain);
        format!("{pod}.{host}:{}", names::BROKER_HA_PORT)
    }

    /// `host:port` at which some proxy speaks remoting. Brokers don't hear of clients that speak gRPC: their proxies know them, and tell each other, so that
    /// any one will do.
    #[must_use]
    pub fn any_proxy(&self) -> Option<String> {
        let endpoint = self.endpoints.first()?;
        let service = names::endpoint_service(&self.name, &endpoint.name);
        let host = names::service_host(&service, &self.namespace, &self.domain);
        Some(format!("{host}:{}", names::PROXY_REMOTING_PORT))
    }

    /// Names of the declared broker groups, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        (0..self.brokers.groups).map(|i| names::broker_group(&self.name, i)).collect()
    }

    /// Most proxies that may run, for the pods' disruption budget.
    #[must_use]
    pub fn most_proxies(&self) -> i32 {
        match &self.proxies.scale {
            ProxyScale::Fixed(n) => *n,
            ProxyScale::Auto(a) => a.max_replicas,
        }
    }

    fn addresses(&self, component: Component, replicas: i32, port: u16) -> Vec<String> {
        let service = self.component(component);
        (0..replicas)
            .map(|i| format!("{}:{port}", names::pod_host(&service, i, &service, &self.namespace, &self.domain)))
            .collect()
    }
}
