//! Looks closer at broker groups that are on their way in or out: what a new one lacks, what one that is to go still holds. Only reads, and only
//! while there are such groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join, join_all};
use futures::stream;
use gantry_crds::Reason;
use gantry_crds::names::pod_of;
use gantry_crds::status::GroupPhase;
use gantry_remoting::stats::TopicStats;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::view::{EngineView, Known, Lacks, Left, Queues, Unknown};
use crate::engine::system::{HALF, is_system_group, is_system_topic};
use crate::engine::{BrokerMetadata, ClusterId, ConsumerOffsets, Engine, EngineFacts};

/// Topics asked about at once.
const AT_ONCE: usize = 8;
/// A look at all such groups stands under this limit: ten thousand topics take a broker some seconds.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Adds to `view` what is to be known of groups that are on their way in or out.
pub async fn look(cluster: &Cluster, engine: &dyn Engine, facts: &EngineFacts, view: &mut EngineView) {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    for group in cluster.groups() {
        match cluster.phase_of(&group) {
            GroupPhase::Opening => {
                let lacks = lacks(cluster, engine, &id, facts, &group).await;
                view.groups.entry(group).and_modify(|g| g.lacks = Some(lacks));
            }
            GroupPhase::Draining => {
                let left = left(cluster, engine, &id, facts, &group).await;
                view.groups.entry(group).and_modify(|g| g.left = Some(left));
            }
            GroupPhase::Open | GroupPhase::Removing => {}
        }
    }
}

fn master<'a>(facts: &'a EngineFacts, group: &str) -> Known<&'a str> {
    facts
        .master(group)
        .ok_or_else(|| Unknown { reason: Reason::NoMaster.as_str().into(), message: format!("{group} has no master") })
}

async fn lacks(
    cluster: &Cluster,
    engine: &dyn Engine,
    id: &ClusterId,
    facts: &EngineFacts,
    group: &str,
) -> Known<Lacks> {
    let own = master(facts, group)?;
    let metadata = engine.metadata(id, own).await.map_err(|e| Unknown::from(&e))?;
    let mut elsewhere = Vec::new();
    for other in cluster.groups().iter().filter(|g| *g != group && cluster.phase_of(g) != GroupPhase::Removing) {
        match cluster.phase_of(other) {
            // Another new one knows nothing that this one would have to know.
            GroupPhase::Opening => {}
            _ => {
                let other = master(facts, other)?;
                let (metadata, offsets) = join(engine.metadata(id, other), engine.offsets(id, other)).await;
                elsewhere.push((metadata.map_err(|e| Unknown::from(&e))?, offsets.map_err(|e| Unknown::from(&e))?));
            }
        }
    }
    let (wanted, absent) = wanted(cluster, &metadata, &elsewhere);
    let replicas = cluster.broker_addresses(group);
    let asked = join_all(replicas.iter().map(|a| async move { (a, engine.offsets(id, a).await) })).await;
    let mut found = Lacks { groups: absent, ..Lacks::default() };
    for (address, offsets) in asked {
        let missing = missing(&wanted, &offsets.map_err(|e| Unknown::from(&e))?);
        if address == own {
            found.offsets = missing;
        } else if !missing.is_empty() {
            found.replicas.insert(pod_of(address));
        }
    }
    Ok(found)
}

/// Queues of the new master that consumer groups read on other masters, and such groups that the new master does not have. A topic that it does not hold
/// is not declared for it; a group that was deleted reads no more, although its offsets stay.
fn wanted(
    cluster: &Cluster,
    metadata: &BrokerMetadata,
    elsewhere: &[(BrokerMetadata, ConsumerOffsets)],
) -> (Queues, BTreeSet<String>) {
    let names = cluster.groups();
    let (mut wanted, mut absent) = (Queues::new(), BTreeSet::new());
    for (other, offsets) in elsewhere {
        for (topic, group) in offsets.keys() {
            let own = !is_system_topic(topic, &cluster.name, &names) && !is_system_group(group);
            let Some(config) = metadata.topics.get(topic).filter(|_| own && other.groups.contains_key(group)) else {
                continue;
            };
            if !metadata.groups.contains_key(group) {
                absent.insert(group.clone());
                continue;
            }
            let queues = config.read_queue_nums.max(config.write_queue_nums);
            wanted.entry(group.clone()).or_default().insert(topic.clone(), (0..queues).collect());
        }
    }
    (wanted, absent)
}

fn missing(wanted: &Queues, offsets: &ConsumerOffsets) -> Queues {
    let mut missing = Queues::new();
    for (group, topics) in wanted {
        for (topic, queues) in topics {
            let known = offsets.get(&(topic.clone(), group.clone()));
            let lacking: BTreeSet<u32> =
                queues.iter().filter(|q| known.is_none_or(|k| !k.contains_key(q))).copied().collect();
            if !lacking.is_empty() {
                missing.entry(group.clone()).or_default().insert(topic.clone(), lacking);
            }
        }
    }
    missing
}

async fn left(cluster: &Cluster, engine: &dyn Engine, id: &ClusterId, facts: &EngineFacts, group: &str) -> Known<Left> {
    let own = master(facts, group)?;
    let broker = facts.brokers.get(own).ok_or_else(Unknown::not_asked)?;
    let hidden = |what: &str| Unknown { reason: Reason::FactsUnknown.as_str().into(), message: what.to_owned() };
    let config = broker.config.known().ok_or_else(|| hidden("the configuration of its master is not known"))?;
    for (key, what) in
        [("popConsumerKVServiceEnable", "messages that consumers hold"), ("enableLmq", "messages in light queues")]
    {
        if config.get(key).is_some_and(|v| v == "true") {
            return Err(hidden(&format!("with {key} a broker does not say how many {what} it has")));
        }
    }
    let runtime = engine.runtime(id, own).await.map_err(|_| hidden("the state of its master is not known"))?;
    let delayed = runtime.delayed_messages.ok_or_else(|| hidden("its master does not say what it delays"))?;
    let late = runtime.timer_behind_seconds.unwrap_or(0);
    if late > 5 {
        return Err(hidden(&format!("delayed messages are {late} s late")));
    }
    let (metadata, offsets) = join(engine.metadata(id, own), engine.offsets(id, own)).await;
    let (metadata, offsets) = (metadata.map_err(|e| Unknown::from(&e))?, offsets.map_err(|e| Unknown::from(&e))?);
    let stats = stats(engine, id, own, concerned(cluster, &metadata)).await?;
    let mut left = unread(&metadata, &offsets, &stats);
    left.delayed = delayed;
    left.undispatched = runtime.dispatch_behind_bytes.unwrap_or(0);
    Ok(left)
}

/// Topics whose messages are for somebody: people's own, retries, and transactions. Dead letters are for nobody until somebody asks for them.
fn concerned(cluster: &Cluster, metadata: &BrokerMetadata) -> Vec<String> {
    let groups = cluster.groups();
    let for_somebody =
        |t: &&String| t.starts_with(RETRY) || *t == HALF.0 || !is_system_topic(t, &cluster.name, &groups);
    metadata.topics.keys().filter(for_somebody).cloned().collect()
}

const RETRY: &str = "%RETRY%";

async fn stats(
    engine: &dyn Engine,
    id: &ClusterId,
    broker: &str,
    topics: Vec<String>,
) -> Known<BTreeMap<String, TopicStats>> {
    let ask = |topic: String| async move {
        let stats = engine.topic_stats(id, broker, &topic).await;
        stats.map(|s| (topic, s.unwrap_or_default())).map_err(|e| Unknown::from(&e))
    };
    let answers: Vec<Known<(String, TopicStats)>> =
        stream::iter(topics).map(ask).buffer_unordered(AT_ONCE).collect().await;
    answers.into_iter().collect()
}

/// What is in queues and not read, by whom it is not read.
fn unread(metadata: &BrokerMetadata, offsets: &ConsumerOffsets, stats: &BTreeMap<String, TopicStats>) -> Left {
    let mut left = Left::default();
    for (topic, stats) in stats {
        if stats.messages() == 0 {
            continue;
        }
        let lag = |group: &str| -> i64 {
            let read = offsets.get(&(topic.clone(), group.to_owned()));
            let queue = |(q, o): &(gantry_remoting::stats::MessageQueue, gantry_remoting::stats::TopicOffset)| {
                let from = read.and_then(|r| r.get(&q.queue_id)).copied().unwrap_or(o.min_offset);
                o.max_offset.saturating_sub(from.max(o.min_offset)).max(0)
            };
            stats.offset_table.iter().map(queue).fold(0, i64::saturating_add)
        };
        if topic == HALF.0 {
            left.transactions = lag(HALF.1);
            continue;
        }
        // A group that was deleted reads no more, although its offsets stay.
        let readers: Vec<&String> = match retry_of(topic, metadata) {
            Some(group) => vec![group],
            None if topic.starts_with(RETRY) => continue,
            None => {
                offsets.keys().filter(|(t, g)| t == topic && metadata.groups.contains_key(g)).map(|(_, g)| g).collect()
            }
        };
        if readers.is_empty() {
            left.unread.insert(topic.clone(), stats.messages());
        }
        for group in readers {
            let lag = lag(group);
            if lag > 0 {
                let behind = left.consumers.entry(group.clone()).or_insert(0);
                *behind = behind.saturating_add(lag);
            }
        }
    }
    left
}

/// The consumer group whose retries a topic holds: `%RETRY%group`, and for pop consumers `%RETRY%group_topic` or `%RETRY%group+topic`.
fn retry_of<'a>(topic: &str, metadata: &'a BrokerMetadata) -> Option<&'a String> {
    let rest = topic.strip_prefix(RETRY)?;
    let of = |g: &&String| {
        rest.strip_prefix(g.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('_') || r.starts_with('+'))
    };
    metadata.groups.keys().filter(of).max_by_key(|g| g.len())
}

#[cfg(test)]
mod tests {
    use gantry_remoting::group::GroupConfig;
    use gantry_remoting::stats::{MessageQueue, TopicOffset};

    use super::*;

    fn stats(of: &[(&str, &[(i64, i64)])]) -> BTreeMap<String, TopicStats> {
        let queue = |topic: &str, id: usize, (min, max): (i64, i64)| {
            let queue_id = u32::try_from(id).unwrap();
            let queue = MessageQueue { topic: topic.into(), broker_name: "b".into(), queue_id };
            (queue, TopicOffset { min_offset: min, max_offset: max, last_update_timestamp: 0 })
        };
        let table = |topic: &str, queues: &[(i64, i64)]| TopicStats {
            offset_table: queues.iter().enumerate().map(|(i, q)| queue(topic, i, *q)).collect(),
        };
        of.iter().map(|(topic, queues)| ((*topic).to_owned(), table(topic, queues))).collect()
    }

    /// Of queue 0.
    fn offsets(of: &[(&str, &str, i64)]) -> ConsumerOffsets {
        of.iter().map(|(t, g, at)| (((*t).to_owned(), (*g).to_owned()), [(0, *at)].into())).collect()
    }

    fn cluster() -> Cluster {
        let object = serde_json::json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster",
            "metadata": {"name": "shop", "namespace": "ns", "uid": "u"}, "spec": {"brokers": {"groups": 2}},
        });
        let object = serde_json::from_value(object).unwrap();
        crate::broker_cluster::parse::parse(&object, &crate::config::Settings::default()).unwrap()
    }

    fn holding(groups: &[&str]) -> BrokerMetadata {
        let groups = groups.iter().map(|g| ((*g).to_owned(), GroupConfig::new(*g))).collect();
        BrokerMetadata { groups, ..BrokerMetadata::default() }
    }

    #[test]
    fn what_a_group_has_not_read_counts_from_its_offset_and_where_it_has_none_from_the_beginning() {
        let stats = stats(&[("orders", &[(0, 10), (5, 9)])]);
        let left = unread(&holding(&["billing"]), &offsets(&[("orders", "billing", 7)]), &stats);
        assert_eq!(left.consumers, BTreeMap::from([("billing".into(), 3 + 4)]));
        assert!(left.unread.is_empty());
    }

    #[test]
    fn retries_count_for_their_group_also_where_it_never_read_them() {
        let stats = stats(&[
            ("%RETRY%billing", &[(0, 2)]),
            ("%RETRY%billing_eu_orders", &[(0, 1)]),
            ("%RETRY%gone", &[(0, 5)]),
        ]);
        let left = unread(&holding(&["billing", "billing_eu"]), &ConsumerOffsets::new(), &stats);
        assert_eq!(left.consumers, BTreeMap::from([("billing".into(), 2), ("billing_eu".into(), 1)]));
        assert!(left.unread.is_empty());
    }

    #[test]
    fn messages_that_nobody_reads_are_left_too_and_a_deleted_group_is_nobody() {
        let stats = stats(&[("orders", &[(3, 10)]), ("empty", &[(4, 4)])]);
        let left = unread(&holding(&[]), &offsets(&[("orders", "gone", 10)]), &stats);
        assert_eq!(left.unread, BTreeMap::from([("orders".into(), 7)]));
    }

    #[test]
    fn a_new_group_lacks_offsets_of_groups_that_it_has_and_those_that_it_has_not() {
        let cluster = cluster();
        let mut own = holding(&["billing"]);
        own.topics.insert("orders".into(), gantry_remoting::topic::TopicConfig::new("orders", 2));
        let read =
            [("orders", "billing", 7), ("orders", "by-hand", 0), ("orders", "deleted", 3), ("other", "billing", 1)];
        let elsewhere = [(holding(&["billing", "by-hand"]), offsets(&read))];
        let (queues, absent) = wanted(&cluster, &own, &elsewhere);
        let orders = BTreeMap::from([("orders".to_owned(), BTreeSet::from([0, 1]))]);
        assert_eq!(queues, Queues::from([("billing".to_owned(), orders.clone())]));
        assert_eq!(absent, BTreeSet::from(["by-hand".to_owned()]));
        let known = ConsumerOffsets::from([(("orders".into(), "billing".into()), [(0, 0)].into())]);
        assert_eq!(missing(&queues, &known)["billing"]["orders"], BTreeSet::from([1]));
        assert!(missing(&queues, &[(("orders".into(), "billing".into()), [(0, 0), (1, 9)].into())].into()).is_empty());
    }

    #[test]
    fn transactions_are_left_until_they_are_decided() {
        let stats = stats(&[(HALF.0, &[(0, 4)])]);
        let left = |at| unread(&holding(&[]), &offsets(&[(HALF.0, HALF.1, at)]), &stats).transactions;
        assert_eq!((left(1), left(4)), (3, 0));
    }
}
