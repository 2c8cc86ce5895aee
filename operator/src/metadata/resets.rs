//! Carries out what `resetOffset` of consumer groups says, once each: what comes next is decided in `consumer_group::reset`.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::ConsumerGroup;
use gantry_crds::condition::Reason;
use gantry_crds::consumer_group::{ResetOffset, ResetOffsetStatus};
use gantry_crds::policy::ReconcilePolicy;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use serde_json::json;

use crate::apply::tell;
use crate::broker_cluster::cluster::Cluster;
use crate::consumer_group::ConsumerGroups;
use crate::consumer_group::reset::{Step, next};
use crate::context::Context;
use crate::engine::{ClusterId, EngineError, EngineWrite};
use crate::error::Error;
use crate::labels::MANAGER;
use crate::metadata::kind::Declared;
use crate::metadata::kind::Parsed;
use crate::metadata::plan::{Plan, State};
use crate::metadata::view::Observed;
use crate::metadata::work::Work;

/// Groups that are reset in one pass: each costs a few calls per broker.
const MOST: usize = 20;

/// What became of one `resetOffset`. The object that was watched may not show it yet, and what is not remembered would be carried out once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// For the object's status.
    pub status: ResetOffsetStatus,
    /// It is there.
    pub written: bool,
}

/// Begins or carries out what is declared, for groups that are in the engine as declared. `true`: something is under way.
pub async fn resets(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    plan: &Plan<ConsumerGroups>,
) -> Result<bool, Error> {
    let wanted = groups.iter().filter(|(d, object)| {
        let ready = plan.verdicts.get(&d.key).is_some_and(|v| matches!(v.state, State::InSync | State::ReplicaStale));
        ready && d.policy == Some(ReconcilePolicy::Apply) && (!is_done(object) || unwritten(work, object).is_some())
    });
    let mut busy = false;
    for (declared, object) in wanted.take(MOST) {
        busy = true;
        match reset(ctx, work, cluster, declared, object, observed).await {
            Err(Error::Engine(error)) => {
                tracing::warn!(group = %declared.engine_name, %error, "offsets can't be set, they are tried again");
            }
            Err(error) if error.is_refusal() => {
                tracing::warn!(group = %declared.engine_name, error = error.sentence(), "what became of resetOffset can't be written down");
            }
            done => done?,
        }
    }
    Ok(busy)
}

fn is_done(object: &ConsumerGroup) -> bool {
    let status = object.status.as_ref().and_then(|s| s.reset_offset.as_ref());
    next(object.spec.reset_offset.as_ref(), status, &BTreeMap::new(), 0) == Step::Nothing
}

fn unwritten(work: &Work, object: &ConsumerGroup) -> Option<ResetOffsetStatus> {
    let memory = work.memory();
    memory.resets.get(object.metadata.uid.as_ref()?).filter(|reset| !reset.written).map(|reset| reset.status.clone())
}

async fn reset(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    declared: &Declared,
    object: &ConsumerGroup,
    observed: &Observed,
) -> Result<(), Error> {
    if let Some(status) = unwritten(work, object) {
        return record(ctx, work, object, status).await;
    }
    let (Some(wanted), Some(old)) = (&object.spec.reset_offset, &object.status) else { return Ok(()) };
    // First people are told that the group is as declared now.
    if old.observed_generation != object.metadata.generation
        || !old.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    {
        return Ok(());
    }
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let topics = topics(ctx, &id, wanted, &declared.engine_name, observed).await?;
    let mut status = match next(Some(wanted), old.reset_offset.as_ref(), &topics, ctx.now().0.as_millisecond()) {
        Step::Nothing => return Ok(()),
        Step::Begin(status) => return record(ctx, work, object, status).await,
        Step::CarryOut(left) => {
            let Some(begun) = old.reset_offset.clone() else { return Ok(()) };
            carry_out(ctx, &id, &declared.engine_name, observed, begun, left).await?
        }
    };
    status.topics.sort();
    let (done, note) = (
        status.done,
        format!("set the offsets of {} to {}: {}", declared.engine_name, status.value, status.topics.join(", ")),
    );
    record(ctx, work, object, status).await?;
    if done {
        tell(ctx, object, EventType::Normal, Reason::OffsetsReset, "Reset".into(), note).await;
    }
    Ok(())
}

/// Remembers it, whatever becomes of the write, and writes it into the status: that field alone, the rest may be newer there than in `object`.
async fn record(ctx: &Context, work: &Work, object: &ConsumerGroup, status: ResetOffsetStatus) -> Result<(), Error> {
    let (Some(uid), Some(name)) = (&object.metadata.uid, &object.metadata.name) else { return Ok(()) };
    let keep = |written| {
        let reset = Reset { status: status.clone(), written };
        work.memory().resets.insert(uid.clone(), reset);
    };
    // A reset that is only begun must be in the status before anything is done of it.
    if status.done || !status.topics.is_empty() {
        keep(false);
    }
    ctx.leadership.check()?;
    let ResetOffsetStatus { value, timestamp, done, topics } = &status;
    let reset = json!({"value": value, "timestamp": timestamp, "done": done, "topics": topics});
    let patch = json!({"metadata": {"uid": uid}, "status": {"resetOffset": reset}});
    let api: Api<ConsumerGroup> =
        Api::namespaced(ctx.client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    match api.patch_status(name, &params, &Patch::Merge(&patch)).await {
        // It was deleted, or replaced by another of its name.
        Err(kube::Error::Api(s)) if s.is_not_found() || s.is_conflict() => return Ok(()),
        result => {
            result.map_err(Error::kubernetes(format!("write resetOffset into the status of ConsumerGroup/{name}")))?
        }
    };
    ctx.metrics.writes.with_label_values(&["ConsumerGroup", "Status"]).inc();
    keep(true);
    Ok(())
}

/// Topics to be set, by broker group: those that are declared and there, or all that the group has consumed there.
async fn topics(
    ctx: &Context,
    id: &ClusterId,
    wanted: &ResetOffset,
    group: &str,
    observed: &Observed,
) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
    let mut found = BTreeMap::new();
    for (name, master) in &observed.groups {
        let Ok(master) = master else { continue };
        let held = |topic: &String| !topic.starts_with('%') && master.metadata.topics.contains_key(topic);
        let topics: BTreeSet<String> = if wanted.topics.is_empty() {
            let stats = ctx.engine.consume_stats(id, &master.address, group).await?;
            stats.offset_table.into_iter().map(|(queue, _)| queue.topic).filter(held).collect()
        } else {
            wanted.topics.iter().filter(|t| held(t)).cloned().collect()
        };
        found.insert(name.clone(), topics.into_iter().collect());
    }
    Ok(found)
}

/// Sets what is left, and says what was set. It is done when nothing failed.
async fn carry_out(
    ctx: &Context,
    id: &ClusterId,
    group: &str,
    observed: &Observed,
    mut status: ResetOffsetStatus,
    left: BTreeMap<String, Vec<String>>,
) -> Result<ResetOffsetStatus, Error> {
    status.done = true;
    for (name, topics) in left {
        let Some(Ok(master)) = observed.groups.get(&name) else { continue };
        ctx.leadership.check()?;
        let write = EngineWrite::ResetOffsets {
            broker: master.address.clone(),
            group: group.to_owned(),
            topics: topics.clone(),
            timestamp: status.timestamp,
        };
        match ctx.engine.execute(id, &write).await {
            Ok(outcome) => {
                status.done &= outcome.is_complete();
                let set = topics.iter().filter(|t| !outcome.failed.contains_key(*t));
                status.topics.extend(set.map(|t| format!("{name}/{t}")));
            }
            Err(error) => {
                tracing::warn!(%error, %group, broker_group = %name, "offsets can't be set, they are tried again");
                status.done = false;
            }
        }
    }
    Ok(status)
}
