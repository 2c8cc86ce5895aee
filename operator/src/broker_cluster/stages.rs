//! Who takes another engine when: StatefulSets and the Deployment in the order of their turns. Pure.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::names::Component;

use crate::broker_cluster::cluster::{Cluster, Engine, ProxyScale};
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::view::{Observed, PodFact};

/// Seconds for which the canary group must have served before other groups follow: a broker that falls out of the sync set or dies of its heap does so
/// under load, not at its start.
pub const WATCHED: i64 = 60;

/// Turns, one after the other.
pub struct Stages<'a> {
    cluster: &'a Cluster,
    observed: &'a Observed,
    running: &'a BTreeMap<String, Engine>,
    goal: &'a Engine,
    /// Names of StatefulSets or the Deployment, and whether others wait until these have served for some time.
    turns: Vec<(Vec<String>, bool)>,
}

impl<'a> Stages<'a> {
    /// Turns on the way to `goal`. `up`: to a later version; `canary`: one broker group goes before the others.
    #[must_use]
    pub fn new(
        cluster: &'a Cluster,
        observed: &'a Observed,
        running: &'a BTreeMap<String, Engine>,
        goal: &'a Engine,
        up: bool,
        canary: bool,
    ) -> Self {
        let one = |c: Component| (vec![cluster.component(c)], false);
        let mut first = cluster.groups();
        let rest = first.split_off(if canary { 1.min(first.len()) } else { 0 });
        let mut groups = vec![(first, true), (rest, false)];
        groups.retain(|(names, _)| !names.is_empty());
        if let [(_, watched)] = groups.as_mut_slice() {
            // Nobody follows.
            *watched = false;
        }
        let mut turns =
            if up { vec![one(Component::NameServer), one(Component::Controller)] } else { vec![one(Component::Proxy)] };
        turns.extend(groups);
        turns.extend(if up {
            vec![one(Component::Proxy)]
        } else {
            vec![one(Component::Controller), one(Component::NameServer)]
        });
        Self { cluster, observed, running, goal, turns }
    }

    /// What each should run now; `before` is what it runs until its turn comes. Whoever had its turn keeps what it got.
    #[must_use]
    pub fn engines(&self, before: &Engine) -> BTreeMap<String, Engine> {
        let mut engines = BTreeMap::new();
        let mut open = true;
        // A broker group that is new joins the turn of the others: where a later one has begun, theirs is over.
        let begun = self.turns.iter().rposition(|(names, _)| names.iter().any(|n| self.has_it(n)));
        for (turn, (names, watched)) in self.turns.iter().enumerate() {
            for name in names {
                let late = !self.running.contains_key(name) && begun.is_some_and(|begun| turn < begun);
                let engine = if open || late || self.has_it(name) { self.goal } else { before };
                engines.insert(name.clone(), engine.clone());
            }
            open = open && names.iter().all(|n| self.is_done(n, *watched));
        }
        self.with_shared(engines, before)
    }

    /// No more turns: whoever has the goal keeps it, the others what they have.
    #[must_use]
    pub fn as_they_are(&self, before: &Engine) -> BTreeMap<String, Engine> {
        let names = self.turns.iter().flat_map(|(names, _)| names);
        let engine = |name: &String| if self.has_it(name) { self.goal } else { before };
        let engines = names.map(|name| (name.clone(), engine(name).clone())).collect();
        self.with_shared(engines, before)
    }

    /// Objects that all broker groups share show the goal when all groups have it.
    fn with_shared(&self, mut engines: BTreeMap<String, Engine>, before: &Engine) -> BTreeMap<String, Engine> {
        let all = self.cluster.groups().iter().all(|g| engines.get(g).is_none_or(|e| e == self.goal));
        let shared = if all { self.goal } else { before };
        engines.insert(self.cluster.component(Component::Broker), shared.clone());
        engines
    }

    /// Everybody runs the goal and serves.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.turns.iter().flat_map(|(names, _)| names).all(|n| self.is_done(n, false))
    }

    /// Whom the next turns wait for, and why.
    #[must_use]
    pub fn waits(&self) -> Option<Hold> {
        let at = self.turns.iter().position(|(names, watched)| !names.iter().all(|n| self.is_done(n, *watched)))?;
        let (names, watched) = self.turns.get(at)?;
        let next: Vec<String> = self.turns.iter().skip(at + 1).flat_map(|(names, _)| names.clone()).collect();
        let to = self.goal.version.clone();
        if *watched && names.iter().all(|n| self.is_done(n, false)) {
            return Some(Hold::CanaryWatched { group: names.concat(), to, seconds: WATCHED });
        }
        (!next.is_empty()).then(|| Hold::TurnToCome { names: names.join(", "), next: next.join(", "), to })
    }

    fn has_it(&self, name: &str) -> bool {
        self.running.get(name).is_some_and(|e| e.version == self.goal.version)
    }

    fn pods<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b PodFact> {
        let proxies = self.cluster.component(Component::Proxy);
        let of = move |p: &&PodFact| p.set == name || (p.component == Component::Proxy && name == proxies);
        self.observed.pods.iter().filter(of)
    }

    /// Every pod that should be there runs the goal and serves, and no other is there.
    fn is_done(&self, name: &str, watched: bool) -> bool {
        let well = |p: &&PodFact| p.ready && !p.terminating;
        let long = |p: &&PodFact| !watched || p.since.is_none_or(|since| self.observed.now - since >= WATCHED);
        let serving = self.pods(name).filter(well).filter(long).count();
        // One whose node is gone runs nothing; where it is missed, fewer serve than should.
        let mut there = self.pods(name).filter(|p| p.gone_since.is_none());
        self.has_it(name)
            && there.all(|p| p.version == self.goal.version)
            && serving >= usize::try_from(replicas(self.cluster, self.observed, name)).unwrap_or(0)
            && self.in_sync(name)
    }

    fn in_sync(&self, name: &str) -> bool {
        if !self.cluster.groups().iter().any(|g| g == name) {
            return true;
        }
        let wanted: BTreeSet<String> = self.cluster.pods_of(name).into_iter().collect();
        wanted.is_empty() || self.observed.engine.sync(name).is_ok_and(|s| s.in_sync.is_superset(&wanted))
    }
}

fn replicas(cluster: &Cluster, observed: &Observed, name: &str) -> i32 {
    if name == cluster.component(Component::NameServer) {
        return cluster.name_servers.replicas;
    }
    if name == cluster.component(Component::Controller) {
        return cluster.controllers.replicas;
    }
    if name != cluster.component(Component::Proxy) {
        return cluster.replicas_of(name);
    }
    match &cluster.proxies.scale {
        ProxyScale::Fixed(n) => *n,
        ProxyScale::Auto(a) => {
            let deployment = observed.live.deployments.first().and_then(|d| d.spec.as_ref()?.replicas);
            deployment.unwrap_or(a.min_replicas)
        }
    }
}

/// How many pods there should be.
#[must_use]
pub fn pods(cluster: &Cluster, observed: &Observed) -> i32 {
    let single = [Component::NameServer, Component::Controller, Component::Proxy].map(|c| cluster.component(c));
    single.into_iter().chain(cluster.groups()).map(|name| replicas(cluster, observed, &name)).sum()
}
