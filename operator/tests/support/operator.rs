//! An operator without a client: the passes of broker_cluster/mod.rs over a [`World`].

use std::collections::BTreeSet;

use gantry::broker_cluster::cluster::{Cluster, Mode};
use gantry::broker_cluster::parse::{self};
use gantry::broker_cluster::plan::{self};
use gantry::broker_cluster::status::{self};
use gantry::broker_cluster::steps::Outcome;
use gantry::broker_cluster::steps::Plan;
use gantry::broker_cluster::view::{EngineView, Observed, PodFact};
use gantry_crds::condition::Reason;
use gantry_crds::{BrokerCluster, BrokerClusterStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::settings;
use super::world::World;

/// An operator. It remembers nothing that it needs: only that its last pass had nothing to do, and what it saw then. Passes are pure, so the same sight
/// leads to nothing again, and the simulation is spared most of them.
#[derive(Default)]
pub struct Operator {
    idle_at: Option<Sight>,
}

#[derive(PartialEq)]
struct Sight {
    version: u64,
    generation: Option<i64>,
    pods: Vec<PodFact>,
    engine: EngineView,
    cordoned: BTreeSet<String>,
    /// The time, where something waits for it.
    now: Option<u64>,
}

/// What one pass did.
pub struct Pass {
    /// The parsed spec.
    pub cluster: Cluster,
    /// What was seen at its beginning.
    pub observed: Observed,
    /// What was to be done.
    pub plan: Plan,
    /// How many writes were made, those of the step and of the status among them.
    pub done: usize,
    /// The process ended before the next write.
    pub killed: bool,
    /// Why it stopped.
    pub failure: Option<(Reason, String)>,
    /// The status was written.
    pub published: bool,
}

impl Pass {
    /// Was its step taken as a whole, after everything that comes before it?
    pub fn stepped(&self) -> bool {
        let before = self.before_calls() + self.plan.calls.len();
        self.plan.step.as_ref().is_some_and(|step| self.done >= before + World::parts(step))
    }

    /// How many writes come before its calls.
    pub fn before_calls(&self) -> usize {
        let Plan { writes, growths, ownerships, claims, roles, .. } = &self.plan;
        writes.len() + growths.len() + ownerships.len() + claims.len() + roles.len()
    }

    /// Nothing was written.
    pub fn idle(&self) -> bool {
        self.done == 0 && !self.published && !self.killed
    }

    /// What was to be done and what became of it, for people.
    pub fn summary(&self, object: &BrokerCluster) -> String {
        let conditions = object.status.as_ref().map(|s| &s.conditions);
        let Plan { writes, growths, claims, calls, step, holds, outdated, .. } = &self.plan;
        format!(
            "writes {writes:?} growths {growths:?} claims {claims:?} calls {calls:?} step {step:?} holds {holds:?} outdated {outdated:?} failure {:?} conditions {conditions:#?}",
            self.failure
        )
    }
}

impl Operator {
    /// One pass over the cluster, or `None` where the last one had nothing to do and nothing has changed since.
    pub fn pass(&mut self, world: &mut World, object: &mut BrokerCluster, writes_left: Option<usize>) -> Option<Pass> {
        let cluster = parse::parse(object, &settings()).expect("a spec that can be");
        let (_, pods, mut engine) = world.sight(&cluster);
        // Logs grow all the time.
        engine.groups.values_mut().filter_map(|g| g.sync.as_mut().ok()).for_each(|s| s.ends.clear());
        let status = object.status.iter().flat_map(|s| &s.groups);
        let closing = object.status.iter().flat_map(|s| &s.groups).any(|g| g.closed_since.is_some());
        let upgrades = object.status.as_ref().is_some_and(|s| s.upgrade.is_some());
        // A hold that ends by the clock alone.
        let rests = object.status.iter().flat_map(|s| &s.holds).any(|h| h.reason == Reason::Rolling.as_str());
        let waits = upgrades
            || closing
            || rests
            || !engine.leaderless.is_empty()
            || pods.iter().any(|p| p.gone_since.is_some())
            || status.into_iter().any(|g| !g.phase.is_open());
        let now = waits.then_some(world.now);
        let (version, generation, cordoned) = (world.api.version(), object.metadata.generation, world.cordoned.clone());
        let sight = Sight { now, version, generation, pods, engine, cordoned };
        if self.idle_at.as_ref() == Some(&sight) {
            return None;
        }
        let pass = pass(world, object, writes_left);
        self.idle_at = (pass.idle() && pass.failure.is_none()).then_some(sight);
        Some(pass)
    }
}

/// One pass over the cluster. It ends, as if killed, before write number `writes_left`.
pub fn pass(world: &mut World, object: &mut BrokerCluster, writes_left: Option<usize>) -> Pass {
    let cluster = parse::parse(object, &settings()).expect("a spec that can be");
    world.declare_metadata(object);
    let observed = world.observe(&cluster).remembering(&object.status.clone().unwrap_or_default());
    let plan = plan::plan(&cluster, &observed).expect("children can be written as JSON");
    let mut pass = Pass { cluster, observed, plan, done: 0, killed: false, failure: None, published: false };
    if pass.cluster.mode == Mode::Apply {
        apply(world, &mut pass, writes_left);
    }
    if !pass.killed {
        publish(world, object, &mut pass, writes_left);
    }
    pass
}

fn apply(world: &mut World, pass: &mut Pass, writes_left: Option<usize>) {
    let killed = |done: usize| writes_left.is_some_and(|left| done >= left);
    for write in &pass.plan.writes {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        if let Err(failure) = world.write(write, &pass.cluster.owner.uid) {
            pass.failure = Some(failure);
            return;
        }
        pass.done += 1;
    }
    for growth in &pass.plan.growths {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        world.grow(growth);
        pass.done += 1;
    }
    for ownership in &pass.plan.ownerships {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        world.own(ownership);
        pass.done += 1;
    }
    for claim in &pass.plan.claims {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        world.delete_surplus(claim);
        pass.done += 1;
    }
    for role in &pass.plan.roles {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        world.label(role);
        pass.done += 1;
    }
    for call in &pass.plan.calls {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        if let Err(failure) = world.call(call, &pass.cluster) {
            pass.failure = Some(failure);
            return;
        }
        pass.done += 1;
    }
    let Some(step) = &pass.plan.step else { return };
    for part in 0..World::parts(step) {
        if killed(pass.done) {
            pass.killed = true;
            return;
        }
        if let Err(failure) = world.take(step, part, &pass.cluster) {
            pass.failure = Some(failure);
            return;
        }
        pass.done += 1;
    }
}

fn publish(world: &World, object: &mut BrokerCluster, pass: &mut Pass, writes_left: Option<usize>) {
    let old = object.status.clone().unwrap_or_default();
    let outcome = Outcome { plan: &pass.plan, failure: pass.failure.clone() };
    let new = status::status(&pass.cluster, &pass.observed, &outcome, &old, &at(world.now));
    if object.status.as_ref() != Some(&new) {
        // It is a write like any other: a process may end between the last change and what it says of it.
        if pass.cluster.mode == Mode::Apply && writes_left.is_some_and(|left| pass.done >= left) {
            pass.killed = true;
            return;
        }
        object.status = Some(new);
        pass.published = true;
        pass.done += usize::from(pass.cluster.mode == Mode::Apply);
    }
}

/// The time that conditions get at a tick.
pub fn at(tick: u64) -> Time {
    Time(Timestamp::from_second(1_800_000_000 + i64::try_from(tick).unwrap()).unwrap())
}

/// The condition's status and reason, e.g. `True AsDeclared`.
pub fn condition(status: &BrokerClusterStatus, type_: &str) -> String {
    let condition = status.conditions.iter().find(|c| c.type_ == type_);
    condition.map(|c| format!("{} {}", c.status, c.reason)).unwrap_or_default()
}

/// Ticks and passes until nothing is left to do, at most `limit`. The number of ticks that it took.
///
/// # Errors
/// Where it does not settle: what was last to be done.
pub fn settle(world: &mut World, object: &mut BrokerCluster, limit: u64) -> Result<u64, String> {
    let (began, mut quiet) = (world.now, 0);
    let (mut operator, mut last) = (Operator::default(), String::new());
    let mut settled = false;
    while world.now < began + limit {
        world.tick();
        let Some(pass) = operator.pass(world, object, None) else {
            quiet = if settled { quiet + 1 } else { 0 };
            if quiet >= 5 {
                return Ok(world.now - began);
            }
            continue;
        };
        let status = object.status.clone().unwrap_or_default();
        settled = pass.idle() && condition(&status, "Ready") == "True AsDeclared" && pass.plan.outdated.is_empty();
        quiet = 0;
        last = pass.summary(object);
    }
    Err(format!("not settled after {limit} ticks: {last}"))
}
