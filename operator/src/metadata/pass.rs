//! One pass over all topics and consumer groups of one cluster: observe, plan, apply, status.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_crds::condition::Reason;
use gantry_crds::topic::DeletionPolicy;

use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::parse::parse;
use crate::consumer_group::consumption::look as look_at_consumption;
use crate::consumer_group::{ConsumerGroups, PROXY_GROUP, proxy_group};
use crate::context::Context;
use crate::error::Error;
use crate::metadata::access;
use crate::metadata::admission::{self, admit, going, orphans};
use crate::metadata::apply::{Failed, finalizers, is_refused, publish_metadata_on, report, terminating, write};
use crate::metadata::emptiness::Asking;
use crate::metadata::inherit::inherit;
use crate::metadata::kind::{Declared, Key, Kind, Parsed};
use crate::metadata::observe::{again as observe_again, delayed_elsewhere, observe};
use crate::metadata::offsets;
use crate::metadata::plan::{Plan, State, plan};
use crate::metadata::plans::{Plans, breakers, remember};
use crate::metadata::questions;
use crate::metadata::repairs::announce;
use crate::metadata::resets::resets;
use crate::metadata::view::Observed;
use crate::metadata::work::Work;
use crate::topic::Topics;

/// Time until the next pass where objects wait for it. What was just written has been seen by then.
const NEXT_TURN: Duration = Duration::from_millis(100);
/// Time until the next look while something is under way.
const RECHECK: Duration = Duration::from_secs(2);
/// Longest time between two looks at a cluster: what was edited or lost is put right within 30 s, writing included.
const LONGEST: Duration = Duration::from_secs(25);

/// One pass. Returns the time until the next.
///
/// # Errors
/// Where the API server refuses a write. An engine that does not answer is said in the statuses.
pub async fn pass(ctx: &Context, work: &Work) -> Result<Duration, Error> {
    work.forget_others();
    let cluster = match work.cluster.as_ref().map(|c| parse(c, &ctx.settings)) {
        Some(Ok(cluster)) => cluster,
        Some(Err(error)) => return orphaned(ctx, work, Reason::InvalidSpec, &Error::from(error).sentence()).await,
        None => {
            let message = format!("there is no BrokerCluster {} in namespace {}", work.key.1, work.key.0);
            return orphaned(ctx, work, Reason::ClusterNotFound, &message).await;
        }
    };
    let cluster = work.as_it_runs(work.with_surplus(cluster));
    let (topics, topics_left) = admit::<Topics>(ctx, work, cluster.mode, &work.topics).await?;
    let remembered = work.remembered_groups();
    let (groups, groups_left) = admit::<ConsumerGroups>(ctx, work, cluster.mode, &remembered).await?;
    let lack =
        (finalizers::<Topics>(ctx, work, &topics).await?, finalizers::<ConsumerGroups>(ctx, work, &groups).await?);

    let unopened = work.unopened(&cluster);
    let going = going(&topics).chain(admission::going(&groups)).collect();
    let mut observed = observe(&*ctx.engine, &cluster, &unopened).await;
    observed.terminating = terminating(ctx, going).await;
    if cluster.mode == Mode::Apply {
        access::audit(ctx, work, &cluster, &observed).await;
    }
    let mut unasked = doubts(ctx, work, &cluster, &topics, &groups, &mut observed).await;
    let (mut plans, mut more) = look(ctx, work, &cluster, &topics, &groups, &mut observed).await;
    unasked |= more;
    let mut failed = plans.hold_back(ctx, work, &topics, &groups);
    plans.topics.take_turn(&topics, &lack.0);
    plans.groups.take_turn(&groups, &lack.1);
    if cluster.mode == Mode::Apply {
        undeclared(&unopened, &groups, &observed, &mut plans.groups);
        failed.1.extend(plans.hold_back(ctx, work, &topics, &groups).1);
        plans.record_deletions(ctx, work).await?;
    }
    if cluster.mode == Mode::Apply && !plans.is_empty() {
        ctx.leadership.check()?;
        let now = write(&*ctx.engine, &cluster, &observed, &plans.topics).await;
        remember(ctx, work, &topics, &plans.topics, &now);
        failed.0.extend(now);
        ctx.leadership.check()?;
        let now = write(&*ctx.engine, &cluster, &observed, &plans.groups).await;
        remember(ctx, work, &groups, &plans.groups, &now);
        failed.1.extend(now);
        announce::<Topics>(ctx, work, &work.topics, &plans.topics.repairs, &failed.0).await;
        announce::<ConsumerGroups>(ctx, work, &work.groups, &plans.groups.repairs, &failed.1).await;
        let written = (plans.topics.names(), plans.groups.names());
        let masters = plans.masters(&observed);
        drop(plans);
        // What was written is looked at again: Ready means that the engine has it, not that it was told.
        observed = observe_again(&*ctx.engine, &cluster, observed, &masters).await;
        (plans, more) = look(ctx, work, &cluster, &topics, &groups, &mut observed).await;
        unasked |= more;
        undeclared(&unopened, &groups, &observed, &mut plans.groups);
        plans.hold_back(ctx, work, &topics, &groups);
        plans.topics.limit(&written.0);
        plans.groups.limit(&written.1);
        plans.topics.postponed.extend(lack.0);
        plans.groups.postponed.extend(lack.1);
    }
    let mut lacking = unopened.clone();
    if cluster.mode == Mode::Apply {
        // After topics and groups: the engine takes no offsets of what it does not have.
        offsets::audit(ctx, work, &cluster, &observed, &offsets::Names::of(&topics, &groups)).await;
        lacking = access::inherit(ctx, work, &cluster, &observed, &unopened).await;
    }
    consumption(ctx, work, &cluster, &groups, &observed, &mut plans.groups).await;
    let topics_left = topics_left + report_all::<Topics>(ctx, work, &topics, &plans.topics, &failed.0).await?;
    let groups_left = groups_left + report_all::<ConsumerGroups>(ctx, work, &groups, &plans.groups, &failed.1).await?;
    work.waiting(ctx, [topics_left, groups_left]);
    let mut complete = plans.complete(&observed, &failed);
    complete.retain(|group| !lacking.contains(group));
    if topics_left + groups_left > 0 {
        // While objects wait, what is planned is not all that is declared: no group becomes complete, and a new one that was called so is it no more.
        complete = work.complete().into_iter().filter(|g| !unopened.contains(g) || complete.contains(g)).collect();
    }
    publish_metadata_on(ctx, work, &complete).await?;
    let resetting = match cluster.mode {
        Mode::Apply => resets(ctx, work, &cluster, &groups, &observed, &plans.groups).await?,
        Mode::Plan | Mode::Observe | Mode::Paused => false,
    };
    if topics_left + groups_left > 0 {
        return Ok(NEXT_TURN);
    }
    let settled = plans.is_empty() && !resetting && !unasked && observed.groups.values().all(Result::is_ok);
    let settled = settled && (lacking.is_empty() || cluster.mode != Mode::Apply);
    Ok(again(ctx, work, settled))
}

/// Publishes what is said of objects of one kind. Returns how many wait for another pass.
async fn report_all<K: Kind>(
    ctx: &Context,
    work: &Work,
    objects: &Parsed<'_, K>,
    plan: &Plan<K>,
    failed: &Failed,
) -> Result<usize, Error> {
    let reached = report::<K>(ctx, work, objects, plan, failed).await?;
    let (done, rest) = objects.split_at(reached);
    let now = ctx.now().0.as_second();
    let waits = |d: &Declared| plan.postponed.contains(&d.key) && !is_refused::<K>(work, d, now);
    Ok(rest.len() + done.iter().filter(|(d, _)| waits(d)).count())
}

/// Remembers what was observed, adds what follows from it, and plans. `true`: something is still to be asked.
async fn look(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &mut Observed,
) -> (Plans, bool) {
    let now = ctx.now().0.as_second();
    {
        let mut memory = work.memory();
        let lags = std::mem::take(&mut memory.lags);
        memory.lags = lags.seen::<Topics>(topics, observed, now).seen::<ConsumerGroups>(groups, observed, now);
        observed.lags = memory.lags.clone();
        observed.adopted = std::mem::take(&mut memory.adopted);
    }
    let unasked = questions::drains(ctx, work, cluster, topics, observed, now).await;
    let breakers = breakers(work, topics, groups, observed, now);
    let plans =
        Plans { topics: plan(topics, observed, &breakers.0), groups: plan(groups, observed, &breakers.1), breakers };
    let adopted =
        |kind: &'static str, keys: &BTreeSet<Key>| keys.iter().map(|key| (kind, key.clone())).collect::<Vec<_>>();
    let mut memory = work.memory();
    memory.adopted.extend(adopted(Topics::NAME, &plans.topics.adopted));
    memory.adopted.extend(adopted(ConsumerGroups::NAME, &plans.groups.adopted));
    drop(memory);
    (plans, unasked)
}

/// Whether what is to be deleted is empty. `true`: something is still to be asked.
async fn doubts(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &mut Observed,
) -> bool {
    let breakers = breakers(work, topics, groups, observed, ctx.now().0.as_second());
    if topics.iter().any(|(d, _)| d.deleting() && d.deletion == DeletionPolicy::DeleteIfEmpty) {
        observed.delayed_elsewhere = delayed_elsewhere(&*ctx.engine, cluster, observed).await;
    }
    let asking = Asking::new(&*ctx.engine, cluster, observed);
    let (topics, groups) = futures::join!(
        questions::doubts::<Topics, _>(work, topics, &breakers.0, |d| asking.topic(d)),
        questions::doubts::<ConsumerGroups, _>(work, groups, &breakers.1, |d| asking.group(d)),
    );
    observed.not_empty.extend(topics.0.into_iter().chain(groups.0));
    topics.1 || groups.1
}

/// How far consumer groups are, into what is said of them. What this look did not reach is said as before.
async fn consumption(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    plan: &mut Plan<ConsumerGroups>,
) {
    let mut looks = std::mem::take(&mut work.memory().looks);
    look_at_consumption(ctx, &work.key, cluster, groups, observed, &mut looks).await;
    for verdict in plan.verdicts.values_mut().filter(|v| !matches!(v.state, State::Conflict { .. })) {
        verdict.consumption = looks.figures(&verdict.engine_name).cloned().map(Box::new);
    }
    work.memory().looks = looks;
}

/// Time until the next look.
fn again(ctx: &Context, work: &Work, settled: bool) -> Duration {
    if !settled {
        return RECHECK;
    }
    let memory = work.memory();
    let now = ctx.now().0.as_second();
    let next = [memory.lags.next(now), memory.refused.next(now), memory.unwritten.next(now)];
    let next = next.into_iter().flatten().filter_map(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    next.chain([ctx.settings.resync().min(LONGEST)]).min().unwrap_or(LONGEST)
}

/// Without a cluster there is nothing to delete: objects that go may go.
async fn orphaned(ctx: &Context, work: &Work, reason: Reason, message: &str) -> Result<Duration, Error> {
    let left = [
        orphans::<Topics>(ctx, work, &work.topics, reason, message).await?,
        orphans::<ConsumerGroups>(ctx, work, &work.groups, reason, message).await?,
    ];
    work.waiting(ctx, left);
    Ok(if left == [0, 0] { ctx.settings.resync() } else { NEXT_TURN })
}

/// Groups that belong on masters although nobody declared them.
fn undeclared(
    unopened: &BTreeSet<String>,
    declared: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    plan: &mut Plan<ConsumerGroups>,
) {
    proxies_group(observed, plan);
    inherit(unopened, declared, observed, plan);
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
