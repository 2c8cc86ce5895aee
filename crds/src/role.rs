//! What every engine role (name server, controller, broker, proxy) lets a user set.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Settings that every role has. They stand beside the role's own fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// CPU and memory of each pod. `limits.memory` (default: 256Mi name server, 384Mi controller, 1Gi broker, 512Mi proxy) is what heap,
    /// direct memory and page cache are derived from; `requests.memory` defaults to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ComputeResources>,

    /// Engine keys, as RocketMQ documents them, e.g. `{fileReservedTime: "72"}`. Values are strings. Keys that carry identity,
    /// addresses, paths or safety are Gantry's and refused, with the field to use instead. Default: none, the engine's and Gantry's own values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.matches('^[a-zA-Z][a-zA-Z0-9_.]{0,99}$'))")
            .message("a config key is an engine key of letters, digits, '_' and '.': write it as RocketMQ documents it, e.g. fileReservedTime"),
        validation = Rule::new("self.all(k, !self[k].matches('[\\n\\r]'))")
            .message("a config value is one line: remove the line break")
    )]
    pub config: BTreeMap<String, ConfigValue>,

    /// Options of the Java virtual machine. Default: those that follow from the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jvm: Option<Jvm>,

    /// Where pods may run. Default: anywhere, spread over nodes and zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,

    /// Extra labels of the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('app.kubernetes.io/') && !k.contains('gantry.dev/'))")
        .message("labels under app.kubernetes.io/ and gantry.dev/ are Gantry's, selectors depend on them: write another prefix"))]
    pub labels: BTreeMap<String, String>,

    /// Extra annotations of the pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !k.contains('gantry.dev/'))")
        .message("annotations under gantry.dev/ are Gantry's: write another prefix"))]
    pub annotations: BTreeMap<String, String>,
}

/// The value of an engine key: text of at most 1024 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigValue(pub String);

impl schemars::JsonSchema for ConfigValue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConfigValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 1024})
    }
}

/// CPU and memory, in Kubernetes' own units (`500m`, `1Gi`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.limits) || !has(self.requests) || self.limits.all(k, !(k in self.requests) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)")
    .message("a request is larger than its limit: write requests that are at most limits"))]
pub struct ComputeResources {
    /// What the scheduler sets aside for a pod. `memory` defaults to `limits.memory`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What a pod may use at most. `memory` is always limited: see the role's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// Options of the Java virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jvm {
    /// Heap as a share of `limits.memory`, in percent, 10 to 75. Default: a share of what is left beside the 112 to 224 MiB that the role
    /// itself needs: 40 (broker), 50 (proxy), 55 (others). The rest serves direct memory, code, threads and the page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 75))]
    pub heap_percent: Option<i32>,
    /// More options, one an item, after Gantry's own (the last one wins), e.g. `-XX:+UseZGC`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(o, o.matches('^-[^\\\\s\"#@]+$'))")
            .message("a JVM option starts with '-' and holds no blank, quote, '#' or '@': write one option an item"),
        validation = Rule::new("self.all(o, !(o.startsWith('-Xmx') || o.startsWith('-Xms') || o.startsWith('-XX:MaxHeapSize') || o.startsWith('-XX:InitialHeapSize') || o.startsWith('-XX:MaxDirectMemorySize') || o.startsWith('-XX:MaxRAM')))")
            .message("memory follows from resources.limits.memory: write heapPercent instead of -Xmx, -Xms, MaxDirectMemorySize or MaxRAM"),
        validation = Rule::new("self.all(o, !(o.startsWith('-Drocketmq.home.dir') || o.startsWith('-Duser.home') || o.startsWith('-Drocketmq.namesrv.addr') || o.startsWith('-cp') || o.startsWith('-classpath') || o.startsWith('--class-path') || o.startsWith('-jar')))")
            .message("home, class path and name server addresses are Gantry's: remove the option")
    )]
    pub options: Vec<String>,
}

/// Where pods may run. Fields are those of a Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods tolerate. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// `affinity` as in a pod. Checked when the pods' owner is applied, not here, to keep this definition small. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub affinity: Option<serde_json::Value>,
    /// Replaces the default, which is: pods of one broker group (and of each other role) spread evenly over nodes as a must (`maxSkew: 1`,
    /// tainted nodes do not count) and over zones where possible. `[]` means no constraint. Checked like `affinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form_list")]
    pub topology_spread_constraints: Option<Vec<serde_json::Value>>,
    /// PriorityClass of the pods. Default: the Kubernetes cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
}

fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn free_form_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 8, "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
}

/// A quantity with Kubernetes' notation checked, without its four screens of description.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "nullable": false, "maxLength": 32, "pattern": QUANTITY})
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 8,
        "additionalProperties": {"x-kubernetes-int-or-string": true, "maxLength": 32, "pattern": QUANTITY}
    })
}

const QUANTITY: &str = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?$";
