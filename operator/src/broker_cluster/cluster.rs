//! What follows from a parsed cluster: names, addresses, and how its groups are for now.

use std::borrow::Cow;

use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;

use crate::broker_cluster::parse::{Cluster, Engine, ProxyScale};

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
