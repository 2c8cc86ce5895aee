//! Kind `BrokerCluster`.

pub mod approval;
pub mod call;
pub mod closing;
pub mod cluster;
pub mod counts;
pub mod evacuation;
pub mod extent;
pub mod formats;
pub mod given_up;
pub mod hazards;
pub mod hold;
pub mod identities;
mod judgements;
pub mod keys;
pub mod memory;
pub mod observe;
pub mod outlook;
mod outsiders;
pub mod parse;
pub mod plan;
pub mod pods;
pub mod progress;
pub mod resources;
pub mod roles;
pub mod safety;
pub mod scale;
pub mod stages;
pub mod status;
pub mod steps;
mod stranded;
mod switches;
pub mod transition;
pub mod upgrade;
pub mod version;
pub mod view;
pub mod volumes;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use gantry_crds::{BrokerCluster, BrokerClusterStatus, Reason};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Controller, Error as ControllerError};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Config, watcher};
use kube::{Api, Client, Resource, ResourceExt};

use crate::apply::{announce, apply, publish, tell};
use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::steps::{Outcome, Plan, Step};
use crate::context::Context;
use crate::error::Error;
use crate::labels;

/// The whole of a pass stands under this time limit: an API server or engine that hangs must not hold a place for ever.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks while something is under way.
const RECHECK: Duration = Duration::from_secs(3);
/// The same while clients wait for it, and after a hand-over.
const SOON: Duration = Duration::from_millis(700);

/// One pass over a cluster.
async fn reconcile(object: Arc<BrokerCluster>, ctx: Arc<Context>) -> Result<Action, Error> {
    let cluster = match parse::parse(&object, &ctx.settings) {
        Ok(cluster) => cluster,
        Err(error) => return refuse(&object, &ctx, error.into()).await,
    };
    let observed = observe::observe(&cluster, &ctx.client, &*ctx.engine, &ctx.now())
        .await
        .map_err(Error::kubernetes("list children"))?
        .remembering(&object.status.clone().unwrap_or_default());
    let plan = plan::plan(&cluster, &observed)?;
    let applied = match cluster.mode {
        Mode::Apply => apply(&ctx, &cluster, &plan).await,
        Mode::Plan | Mode::Observe | Mode::Paused => Ok(()),
    };
    let failure = applied.as_ref().err().map(|e| (e.reason(), e.sentence()));
    let outcome = Outcome { plan: &plan, failure };
    let old = object.status.clone().unwrap_or_default();
    let new = status::status(&cluster, &observed, &outcome, &old, &ctx.now());
    report(&object, &ctx, &cluster, &plan, &new).await?;
    applied?;
    let hurries = matches!(plan.step, Some(Step::Elect { .. })) || status::waits(&new);
    let busy = if hurries { SOON } else { RECHECK };
    Ok(Action::requeue(if status::is_settled(&new) { ctx.settings.resync() } else { busy }))
}

/// Publishes the status, and tells people what changed.
async fn report(
    object: &BrokerCluster,
    ctx: &Context,
    cluster: &Cluster,
    plan: &Plan,
    new: &BrokerClusterStatus,
) -> Result<(), Error> {
    if cluster.mode == Mode::Apply {
        announce(ctx, object, plan).await;
    }
    publish(ctx, object, object.status.as_ref(), new).await?;
    let before = object.status.as_ref().and_then(|s| s.upgrade.as_ref());
    if let Some((good, reason, note)) = upgrade::news(before, new.upgrade.as_ref(), cluster) {
        let type_ = if good { EventType::Normal } else { EventType::Warning };
        tell(ctx, object, type_, reason, "Upgrade".into(), note).await;
    }
    let ready =
        |s: Option<&BrokerClusterStatus>| s.and_then(|s| s.conditions.iter().find(|c| c.type_ == "Ready").cloned());
    if let (was, Some(is)) = (ready(object.status.as_ref()), ready(Some(new)))
        && was.as_ref().map(|w| (&w.status, &w.reason)) != Some((&is.status, &is.reason))
    {
        let type_ = if is.status == "True" || was.is_none() { EventType::Normal } else { EventType::Warning };
        tell(ctx, object, type_, Reason::from_name(&is.reason), format!("Ready is {}", is.status), is.message).await;
    }
    Ok(())
}

/// A spec that can't be: said in the status, looked at again when it changes.
async fn refuse(object: &BrokerCluster, ctx: &Context, error: Error) -> Result<Action, Error> {
    let status = status::of_failure(object, error.reason(), &error.sentence(), ctx.now());
    if publish(ctx, object, object.status.as_ref(), &status).await? {
        tell(ctx, object, EventType::Warning, error.reason(), "Parse".into(), error.sentence()).await;
    }
    Ok(Action::requeue(ctx.settings.resync()))
}

async fn bounded(object: Arc<BrokerCluster>, ctx: Arc<Context>) -> Result<Action, Error> {
    let timer = ctx.metrics.seconds.start_timer();
    let name = key(&object);
    let result = match tokio::time::timeout(TIME_LIMIT, reconcile(object, ctx.clone())).await {
        Ok(result) => result,
        Err(_) => Err(Error::TimedOut(TIME_LIMIT.as_secs())),
    };
    timer.observe_duration();
    let outcome = result.as_ref().map_or_else(|e| e.reason().as_str(), |_| "Succeeded");
    ctx.metrics.reconciles.with_label_values(&["BrokerCluster", outcome]).inc();
    if result.is_ok() {
        ctx.succeeded(&name);
    }
    result
}

// The signature is the controller runtime's.
#[allow(clippy::needless_pass_by_value)]
fn retry(object: Arc<BrokerCluster>, error: &Error, ctx: Arc<Context>) -> Action {
    let wait = ctx.failed(&key(&object));
    tracing::warn!(
        error = error.sentence(),
        reason = error.reason().as_str(),
        retry_in = wait.as_secs(),
        "a pass failed"
    );
    Action::requeue(wait)
}

fn key(object: &BrokerCluster) -> String {
    format!("BrokerCluster/{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Watches BrokerClusters and everything that belongs to them, in one namespace or in all.
pub fn controller(ctx: Arc<Context>, namespace: Option<String>) -> impl Stream<Item = ()> {
    let client = ctx.client.clone();
    let ours = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let concurrency = ctx.settings.concurrency;
    let controller = Controller::new(api::<BrokerCluster>(&client, namespace.as_deref()), watcher::Config::default());
    let switches = switches::switches(ctx.clone(), controller.store());
    controller
        .reconcile_all_on(switches)
        // Several events of one change are one pass.
        .with_config(Config::default().debounce(Duration::from_millis(200)).concurrency(concurrency))
        .owns(api::<ServiceAccount>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<ConfigMap>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<Service>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<PodDisruptionBudget>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<StatefulSet>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<Deployment>(&client, namespace.as_deref()), ours.clone())
        .owns(api::<HorizontalPodAutoscaler>(&client, namespace.as_deref()), ours.clone())
        .watches(api::<PartialObjectMeta<Pod>>(&client, namespace.as_deref()), ours, |pod| {
            let cluster = pod.labels().get(labels::INSTANCE)?;
            Some(ObjectRef::new(cluster).within(&pod.namespace()?))
        })
        .run(bounded, retry, ctx)
        .map(|result| match result {
            Ok(_) => {}
            // It was deleted between the event and the pass.
            Err(ControllerError::ObjectNotFound(_)) => tracing::debug!("an object is gone"),
            Err(ControllerError::ReconcilerFailed(..)) => {}
            Err(error) => tracing::warn!(%error, "a watch failed and is started again"),
        })
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
