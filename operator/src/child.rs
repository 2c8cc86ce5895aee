//! One child object as plain data, and what is to be written of it.

use std::fmt;

use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use crate::diff::differences;
use crate::labels;

/// The kinds of children, in the order in which they are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ChildKind {
    /// v1
    ServiceAccount,
    /// v1
    ConfigMap,
    /// v1
    Service,
    /// policy/v1
    PodDisruptionBudget,
    /// apps/v1
    StatefulSet,
    /// apps/v1
    Deployment,
    /// autoscaling/v2
    HorizontalPodAutoscaler,
}

impl ChildKind {
    /// How the API server is asked for this kind.
    #[must_use]
    pub fn api_resource(self) -> ApiResource {
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            let gvk = GroupVersionKind::gvk(&K::group(&()), &K::version(&()), &K::kind(&()));
            ApiResource::from_gvk_with_plural(&gvk, &K::plural(&()))
        }
        match self {
            Self::ServiceAccount => of::<ServiceAccount>(),
            Self::ConfigMap => of::<ConfigMap>(),
            Self::Service => of::<Service>(),
            Self::PodDisruptionBudget => of::<PodDisruptionBudget>(),
            Self::StatefulSet => of::<StatefulSet>(),
            Self::Deployment => of::<Deployment>(),
            Self::HorizontalPodAutoscaler => of::<HorizontalPodAutoscaler>(),
        }
    }

    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => ServiceAccount::KIND,
            Self::ConfigMap => ConfigMap::KIND,
            Self::Service => Service::KIND,
            Self::PodDisruptionBudget => PodDisruptionBudget::KIND,
            Self::StatefulSet => StatefulSet::KIND,
            Self::Deployment => Deployment::KIND,
            Self::HorizontalPodAutoscaler => HorizontalPodAutoscaler::KIND,
        }
    }
}

/// Which child.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ChildRef {
    /// Kind.
    pub kind: ChildKind,
    /// Name.
    pub name: String,
}

impl fmt::Display for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

/// One write to the Kubernetes API. Decided by `plan`, executed by `apply`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "write", rename_all = "camelCase")]
pub enum Write {
    /// There is none: make it.
    Create {
        /// Which.
        child: ChildRef,
        /// The whole object.
        #[serde(skip)]
        object: Value,
    },
    /// It differs: apply what is declared.
    Update {
        /// Which.
        child: ChildRef,
        /// The whole object.
        #[serde(skip)]
        object: Value,
        /// Paths that differ.
        differences: Vec<String>,
    },
    /// It is not declared any more.
    Delete {
        /// Which.
        child: ChildRef,
        /// The very object, so that a new one of the same name is not hit.
        #[serde(skip)]
        uid: String,
    },
}

impl Write {
    /// Which child is written.
    #[must_use]
    pub fn child(&self) -> &ChildRef {
        match self {
            Self::Create { child, .. } | Self::Update { child, .. } | Self::Delete { child, .. } => child,
        }
    }
}

/// Writes that turn `live` into `declared`, for one kind. Live objects that are not declared are deleted where `prune` says so.
///
/// # Errors
/// Where an object can't be written as JSON, which would be a defect of its type.
pub fn compare<K>(
    kind: ChildKind,
    declared: &[K],
    live: &[K],
    prune: impl Fn(&K) -> bool,
) -> Result<Vec<Write>, serde_json::Error>
where
    K: Resource + Serialize,
{
    let mut writes = Vec::new();
    for object in declared {
        let child = ChildRef { kind, name: object.name_any() };
        let object = stamped(kind, serde_json::to_value(object)?);
        match live.iter().find(|l| l.name_any() == child.name) {
            None => writes.push(Write::Create { child, object }),
            Some(l) => {
                let mut differences = differences(&object, &serde_json::to_value(l)?);
                // People want to know what changed; the stamp says it only where nothing else does.
                if differences.len() > 1 {
                    differences.retain(|path| !path.ends_with(labels::APPLIED));
                }
                if !differences.is_empty() {
                    writes.push(Write::Update { child, object, differences });
                }
            }
        }
    }
    for l in live.iter().filter(|l| !declared.iter().any(|d| d.name_any() == l.name_any()) && prune(l)) {
        if l.meta().deletion_timestamp.is_none() {
            writes
                .push(Write::Delete { child: ChildRef { kind, name: l.name_any() }, uid: l.uid().unwrap_or_default() });
        }
    }
    Ok(writes)
}

/// The object with the stamp of itself among its annotations. Without the number of a Deployment's replicas: it is always declared, and where an autoscaler
/// decides it is what the live object has.
fn stamped(kind: ChildKind, mut object: Value) -> Value {
    let mut fixed = object.clone();
    if let Some(spec) = fixed.get_mut("spec").and_then(Value::as_object_mut).filter(|_| kind == ChildKind::Deployment) {
        spec.remove("replicas");
    }
    let stamp = labels::stamp(&fixed.to_string());
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(labels::APPLIED.into(), Value::String(stamp));
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn map(name: &str, data: &[(&str, &str)]) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta { name: Some(name.into()), uid: Some(format!("uid-{name}")), ..ObjectMeta::default() },
            data: Some(data.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<BTreeMap<_, _>>()),
            ..ConfigMap::default()
        }
    }

    fn as_on_server(write: &Write) -> ConfigMap {
        match write {
            Write::Create { object, .. } | Write::Update { object, .. } => {
                serde_json::from_value(object.clone()).unwrap()
            }
            Write::Delete { .. } => panic!("nothing is on the server after a delete"),
        }
    }

    #[test]
    fn what_was_written_needs_no_second_write() {
        let declared = [map("a", &[("k", "v")])];
        let first = compare(ChildKind::ConfigMap, &declared, &[], |_| true).unwrap();
        assert!(matches!(&first[..], [Write::Create { .. }]));
        assert_eq!(compare(ChildKind::ConfigMap, &declared, &[as_on_server(&first[0])], |_| true).unwrap(), []);
    }

    #[test]
    fn a_field_that_is_no_longer_declared_is_noticed_by_the_stamp() {
        let live = as_on_server(
            &compare(ChildKind::ConfigMap, &[map("a", &[("k", "v"), ("old", "v")])], &[], |_| true).unwrap()[0],
        );
        let writes = compare(ChildKind::ConfigMap, &[map("a", &[("k", "v")])], &[live], |_| true).unwrap();
        assert!(
            matches!(&writes[..], [Write::Update { differences, .. }] if differences == &["metadata.annotations.gantry.dev/applied"])
        );
    }

    #[test]
    fn what_is_not_declared_is_deleted_by_uid_unless_it_is_still_needed() {
        let live = [map("a", &[]), map("b", &[])];
        let writes = compare(ChildKind::ConfigMap, &[], &live, |m| m.name_any() == "b").unwrap();
        assert!(matches!(&writes[..], [Write::Delete { child, uid }] if child.name == "b" && uid == "uid-b"));
    }
}
