//! Services: headless ones that give pods their names, and one per client endpoint.

use gantry_crds::broker_cluster::{Endpoint, EndpointType};
use gantry_crds::names::{
    self, BROKER_HA_PORT, BROKER_PORT, CONTROLLER_PORT, CONTROLLER_RAFT_PORT, Component, NAME_SERVER_PORT,
    PROXY_GRPC_PORT, PROXY_REMOTING_PORT,
};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::metadata;
use crate::labels;

/// The headless Service of a component: every pod has its name from the moment it has an address, ready or not.
#[must_use]
pub fn headless(cluster: &Cluster, component: Component) -> Service {
    let ports: &[(&str, u16)] = match component {
        Component::NameServer => &[("nameserver", NAME_SERVER_PORT)],
        Component::Controller => &[("controller", CONTROLLER_PORT), ("raft", CONTROLLER_RAFT_PORT)],
        Component::Broker => &[("broker", BROKER_PORT), ("ha", BROKER_HA_PORT)],
        Component::Proxy => &[("grpc", PROXY_GRPC_PORT), ("remoting", PROXY_REMOTING_PORT)],
    };
    Service {
        metadata: metadata(cluster, component, cluster.component(component)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector(&cluster.name, component)),
            ports: Some(ports.iter().map(|(n, p)| port(n, *p)).collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service of a client endpoint.
#[must_use]
pub fn endpoint(cluster: &Cluster, endpoint: &Endpoint) -> Service {
    let mut meta = metadata(cluster, Component::Proxy, names::endpoint_service(&cluster.name, &endpoint.name));
    meta.annotations = (!endpoint.annotations.is_empty()).then(|| endpoint.annotations.clone());
    let type_ = match endpoint.type_ {
        EndpointType::ClusterIP => "ClusterIP",
    };
    Service {
        metadata: meta,
        spec: Some(ServiceSpec {
            type_: Some(type_.into()),
            selector: Some(labels::selector(&cluster.name, Component::Proxy)),
            ports: Some(vec![port("grpc", PROXY_GRPC_PORT), port("remoting", PROXY_REMOTING_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: i32::from(port),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}
