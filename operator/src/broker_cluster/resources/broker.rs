//! Brokers: one StatefulSet per group, and what all StatefulSets have in common.

use gantry_crds::names::{BROKER_HA_PORT, BROKER_PORT, Component, METRICS_PORT};
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::broker_cluster::cluster::{Cluster, Volume};
use crate::broker_cluster::resources::{config, group_selector, metadata, pod};
use crate::labels;

/// The StatefulSet of a group.
#[must_use]
pub fn stateful_set(cluster: &Cluster, group: &str) -> StatefulSet {
    let service = cluster.component(Component::Broker);
    let mut ports = vec![("broker", BROKER_PORT), ("ha", BROKER_HA_PORT)];
    ports.extend(metrics_port(cluster));
    let shape = pod::Shape {
        pods: &cluster.brokers.pods,
        selector: group_selector(cluster, group),
        config: config::broker(cluster, group).metadata.name.unwrap_or_default(),
        live: Some(config::live_name(group)),
        service: Some(service.clone()),
        ports,
        data: true,
        drain_seconds: None,
        grace_seconds: 120,
    };
    let replicas = cluster.replicas_of(group);
    let mut set = named_pods(cluster, &shape, group.to_owned(), service, replicas, Some(&cluster.brokers.volume));
    let phase = cluster.phase_of(group);
    if !phase.is_open() {
        // The record of what is under way: an operator that starts anew goes on from here.
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(labels::PHASE.into(), phase.as_str().into());
    }
    set
}

/// The metrics port, where metrics are on.
#[must_use]
pub fn metrics_port(cluster: &Cluster) -> Option<(&'static str, u16)> {
    cluster.metrics.then_some(("metrics", METRICS_PORT))
}

/// A StatefulSet of pods with names: all started at once, replaced only when Gantry deletes them.
#[must_use]
pub fn named_pods(
    cluster: &Cluster,
    shape: &pod::Shape<'_>,
    name: String,
    service: String,
    replicas: i32,
    volume: Option<&Volume>,
) -> StatefulSet {
    let mut meta = metadata(cluster, shape.pods.component, name);
    if let Some(labels) = &mut meta.labels {
        labels.extend(shape.selector.clone());
    }
    meta.annotations = Some([(labels::REPLICAS.to_owned(), replicas.to_string())].into());
    StatefulSet {
        metadata: meta,
        spec: Some(StatefulSetSpec {
            service_name: Some(service),
            replicas: Some(replicas),
            pod_management_policy: Some("Parallel".into()),
            // Which pod goes next, and who is master then, is a decision of safety.rs.
            update_strategy: Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None }),
            revision_history_limit: Some(3),
            selector: LabelSelector { match_labels: Some(shape.selector.clone()), ..LabelSelector::default() },
            template: pod::template(cluster, shape),
            volume_claim_templates: volume.map(|v| vec![claim(shape, v)]),
            // Never with the StatefulSet: one that is deleted by hand is made anew and finds its volumes. Where they are not to be kept they go with the
            // BrokerCluster, whose they are then.
            persistent_volume_claim_retention_policy: volume.map(|_| StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn claim(shape: &pod::Shape<'_>, volume: &Volume) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".into()),
            labels: Some(shape.selector.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: volume.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), volume.size.clone())].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
