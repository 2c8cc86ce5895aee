//! A plan as data: what is written, the one step that disturbs something that serves, what is held back; and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::Reason;
use gantry_crds::names::Component;
use gantry_crds::status::{GroupPhase, PlannedChange, UpgradeStatus};
use serde::Serialize;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::resources::Resources;
use crate::broker_cluster::roles::Role;
use crate::broker_cluster::view::ClaimFact;
use crate::broker_cluster::volumes::{Growth, Ownership};
use crate::child::Write;

/// What is to be done now.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Every child as it should be.
    pub resources: Resources,
    /// Writes that bring the API server there.
    pub writes: Vec<Write>,
    /// Volumes that are to grow. They disturb nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub growths: Vec<Growth>,
    /// Volume claims that are to go with the BrokerCluster, or not any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ownerships: Vec<Ownership>,
    /// Volume claims of replicas that were declared away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimFact>,
    /// Pods whose label says another role in their group than they have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Changes of the engine that disturb nobody who serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The one step that disturbs something that serves.
    pub step: Option<Step>,
    /// What was not done, and why.
    pub holds: Vec<Hold>,
    /// Masters that take no new messages, because they are about to be restarted.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub closing: BTreeSet<String>,
    /// Pods that still have to be restarted to take up a change, this step's included.
    pub outdated: Vec<String>,
    /// Broker groups that do not take messages, on their way in or out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, GroupPhase>,
    /// The change of version that is under way or failed, as it is to be written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// Where somebody wants to see it: all that is to be done until everything is as declared, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outlook: Vec<PlannedChange>,
}

impl Plan {
    /// Nothing is to be done now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { writes, growths, ownerships, claims, roles, calls, step, .. } = self;
        writes.is_empty()
            && growths.is_empty()
            && ownerships.is_empty()
            && claims.is_empty()
            && roles.is_empty()
            && calls.is_empty()
            && step.is_none()
    }
}

/// A step that disturbs something that serves. One at a time in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Step {
    /// Make an in-sync replica master, so that the old master can be restarted.
    Elect {
        /// Broker group.
        group: String,
        /// Pod to become master.
        to: String,
        /// Its broker id.
        id: i64,
        /// Pod that is master now.
        from: String,
        /// Where its log ended at the last look, in bytes.
        end: i64,
    },
    /// Delete a pod; its StatefulSet makes it again from the new template.
    Restart {
        /// Pod.
        pod: String,
        /// That very pod.
        uid: String,
        /// Role.
        component: Component,
        /// Why.
        #[serde(skip_serializing_if = "Cause::is_outdated")]
        cause: Cause,
    },
    /// Delete the volume claim of a replica whose node is gone, and its pod without waiting for that node: it is made anew elsewhere.
    GiveUp {
        /// Pod.
        pod: String,
        /// That very pod.
        uid: String,
        /// Name and uid of the claim, where it is not yet deleted.
        claim: Option<(String, String)>,
    },
}

/// Why a pod is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// Its template changed.
    #[default]
    Outdated,
    /// It follows no master and does not notice.
    Stranded,
    /// It takes no part in its Raft group.
    Outsider,
    /// It leads the controllers, and one of them never heard of it.
    Unheard,
}

impl Cause {
    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_outdated(&self) -> bool {
        *self == Self::Outdated
    }

    /// In a sentence, after "restarted POD".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outdated => "to take up a change",
            Self::Stranded => "because its master does not send to it",
            Self::Outsider => "because it answers and follows no leader",
            Self::Unheard => "because it leads the controllers and one of them never heard of it",
        }
    }
}

/// What one pass over a cluster came to.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Why applying it stopped, where it did: reason and sentence.
    pub failure: Option<(Reason, String)>,
}
