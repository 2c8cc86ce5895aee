//! What people do to objects, and how long it takes until they have what they want.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use gantry_crds::{Condition, ConsumerGroup, Topic};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Requests under way at the same time while objects are applied: as many as kubectl and GitOps tools send.
const APPLY: usize = 16;
/// How often a topic is edited while others are applied.
const EVERY: Duration = Duration::from_millis(200);
/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The objects of one size.
pub struct Load {
    pub topics: Api<Topic>,
    pub groups: Api<ConsumerGroup>,
    pub size: usize,
}

fn ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True" && c.observed_generation == generation)
}

fn topic_ready(t: &Topic) -> bool {
    t.status.as_ref().is_some_and(|s| ready(&s.conditions, t.metadata.generation))
}

fn group_ready(g: &ConsumerGroup) -> bool {
    g.status.as_ref().is_some_and(|s| ready(&s.conditions, g.metadata.generation))
}

impl Load {
    pub fn new(client: &Client, size: usize) -> Self {
        let (topics, groups) = (Api::namespaced(client.clone(), "bench"), Api::namespaced(client.clone(), "bench"));
        Self { topics, groups, size }
    }

    fn labels(&self) -> String {
        format!("size=s{}", self.size)
    }

    fn topic(&self, i: usize, policy: &str) -> Result<Topic> {
        let name = format!("s{}-{}-{i:05}", self.size, policy.to_lowercase());
        let object = json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "Topic",
            "metadata": {"name": name, "labels": {"size": format!("s{}", self.size), "policy": policy}},
            "spec": {"clusterRef": {"name": "shop"}, "deletionPolicy": policy},
        });
        Ok(serde_json::from_value(object)?)
    }

    fn group(&self, i: usize) -> Result<ConsumerGroup> {
        let object = json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "ConsumerGroup",
            "metadata": {"name": format!("s{}-group-{i:05}", self.size), "labels": {"size": format!("s{}", self.size)}},
            "spec": {"clusterRef": {"name": "shop"}},
        });
        Ok(serde_json::from_value(object)?)
    }

    /// Applies all: seconds that applying took, and from the last one until all are Ready.
    pub async fn burst(&self) -> Result<(f64, f64)> {
        let topics = self.topics.clone();
        let (size, labels) = (self.size, self.labels());
        let waiting = tokio::spawn(async move { all(topics, &labels, size, topic_ready).await });
        let (groups, labels, some) = (self.groups.clone(), self.labels(), self.size / 10);
        let waiting_groups = tokio::spawn(async move { all(groups, &labels, some, group_ready).await });
        let begun = Instant::now();
        let params = PostParams::default();
        let groups = stream::iter(0..self.size / 10).map(|i| {
            let object = self.group(i);
            let params = &params;
            async move {
                self.groups.create(params, &object?).await?;
                anyhow::Ok(())
            }
        });
        groups.buffer_unordered(APPLY).try_collect::<()>().await?;
        self.create("Retain", self.size).await?;
        let applied = Instant::now();
        let ready = waiting.await??.max(waiting_groups.await??);
        Ok(((applied - begun).as_secs_f64(), ready.saturating_duration_since(applied).as_secs_f64()))
    }

    async fn create(&self, policy: &str, count: usize) -> Result<()> {
        let params = PostParams::default();
        let topics = stream::iter(0..count).map(|i| {
            let object = self.topic(i, policy);
            let params = &params;
            async move {
                self.topics.create(params, &object?).await?;
                anyhow::Ok(())
            }
        });
        topics.buffer_unordered(APPLY).try_collect::<()>().await
    }

    /// Changes single topics one after the other, somewhere among all: seconds from the answer to the edit until Ready again, in order.
    pub async fn edits(&self, count: usize) -> Result<Vec<f64>> {
        let mut events = self.watched().await?;
        let mut took = Vec::new();
        for i in 0..count {
            let name = self.topic(i * 7919 % self.size, "Retain")?.name_any();
            // Never twice the same, also where a topic is edited twice.
            took.push(self.edit(&mut events, &name, json!({"queues": 9 + i})).await?);
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    /// Changes the first topic again and again until it is told to stop, as often as `EVERY` at most: seconds as of `edits`.
    pub async fn edits_until(&self, stop: watch::Receiver<bool>) -> Result<Vec<f64>> {
        let mut events = self.watched().await?;
        let name = self.topic(0, "Retain")?.name_any();
        let mut took = Vec::new();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // It ends as it began: it stays in the engine, and what is there otherwise is not adopted when the next size begins.
        while !*stop.borrow() || !took.len().is_multiple_of(2) {
            ticks.tick().await;
            // More and more queues would have to be drained when the next size begins.
            let permission = if took.len().is_multiple_of(2) { "WriteOnly" } else { "ReadWrite" };
            took.push(self.edit(&mut events, &name, json!({"permission": permission})).await?);
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    /// What happens to the topics from now on.
    async fn watched(&self) -> Result<BoxStream<'static, watcher::Result<Event<Topic>>>> {
        let config = watcher::Config::default().labels(&self.labels());
        let mut events = watcher(self.topics.clone(), config).boxed();
        while !matches!(next(&mut events).await?, Event::InitDone) {}
        Ok(events)
    }

    async fn edit(
        &self,
        events: &mut (impl Stream<Item = watcher::Result<Event<Topic>>> + Unpin),
        name: &str,
        spec: serde_json::Value,
    ) -> Result<f64> {
        let patch = json!({"spec": spec});
        let edited = self.topics.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        let begun = Instant::now();
        loop {
            if let Event::Apply(topic) = next(events).await?
                && topic.name_any() == name
                && topic.metadata.generation >= edited.metadata.generation
                && topic_ready(&topic)
            {
                return Ok(begun.elapsed().as_secs_f64());
            }
        }
    }

    /// Deletes as many topics whose messages are to go: how many a second, from the first request until the last object is gone.
    pub async fn deletions(&self, count: usize, confirm: impl AsyncFnOnce() -> Result<()>) -> Result<f64> {
        self.create("Delete", count).await?;
        let labels = format!("{},policy=Delete", self.labels());
        all(self.topics.clone(), &labels, count, topic_ready).await?;
        confirm().await?;
        let begun = Instant::now();
        self.topics.delete_collection(&DeleteParams::default(), &ListParams::default().labels(&labels)).await?;
        self.gone(&labels).await?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    /// Removes all objects; the engine keeps what they declared.
    pub async fn remove(&self) -> Result<()> {
        let params = ListParams::default().labels(&self.labels());
        self.topics.delete_collection(&DeleteParams::default(), &params).await?;
        self.groups.delete_collection(&DeleteParams::default(), &params).await?;
        self.gone(&self.labels()).await
    }

    async fn gone(&self, labels: &str) -> Result<()> {
        let begun = Instant::now();
        let params = ListParams::default().labels(labels).limit(1);
        while !self.topics.list_metadata(&params).await?.items.is_empty() {
            if begun.elapsed() > PATIENCE {
                bail!("they do not go");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

async fn next<K>(events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin)) -> Result<Event<K>> {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.context("nothing happens")?;
    Ok(event.context("the watch ended")??)
}

/// When `count` objects of these labels were Ready.
async fn all<K>(api: Api<K>, labels: &str, count: usize, is_ready: fn(&K) -> bool) -> Result<Instant>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    static STEP: AtomicU64 = AtomicU64::new(0);
    let mut events = pin!(watcher(api, watcher::Config::default().labels(labels)));
    let mut ready = BTreeSet::new();
    while ready.len() < count {
        if let Event::Apply(o) | Event::InitApply(o) = next(&mut events).await?
            && is_ready(&o)
        {
            ready.insert(o.name_any());
            if STEP.fetch_add(1, Ordering::Relaxed).is_multiple_of(2000) {
                println!("   {} of {count} ready", ready.len());
            }
        }
    }
    Ok(Instant::now())
}
