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

/// Of a broker group: slaves go one at a time, the master not before it has become one, and is in sync again. A replica is ready only while it is in sync, so the budget counts
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
    let of_role = |operator: &str| PodDisruptionBudgetSpec {
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
    // A number that must stay: of the pods that a budget selects here Kubernetes counts the whole StatefulSet as wanted, and would let no slave go.
    let slaves = PodDisruptionBudgetSpec { min_available: Some(IntOrString::Int(replicas - 2)), ..of_role("NotIn") };
    // None at all, however many there are: while a former master is not in sync there are two, and not even one that is not ready goes (Kubernetes lets those
    // go where as many as must stay are ready).
    let master = PodDisruptionBudgetSpec { max_unavailable: Some(IntOrString::Int(0)), ..of_role("In") };
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
