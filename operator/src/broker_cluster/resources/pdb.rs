//! PodDisruptionBudgets: a drained node takes at most one pod of a component, or of a broker group, at a time.

use std::collections::BTreeMap;

use gantry_crds::names::Component;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::broker_cluster::parse::Cluster;
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

/// Of a broker group. A replica is ready only while it is in sync, so the budget counts copies that hold every acknowledged message.
#[must_use]
pub fn of_group(cluster: &Cluster, group: &str) -> PodDisruptionBudget {
    let selector = group_selector(cluster, group);
    let mut meta = metadata(cluster, Component::Broker, group.to_owned());
    if let Some(labels) = &mut meta.labels {
        labels.extend(selector.clone());
    }
    budget(meta, selector, IntOrString::Int(1))
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
