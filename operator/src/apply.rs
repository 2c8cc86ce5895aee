//! The only writer to Kubernetes. It makes no choices: what to write is in the plan.

use std::time::Duration;

use gantry_crds::Reason;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::resources::Resources;
use crate::broker_cluster::roles::Role;
use crate::broker_cluster::steps::{Plan, Step};
use crate::broker_cluster::volumes::{Growth, Ownership};
use crate::child::{ChildKind, ChildRef, Write};
use crate::context::Context;
use crate::engine::{ClusterAddresses, ClusterId, EngineError, EngineWrite};
use crate::error::Error;
use crate::labels::{LOG_END, MANAGER, ROLE};

/// Time that replicas get to change their role after an election.
const ROLE_CHANGE: Duration = Duration::from_millis(250);

/// Writes all of a plan to the API server, in order, makes its changes of the engine, then takes its step.
///
/// # Errors
/// The first write that failed; those after it were not tried and will be planned again.
pub async fn apply(ctx: &Context, cluster: &Cluster, plan: &Plan) -> Result<(), Error> {
    for w in &plan.writes {
        ctx.leadership.check()?;
        write(ctx, cluster, w).await?;
    }
    for growth in &plan.growths {
        ctx.leadership.check()?;
        grow(ctx, cluster, growth).await?;
    }
    for ownership in &plan.ownerships {
        ctx.leadership.check()?;
        own(ctx, cluster, ownership).await?;
    }
    for claim in &plan.claims {
        ctx.leadership.check()?;
        delete::<PersistentVolumeClaim>(ctx, cluster, &claim.name, &claim.uid, None).await?;
    }
    for role in &plan.roles {
        ctx.leadership.check()?;
        label(ctx, cluster, role).await?;
    }
    for c in &plan.calls {
        ctx.leadership.check()?;
        call(ctx, cluster, c).await?;
    }
    match &plan.step {
        Some(step) => take(ctx, cluster, step).await,
        None => Ok(()),
    }
}

async fn write(ctx: &Context, cluster: &Cluster, write: &Write) -> Result<(), Error> {
    let child = write.child();
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &cluster.namespace, &child.kind.api_resource());
    let action = match write {
        Write::Create { object, .. } => {
            create(&api, cluster, child, object).await?;
            "Create"
        }
        Write::Update { object, .. } => {
            let params = PatchParams::apply(MANAGER).force();
            api.patch(&child.name, &params, &Patch::Apply(object))
                .await
                .map_err(Error::kubernetes(format!("write {child}")))?;
            "Update"
        }
        Write::Delete { uid, .. } => {
            let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match api.delete(&child.name, &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                result => {
                    result.map_err(Error::kubernetes(format!("delete {child}")))?;
                }
            }
            "Delete"
        }
    };
    ctx.metrics.writes.with_label_values(&[child.kind.as_str(), action]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, child = %child, action, differences = ?differences(write), "wrote a child");
    Ok(())
}

fn differences(write: &Write) -> &[String] {
    match write {
        Write::Update { differences, .. } => differences,
        Write::Create { .. } | Write::Delete { .. } => &[],
    }
}

/// Without force: fields that somebody else set to other values show that the object is somebody else's. One of ours whose labels were edited
/// away is not in the list that the plan was made from; it is recognised by its owner.
async fn create(
    api: &Api<DynamicObject>,
    cluster: &Cluster,
    child: &ChildRef,
    object: &serde_json::Value,
) -> Result<(), Error> {
    let failed = || Error::kubernetes(format!("create {child}"));
    match api.patch(&child.name, &PatchParams::apply(MANAGER), &Patch::Apply(object)).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            let theirs = api.get_opt(&child.name).await.map_err(failed())?;
            let ours =
                theirs.is_some_and(|o| o.meta().owner_references.iter().flatten().any(|r| r.uid == cluster.owner.uid));
            if !ours {
                return Err(Error::NameTaken(child.to_string()));
            }
            api.patch(&child.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
                .await
                .map_err(failed())?;
        }
        result => {
            result.map_err(failed())?;
        }
    }
    Ok(())
}

/// Asks for more of a volume. Whether its StorageClass lets it grow is for the API server to say, in its own words.
async fn grow(ctx: &Context, cluster: &Cluster, growth: &Growth) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let patch = json!({"spec": {"resources": {"requests": {"storage": growth.to}}}});
    api.patch(&growth.claim, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(Error::kubernetes(format!("grow PersistentVolumeClaim/{}", growth.claim)))?;
    ctx.metrics.writes.with_label_values(&["PersistentVolumeClaim", "Update"]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, growth = ?growth, "asked for more of a volume");
    Ok(())
}

/// Makes a volume claim go with the BrokerCluster, or not any more.
async fn own(ctx: &Context, cluster: &Cluster, ownership: &Ownership) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let mut owner = json!({"uid": cluster.owner.uid});
    if ownership.owned {
        // No controller's: a StatefulSet makes and finds its claims.
        let OwnerReference { api_version, kind, name, .. } = &cluster.owner;
        owner = json!({"uid": cluster.owner.uid, "apiVersion": api_version, "kind": kind, "name": name});
    } else {
        owner["$patch"] = json!("delete");
    }
    // The uid: not a later claim of the same name.
    let patch = json!({"metadata": {"uid": ownership.uid, "ownerReferences": [owner]}});
    match api.patch(&ownership.claim, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
        result => {
            result.map_err(Error::kubernetes(format!("own PersistentVolumeClaim/{}", ownership.claim)))?;
        }
    }
    ctx.metrics.writes.with_label_values(&["PersistentVolumeClaim", "Update"]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, ownership = ?ownership, "said with whom a volume goes");
    Ok(())
}

/// Says at a pod what it is in its broker group.
async fn label(ctx: &Context, cluster: &Cluster, role: &Role) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    // The uid: not a later pod of the same name.
    let patch = json!({"metadata": {"uid": role.uid, "labels": {ROLE: role.role}}});
    match api.patch_metadata(&role.pod, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => return Ok(()),
        result => {
            result.map_err(Error::kubernetes(format!("label Pod/{}", role.pod)))?;
        }
    }
    ctx.metrics.writes.with_label_values(&["Pod", "Update"]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, pod = role.pod, role = role.role, "labelled a pod");
    Ok(())
}

/// Takes the one disruptive step of a plan.
async fn take(ctx: &Context, cluster: &Cluster, step: &Step) -> Result<(), Error> {
    ctx.leadership.check()?;
    let action = match step {
        Step::Elect { group, id: replica, to, from, end } => {
            let write = EngineWrite::ElectMaster {
                controllers: cluster.controller_addresses(),
                group: group.clone(),
                id: u64::try_from(*replica).unwrap_or_default(),
            };
            // Before, so that it is known whatever becomes of this process. What came since the last look may come once more until it hears of the election.
            let before = log_end(ctx, cluster, group, from).await.ok_or_else(|| unread(cluster, from))?;
            let bound = before.saturating_add((before - *end).max(0));
            remember_end(ctx, cluster, from, bound).await?;
            let id = ClusterId::new(&cluster.namespace, &cluster.name);
            // That took as long as the API server and the broker pleased.
            ctx.leadership.check()?;
            ctx.engine.execute(&id, &write).await?;
            let forget = EngineWrite::ForgetMaster {
                name_servers: cluster.name_server_addresses(),
                group: group.clone(),
                address: cluster.address_of_broker(from),
            };
            help(ctx, &id, &forget).await;
            tokio::time::sleep(ROLE_CHANGE).await;
            let replicas = cluster.pods_of(group).into_iter().filter(|pod| pod != to).collect();
            let follow = Call::Follow { master: to.clone(), replicas }.write(cluster);
            let ((), now) = futures::join!(help(ctx, &id, &follow), log_end(ctx, cluster, group, from));
            if let Some(now) = now.filter(|now| *now > bound) {
                remember_end(ctx, cluster, from, now).await?;
            }
            "Elect"
        }
        Step::Restart { pod, uid, .. } => {
            delete::<Pod>(ctx, cluster, pod, uid, None).await?;
            "Restart"
        }
        Step::GiveUp { pod, uid, claim } => {
            // First the claim: a pod that is made anew must not find the volume of the lost node again. The claim goes when its pod does.
            if let Some((name, uid)) = claim {
                delete::<PersistentVolumeClaim>(ctx, cluster, name, uid, None).await?;
                ctx.leadership.check()?;
            }
            delete::<Pod>(ctx, cluster, pod, uid, Some(0)).await?;
            "GiveUp"
        }
    };
    ctx.metrics.steps.with_label_values(&[action]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, step = ?step, "took a step");
    Ok(())
}

/// Helps replicas to follow a new master. Within a few milliseconds of an election they change their role, forget whom they followed, and ask the name
/// servers: these must not name the former master any more, or a replica waits at its door for ever. After that they are told of the new one. Until one
/// follows, nothing is acknowledged. That this failed is no harm but a delay.
pub(crate) async fn help(ctx: &Context, cluster: &ClusterId, write: &EngineWrite) {
    let result = match ctx.leadership.check() {
        Ok(()) => ctx.engine.execute(cluster, write).await.map(drop).map_err(Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "replicas could not be helped to follow their new master");
    }
}

/// Where the log of a broker ends now, in bytes.
async fn log_end(ctx: &Context, cluster: &Cluster, group: &str, pod: &str) -> Option<i64> {
    let address = cluster.address_of_broker(pod);
    let only = ClusterAddresses {
        cluster: ClusterId::new(&cluster.namespace, &cluster.name),
        name_servers: Vec::new(),
        controllers: Vec::new(),
        groups: [(group.to_owned(), vec![address.clone()])].into(),
    };
    Some(ctx.engine.observe(&only).await.brokers.get(&address)?.replication.known()?.max_offset)
}

/// A master that does not say where its log ends does not hand over: it may hang, and then the controllers elect.
fn unread(cluster: &Cluster, pod: &str) -> Error {
    let (address, problem) = (cluster.address_of_broker(pod), "it did not say where its log ends".to_owned());
    EngineError::EngineUnreachable { address, problem }.into()
}

/// Writes down where the log of a master that hands over ends: it must not be restarted before the new master's log is longer.
async fn remember_end(ctx: &Context, cluster: &Cluster, pod: &str, end: i64) -> Result<(), Error> {
    ctx.leadership.check()?;
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let patch = json!({"metadata": {"annotations": {LOG_END: end.to_string()}}});
    match api.patch_metadata(pod, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(drop).map_err(Error::kubernetes(format!("annotate Pod/{pod}"))),
    }
}

/// Makes one change of the engine.
async fn call(ctx: &Context, cluster: &Cluster, call: &Call) -> Result<(), Error> {
    let outcome = ctx.engine.execute(&ClusterId::new(&cluster.namespace, &cluster.name), &call.write(cluster)).await?;
    if let Some((_, error)) = outcome.failed.into_iter().next() {
        return Err(error.into());
    }
    ctx.metrics.changes.with_label_values(&[call.action()]).inc();
    tracing::info!(cluster = %cluster.name, namespace = %cluster.namespace, call = ?call, "changed the engine");
    Ok(())
}

/// Deletes this very object, where it is still there. `grace`: seconds; 0 does not wait for the node.
async fn delete<K>(ctx: &Context, cluster: &Cluster, name: &str, uid: &str, grace: Option<u32>) -> Result<(), Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &cluster.namespace);
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params =
        DeleteParams { preconditions: Some(preconditions), grace_period_seconds: grace, ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        result => result.map(drop).map_err(Error::kubernetes(format!("delete {}/{name}", K::kind(&())))),
    }
}

/// Writes a status where it differs from the one that the object has. `true`: it was written.
///
/// # Errors
/// Where the API server refuses it.
pub async fn publish<K, S>(ctx: &Context, object: &K, old: Option<&S>, new: &S) -> Result<bool, Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
    S: Serialize + PartialEq,
{
    let (Some(name), Some(namespace)) = (&object.meta().name, &object.meta().namespace) else { return Ok(false) };
    if old == Some(new) {
        return Ok(false);
    }
    ctx.leadership.check()?;
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let mut patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // Not a new object of the same name, should this one have been deleted meanwhile.
        "metadata": {"uid": object.meta().uid},
        "status": new,
    });
    // Written by the pass over topics and groups, under a field manager of its own: neither writes what the other has just changed.
    if let Some(status) = patch["status"].as_object_mut() {
        status.remove("deletions");
        status.remove("metadataOn");
    }
    let what = format!("write the status of {}/{name}", K::kind(&()));
    match api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await {
        // It was deleted, or replaced by another of its name.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
        result => {
            result.map_err(Error::kubernetes(what))?;
            ctx.metrics.writes.with_label_values(&[&*K::kind(&()), "Status"]).inc();
            Ok(true)
        }
    }
}

/// Tells people what was done: one Event for all that was created, one for each change and step.
pub async fn announce(ctx: &Context, object: &impl Resource<DynamicType = ()>, plan: &Plan) {
    let created = plan.writes.iter().filter(|w| matches!(w, Write::Create { .. })).count();
    let mut events = Vec::new();
    if created > 0 {
        let Resources { stateful_sets, .. } = &plan.resources;
        let all = created >= stateful_sets.len() * 3;
        let note =
            if all { format!("created {created} objects") } else { format!("created {}", children(plan, created)) };
        events.push((Reason::Created, "Create".to_owned(), note));
    }
    for w in &plan.writes {
        match w {
            Write::Create { .. } => {}
            Write::Update { child, differences, .. } => {
                events.push((
                    Reason::Updated,
                    format!("Update {child}"),
                    format!("changed {child}: {}", short(differences)),
                ));
            }
            Write::Delete { child, .. } if child.kind == ChildKind::StatefulSet => {
                let note = format!("removed broker group {}: it held no message for anybody", child.name);
                events.push((Reason::GroupRemoved, format!("Delete {child}"), note));
            }
            Write::Delete { child, .. } => {
                events.push((Reason::Deleted, format!("Delete {child}"), format!("deleted {child}")))
            }
        }
    }
    for g in &plan.growths {
        let note = format!("asked for {} instead of {} for {}", g.to, g.from, g.claim);
        events.push((Reason::Updated, format!("Grow {}", g.claim), note));
    }
    match &plan.step {
        None => {}
        Some(Step::Elect { group, to, from, .. }) => {
            let note = format!("made {to} master of {group}, so that {from} can go");
            events.push((Reason::MasterMoved, format!("Elect {to}"), note));
        }
        Some(Step::Restart { pod, cause, .. }) => {
            let note = format!("restarted {pod} {}", cause.as_str());
            events.push((Reason::Restarted, format!("Restart {pod}"), note));
        }
        Some(Step::GiveUp { pod, .. }) => {
            let note =
                format!("gave up {pod}, its node is gone: its volume was deleted, and it is made anew elsewhere");
            events.push((Reason::ReplicaGivenUp, format!("GiveUp {pod}"), note));
        }
    }
    for call in &plan.calls {
        let (reason, note) = call.event();
        events.push((reason, format!("{} {}", call.action(), call.object()), note));
    }
    for (reason, action, note) in events {
        tell(ctx, object, EventType::Normal, reason, action, note).await;
    }
}

/// Sends one Event. That it could not be sent is logged, nothing more: an Event is a courtesy.
pub async fn tell(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
    type_: EventType,
    reason: Reason,
    action: String,
    note: String,
) {
    let event = Event {
        type_,
        reason: reason.as_str().into(),
        note: Some(note.chars().take(1000).collect()),
        action: action.chars().take(128).collect(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(%error, "an Event could not be sent");
    }
}

fn children(plan: &Plan, most: usize) -> String {
    let names: Vec<String> = plan
        .writes
        .iter()
        .filter(|w| matches!(w, Write::Create { .. }))
        .take(most.min(8))
        .map(|w| w.child().to_string())
        .collect();
    names.join(", ")
}

fn short(paths: &[String]) -> String {
    match paths {
        [first, rest @ ..] if rest.len() > 3 => format!("{first} and {} more fields", rest.len()),
        all => all.join(", "),
    }
}
