//! Writes what the plan says: to the engine in batches, finalizers and statuses to the API server. It makes no choices.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};
use gantry_crds::BrokerCluster;
use gantry_crds::status::Deletions;
use gantry_crds::topic::DeletionPolicy;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use crate::apply::publish;
use crate::broker_cluster::parse::Cluster;
use crate::context::Context;
use crate::engine::{ClusterId, Engine, EngineError, EngineWrite};
use crate::error::Error;
use crate::metadata::kind::{Declared, Kind};
use crate::metadata::observe::Parsed;
use crate::metadata::pass::{Objects, Work};
use crate::metadata::plan::{Master, Observed, Plan, State, Verdict};
use crate::metadata::status::status;

/// Finalizer of objects whose deletion changes the engine. Objects with deletionPolicy Retain have none: nothing can keep them.
pub const FINALIZER: &str = "rocketmq.gantry.dev/engine";
/// Field manager of `status.deletions` of a BrokerCluster.
const DELETIONS_MANAGER: &str = "gantry-deletions";
/// Field manager of `status.metadataOn` of a BrokerCluster.
const METADATA_MANAGER: &str = "gantry-metadata";
/// Statuses written at the same time.
const STATUS_WRITES: usize = 16;

/// What was not done, by engine name.
pub type Failed = BTreeMap<String, EngineError>;

/// Writes to all masters at once. Returns what failed, by engine name; of a write that failed as a whole that is all it was about.
pub async fn write<K: Kind>(engine: &dyn Engine, cluster: &Cluster, observed: &Observed, plan: &Plan<K>) -> Failed {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let mut writes: Vec<(Vec<String>, EngineWrite)> = plan
        .upserts
        .iter()
        .map(|(broker, changes)| {
            let names = changes.iter().map(|c| K::name_of(c).to_owned()).collect();
            (names, K::upsert(broker.clone(), changes.clone()))
        })
        .collect();
    if !plan.deletes.is_empty() {
        let masters: Vec<&Master> = observed.groups.values().flatten().collect();
        let delete = K::delete(
            plan.deletes.clone(),
            masters.iter().map(|m| m.address.clone()).collect(),
            masters.iter().flat_map(|m| m.replicas.iter().map(|r| r.address.clone())).collect(),
            cluster.name_server_addresses(),
        );
        writes.push((plan.deletes.clone(), delete));
    }
    let outcomes = join_all(writes.iter().map(|(_, w)| engine.execute(&id, w))).await;
    let mut failed = BTreeMap::new();
    for (outcome, (names, _)) in outcomes.into_iter().zip(writes) {
        match outcome {
            Ok(outcome) => failed.extend(outcome.failed),
            Err(error) => {
                tracing::warn!(cluster = %id, %error, kind = K::NAME, "a write to the engine failed");
                failed.extend(names.into_iter().map(|name| (name, error.clone())));
            }
        }
    }
    failed
}

/// Objects whose deletion changes the engine get the finalizer before anything is made of them; others lose it.
pub async fn finalizers<K: Kind>(ctx: &Context, objects: &Objects<K>) -> Result<(), Error> {
    let writes: Vec<BoxFuture<'_, Result<(), Error>>> = objects
        .iter()
        .filter_map(|object| {
            let declared = K::parse(object);
            let wanted = declared.deletion != DeletionPolicy::Retain;
            let differs = !declared.deleting() && wanted != declared.has_finalizer;
            differs.then(|| async move { set_finalizer::<K>(ctx, &declared, object, wanted).await }.boxed())
        })
        .collect();
    all(writes).await
}

/// Puts Gantry's finalizer on an object, or takes it off.
pub async fn set_finalizer<K: Kind>(
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

/// Publishes the status of every object that has a verdict; objects that may go lose the finalizer.
pub async fn report<K: Kind>(
    ctx: &Context,
    objects: &Parsed<'_, K>,
    plan: &Plan<K>,
    failed: &Failed,
) -> Result<(), Error> {
    let writes: Vec<BoxFuture<'_, Result<(), Error>>> = objects
        .iter()
        .filter_map(|(declared, object)| {
            let verdict = plan.verdicts.get(&declared.key)?;
            Some(report_one::<K>(ctx, declared, object, verdict, failed.get(&verdict.engine_name)).boxed())
        })
        .collect();
    all(writes).await
}

async fn report_one<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    verdict: &Verdict,
    failure: Option<&EngineError>,
) -> Result<(), Error> {
    if let State::Released { kept } = &verdict.state {
        if let Some(why) = kept {
            let (namespace, name) = &declared.key;
            tracing::warn!(%namespace, object = %name, kind = K::NAME, name = %verdict.engine_name, %why, "the namespace goes away: the engine keeps what was to be deleted");
        }
        return set_finalizer::<K>(ctx, declared, object, false).await;
    }
    let old = K::old_status(object);
    let new = status::<K>(declared, verdict, failure, old, &ctx.now());
    publish(ctx, object, old, &new).await.map(|_| ())
}

/// Writes down what is deleted and held, under a field manager of its own.
pub async fn publish_deletions(ctx: &Context, cluster: &BrokerCluster, new: &Deletions) -> Result<(), Error> {
    ctx.leadership.check()?;
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let api: Api<BrokerCluster> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": BrokerCluster::api_version(&()),
        "kind": BrokerCluster::kind(&()),
        "metadata": {"uid": cluster.metadata.uid},
        "status": {"deletions": new},
    });
    let params = PatchParams::apply(DELETIONS_MANAGER).force();
    let result = api.patch_status(&name, &params, &Patch::Apply(&patch)).await;
    result.map_err(Error::kubernetes(format!("write the deletions into the status of BrokerCluster/{name}")))?;
    ctx.metrics.writes.with_label_values(&["BrokerCluster", "Status"]).inc();
    Ok(())
}

/// Writes down which broker groups hold all that is declared for them, under a field manager of its own, where that changed.
pub async fn publish_metadata_on(ctx: &Context, work: &Work, complete: &[String]) -> Result<(), Error> {
    let Some(cluster) = &work.cluster else { return Ok(()) };
    let old = cluster.status.as_ref().map(|s| s.metadata_on.as_slice()).unwrap_or_default();
    if old == complete {
        return Ok(());
    }
    ctx.leadership.check()?;
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let api: Api<BrokerCluster> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": BrokerCluster::api_version(&()),
        "kind": BrokerCluster::kind(&()),
        "metadata": {"uid": cluster.metadata.uid},
        "status": {"metadataOn": complete},
    });
    match api.patch_status(&name, &PatchParams::apply(METADATA_MANAGER).force(), &Patch::Apply(&patch)).await {
        // It was deleted, or replaced by another of its name.
        Err(kube::Error::Api(s)) if s.is_conflict() || s.is_not_found() => Ok(()),
        result => {
            result.map_err(Error::kubernetes(format!("write metadataOn into the status of BrokerCluster/{name}")))?;
            ctx.metrics.writes.with_label_values(&["BrokerCluster", "Status"]).inc();
            Ok(())
        }
    }
}

/// Namespaces of objects under deletion that are going away themselves. Where nobody can say, none: it is asked again with the next pass.
pub async fn terminating(ctx: &Context, namespaces: BTreeSet<String>) -> BTreeSet<String> {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let mut found = BTreeSet::new();
    for name in namespaces {
        match api.get_opt(&name).await {
            Ok(Some(n)) if n.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Terminating")) => {
                found.insert(name);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, namespace = %name, "a namespace can't be read"),
        }
    }
    found
}

/// A few at a time. All are tried; the first that failed is the error.
pub async fn all(writes: Vec<BoxFuture<'_, Result<(), Error>>>) -> Result<(), Error> {
    stream::iter(writes).buffer_unordered(STATUS_WRITES).collect::<Vec<_>>().await.into_iter().collect()
}
