//! What was seen of a cluster at one time, as plain data: the only input of `plan` and `status` beside the parsed spec.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::BrokerClusterStatus;
use gantry_crds::status::{GroupStatus, UpgradeStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

pub use crate::broker_cluster::pods::PodFact;
use crate::broker_cluster::resources::Resources;
use crate::engine::EngineError;

/// Everything that was seen of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Children on the API server.
    pub live: Resources,
    /// Claims of the cluster's volumes, sorted by name.
    pub claims: Vec<ClaimFact>,
    /// Pods of the cluster, sorted by name.
    pub pods: Vec<PodFact>,
    /// The engine.
    pub engine: EngineView,
    /// When it was looked at, in seconds of the epoch.
    pub now: i64,
    /// Since when groups that are to go hold nothing any more, as the last pass wrote it down, in seconds of the epoch.
    pub empty_since: BTreeMap<String, i64>,
    /// Broker groups that hold all that is declared for them, as the pass over topics and consumer groups wrote it down.
    pub metadata_on: BTreeSet<String>,
    /// The change of version that is under way or failed, as the last pass wrote it down.
    pub upgrade: Option<UpgradeStatus>,
    /// Since when masters of groups take no new messages before their restart, as the last pass wrote it down, in seconds of the epoch.
    pub closed_since: BTreeMap<String, i64>,
    /// Nodes that brokers run on.
    pub nodes: NodeView,
}

/// What was seen of the nodes that brokers run on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeView {
    /// Those that take no new pods (`kubectl cordon`, `kubectl drain`).
    pub cordoned: BTreeSet<String>,
    /// Why some could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Observed {
    /// With what earlier passes wrote into the status.
    #[must_use]
    pub fn remembering(mut self, status: &BrokerClusterStatus) -> Self {
        let empty = |g: &GroupStatus| Some((g.name.clone(), g.drain.as_ref()?.empty_since.as_ref()?.0.as_second()));
        self.empty_since = status.groups.iter().filter_map(empty).collect();
        self.metadata_on = status.metadata_on.iter().cloned().collect();
        self.upgrade.clone_from(&status.upgrade);
        let closed = |g: &GroupStatus| Some((g.name.clone(), g.closed_since.as_ref()?.0.as_second()));
        self.closed_since = status.groups.iter().filter_map(closed).collect();
        self
    }

    /// Does a pod run on a node that is about to be drained?
    #[must_use]
    pub fn on_cordoned(&self, pod: &str) -> bool {
        let node = self.pods.iter().find(|p| p.name == pod).and_then(|p| p.node.as_ref());
        node.is_some_and(|n| self.nodes.cordoned.contains(n))
    }
}

/// What matters of a volume claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimFact {
    /// Name, `data-<pod>`.
    pub name: String,
    /// This very claim, not a later one of the same name.
    #[serde(default)]
    pub uid: String,
    /// Whether it is being deleted.
    #[serde(default)]
    pub terminating: bool,
    /// Whether it goes with the BrokerCluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub owned: bool,
    /// Size that is asked for.
    #[serde(default)]
    pub requested: String,
    /// Size that there is; nothing before the volume is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

impl ClaimFact {
    /// The facts of a claim; `owner` is the uid of the BrokerCluster.
    #[must_use]
    pub fn of(claim: &PersistentVolumeClaim, owner: &str) -> Self {
        let size = |sizes: Option<&BTreeMap<String, Quantity>>| sizes?.get("storage").map(|q| q.0.clone());
        let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
        Self {
            name: claim.name_any(),
            uid: claim.uid().unwrap_or_default(),
            terminating: claim.metadata.deletion_timestamp.is_some(),
            owned: claim.owner_references().iter().any(|o| o.uid == owner),
            requested: size(resources.and_then(|r| r.requests.as_ref())).unwrap_or_default(),
            capacity: size(claim.status.as_ref().and_then(|s| s.capacity.as_ref())),
        }
    }
}

/// Nobody could be asked, or the answer could not be used: a reason and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unknown {
    /// A reason of the common vocabulary, e.g. `EngineUnreachable`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Unknown {
    /// Nobody has been asked yet.
    #[must_use]
    pub fn not_asked() -> Self {
        Self { reason: "EngineUnreachable".into(), message: "the engine was not asked, no pod of it runs".into() }
    }
}

impl From<&EngineError> for Unknown {
    fn from(error: &EngineError) -> Self {
        Self { reason: error.reason().into(), message: error.to_string() }
    }
}

/// A fact, or why it is not known. Never an empty default in place of an unknown.
pub type Known<T> = Result<T, Unknown>;

/// What the engine says of itself, by pod names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineView {
    /// Pod of the controller that leads; `None`: they answer and have no leader.
    #[serde(with = "known")]
    pub controller_leader: Known<Option<String>>,
    /// Pods of controllers that answer and know no leader.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub leaderless: BTreeSet<String>,
    /// Sync state of every declared group, as the leading controller has it.
    pub groups: BTreeMap<String, GroupView>,
    /// Per name server pod: brokers that are registered there, by group, each with the pod that is registered as its master.
    pub routes: BTreeMap<String, RouteView>,
    /// Per broker pod: the keys that it takes while it runs, as it has them.
    #[serde(default)]
    pub configs: BTreeMap<String, ConfigView>,
    /// Per broker pod that said so: how full its volume is, in whole percent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<String, u8>,
}

/// What a broker runs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Keys that it takes while it runs.
    #[serde(with = "known")]
    pub live: Known<BTreeMap<String, String>>,
}

/// A group as the leading controller has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Sync state.
    #[serde(with = "known")]
    pub sync: Known<SyncState>,
    /// What a group that is to go still holds.
    #[serde(default, with = "looked_at", skip_serializing_if = "Option::is_none")]
    pub left: Option<Known<Left>>,
    /// What a new group lacks.
    #[serde(default, with = "looked_at", skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Known<Lacks>>,
}

/// What a broker group still holds for somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Left {
    /// Messages that a consumer group has not acknowledged, retries among them.
    pub consumers: BTreeMap<String, i64>,
    /// Messages of topics that no consumer group reads.
    pub unread: BTreeMap<String, i64>,
    /// Delayed messages that are not due, and those that a consumer holds.
    pub delayed: i64,
    /// Transactions that are neither committed nor rolled back.
    pub transactions: i64,
    /// Bytes that are not yet in any queue.
    pub undispatched: i64,
}

impl Left {
    /// Nothing for nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages() == 0 && self.undispatched == 0
    }

    /// Messages of all kinds.
    #[must_use]
    pub fn messages(&self) -> i64 {
        self.consumers.values().chain(self.unread.values()).sum::<i64>() + self.delayed + self.transactions
    }
}

/// Consumer groups and queues of topics, by consumer group and topic.
pub type Queues = BTreeMap<String, BTreeMap<String, BTreeSet<u32>>>;

/// What a new broker group lacks before consumers can miss nothing there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lacks {
    /// Consumer groups that read its topics elsewhere and are not there.
    pub groups: BTreeSet<String>,
    /// Queues that consumer groups read elsewhere, and have no offset for on the master.
    pub offsets: Queues,
    /// Replicas that have not yet copied all offsets.
    pub replicas: BTreeSet<String>,
}

/// Sync state set of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncState {
    /// Pod of the master.
    pub master: Option<String>,
    /// How many masters the group has had.
    pub epoch: i64,
    /// Pods in the sync state set, the master among them.
    pub in_sync: BTreeSet<String>,
    /// The engine's broker id of every replica that the controllers know.
    pub ids: BTreeMap<String, i64>,
    /// Bytes of the log that a replica lacks, where its master said so.
    #[serde(default)]
    pub behind: BTreeMap<String, i64>,
    /// Pods that answered when they were asked themselves, just now: the controllers miss one that is gone only after 10 s.
    #[serde(default)]
    pub answering: BTreeSet<String>,
    /// Where the logs of pods end, in bytes, of those that said so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<String, i64>,
    /// Addresses to which the master sends its log, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followers: Option<BTreeSet<String>>,
    /// Every id that the controllers know, those of lost volumes among them, in order.
    #[serde(default)]
    pub identities: Vec<Identity>,
}

/// A broker id as the controllers know it. A pod that lost its volume comes back under another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The id.
    pub id: u64,
    /// The pod that registered it.
    pub pod: String,
    /// Whether the controllers heard of it lately.
    pub alive: bool,
    /// Whether it is in the sync state set, alive or not.
    pub in_sync: bool,
}

/// Brokers registered on one name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Master pod by group; `None`: the group is registered without a master.
    #[serde(with = "known")]
    pub masters: Known<BTreeMap<String, Option<String>>>,
}

impl Default for EngineView {
    fn default() -> Self {
        Self {
            controller_leader: Err(Unknown::not_asked()),
            leaderless: BTreeSet::new(),
            groups: BTreeMap::new(),
            routes: BTreeMap::new(),
            configs: BTreeMap::new(),
            disks: BTreeMap::new(),
        }
    }
}

impl EngineView {
    /// What a running broker has of a key that it takes while it runs, where it said so.
    #[must_use]
    pub fn live_key(&self, pod: &str, key: &str) -> Option<&str> {
        self.configs.get(pod)?.live.as_ref().ok()?.get(key).map(String::as_str)
    }

    /// Sync state of a group, or why it is not known.
    ///
    /// # Errors
    /// Where nobody could say.
    pub fn sync(&self, group: &str) -> Result<&SyncState, Unknown> {
        match self.groups.get(group) {
            Some(g) => g.sync.as_ref().map_err(Clone::clone),
            None => Err(self.controller_leader.as_ref().err().cloned().unwrap_or_else(Unknown::not_asked)),
        }
    }
}

/// The same where nobody may have looked.
mod looked_at {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Known;

    #[derive(Serialize, Deserialize)]
    #[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
    struct Form<T>(#[serde(with = "super::known")] Known<T>);

    pub fn serialize<T: Serialize + Clone, S: Serializer>(
        value: &Option<Known<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.clone().map(Form).serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Known<T>>, D::Error> {
        Ok(Option::<Form<T>>::deserialize(deserializer)?.map(|form| form.0))
    }
}

/// `Known` in goldens: the value itself, or `{unknown: {…}}`.
mod known {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Known, Unknown};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Form<T> {
        Known(T),
        Unknown(Unknown),
    }

    pub fn serialize<T: Serialize, S: Serializer>(value: &Known<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Ok(v) => Form::Known(v).serialize(serializer),
            Err(u) => Form::<&T>::Unknown(u.clone()).serialize(serializer),
        }
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Known<T>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Known(v) => Ok(v),
            Form::Unknown(u) => Err(u),
        })
    }
}
