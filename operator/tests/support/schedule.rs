//! A schedule: a cluster, and what happens to it, all of it decided by a seed.

use std::collections::BTreeMap;

use gantry::child::ChildKind;
use gantry::labels;
use gantry_crds::names::Component;
use gantry_crds::status::UpgradePhase;
use gantry_crds::{ACCEPT_HAZARDS_ANNOTATION, BrokerCluster, BrokerClusterStatus, RETRY_UPGRADE_ANNOTATION};
use serde_json::{Value, json};

use super::operator::{condition, settle};
use super::oracle::Oracle;
use super::world::{Pod, World};
use super::{merge, object, parsed};

/// Ticks in which things go wrong.
const TROUBLED: u64 = 200;
/// Ticks after which a cluster must be settled once nothing goes wrong any more: a change of version takes about a fifth of it, and one that is under way
/// is finished, or taken back, before the next begins.
const SETTLES: u64 = 1800;
/// Ticks at the end in which nothing may be written.
const QUIET: u64 = 30;
/// Versions that people write, and one that never serves.
const VERSIONS: [&str; 4] = ["5.4.0", "5.5.0", "5.5.1", BROKEN];
const BROKEN: &str = "5.5.2";
/// In one tick of so many something goes wrong.
const TROUBLE: u64 = 12;

/// SplitMix64: enough for schedules, the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(usize::try_from(self.below(of.len() as u64)).ok()?) }
    }
}

/// What ends by itself at a tick.
#[derive(Clone, Debug)]
enum Mend {
    Resume(String),
    Join(String),
    EngineAnswers,
    Startable(String),
    Readers,
    Due(String),
    Uncordon(String),
}

/// A cluster and its fate.
pub struct Schedule {
    seed: u64,
    dice: Dice,
    world: World,
    object: BrokerCluster,
    spec: Value,
    oracle: Oracle,
    mends: BTreeMap<u64, Vec<Mend>>,
    operator_back_at: u64,
    /// The pod whose node is being drained.
    drained: Option<String>,
    log: Vec<String>,
}

impl Schedule {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
        let replicas = *dice.one(&[1, 2, 3, 3]).unwrap();
        let controllers = *dice.one(&[1, 3]).unwrap();
        let reclaim = dice.one(&["Retain", "Delete"]).unwrap();
        let storage = json!({"giveUpAfter": "5m", "reclaimPolicy": reclaim});
        let spec = json!({
            "brokers": {
                "groups": 1 + dice.below(2),
                "replicas": replicas,
                "storage": storage,
                "maxUnavailableGroups": 1 + dice.below(2),
                "drainBeforeRestart": dice.below(2) == 0,
            },
            "nameServers": {"replicas": 1 + dice.below(2)},
            "controllers": {"replicas": controllers},
            "proxies": {"replicas": 1 + dice.below(2)},
            // Longer than anything hangs or is cut off.
            "upgradeTimeout": "2m",
        });
        let mut object = object("shop", spec.clone());
        object.metadata.annotations =
            Some([(ACCEPT_HAZARDS_ANNOTATION.to_owned(), "replicas-forget-topics".to_owned())].into());
        let mut world = World::new(&parsed(&object));
        world.broken = dice.one(&Component::ALL).map(|role| (BROKEN.to_owned(), *role));
        let log = vec![format!("seed {seed}: {spec}")];
        let (oracle, mends) = (Oracle::default(), BTreeMap::new());
        Self { seed, dice, world, object, spec, oracle, mends, operator_back_at: 0, drained: None, log }
    }

    /// What happened, a line each.
    pub fn transcript(&self) -> String {
        self.log.join("\n")
    }

    /// From nothing, through trouble, to rest.
    ///
    /// # Errors
    /// What should not have been.
    pub fn run(&mut self) -> Result<(), String> {
        // Half of the schedules start with a cluster that serves, so that rolls meet trouble, too.
        if self.seed.is_multiple_of(2) {
            settle(&mut self.world, &mut self.object, SETTLES)?;
            self.note("it serves".into());
        }
        let until = self.world.now + TROUBLED;
        while self.world.now < until {
            if self.dice.below(TROUBLE) == 0 {
                self.trouble();
            }
            self.tick()?;
        }
        self.mend_all();
        self.end()
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:5} {what}", self.world.now));
    }

    fn tick(&mut self) -> Result<(), String> {
        let now = self.world.now;
        for mend in self.mends.remove(&now).unwrap_or_default() {
            self.mend(&mend);
        }
        self.world.tick();
        self.oracle.tick(&self.world);
        self.evict();
        // An operator is woken by events, at the latest after some seconds.
        if now >= self.operator_back_at && self.dice.below(2) == 0 {
            let killed_before = (self.dice.below(8) == 0).then(|| usize::try_from(self.dice.below(6)).unwrap());
            self.pass(killed_before)?;
        }
        let skipped = self.world.engine.world(|w| w.reader.as_ref().map_or(0, |r| r.skipped));
        if skipped > 0 {
            return Err(format!("{skipped} messages are skipped: their reader began behind them"));
        }
        let lost: u64 = self.world.engine.world(|w| w.groups.values().map(|g| g.lost).sum());
        if lost > 0 {
            return Err(format!("{lost} bytes that were acknowledged are lost"));
        }
        Ok(())
    }

    /// `kubectl drain` tries every five seconds.
    fn evict(&mut self) {
        let Some(pod) = self.drained.clone().filter(|_| self.world.now.is_multiple_of(5)) else { return };
        if self.world.pods.get(&pod).is_some_and(|p| !p.terminating) && self.world.evict(&pod) {
            self.note(format!("{pod} is evicted"));
            self.drained = None;
        }
    }

    fn pass(&mut self, writes_left: Option<usize>) -> Result<(), String> {
        let old = self.object.status.clone().unwrap_or_default();
        let Some(pass) = self.oracle.watched_pass(&mut self.world, &mut self.object, writes_left)? else {
            return Ok(());
        };
        for write in pass.plan.writes.iter().take(pass.done) {
            self.note(format!("wrote {}", serde_json::to_string(write).unwrap()));
        }
        for call in pass.plan.calls.iter().take(pass.done.saturating_sub(pass.before_calls())) {
            self.note(format!("call {call:?}"));
        }
        if let Some(step) = pass.plan.step.as_ref().filter(|_| pass.stepped()) {
            self.note(format!("step {step:?}"));
        }
        if pass.killed {
            self.operator_back_at = self.world.now + 1 + self.dice.below(15);
            self.note(format!("the operator is killed until {}", self.operator_back_at));
        }
        if let Some((reason, message)) = pass.failure {
            self.note(format!("failed: {reason:?} {message}"));
        }
        let after = self.object.status.clone().unwrap_or_default();
        if condition(&old, "Ready") != condition(&after, "Ready") {
            self.note(format!("Ready is {}", condition(&after, "Ready")));
        }
        let phase = |s: &BrokerClusterStatus| s.upgrade.as_ref().map(|u| (u.phase, u.to.clone(), u.reason.clone()));
        if phase(&old) != phase(&after) {
            self.note(format!("the upgrade is {:?}", phase(&after)));
        }
        Ok(())
    }

    /// Everything is well from now on; it must come to rest, and then nothing may be written.
    fn end(&mut self) -> Result<(), String> {
        self.note("no more trouble".into());
        let (began, mut quiet) = (self.world.now, 0);
        self.operator_back_at = 0;
        self.world.broken = None;
        while quiet < QUIET {
            if self.world.now > began + SETTLES {
                let status = serde_yaml::to_string(&self.object.status).unwrap();
                return Err(format!("it is not settled after {SETTLES} ticks:\n{status}"));
            }
            self.world.tick();
            let version = self.world.api.version();
            self.try_again();
            self.pass(None)?;
            let status = self.object.status.clone().unwrap_or_default();
            let settled = condition(&status, "Ready") == "True AsDeclared"
                && condition(&status, "Progressing") == "False AsDeclared";
            quiet = if settled && version == self.world.api.version() { quiet + 1 } else { 0 };
        }
        self.check_rest()
    }

    /// What was taken back is tried again.
    fn try_again(&mut self) {
        let upgrade = self.object.status.as_ref().and_then(|s| s.upgrade.as_ref());
        if upgrade.is_some_and(|u| u.phase == UpgradePhase::RolledBack) {
            let annotations = self.object.metadata.annotations.get_or_insert_default();
            annotations.insert(RETRY_UPGRADE_ANNOTATION.into(), self.world.now.to_string());
        }
    }

    /// Nothing is left over, nothing is old.
    fn check_rest(&self) -> Result<(), String> {
        let cluster = parsed(&self.object);
        let declared = gantry::broker_cluster::resources::resources(&cluster);
        let names: Vec<String> =
            declared.config_maps.iter().map(|c| c.metadata.name.clone().unwrap_or_default()).collect();
        for map in self.world.api.of_kind(ChildKind::ConfigMap) {
            let name = map["metadata"]["name"].as_str().unwrap_or_default();
            // One whose labels somebody took away is his, until the cluster that owns it goes.
            if map["metadata"]["labels"][labels::MANAGED_BY] != labels::MANAGER {
                continue;
            }
            if !names.iter().any(|n| n == name)
                && !self.world.pods.values().any(|p| self.is_stuck(p) && p.config_maps.contains(name))
            {
                return Err(format!("ConfigMap {name} is left over"));
            }
        }
        // Every group that is left is open: its master takes messages.
        for group in cluster.groups() {
            let closed =
                |w: &gantry::engine::fake::World| !w.serving_master(&group).is_some_and(|m| w.takes_messages(m));
            if self.world.engine.world(|w| closed(w)) {
                return Err(format!("{group} takes no messages"));
            }
        }
        for set in self.world.api.of_kind(ChildKind::StatefulSet) {
            let (name, current) = (&set["metadata"]["name"], &set["status"]["updateRevision"]);
            if let Some(facts) = self.world.group_facts().get(name.as_str().unwrap_or_default()) {
                let mut ids: Vec<_> = facts.in_sync.iter().chain(&facts.not_in_sync).map(|r| &r.address).collect();
                ids.sort();
                if ids.windows(2).any(|two| two[0] == two[1]) {
                    return Err(format!("the controllers know one replica of {name} under two ids: {ids:?}"));
                }
            }
            let mut pods = self.world.pods.values().filter(|p| !self.is_stuck(p));
            let old = pods.find(|p| *name == p.owner.1.as_str() && *current != p.revision.as_str());
            if let Some(old) = old {
                return Err(format!("{} runs an old template", old.name));
            }
        }
        Ok(())
    }

    /// A pod that was told to go and whose node is gone: nobody there hears of it.
    fn is_stuck(&self, pod: &Pod) -> bool {
        pod.terminating && self.world.is_lost(&pod.name)
    }

    fn mend(&mut self, mend: &Mend) {
        self.note(format!("mend {mend:?}"));
        match mend {
            Mend::Resume(address) => self.world.engine.world(|w| w.resume(address)),
            Mend::Join(address) if self.is_on_lost_node(address) => {}
            Mend::Join(address) => {
                self.world.cut_off.remove(address);
                self.world.engine.world(|w| w.join(address));
            }
            Mend::Readers => self.world.engine.world(|w| w.reader.iter_mut().for_each(|r| r.away = false)),
            Mend::Due(address) => self.world.engine.world(|w| w.delay_messages(address, 0)),
            Mend::Uncordon(pod) => {
                self.world.uncordon(pod);
                self.drained = None;
            }
            Mend::EngineAnswers => self.world.engine_answers = true,
            Mend::Startable(set) => {
                self.world.unstartable.remove(set);
            }
        }
    }

    fn is_on_lost_node(&self, address: &str) -> bool {
        self.world
            .pods
            .values()
            .any(|p| self.world.is_lost(&p.name) && self.world.address(p).as_deref() == Some(address))
    }

    fn mend_all(&mut self) {
        let mends: Vec<Mend> = std::mem::take(&mut self.mends).into_values().flatten().collect();
        mends.iter().for_each(|mend| self.mend(mend));
    }

    /// Something goes wrong, or somebody wants something else.
    fn trouble(&mut self) {
        let pods: Vec<(String, Option<String>)> =
            self.world.pods.values().map(|p| (p.name.clone(), self.world.address(p))).collect();
        let pod = self.dice.one(&pods).cloned();
        let until = self.world.now + 1 + self.dice.below(60);
        match (self.dice.below(18), pod) {
            (0, Some((pod, _))) => {
                self.note(format!("somebody deletes Pod/{pod}"));
                self.world.delete_pod(&pod);
            }
            (1, Some((pod, Some(address)))) => {
                self.note(format!("the process of {pod} is killed"));
                self.world.engine.world(|w| w.kill(&address));
            }
            (2, Some((pod, Some(address)))) => {
                self.note(format!("the process of {pod} hangs"));
                self.world.engine.world(|w| w.hang(&address));
                self.mends.entry(until).or_default().push(Mend::Resume(address));
            }
            (3, Some((pod, Some(address)))) => {
                self.note(format!("the node of {pod} is cut off"));
                self.world.cut_off.insert(address.clone());
                self.world.engine.world(|w| w.cut_off(&address));
                self.mends.entry(until).or_default().push(Mend::Join(address));
            }
            (4, Some((pod, Some(address)))) => self.lose_volume(&pod, &address),
            (5, _) => {
                self.note("the operator can't reach the engine".into());
                self.world.engine_answers = false;
                self.mends.entry(until).or_default().push(Mend::EngineAnswers);
            }
            (6, _) => {
                self.operator_back_at = until;
                self.note(format!("the operator is away until {until}"));
            }
            (7, _) => self.delete_child(),
            (8, _) => self.edit_child(),
            (9, Some((pod, _))) => {
                let set = self.world.pods[&pod].owner.1.clone();
                self.note(format!("no pod of {set} can start"));
                self.world.unstartable.insert(set.clone());
                self.mends.entry(until).or_default().push(Mend::Startable(set));
            }
            (10, Some((pod, Some(address)))) => self.lose_node(&pod, &address),
            (13, Some((pod, Some(_)))) if pod.contains("-broker-") && self.drained.is_none() => {
                self.note(format!("the node of {pod} is drained until {until}"));
                self.world.cordon(&pod);
                self.mends.entry(until).or_default().push(Mend::Uncordon(pod.clone()));
                self.drained = Some(pod);
            }
            (14, Some((pod, Some(address)))) if pod.contains("-controller-") => {
                self.note(format!("the leading controller sends nothing to {pod}"));
                self.world.engine.world(|w| w.send_nothing_to(&address));
            }
            (11, _) => {
                self.note("consumers are away".into());
                self.world.engine.world(|w| w.reader.iter_mut().for_each(|r| r.away = true));
                self.mends.entry(until).or_default().push(Mend::Readers);
            }
            (12, Some((pod, Some(address)))) if pod.contains("-broker-") => {
                self.note(format!("{pod} has delayed messages"));
                self.world.engine.world(|w| w.delay_messages(&address, 3));
                self.mends.entry(until).or_default().push(Mend::Due(address));
            }
            _ => self.edit_spec(),
        }
    }

    /// For good, and only one: two of a group would be too many for any operator.
    fn lose_node(&mut self, pod: &str, address: &str) {
        let broker = self.world.pods[pod].component == Component::Broker;
        let first = !self.world.claims.keys().any(|p| self.world.is_lost(p));
        if broker && first && self.has_other_copy(pod, address) {
            self.note(format!("the node of {pod} is gone for good"));
            self.world.lose_node(pod);
        }
    }

    /// Is another copy that has everything that was acknowledged on a node that is there?
    fn has_other_copy(&self, pod: &str, address: &str) -> bool {
        let group = self.world.pods[pod].owner.1.clone();
        let Some(facts) = self.world.group_facts().remove(&group) else { return false };
        let there = |a: &String| {
            let of = self.world.pods.values().find(|p| self.world.address(p).as_ref() == Some(a));
            of.is_some_and(|p| !self.world.is_lost(&p.name) && !p.terminating)
        };
        facts.in_sync.iter().any(|r| r.address != address && there(&r.address))
    }

    /// Only where another copy has everything that was acknowledged: no operator brings back what nobody has.
    fn lose_volume(&mut self, pod: &str, address: &str) {
        if self.world.pods[pod].component != Component::Broker {
            return;
        }
        if self.has_other_copy(pod, address) && !self.world.is_lost(pod) {
            self.note(format!("{pod} loses its volume"));
            self.world.engine.world(|w| w.lose_disk(address));
        }
    }

    fn delete_child(&mut self) {
        let all: Vec<(ChildKind, String)> = self.world.api.all().map(|(key, _)| key.clone()).collect();
        if let Some((kind, name)) = self.dice.one(&all).cloned() {
            self.note(format!("somebody deletes {kind:?}/{name}"));
            self.world.api.delete(kind, &name, None).expect("without a precondition it is deleted");
        }
    }

    fn edit_child(&mut self) {
        let all: Vec<(ChildKind, String)> = self.world.api.all().map(|(key, _)| key.clone()).collect();
        let Some((kind, name)) = self.dice.one(&all).cloned() else { return };
        let now = self.world.now;
        let what = self.dice.below(5);
        self.note(format!("somebody edits {kind:?}/{name} ({what})"));
        self.world.api.edit(kind, &name, |o| match (kind, what) {
            (_, 0) => o["metadata"]["labels"] = json!({"mine": "now"}),
            (ChildKind::StatefulSet | ChildKind::Deployment, 1) => {
                o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("another:1");
            }
            // kubectl rollout restart
            (ChildKind::StatefulSet | ChildKind::Deployment, 2) => {
                o["spec"]["template"]["metadata"]["annotations"] =
                    json!({"kubectl.kubernetes.io/restartedAt": now.to_string()});
            }
            (ChildKind::StatefulSet | ChildKind::Deployment, 3) => o["spec"]["replicas"] = json!(0),
            (ChildKind::StatefulSet | ChildKind::Deployment, 4) => o["spec"]["replicas"] = json!(5),
            (ChildKind::Service, _) => o["spec"]["selector"] = json!({"app": "another"}),
            (ChildKind::PodDisruptionBudget, _) if o["spec"]["minAvailable"].is_null() => {
                o["spec"]["maxUnavailable"] = json!(7);
            }
            (ChildKind::PodDisruptionBudget, _) => o["spec"]["minAvailable"] = json!(9),
            _ => o["metadata"]["annotations"] = json!({}),
        });
    }

    fn edit_spec(&mut self) {
        let n = self.dice.below(1000).to_string();
        let groups = self.spec["brokers"]["groups"].as_u64().unwrap_or(1);
        let replicas = self.spec["brokers"]["replicas"].as_u64().unwrap_or(1);
        let change = match self.dice.below(11) {
            0 => json!({"brokers": {"config": {"sendMessageThreadPoolNums": n, "fileReservedTime": n}}}),
            1 => json!({"proxies": {"config": {"topicRouteServiceCacheMaxNum": n}}}),
            2 => json!({"nameServers": {"config": {"serverWorkerThreads": n}}}),
            3 => json!({"controllers": {"config": {"scanNotActiveBrokerInterval": n}}}),
            4 => json!({"brokers": {"labels": {"n": n}}}),
            5 => json!({"version": self.dice.one(&VERSIONS).unwrap()}),
            6 if groups < 3 => json!({"brokers": {"groups": groups + 1}}),
            9 if groups > 1 => json!({"brokers": {"groups": groups - 1}}),
            10 if replicas > 1 => json!({"brokers": {"replicas": replicas - 1}}),
            7 if replicas < 3 => json!({"brokers": {"replicas": replicas + 1}}),
            _ => json!({"proxies": {"replicas": 1 + self.dice.below(3)}, "endpoints": [{"name": format!("e{n}")}]}),
        };
        self.note(format!("the spec changes: {change}"));
        merge(&mut self.spec, &change);
        self.object.spec = object("shop", self.spec.clone()).spec;
        self.object.metadata.generation = self.object.metadata.generation.map(|g| g + 1);
    }
}
