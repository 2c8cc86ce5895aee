//! From the raw spec to a `Cluster`: every default resolved, every quantity a number, nothing left that can be wrong.

use std::collections::BTreeMap;

use gantry_crds::broker_cluster::{BrokerCluster, ReclaimPolicy};
use gantry_crds::names::Component;
use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::role::Role;
use gantry_crds::{ACCEPT_HAZARDS_ANNOTATION, APPROVE_PLAN_ANNOTATION, PAUSED_ANNOTATION, RETRY_UPGRADE_ANNOTATION};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

use crate::broker_cluster::approval;
use crate::broker_cluster::cluster::{
    Brokers, Cluster, Controllers, Extent, Mode, NameServers, Pods, Proxies, ProxyScale, Volume,
};
use crate::broker_cluster::keys;
use crate::broker_cluster::memory::Memory;
use crate::broker_cluster::version::Version;
use crate::config::Settings;
use crate::quantity;

/// Seconds that a pod of another version may need until it serves, where nothing else is declared.
const UPGRADE_TIMEOUT: i64 = 600;

/// The spec asks for something that the schema could not refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A free-form field is not what Kubernetes takes there.
    #[error("{field} is not what a pod takes there ({problem}): write it as in a pod's spec")]
    NotAPodField {
        /// Path in the spec.
        field: String,
        /// What the parser said.
        problem: String,
    },
    /// The memory limit is too small for the role to run.
    #[error("{field} is {given} MiB, less than the {least} MiB that this role needs to run: write {least}Mi or more")]
    TooLittleMemory {
        /// Path in the spec.
        field: String,
        /// MiB given.
        given: i64,
        /// MiB needed.
        least: i64,
    },
    /// The memory limit is large enough, and the heap's share of it is not what the rest can live with.
    #[error("{field}: {percent} does not fit a limit of {limit} MiB: {}, or a larger resources.limits.memory", advice.map_or_else(|| "remove it".to_owned(), |(least, most)| format!("write {least} to {most}")))]
    HeapDoesNotFit {
        /// Path in the spec.
        field: String,
        /// Percent given.
        percent: i32,
        /// The memory limit, in MiB.
        limit: i64,
        /// Least and most percent that fit, where some do.
        advice: Option<(i32, i32)>,
    },
    /// The engine has no such key.
    #[error("RocketMQ {version} has no key {key} ({field}): {}", advice.as_ref().map_or_else(|| "remove it".to_owned(), |k| format!("write {k}")))]
    UnknownKey {
        /// Path in the spec.
        field: String,
        /// The key.
        key: String,
        /// The engine's version.
        version: String,
        /// The key that was probably meant.
        advice: Option<String>,
    },
    /// The engine has it from a later version on.
    #[error("RocketMQ {version} does not have key {key} yet ({field}): remove it, or write version: {since} or later")]
    KeyTooNew {
        /// Path in the spec.
        field: String,
        /// The key.
        key: String,
        /// The engine's version.
        version: String,
        /// First version that has it.
        since: Version,
    },
    /// The object has no name, namespace or uid, so it never came from an API server.
    #[error("the object has no {0}: apply it to an API server first")]
    NotFromServer(&'static str),
}

/// Parses a BrokerCluster.
///
/// # Errors
/// Where the spec asks for something that can't be: see [`InvalidSpec`].
pub fn parse(object: &BrokerCluster, settings: &Settings) -> Result<Cluster, InvalidSpec> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().ok_or(InvalidSpec::NotFromServer("name"))?;
    let namespace = object.metadata.namespace.clone().ok_or(InvalidSpec::NotFromServer("namespace"))?;
    let owner = object.controller_owner_ref(&()).ok_or(InvalidSpec::NotFromServer("uid"))?;
    let replicated = spec.brokers.replicas > 1;
    let retain = spec.brokers.storage.reclaim_policy == ReclaimPolicy::Retain;
    let annotation = |key: &str| object.metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned();
    let accepted = annotation(ACCEPT_HAZARDS_ANNOTATION).unwrap_or_default();
    let cluster = Cluster {
        name,
        namespace,
        generation: object.metadata.generation,
        owner: OwnerReference { block_owner_deletion: Some(true), ..owner },
        domain: settings.cluster_domain.clone(),
        version: spec.version.clone(),
        image: spec.image.clone().unwrap_or_else(|| settings.image(&spec.version)),
        pull_secrets: spec.image_pull_secrets.clone(),
        engines: BTreeMap::new(),
        upgrade_timeout: match quantity::milliseconds(&spec.upgrade_timeout) / 1000 {
            0 => UPGRADE_TIMEOUT,
            seconds => seconds,
        },
        retry: annotation(RETRY_UPGRADE_ANNOTATION),
        accepted: accepted.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        mode: mode(object),
        plan_hash: None,
        name_servers: NameServers {
            replicas: spec.name_servers.replicas.unwrap_or(if replicated { 2 } else { 1 }),
            pods: pods(Component::NameServer, "nameServers", &spec.name_servers.role, &spec.version)?,
        },
        controllers: Controllers {
            replicas: spec.controllers.replicas.unwrap_or(if replicated { 3 } else { 1 }),
            volume: Volume {
                size: spec.controllers.storage.size.clone(),
                class: spec.controllers.storage.class.clone(),
                retain,
            },
            pods: pods(Component::Controller, "controllers", &spec.controllers.role, &spec.version)?,
        },
        brokers: Brokers {
            groups: spec.brokers.groups,
            replicas: spec.brokers.replicas,
            extent: Extent::default(),
            min_in_sync: spec.brokers.min_in_sync_replicas.unwrap_or(if spec.brokers.replicas >= 3 { 2 } else { 1 }),
            max_unavailable: usize::try_from(spec.brokers.max_unavailable_groups).unwrap_or(1),
            drain: spec.brokers.drain_before_restart,
            volume: Volume {
                size: spec.brokers.storage.size.clone(),
                class: spec.brokers.storage.class.clone(),
                retain,
            },
            give_up_after: spec.brokers.storage.give_up_after.as_deref().map(|t| quantity::milliseconds(t) / 1000),
            pods: pods(Component::Broker, "brokers", &spec.brokers.role, &spec.version)?,
        },
        proxies: Proxies {
            scale: match &spec.proxies.autoscaling {
                Some(a) => ProxyScale::Auto(a.clone()),
                None => ProxyScale::Fixed(spec.proxies.replicas.unwrap_or(1)),
            },
            pods: pods(Component::Proxy, "proxies", &spec.proxies.role, &spec.version)?,
        },
        endpoints: spec.endpoints.clone(),
        metrics: spec.metrics.enabled,
    };
    Ok(approval::judged(cluster, spec, annotation(APPROVE_PLAN_ANNOTATION).as_deref()))
}

fn mode(object: &BrokerCluster) -> Mode {
    let paused =
        object.metadata.annotations.as_ref().and_then(|a| a.get(PAUSED_ANNOTATION)).is_some_and(|v| v == "true");
    match object.spec.reconcile_policy {
        _ if paused => Mode::Paused,
        ReconcilePolicy::Apply => Mode::Apply,
        ReconcilePolicy::Plan => Mode::Plan,
        ReconcilePolicy::Observe => Mode::Observe,
    }
}

fn pods(component: Component, field: &str, role: &Role, version: &str) -> Result<Pods, InvalidSpec> {
    if let Some((key, advice)) = role.config.keys().find_map(|k| Some((k, keys::unknown(component, version, k)?))) {
        let (field, key) = (format!("spec.{field}.config"), key.clone());
        return Err(InvalidSpec::UnknownKey { field, key, version: version.into(), advice: advice.map(str::to_owned) });
    }
    if let Some((key, since)) = role.config.keys().find_map(|k| Some((k, keys::too_new(component, version, k)?))) {
        let (field, key) = (format!("spec.{field}.config"), key.clone());
        return Err(InvalidSpec::KeyTooNew { field, key, version: version.into(), since });
    }
    let resources = role.resources.clone().unwrap_or_default();
    let (mut requests, mut limits) = (resources.requests, resources.limits);
    // Without a limit the JVM would size itself by the node; a request alone is taken as the limit.
    let memory = limits
        .get("memory")
        .or_else(|| requests.get("memory"))
        .cloned()
        .unwrap_or_else(|| Quantity(format!("{}Mi", Memory::default_limit(component))));
    let limit = quantity::mebibytes(&memory.0).unwrap_or(0);
    let heap_percent = role.jvm.as_ref().and_then(|j| j.heap_percent);
    let memory_split = Memory::divide(component, limit, heap_percent).ok_or_else(|| match heap_percent {
        Some(percent) if limit >= Memory::least(component) => InvalidSpec::HeapDoesNotFit {
            field: format!("spec.{field}.jvm.heapPercent"),
            percent,
            limit,
            advice: Memory::heap_percents(component, limit),
        },
        _ => InvalidSpec::TooLittleMemory {
            field: format!("spec.{field}.resources.limits.memory"),
            given: limit,
            least: Memory::least(component),
        },
    })?;
    limits.entry("memory".into()).or_insert_with(|| memory.clone());
    requests.entry("memory".into()).or_insert(memory);
    requests.entry("cpu".into()).or_insert_with(|| default_cpu(component));
    let scheduling = role.scheduling.clone().unwrap_or_default();
    Ok(Pods {
        component,
        requests,
        limits,
        memory: memory_split,
        config: role.config.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect(),
        jvm_options: role.jvm.as_ref().map(|j| j.options.clone()).unwrap_or_default(),
        node_selector: scheduling.node_selector,
        tolerations: scheduling.tolerations,
        affinity: scheduling
            .affinity
            .map(|v| pod_field(&format!("spec.{field}.scheduling.affinity"), v))
            .transpose()?,
        spread: scheduling
            .topology_spread_constraints
            .map(|v| {
                pod_field(&format!("spec.{field}.scheduling.topologySpreadConstraints"), serde_json::Value::Array(v))
            })
            .transpose()?,
        priority_class: scheduling.priority_class_name,
        labels: role.labels.clone(),
        annotations: role.annotations.clone(),
    })
}

/// What a role needs when it does little; small, so that a development cluster fits a small node.
fn default_cpu(component: Component) -> Quantity {
    Quantity(
        match component {
            Component::NameServer | Component::Controller => "50m",
            Component::Broker => "200m",
            Component::Proxy => "100m",
        }
        .into(),
    )
}

fn pod_field<T: serde::de::DeserializeOwned>(field: &str, value: serde_json::Value) -> Result<T, InvalidSpec> {
    serde_json::from_value(value).map_err(|e| InvalidSpec::NotAPodField { field: field.into(), problem: e.to_string() })
}
