//! Offsets of consumer groups after a change of master. Replicas copy them every few seconds, so what a group read for the first time just before may be
//! unknown to the new master, and it would read such queues from their end on: messages would be skipped. Gantry remembers what the former master had and
//! puts back what is missing. An offset that is merely older is left alone: the messages since then come twice, and whoever set it back on purpose is
//! not overruled.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::condition::Reason;
use gantry_remoting::stats::QueueOffsets;
use kube::runtime::events::EventType;

use crate::apply::tell;
use crate::broker_cluster::cluster::Cluster;
use crate::context::Context;
use crate::engine::{BrokerMetadata, ClusterId, ConsumerOffsets, EngineWrite};
use crate::metadata::view::{Master, Observed};
use crate::metadata::work::Work;

/// Seconds between two looks at a master that stays.
const EVERY: i64 = 20;

/// Offsets as masters had them last, by broker group. An operator that starts anew begins with none.
#[derive(Clone, Debug, Default)]
pub struct Offsets(BTreeMap<String, Seen>);

#[derive(Clone, Debug)]
struct Seen {
    /// `host:port` of the master.
    master: String,
    /// When, in seconds of the epoch.
    at: i64,
    offsets: ConsumerOffsets,
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

/// Looks at masters that are new, and now and then at the others; puts back what is missing.
pub async fn audit(ctx: &Context, work: &Work, cluster: &Cluster, observed: &Observed) {
    let now = ctx.now().0.as_second();
    let mut seen = std::mem::take(&mut work.memory().offsets);
    for (group, master) in &observed.groups {
        let Ok(master) = master else { continue };
        let before = seen.0.get(group);
        if before.is_some_and(|b| b.master == master.address && now - b.at < EVERY) {
            continue;
        }
        if let Some(offsets) = look(ctx, work, cluster, group, master, before).await {
            seen.0.insert(group.clone(), Seen { master: master.address.clone(), at: now, offsets });
        }
    }
    seen.0.retain(|group, _| observed.groups.contains_key(group));
    work.memory().offsets = seen;
}

/// What the master has afterwards; `None` where that is not known, and it is looked at again.
async fn look(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    group: &str,
    master: &Master,
    before: Option<&Seen>,
) -> Option<ConsumerOffsets> {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let mut offsets = ctx.engine.offsets(&id, &master.address).await.ok()?;
    let Some(before) = before.filter(|b| b.master != master.address) else { return Some(offsets) };
    let lost = lost(&before.offsets, &offsets, &master.metadata);
    if lost.is_empty() {
        return Some(offsets);
    }
    ctx.leadership.check().ok()?;
    let mut by_group: BTreeMap<String, BTreeMap<String, QueueOffsets>> = BTreeMap::new();
    for ((topic, reader), queues) in &lost {
        by_group.entry(reader.clone()).or_default().insert(topic.clone(), queues.clone());
    }
    let write = EngineWrite::SetOffsets { broker: master.address.clone(), offsets: by_group };
    let outcome = ctx.engine.execute(&id, &write).await.ok()?;
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
    for (key, queues) in lost {
        offsets.entry(key).or_default().extend(queues);
    }
    Some(offsets)
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
}
