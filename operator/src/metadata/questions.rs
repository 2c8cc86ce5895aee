//! Questions about single objects: whether what is to be deleted is empty, whether queues that are to go were read. Each is a few calls, so a pass asks
//! some of them, those that were asked longest ago first, a few at a time. What it does not ask is kept for the reason that was known last. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::stream::iter;
use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::topic::DeletionPolicy;

use crate::broker_cluster::cluster::Cluster;
use crate::context::Context;
use crate::engine::ClusterId;
use crate::metadata::deletion::Breaker;
use crate::metadata::drain::{self, Surplus};
use crate::metadata::kind::{Declared, Kind, Parsed};
use crate::metadata::observe::delayed_elsewhere;
use crate::metadata::view::Observed;
use crate::metadata::work::Work;
use crate::topic::Topics;

/// Questions of one sort in one pass.
pub const MOST: usize = 50;
/// Questions at the same time.
const ABREAST: usize = 8;
/// What is said of that which nobody has asked about yet.
const UNASKED: &str = "nobody has looked into it yet";

/// What was said last, by sort and name.
#[derive(Debug, Default)]
pub struct Answers(BTreeMap<(&'static str, String), Answer>);

#[derive(Clone, Debug)]
struct Answer {
    /// Which question it was: the higher, the later.
    number: u64,
    obstacle: Option<String>,
}

impl Answers {
    /// Those of `names` that were asked longest ago, or never; the others with what is said of them meanwhile. What is not among `names` is forgotten.
    fn choose(&mut self, sort: &'static str, names: Vec<String>) -> (Vec<String>, BTreeMap<String, String>) {
        let mut all: Vec<(u64, String)> = names
            .into_iter()
            .map(|name| (self.0.get(&(sort, name.clone())).map_or(0, |answer| answer.number), name))
            .collect();
        all.sort();
        let wanted: BTreeSet<&String> = all.iter().map(|(_, name)| name).collect();
        self.0.retain(|(of, name), _| *of != sort || wanted.contains(name));
        let rest = all.split_off(all.len().min(MOST)).into_iter().map(|(_, name)| {
            let said = self.0.get(&(sort, name.clone())).and_then(|answer| answer.obstacle.clone());
            (name, said.unwrap_or_else(|| UNASKED.into()))
        });
        let rest = rest.collect();
        (all.into_iter().map(|(_, name)| name).collect(), rest)
    }

    fn keep(&mut self, sort: &'static str, name: &str, obstacle: Option<String>) {
        let number = self.0.values().map(|answer| answer.number).max().unwrap_or(0) + 1;
        self.0.insert((sort, name.to_owned()), Answer { number, obstacle });
    }
}

/// What is not empty of that which is to be deleted only where it is, with what is in it. What the breaker holds stays anyway. `true`: some were never asked.
pub async fn doubts<'o, K: Kind, F>(
    work: &Work,
    objects: &'o Parsed<'_, K>,
    breaker: &Breaker,
    question: impl Fn(&'o Declared) -> F,
) -> (BTreeMap<(&'static str, String), String>, bool)
where
    F: Future<Output = Option<String>>,
{
    let in_doubt = objects.iter().map(|(d, _)| d).filter(|d| {
        d.deleting()
            && d.has_finalizer
            && d.deletion == DeletionPolicy::DeleteIfEmpty
            && d.policy == Some(ReconcilePolicy::Apply)
            && breaker.holds(K::NAME, d).is_none()
    });
    let in_doubt: BTreeMap<String, &Declared> = in_doubt.map(|d| (d.engine_name.clone(), d)).collect();
    let (chosen, rest) = work.memory().answers.choose(K::NAME, in_doubt.keys().cloned().collect());
    let unasked = rest.values().any(|why| why == UNASKED);
    let mut not_empty = rest;
    let asked = chosen.into_iter().filter_map(|name| Some((question(in_doubt.get(&name)?), name))).collect();
    for (name, obstacle) in ask(asked).await {
        work.memory().answers.keep(K::NAME, &name, obstacle.clone());
        not_empty.extend(obstacle.map(|what| (name, what)));
    }
    (not_empty.into_iter().map(|(name, what)| ((K::NAME, name), what)).collect(), unasked)
}

async fn ask<F>(questions: Vec<(F, String)>) -> Vec<(String, Option<String>)>
where
    F: Future<Output = Option<String>>,
{
    let asked = questions.into_iter().map(|(answer, name)| async move { (name, answer.await) });
    iter(asked).buffer_unordered(ABREAST).collect().await
}

/// What keeps queues that are to go, into `observed.draining`. What was asked in this pass is not asked again. `true`: some were never asked.
pub async fn drains(
    ctx: &Context,
    work: &Work,
    cluster: &Cluster,
    topics: &Parsed<'_, Topics>,
    observed: &mut Observed,
    now: i64,
) -> bool {
    const SORT: &str = "queues";
    let mut surplus = drain::surplus(topics, observed);
    if observed.delayed_elsewhere.is_empty() && surplus.iter().any(|s| s.delays.is_some()) {
        observed.delayed_elsewhere = delayed_elsewhere(&*ctx.engine, cluster, observed).await;
        surplus = drain::surplus(topics, observed);
    }
    let drains = {
        let mut memory = work.memory();
        memory.drains = std::mem::take(&mut memory.drains).seen(&surplus, now);
        memory.drains.clone()
    };
    let mut quiet = BTreeMap::new();
    for one in surplus {
        if observed.draining.contains_key(&one.place) {
            continue;
        }
        if let Some(why) = drains.expects(&one, now) {
            observed.draining.insert(one.place, Some(why.into()));
        } else {
            quiet.insert(format!("{}/{}", one.place.0, one.place.1), one);
        }
    }
    let (chosen, rest) = work.memory().answers.choose(SORT, quiet.keys().cloned().collect());
    let unasked = rest.values().any(|why| why == UNASKED);
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let question = |one: &Surplus| {
        let (one, id) = (one.clone(), &id);
        async move {
            let obstacle = drain::obstacle(&*ctx.engine, id, &one).await;
            obstacle.unwrap_or_else(|error| Some(format!("nobody can say what is in them: {error}")))
        }
    };
    let asked = chosen.into_iter().filter_map(|name| Some((question(quiet.get(&name)?), name))).collect();
    let answers = ask(asked).await;
    for (name, obstacle) in &answers {
        work.memory().answers.keep(SORT, name, obstacle.clone());
    }
    let rest = rest.into_iter().map(|(name, why)| (name, Some(why)));
    for (name, why) in answers.into_iter().chain(rest) {
        if let Some(one) = quiet.get(&name) {
            observed.draining.insert(one.place.clone(), why);
        }
    }
    unasked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn_and_what_has_to_wait_keeps_its_reason() {
        let mut answers = Answers::default();
        let names: Vec<String> = (0..MOST * 2 + 1).map(|n| format!("t{n:03}")).collect();
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let (chosen, rest) = answers.choose("Topic", names.clone());
            assert!(chosen.len() <= MOST && chosen.len() + rest.len() == names.len());
            for name in chosen {
                answers.keep("Topic", &name, Some("it holds 1 messages".into()));
                asked.insert(name);
            }
        }
        assert_eq!(asked.len(), names.len());
        let (_, rest) = answers.choose("Topic", names);
        assert!(rest.values().all(|why| why == "it holds 1 messages"), "{rest:?}");
    }

    #[test]
    fn what_was_empty_a_while_ago_is_not_taken_for_empty() {
        let mut answers = Answers::default();
        answers.keep("Topic", "z", None);
        let names: Vec<String> = (0..MOST).map(|n| format!("t{n:03}")).chain(["z".to_owned()]).collect();
        let (chosen, rest) = answers.choose("Topic", names);
        assert!(!chosen.contains(&"z".to_owned()));
        assert_eq!(rest["z"], UNASKED);
    }
}
