//! PodDisruptionBudgets: a drained node takes at most one pod of a component, or one slave of a broker group, at a time.

use std::collections::BTreeMap;

use gantry_crds::names::Component;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::{group_selector, metadata};
use crate::labels;

/// Of a whole component.
#[must_use]
pub fn of_component(cluster: &Cluster, component: Component) -> PodDisruptionBudget {
    let meta = metadata(cluster, component, cluster.component(component));
    // Of many proxies a tenth may go at once, so that draining a large cluster ends.
    let unavailable = if component == Component::Proxy && cluster.most_proxies() > 10 {
        IntOrString::String("10%".into())
    } else {
        IntOrString::Int(1)
    };
    budget(meta, labels::selector(&cluster.name, component), unavailable)
}

/// Of a broker group: slaves go one at a time, the master not before it has become one. A replica is ready only while it is in sync, so the budget counts
/// copies that hold every acknowledged message. A single replica may go: its pause is what a single replica means.
#[must_use]
pub fn of_group(cluster: &Cluster, group: &str) -> Vec<PodDisruptionBudget> {
    let selector = group_selector(cluster, group);
    let meta = |name: String| {
        let mut meta = metadata(cluster, Component::Broker, name);
        if let Some(labels) = &mut meta.labels {
            labels.extend(selector.clone());
        }
        meta
    };
    let replicas = cluster.replicas_of(group);
    if replicas < 2 {
        return vec![budget(meta(group.to_owned()), selector.clone(), IntOrString::Int(1))];
    }
    // Numbers that must stay: of the pods that a budget selects here Kubernetes would count the whole StatefulSet as wanted.
    let of_role = |operator: &str, least: i32| PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(least)),
        selector: Some(LabelSelector {
            match_labels: Some(selector.clone()),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: labels::ROLE.into(),
                operator: operator.into(),
                values: Some(vec![labels::MASTER.into()]),
            }]),
        }),
        ..PodDisruptionBudgetSpec::default()
    };
    let slaves = of_role("NotIn", replicas - 2);
    let master = of_role("In", 1);
    vec![
        PodDisruptionBudget { metadata: meta(group.to_owned()), spec: Some(slaves), ..PodDisruptionBudget::default() },
        PodDisruptionBudget {
            metadata: meta(format!("{group}-master")),
            spec: Some(master),
            ..PodDisruptionBudget::default()
        },
    ]
}

fn budget(
    metadata: ObjectMeta,
    selector: BTreeMap<String, String>,
    max_unavailable: IntOrString,
) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(max_unavailable),
            selector: Some(LabelSelector { match_labels: Some(selector), ..LabelSelector::default() }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
