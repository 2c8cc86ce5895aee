//! Queues that are taken away from a topic: at once they take no more messages, and they are read until every consumer group has what is in them.

use std::collections::BTreeMap;

use gantry_crds::Topic;
use gantry_crds::policy::ReconcilePolicy;
use gantry_remoting::stats::{ConsumeStats, TopicStats};

use crate::engine::{ClusterId, Engine, EngineError};
use crate::metadata::kind::Declared;
use crate::metadata::view::{Observed, Place};

/// How long producers may go on to send to a queue after it is gone from the routes, in seconds: they ask for routes every 30 s, and so do proxies.
pub const STRAGGLERS: i64 = 60;

/// Since when queues that are to go take no messages, in seconds of the epoch. Kept between passes; an operator that starts anew counts anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drains(BTreeMap<Place, i64>);

/// Queues of a topic that are to go from a broker group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Where.
    pub place: Place,
    /// The group's master, `host:port`.
    pub master: String,
    /// The first queue that goes.
    pub first: u32,
}

/// Topics that have more queues to read than declared, and none of them to write.
#[must_use]
pub fn surplus(topics: &[(Declared, &Topic)], observed: &Observed) -> Vec<Surplus> {
    let mut found = Vec::new();
    let apply = topics.iter().filter(|(d, _)| !d.deleting() && d.policy == Some(ReconcilePolicy::Apply));
    for (declared, topic) in apply {
        let first = u32::try_from(topic.spec.queues).unwrap_or(u32::MAX);
        for (group, master) in &observed.groups {
            let Ok(master) = master else { continue };
            let Some(held) = master.metadata.topics.get(&declared.engine_name) else { continue };
            if held.read_queue_nums > first && held.write_queue_nums <= first {
                let place = (group.clone(), declared.engine_name.clone());
                found.push(Surplus { place, master: master.address.clone(), first });
            }
        }
    }
    found
}

impl Drains {
    /// What is remembered after a look at `now`.
    #[must_use]
    pub fn seen(self, surplus: &[Surplus], now: i64) -> Self {
        Self(surplus.iter().map(|s| (s.place.clone(), self.0.get(&s.place).copied().unwrap_or(now))).collect())
    }

    /// Whether nobody sends to these queues any more.
    #[must_use]
    pub fn is_quiet(&self, surplus: &Surplus, now: i64) -> bool {
        self.0.get(&surplus.place).is_some_and(|since| now - since >= STRAGGLERS)
    }
}

/// What keeps these queues from going, or `None`. A few calls, and only while there are such queues.
pub async fn obstacle(engine: &dyn Engine, id: &ClusterId, surplus: &Surplus) -> Result<Option<String>, EngineError> {
    let (topic, master) = (&surplus.place.1, &surplus.master);
    let Some(stats) = engine.topic_stats(id, master, topic).await? else { return Ok(None) };
    if left(surplus, &stats).is_empty() {
        return Ok(None);
    }
    let mut groups = BTreeMap::new();
    for group in engine.topic_consumers(id, master, topic).await? {
        let stats = engine.consume_stats(id, master, &group).await?;
        groups.insert(group, stats);
    }
    Ok(unread(surplus, &stats, &groups))
}

/// Queues that are to go and hold messages, with where they end.
fn left(surplus: &Surplus, stats: &TopicStats) -> BTreeMap<u32, i64> {
    let goes = stats.offset_table.iter().filter(|(q, o)| q.queue_id >= surplus.first && o.max_offset > o.min_offset);
    goes.map(|(q, o)| (q.queue_id, o.max_offset)).collect()
}

/// The first group that has not read all that is in these queues, as a sentence without figures that would change with every look.
fn unread(surplus: &Surplus, stats: &TopicStats, groups: &BTreeMap<String, ConsumeStats>) -> Option<String> {
    let left = left(surplus, stats);
    let first = surplus.first;
    if groups.is_empty() {
        return Some(format!("queues from {first} on hold messages, and no consumer group reads the topic"));
    }
    let behind = |stats: &ConsumeStats| {
        left.iter().any(|(queue, end)| {
            let read = stats.offset_table.iter().find(|(q, _)| q.topic == surplus.place.1 && q.queue_id == *queue);
            read.is_none_or(|(_, o)| o.consumer_offset < *end)
        })
    };
    let group = groups.iter().find(|(_, stats)| behind(stats)).map(|(group, _)| group)?;
    Some(format!("queues from {first} on hold messages that {group} has not read"))
}
