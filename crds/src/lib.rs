//! The Kubernetes API of Gantry, group `rocketmq.gantry.dev`, version `v1alpha1`.
//!
//! Types, their validation rules (OpenAPI schema and CEL), names of children, conditions and reasons. No client, no
//! runtime: whatever needs one lives in the operator. The committed `manifests/` are generated from these types by
//! `gantry crds` and compared in a test.

pub mod admission;
pub mod broker_cluster;
pub mod condition;
pub mod consumer_group;
pub mod names;
pub mod policy;
pub mod role;
pub mod status;
pub mod tenant;
pub mod topic;

pub use broker_cluster::{BrokerCluster, BrokerClusterSpec};
pub use condition::{Condition, ConditionType, Reason};
pub use consumer_group::{ConsumerGroup, ConsumerGroupSpec};
pub use policy::{ClusterRef, ReconcilePolicy};
pub use status::BrokerClusterStatus;
pub use topic::{Topic, TopicSpec};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

/// The API group of every kind.
pub const GROUP: &str = "rocketmq.gantry.dev";

/// `metadata.annotations` key that, set to `"true"`, stops every write on behalf of the annotated object.
pub const PAUSED_ANNOTATION: &str = "gantry.dev/paused";

/// `metadata.annotations` key of a Topic or ConsumerGroup that, set to `"true"`, lets it take over what is in the engine with other settings: those
/// that it declares are written. Without it a new object changes nothing that was there before it.
pub const ADOPT_ANNOTATION: &str = "gantry.dev/adopt";

/// `metadata.annotations` key of a BrokerCluster that confirms mass deletions of its topics and consumer groups: a time, e.g.
/// `2026-01-31T12:00:00Z`; whatever was deleted until then is meant.
pub const CONFIRM_DELETIONS_ANNOTATION: &str = "gantry.dev/confirm-deletions";

/// `metadata.annotations` key of a BrokerCluster with `reconcilePolicy: Plan`: `status.planHash` of the plan that is approved.
pub const APPROVE_PLAN_ANNOTATION: &str = "gantry.dev/approve-plan";

/// `metadata.annotations` key of a BrokerCluster: names of hazards that are accepted, separated by commas. docs/how-to/upgrade.md lists them.
pub const ACCEPT_HAZARDS_ANNOTATION: &str = "gantry.dev/accept-hazards";

/// `metadata.annotations` key of a BrokerCluster: another value than before lets Gantry try an upgrade again that was rolled back or stopped.
pub const RETRY_UPGRADE_ANNOTATION: &str = "gantry.dev/retry-upgrade";

/// The definitions of all kinds, in the order in which they are applied.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![BrokerCluster::crd(), waiting(Topic::crd()), waiting(ConsumerGroup::crd())]
}

/// The same with a status from the first moment on: until an operator looks at an object, it says that it waits, and that costs no write.
fn waiting(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let condition = serde_json::json!({
        "type": ConditionType::Ready.as_str(), "status": "Unknown", "reason": Reason::Waiting.as_str(),
        "message": "waits for its turn", "lastTransitionTime": "1970-01-01T00:00:00Z",
    });
    let schemas = definition.spec.versions.iter_mut().filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|s| s.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({"conditions": [condition]})));
    }
    definition
}
