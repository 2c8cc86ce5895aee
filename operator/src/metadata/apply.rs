//! Writes what the plan says: to the engine in batches, finalizers and statuses to the API server. It makes no choices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use gantry_crds::BrokerCluster;
use gantry_crds::status::Deletions;
use gantry_crds::topic::DeletionPolicy;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::apply::publish;
use crate::broker_cluster::cluster::Cluster;
use crate::context::Context;
use crate::engine::{ClusterId, Engine, EngineError, EngineWrite};
use crate::error::Error;
use crate::metadata::kind::{Declared, FINALIZER, Key, Kind, Parsed};
use crate::metadata::order::MOST;
use crate::metadata::plan::{Plan, State, Verdict};
use crate::metadata::retries::declaration;
use crate::metadata::status::{status, without_cluster};
use crate::metadata::view::{Master, Observed};
use crate::metadata::work::Work;

/// Field manager of `status.deletions` of a BrokerCluster.
const DELETIONS_MANAGER: &str = "gantry-deletions";
/// Field manager of `status.metadataOn` of a BrokerCluster.
const METADATA_MANAGER: &str = "gantry-metadata";
/// Writes to the API server under way at the same time.
const WRITES: usize = 32;
/// How long one pass writes to the API server for one kind: an edit that comes meanwhile waits for it.
const TURN: Duration = Duration::from_secs(3);

/// The two parts of an object that are written.
const FINALIZERS: &str = "finalizers";
/// See [`FINALIZERS`].
pub const STATUS: &str = "status";

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
    writes.extend(deletions(cluster, observed, plan));
    let mut failed = carry_out(engine, &id, K::NAME, writes).await;
    // Not before name servers forgot where it was: whoever is told anew tells them again.
    let mut renewals: BTreeMap<&String, (Vec<String>, Vec<K::Change>)> = BTreeMap::new();
    for (name, changes) in &plan.renewals {
        for (master, change) in changes {
            let (names, of_master) = renewals.entry(master).or_default();
            names.push(name.clone());
            of_master.push(change.clone());
        }
    }
    let renewals =
        renewals.into_iter().map(|(master, (names, changes))| (names, K::upsert(master.clone(), changes))).collect();
    failed.extend(carry_out(engine, &id, K::NAME, renewals).await);
    failed
}

/// Deletions, together where they are from the same broker groups.
fn deletions<K: Kind>(cluster: &Cluster, observed: &Observed, plan: &Plan<K>) -> Vec<(Vec<String>, EngineWrite)> {
    let mut by_groups: BTreeMap<&BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for (name, groups) in &plan.deletes {
        by_groups.entry(groups).or_default().push(name.clone());
    }
    let of = |(groups, names): (&BTreeSet<String>, Vec<String>)| {
        let masters: Vec<&Master> = groups.iter().filter_map(|g| observed.groups.get(g)?.as_ref().ok()).collect();
        let delete = K::delete(
            names.clone(),
            masters.iter().map(|m| m.address.clone()).collect(),
            masters.iter().flat_map(|m| m.replicas.iter().map(|r| r.address.clone())).collect(),
            cluster.name_server_addresses(),
        );
        (names, delete)
    };
    by_groups.into_iter().map(of).collect()
}

/// All at once. Returns what failed, by engine name.
async fn carry_out(
    engine: &dyn Engine,
    id: &ClusterId,
    kind: &'static str,
    writes: Vec<(Vec<String>, EngineWrite)>,
) -> Failed {
    let outcomes = join_all(writes.iter().map(|(_, w)| engine.execute(id, w))).await;
    let mut failed = BTreeMap::new();
    for (outcome, (names, _)) in outcomes.into_iter().zip(writes) {
        match outcome {
            Ok(outcome) => failed.extend(outcome.failed),
            Err(error) => {
                tracing::warn!(cluster = %id, %error, kind, "a write to the engine failed");
                failed.extend(names.into_iter().map(|name| (name, error.clone())));
            }
        }
    }
    failed
}

/// Objects whose deletion changes the engine get the finalizer before anything is made of them; others lose it. Returns those that have it not yet.
pub async fn finalizers<K: Kind>(ctx: &Context, work: &Work, objects: &Parsed<'_, K>) -> Result<BTreeSet<Key>, Error> {
    let wanted = |d: &Declared| d.deletion != DeletionPolicy::Retain;
    let differ: Vec<&(Declared, &K::Object)> =
        objects.iter().filter(|(d, _)| !d.deleting() && wanted(d) != d.has_finalizer).collect();
    let put = Mutex::new(BTreeSet::new());
    let writes = differ.iter().map(|(declared, object)| {
        let put = &put;
        async move {
            let wrote = match set_finalizer::<K>(ctx, declared, object, wanted(declared)).await {
                Err(error) if error.is_refusal() => {
                    // It is not worked on, so this is all that can be said of it.
                    let (old, why) = (K::old_status(object), error.sentence());
                    let new = without_cluster::<K>(declared, error.reason(), &why, old, &ctx.now());
                    publish(ctx, *object, old, &new).await.ok();
                    return Err(error);
                }
                result => result?,
            };
            if wrote {
                put.lock().unwrap_or_else(PoisonError::into_inner).insert(declared.key.clone());
            }
            Ok(wrote)
        }
        .boxed()
    });
    let writes =
        differ.iter().zip(writes).map(|((declared, _), write)| by_itself::<K>(ctx, work, declared, FINALIZERS, write));
    some(writes).await?;
    let put = put.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lack = differ.iter().filter(|(d, _)| wanted(d) && !put.contains(&d.key));
    Ok(lack.map(|(d, _)| d.key.clone()).collect())
}

/// A write to one object that concerns no other: where the API server refuses it, it is tried again later, and the pass goes on.
pub fn by_itself<'a, K: Kind>(
    ctx: &'a Context,
    work: &'a Work,
    declared: &'a Declared,
    part: &'static str,
    write: BoxFuture<'a, Result<bool, Error>>,
) -> BoxFuture<'a, Result<bool, Error>> {
    async move {
        let name = format!("{}/{} {part}", declared.key.0, declared.key.1);
        let (of, now) = (vec![declaration(declared)], ctx.now().0.as_second());
        if work.memory().unwritten.waits(K::NAME, &name, &of, now).is_some() {
            return Ok(false);
        }
        match write.await {
            Err(error) if error.is_refusal() => {
                let retry_in = work.memory().unwritten.refused(K::NAME, &name, of, now, ());
                ctx.metrics.reconciles.with_label_values(&[K::NAME, error.reason().as_str()]).inc();
                tracing::warn!(
                    kind = K::NAME,
                    object = name,
                    error = error.sentence(),
                    retry_in,
                    "the API server refuses a write to one object"
                );
                Ok(false)
            }
            result => {
                let mut memory = work.memory();
                if result.is_ok() && !memory.unwritten.is_empty() {
                    memory.unwritten.taken(K::NAME, &name);
                }
                result
            }
        }
    }
    .boxed()
}

/// Whether an object has no finalizer because the API server refuses it: nothing is done for it, and it is not waited for.
pub fn is_refused<K: Kind>(work: &Work, declared: &Declared, now: i64) -> bool {
    let name = format!("{}/{} {FINALIZERS}", declared.key.0, declared.key.1);
    work.memory().unwritten.waits(K::NAME, &name, &vec![declaration(declared)], now).is_some()
}

/// Puts Gantry's finalizer on an object, or takes it off. `false`: nothing was written.
pub async fn set_finalizer<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    wanted: bool,
) -> Result<bool, Error> {
    if declared.has_finalizer == wanted {
        return Ok(false);
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
        Err(kube::Error::Api(s)) if s.is_conflict() || s.is_not_found() => Ok(false),
        result => result.map(|_| true).map_err(Error::kubernetes(format!("write the finalizer of {}/{name}", K::NAME))),
    }
}

/// Publishes the status of objects that have a verdict, in their order; objects that may go lose the finalizer. Returns how many were reached.
pub async fn report<K: Kind>(
    ctx: &Context,
    work: &Work,
    objects: &Parsed<'_, K>,
    plan: &Plan<K>,
    failed: &Failed,
) -> Result<usize, Error> {
    let writes = objects.iter().map(|(declared, object)| {
        let write = async move {
            let verdict = plan.verdicts.get(&declared.key).filter(|_| !plan.postponed.contains(&declared.key));
            let Some(verdict) = verdict else { return Ok(false) };
            report_one::<K>(ctx, declared, object, verdict, failed.get(&verdict.engine_name)).await
        };
        by_itself::<K>(ctx, work, declared, STATUS, write.boxed())
    });
    some(writes).await
}

async fn report_one<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    verdict: &Verdict,
    failure: Option<&EngineError>,
) -> Result<bool, Error> {
    if let State::Released { kept } = &verdict.state {
        if let Some(why) = kept {
            let (namespace, name) = &declared.key;
            tracing::warn!(%namespace, object = %name, kind = K::NAME, name = %verdict.engine_name, %why, "the namespace goes away: the engine keeps what was to be deleted");
        }
        return set_finalizer::<K>(ctx, declared, object, false).await;
    }
    let old = K::old_status(object);
    let new = status::<K>(declared, verdict, failure, old, &ctx.now());
    publish(ctx, object, old, &new).await
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
            let result =
                result.map_err(Error::kubernetes(format!("write metadataOn into the status of BrokerCluster/{name}")));
            match result {
                // Whoever refuses it keeps a new group closed, and nothing else from being done.
                Err(error) if error.is_refusal() => {
                    tracing::warn!(error = error.sentence(), "the API server refuses a write to one object");
                    return Ok(());
                }
                result => drop(result?),
            }
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

/// Writes, a few at a time and in this order, until [`MOST`] objects were written or [`TURN`] is over. Each says whether it wrote anything. Returns how many
/// were reached; the first that failed is the error, and keeps no other from being tried.
pub async fn some<'a>(writes: impl Iterator<Item = BoxFuture<'a, Result<bool, Error>>> + Send) -> Result<usize, Error> {
    let until = Instant::now() + TURN;
    let mut writes = writes.fuse();
    let mut under_way = FuturesUnordered::new();
    let (mut reached, mut wrote, mut failed) = (0, 0, None);
    loop {
        while under_way.len() < WRITES && wrote + under_way.len() < MOST && Instant::now() < until {
            let Some(write) = writes.next() else { break };
            under_way.push(write);
            reached += 1;
        }
        match under_way.next().await {
            Some(Ok(true)) => wrote += 1,
            Some(Ok(false)) => {}
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => return failed.map_or(Ok(reached), Err),
        }
    }
}
