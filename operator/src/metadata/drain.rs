//! Queues that are taken away from a topic: at once they take no more messages, and they are read until every consumer group has what is in them.

use std::collections::BTreeMap;

use gantry_crds::Topic;
use gantry_crds::policy::ReconcilePolicy;
use gantry_remoting::stats::{ConsumeStats, TopicStats};

use crate::engine::{ClusterId, Engine, EngineError};
use crate::metadata::emptiness::{decides, delays};
use crate::metadata::kind::Declared;
use crate::metadata::view::{Observed, Place};

/// How long producers may go on to send to a queue after it is gone from the routes, in seconds: they ask for routes every 30 s, and so do proxies.
pub const STRAGGLERS: i64 = 60;

/// A transaction that nobody decides is asked for after so long, again and again after so long, and so many times, unless the brokers are told otherwise
/// (BrokerConfig.java): milliseconds, milliseconds, times. A producer that asks for a later first time (CHECK_IMMUNITY_TIME_IN_SECONDS) is not known.
const TRANSACTION: [(&str, i64); 3] =
    [("transactionTimeOut", 6_000), ("transactionCheckInterval", 30_000), ("transactionCheckMax", 15)];

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
    /// Whether messages of the topic may wait for their time, and how many wait on that master of which it does not tell the topic.
    pub delays: Option<Option<i64>>,
    /// How long messages of the topic may wait for the end of their transaction, in seconds: they go to the queue that was chosen when it began.
    pub transactions: i64,
}

/// How long a transaction may stay undecided, in seconds.
#[must_use]
pub fn longest_transaction(config: &BTreeMap<String, String>) -> i64 {
    let [timeout, interval, times] =
        TRANSACTION.map(|(key, default)| config.get(key).and_then(|v| v.trim().parse().ok()).unwrap_or(default));
    // It is asked for once more before it is given up.
    (timeout + interval * (times + 1)).max(0) / 1_000
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
                found.push(Surplus {
                    place,
                    master: master.address.clone(),
                    first,
                    delays: delays(held).then(|| observed.delayed_elsewhere.get(group).copied().flatten()),
                    transactions: if decides(held) { observed.longest_transaction } else { 0 },
                });
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

    /// Why these queues may still get messages from those who send, or `None`.
    #[must_use]
    pub fn expects(&self, surplus: &Surplus, now: i64) -> Option<&'static str> {
        let waited = now - self.0.get(&surplus.place).copied().unwrap_or(now);
        if waited < STRAGGLERS {
            return Some("clients that have not heard of it may still send to them for a minute");
        }
        (waited < STRAGGLERS + surplus.transactions)
            .then_some("transactions that began before may still put messages into them")
    }
}

/// What keeps these queues from going, or `None`. A few calls, and only while there are such queues.
pub async fn obstacle(engine: &dyn Engine, id: &ClusterId, surplus: &Surplus) -> Result<Option<String>, EngineError> {
    let (topic, master) = (&surplus.place.1, &surplus.master);
    if engine.delayed(id, master).await?.get(topic).is_some_and(|n| *n > 0) {
        return Ok(Some("messages of the topic wait for their time, and may be for them".into()));
    }
    match surplus.delays {
        None | Some(Some(0)) => {}
        Some(_) => {
            return Ok(Some("messages wait for their time, and nobody can say whether they are for them".into()));
        }
    }
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
