//! What is still in topics that are to go, or on its way into them, and who still consumes them or is in a group that is to go. Only reads.
//!
//! What nobody can say keeps them, like what is there.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use gantry_remoting::ResponseCode;
use gantry_remoting::stats::ConsumerConnections;
use gantry_remoting::topic::{MESSAGE_TYPE, TopicConfig};
use tokio::sync::OnceCell;

use crate::broker_cluster::cluster::Cluster;
use crate::engine::system::HALF;
use crate::engine::{ClusterId, Engine, EngineError};
use crate::metadata::kind::Declared;
use crate::metadata::view::{Master, Observed};

/// Whether messages of a topic may wait for their time.
#[must_use]
pub fn delays(topic: &TopicConfig) -> bool {
    matches!(topic.attributes.get(MESSAGE_TYPE), Some("DELAY" | "MIXED"))
}

/// Whether messages of a topic may wait for the end of a transaction.
#[must_use]
pub fn decides(topic: &TopicConfig) -> bool {
    matches!(topic.attributes.get(MESSAGE_TYPE), Some("TRANSACTION" | "MIXED"))
}

/// What a master says of the messages that wait for their time in its wheel, by topic.
type Waiting = BTreeMap<String, Result<BTreeMap<String, i64>, EngineError>>;

/// Asks the masters of a cluster, in one pass.
pub struct Asking<'a> {
    engine: &'a dyn Engine,
    id: ClusterId,
    cluster: &'a Cluster,
    observed: &'a Observed,
    waiting: OnceCell<Waiting>,
}

impl<'a> Asking<'a> {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(engine: &'a dyn Engine, cluster: &'a Cluster, observed: &'a Observed) -> Self {
        let id = ClusterId::new(&cluster.namespace, &cluster.name);
        Self { engine, id, cluster, observed, waiting: OnceCell::new() }
    }

    /// What keeps a topic that is to go if it is empty, or `None`.
    pub async fn topic(&self, declared: &Declared) -> Option<String> {
        let what = self.in_topic(declared).await;
        what.unwrap_or_else(|e| Some(format!("nobody can say whether it is empty: {e}")))
    }

    /// What keeps a consumer group that is to go if nobody uses it, or `None`.
    pub async fn group(&self, declared: &Declared) -> Option<String> {
        let what = self.in_group(&declared.engine_name).await;
        what.unwrap_or_else(|e| Some(format!("nobody can say whether it is in use: {e}")))
    }

    /// Of every master at once, whatever the number of topics.
    async fn ask_waiting(&self) -> Waiting {
        let ask = |m: &Master| {
            let address = m.address.clone();
            async move {
                let answer = self.engine.delayed(&self.id, &address).await;
                (address, answer)
            }
        };
        join_all(self.observed.groups.values().flatten().map(ask)).await.into_iter().collect()
    }

    async fn in_topic(&self, declared: &Declared) -> Result<Option<String>, EngineError> {
        let topic = declared.engine_name.as_str();
        let waiting = self.waiting.get_or_init(|| self.ask_waiting()).await;
        let holders = self.observed.groups.iter().filter_map(|(group, master)| Some((group, master.as_ref().ok()?)));
        let holders: Vec<_> =
            holders.filter(|(g, m)| declared.is_about(g) && m.metadata.topics.contains_key(topic)).collect();
        let (mut stored, mut delayed) = (0, 0);
        for (_, master) in &holders {
            let stats = self.engine.topic_stats(&self.id, &master.address, topic).await?;
            stored += stats.map_or(0, |s| s.messages());
            match waiting.get(&master.address) {
                Some(Ok(counts)) => delayed += counts.get(topic).copied().unwrap_or(0),
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
        }
        if stored > 0 {
            return Ok(Some(format!("it holds {stored} messages")));
        }
        if delayed > 0 {
            return Ok(Some(format!("{delayed} of its messages wait for their time")));
        }
        for (group, master) in &holders {
            if let Some(why) = self.untold(group, master, topic).await? {
                return Ok(Some(why));
            }
        }
        self.readers(topic, holders.iter().map(|(_, m)| m.address.clone()).collect()).await
    }

    /// Messages of which the engine does not tell whether they are this topic's.
    async fn untold(&self, group: &str, master: &Master, topic: &str) -> Result<Option<String>, EngineError> {
        let Some(held) = master.metadata.topics.get(topic) else { return Ok(None) };
        if delays(held) {
            match self.observed.delayed_elsewhere.get(group).copied().flatten() {
                Some(0) => {}
                Some(_) => {
                    let why =
                        format!("messages on {group} wait for their time, and the engine does not tell of which topic");
                    return Ok(Some(why));
                }
                None => return Ok(Some(format!("{group} does not say what waits for its time there"))),
            }
        }
        if decides(held) && self.undecided(master).await? {
            let why = format!("transactions on {group} are not decided, and the engine does not tell of which topic");
            return Ok(Some(why));
        }
        Ok(None)
    }

    /// Whether a master has transactions that its producers neither committed nor rolled back, or did so after the engine looked last.
    async fn undecided(&self, master: &Master) -> Result<bool, EngineError> {
        if !master.metadata.topics.contains_key(HALF.0) {
            return Ok(false);
        }
        let Some(half) = self.engine.topic_stats(&self.id, &master.address, HALF.0).await? else { return Ok(false) };
        let decided = self.engine.consume_stats(&self.id, &master.address, HALF.1).await?;
        let up_to = |id: u32| {
            let queue = decided.offset_table.iter().find(|(q, _)| q.topic == HALF.0 && q.queue_id == id);
            queue.map_or(0, |(_, o)| o.consumer_offset)
        };
        let left = |(min, max, id)| max > min && up_to(id) < max;
        Ok(half.offset_table.iter().any(|(q, o)| left((o.min_offset, o.max_offset, q.queue_id))))
    }

    /// Who is connected and consumes the topic. Only proxies know clients that speak gRPC.
    async fn readers(&self, topic: &str, brokers: Vec<String>) -> Result<Option<String>, EngineError> {
        let mut groups = BTreeSet::new();
        for address in &brokers {
            groups.extend(self.engine.topic_consumers(&self.id, address, topic).await?);
        }
        let reads = |c: &ConsumerConnections| {
            // Who is there and does not say what for may be there for this.
            !c.connection_set.is_empty()
                && (c.subscription_table.is_empty() || c.subscription_table.contains_key(topic))
        };
        for group in groups {
            for address in brokers.iter().cloned().chain(self.cluster.any_proxy()) {
                if reads(&self.clients(&address, &group).await?) {
                    return Ok(Some(format!("consumers of {group} are connected")));
                }
            }
        }
        Ok(None)
    }

    async fn in_group(&self, group: &str) -> Result<Option<String>, EngineError> {
        let mut clients = BTreeSet::new();
        let holders = self.observed.groups.values().flatten().filter(|m| m.metadata.groups.contains_key(group));
        for address in holders.map(|m| m.address.clone()).chain(self.cluster.any_proxy()) {
            clients.extend(self.clients(&address, group).await?.connection_set.into_iter().map(|c| c.client_id));
        }
        Ok((!clients.is_empty()).then(|| format!("{} consumers are connected", clients.len())))
    }

    async fn clients(&self, address: &str, group: &str) -> Result<ConsumerConnections, EngineError> {
        match self.engine.consumers(&self.id, address, group).await {
            // The engine's word for a group without consumers.
            Err(error) if error.refusal() == Some(ResponseCode::ConsumerNotOnline) => {
                Ok(ConsumerConnections::default())
            }
            answer => answer,
        }
    }
}
