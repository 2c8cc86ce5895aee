//! Topics and consumer groups: the whole declared set of a cluster is compared with what its brokers hold, in a few calls, and only
//! differences are written, in batches. So the unit of work is the cluster, not the object.

pub mod access;
mod admission;
pub mod apply;
pub mod deletion;
pub mod drain;
pub mod emptiness;
pub mod inherit;
pub mod kind;
pub mod observe;
pub mod offsets;
pub mod order;
pub mod pass;
pub mod plan;
mod plans;
pub mod questions;
pub mod repairs;
pub mod replicas;
pub mod resets;
pub mod retries;
pub mod status;
pub mod tenancy;
pub mod view;
pub mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{BoxStream, select_all};
use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::consumer_group::ConsumerGroups;
use crate::context::Context;
use crate::error::Error;
use crate::metadata::kind::{Key, Kind};
use crate::metadata::pass::pass;
use crate::metadata::work::{Memory, Objects, Work};
use crate::topic::Topics;

/// Changes that come within this time of each other are one pass.
const GATHER: Duration = Duration::from_millis(20);
/// The whole of a pass stands under this limit.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What is watched.
struct Stores {
    clusters: Vec<Store<BrokerCluster>>,
    topics: Vec<Store<Topic>>,
    groups: Vec<Store<ConsumerGroup>>,
}

impl Stores {
    /// Returns once all that is there has been read, in every namespace. Before, a topic's cluster may seem not to exist, or an older rival.
    async fn loaded(&self) {
        async fn all<K>(stores: &[Store<K>])
        where
            K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
        {
            // One whose writer is gone is not written any more: the watch never ends.
            join_all(stores.iter().map(Store::wait_until_ready)).await;
        }
        futures::join!(all(&self.clusters), all(&self.topics), all(&self.groups));
    }
}

/// Keeps topics and consumer groups of all clusters as declared, in these namespaces (`None` is all) together: a topic may live in another one than
/// its cluster. Never returns.
pub async fn run(ctx: Arc<Context>, namespaces: Vec<Option<String>>) {
    let (clusters, cluster_events) = watch(&ctx, &namespaces);
    let (topics, topic_events) = watch(&ctx, &namespaces);
    let (groups, group_events) = watch(&ctx, &namespaces);
    let stores = Stores { clusters, topics, groups };
    let mut events = select_all([cluster_events, topic_events, group_events]);
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut running: BTreeSet<Key> = BTreeSet::new();
    let mut memories: BTreeMap<Key, Arc<Mutex<Memory>>> = BTreeMap::new();
    let mut passes: JoinSet<(Key, Option<Duration>)> = JoinSet::new();
    let mut loaded = Box::pin(stores.loaded());
    let mut ready = false;
    loop {
        let room = ready && running.len() < usize::from(ctx.settings.concurrency);
        let next = due
            .iter()
            .filter(|(k, _)| room && !running.contains(*k))
            .min_by_key(|(_, at)| **at)
            .map(|(k, at)| (k.clone(), *at));
        tokio::select! {
            () = &mut loaded, if !ready => ready = true,
            Some(cluster) = events.next() => {
                let at = Instant::now() + GATHER;
                due.entry(cluster).and_modify(|d| *d = (*d).min(at)).or_insert(at);
            }
            Some(done) = passes.join_next(), if !running.is_empty() => match done {
                Ok((cluster, again)) => {
                    running.remove(&cluster);
                    match again {
                        Some(after) => {
                            let at = Instant::now() + after;
                            due.entry(cluster).and_modify(|d| *d = (*d).min(at)).or_insert(at);
                        }
                        None => {
                            memories.remove(&cluster);
                            ctx.metrics.consumption.forget(&cluster);
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "a pass over topics and groups ended abnormally"),
            },
            () = tokio::time::sleep_until(next.as_ref().map_or_else(far, |n| n.1)), if next.is_some() => {
                if let Some((cluster, _)) = next {
                    due.remove(&cluster);
                    running.insert(cluster.clone());
                    let work = work(&stores, &cluster, memories.entry(cluster.clone()).or_default().clone());
                    passes.spawn(bounded(ctx.clone(), work));
                }
            }
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Everything that names a cluster, now.
fn work(stores: &Stores, cluster: &Key, memory: Arc<Mutex<Memory>>) -> Work {
    fn of<K: Kind>(stores: &[Store<K::Object>], cluster: &Key) -> Objects<K>
    where
        <K::Object as Resource>::DynamicType: Default + Eq + std::hash::Hash + Clone,
    {
        stores.iter().flat_map(|s| s.state_filter(|o| K::cluster(o) == *cluster)).collect()
    }
    Work {
        key: cluster.clone(),
        cluster: stores.clusters.iter().find_map(|s| s.find(|c| key(c) == *cluster)),
        topics: of::<Topics>(&stores.topics, cluster),
        groups: of::<ConsumerGroups>(&stores.groups, cluster),
        memory,
    }
}

/// A pass under its time limit. `None`: there is nothing left to look at.
async fn bounded(ctx: Arc<Context>, work: Work) -> (Key, Option<Duration>) {
    let name = format!("metadata/{}/{}", work.key.0, work.key.1);
    let gone = work.cluster.is_none() && work.topics.is_empty() && work.groups.is_empty();
    if gone {
        ctx.succeeded(&name);
        return (work.key, None);
    }
    let result = match tokio::time::timeout(TIME_LIMIT, pass(&ctx, &work)).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut(TIME_LIMIT.as_secs())),
    };
    let outcome = result.as_ref().map_or_else(|e| e.reason().as_str(), |_| "Succeeded");
    ctx.metrics.reconciles.with_label_values(&["Topic", outcome]).inc();
    let after = match result {
        Ok(after) => {
            ctx.succeeded(&name);
            after
        }
        Err(error) => {
            let wait = ctx.failed(&name);
            tracing::warn!(cluster = %name, error = error.sentence(), reason = error.reason().as_str(), retry_in = wait.as_secs(), "a pass failed");
            wait
        }
    };
    (work.key, Some(after))
}

fn key(cluster: &BrokerCluster) -> Key {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// A kind whose objects are watched.
trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The cluster that it is about.
    fn cluster(&self) -> Key;
    /// What of it is for us to act upon.
    fn news(&self) -> u64;
    /// Gives back the memory of lists for what is not in them: room is made for four at a time.
    fn shrink(&mut self);
}

impl Watched for BrokerCluster {
    fn cluster(&self) -> Key {
        key(self)
    }

    /// Everything: its status tells when brokers come up.
    fn news(&self) -> u64 {
        hash(&self.metadata.resource_version)
    }

    fn shrink(&mut self) {}
}

impl Watched for Topic {
    fn cluster(&self) -> Key {
        Topics::cluster(self)
    }

    fn news(&self) -> u64 {
        declaration(self)
    }

    fn shrink(&mut self) {
        if let Some(status) = &mut self.status {
            status.conditions.shrink_to_fit();
            status.broker_groups.shrink_to_fit();
        }
    }
}

impl Watched for ConsumerGroup {
    fn cluster(&self) -> Key {
        ConsumerGroups::cluster(self)
    }

    fn news(&self) -> u64 {
        declaration(self)
    }

    fn shrink(&mut self) {
        if let Some(status) = &mut self.status {
            status.conditions.shrink_to_fit();
            status.broker_groups.shrink_to_fit();
        }
    }
}

/// Stores of all objects of a kind, one per namespace, and the clusters that each change of one concerns.
fn watch<K: Watched>(ctx: &Context, namespaces: &[Option<String>]) -> (Vec<Store<K>>, BoxStream<'static, Key>) {
    let (stores, events): (Vec<_>, Vec<_>) = namespaces.iter().map(|n| watch_one(ctx, n.as_deref())).unzip();
    (stores, select_all(events).boxed())
}

fn watch_one<K: Watched>(ctx: &Context, namespace: Option<&str>) -> (Store<K>, BoxStream<'static, Key>) {
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    };
    let (store, writer) = reflector::store();
    let mut seen = HashMap::new();
    let events = watcher(api, watcher::Config::default()).default_backoff().modify(slim).reflect(writer).filter_map(
        move |event| {
            let key = match event {
                Ok(event) => concerned(event, &mut seen),
                Err(error) => {
                    tracing::warn!(%error, "a watch failed and is started again");
                    None
                }
            };
            async move { key }
        },
    );
    (store, events.boxed())
}

/// What nobody reads is more than half of an object. `None` rather than empty: an empty list keeps the memory of what was in it.
fn slim<K: Watched>(object: &mut K) {
    object.shrink();
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.labels = None;
    meta.owner_references = None;
    let ours = |(name, _): &(String, String)| name.starts_with("gantry.dev/");
    let annotations = meta.annotations.take().into_iter().flatten().filter(ours).collect::<BTreeMap<_, _>>();
    meta.annotations = (!annotations.is_empty()).then_some(annotations);
}

/// The cluster that an event concerns, unless there is nothing new in it, as after each of our own writes.
fn concerned<K: Watched>(event: watcher::Event<K>, seen: &mut HashMap<u64, u64>) -> Option<Key> {
    let id = |o: &K| hash(&o.meta().uid);
    match event {
        watcher::Event::Apply(o) | watcher::Event::InitApply(o) => {
            let new = o.news();
            (seen.insert(id(&o), new) != Some(new)).then(|| o.cluster())
        }
        watcher::Event::Delete(o) => {
            seen.remove(&id(&o));
            Some(o.cluster())
        }
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// What of a topic or consumer group is for us to act upon: people's part of it, not our own.
fn declaration<K: Resource>(object: &K) -> u64 {
    let meta = object.meta();
    hash(&(&meta.generation, &meta.annotations, meta.deletion_timestamp.is_some()))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
