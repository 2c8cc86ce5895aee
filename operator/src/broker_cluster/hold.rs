//! What is not done now, and why: one vocabulary for status, Events and logs.

use gantry_crds::Reason;
use serde::Serialize;

use crate::broker_cluster::view::Unknown;

/// What is not done now, and why. Every variant is a sentence in the status and a reason of the common vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "hold", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Hold {
    /// Another pod of the role or group is not well.
    #[error("{pod} is not restarted: {other} is not ready")]
    OtherPodDown {
        /// The pod that would be restarted.
        pod: String,
        /// The pod that is not well.
        other: String,
    },
    /// Too few controllers would be left.
    #[error("{pod} is not restarted: only {ready} of {replicas} controllers are ready, and a majority must stay")]
    ControllerQuorum {
        /// The pod that would be restarted.
        pod: String,
        /// Ready ones, the pod included.
        ready: usize,
        /// Declared ones.
        replicas: i32,
    },
    /// Too few copies would be left.
    #[error("{pod} is not restarted: only {in_sync:?} of {group} would stay in sync, and {wanted} must")]
    NotEnoughInSync {
        /// The pod that would be restarted.
        pod: String,
        /// Its group.
        group: String,
        /// Those that would stay.
        in_sync: Vec<String>,
        /// How many must.
        wanted: i32,
    },
    /// The group has no master.
    #[error("{pod} is not restarted: {group} has no master")]
    NoMaster {
        /// The pod that would be restarted.
        pod: String,
        /// Its group.
        group: String,
    },
    /// A name server does not know the group's master, so clients may not either.
    #[error("{pod} is not restarted: name server {name_server} does not list {master} as master of {group}")]
    RouteNotMoved {
        /// The pod that would be restarted.
        pod: String,
        /// Its group.
        group: String,
        /// The master.
        master: String,
        /// The name server.
        name_server: String,
    },
    /// A replica copies what it lacks.
    #[error(
        "{pod} is not restarted: it copies what it lacks, and a former master that is stopped meanwhile may keep messages that nobody else has"
    )]
    CatchesUp {
        /// The replica.
        pod: String,
    },
    /// A replica of the group has just become ready: its start still takes what the next master needs to be quick.
    #[error("{pod} does not hand over yet: {other} has been ready for less than {seconds} s")]
    JustStarted {
        /// The master.
        pod: String,
        /// The replica.
        other: String,
        /// How long it must have been.
        seconds: i64,
    },
    /// A master that is to go takes no new messages, and clients may not have heard of it.
    #[error("{pod} takes no new messages and goes when clients send to other broker groups, within a minute")]
    Closing {
        /// The master.
        pod: String,
    },
    /// A master, or one that has just handed over, can't leave a node that takes no new pods.
    #[error("{pod} is not evicted from its node {node}, which is cordoned: {why}")]
    NodeCordoned {
        /// The master, or former master.
        pod: String,
        /// Its node.
        node: String,
        /// Why it stays.
        why: String,
    },
    /// Nobody can tell which nodes are to be drained.
    #[error(
        "masters do not leave nodes that are drained: {why}; give the operator the right to get nodes, the chart does"
    )]
    NodesUnknown {
        /// What the API server said.
        why: String,
    },
    /// Nobody could say.
    #[error("{pod} is not restarted: {}", unknown.message)]
    Unknown {
        /// The pod that would be restarted.
        pod: String,
        /// Why it is not known.
        unknown: Unknown,
    },
    /// A broker group or replica is declared away, and can't go now.
    #[error("{what} is declared away and stays for now: {why}")]
    ScaleIn {
        /// The group or pod.
        what: String,
        /// Why.
        why: String,
    },
    /// A broker group that is to go is still needed.
    #[error("broker group {group} takes no messages and is about to go: {why}")]
    Draining {
        /// The group.
        group: String,
        /// Why.
        why: String,
    },
    /// A new broker group is not yet opened.
    #[error("broker group {group} takes no messages yet: {why}")]
    Opening {
        /// The group.
        group: String,
        /// Why.
        why: String,
    },
    /// More replicas are to hold each message than are in sync.
    #[error(
        "{group} goes on with minInSyncReplicas {live} until {declared} replicas are in sync: it would refuse messages"
    )]
    TooFewInSync {
        /// The group.
        group: String,
        /// As many must hold a message now.
        live: i32,
        /// As many are declared.
        declared: i32,
    },
    /// Another number of controllers follows from the spec than there is.
    #[error(
        "there are {live} controllers, not {declared}: the members of their Raft group are fixed at creation; write controllers.replicas: {live} in a new cluster's spec to choose"
    )]
    ControllersFixed {
        /// Controllers there are.
        live: i32,
        /// Controllers that follow from the spec.
        declared: i32,
    },
    /// A smaller size is declared than volumes have.
    #[error("volumes of {set} keep {live}: volumes only grow ({declared} is declared); write {live} or more")]
    VolumeSizeFixed {
        /// StatefulSet.
        set: String,
        /// Size there is.
        live: String,
        /// Size declared.
        declared: String,
    },
    /// A replica's node is gone for longer than the spec allows, and it may not be given up.
    #[error("{pod} is not given up although its node is gone: {why}")]
    NodeGone {
        /// Its pod.
        pod: String,
        /// Why not.
        why: String,
    },
    /// No copy is left that has every acknowledged message.
    #[error(
        "{group} has lost every copy that was in sync, {} came back with empty volumes: nobody is made master in their place; put a volume back, or accept the loss as docs/failure-modes.md says under CopiesLost",
        pods.join(", ")
    )]
    CopiesLost {
        /// Broker group.
        group: String,
        /// Pods that had the copies.
        pods: Vec<String>,
    },
    /// A version that must not be, or not from here.
    #[error("RocketMQ {version} is held back: {what}")]
    Hazard {
        /// The version, or the step to it.
        version: String,
        /// What speaks against it.
        what: String,
    },
    /// Messages are stored otherwise than declared.
    #[error(
        "brokers keep {key}={live} ({declared} is declared): {why}; write {key}: \"{live}\" in brokers.config, or make a new cluster"
    )]
    FormatFixed {
        /// The key.
        key: String,
        /// What it is.
        live: String,
        /// What is declared.
        declared: String,
        /// Why it stays.
        why: String,
    },
    /// Another version is declared while one is on its way.
    #[error("{declared} comes later: from {from} to {to} is under way and is finished first")]
    UpgradeUnderWay {
        /// Version that is declared.
        declared: String,
        /// Version before.
        from: String,
        /// Version to be.
        to: String,
    },
    /// One role after the other takes a version.
    #[error("no pod of {next} takes {to} before every pod of {names} runs it and serves")]
    TurnToCome {
        /// StatefulSets or the Deployment whose turn it is.
        names: String,
        /// Those that come later.
        next: String,
        /// Version that they take.
        to: String,
    },
    /// The first broker group that took a version is watched before the others follow.
    #[error("{group} runs {to} and is watched for {seconds} s before other broker groups follow")]
    CanaryWatched {
        /// The group.
        group: String,
        /// Version that it runs.
        to: String,
        /// For so long.
        seconds: i64,
    },
    /// A change of version that did not go well.
    #[error(
        "the change from {from} to {to} {what}: {why}; to try again write another version, change what kept pods from serving, or set annotation {} to a new value",
        gantry_crds::RETRY_UPGRADE_ANNOTATION
    )]
    UpgradeFailed {
        /// Version before.
        from: String,
        /// Version to be.
        to: String,
        /// What was done.
        what: String,
        /// Why.
        why: String,
    },
    /// An object of a child's name belongs to somebody else.
    #[error("{child} belongs to somebody else: delete or rename it, or rename the cluster")]
    NameTaken {
        /// Kind and name.
        child: String,
    },
}

impl Hold {
    /// The sentence without its subject: why.
    #[must_use]
    pub fn why(&self) -> String {
        let sentence = self.to_string();
        sentence.split_once(": ").map_or(sentence.clone(), |(_, why)| why.to_owned())
    }

    /// The reason in the common vocabulary.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::OtherPodDown { .. } => Reason::OtherReplicaDown,
            Self::ControllerQuorum { .. } => Reason::ControllerQuorumAtRisk,
            Self::NotEnoughInSync { .. } => Reason::NotEnoughInSync,
            Self::NoMaster { .. } => Reason::NoMaster,
            Self::RouteNotMoved { .. } | Self::Closing { .. } => Reason::HandingOver,
            Self::NodeCordoned { .. } => Reason::NodeCordoned,
            Self::Unknown { .. } | Self::NodesUnknown { .. } => Reason::FactsUnknown,
            Self::ScaleIn { .. } => Reason::ScaleInHeld,
            Self::Draining { .. } => Reason::GroupDraining,
            Self::Opening { .. } => Reason::GroupOpening,
            Self::TooFewInSync { .. } | Self::CatchesUp { .. } => Reason::CatchingUp,
            Self::ControllersFixed { .. } => Reason::ControllersFixed,
            Self::VolumeSizeFixed { .. } => Reason::VolumeSizeFixed,
            Self::NodeGone { .. } => Reason::NodeGone,
            Self::CopiesLost { .. } => Reason::CopiesLost,
            Self::Hazard { .. } => Reason::EngineHazard,
            Self::FormatFixed { .. } => Reason::StorageFormatFixed,
            Self::JustStarted { .. }
            | Self::UpgradeUnderWay { .. }
            | Self::TurnToCome { .. }
            | Self::CanaryWatched { .. } => Reason::Rolling,
            Self::UpgradeFailed { .. } => Reason::UpgradeFailed,
            Self::NameTaken { .. } => Reason::NameTaken,
        }
    }
}
