//! What is to be done for topics and consumer groups together: what is held back of it, written down before it is done, and remembered after.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::CONFIRM_DELETIONS_ANNOTATION;
use gantry_crds::condition::Reason;
use gantry_crds::status::{Deletions, KindDeletions};
use kube::runtime::events::EventType;

use crate::apply::tell;
use crate::consumer_group::ConsumerGroups;
use crate::context::Context;
use crate::error::Error;
use crate::metadata::apply::{Failed, publish_deletions};
use crate::metadata::deletion::{Breaker, is_news, pending};
use crate::metadata::kind::{Declared, Kind, Parsed};
use crate::metadata::plan::Plan;
use crate::metadata::retries::{Declaration, declaration};
use crate::metadata::view::{Master, Observed};
use crate::metadata::work::Work;
use crate::topic::Topics;

/// What is to be done for both kinds.
pub(super) struct Plans {
    pub(super) topics: Plan<Topics>,
    pub(super) groups: Plan<ConsumerGroups>,
    pub(super) breakers: (Breaker, Breaker),
}

impl Plans {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.groups.is_empty()
    }

    /// Leaves out what the engine refused a moment ago. Returns what it said.
    pub(super) fn hold_back(
        &mut self,
        ctx: &Context,
        work: &Work,
        topics: &Parsed<'_, Topics>,
        groups: &Parsed<'_, ConsumerGroups>,
    ) -> (Failed, Failed) {
        (hold_back(ctx, work, topics, &mut self.topics), hold_back(ctx, work, groups, &mut self.groups))
    }

    /// Broker groups that hold all that is declared for them, but for what their master refused.
    pub(super) fn complete(&self, observed: &Observed, failed: &(Failed, Failed)) -> Vec<String> {
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
    pub(super) fn masters(&self, observed: &Observed) -> BTreeSet<String> {
        if self.topics.deletes.is_empty() && self.groups.deletes.is_empty() {
            return self.topics.upserts.keys().chain(self.groups.upserts.keys()).cloned().collect();
        }
        observed.groups.values().flatten().map(|m| m.address.clone()).collect()
    }

    /// Writes down what is about to be deleted and what is held, before anything is deleted.
    pub(super) async fn record_deletions(&mut self, ctx: &Context, work: &Work) -> Result<(), Error> {
        let Some(cluster) = &work.cluster else { return Ok(()) };
        let (old, confirmed) = (work.deletions(), work.confirmed());
        let new = Deletions {
            topics: self.breakers.0.record(&self.topics.deleting(), confirmed),
            consumer_groups: self.breakers.1.record(&self.groups.deleting(), confirmed),
        };
        if !is_news(&old.topics, &new.topics) && !is_news(&old.consumer_groups, &new.consumer_groups) {
            return Ok(());
        }
        match publish_deletions(ctx, cluster, &new).await {
            Err(error) if error.is_refusal() => {
                tracing::warn!(error = error.sentence(), "nothing is deleted before it is written down");
                self.topics.deletes.clear();
                self.groups.deletes.clear();
                return Ok(());
            }
            result => result?,
        }
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

/// The breakers of both kinds, by what was deleted before and is to be deleted now.
pub(super) fn breakers(
    work: &Work,
    topics: &Parsed<'_, Topics>,
    groups: &Parsed<'_, ConsumerGroups>,
    observed: &Observed,
    now: i64,
) -> (Breaker, Breaker) {
    let old = work.deletions();
    (
        breaker::<Topics>(work, topics, observed, &old.topics, now),
        breaker::<ConsumerGroups>(work, groups, observed, &old.consumer_groups, now),
    )
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

/// Leaves out what the engine refused a moment ago, of one kind.
fn hold_back<K: Kind>(ctx: &Context, work: &Work, objects: &Parsed<'_, K>, plan: &mut Plan<K>) -> Failed {
    let memory = work.memory();
    if memory.refused.is_empty() {
        return Failed::new();
    }
    let now = ctx.now().0.as_second();
    let names = plan.names();
    let declarations = declarations(objects, &names);
    let why = |name: &String| {
        let of = declarations.get(name.as_str()).cloned().unwrap_or_default();
        Some((name.clone(), memory.refused.waits(K::NAME, name, &of, now)?.clone()))
    };
    let held: Failed = names.iter().filter_map(why).collect();
    plan.leave_out(&held.keys().cloned().collect());
    held
}

/// What the engine refused is tried again later, and later each time; what it took is forgotten.
pub(super) fn remember<K: Kind>(
    ctx: &Context,
    work: &Work,
    objects: &Parsed<'_, K>,
    written: &Plan<K>,
    failed: &Failed,
) {
    let mut memory = work.memory();
    let refused = |name: &String| failed.get(name).filter(|error| error.refusal().is_some());
    let names = written.names();
    let declarations = declarations(objects, &names);
    for name in &names {
        if let Some(error) = refused(name) {
            let of = declarations.get(name.as_str()).cloned().unwrap_or_default();
            memory.refused.refused(K::NAME, name, of, ctx.now().0.as_second(), error.clone());
        } else if !failed.contains_key(name) && !memory.refused.is_empty() {
            memory.refused.taken(K::NAME, name);
        }
    }
}

/// What declares these names.
fn declarations<'a, O>(objects: &'a [(Declared, O)], names: &BTreeSet<String>) -> BTreeMap<&'a str, Declaration> {
    let mut all: BTreeMap<&str, Declaration> = BTreeMap::new();
    for (declared, _) in objects.iter().filter(|(d, _)| names.contains(&d.engine_name)) {
        all.entry(&declared.engine_name).or_default().push(declaration(declared));
    }
    all.values_mut().for_each(|of| of.sort());
    all
}
