//! Name servers: a StatefulSet for stable names, without volumes.

use gantry_crds::names::{Component, NAME_SERVER_PORT};
use k8s_openapi::api::apps::v1::StatefulSet;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::{broker, config, pod};
use crate::labels;

/// The StatefulSet.
#[must_use]
pub fn stateful_set(cluster: &Cluster) -> StatefulSet {
    let service = cluster.component(Component::NameServer);
    let shape = pod::Shape {
        pods: &cluster.name_servers.pods,
        selector: labels::selector(&cluster.name, Component::NameServer),
        config: config::name_server(cluster).metadata.name.unwrap_or_default(),
        live: None,
        service: Some(service.clone()),
        ports: vec![("nameserver", NAME_SERVER_PORT)],
        data: false,
        drain_seconds: None,
        grace_seconds: 30,
    };
    broker::named_pods(cluster, &shape, service.clone(), service, cluster.name_servers.replicas, None)
}
