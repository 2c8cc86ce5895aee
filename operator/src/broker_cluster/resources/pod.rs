//! The pod template that all roles share: restricted security, read-only root, probes that ask the engine, names before addresses.

use std::collections::BTreeMap;

use gantry_crds::names::{Component, PROBE_PORT};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecurityContext, SleepAction, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::broker_cluster::cluster::{Cluster, Pods};
use crate::broker_cluster::resources::{config::DATA, labels_of};

/// User and group of the engine in the image.
const USER: i64 = 10001;

/// What differs between the roles' pods.
pub struct Shape<'a> {
    /// Settings of the role.
    pub pods: &'a Pods,
    /// Labels that select these pods among the component's (a broker group), beside the component's own.
    pub selector: BTreeMap<String, String>,
    /// Name of the ConfigMap.
    pub config: String,
    /// Name of the ConfigMap of what the role takes while it runs.
    pub live: Option<String>,
    /// Headless Service that gives pods their names; `None` for pods without identity.
    pub service: Option<String>,
    /// Ports by name.
    pub ports: Vec<(&'static str, u16)>,
    /// Whether a volume claim `data` is mounted.
    pub data: bool,
    /// Seconds between the end of being an endpoint and SIGTERM.
    pub drain_seconds: Option<i64>,
    /// Seconds from SIGTERM to SIGKILL. Measured stops on an idle, slow machine: name server 5 s, controller 14 s, broker 21 s, proxy 18 s.
    pub grace_seconds: i64,
}

/// The template.
#[must_use]
pub fn template(cluster: &Cluster, shape: &Shape<'_>) -> PodTemplateSpec {
    let pods = shape.pods;
    let mut labels = pods.labels.clone();
    labels.extend(labels_of(cluster, pods.component));
    labels.extend(shape.selector.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: (!pods.annotations.is_empty()).then(|| pods.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(cluster.component(pods.component)),
            automount_service_account_token: Some(false),
            // One environment variable per Service of the namespace slows starts and leaks names.
            enable_service_links: Some(false),
            image_pull_secrets: (!cluster.pull_secrets.is_empty()).then(|| cluster.pull_secrets.clone()),
            security_context: Some(pod_security()),
            containers: vec![container(cluster, shape)],
            volumes: Some(volumes(shape)),
            termination_grace_period_seconds: Some(shape.grace_seconds),
            node_selector: (!pods.node_selector.is_empty()).then(|| pods.node_selector.clone()),
            tolerations: (!pods.tolerations.is_empty()).then(|| pods.tolerations.clone()),
            affinity: pods.affinity.clone(),
            priority_class_name: pods.priority_class.clone(),
            topology_spread_constraints: spread(shape),
            ..PodSpec::default()
        }),
    }
}

fn container(cluster: &Cluster, shape: &Shape<'_>) -> Container {
    let component = shape.pods.component;
    let ask = |path: &str| {
        let port = IntOrString::Int(i32::from(PROBE_PORT));
        Some(HTTPGetAction { path: Some(path.into()), port, ..HTTPGetAction::default() })
    };
    Container {
        name: component.as_str().into(),
        image: Some(cluster.image.clone()),
        args: Some(vec!["start".into(), component.as_str().into()]),
        env: Some(environment(cluster, shape)),
        ports: Some(
            shape
                .ports
                .iter()
                .chain([&("probe", PROBE_PORT)])
                .map(|(name, port)| ContainerPort {
                    name: Some((*name).into()),
                    container_port: i32::from(*port),
                    protocol: Some("TCP".into()),
                    ..ContainerPort::default()
                })
                .collect(),
        ),
        resources: Some(ResourceRequirements {
            requests: Some(shape.pods.requests.clone()),
            limits: Some(shape.pods.limits.clone()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(container_security()),
        volume_mounts: Some(mounts(shape)),
        // No limit of time for a start: a broker that replays its log does not listen, one that copies its master's answers and is not ready, and neither fails
        // what liveness asks, now or later. So there is no startup probe.
        readiness_probe: Some(Probe {
            http_get: ask("/ready"),
            period_seconds: Some(5),
            timeout_seconds: Some(5),
            failure_threshold: Some(2),
            ..Probe::default()
        }),
        // Only a process that takes connections and answers none for five minutes is restarted.
        liveness_probe: Some(Probe {
            http_get: ask("/live"),
            period_seconds: Some(30),
            timeout_seconds: Some(5),
            failure_threshold: Some(10),
            ..Probe::default()
        }),
        lifecycle: shape.drain_seconds.map(|seconds| Lifecycle {
            pre_stop: Some(LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    }
}

fn environment(cluster: &Cluster, shape: &Shape<'_>) -> Vec<EnvVar> {
    let value = |name: &str, value: String| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() };
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: path.into() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut env = vec![field("POD_NAME", "metadata.name"), field("POD_IP", "status.podIP")];
    if let Some(service) = &shape.service {
        let service = gantry_crds::names::service_host(service, &cluster.namespace, &cluster.domain);
        env.push(value("GANTRY_HOST", format!("$(POD_NAME).{service}")));
    }
    env.push(value("GANTRY_CLUSTER", cluster.name.clone()));
    // Brokers read them in what they take while they run: another number of name servers restarts none.
    if shape.pods.component == Component::Proxy {
        env.push(value("GANTRY_NAMESERVERS", cluster.name_server_addresses().join(";")));
    }
    env.push(value("GANTRY_CONTROLLERS", cluster.controller_addresses().join(";")));
    env
}

fn mounts(shape: &Shape<'_>) -> Vec<VolumeMount> {
    let mount =
        |name: &str, path: &str| VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() };
    let mut m = vec![
        VolumeMount { read_only: Some(true), ..mount("config", "/etc/rocketmq") },
        mount("run", "/run/rocketmq"),
        mount("tmp", "/tmp"),
    ];
    if shape.live.is_some() {
        m.push(VolumeMount { read_only: Some(true), ..mount("live", "/etc/rocketmq-live") });
    }
    if shape.data {
        m.push(mount("data", DATA));
    }
    m
}

fn volumes(shape: &Shape<'_>) -> Vec<Volume> {
    let scratch = |name: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let files = |name: &str, map: &String| Volume {
        name: name.into(),
        config_map: Some(ConfigMapVolumeSource { name: map.clone(), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let mut volumes = vec![files("config", &shape.config), scratch("run"), scratch("tmp")];
    volumes.extend(shape.live.as_ref().map(|map| files("live", map)));
    volumes
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume of a terabyte is not walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        ..SecurityContext::default()
    }
}

/// Over nodes as a must: with as many nodes as replicas none is shared, with fewer they are shared evenly, and nodes with taints (drained, gone)
/// do not count. Over zones where possible: nodes may have no zone label at all.
fn spread(shape: &Shape<'_>) -> Option<Vec<TopologySpreadConstraint>> {
    if let Some(own) = &shape.pods.spread {
        return (!own.is_empty()).then(|| own.clone());
    }
    let selector = Some(LabelSelector { match_labels: Some(shape.selector.clone()), ..LabelSelector::default() });
    let over_nodes = if shape.pods.component == Component::Proxy { "ScheduleAnyway" } else { "DoNotSchedule" };
    let constraint = |key: &str, when: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.into(),
        when_unsatisfiable: when.into(),
        node_taints_policy: Some("Honor".into()),
        label_selector: selector.clone(),
        ..TopologySpreadConstraint::default()
    };
    Some(vec![
        constraint("kubernetes.io/hostname", over_nodes),
        constraint("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ])
}
