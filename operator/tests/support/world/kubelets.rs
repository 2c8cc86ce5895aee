//! What the kubelets do: claims and containers that come and go, nodes that are lost, probes.

use std::collections::{BTreeMap, BTreeSet};

use gantry::child::ChildKind;
use gantry::engine::{EngineFacts, Fact};
use gantry_crds::names::{self, Component};

use super::{Claim, Pod, World};

/// Ticks for which a probe fails before a pod is not ready: two probes, five seconds apart.
const PROBED: u64 = 10;
/// Ticks until the pods of a node that nobody reaches are not ready.
const NODE_LOST: u64 = 40;
/// Ticks from the start of a proxy until it serves.
const PROXY_START: u64 = 5;

impl World {
    /// A claim goes when its pod is gone, and the volume with it; a pod that waits gets a new one.
    fn run_claims(&mut self) {
        let gone: Vec<String> = self
            .claims
            .iter()
            .filter(|(pod, c)| c.terminating && !self.is_used(pod))
            .map(|(pod, _)| pod.clone())
            .collect();
        for pod in gone {
            let claim = self.claims.remove(&pod);
            if let Some(claim) = claim.filter(|_| self.pods.contains_key(&pod)) {
                self.uids += 1;
                let uid = format!("uid-of-claim-{}", self.uids);
                self.claims.insert(pod.clone(), Claim { uid, terminating: false, lost: false, owned: false, ..claim });
            }
            let address = self.address_of_broker(&pod);
            self.cut_off.remove(&address);
            self.engine.world(|w| {
                w.join(&address);
                w.lose_disk(&address);
            });
        }
    }

    /// A pod that was never started holds no volume.
    fn is_used(&self, pod: &str) -> bool {
        self.pods.get(pod).is_some_and(|p| p.started.is_some())
    }

    /// What becomes of pods on nodes that are gone: the node's controller evicts them, and nothing ends them. Those made anew fit nowhere.
    fn run_lost_nodes(&mut self) {
        let lost: Vec<String> = self.pods.keys().filter(|p| self.is_lost(p)).cloned().collect();
        for name in lost {
            let now = self.now;
            if let Some(pod) = self.pods.get_mut(&name) {
                if pod.started.is_some() && !pod.ready && !pod.terminating {
                    pod.terminating = true;
                }
                if pod.terminating || pod.started.is_none() {
                    pod.gone_since.get_or_insert(now);
                }
            }
        }
    }

    pub(super) fn run_kubelets(&mut self) {
        self.run_claims();
        self.run_lost_nodes();
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            let pod = self.pods[&name].clone();
            let address = self.address(&pod);
            if self.is_lost(&name) {
                continue;
            }
            let running = address.as_ref().map_or(pod.started.is_some(), |a| self.engine.world(|w| w.is_running(a)));
            if pod.terminating {
                if !running || address.is_none() {
                    self.pods.remove(&name);
                }
                continue;
            }
            if !running && self.can_start(&pod) {
                if let Some(address) = &address {
                    let keys = self.live_keys(&pod);
                    self.engine.world(|w| w.configure(address, keys));
                    self.engine.world(|w| w.start(address));
                }
                if let Some(pod) = self.pods.get_mut(&name) {
                    pod.started = Some(self.now);
                }
            }
        }
    }

    /// What a broker reads at its start of the keys that it takes while it runs.
    fn live_keys(&self, pod: &Pod) -> BTreeMap<String, String> {
        let files = pod.config_maps.iter().filter_map(|name| self.api.get(ChildKind::ConfigMap, name));
        let texts = files.filter_map(|file| file["data"]["live.conf"].as_str());
        let lines = texts.flat_map(str::lines).filter_map(|line| line.split_once('='));
        lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// A container needs its files, its account and, to find its own name, its Service.
    fn can_start(&self, pod: &Pod) -> bool {
        let service = names::component(&self.name, pod.component);
        !self.unstartable.contains(&pod.owner.1)
            && self.broken.as_ref().is_none_or(|(v, c)| (v, c) != (&pod.version, &pod.component))
            && pod.config_maps.iter().all(|name| self.api.get(ChildKind::ConfigMap, name).is_some())
            && self.api.get(ChildKind::ServiceAccount, &pod.service_account).is_some()
            && (pod.component == Component::Proxy || self.api.get(ChildKind::Service, &service).is_some())
    }

    pub(super) fn probe(&mut self) {
        let facts = self.facts_of_all();
        let serving: BTreeSet<String> =
            self.pods.values().filter(|p| self.serves(p, &facts)).map(|p| p.name.clone()).collect();
        let now = self.now;
        let lost: BTreeSet<String> = self
            .pods
            .values()
            .filter(|p| self.address(p).is_some_and(|a| self.cut_off.contains(&a)))
            .map(|p| p.name.clone())
            .collect();
        let down: BTreeSet<String> = self
            .pods
            .values()
            .filter(|p| self.address(p).is_some_and(|a| !self.engine.world(|w| w.is_running(&a))))
            .map(|p| p.name.clone())
            .collect();
        for pod in self.pods.values_mut() {
            let was = pod.ready;
            if serving.contains(&pod.name) {
                pod.ready = true;
                pod.failing_since = None;
            } else {
                let since = *pod.failing_since.get_or_insert(now);
                let patience = if lost.contains(&pod.name) { NODE_LOST } else { PROBED };
                if down.contains(&pod.name) || now >= since + patience {
                    pod.ready = false;
                }
            }
            if was != pod.ready {
                pod.since = now;
            }
        }
    }

    /// What the prober in the image asks.
    fn serves(&self, pod: &Pod, facts: &EngineFacts) -> bool {
        let Some(address) = self.address(pod) else {
            let listed = |f: &Fact<Vec<gantry::engine::Registered>>| {
                f.known().is_some_and(|brokers| brokers.iter().any(|b| b.id == 0))
            };
            return pod.started.is_some_and(|at| self.now >= at + PROXY_START)
                && facts.name_servers.values().any(listed);
        };
        if !self.engine.world(|w| w.serves(&address)) {
            return false;
        }
        match pod.component {
            Component::NameServer | Component::Proxy => true,
            Component::Controller => self.engine.world(|w| w.leader_of(&address).is_some()),
            Component::Broker => {
                let mut answers = facts.name_servers.values().filter_map(Fact::known).peekable();
                let registered =
                    answers.peek().is_some() && answers.all(|brokers| brokers.iter().any(|b| b.address == address));
                let in_sync = match facts.groups.get(&pod.owner.1).and_then(Fact::known) {
                    Some(Some(g)) => g.in_sync.iter().any(|r| r.address == address),
                    Some(None) => false,
                    None => true,
                };
                registered && in_sync
            }
        }
    }
}
