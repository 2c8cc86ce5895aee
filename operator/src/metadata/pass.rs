//! One pass over all topics and consumer groups of one cluster: observe, plan, apply, status.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use gantry_crds::condition::Reason;
use gantry_crds::names::broker_group;
use gantry_crds::policy::{ClusterRef, ReconcilePolicy};
use gantry_crds::status::{Deletions, GroupPhase, GroupStatus, KindDeletions};
use gantry_crds::topic::DeletionPolicy;
use gantry_crds::{BrokerCluster, CONFIRM_DELETIONS_ANNOTATION, PAUSED_ANNOTATION};
use kube::ResourceExt;
use kube::runtime::events::EventType;

use crate::apply::{publish, tell};
use crate::broker_cluster::parse::{Cluster, Mode, parse};
use crate::broker_cluster::version;
use crate::consumer_group::consumption::{Looks, look as look_at_consumption};
use crate::consumer_group::{ConsumerGroups, PROXY_GROUP, proxy_group};
use crate::context::Context;
use crate::engine::ClusterId;
use crate::error::Error;
use crate::metadata::access::{self, Access};
use crate::metadata::apply::{
    FINALIZER, Failed, finalizers, publish_deletions, publish_metadata_on, report, set_finalizer, some, terminating,
    write,
};
use crate::metadata::deletion::{Breaker, confirmed_until, is_news, pending};
use crate::metadata::drain::{self, Drains};
use crate::metadata::inherit::inherit;
use crate::metadata::kind::{Declared, Key, Kind};
use crate::metadata::observe::{Parsed, again as observe_again, observe};
use crate::metadata::offsets::{self, Offsets};
use crate::metadata::order::order;
use crate::metadata::plan::{Master, Observed, Plan, State, plan};
use crate::metadata::repairs::announce;
use crate::metadata::replicas::Lags;
use crate::metadata::resets::resets;
use crate::metadata::status::without_cluster;
use crate::metadata::tenancy::{Demand, refusals};
use crate::topic::Topics;

/// Time until the next pass where objects wait for it. What was just written has been seen by then.
const NEXT_TURN: Duration = Duration::from_millis(100);
/// Time until the next look while something is under way.
const RECHECK: Duration = Duration::from_secs(2);
/// Longest time between two looks at a cluster: what was edited or lost is put right within 30 s, writing included.
const LONGEST: Duration = Duration::from_secs(25);

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
    /// What earlier passes over this cluster saw.
    pub memory: Arc<Mutex<Memory>>,
}

impl Work {
    /// What earlier passes saw, to be read and written at once.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletions that were written down.
    fn deletions(&self) -> Deletions {
        let memory = self.memory().deletions.clone();
        let status = || self.cluster.as_ref()?.status.as_ref()?.deletions.clone();
        memory.or_else(status).unwrap_or_default()
    }

    /// Broker groups that were last known to hold all that is declared for them.
    fn complete(&self) -> Vec<String> {
        self.cluster.iter().filter_map(|c| c.status.as_ref()).flat_map(|s| s.metadata_on.clone()).collect()
    }

    /// The cluster with groups that are to go and still take part: consumers read there, so they need their groups, and what is deleted is deleted there.
    fn with_surplus(&self, mut cluster: Cluster) -> Cluster {
        let takes_part =
            |name: String| self.groups_of_status().any(|g| g.name == name && g.phase != GroupPhase::Removing);
        while takes_part(broker_group(&cluster.name, cluster.brokers.groups)) {
            cluster.brokers.groups += 1;
        }
        cluster
    }

    /// With the version that every broker has already: topics must not ask for more while another one is on its way.
    fn as_it_runs(&self, mut cluster: Cluster) -> Cluster {
        let status = || self.cluster.as_ref()?.status.as_ref()?.version.clone();
        if let Some(version) = status().as_deref().and_then(version::oldest) {
            version.clone_into(&mut cluster.version);
        }
        cluster
    }

    /// Groups that must not get topics before they are closed: new ones.
    fn unopened(&self, cluster: &Cluster) -> BTreeSet<String> {
        let known = |name: &String| self.groups_of_status().any(|g| g.name == *name && g.phase != GroupPhase::Opening);
        // Before the first status there is no group that anybody could miss anything in.
        let first = self.groups_of_status().next().is_none();
        cluster.groups().into_iter().filter(|g| !first && !known(g)).collect()
    }

    fn groups_of_status(&self) -> impl Iterator<Item = &GroupStatus> {
        self.cluster.iter().filter_map(|c| c.status.as_ref()).flat_map(|s| &s.groups)
    }

    /// Tells how many objects wait for another pass: topics and consumer groups.
    fn waiting(&self, ctx: &Context, now: [usize; 2]) {
        let mut memory = self.memory();
        let now = now.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        for ((kind, old), new) in [Topics::NAME, ConsumerGroups::NAME].into_iter().zip(memory.waiting).zip(now) {
            ctx.metrics.waiting.with_label_values(&[kind]).add(new - old);
        }
        memory.waiting = now;
    }

    /// Deletions until then are meant, in seconds of the epoch.
    fn confirmed(&self) -> Option<i64> {
        confirmed_until(self.cluster.as_ref()?.annotations().get(CONFIRM_DELETIONS_ANNOTATION))
    }
}

/// What is kept between passes over one cluster. An operator that starts anew begins with an empty one.
#[derive(Debug, Default)]
pub struct Memory {
    /// Offsets of consumer groups, as masters had them.
    pub offsets: Offsets,
    /// Users and ACLs, as masters had them.
    pub access: Access,
    /// Replicas that differ from their masters.
    pub lags: Lags,
    /// Queues that are to go.
    pub drains: Drains,
    /// How far consumer groups are.
    pub looks: Looks,
    /// Objects that wait for another pass: topics and consumer groups.
    pub waiting: [i64; 2],
    /// What was written down last about deletions: the status that was watched may be older.
    pub deletions: Option<Deletions>,
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
        deleted: object.meta().deletion_timestamp.clone(),
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
        Some(Err(error)) => return orphaned(ctx, work, Reason::InvalidSpec, &Error::from(error).sentence()).await,
        None => {
            let message = format!("there is no BrokerCluster {} in namespace {}", work.key.1, work.key.0);
            return orphaned(ctx, work, Reason::ClusterNotFound, &message).await;
        }
    };
    let cluster = work.as_it_runs(work.with_surplus(cluster));
    let (topics, topics_left) = admit::<Topics>(ctx, work, cluster.mode, &work.topics).await?;
    let (groups, groups_left) = admit::<ConsumerGroups>(ctx, work, cluster.mode, &work.groups).await?;
    let lack = (finalizers::<Topics>(ctx, &topics).await?, finalizers::<ConsumerGroups>(ctx, &groups).await?);

    let unopened = work.unopened(&cluster);
    let going = going(&topics).chain(self::going(&groups)).collect();
    let mut observed = observe(&*ctx.engine, &cluster, &topics, &groups, &unopened).await;
    observed.terminating = terminating(ctx, going).await;
    if cluster.mode == Mode::Apply {
        offsets::audit(ctx, work, &cluster, &observed).await;
        access::audit(ctx, work, &cluster, &observed).await;
    }
    let mut plans = look(ctx, work, &cluster, &topics, &groups, &mut observed).await;
    plans.topics.take_turn(&topics, &lack.0);
    plans.groups.take_turn(&groups, &lack.1);
    if cluster.mode == Mode::Apply {
        undeclared(&unopened, &groups, &observed, &mut plans.groups);
        plans.record_deletions(ctx, work).await?;
    }
    let mut failed = (Failed::new(), Failed::new());
    if cluster.mode == Mode::Apply && !plans.is_empty() {
        ctx.leadership.check()?;
        failed.0 = write(&*ctx.engine, &cluster, &observed, &plans.topics).await;
        ctx.leadership.check()?;
        failed.1 = write(&*ctx.engine, &cluster, &observed, &plans.groups).await;
        announce::<Topics>(ctx, work, &work.topics, &plans.topics.repairs, &failed.0).await;
        announce::<ConsumerGroups>(ctx, work, &work.groups, &plans.groups.repairs, &failed.1).await;
        let written = (plans.topics.names(), plans.groups.names());
        let masters = plans.masters(&observed);
        drop(plans);
        // What was written is looked at again: Ready means that the engine has it, not that it was told.
        observed = observe_again(&*ctx.engine, &cluster, observed, &masters).await;
        plans = look(ctx, work, &cluster, &topics, &groups, &mut observed).await;
        undeclared(&unopened, &groups, &observed, &mut plans.groups);
        plans.topics.limit(&written.0);
        plans.groups.limit(&written.1);
        plans.topics.postponed.extend(lack.0);
        plans.groups.postponed.extend(lack.1);
    }
    consumption(ctx, work, &cluster, &groups, &observed, &mut plans.groups).await;
    let topics_left = topics_left + report_all::<Topics>(ctx, &topics, &plans.topics, &failed.0).await?;
    let groups_left = groups_left + report_all::<ConsumerGroups>(ctx, &groups, &plans.groups, &failed.1).await?;
    work.waiting(ctx, [topics_left, groups_left]);
    let mut complete = plans.complete(&observed, &failed);
    if topics_left + groups_left > 0 {
        // While objects wait, what is planned is not all that is declared: no group becomes complete, and a new one that was called so is it no more.
        complete = work.complete().into_iter().filter(|g| !unopened.contains(g) || complete.contains(g)).collect();
    }
    publish_metadata_on(ctx, work, &complete).await?;
    let resetting = match cluster.mode {
        Mode::Apply => resets(ctx, &cluster, &groups, &observed, &plans.groups).await?,
        Mode::Plan | Mode::Observe | Mode::Paused => false,
    };
    if topics_left + groups_left > 0 {
        return Ok(NEXT_TURN);
    }
    let settled = plans.is_empty() && !resetting && observed.groups.values().all(Result::is_ok);
    Ok(again(ctx, work, settled))
}

/// Publishes what is said of objects of one kind. Returns how many wait for another pass.
async fn report_all<K: Kind>(
    ctx: &Context,
    objects: &Parsed<'_, K>,
    plan: &Plan<K>,
    failed: &Failed,
) -> Result<usize, Error> {
    let reached = report::<K>(ctx, objects, plan, failed).await?;
    let (done, rest) = objects.split_at(reached);
    Ok(rest.len() + done.iter().filter(|(d, _)| plan.postponed.contains(&d.key)).count())
}

/// What is to be done for both kinds.
struct Plans {
    topics: Plan<Topics>,
    groups: Plan<ConsumerGroups>,
    breakers: (Breaker, Breaker),
}

impl Plans {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.groups.is_empty()
    }

    /// Broker groups that hold all that is declared for them, but for what their master refused.
    fn complete(&self, observed: &Observed, failed: &(Failed, Failed)) -> Vec<String> {
        let held = |master: &Master| {
            let topics = self.topics.upserts.get(&master.address).into_iter().flatten();
            let groups = self.groups.upserts.get(&master.address).into_iter().flatten();
            topics.map(Topics::name_of).all(|name| failed.0.contains_key(name))
                && groups.map(ConsumerGroups::name_of).all(|name| failed.1.contains_key(name))
        };
        let known = observed.groups.iter().filter(|(_, master)| master.as_ref().is_ok_and(held));
        known.map(|(group, _)| group.clone()).collect()
    }

    /// Masters that are written to.
    fn masters(&self, observed: &Observed) -> BTreeSet<String> {
        if self.topics.deletes.is_empty() && self.groups.deletes.is_empty() {
            return self.topics.upserts.keys().chain(self.groups.upserts.keys()).cloned().collect();
        }
        observed.groups.values().flatten().map(|m| m.address.clone()).collect()
    }

    /// Writes down what is about to be deleted and what is held, before anything is deleted.
    async fn record_deletions(&self, ctx: &Context, work: &Work) -> Result<(), Error> {
        let Some(cluster) = &work.cluster else { return Ok(()) };
        let (old, confirmed) = (work.deletions(), work.confirmed());
        let new = Deletions {
            topics: self.breakers.0.record(&self.topics.deleting(), confirmed),
            consumer_groups: self.breakers.1.record(&self.groups.deleting(), confirmed),
        };
        if !is_news(&old.topics, &new.topics) && !is_news(&old.consumer_groups, &new.consumer_groups) {
            return Ok(());
        }
        publish_deletions(ctx, cluster, &new).await?;
        for (kind, old, new) in [
            (Topics::NAME, &old.topics, &new.topics),
            (ConsumerGroups::NAME, &old.consumer_groups, &new.consumer_groups),
        ] {
            if new.held > old.held {
                let until = new.confirm.as_deref().unwrap_or_default();
                let note = format!(
                    "{} deletions of {kind}s are held: annotation {CONFIRM_DELETIONS_ANNOTATION}={until} confirms them",
                    new.held
                );
                tell(ctx, &**cluster, EventType::Warning, Reason::DeletionHeld, format!("Delete {kind}s"), note).await;
            }
        }
        work.memory().deletions = Some(new);
        Ok(())
    }
}

/// Remembers what was observed, adds what follows from it, and plans.
async fn look(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &mut Observed,
) -> Plans {
    let now = ctx.now().0.as_second();
    {
        let mut memory = work.memory();
        let lags = std::mem::take(&mut memory.lags);
        memory.lags = lags.seen::<Topics>(topics, observed, now).seen::<ConsumerGroups>(groups, observed, now);
        observed.lags = memory.lags.clone();
    }
    drain(ctx, work, cluster, topics, observed, now).await;
    let old = work.deletions();
    let breakers = (
        breaker::<Topics>(work, topics, observed, &old.topics, now),
        breaker::<ConsumerGroups>(work, groups, observed, &old.consumer_groups, now),
    );
    Plans { topics: plan(topics, observed, &breakers.0), groups: plan(groups, observed, &breakers.1), breakers }
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
        verdict.consumption = looks.figures(&verdict.engine_name).cloned();
    }
    work.memory().looks = looks;
}

/// What keeps queues that are to go.
async fn drain(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    observed: &mut Observed,
    now: i64,
) {
    let surplus = drain::surplus(topics, observed);
    let drains = {
        let mut memory = work.memory();
        memory.drains = std::mem::take(&mut memory.drains).seen(&surplus, now);
        memory.drains.clone()
    };
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    for one in surplus {
        let why = if drains.is_quiet(&one, now) {
            let obstacle = drain::obstacle(&*ctx.engine, &id, &one).await;
            obstacle.unwrap_or_else(|error| Some(format!("nobody can say what is in them: {error}")))
        } else {
            Some("clients that have not heard of it may still send to them for a minute".into())
        };
        observed.draining.insert(one.place, why);
    }
}

fn breaker<K: Kind>(
    work: &Work,
    objects: &Parsed<'_, K>,
    observed: &Observed,
    old: &KindDeletions,
    now: i64,
) -> Breaker {
    let names: BTreeSet<&String> =
        observed.groups.values().flatten().flat_map(|m| K::held(&m.metadata).keys()).collect();
    let groups: Vec<String> = observed.groups.keys().cloned().collect();
    let held = names.into_iter().filter(|n| !K::is_system(n, &work.key.1, &groups)).count();
    Breaker::judge(&pending::<K>(objects, observed), old, held, work.confirmed(), now)
}

/// Namespaces of objects whose deletion changes the engine.
fn going<O>(objects: &[(Declared, O)]) -> impl Iterator<Item = String> {
    objects.iter().filter(|(d, _)| d.deleting() && d.has_finalizer).map(|(d, _)| d.key.0.clone())
}

/// Time until the next look.
fn again(ctx: &Context, work: &Work, settled: bool) -> Duration {
    if !settled {
        return RECHECK;
    }
    let memory = work.memory();
    let lag = memory.lags.next(ctx.now().0.as_second()).and_then(|s| u64::try_from(s).ok());
    let longest = ctx.settings.resync().min(LONGEST);
    lag.map_or(longest, |s| longest.min(Duration::from_secs(s)))
}

/// Objects that the cluster takes, in the order in which they are worked off; the others are told why not, and are let go without a word to the engine.
/// And how many of those were not reached.
async fn admit<'a, K: Kind>(
    ctx: &Context,
    work: &Work,
    mode: Mode,
    objects: &'a Objects<K>,
) -> Result<(Parsed<'a, K>, usize), Error> {
    let mut all: Parsed<'a, K> = objects.iter().map(|o| (within(mode, K::parse(o)), &**o)).collect();
    order::<K>(&mut all);
    let tenants = work.cluster.as_ref().map(|c| c.spec.tenants.as_slice()).unwrap_or_default();
    let demands: Vec<(&Declared, Demand)> = all.iter().map(|(d, o)| (d, K::demand(o))).collect();
    let refused = refusals(&work.key, tenants, &demands);
    drop(demands);
    let writes = all.iter().filter_map(|(declared, object)| {
        let (reason, message) = refused.get(&declared.key)?;
        Some(let_go::<K>(ctx, declared, object, declared.deleting(), *reason, message).boxed())
    });
    let left = refused.len() - some(writes).await?;
    all.retain(|(d, _)| !refused.contains_key(&d.key));
    Ok((all, left))
}

/// Lets an object go that the engine has nothing to do with, or tells it why.
async fn let_go<K: Kind>(
    ctx: &Context,
    declared: &Declared,
    object: &K::Object,
    goes: bool,
    reason: Reason,
    message: &str,
) -> Result<bool, Error> {
    if goes {
        return set_finalizer::<K>(ctx, declared, object, false).await;
    }
    let new = without_cluster::<K>(declared, reason, message, K::old_status(object), &ctx.now());
    publish(ctx, object, K::old_status(object), &new).await
}

/// No object goes further than its cluster.
fn within(mode: Mode, declared: Declared) -> Declared {
    let policy = match mode {
        Mode::Apply => declared.policy,
        Mode::Plan => declared.policy.map(|p| if p == ReconcilePolicy::Apply { ReconcilePolicy::Plan } else { p }),
        Mode::Observe => declared.policy.map(|_| ReconcilePolicy::Observe),
        Mode::Paused => None,
    };
    Declared { policy, ..declared }
}

/// Without a cluster there is nothing to delete: objects that go may go.
async fn orphaned(ctx: &Context, work: &Work, reason: Reason, message: &str) -> Result<Duration, Error> {
    let left = [
        orphans::<Topics>(ctx, &work.topics, reason, message).await?,
        orphans::<ConsumerGroups>(ctx, &work.groups, reason, message).await?,
    ];
    work.waiting(ctx, left);
    Ok(if left == [0, 0] { ctx.settings.resync() } else { NEXT_TURN })
}

async fn orphans<K: Kind>(ctx: &Context, objects: &Objects<K>, reason: Reason, message: &str) -> Result<usize, Error> {
    let mut all: Parsed<'_, K> = objects.iter().map(|o| (K::parse(o), &**o)).collect();
    order::<K>(&mut all);
    // A cluster that can't be understood is no reason to keep what the engine keeps anyway.
    let may_go = |d: &Declared| reason == Reason::ClusterNotFound || d.deletion == DeletionPolicy::Retain;
    let writes = all.iter().map(|(declared, object)| {
        let goes = declared.deleting() && may_go(declared);
        let_go::<K>(ctx, declared, object, goes, reason, message).boxed()
    });
    Ok(all.len() - some(writes).await?)
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
