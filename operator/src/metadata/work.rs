//! What a pass works on, and what it keeps for the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_crds::names::broker_group;
use gantry_crds::status::{Deletions, GroupPhase, GroupStatus};
use gantry_crds::{BrokerCluster, CONFIRM_DELETIONS_ANNOTATION, ConsumerGroup};
use kube::ResourceExt;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::version;
use crate::consumer_group::ConsumerGroups;
use crate::consumer_group::consumption::Looks;
use crate::context::Context;
use crate::engine::EngineError;
use crate::metadata::access::Access;
use crate::metadata::deletion::confirmed_until;
use crate::metadata::drain::Drains;
use crate::metadata::kind::{Key, Kind};
use crate::metadata::offsets::Offsets;
use crate::metadata::questions::Answers;
use crate::metadata::replicas::Lags;
use crate::metadata::resets::Reset;
use crate::metadata::retries::Retries;
use crate::topic::Topics;

/// All objects of one kind that name one cluster.
pub type Objects<K> = Vec<Arc<<K as Kind>::Object>>;

/// What a pass works on.
pub struct Work {
    /// The cluster, as namespace and name.
    pub key: Key,
    /// Its object, where there is one.
    pub cluster: Option<Arc<BrokerCluster>>,
    /// Its topics.
    pub topics: Objects<Topics>,
    /// Its consumer groups.
    pub groups: Objects<ConsumerGroups>,
    /// What earlier passes over this cluster saw.
    pub memory: Arc<Mutex<Memory>>,
}

impl Work {
    /// What earlier passes saw, to be read and written at once.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was seen of a former cluster of the same name: its offsets and users are none of this one's.
    pub(super) fn forget_others(&self) {
        let Some(uid) = self.cluster.as_ref().and_then(|c| c.uid()) else { return };
        let mut memory = self.memory();
        if memory.cluster.as_ref().is_some_and(|known| *known != uid) {
            // Both are of objects that may outlive the cluster.
            let (waiting, resets) = (memory.waiting, std::mem::take(&mut memory.resets));
            *memory = Memory { waiting, resets, ..Memory::default() };
        }
        memory.cluster = Some(uid);
    }

    /// Deletions that were written down.
    pub(super) fn deletions(&self) -> Deletions {
        let memory = self.memory().deletions.clone();
        let status = || self.cluster.as_ref()?.status.as_ref()?.deletions.clone();
        memory.or_else(status).unwrap_or_default()
    }

    /// Broker groups that were last known to hold all that is declared for them.
    pub(super) fn complete(&self) -> Vec<String> {
        self.cluster.iter().filter_map(|c| c.status.as_ref()).flat_map(|s| s.metadata_on.clone()).collect()
    }

    /// The cluster with groups that are to go and still take part: consumers read there, so they need their groups, and what is deleted is deleted there.
    pub(super) fn with_surplus(&self, mut cluster: Cluster) -> Cluster {
        let takes_part =
            |name: String| self.groups_of_status().any(|g| g.name == name && g.phase != GroupPhase::Removing);
        while takes_part(broker_group(&cluster.name, cluster.brokers.groups)) {
            cluster.brokers.groups += 1;
        }
        cluster
    }

    /// With the version that every broker has already: topics must not ask for more while another one is on its way.
    pub(super) fn as_it_runs(&self, mut cluster: Cluster) -> Cluster {
        let status = || self.cluster.as_ref()?.status.as_ref()?.version.clone();
        if let Some(version) = status().as_deref().and_then(version::oldest) {
            version.clone_into(&mut cluster.version);
        }
        cluster
    }

    /// Groups that must not get topics before they are closed: new ones.
    pub(super) fn unopened(&self, cluster: &Cluster) -> BTreeSet<String> {
        let known = |name: &String| self.groups_of_status().any(|g| g.name == *name && g.phase != GroupPhase::Opening);
        // Before the first status there is no group that anybody could miss anything in.
        let first = self.groups_of_status().next().is_none();
        cluster.groups().into_iter().filter(|g| !first && !known(g)).collect()
    }

    /// Consumer groups with what became of their `resetOffset`, also where the watch has not shown it yet.
    pub(super) fn remembered_groups(&self) -> Objects<ConsumerGroups> {
        let mut memory = self.memory();
        if memory.resets.is_empty() {
            return self.groups.clone();
        }
        let there: BTreeSet<String> = self.groups.iter().filter_map(|g| g.uid()).collect();
        memory.resets.retain(|uid, _| there.contains(uid));
        let remembered = |group: &Arc<ConsumerGroup>| {
            let known = group.uid().and_then(|uid| memory.resets.get(&uid)).map(|reset| &reset.status);
            let watched = group.status.as_ref().and_then(|s| s.reset_offset.as_ref());
            if known.is_none() || known == watched {
                return group.clone();
            }
            let mut newer = (**group).clone();
            newer.status.get_or_insert_default().reset_offset = known.cloned();
            Arc::new(newer)
        };
        self.groups.iter().map(remembered).collect()
    }

    fn groups_of_status(&self) -> impl Iterator<Item = &GroupStatus> {
        self.cluster.iter().filter_map(|c| c.status.as_ref()).flat_map(|s| &s.groups)
    }

    /// Tells how many objects wait for another pass: topics and consumer groups.
    pub(super) fn waiting(&self, ctx: &Context, now: [usize; 2]) {
        let mut memory = self.memory();
        let now = now.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        for ((kind, old), new) in [Topics::NAME, ConsumerGroups::NAME].into_iter().zip(memory.waiting).zip(now) {
            ctx.metrics.waiting.with_label_values(&[kind]).add(new - old);
        }
        memory.waiting = now;
    }

    /// Deletions until then are meant, in seconds of the epoch.
    pub(super) fn confirmed(&self) -> Option<i64> {
        confirmed_until(self.cluster.as_ref()?.annotations().get(CONFIRM_DELETIONS_ANNOTATION))
    }
}

/// What is kept between passes over one cluster. An operator that starts anew begins with an empty one.
#[derive(Debug, Default)]
pub struct Memory {
    /// Uid of the cluster that was seen.
    pub cluster: Option<String>,
    /// Offsets of consumer groups, as masters had them.
    pub offsets: Offsets,
    /// Users and ACLs, as masters had them.
    pub access: Access,
    /// Replicas that differ from their masters.
    pub lags: Lags,
    /// Queues that are to go.
    pub drains: Drains,
    /// How far consumer groups are.
    pub looks: Looks,
    /// Objects that the engine has as declared, and whose status as it was watched does not say so yet.
    pub adopted: BTreeSet<(&'static str, Key)>,
    /// Objects that wait for another pass: topics and consumer groups.
    pub waiting: [i64; 2],
    /// What was written down last about deletions: the status that was watched may be older.
    pub deletions: Option<Deletions>,
    /// The same of `resetOffset`, by uid of the consumer group.
    pub resets: BTreeMap<String, Reset>,
    /// What the engine refused, by name in the engine.
    pub refused: Retries<EngineError>,
    /// Writes to objects that the API server refused.
    pub unwritten: Retries<()>,
    /// What was said of single objects.
    pub answers: Answers,
}
