//! One pass over all topics and consumer groups of one cluster: observe, plan, apply, status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};
use gantry_crds::condition::Reason;
use gantry_crds::policy::{ClusterRef, ReconcilePolicy};
use gantry_crds::topic::DeletionPolicy;
use gantry_crds::{BrokerCluster, PAUSED_ANNOTATION};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::apply::publish;
use crate::broker_cluster::observe::addresses;
use crate::broker_cluster::parse::{Cluster, Mode, parse};
use crate::broker_cluster::view::{Known, Unknown};
use crate::consumer_group::{ConsumerGroups, PROXY_GROUP, proxy_group};
use crate::context::Context;
use crate::engine::{ClusterId, EngineError, EngineFacts, EngineWrite, Fact};
use crate::error::Error;
use crate::metadata::kind::{Declared, Key, Kind};
use crate::metadata::plan::{Master, Observed, Plan, State, Verdict, plan};
use crate::metadata::status::{status, without_cluster};
use crate::topic::Topics;

/// Finalizer of objects whose deletion changes the engine. Objects with deletionPolicy Retain have none: nothing can keep them.
pub const FINALIZER: &str = "rocketmq.gantry.dev/engine";
/// Statuses written at the same time.
const STATUS_WRITES: usize = 16;
/// Time until the next look while something is under way.
const RECHECK: Duration = Duration::from_secs(2);

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
}

/// What is common to parsing both kinds.
#[must_use]
pub fn declared(
    object: &impl ResourceExt,
    cluster: &ClusterRef,
    name: Option<&String>,
    deletion: DeletionPolicy,
    policy: ReconcilePolicy,
) -> Declared {
    let namespace = object.namespace().unwrap_or_default();
    let paused = object.annotations().get(PAUSED_ANNOTATION).is_some_and(|v| v == "true");
    Declared {
        created: object.creation_timestamp(),
        cluster: cluster.resolve(&namespace),
        engine_name: name.cloned().unwrap_or_else(|| object.name_any()),
        broker_groups: Vec::new(),
        deletion,
        deleting: object.meta().deletion_timestamp.is_some(),
        has_finalizer: object.finalizers().iter().any(|f| f == FINALIZER),
        policy: (!paused).then_some(policy),
        generation: object.meta().generation,
        key: (namespace, object.name_any()),
    }
}

/// One pass. Returns the time until the next.
///
/// # Errors
/// Where the API server refuses a write. An engine that does not answer is said in the statuses.
pub async fn pass(ctx: &Context, work: &Work) -> Result<Duration, Error> {
    let cluster = match work.cluster.as_ref().map(|c| parse(c, &ctx.settings)) {
        Some(Ok(cluster)) => cluster,
        Some(Err(error)) => return orphaned(ctx, work, Reason::ClusterNotReady, &error.to_string()).await,
        None => {
            let message = format!("there is no BrokerCluster {} in namespace {}", work.key.1, work.key.0);
            return orphaned(ctx, work, Reason::ClusterNotFound, &message).await;
        }
    };
    finalizers::<Topics>(ctx, &work.topics).await?;
    finalizers::<ConsumerGroups>(ctx, &work.groups).await?;
    let (topics, strangers) = own_namespace::<Topics>(work, &work.topics);
    let (groups, strange_groups) = own_namespace::<ConsumerGroups>(work, &work.groups);
    refuse_strangers::<Topics>(ctx, &strangers).await?;
    refuse_strangers::<ConsumerGroups>(ctx, &strange_groups).await?;

    let observed = observe(ctx, &cluster, &topics, &groups).await;
    let (topic_plan, mut group_plan) = (plan::<Topics>(&topics, &observed), plan::<ConsumerGroups>(&groups, &observed));
    if cluster.mode == Mode::Apply {
        proxies_group(&observed, &mut group_plan);
    }
    let idle = topic_plan.is_empty() && group_plan.is_empty();
    let allowed = cluster.mode == Mode::Apply && !idle;
    let mut failed = (BTreeMap::new(), BTreeMap::new());
    if allowed {
        failed.0 = apply::<Topics>(ctx, &cluster, &observed, &topic_plan).await?;
        failed.1 = apply::<ConsumerGroups>(ctx, &cluster, &observed, &group_plan).await?;
    }
    // What was written is looked at again: Ready means that the engine has it, not that it was told.
    let (topic_plan, group_plan) = if allowed {
        let observed = observe(ctx, &cluster, &topics, &groups).await;
        (plan::<Topics>(&topics, &observed), plan::<ConsumerGroups>(&groups, &observed))
    } else {
        (topic_plan, group_plan)
    };
    report::<Topics>(ctx, &topics, &topic_plan, &failed.0).await?;
    report::<ConsumerGroups>(ctx, &groups, &group_plan, &failed.1).await?;
    let settled = observed.groups.values().all(Result::is_ok) && topic_plan.is_empty() && group_plan.is_empty();
    Ok(if settled { ctx.settings.resync() } else { RECHECK })
}

type Parsed<'a, K> = Vec<(Declared, &'a <K as Kind>::Object)>;

/// Objects that live in the cluster's own namespace, and the others. A cluster must say who else may use it before others may.
fn own_namespace<'a, K: Kind>(work: &Work, objects: &'a Objects<K>) -> (Parsed<'a, K>, Parsed<'a, K>) {
    objects.iter().map(|o| (K::parse(o), &**o)).partition(|(d, _)| d.key.0 == work.key.0)
}

async fn refuse_strangers<K: Kind>(ctx: &Context, strangers: &[(Declared, &K::Object)]) -> Result<(), Error> {
    for (declared, object) in strangers {
        if declared.deleting {
            set_finalizer::<K>(ctx, declared, object, false).await?;
            continue;
        }
        let message = format!(
            "BrokerCluster {} takes objects from its own namespace {} only: create this one there",
            declared.cluster.1, declared.cluster.0
        );
        let new =
            without_cluster::<K>(declared, Reason::NamespaceNotAllowed, &message, K::old_status(object), &ctx.now());
        publish(ctx, *object, K::old_status(object), &new).await?;
    }
    Ok(())
}

/// Without a cluster there is nothing to delete: objects that go may go.
async fn orphaned(ctx: &Context, work: &Work, reason: Reason, message: &str) -> Result<Duration, Error> {
    orphans::<Topics>(ctx, &work.topics, reason, message).await?;
    orphans::<ConsumerGroups>(ctx, &work.groups, reason, message).await?;
    Ok(ctx.settings.resync())
}

async fn orphans<K: Kind>(ctx: &Context, objects: &Objects<K>, reason: Reason, message: &str) -> Result<(), Error> {
    for object in objects {
        let declared = K::parse(object);
        if declared.deleting && reason == Reason::ClusterNotFound {
            set_finalizer::<K>(ctx, &declared, object, false).await?;
        } else {
            let new = without_cluster::<K>(&declared, reason, message, K::old_status(object), &ctx.now());
            publish(ctx, &**object, K::old_status(object), &new).await?;
        }
    }
    Ok(())
}

/// Objects whose deletion changes the engine get the finalizer before anything is made of them; others lose it.
async fn finalizers<K: Kind>(ctx: &Context, objects: &Objects<K>) -> Result<(), Error> {
    for object in objects {
        let declared = K::parse(object);
        let wanted = declared.deletion != DeletionPolicy::Retain;
        if !declared.deleting && wanted != declared.has_finalizer {
            set_finalizer::<K>(ctx, &declared, object, wanted).await?;
        }
    }
    Ok(())
}

async fn set_finalizer<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    wanted: bool,
) -> Result<(), Error> {
    if declared.has_finalizer == wanted {
        return Ok(());
    }
    ctx.leadership.check()?;
    let mut list: Vec<&str> = object.finalizers().iter().map(String::as_str).filter(|f| *f != FINALIZER).collect();
    if wanted {
        list.push(FINALIZER);
    }
    // The version makes sure that nobody else's finalizer is written over.
    let patch = json!({"metadata": {"finalizers": list, "resourceVersion": object.resource_version()}});
    let (namespace, name) = &declared.key;
    let api: Api<K::Object> = Api::namespaced(ctx.client.clone(), namespace);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // It changed or went meanwhile: the next pass sees it as it is.
        Err(kube::Error::Api(s)) if s.is_conflict() || s.is_not_found() => Ok(()),
        result => result.map(|_| ()).map_err(Error::kubernetes(format!("write the finalizer of {}/{name}", K::NAME))),
    }
}

/// The masters and what they hold: one observation, then two calls per broker group, whatever the number of topics.
async fn observe(
    ctx: &Context,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    groups: &Parsed<'_, ConsumerGroups>,
) -> Observed {
    let facts = ctx.engine.observe(&addresses(cluster)).await;
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let groups_of = cluster.groups();
    let masters: Vec<BoxFuture<'_, Known<Master>>> =
        groups_of.iter().map(|g| master(ctx, cluster, &id, &facts, g).boxed()).collect();
    let masters = join_all(masters).await;
    let mut observed = Observed { groups: groups_of.into_iter().zip(masters).collect(), not_empty: BTreeMap::new() };
    for (declared, _) in topics.iter().filter(|(d, _)| d.deleting && d.deletion == DeletionPolicy::DeleteIfEmpty) {
        if let Some(what) = messages(ctx, &id, &observed, &declared.engine_name).await {
            observed.not_empty.insert(declared.engine_name.clone(), what);
        }
    }
    for (declared, _) in groups.iter().filter(|(d, _)| d.deleting && d.deletion == DeletionPolicy::DeleteIfEmpty) {
        if let Some(what) = consumers(ctx, &id, &observed, &declared.engine_name).await {
            observed.not_empty.insert(declared.engine_name.clone(), what);
        }
    }
    observed
}

fn unknown(error: &EngineError) -> Unknown {
    Unknown { reason: error.reason().into(), message: error.to_string() }
}

async fn master(ctx: &Context, cluster: &Cluster, id: &ClusterId, facts: &EngineFacts, group: &str) -> Known<Master> {
    let address = match facts.groups.get(group) {
        Some(Fact::Known(Some(g))) => g.master_address.clone(),
        Some(Fact::Unknown { unknown: error }) => return Err(unknown(error)),
        Some(Fact::Known(None)) | None => None,
    };
    let Some(address) = address else {
        return Err(Unknown { reason: Reason::NoMaster.as_str().into(), message: format!("{group} has no master") });
    };
    let metadata = ctx.engine.metadata(id, &address).await.map_err(|e| unknown(&e))?;
    let replicas = cluster.broker_addresses(group).into_iter().filter(|a| *a != address).collect();
    Ok(Master { address, replicas, metadata })
}

/// What keeps a topic from being empty, or `None`.
async fn messages(ctx: &Context, id: &ClusterId, observed: &Observed, topic: &str) -> Option<String> {
    let mut count = 0;
    for master in observed.groups.values().flatten().filter(|m| m.metadata.topics.contains_key(topic)) {
        match ctx.engine.topic_stats(id, &master.address, topic).await {
            Ok(Some(stats)) => count += stats.messages(),
            Ok(None) => {}
            Err(error) => return Some(format!("nobody can say whether it is empty: {error}")),
        }
    }
    (count > 0).then(|| format!("it holds {count} messages"))
}

/// What keeps a consumer group from being unused, or `None`.
async fn consumers(ctx: &Context, id: &ClusterId, observed: &Observed, group: &str) -> Option<String> {
    let mut clients = BTreeSet::new();
    for master in observed.groups.values().flatten().filter(|m| m.metadata.groups.contains_key(group)) {
        match ctx.engine.consumers(id, &master.address, group).await {
            Ok(connections) => clients.extend(connections.connection_set.into_iter().map(|c| c.client_id)),
            // The engine's word for a group without consumers.
            Err(error) if error.refusal() == Some(gantry_remoting::ResponseCode::ConsumerNotOnline) => {}
            Err(error) => return Some(format!("nobody can say whether it is in use: {error}")),
        }
    }
    (!clients.is_empty()).then(|| format!("{} consumers are connected", clients.len()))
}

/// The proxies' own group belongs to every master: without it they can't tell each other of their clients.
fn proxies_group(observed: &Observed, plan: &mut Plan<ConsumerGroups>) {
    for master in observed.groups.values().flatten() {
        let current = master.metadata.groups.get(PROXY_GROUP);
        if let Some(change) = ConsumerGroups::change(current, &proxy_group(current)) {
            plan.upserts.entry(master.address.clone()).or_default().push(change);
        }
    }
}

/// Writes to all masters at once. Returns what failed, by engine name.
async fn apply<K: Kind>(
    ctx: &Context,
    cluster: &Cluster,
    observed: &Observed,
    plan: &Plan<K>,
) -> Result<BTreeMap<String, EngineError>, Error> {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let mut writes: Vec<EngineWrite> =
        plan.upserts.iter().map(|(broker, changes)| K::upsert(broker.clone(), changes.clone())).collect();
    if !plan.deletes.is_empty() {
        let masters: Vec<&Master> = observed.groups.values().flatten().collect();
        writes.push(K::delete(
            plan.deletes.clone(),
            masters.iter().map(|m| m.address.clone()).collect(),
            masters.iter().flat_map(|m| m.replicas.clone()).collect(),
            cluster.name_server_addresses(),
        ));
    }
    ctx.leadership.check()?;
    let outcomes: Vec<BoxFuture<'_, _>> = writes.iter().map(|w| ctx.engine.execute(&id, w)).collect();
    let outcomes = join_all(outcomes).await;
    let mut failed = BTreeMap::new();
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => failed.extend(outcome.failed),
            // The whole write failed: the next look finds what is missing, and the statuses say what is known then.
            Err(error) => tracing::warn!(cluster = %id, %error, kind = K::NAME, "a write to the engine failed"),
        }
    }
    Ok(failed)
}

async fn report<K: Kind>(
    ctx: &Context,
    objects: &Parsed<'_, K>,
    plan: &Plan<K>,
    failed: &BTreeMap<String, EngineError>,
) -> Result<(), Error> {
    let writes: Vec<BoxFuture<'_, Result<(), Error>>> = objects
        .iter()
        .filter_map(|(declared, object)| {
            let verdict = plan.verdicts.get(&declared.key)?;
            Some(report_one::<K>(ctx, declared, object, verdict, failed.get(&verdict.engine_name)).boxed())
        })
        .collect();
    stream::iter(writes).buffer_unordered(STATUS_WRITES).collect::<Vec<_>>().await.into_iter().collect()
}

async fn report_one<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    verdict: &Verdict,
    failure: Option<&EngineError>,
) -> Result<(), Error> {
    if verdict.state == State::Released {
        return set_finalizer::<K>(ctx, declared, object, false).await;
    }
    let old = K::old_status(object);
    let new = status::<K>(declared, verdict, failure, old, &ctx.now());
    publish(ctx, object, old, &new).await.map(|_| ())
}
