//! Carries out what `resetOffset` of consumer groups says, once each: what comes next is decided in `consumer_group::reset`.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::ConsumerGroup;
use gantry_crds::condition::Reason;
use gantry_crds::consumer_group::{ConsumerGroupStatus, ResetOffset, ResetOffsetStatus};
use gantry_crds::policy::ReconcilePolicy;
use kube::runtime::events::EventType;

use crate::apply::{publish, tell};
use crate::broker_cluster::cluster::Cluster;
use crate::consumer_group::ConsumerGroups;
use crate::consumer_group::reset::{Step, next};
use crate::context::Context;
use crate::engine::{ClusterId, EngineError, EngineWrite};
use crate::error::Error;
use crate::metadata::kind::Declared;
use crate::metadata::kind::Parsed;
use crate::metadata::plan::{Plan, State};
use crate::metadata::view::Observed;

/// Groups that are reset in one pass: each costs a few calls per broker.
const MOST: usize = 20;

/// Begins or carries out what is declared, for groups that are in the engine as declared. `true`: something is under way.
pub async fn resets(
    ctx: &Context,
    cluster: &Cluster,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    plan: &Plan<ConsumerGroups>,
) -> Result<bool, Error> {
    let wanted = groups.iter().filter(|(d, object)| {
        let ready = plan.verdicts.get(&d.key).is_some_and(|v| matches!(v.state, State::InSync | State::ReplicaStale));
        ready && d.policy == Some(ReconcilePolicy::Apply) && !is_done(object)
    });
    let mut busy = false;
    for (declared, object) in wanted.take(MOST) {
        busy = true;
        if let Err(error) = reset(ctx, cluster, declared, object, observed).await? {
            tracing::warn!(group = %declared.engine_name, %error, "offsets can't be set, they are tried again");
        }
    }
    Ok(busy)
}

fn is_done(object: &ConsumerGroup) -> bool {
    let status = object.status.as_ref().and_then(|s| s.reset_offset.as_ref());
    next(object.spec.reset_offset.as_ref(), status, &BTreeMap::new(), 0) == Step::Nothing
}

async fn reset(
    ctx: &Context,
    cluster: &Cluster,
    declared: &Declared,
    object: &ConsumerGroup,
    observed: &Observed,
) -> Result<Result<(), EngineError>, Error> {
    let (Some(wanted), Some(old)) = (&object.spec.reset_offset, &object.status) else { return Ok(Ok(())) };
    // What this pass has just written into the status would be written over: the next one sees it.
    if old.observed_generation != object.metadata.generation
        || !old.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    {
        return Ok(Ok(()));
    }
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let topics = match topics(ctx, &id, wanted, &declared.engine_name, observed).await {
        Ok(topics) => topics,
        Err(error) => return Ok(Err(error)),
    };
    let mut status = match next(Some(wanted), old.reset_offset.as_ref(), &topics, ctx.now().0.as_millisecond()) {
        Step::Nothing => return Ok(Ok(())),
        Step::Begin(status) => {
            publish(ctx, object, Some(old), &with(old, status)).await?;
            return Ok(Ok(()));
        }
        Step::CarryOut(left) => {
            let Some(begun) = old.reset_offset.clone() else { return Ok(Ok(())) };
            carry_out(ctx, &id, &declared.engine_name, observed, begun, left).await?
        }
    };
    status.topics.sort();
    publish(ctx, object, Some(old), &with(old, status.clone())).await?;
    if status.done {
        let note =
            format!("set the offsets of {} to {}: {}", declared.engine_name, status.value, status.topics.join(", "));
        tell(ctx, object, EventType::Normal, Reason::OffsetsReset, "Reset".into(), note).await;
    }
    Ok(Ok(()))
}

fn with(old: &ConsumerGroupStatus, reset: ResetOffsetStatus) -> ConsumerGroupStatus {
    ConsumerGroupStatus { reset_offset: Some(reset), ..old.clone() }
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
