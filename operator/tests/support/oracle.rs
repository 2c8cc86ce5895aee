//! What must hold at every tick, judged from the world as it is and not from what the operator sees of it.

use std::collections::{BTreeMap, BTreeSet};

use gantry::broker_cluster::cluster::{Cluster, Mode};
use gantry::broker_cluster::extent::existing;
use gantry::broker_cluster::plan::plan;
use gantry::broker_cluster::safety::{Consent, may_restart, may_restart_leader};
use gantry::broker_cluster::steps::{Cause, Step};
use gantry::broker_cluster::view::Observed;
use gantry::child::{ChildKind, Write};
use gantry::engine::GroupFacts;
use gantry::labels;
use gantry_crds::BrokerCluster;
use gantry_crds::names::{CLAIM_PREFIX, Component};
use gantry_crds::status::{GroupPhase, UpgradePhase};
use serde_json::Value;

use super::operator::{Operator, Pass, condition};
use super::parsed;
use super::world::World;

/// Ticks for which nobody can know that a process hangs or is cut off: until probes and heartbeats have failed.
const UNNOTICED: u64 = 12;

/// Remembers what the operator did, and complains.
#[derive(Default)]
pub struct Oracle {
    /// Pods that were restarted, until their successors are ready, with their old uids and roles.
    in_flight: BTreeMap<String, (String, Component)>,
    /// Broker pods that were stopped by the operator and are not back in the sync state set, with their old uids.
    down: BTreeMap<String, String>,
    /// Since when a group has had no master that serves, and whom the controllers call it since.
    unled: BTreeMap<String, (u64, Option<String>)>,
    operator: Operator,
}

impl Oracle {
    /// A pass whose step and status are judged; `None` where there was nothing to do and nothing has changed.
    ///
    /// # Errors
    /// What should not be.
    pub fn watched_pass(
        &mut self,
        world: &mut World,
        object: &mut BrokerCluster,
        writes_left: Option<usize>,
    ) -> Result<Option<Pass>, String> {
        self.note(world);
        self.tick(world);
        judge_versions(world)?;
        let before = Before::of(world);
        let Some(pass) = self.operator.pass(world, object, writes_left) else {
            self.judge_status(world, object)?;
            return Ok(None);
        };
        judge_removed(world, &pass)?;
        judge_shrunk(&before, &pass)?;
        judge_claims(&before, &pass)?;
        let step = pass
            .plan
            .step
            .clone()
            .filter(|_| pass.cluster.mode == Mode::Apply && pass.stepped() && pass.failure.is_none());
        if let Some(step) = step {
            let cluster = existing(&pass.cluster, &pass.observed.live);
            self.judge(&before, &cluster, &pass.observed, &step).map_err(|e| format!("{step:?}: {e}"))?;
            if let Step::Restart { pod, uid, component, .. } = step {
                self.in_flight.insert(pod.clone(), (uid.clone(), component));
                if component == Component::Broker {
                    self.down.insert(pod, uid);
                }
            }
        }
        // A pod that is given up is gone at once, and what only it used may go, too.
        let gives_up = matches!(pass.plan.step, Some(Step::GiveUp { .. }))
            || pass.plan.phases.values().any(|p| *p == GroupPhase::Removing);
        if pass.cluster.mode == Mode::Apply
            && pass.done > 0
            && !pass.killed
            && !pass.plan.writes.is_empty()
            && !gives_up
            && pass.failure.is_none()
        {
            judge_writes(world, &pass)?;
        }
        if pass.killed {
            self.operator = Operator::default();
        } else {
            self.judge_status(world, object)?;
        }
        Ok(Some(pass))
    }

    /// Looks at the world, also where no operator does.
    pub fn tick(&mut self, world: &World) {
        let sets = world.api.of_kind(ChildKind::StatefulSet).filter_map(|s| s["metadata"]["name"].as_str());
        for group in sets.filter(|s| s.contains("-broker-")) {
            if world.engine.world(|w| w.serving_master(group).is_some()) {
                self.unled.remove(group);
                continue;
            }
            // The controllers may elect one that hangs, too: of that one nobody knows either.
            let master = known_master(world, group);
            let since = self.unled.entry(group.to_owned()).or_insert((world.now, master.clone()));
            if since.1 != master {
                *since = (world.now, master);
            }
        }
    }

    /// Looks at what became of the last restarts.
    fn note(&mut self, world: &World) {
        self.in_flight.retain(|pod, (uid, _)| !world.pods.get(pod).is_some_and(|p| p.uid != *uid && p.ready));
        // One that was declared away does not come back.
        let declared = |pod: &str| {
            let replicas = world.api.get(ChildKind::StatefulSet, group_of(pod)).map(|s| s["spec"]["replicas"].as_u64());
            let ordinal = pod.rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
            replicas.flatten() > ordinal
        };
        self.in_flight.retain(|pod, (_, role)| *role != Component::Broker || declared(pod));
        self.down.retain(|pod, _| declared(pod));
        self.down.retain(|pod, uid| !world.pods.get(pod).is_some_and(|p| p.uid != *uid && p.ready));
    }

    fn judge(&self, before: &Before, cluster: &Cluster, seen: &Observed, step: &Step) -> Result<(), String> {
        if let Step::GiveUp { pod, .. } = step {
            return judge_given_up(before, cluster, pod);
        }
        if let Step::Elect { group, to, .. } = step {
            return judge_elected(before, group, to);
        }
        let Step::Restart { pod, component, cause, .. } = step else { return Ok(()) };
        let fact = seen.pods.iter().find(|p| p.name == *pod).ok_or("it is not there")?;
        // Whom a leader is stopped for answers, and is the only one.
        let unheard = match cause {
            Cause::Unheard => {
                let mut leaderless = seen.pods.iter().filter(|p| seen.engine.leaderless.contains(&p.name));
                Some(leaderless.next().ok_or("every controller knows its leader")?)
            }
            Cause::Outdated | Cause::Stranded | Cause::Outsider => None,
        };
        let consent = match unheard {
            Some(unheard) => may_restart_leader(cluster, seen, fact, unheard),
            None => may_restart(cluster, seen, fact),
        };
        match consent {
            Ok(Consent::Stop) => {}
            other => return Err(format!("safety does not consent: {other:?}")),
        }
        // What serves nothing is not disturbed.
        if !fact.ready {
            return Ok(());
        }
        // Later roles depend on earlier ones, so an earlier one may be what a later one waits for.
        let waits = self.in_flight.iter().filter(|(other, (_, role))| {
            *other != pod && unheard.is_none_or(|u| u.name != **other) && role <= component
        });
        let (brokers, others): (Vec<_>, Vec<_>) = waits.partition(|(_, (_, role))| *role == Component::Broker);
        // Of brokers as many groups as may be, and of each one replica.
        let groups: BTreeSet<&str> = brokers.iter().map(|(other, _)| group_of(other)).collect();
        let full = groups.len() >= cluster.brokers.max_unavailable || groups.contains(group_of(pod));
        if let Some((other, _)) = others.first().or(brokers.first().filter(|_| full)) {
            return Err(format!("{other} is still being restarted"));
        }
        if *component == Component::Broker && cluster.replicas_of(&fact.set) > 1 {
            let siblings: Vec<&String> =
                self.down.keys().filter(|other| *other != pod && group_of(other) == fact.set).collect();
            if !siblings.is_empty() {
                return Err(format!("{siblings:?} of the same group were stopped and are not back"));
            }
            return judge_copy(before, cluster, pod, &fact.set);
        }
        Ok(())
    }

    fn judge_status(&self, world: &World, object: &BrokerCluster) -> Result<(), String> {
        let status = object.status.clone().unwrap_or_default();
        let ready = condition(&status, "Ready");
        if !ready.starts_with("True") {
            return Ok(());
        }
        if !world.engine_answers {
            return Err(format!("Ready is {ready} although the engine can't be asked"));
        }
        let on_its_way = |name: &String| status.groups.iter().any(|g| g.name == *name && !g.phase.is_open());
        for group in parsed(object).groups().into_iter().filter(|g| !on_its_way(g)) {
            if world.engine.world(|w| w.serving_master(&group).is_some()) {
                continue;
            }
            let since = self.unled.get(&group).map_or(world.now, |(since, _)| *since);
            // A process that hangs or is cut off looks well from outside for a while.
            let looks_well = known_master(world, &group).is_some_and(|m| world.engine.world(|w| w.is_running(&m)));
            if !looks_well || world.now > since + UNNOTICED {
                return Err(format!("Ready is {ready} although {group} has no master that serves since tick {since}"));
            }
        }
        Ok(())
    }
}

/// The address of whom the controllers call a group's master.
fn known_master(world: &World, group: &str) -> Option<String> {
    world.engine.world(|w| {
        let known = w.groups.get(group)?;
        known.replicas.get(&known.master?).cloned()
    })
}

/// The world just before a pass.
struct Before {
    groups: BTreeMap<String, GroupFacts>,
    addresses: BTreeMap<String, String>,
    /// Pods whose nodes are gone.
    lost: BTreeSet<String>,
    /// Addresses of processes that answer.
    serving: BTreeSet<String>,
    /// Replicas of StatefulSets, as Gantry declared them last.
    replicas: BTreeMap<String, i32>,
}

impl Before {
    fn of(world: &World) -> Self {
        let addresses: BTreeMap<String, String> =
            world.pods.values().filter_map(|p| Some((p.name.clone(), world.address(p)?))).collect();
        let lost = world.pods.keys().filter(|p| world.is_lost(p)).cloned().collect();
        let serving = addresses.values().filter(|a| world.engine.world(|w| w.serves(a))).cloned().collect();
        let replicas = world.api.of_kind(ChildKind::StatefulSet);
        let replicas =
            replicas.filter_map(|s| Some((s["metadata"]["name"].as_str()?.to_owned(), declared(s)?))).collect();
        Self { groups: world.group_facts(), addresses, lost, serving, replicas }
    }

    /// Is a replica in sync, and does its process answer?
    fn is_copy(&self, group: &str, pod: &str) -> bool {
        let address = self.addresses.get(pod);
        let in_sync = |facts: &GroupFacts| facts.in_sync.iter().any(|r| Some(&r.address) == address);
        self.groups.get(group).is_some_and(in_sync) && address.is_some_and(|a| self.serving.contains(a))
    }
}

/// What was planned and written needs no second write: else two passes would never come to an end.
fn judge_writes(world: &mut World, pass: &Pass) -> Result<(), String> {
    let mut observed = world.observe(&pass.cluster);
    observed.empty_since.clone_from(&pass.observed.empty_since);
    observed.upgrade.clone_from(&pass.observed.upgrade);
    let mut again = plan(&pass.cluster, &observed).map_err(|e| e.to_string())?;
    if again.phases != pass.plan.phases {
        // What was done took a group a phase further, which is written down.
        return Ok(());
    }
    // To take a replica away is a step of its own, and comes when all else is written.
    let replicas = ["metadata.annotations.gantry.dev/replicas", "spec.replicas"];
    let shrinks = |w: &&Write| matches!(w, Write::Update { differences, .. } if *differences == replicas);
    let shrinking: Vec<String> = again.writes.iter().filter(shrinks).map(|w| w.child().name.clone()).collect();
    // Its budgets come with it.
    let of_it = |name: &str| {
        shrinking.iter().any(|g| name.strip_prefix(g.as_str()).is_some_and(|r| r.is_empty() || r == "-master"))
    };
    if is_taken_back_at_once(world, pass) {
        return Ok(());
    }
    again.writes.retain(|w| match w.child().kind {
        ChildKind::StatefulSet => !shrinks(&w),
        ChildKind::PodDisruptionBudget => !of_it(&w.child().name),
        _ => true,
    });
    if again.writes.is_empty() {
        Ok(())
    } else {
        Err(format!("right after its writes there are more: {:?}", again.writes))
    }
}

/// Does an upgrade take back what no pod has taken up yet? Then the next turn comes with the next pass.
fn is_taken_back_at_once(world: &World, pass: &Pass) -> bool {
    let Some(upgrade) = pass.observed.upgrade.as_ref().filter(|u| u.phase == UpgradePhase::RollingBack) else {
        return false;
    };
    let owners =
        pass.plan.writes.iter().filter(|w| matches!(w.child().kind, ChildKind::StatefulSet | ChildKind::Deployment));
    let mut owners = owners.map(|w| &w.child().name);
    owners.any(|owner| world.pods.values().filter(|p| p.owner.1 == *owner).all(|p| p.version == upgrade.from))
}

/// A client is never newer than what it asks, whatever is upgraded, downgraded or taken back: no pod of a role runs a later version than any of an earlier
/// role. And no third version comes before the second one is everywhere or gone.
fn judge_versions(world: &World) -> Result<(), String> {
    let pods: Vec<_> = world.pods.values().filter(|p| !p.terminating).collect();
    let versions: BTreeSet<&String> = pods.iter().map(|p| &p.version).collect();
    if versions.len() > 2 {
        return Err(format!("pods run {versions:?} at once"));
    }
    for client in &pods {
        let server = pods.iter().find(|s| s.component < client.component && s.version < client.version);
        if let Some(server) = server {
            let (c, s) = (&client.name, &server.name);
            return Err(format!("{c} runs {} before {s}, which runs {}", client.version, server.version));
        }
    }
    Ok(())
}

/// Enough copies stay, and mastership was moved away first.
fn judge_copy(before: &Before, cluster: &Cluster, pod: &str, group: &str) -> Result<(), String> {
    let facts = before.groups.get(group).ok_or("the controllers do not know its group")?;
    let address = before.addresses.get(pod).ok_or("it has no address")?;
    let alive: BTreeSet<&String> = facts.in_sync.iter().filter(|r| r.alive).map(|r| &r.address).collect();
    let left = alive.iter().filter(|a| **a != address).count();
    if facts.master_address.as_ref() == Some(address) && left > 0 {
        return Err("it is the master, and another replica is in sync".into());
    }
    if alive.contains(address) && left < usize::try_from(cluster.brokers.min_in_sync).unwrap_or(0) {
        return Err(format!("only {left} copies in sync would be left"));
    }
    Ok(())
}

/// How many pods of a StatefulSet Gantry wants.
fn declared(set: &Value) -> Option<i32> {
    set["metadata"]["annotations"][labels::REPLICAS].as_str()?.parse().ok()
}

/// Who is made master has everything and answers.
fn judge_elected(before: &Before, group: &str, to: &str) -> Result<(), String> {
    if before.is_copy(group, to) { Ok(()) } else { Err(format!("{to} is not in sync or does not answer")) }
}

/// A replica is taken away only where all others are copies, and one of them is the master. A group that goes as a whole is judged by what it holds.
fn judge_shrunk(before: &Before, pass: &Pass) -> Result<(), String> {
    for write in pass.plan.writes.iter().take(pass.done) {
        let Write::Update { child, object, .. } = write else { continue };
        let (group, is, was) = (&child.name, declared(object), before.replicas.get(&child.name));
        let (Some(is), Some(was), ChildKind::StatefulSet) = (is, was, child.kind) else { continue };
        let goes = pass.plan.phases.get(group) == Some(&GroupPhase::Removing);
        if is >= *was || goes || !before.groups.contains_key(group) {
            continue;
        }
        let master = before.groups[group].master_address.as_ref();
        let left: Vec<String> = (0..is).map(|i| format!("{group}-{i}")).collect();
        if let Some(thin) = left.iter().find(|p| !before.is_copy(group, p)) {
            return Err(format!("{group} shrinks to {is} although {thin} is not in sync or does not answer"));
        }
        if !left.iter().any(|p| before.addresses.get(p) == master) {
            return Err(format!("{group} shrinks to {is} and loses its master"));
        }
    }
    Ok(())
}

/// A volume goes only where nobody counts on what it holds.
fn judge_claims(before: &Before, pass: &Pass) -> Result<(), String> {
    for claim in &pass.plan.claims {
        let pod = claim.name.trim_start_matches(CLAIM_PREFIX);
        let goes = pass.plan.phases.get(group_of(pod)) == Some(&GroupPhase::Removing);
        let Some(facts) = before.groups.get(group_of(pod)).filter(|_| !goes) else { continue };
        if facts.in_sync.iter().any(|r| r.address.starts_with(&format!("{pod}."))) {
            return Err(format!("the volume of {pod} is deleted although it is in sync"));
        }
    }
    Ok(())
}

/// A group goes only when nothing is left in it for anybody.
fn judge_removed(world: &World, pass: &Pass) -> Result<(), String> {
    let removed = pass.plan.writes.iter().take(pass.done).filter_map(|w| match w {
        Write::Delete { child, .. } if child.kind == ChildKind::StatefulSet => Some(&child.name),
        _ => None,
    });
    for group in removed {
        let left = world.engine.world(|w| w.unread(group));
        if left > 0 {
            return Err(format!("{group} is removed with {left} messages that nobody has read"));
        }
    }
    Ok(())
}

/// A replica is given up only where its node is gone, and all others of its group are alive and in sync.
fn judge_given_up(before: &Before, cluster: &Cluster, pod: &str) -> Result<(), String> {
    let facts = before.groups.get(group_of(pod)).ok_or("the controllers do not know its group")?;
    let address = before.addresses.get(pod).ok_or("it has no address")?;
    let others: BTreeSet<&String> =
        facts.in_sync.iter().filter(|r| r.alive && r.address != *address).map(|r| &r.address).collect();
    let wanted = usize::try_from(cluster.replicas_of(group_of(pod)) - 1).unwrap_or(0);
    if !before.lost.contains(pod) {
        return Err("its node is not gone".into());
    }
    // Of a group that is being removed nobody needs a copy.
    let goes = cluster.phase_of(group_of(pod)) == GroupPhase::Removing;
    if !goes && others.len() < wanted.max(1) {
        return Err(format!("only {} other copies are in sync", others.len()));
    }
    Ok(())
}

/// `shop-broker-0` of `shop-broker-0-2`.
fn group_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(group, _)| group)
}
