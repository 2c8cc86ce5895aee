//! What matters of a pod.

use std::collections::BTreeSet;

use gantry_crds::names::Component;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::labels;

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFact {
    /// Name.
    pub name: String,
    /// This very pod, not a later one of the same name.
    pub uid: String,
    /// Role.
    pub component: Component,
    /// StatefulSet that it belongs to; empty for proxies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// Revision of its template (`controller-revision-hash`); empty for proxies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Whether its readiness probe says that it serves.
    pub ready: bool,
    /// Whether it is being deleted.
    #[serde(default)]
    pub terminating: bool,
    /// ConfigMaps that it mounts: they stay until it is gone.
    #[serde(default)]
    pub config_maps: BTreeSet<String>,
    /// Engine version that it runs, by label.
    #[serde(default)]
    pub version: String,
    /// Image that it runs.
    #[serde(default)]
    pub image: String,
    /// When it was made, in seconds of the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// Since when it is ready, or not, in seconds of the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// How often its container was started again after it had ended by itself.
    #[serde(default)]
    pub restarts: i32,
    /// Why it does not run, as Kubernetes says: `ImagePullBackOff: …`, `Unschedulable: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Zone of that node: Kubernetes 1.35 and later labels pods with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What its label says it is in its broker group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where its log ended when it handed over, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_end: Option<i64>,
    /// Its address now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Since when its node is gone, in seconds of the epoch, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<i64>,
}

impl PodFact {
    /// The facts of a pod, or `None` where its labels are not those of an engine pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let label = |key: &str| pod.labels().get(key).cloned().unwrap_or_default();
        let component = Component::from_name(&label(labels::COMPONENT))?;
        let spec = pod.spec.as_ref();
        let volumes = spec.and_then(|s| s.volumes.as_ref()).into_iter().flatten();
        let owner = pod.owner_references().iter().find(|o| o.kind == "StatefulSet");
        Some(Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            component,
            set: owner.map(|o| o.name.clone()).unwrap_or_default(),
            revision: owner.map(|_| label("controller-revision-hash")).unwrap_or_default(),
            ready: condition(pod, "Ready").is_some_and(|(status, _)| status == "True"),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            config_maps: volumes.filter_map(|v| v.config_map.as_ref()).map(|c| c.name.clone()).collect(),
            version: label(labels::VERSION),
            image: spec.and_then(|s| s.containers.first()?.image.clone()).unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map(|t| t.0.as_second()),
            since: since(pod),
            restarts: restarts(pod),
            trouble: trouble(pod),
            node: spec.and_then(|s| s.node_name.clone()),
            zone: pod.labels().get(labels::ZONE).cloned(),
            log_end: pod.annotations().get(labels::LOG_END).and_then(|end| end.parse().ok()),
            role: pod.labels().get(labels::ROLE).cloned(),
            ip: pod.status.as_ref().and_then(|s| s.pod_ip.clone()),
            gone_since: gone_since(pod),
        })
    }
}

/// A node says nothing of itself here: Gantry has no right to read nodes. But a kubelet that answers ends a pod within its time of grace, and a pod
/// whose volume is on a node that is no more fits nowhere.
fn gone_since(pod: &Pod) -> Option<i64> {
    if let Some(ends) = &pod.metadata.deletion_timestamp {
        return Some(ends.0.as_second());
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = scheduled.message.as_deref()?.to_lowercase();
    // `had volume node affinity conflict`, `didn't match PersistentVolume's node affinity`, `bound to non-existent persistentvolume`, `… pv(s)`: not a
    // mere lack of room.
    let volume =
        message.contains("volume") && message.contains("node affinity") || message.contains("bound to non-existent");
    volume.then(|| scheduled.last_transition_time.as_ref().map(|t| t.0.as_second())).flatten()
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let c = conditions.iter().find(|c| c.type_ == type_)?;
    Some((&c.status, c.message.as_deref()))
}

fn since(pod: &Pod) -> Option<i64> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|c| c.type_ == "Ready"));
    let changed = ready.and_then(|c| c.last_transition_time.as_ref());
    changed.or(pod.metadata.creation_timestamp.as_ref()).map(|t| t.0.as_second())
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.and_then(|all| all.first()).map_or(0, |c| c.restart_count)
}

fn trouble(pod: &Pod) -> Option<String> {
    if let Some(("False", message)) = condition(pod, "PodScheduled") {
        return Some(format!("Unschedulable: {}", message.unwrap_or("no node fits")));
    }
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    // These two are on the way of every start.
    if reason == "ContainerCreating" || reason == "PodInitializing" {
        return None;
    }
    Some(match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(status: serde_json::Value) -> Option<i64> {
        gone_since(&serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "status": status})).unwrap())
    }

    fn unscheduled(message: &str) -> serde_json::Value {
        serde_json::json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "lastTransitionTime": "1970-01-01T00:01:00Z", "message": message},
        ]})
    }

    #[test]
    fn a_pod_whose_volume_is_where_no_node_is_has_lost_its_node() {
        for message in [
            "0/3 nodes are available: 1 node(s) had volume node affinity conflict, 2 Insufficient cpu.",
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
            "persistentvolumeclaim \"data-shop-broker-0-1\" bound to non-existent persistentvolume \"pv-1\"",
            "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
        ] {
            assert_eq!(gone(unscheduled(message)), Some(60), "{message}");
        }
    }

    #[test]
    fn a_pod_that_waits_for_room_or_for_a_volume_has_not() {
        for message in [
            "0/3 nodes are available: 3 Insufficient memory.",
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        ] {
            assert_eq!(gone(unscheduled(message)), None, "{message}");
        }
        assert_eq!(gone(serde_json::json!({"conditions": [{"type": "PodScheduled", "status": "True"}]})), None);
    }
}
