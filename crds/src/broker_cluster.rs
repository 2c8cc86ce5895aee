//! Kind `BrokerCluster`: one RocketMQ cluster, from name servers to client endpoints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::ReconcilePolicy;
use crate::role::Role;
use crate::status::BrokerClusterStatus;
use crate::tenant::Tenant;

/// One RocketMQ cluster. `spec: {}` is a working one-replica cluster for development.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rocketmq.gantry.dev",
    version = "v1alpha1",
    kind = "BrokerCluster",
    plural = "brokerclusters",
    shortname = "rmq",
    namespaced,
    category = "rocketmq",
    status = "BrokerClusterStatus",
    derive = "PartialEq",
    doc = "A RocketMQ 5 cluster: name servers, controllers, broker groups, proxies and the endpoints that clients use.",
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name has more than 40 characters: write a shorter one, names and labels of the pods are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must start with a letter and hold only a-z, 0-9 and '-': write e.g. shop, names of Services are made from it"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".status.summary.groups"),
    printcolumn(name = "In Sync", type_ = "string", json_path = ".status.summary.inSync"),
    printcolumn(name = "Proxies", type_ = "string", json_path = ".status.summary.proxies"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoints[0].grpc", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct BrokerClusterSpec {
    /// Version of the engine, Apache RocketMQ. Default 5.5.0. The image is derived from it.
    #[serde(default = "default_version")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = Rule::new("self.matches('^5\\\\.[0-9]{1,2}\\\\.[0-9]{1,2}$')")
            .message("version must be a release of RocketMQ 5, three numbers: write e.g. 5.5.0"),
        validation = Rule::new("!self.matches('^5\\\\.[0-3]\\\\.')")
            .message("versions before 5.4.0 are not supported (5.3.2 to 5.3.4 lose topics after a master switch): write 5.5.0")
    )]
    pub version: String,

    /// How long a pod that took another version may need until it serves and is in sync, 1m to 9999h, e.g. 10m or 1h. Default 10m. One that needs
    /// longer stops the upgrade, and pods go back to the version before.
    #[serde(default = "default_upgrade_timeout")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,3}(m|h)$')")
        .message("upgradeTimeout is a number of m or h: write e.g. 10m"))]
    pub upgrade_timeout: String,

    /// Image of the engine in place of the one derived from `version`. It must keep the image contract of broker-image/README.md. Default: the
    /// operator's setting for images, with `version` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("self.contains('@sha256:') || self.matches(':[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$')")
            .message("image has no tag: write one or a digest, so that a restart never changes the engine"),
        validation = Rule::new("!self.endsWith(':latest')")
            .message("image must not be ':latest', a restart could change the engine: write a fixed tag or a digest")
    )]
    pub image: Option<String>,

    /// Secrets to pull the image with, in this namespace. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Name servers: they tell clients and proxies where brokers are. Stateless.
    #[serde(default)]
    pub name_servers: NameServers,

    /// Controllers: they elect the master of every broker group, by Raft.
    #[serde(default)]
    pub controllers: Controllers,

    /// Brokers: groups of replicas that store messages.
    #[serde(default)]
    pub brokers: Brokers,

    /// Proxies: stateless, what clients talk to over gRPC (5.x) and remoting (4.x).
    #[serde(default)]
    pub proxies: Proxies,

    /// Where clients reach the cluster. Default: one of type ClusterIP named `default`.
    #[serde(default = "default_endpoints")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.filter(e, e.type == 'ClusterIP').size() <= 1")
            .message("one ClusterIP endpoint serves every client inside the cluster: remove the others")
    )]
    pub endpoints: Vec<Endpoint>,

    /// Who may declare topics and consumer groups from other namespaces, within limits. Objects of the cluster's own namespace always may. Default:
    /// nobody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tenants: Vec<Tenant>,

    /// Metrics of the engine.
    #[serde(default)]
    pub metrics: Metrics,

    /// How far Gantry goes: Apply (default), Plan (show in the status what would be done) or Observe (only report).
    #[serde(default)]
    pub reconcile_policy: ReconcilePolicy,
}

fn default_version() -> String {
    "5.5.0".into()
}

fn default_upgrade_timeout() -> String {
    "10m".into()
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['listenPort', 'bindAddress', 'kvConfigPath', 'configStorePath', 'rocketmqHome', 'enableControllerInNamesrv']))")
    .message("nameServers.config holds a key that Gantry sets (listenPort, bindAddress, kvConfigPath, configStorePath, rocketmqHome, enableControllerInNamesrv): remove it"))]
pub struct NameServers {
    /// How many, 1 to 9. Default: 1, or 2 where brokers have replicas. Changing it restarts no broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: Option<i32>,
    /// Settings that every role has.
    #[serde(flatten)]
    pub role: Role,
}

/// Controllers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.replicas) == has(oldSelf.replicas) && (!has(self.replicas) || self.replicas == oldSelf.replicas)")
        .message("controllers.replicas can't change after creation, the members of the Raft group are fixed: write the former value"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['listenPort', 'bindAddress', 'configStorePath', 'controllerStorePath', 'controllerType', 'rocketmqHome', 'mappedFileSize']) && !k.startsWith('controllerDLeger') && !k.startsWith('jRaft'))")
        .message("controllers.config holds a key that Gantry sets (peers, ports, paths, controllerType, mappedFileSize): remove it"),
    validation = Rule::new("!has(self.config) || !('enableElectUncleanMaster' in self.config) || self.config['enableElectUncleanMaster'] == 'false'")
        .message("enableElectUncleanMaster may promote a replica that lacks acknowledged messages: remove it")
)]
pub struct Controllers {
    /// How many: 1, 3 or 5. Default: 1, or 3 where brokers have replicas. Fixed at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    #[x_kube(validation = Rule::new("self % 2 == 1")
        .message("controllers.replicas must be odd, an even number adds a failure without adding safety: write 1, 3 or 5"))]
    pub replicas: Option<i32>,
    /// The volume of each controller. Default size 1Gi. Kept or deleted as `brokers.storage.reclaimPolicy` says.
    #[serde(default)]
    pub storage: ControllerStorage,
    /// Settings that every role has.
    #[serde(flatten)]
    pub role: Role,
}

/// The volume of a controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)")
    .message("controllers.storage.class can't change, volumes can't move between classes: write the former value"))]
pub struct ControllerStorage {
    /// Size of each volume, at least 64Mi. Default 1Gi. It can grow, not shrink.
    #[serde(default = "default_controller_storage_size")]
    #[schemars(schema_with = "crate::role::quantity")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity('64Mi')) >= 0")
            .message("controllers.storage.size is less than 64Mi: write 64Mi or more"),
        validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0")
            .message("controllers.storage.size can't shrink, volumes only grow: write the former value or more")
    )]
    pub size: Quantity,
    /// StorageClass. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,
}

fn default_controller_storage_size() -> Quantity {
    Quantity("1Gi".into())
}

impl Default for ControllerStorage {
    fn default() -> Self {
        Self { size: default_controller_storage_size(), class: None }
    }
}

/// Brokers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minInSyncReplicas) || self.minInSyncReplicas <= self.replicas")
        .message("brokers.minInSyncReplicas is more than brokers.replicas, no message could ever be acknowledged: write at most replicas"),
    validation = Rule::new("self.replicas == 1 || !has(self.minInSyncReplicas) || self.minInSyncReplicas < self.replicas")
        .message("with brokers.minInSyncReplicas equal to brokers.replicas every restart stops writes: write at most replicas - 1"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['brokerClusterName', 'brokerName', 'brokerId', 'brokerRole', 'brokerIP1', 'brokerIP2', 'listenPort', 'haListenPort', 'bindAddress', 'namesrvAddr', 'controllerAddr', 'rocketmqHome', 'brokerConfigPath', 'configBlackList']))")
        .message("brokers.config holds a key of identity or address (names, ids, roles, ports, namesrvAddr, controllerAddr): remove it, Gantry sets these"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !k.startsWith('storePath'))")
        .message("brokers.config holds a storePath: remove it, the store, its epoch file and the broker's identity belong on the volume that brokers.storage describes"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['minInSyncReplicas', 'inSyncReplicas', 'totalReplicas', 'allAckInSyncStateSet']))")
        .message("brokers.config holds a replication key: write brokers.replicas and brokers.minInSyncReplicas instead"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['enableControllerMode', 'enableSlaveActingMaster', 'enableDLegerCommitLog', 'dLegerGroup', 'dLegerPeers', 'dLegerSelfId', 'fetchNamesrvAddrByAddressServer', 'fetchNameSrvAddrByDnsLookup', 'fetchControllerAddrByDnsLookup']))")
        .message("brokers.config chooses another mode of replication or discovery: remove the key, Gantry always runs controller mode with fixed names"),
    validation = Rule::new("!has(self.config) || !('transientStorePoolEnable' in self.config) || self.config['transientStorePoolEnable'] == 'false'")
        .message("transientStorePoolEnable acknowledges messages that only the process holds: remove it"),
    validation = Rule::new("!has(self.config) || ['haSendHeartbeatInterval', 'haHousekeepingInterval'].all(k, !(k in self.config) || self.config[k].matches('^[0-9]{1,9}$')) && 2 * ('haSendHeartbeatInterval' in self.config ? int(self.config['haSendHeartbeatInterval']) : 500) <= ('haHousekeepingInterval' in self.config ? int(self.config['haHousekeepingInterval']) : 3000)")
        .message("brokers.config.haSendHeartbeatInterval (default 500 ms) is more than half of haHousekeepingInterval (default 3000 ms), so that masters would cut replicas off: write both in milliseconds, the second at least twice the first"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !k.startsWith('metricsPromExporter') && !k.startsWith('metricsExporter'))")
        .message("metrics keys are set by spec.metrics: write them there")
)]
pub struct Brokers {
    /// How many broker groups, 1 to 100. Default 1. Each has a master and `replicas - 1` slaves; queues of topics spread over groups.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub groups: i32,
    /// Replicas of each group, 1 to 7. Default 1. For messages that must not be lost: 3.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 7))]
    pub replicas: i32,
    /// How many replicas must hold a message before it is acknowledged, 1 to `replicas - 1`, at most 7 (1 for a single replica). Default: 2
    /// where replicas is 3 or more, else 1. All replicas that are in sync acknowledge; with fewer in sync than this, writes are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub min_in_sync_replicas: Option<i32>,
    /// How many broker groups may have a replica restarted at the same time, 1 to 100. Default 1. Never more than one replica of a group; where nodes
    /// have zones, only replicas of one zone.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_unavailable_groups: i32,
    /// Whether a master takes no new messages for a minute before it is restarted or hands over, so that clients send to other groups meanwhile. Default
    /// true; without another group that takes messages nothing is drained. With false writers to the group pause for about a second, and messages of one
    /// message group (FIFO) stay in one broker group.
    #[serde(default = "yes")]
    pub drain_before_restart: bool,
    /// The volume of each replica.
    #[serde(default)]
    pub storage: BrokerStorage,
    /// Settings that every role has.
    #[serde(flatten)]
    pub role: Role,
}

fn one() -> i32 {
    1
}

impl Default for Brokers {
    fn default() -> Self {
        Self {
            groups: 1,
            replicas: 1,
            min_in_sync_replicas: None,
            max_unavailable_groups: one(),
            drain_before_restart: yes(),
            storage: BrokerStorage::default(),
            role: Role::default(),
        }
    }
}

/// The volume of a broker replica: commit log, consume queues, indexes, identity and epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.class) == has(oldSelf.class) && (!has(self.class) || self.class == oldSelf.class)")
    .message("brokers.storage.class can't change, volumes can't move between classes: write the former value"))]
pub struct BrokerStorage {
    /// Size of each volume, at least 1Gi. Default 10Gi. It can grow, not shrink.
    #[serde(default = "default_broker_storage_size")]
    #[schemars(schema_with = "crate::role::quantity")]
    #[x_kube(
        validation = Rule::new("quantity(string(self)).compareTo(quantity('1Gi')) >= 0")
            .message("brokers.storage.size is less than 1Gi: write 1Gi or more"),
        validation = Rule::new("quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0")
            .message("brokers.storage.size can't shrink, volumes only grow: write the former value or more")
    )]
    pub size: Quantity,
    /// StorageClass. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,
    /// What becomes of the volumes when the BrokerCluster is deleted (also the controllers'), or when a broker group or replica is declared away: Retain
    /// (default) or Delete.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// How long a replica's node may be gone before the replica is given up: its volume and pod are deleted, and it is made anew elsewhere and copies
    /// what the others have. At least 5m, e.g. 30m or 2h. Default: never. One replica at a time, and only while all others of its group are in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,3}(m|h)$')")
            .message("brokers.storage.giveUpAfter is a number of m or h: write e.g. 30m"),
        validation = Rule::new("!self.matches('^[1-4]m$')")
            .message("brokers.storage.giveUpAfter is less than 5m, a node that restarts would cost a copy: write 5m or more")
    )]
    pub give_up_after: Option<String>,
}

fn default_broker_storage_size() -> Quantity {
    Quantity("10Gi".into())
}

impl Default for BrokerStorage {
    fn default() -> Self {
        Self {
            size: default_broker_storage_size(),
            class: None,
            reclaim_policy: ReclaimPolicy::Retain,
            give_up_after: None,
        }
    }
}

/// What becomes of volumes that are declared away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// Keep them: a BrokerCluster of the same name finds its messages again.
    #[default]
    Retain,
    /// Delete them and every message with them.
    Delete,
}

/// Proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))")
        .message("proxies.replicas and proxies.autoscaling exclude each other: write replicas, or autoscaling with minReplicas and maxReplicas"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !(k in ['rocketMQClusterName', 'proxyClusterName', 'proxyName', 'proxyMode', 'namesrvAddr', 'namesrvDomain', 'grpcServerPort', 'remotingListenPort', 'remotingAccessAddr', 'localServeAddr', 'useEndpointPortFromRequest']))")
        .message("proxies.config holds a key of identity or address (names, proxyMode, ports, namesrvAddr, localServeAddr): remove it, Gantry sets these"),
    validation = Rule::new("!has(self.config) || self.config.all(k, !k.startsWith('metricsPromExporter') && !k.startsWith('metricsExporter'))")
        .message("metrics keys are set by spec.metrics: write them there")
)]
pub struct Proxies {
    /// How many, 1 to 1000. Default 1. Leave it out where `autoscaling` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
    /// Scale with load, by a HorizontalPodAutoscaler. Default: `replicas` stays as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Settings that every role has. A `config` value that reads as a number or as true/false is given to the proxy as such.
    #[serde(flatten)]
    pub role: Role,
}

/// Bounds and target of the proxies' HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("autoscaling.minReplicas is more than maxReplicas: write at most maxReplicas"))]
pub struct Autoscaling {
    /// Fewest proxies, 1 to 1000. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Most proxies, 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Mean CPU use of the proxies that is aimed at, in percent of their request, 10 to 95. Default 70.
    #[serde(default = "seventy")]
    #[schemars(range(min = 10, max = 95))]
    pub target_cpu_utilization_percentage: i32,
}

fn two() -> i32 {
    2
}

fn seventy() -> i32 {
    70
}

/// Where clients reach the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name; the Service is `<cluster>-proxy-<name>`. At most 15 characters of a-z, 0-9 and '-'.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("an endpoint's name holds only a-z, 0-9 and '-' and ends in a letter or digit: write e.g. private"))]
    pub name: String,
    /// Kind of endpoint: ClusterIP (default), for clients inside the Kubernetes cluster.
    #[serde(default, rename = "type")]
    pub type_: EndpointType,
    /// Extra annotations of the Service. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// Kind of endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointType {
    /// A Service inside the Kubernetes cluster: gRPC on port 8081, remoting on port 8080.
    #[default]
    ClusterIP,
}

fn default_endpoints() -> Vec<Endpoint> {
    vec![Endpoint { name: "default".into(), type_: EndpointType::ClusterIP, annotations: BTreeMap::new() }]
}

/// Metrics of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Prometheus metrics on port 5557 of brokers, controllers and proxies (name servers have none). Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true }
    }
}
