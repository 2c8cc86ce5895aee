//! Asks the engine how far consumer groups are. Only reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{BoxFuture, join_all, try_join_all};
use futures::{FutureExt, StreamExt, stream};
use gantry_remoting::group::dead_letter_topic;
use gantry_remoting::stats::{ConsumeStats, ConsumerConnections};

use super::Totals;
use crate::broker_cluster::cluster::Cluster;
use crate::engine::{ClusterId, Engine, EngineError};
use crate::metadata::view::Master;

/// Groups that are asked at the same time.
const AT_ONCE: usize = 4;

/// One look at a cluster.
pub struct Asking<'a> {
    engine: &'a dyn Engine,
    id: ClusterId,
    masters: &'a [&'a Master],
    proxy: Option<String>,
    /// A proxy that did not answer once is not asked again in this look: each time could cost seconds.
    proxy_answers: AtomicBool,
}

/// What is told of all groups at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct All {
    /// By group.
    pub totals: BTreeMap<String, Totals>,
    /// Messages that wait for their time, by topic.
    pub delayed: BTreeMap<String, i64>,
}

/// What is told of one group.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// How far it is, by every master that has it.
    pub stats: Vec<ConsumeStats>,
    /// Messages in its dead-letter topic.
    pub dead_letters: i64,
    /// Clients that brokers know.
    pub remoting: Vec<ConsumerConnections>,
    /// Clients that proxies know; none where no proxy answers.
    pub proxied: Option<ConsumerConnections>,
}

impl<'a> Asking<'a> {
    /// Of these masters.
    #[must_use]
    pub fn new(engine: &'a dyn Engine, cluster: &Cluster, masters: &'a [&'a Master]) -> Self {
        let id = ClusterId::new(&cluster.namespace, &cluster.name);
        Self { engine, id, masters, proxy: cluster.any_proxy(), proxy_answers: AtomicBool::new(true) }
    }

    /// All groups: two calls per master, whatever their number.
    pub async fn all(&self) -> Result<All, EngineError> {
        let asks = self.masters.iter().map(|m| self.engine.consumption(&self.id, &m.address));
        let mut all = All::default();
        for broker in try_join_all(asks).await? {
            for (name, group) in broker.groups {
                let totals = all.totals.entry(name).or_default();
                totals.tps += group.tps;
                for (topic, lag) in group.lag {
                    let total = totals.lag.entry(topic).or_default();
                    *total = total.saturating_add(lag);
                }
            }
            for (topic, count) in broker.delayed {
                let total = all.delayed.entry(topic).or_default();
                *total = total.saturating_add(count);
            }
        }
        Ok(all)
    }

    /// Some groups one by one, a few at a time. Those of which nobody could say are left out.
    pub async fn each(&self, groups: &[String]) -> Vec<(String, Reading)> {
        let ask = |group: &String| {
            let group = group.clone();
            async move {
                let answer = self.one(&group).await;
                (group, answer)
            }
            .boxed()
        };
        let asks: Vec<BoxFuture<'_, (String, Result<Reading, EngineError>)>> = groups.iter().map(ask).collect();
        let answers: Vec<_> = stream::iter(asks).buffer_unordered(AT_ONCE).collect().await;
        let known = answers.into_iter().filter_map(|(group, answer)| match answer {
            Ok(reading) => Some((group, reading)),
            Err(error) => {
                tracing::debug!(%group, %error, "nobody can say how far a consumer group is");
                None
            }
        });
        known.collect()
    }

    async fn one(&self, group: &str) -> Result<Reading, EngineError> {
        let dead = dead_letter_topic(group);
        let holders = self.masters.iter().filter(|m| m.metadata.groups.contains_key(group));
        let asks = holders.map(|m| async {
            let stats = self.engine.consume_stats(&self.id, &m.address, group).await?;
            let clients = self.engine.consumers(&self.id, &m.address, group).await?;
            let dead = match m.metadata.topics.contains_key(&dead) {
                true => self.engine.topic_stats(&self.id, &m.address, &dead).await?,
                false => None,
            };
            Ok::<_, EngineError>((stats, clients, dead.map_or(0, |d| d.messages())))
        });
        let mut reading = Reading::default();
        for answer in join_all(asks).await {
            let (stats, clients, dead) = answer?;
            reading.stats.push(stats);
            reading.remoting.push(clients);
            reading.dead_letters = reading.dead_letters.saturating_add(dead);
        }
        reading.proxied = self.proxied(group).await;
        Ok(reading)
    }

    async fn proxied(&self, group: &str) -> Option<ConsumerConnections> {
        let proxy = self.proxy.as_ref()?;
        if !self.proxy_answers.load(Ordering::Relaxed) {
            return None;
        }
        match self.engine.consumers(&self.id, proxy, group).await {
            Ok(clients) => Some(clients),
            Err(error) => {
                tracing::debug!(%proxy, %error, "nobody can say who consumes by gRPC");
                self.proxy_answers.store(false, Ordering::Relaxed);
                None
            }
        }
    }
}
