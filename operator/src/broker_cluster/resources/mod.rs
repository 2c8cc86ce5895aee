//! The children of a BrokerCluster, as pure functions of the parsed cluster: nouns in, objects out.

pub mod broker;
pub mod config;
pub mod controller;
pub mod name_server;
pub mod pdb;
pub mod pod;
pub mod proxy;
pub mod service;

use std::collections::BTreeMap;

use gantry_crds::names::Component;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::broker_cluster::cluster::Cluster;
use crate::child::ChildKind;
use crate::labels;

/// Every child of a cluster, declared or live. Destructured without `..` wherever all kinds must be thought of.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// One per component, without API tokens.
    pub service_accounts: Vec<ServiceAccount>,
    /// Named by content, immutable; and what brokers take while they run.
    pub config_maps: Vec<ConfigMap>,
    /// Headless ones for identity, one per client endpoint.
    pub services: Vec<Service>,
    /// One per component and per broker group.
    pub pod_disruption_budgets: Vec<PodDisruptionBudget>,
    /// Name servers, controllers, broker groups.
    pub stateful_sets: Vec<StatefulSet>,
    /// Proxies.
    pub deployments: Vec<Deployment>,
    /// Proxies, where autoscaling is declared.
    pub horizontal_pod_autoscalers: Vec<HorizontalPodAutoscaler>,
}

impl Resources {
    /// Adds an object as the API server would hold it.
    ///
    /// # Errors
    /// Where the object is not of that kind.
    pub fn insert(&mut self, kind: ChildKind, object: serde_json::Value) -> Result<(), serde_json::Error> {
        use serde_json::from_value;
        match kind {
            ChildKind::ServiceAccount => self.service_accounts.push(from_value(object)?),
            ChildKind::ConfigMap => self.config_maps.push(from_value(object)?),
            ChildKind::Service => self.services.push(from_value(object)?),
            ChildKind::PodDisruptionBudget => self.pod_disruption_budgets.push(from_value(object)?),
            ChildKind::StatefulSet => self.stateful_sets.push(from_value(object)?),
            ChildKind::Deployment => self.deployments.push(from_value(object)?),
            ChildKind::HorizontalPodAutoscaler => self.horizontal_pod_autoscalers.push(from_value(object)?),
        }
        Ok(())
    }
}

/// All children that a cluster should have, each with the engine that it is to run now.
#[must_use]
pub fn resources(cluster: &Cluster) -> Resources {
    let groups = cluster.groups();
    let of = |c: Component| cluster.running(&cluster.component(c));
    let [servers, controllers, brokers, proxies] = Component::ALL.map(of);
    let mut config_maps =
        vec![config::name_server(&servers), config::controller(&controllers), config::proxy(&proxies)];
    let mut stateful_sets = vec![name_server::stateful_set(&servers), controller::stateful_set(&controllers)];
    let mut pod_disruption_budgets = vec![
        pdb::of_component(&servers, Component::NameServer),
        pdb::of_component(&controllers, Component::Controller),
        pdb::of_component(&proxies, Component::Proxy),
    ];
    for group in &groups {
        let own = cluster.running(group);
        config_maps.extend([config::broker(&own, group), config::broker_live(&own, group)]);
        stateful_sets.push(broker::stateful_set(&own, group));
        pod_disruption_budgets.extend(pdb::of_group(&own, group));
    }
    let mut services = vec![
        service::headless(&servers, Component::NameServer),
        service::headless(&controllers, Component::Controller),
        service::headless(&brokers, Component::Broker),
    ];
    services.extend(cluster.endpoints.iter().map(|e| service::endpoint(&proxies, e)));
    Resources {
        service_accounts: Component::ALL.map(|c| service_account(&of(c), c)).into(),
        config_maps,
        services,
        pod_disruption_budgets,
        stateful_sets,
        deployments: vec![proxy::deployment(&proxies)],
        horizontal_pod_autoscalers: proxy::autoscaler(&proxies).into_iter().collect(),
    }
}

fn service_account(cluster: &Cluster, component: Component) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(cluster, component, cluster.component(component)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Metadata of a child: name, namespace, owner and the labels by which it is found.
#[must_use]
pub fn metadata(cluster: &Cluster, component: Component, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels_of(cluster, component)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Labels of a child, the selecting ones among them.
#[must_use]
pub fn labels_of(cluster: &Cluster, component: Component) -> BTreeMap<String, String> {
    let mut l = labels::selector(&cluster.name, component);
    l.insert(labels::MANAGED_BY.into(), labels::MANAGER.into());
    l.insert(labels::VERSION.into(), cluster.version.clone());
    l
}

/// Labels that select the pods of a broker group.
#[must_use]
pub fn group_selector(cluster: &Cluster, group: &str) -> BTreeMap<String, String> {
    let mut l = labels::selector(&cluster.name, Component::Broker);
    l.insert(labels::GROUP.into(), group.into());
    l
}
