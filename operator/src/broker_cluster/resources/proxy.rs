//! Proxies: a Deployment of pods without identity, replaced by Kubernetes itself one surge at a time.

use gantry_crds::names::{Component, PROXY_GRPC_PORT, PROXY_REMOTING_PORT};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::broker_cluster::cluster::{Cluster, ProxyScale};
use crate::broker_cluster::resources::{broker, config, metadata, pod};
use crate::labels;

/// The Deployment.
#[must_use]
pub fn deployment(cluster: &Cluster) -> Deployment {
    let selector = labels::selector(&cluster.name, Component::Proxy);
    let mut ports = vec![("grpc", PROXY_GRPC_PORT), ("remoting", PROXY_REMOTING_PORT)];
    ports.extend(broker::metrics_port(cluster));
    let shape = pod::Shape {
        pods: &cluster.proxies.pods,
        selector: selector.clone(),
        config: config::proxy(cluster).metadata.name.unwrap_or_default(),
        live: None,
        service: None,
        ports,
        data: false,
        // Until every node has stopped sending new connections here; the proxy closes its remoting port the moment it gets SIGTERM.
        drain_seconds: Some(10),
        grace_seconds: 75,
    };
    Deployment {
        metadata: metadata(cluster, Component::Proxy, cluster.component(Component::Proxy)),
        spec: Some(DeploymentSpec {
            replicas: match &cluster.proxies.scale {
                ProxyScale::Fixed(n) => Some(*n),
                ProxyScale::Auto(bounds) => Some(bounds.min_replicas),
            },
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            revision_history_limit: Some(3),
            template: pod::template(cluster, &shape),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// Where an autoscaler decides it is never argued with: the Deployment keeps as many as there are. The number is not left out, because server-side apply
/// takes away what is no longer applied, and the API server would put 1 in its place.
pub fn keep_replicas(deployment: &mut Deployment, cluster: &Cluster, live: &[Deployment]) {
    let ProxyScale::Auto(bounds) = &cluster.proxies.scale else { return };
    let name = deployment.name_any();
    let there = live.iter().find(|d| d.name_any() == name).and_then(|d| d.spec.as_ref()?.replicas);
    if let (Some(there), Some(spec)) = (there, deployment.spec.as_mut()) {
        spec.replicas = Some(there.min(bounds.max_replicas).max(bounds.min_replicas));
    }
}

/// The HorizontalPodAutoscaler, where autoscaling is declared.
#[must_use]
pub fn autoscaler(cluster: &Cluster) -> Option<HorizontalPodAutoscaler> {
    let ProxyScale::Auto(bounds) = &cluster.proxies.scale else { return None };
    let name = cluster.component(Component::Proxy);
    Some(HorizontalPodAutoscaler {
        metadata: metadata(cluster, Component::Proxy, name.clone()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: "Deployment".into(),
                name,
            },
            min_replicas: Some(bounds.min_replicas),
            max_replicas: bounds.max_replicas,
            metrics: Some(vec![MetricSpec {
                type_: "Resource".into(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".into(),
                    target: MetricTarget {
                        type_: "Utilization".into(),
                        average_utilization: Some(bounds.target_cpu_utilization_percentage),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    })
}
