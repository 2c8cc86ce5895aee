//! Offsets of consumer groups after a change of master. Replicas copy them every few seconds, so what a group read for the first time just before may be
//! unknown to the new master, and it would read such queues from their end on: messages would be skipped. Gantry remembers what the former master had and
//! puts back what is missing. An offset that is merely older is left alone: the messages since then come twice, and whoever set it back on purpose is
//! not overruled. An offset behind the end of its queue was that of another log, and is not put back: the engine would move the group to the end of the queue
//! and skip what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_crds::condition::Reason;
use gantry_remoting::stats::{MessageQueue, QueueOffsets, TopicOffset};
use kube::runtime::events::EventType;

use crate::apply::tell;
use crate::broker_cluster::cluster::Cluster;
use crate::consumer_group::ConsumerGroups;
use crate::context::Context;
use crate::engine::{BrokerMetadata, ClusterId, ConsumerOffsets, EngineWrite};
use crate::metadata::kind::{Declared, Parsed};
use crate::metadata::view::{Master, Observed};
use crate::metadata::work::Work;
use crate::topic::Topics;

/// Seconds between two looks at a master that stays.
const EVERY: i64 = 20;

/// Offsets as masters had them last, by broker group. An operator that starts anew begins with none.
#[derive(Clone, Debug, Default)]
pub struct Offsets(BTreeMap<String, Arc<Seen>>);

/// One master, as it was seen last.
#[derive(Debug)]
struct Seen {
    /// `host:port` of the master.
    master: String,
    /// When, in seconds of the epoch.
    at: i64,
    offsets: ConsumerOffsets,
    /// What a former master had of topics and groups that this one lacks: put back once it has them again.
    owed: ConsumerOffsets,
}

/// Names that are declared: what the engine has lost of them comes back.
pub struct Names<'a> {
    topics: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    /// Those of objects that stay.
    #[must_use]
    pub fn of(topics: &'a Parsed<'_, Topics>, groups: &'a Parsed<'_, ConsumerGroups>) -> Self {
        fn names<O>(objects: &[(Declared, O)]) -> BTreeSet<&str> {
            objects.iter().filter(|(d, _)| !d.deleting()).map(|(d, _)| d.engine_name.as_str()).collect()
        }
        Self { topics: names(topics), groups: names(groups) }
    }
}

/// What a new master lacks of the offsets that the former one had: of queues and groups that it has.
#[must_use]
pub fn lost(before: &ConsumerOffsets, now: &ConsumerOffsets, held: &BrokerMetadata) -> ConsumerOffsets {
    let mut lost = ConsumerOffsets::new();
    for (key, queues) in before {
        let (topic, group) = key;
        let Some(queues_there) = held.topics.get(topic).map(|t| t.read_queue_nums) else { continue };
        if !held.groups.contains_key(group) {
            continue;
        }
        let known = now.get(key);
        let missing =
            |(queue, _): &(&u32, &i64)| **queue < queues_there && known.is_none_or(|k| !k.contains_key(*queue));
        let missing: BTreeMap<u32, i64> = queues.iter().filter(missing).map(|(q, o)| (*q, *o)).collect();
        if !missing.is_empty() {
            lost.insert(key.clone(), missing);
        }
    }
    lost
}

/// What can't be put back yet: the engine refuses offsets of topics and groups that it does not have, and those that are declared come back. What nobody
/// declares is not waited for, nobody restores it.
#[must_use]
pub fn owed(before: &ConsumerOffsets, held: &BrokerMetadata, declared: &Names<'_>) -> ConsumerOffsets {
    let comes_back = |(topic, group): &(String, String)| {
        let (has_topic, has_group) = (held.topics.contains_key(topic), held.groups.contains_key(group));
        !(has_topic && has_group)
            && (has_topic || declared.topics.contains(topic.as_str()))
            && (has_group || declared.groups.contains(group.as_str()))
    };
    before.iter().filter(|(key, _)| comes_back(key)).map(|(key, queues)| (key.clone(), queues.clone())).collect()
}

/// Looks at masters that are new or still lack something, and now and then at the others; puts back what is missing. What was seen is kept group by group:
/// a pass that is cut off loses nothing.
pub async fn audit(ctx: &Context, work: &Work, cluster: &Cluster, observed: &Observed, declared: &Names<'_>) {
    let now = ctx.now().0.as_second();
    for (group, master) in &observed.groups {
        let Ok(master) = master else { continue };
        let before = work.memory().offsets.0.get(group).cloned();
        let fresh = |b: &Arc<Seen>| b.master == master.address && b.owed.is_empty() && now - b.at < EVERY;
        if before.as_ref().is_some_and(fresh) {
            continue;
        }
        if let Some(seen) = look(ctx, work, cluster, (group, master), before.as_deref(), declared).await {
            work.memory().offsets.0.insert(group.clone(), Arc::new(Seen { at: now, ..seen }));
        }
    }
    work.memory().offsets.0.retain(|group, _| observed.groups.contains_key(group));
}

/// What the master has afterwards; `None` where that is not known, and it is looked at again.
async fn look(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    (group, master): (&String, &Master),
    before: Option<&Seen>,
    declared: &Names<'_>,
) -> Option<Seen> {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let mut offsets = ctx.engine.offsets(&id, &master.address).await.ok()?;
    let mut wanted = before.map(|b| b.owed.clone()).unwrap_or_default();
    if let Some(former) = before.filter(|b| b.master != master.address) {
        wanted.extend(former.offsets.clone());
    }
    let mut lost = lost(&wanted, &offsets, &master.metadata);
    within(ctx, &id, &master.address, &mut lost).await?;
    if !lost.is_empty() {
        put_back(ctx, work, &id, (group, master), &lost).await?;
        for (key, queues) in lost {
            offsets.entry(key).or_default().extend(queues);
        }
    }
    let owed = owed(&wanted, &master.metadata, declared);
    Some(Seen { master: master.address.clone(), at: 0, offsets, owed })
}

/// Takes out offsets behind the ends of their queues. `None`: the broker does not say where those are.
async fn within(ctx: &Context, id: &ClusterId, master: &str, lost: &mut ConsumerOffsets) -> Option<()> {
    let mut ends: BTreeMap<String, BTreeMap<u32, i64>> = BTreeMap::new();
    for (topic, _) in lost.keys() {
        if !ends.contains_key(topic) {
            let stats = ctx.engine.topic_stats(id, master, topic).await.ok()?.unwrap_or_default();
            let end = |(queue, offset): &(MessageQueue, TopicOffset)| (queue.queue_id, offset.max_offset);
            ends.insert(topic.clone(), stats.offset_table.iter().map(end).collect());
        }
    }
    for ((topic, _), queues) in lost.iter_mut() {
        queues.retain(|queue, offset| ends[topic].get(queue).is_some_and(|end| *offset <= *end));
    }
    lost.retain(|_, queues| !queues.is_empty());
    Some(())
}

/// `None`: not all of it is there.
async fn put_back(
    ctx: &Context,
    work: &Work,
    id: &ClusterId,
    (group, master): (&String, &Master),
    lost: &ConsumerOffsets,
) -> Option<()> {
    ctx.leadership.check().ok()?;
    let mut by_group: BTreeMap<String, BTreeMap<String, QueueOffsets>> = BTreeMap::new();
    for ((topic, reader), queues) in lost {
        by_group.entry(reader.clone()).or_default().insert(topic.clone(), queues.clone());
    }
    let write = EngineWrite::SetOffsets { broker: master.address.clone(), offsets: by_group };
    let outcome = ctx.engine.execute(id, &write).await.ok()?;
    if let Some((what, error)) = outcome.failed.iter().next() {
        tracing::warn!(%what, %error, "an offset that a new master lacks could not be put back");
        return None;
    }
    let queues: usize = lost.values().map(BTreeMap::len).sum();
    ctx.metrics.repairs.with_label_values(&["Offset", Reason::Restored.as_str()]).inc_by(queues as u64);
    let readers: BTreeSet<&str> = lost.keys().map(|(_, reader)| reader.as_str()).collect();
    let readers = readers.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let note = format!("the new master of {group} did not know offsets of {queues} queues ({readers}): put them back");
    if let Some(object) = &work.cluster {
        tell(ctx, &**object, EventType::Warning, Reason::Restored, "Repair Offset".into(), note).await;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use gantry_remoting::group::GroupConfig;
    use gantry_remoting::topic::TopicConfig;

    use super::*;

    fn offsets(of: &[(&str, &str, u32, i64)]) -> ConsumerOffsets {
        let mut all = ConsumerOffsets::new();
        for (topic, group, queue, offset) in of {
            all.entry(((*topic).to_owned(), (*group).to_owned())).or_default().insert(*queue, *offset);
        }
        all
    }

    #[test]
    fn what_a_new_master_lacks_is_put_back_and_what_is_older_is_left() {
        let mut held = BrokerMetadata::default();
        held.topics.insert("orders".into(), TopicConfig::new("orders", 2));
        held.groups.insert("billing".into(), GroupConfig::new("billing"));
        let before = offsets(&[
            ("orders", "billing", 0, 7),
            ("orders", "billing", 1, 9),
            ("orders", "billing", 2, 5),
            ("orders", "deleted", 0, 3),
            ("deleted", "billing", 0, 3),
        ]);
        let now = offsets(&[("orders", "billing", 0, 2)]);
        assert_eq!(lost(&before, &now, &held), offsets(&[("orders", "billing", 1, 9)]));
        assert!(lost(&before, &before, &held).is_empty());
    }

    #[test]
    fn what_belongs_to_declared_topics_and_groups_that_are_missing_is_owed_until_they_are_back() {
        let mut held = BrokerMetadata::default();
        held.topics.insert("by-hand".into(), TopicConfig::new("by-hand", 2));
        held.groups.insert("billing".into(), GroupConfig::new("billing"));
        let declared = Names { topics: ["orders"].into(), groups: ["billing", "audit"].into() };
        let before = offsets(&[
            ("orders", "billing", 0, 7),
            ("by-hand", "audit", 0, 5),
            ("by-hand", "billing", 0, 9),
            ("orders", "undeclared", 0, 3),
            ("deleted", "billing", 0, 3),
        ]);
        let owed = owed(&before, &held, &declared);
        assert_eq!(owed, offsets(&[("orders", "billing", 0, 7), ("by-hand", "audit", 0, 5)]));
        held.topics.insert("orders".into(), TopicConfig::new("orders", 2));
        assert_eq!(super::owed(&owed, &held, &declared), offsets(&[("by-hand", "audit", 0, 5)]));
    }
}
