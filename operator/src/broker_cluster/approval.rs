//! Plan mode: what is declared has a stamp, and an annotation that holds this very stamp approves it. Pure.

use gantry_crds::BrokerClusterSpec;
use gantry_crds::policy::ReconcilePolicy;
use serde_json::json;

use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::resources::resources;
use crate::labels;

/// The cluster with its mode, and the stamp where it needs approval. Approved, it is made as declared and kept so until something else is declared,
/// through as many passes and starts of the operator as it takes.
#[must_use]
pub fn judged(cluster: Cluster, spec: &BrokerClusterSpec, approved: Option<&str>) -> Cluster {
    if spec.reconcile_policy != ReconcilePolicy::Plan {
        return cluster;
    }
    let hash = stamp(&cluster, spec);
    let mode = if cluster.mode == Mode::Plan && approved == Some(&hash) { Mode::Apply } else { cluster.mode };
    Cluster { mode, plan_hash: Some(hash), ..cluster }
}

/// Of everything that decides about the outcome: what is declared, what is accepted and tried again, and what this operator makes of it. Not of what
/// there is: it changes with every step of the way.
fn stamp(cluster: &Cluster, spec: &BrokerClusterSpec) -> String {
    let spec = BrokerClusterSpec { reconcile_policy: ReconcilePolicy::Apply, ..spec.clone() };
    let all = json!([spec, cluster.accepted, cluster.retry, resources(cluster)]);
    labels::stamp(&all.to_string())
}

#[cfg(test)]
mod tests {
    use gantry_crds::BrokerCluster;
    use serde_json::Value;

    use super::*;
    use crate::broker_cluster::parse::parse;
    use crate::config::Settings;

    fn parsed(spec: Value, annotations: Value) -> Cluster {
        let object: BrokerCluster = serde_json::from_value(json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "spec": spec,
            "metadata": {"name": "shop", "namespace": "ns", "uid": "u", "annotations": annotations},
        }))
        .unwrap();
        parse(&object, &Settings::default()).unwrap()
    }

    #[test]
    fn a_plan_is_approved_by_its_very_stamp_and_by_no_other() {
        let spec = json!({"reconcilePolicy": "Plan", "brokers": {"groups": 2}});
        let first = parsed(spec.clone(), json!({}));
        assert_eq!(first.mode, Mode::Plan);
        let hash = first.plan_hash.unwrap();
        assert_eq!(hash.len(), 10);
        let approved = json!({"gantry.dev/approve-plan": hash});
        let again = parsed(spec.clone(), approved.clone());
        assert_eq!((again.mode, again.plan_hash.as_ref()), (Mode::Apply, Some(&hash)));
        for other in [
            json!({"reconcilePolicy": "Plan", "brokers": {"groups": 3}}),
            // Nothing that any child would show.
            json!({"reconcilePolicy": "Plan", "brokers": {"groups": 2, "storage": {"giveUpAfter": "10m"}}}),
            json!({"reconcilePolicy": "Plan", "brokers": {"groups": 2}, "upgradeTimeout": "1m"}),
        ] {
            let changed = parsed(other.clone(), approved.clone());
            assert_eq!(changed.mode, Mode::Plan, "{other}");
            assert_ne!(changed.plan_hash.as_ref(), Some(&hash), "{other}");
        }
        assert_eq!(parsed(spec.clone(), json!({"gantry.dev/approve-plan": ""})).mode, Mode::Plan);
        assert_eq!(parsed(spec, json!({"gantry.dev/approve-plan": "0123456789"})).mode, Mode::Plan);
    }

    #[test]
    fn what_is_accepted_is_a_part_of_the_plan() {
        let hash = |annotations| parsed(json!({"reconcilePolicy": "Plan"}), annotations).plan_hash.unwrap();
        let plain = hash(json!({}));
        assert_ne!(plain, hash(json!({"gantry.dev/accept-hazards": "skipped-minor"})));
        assert_ne!(plain, hash(json!({"gantry.dev/retry-upgrade": "now"})));
        assert_eq!(plain, hash(json!({"example.com/mine": "x"})));
    }

    #[test]
    fn approval_changes_nothing_where_none_is_needed() {
        let hash = parsed(json!({"reconcilePolicy": "Plan"}), json!({})).plan_hash.unwrap();
        let with = |policy: &str, paused: &str| {
            let annotations = json!({"gantry.dev/approve-plan": hash, "gantry.dev/paused": paused});
            parsed(json!({"reconcilePolicy": policy}), annotations).mode
        };
        assert_eq!(with("Observe", "false"), Mode::Observe);
        assert_eq!(with("Apply", "false"), Mode::Apply);
        assert_eq!(with("Plan", "true"), Mode::Paused);
    }
}
