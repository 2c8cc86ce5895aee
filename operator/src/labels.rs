//! Labels, annotations and the field manager: how Gantry's objects are recognised.

use std::collections::BTreeMap;

use gantry_crds::names::Component;

/// Field manager of every server-side apply, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "gantry";
/// `app.kubernetes.io/name` of every child.
pub const NAME: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/instance`: the BrokerCluster's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/component`: the role.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `app.kubernetes.io/version`: the engine's version. Never part of a selector.
pub const VERSION: &str = "app.kubernetes.io/version";
/// Broker group (the engine's brokerName) of a broker pod.
pub const GROUP: &str = "rocketmq.gantry.dev/broker-group";
/// Annotation of every child: stamp of what was applied, so that a field that is no longer declared is noticed.
pub const APPLIED: &str = "gantry.dev/applied";

/// Annotation of every StatefulSet: how many pods Gantry declared last. `spec.replicas` may have been scaled by hand, and that is put right, not believed.
pub const REPLICAS: &str = "gantry.dev/replicas";

/// Annotation of a broker group's StatefulSet: where the group is on its way in or out. Without it the group takes messages.
pub const PHASE: &str = "gantry.dev/phase";

/// Annotation of a StatefulSet: claims of its pods that are being deleted. Its controller makes no pod before the pod's claim is gone, tries that again
/// after 5 ms, 10 ms, 20 ms and so on up to 1000 s (client-go's default), and at once when the StatefulSet changes: here it does, as soon as they are gone.
pub const CLAIMS_GOING: &str = "gantry.dev/claims-going";

/// Label of a broker pod: what it is in its group, `master` or `slave`. Disruption budgets go by it.
pub const ROLE: &str = "rocketmq.gantry.dev/role";
/// Value of [`ROLE`]: it leads its group.
pub const MASTER: &str = "master";
/// Value of [`ROLE`]: any other replica.
pub const SLAVE: &str = "slave";

/// Annotation of a broker pod that was master and handed over: where its log ended then, in bytes. See docs/design/0008-failover.md.
pub const LOG_END: &str = "gantry.dev/log-end";

/// Label of nodes, and since Kubernetes 1.35 of their pods.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Labels that select the pods of a component; immutable in StatefulSets.
#[must_use]
pub fn selector(cluster: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.into(), "rocketmq".into()),
        (INSTANCE.into(), cluster.into()),
        (COMPONENT.into(), component.as_str().into()),
    ])
}

/// Label selector of everything that belongs to a cluster, for list calls.
#[must_use]
pub fn of_cluster(cluster: &str) -> String {
    format!("{MANAGED_BY}={MANAGER},{INSTANCE}={cluster}")
}

/// Label selector of the claims of a cluster's volumes: StatefulSets give them the labels that select pods.
#[must_use]
pub fn of_claims(cluster: &str) -> String {
    format!("{NAME}=rocketmq,{INSTANCE}={cluster}")
}

/// A stable stamp of a text (FNV-1a, 64 bits, 10 hexadecimal digits of it): names of ConfigMaps and the `applied` annotation.
/// Written out here because the standard library's hashers may change with the compiler, and then every pod would roll.
#[must_use]
pub fn stamp(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:010x}", hash >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_never_changes_with_the_compiler() {
        assert_eq!(stamp("listenPort=9876\n"), "7eb1316f4f");
        assert_ne!(stamp("a"), stamp("b"));
    }
}
