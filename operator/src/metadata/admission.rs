//! Which objects a cluster takes; the others are told why not, and are let go without a word to the engine.

use std::collections::BTreeSet;

use futures::FutureExt;
use gantry_crds::condition::Reason;
use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::topic::DeletionPolicy;

use crate::apply::publish;
use crate::broker_cluster::cluster::Mode;
use crate::context::Context;
use crate::error::Error;
use crate::metadata::apply::{STATUS, by_itself, set_finalizer, some, terminating};
use crate::metadata::kind::{Declared, Demand, Kind, Parsed};
use crate::metadata::order::order;
use crate::metadata::status::without_cluster;
use crate::metadata::tenancy::refusals;
use crate::metadata::work::{Objects, Work};

/// Objects that the cluster takes, in the order in which they are worked off; the others are told why not, and are let go without a word to the engine.
/// And how many of those were not reached.
pub(super) async fn admit<'a, K: Kind>(
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
        let write = let_go::<K>(ctx, declared, object, declared.deleting(), *reason, message).boxed();
        Some(by_itself::<K>(ctx, work, declared, STATUS, write))
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

/// Objects without a cluster: told so, or let go. Returns how many were not reached.
pub(super) async fn orphans<K: Kind>(
    ctx: &Context,
    work: &Work,
    objects: &Objects<K>,
    reason: Reason,
    message: &str,
) -> Result<usize, Error> {
    let mut all: Parsed<'_, K> = objects.iter().map(|o| (K::parse(o), &**o)).collect();
    order::<K>(&mut all);
    let gone = reason == Reason::ClusterNotFound;
    let terminating = if gone { BTreeSet::new() } else { terminating(ctx, going(&all).collect()).await };
    // A cluster that can't be understood is no reason to keep what the engine keeps anyway, nor a namespace that goes away.
    let may_go = |d: &Declared| gone || d.deletion == DeletionPolicy::Retain || terminating.contains(&d.key.0);
    let writes = all.iter().map(|(declared, object)| {
        let goes = declared.deleting() && may_go(declared);
        let write = let_go::<K>(ctx, declared, object, goes, reason, message).boxed();
        by_itself::<K>(ctx, work, declared, STATUS, write)
    });
    Ok(all.len() - some(writes).await?)
}

/// Namespaces of objects whose deletion changes the engine.
pub(super) fn going<O>(objects: &[(Declared, O)]) -> impl Iterator<Item = String> {
    objects.iter().filter(|(d, _)| d.deleting() && d.has_finalizer).map(|(d, _)| d.key.0.clone())
}
