//! Controllers: a StatefulSet whose members are the fixed peers of a Raft group.

use gantry_crds::names::{CONTROLLER_PORT, CONTROLLER_RAFT_PORT, Component};
use k8s_openapi::api::apps::v1::StatefulSet;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::{broker, config, pod};
use crate::labels;

/// The StatefulSet.
#[must_use]
pub fn stateful_set(cluster: &Cluster) -> StatefulSet {
    let service = cluster.component(Component::Controller);
    let mut ports = vec![("controller", CONTROLLER_PORT), ("raft", CONTROLLER_RAFT_PORT)];
    ports.extend(broker::metrics_port(cluster));
    let shape = pod::Shape {
        pods: &cluster.controllers.pods,
        selector: labels::selector(&cluster.name, Component::Controller),
        config: config::controller(cluster).metadata.name.unwrap_or_default(),
        live: None,
        service: Some(service.clone()),
        ports,
        data: true,
        drain_seconds: None,
        grace_seconds: 30,
    };
    let volume = Some(&cluster.controllers.volume);
    broker::named_pods(cluster, &shape, service.clone(), service, cluster.controllers.replicas, volume)
}
