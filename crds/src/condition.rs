//! Conditions and their reasons: the one vocabulary of statuses, Events and metrics.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that every kind has. `True` of Ready is good; `True` of the others says what is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object serves: clients can do with it what it declares.
    Ready,
    /// Gantry is at work on it.
    Progressing,
    /// Something is missing, refused or stuck.
    Degraded,
}

impl ConditionType {
    /// As it stands in `conditions[].type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is as it is, why an Event was sent, why something is held back. A closed set: docs/reference/reasons.md is
        /// generated from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason, in the order of this list.
            pub const ALL: &'static [Reason] = &[$(Self::$name,)+];

            /// As it stands in `conditions[].reason`, in Events and in the metrics' `reason` label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The reason of this name; what is none is [`Reason::FactsUnknown`].
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                Self::ALL.iter().copied().find(|r| r.as_str() == name).unwrap_or(Self::FactsUnknown)
            }

            /// What it means, for the reference.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// All that was declared is there and serves.
    AsDeclared,
    /// It serves, with less redundancy than declared.
    Serving,
    /// Being created for the first time.
    Creating,
    /// Children are being changed to what is declared.
    Applying,
    /// Pods are being replaced one at a time to take up a change.
    Rolling,
    /// The annotation gantry.dev/paused stops all writes.
    Paused,
    /// reconcilePolicy is Plan or Observe: nothing is written but the status.
    NotApplied,
    /// The spec asks for something impossible that the schema could not refuse.
    InvalidSpec,
    /// The Kubernetes API refused a write.
    ApplyFailed,
    /// An object that should be a child belongs to somebody else.
    NameTaken,
    /// No name server is ready.
    NameServersNotReady,
    /// Fewer name servers are ready than declared.
    NameServersMissing,
    /// The controllers have no leader: masters can't be replaced.
    NoControllerLeader,
    /// Fewer controllers are ready than declared.
    ControllersMissing,
    /// A broker group has no master: it takes no messages.
    NoMaster,
    /// A broker group has fewer replicas in sync than minInSyncReplicas: it refuses messages.
    NotEnoughInSync,
    /// Fewer replicas are in sync than declared.
    ReplicasNotInSync,
    /// A broker's volume is nearly full: RocketMQ will soon delete messages before their time, then refuse new ones.
    DiskPressure,
    /// No proxy is ready: clients can't connect.
    ProxiesNotReady,
    /// Fewer proxies are ready than declared.
    ProxiesMissing,
    /// The engine could not be asked; what depends on it is unknown.
    EngineUnreachable,
    /// The engine did not answer in time.
    EngineTimedOut,
    /// The engine refused a request.
    EngineRefused,
    /// The engine's answer could not be understood.
    EngineAnswerNotUnderstood,
    /// The engine failed repeatedly and is left alone for a while.
    CircuitOpen,
    /// A request is more than the engine takes at once.
    EngineRequestTooLarge,
    /// The broker that was to be changed is no longer the master of its group.
    NotMaster,
    /// Something that had to come first failed.
    NotTried,
    /// Another replica of the group, or another member of the role, is not well: no further one is stopped.
    OtherReplicaDown,
    /// Stopping this controller would leave too few for a majority.
    ControllerQuorumAtRisk,
    /// An in-sync replica is being made master before the old master is restarted.
    HandingOver,
    /// A replica is catching up: the next step waits for it.
    CatchingUp,
    /// Nobody can say whether the step is safe, so it is not taken.
    FactsUnknown,
    /// A broker group or replica that is to go is kept for now.
    ScaleInHeld,
    /// A broker group that is to go takes no new messages, and waits until consumers have read what is in it.
    GroupDraining,
    /// A consumer group does not read on what a broker group that is to go still holds.
    ConsumerStuck,
    /// A new broker group takes no messages before it has all topics, consumer groups and offsets.
    GroupOpening,
    /// Every copy of a broker group that was in sync is gone: its replicas came back with empty volumes, and none is made master without consent.
    CopiesLost,
    /// A master's node is cordoned, and no other replica can take over now.
    NodeCordoned,
    /// A replica's node is gone for longer than giveUpAfter, and to give it up now is not safe.
    NodeGone,
    /// The number of controllers is fixed at creation.
    ControllersFixed,
    /// Volumes only grow.
    VolumeSizeFixed,
    /// A known defect of the engine, or what a version stored, speaks against the version that is declared.
    EngineHazard,
    /// How messages are stored can't be changed by this key once there are messages.
    StorageFormatFixed,
    /// Pods of the new version are not well: no further pod takes it, and those that did went back where they could.
    UpgradeFailed,
    /// The BrokerCluster that clusterRef names does not exist, or is not watched.
    ClusterNotFound,
    /// The BrokerCluster does not take objects from this namespace.
    NamespaceNotAllowed,
    /// The rule of the BrokerCluster's tenants that speaks of this namespace does not allow the object.
    TenantRuleForbids,
    /// Older objects have all that the rule of the BrokerCluster's tenants allows in number.
    TenantQuotaExceeded,
    /// The BrokerCluster has no broker group yet that could take it.
    ClusterNotReady,
    /// The engine has it on every broker group, as declared.
    InSync,
    /// The cluster's engine version or configuration does not have what is declared.
    UnsupportedByEngine,
    /// Queues that are to go still hold messages that a consumer group has not read: they are read on, and take no new ones.
    Draining,
    /// Every master has it as declared, but a replica does not copy it: it would be lost if that replica became master.
    ReplicaStale,
    /// The consumers of the group subscribe to something else than spec.subscriptions declares: see status.consumption.mismatches.
    SubscriptionMismatch,
    /// Not looked at yet: more objects came than are written at once, or no operator runs.
    Waiting,
    /// A broker had lost a topic, group, offset, user or ACL; it was put back.
    Restored,
    /// Somebody edited a topic or group on a broker; it was put right.
    DriftReverted,
    /// A replica that did not copy a topic or group from its master was made to copy anew, or got users and ACLs, which it never copies itself.
    ReplicaRefreshed,
    /// The offsets of a consumer group were set as its resetOffset says.
    OffsetsReset,
    /// Another, older object declares the same topic or group.
    Conflict,
    /// The engine holds something else than declared, and reconcilePolicy forbids to change it, or it was there before the object and nobody said that it may
    /// be changed: annotation gantry.dev/adopt.
    Drifted,
    /// The topic holds messages or expects some, or consumers of it or of the group are connected, or nobody can say: it is not deleted.
    NotEmpty,
    /// So many are deleted at once that somebody must confirm it: annotation gantry.dev/confirm-deletions of the BrokerCluster.
    DeletionHeld,
    /// Waiting until the cluster can be asked, to delete.
    DeletionPending,
    /// Created.
    Created,
    /// Changed to what is declared.
    Updated,
    /// Deleted.
    Deleted,
    /// A pod was restarted: to take up a change, because its master did not send to it, or because a controller did not follow its leader.
    Restarted,
    /// A planned change of master was made.
    MasterMoved,
    /// The controllers were made to forget a replica that is gone for good.
    ReplicaForgotten,
    /// A replica whose node is gone was given up: its volume was deleted, and it is made anew elsewhere.
    ReplicaGivenUp,
    /// A new broker group was opened for messages.
    GroupOpened,
    /// A broker group was closed for messages, to be prepared or to be removed.
    GroupClosed,
    /// A broker group that held no message any more was removed.
    GroupRemoved,
    /// A change of the engine's version began.
    UpgradeStarted,
    /// Every pod runs the declared version.
    Upgraded,
    /// Every pod runs the version again that was before.
    RolledBack,
    /// A reconcile took longer than its time limit.
    ReconcileTimedOut,
    /// This process no longer holds the leader lease.
    NotLeader,
}

/// Whether a condition holds. `Unknown` where nobody could be asked: never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}

/// A condition to be; `now` becomes its transition time where the status changes.
#[must_use]
pub fn condition(
    type_: ConditionType,
    status: impl Into<Truth>,
    reason: Reason,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Time,
) -> Condition {
    Condition {
        type_: type_.as_str().into(),
        status: match status.into() {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
        .into(),
        reason: reason.as_str().into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: now,
    }
}

/// `new`, each with the former transition time where its status did not change, so that an unchanged status stays equal.
#[must_use]
pub fn keep_transition_times(old: &[Condition], new: Vec<Condition>) -> Vec<Condition> {
    new.into_iter()
        .map(|mut c| {
            if let Some(o) = old.iter().find(|o| o.type_ == c.type_ && o.status == c.status) {
                c.last_transition_time = o.last_transition_time.clone();
            }
            c
        })
        .collect()
}
