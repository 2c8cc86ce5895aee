//! API objects, the pods that StatefulSets and Deployments make of them, and the engine's processes in these pods. One tick is one second.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use gantry::broker_cluster::call::Call;
use gantry::broker_cluster::cluster::Cluster;
use gantry::broker_cluster::extent::existing;
use gantry::broker_cluster::observe;
use gantry::broker_cluster::resources::Resources;
use gantry::broker_cluster::roles::Role;
use gantry::broker_cluster::steps::Step;
use gantry::broker_cluster::transition;
use gantry::broker_cluster::view::{ClaimFact, EngineView, NodeView, Observed, PodFact};
use gantry::broker_cluster::volumes::{Growth, Ownership};
use gantry::child::{ChildKind, Write};
use gantry::engine::fake::World as Engine;
use gantry::engine::fake::{FakeEngine, Reader};
use gantry::engine::{BrokerFacts, ClusterId, Engine as _, EngineError, EngineFacts, EngineWrite, Fact, GroupFacts};
use gantry::labels;
use gantry_crds::names::{self, Component};
use gantry_crds::status::GroupPhase;
use gantry_crds::{BrokerCluster, Reason};
use gantry_remoting::group::GroupConfig;
use gantry_remoting::topic::TopicConfig;
use serde_json::{Value, json};

use super::NAMESPACE;
use super::api::{Api, Refusal};

mod kubelets;

/// The topic that is declared, and the consumer group that reads it.
const TOPIC: &str = "orders";
const READER: &str = "billing";

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// This very pod.
    pub uid: String,
    /// Role.
    pub component: Component,
    /// StatefulSet or Deployment.
    pub owner: (ChildKind, String),
    owner_uid: String,
    /// Stamp of its template.
    pub revision: String,
    /// ConfigMaps that it mounts.
    pub config_maps: BTreeSet<String>,
    service_account: String,
    /// Label of its template.
    pub version: String,
    image: String,
    created: u64,
    /// Since when it is ready, or not.
    since: u64,
    /// Does its container run, or is it about to be run again?
    pub started: Option<u64>,
    /// What its probe says.
    pub ready: bool,
    failing_since: Option<u64>,
    /// It was told to go.
    pub terminating: bool,
    labels: BTreeMap<String, String>,
    /// Node that it runs on, where that matters.
    node: Option<String>,
    /// Where its log ended when it handed over.
    log_end: Option<i64>,
    /// Since when its node is gone as far as the API server can tell.
    gone_since: Option<u64>,
}

/// A volume claim of a pod.
#[derive(Clone, Debug)]
pub struct Claim {
    uid: String,
    /// It goes as soon as no pod uses it.
    terminating: bool,
    /// Its volume is on a node that is gone for good.
    lost: bool,
    /// It goes with the BrokerCluster.
    owned: bool,
    size: String,
}

/// Everything but the operator.
pub struct World {
    /// Seconds since the beginning.
    pub now: u64,
    /// The API server's children.
    pub api: Api,
    /// Processes in pods.
    pub engine: FakeEngine,
    /// Pods by name.
    pub pods: BTreeMap<String, Pod>,
    /// Volume claims by the name of their pod.
    pub claims: BTreeMap<String, Claim>,
    /// Does the operator reach the engine?
    pub engine_answers: bool,
    /// Addresses on nodes that nobody reaches.
    pub cut_off: BTreeSet<String>,
    /// Names of StatefulSets whose pods can't start: no node fits, or there is no image.
    pub unstartable: BTreeSet<String>,
    /// A version of the engine whose pods of a role never serve.
    pub broken: Option<(String, Component)>,
    /// Nodes that take no new pods.
    pub cordoned: BTreeSet<String>,
    name: String,
    uids: u64,
    /// What is read of the API again and again, and the version at which it was.
    listed: (u64, Resources),
    owners: (u64, Vec<Owner>),
}

/// What the controllers read of a StatefulSet or Deployment.
#[derive(Clone)]
struct Owner {
    kind: ChildKind,
    name: String,
    uid: String,
    generation: Value,
    replicas: usize,
    revision: String,
    template: Value,
    /// Size of its pods' volumes.
    volume: Option<String>,
}

impl Owner {
    fn of(kind: ChildKind, object: &Value) -> Self {
        let template = object["spec"]["template"].clone();
        let volume = &object["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"];
        Self {
            kind,
            name: text(&object["metadata"]["name"]),
            uid: text(&object["metadata"]["uid"]),
            generation: object["metadata"]["generation"].clone(),
            replicas: usize::try_from(object["spec"]["replicas"].as_u64().unwrap_or(0)).unwrap(),
            revision: labels::stamp(&template.to_string()),
            template,
            volume: volume["storage"].as_str().map(str::to_owned),
        }
    }
}

impl World {
    /// Nothing is there yet.
    pub fn new(cluster: &Cluster) -> Self {
        let mut engine = Engine::new(usize::try_from(cluster.brokers.min_in_sync).unwrap());
        engine.traffic = true;
        let (topic, group) = (TOPIC.to_owned(), READER.to_owned());
        engine.reader = Some(Reader { topic, group, away: false, skipped: 0 });
        Self {
            now: 0,
            api: Api::default(),
            engine: FakeEngine::new(engine),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            engine_answers: true,
            cut_off: BTreeSet::new(),
            unstartable: BTreeSet::new(),
            broken: None,
            cordoned: BTreeSet::new(),
            name: cluster.name.clone(),
            uids: 0,
            listed: (u64::MAX, Resources::default()),
            owners: (u64::MAX, Vec::new()),
        }
    }

    /// A second passes.
    pub fn tick(&mut self) {
        self.now += 1;
        self.engine.world(Engine::tick);
        self.run_controllers();
        self.run_kubelets();
        self.probe();
    }

    /// Address of the process in a pod; proxies have none that the engine's model knows.
    pub fn address(&self, pod: &Pod) -> Option<String> {
        let port = match pod.component {
            Component::NameServer => names::NAME_SERVER_PORT,
            Component::Controller => names::CONTROLLER_PORT,
            Component::Broker => names::BROKER_PORT,
            Component::Proxy => return None,
        };
        let service = names::component(&self.name, pod.component);
        Some(format!("{}.{}:{port}", pod.name, names::service_host(&service, NAMESPACE, "cluster.local")))
    }

    /// What StatefulSet and Deployment controllers, and the garbage collector, do.
    pub fn run_controllers(&mut self) {
        if self.owners.0 != self.api.version() {
            let owners = [ChildKind::StatefulSet, ChildKind::Deployment];
            let owners = owners.into_iter().flat_map(|k| self.api.of_kind(k).map(move |o| Owner::of(k, o))).collect();
            self.owners = (self.api.version(), owners);
        }
        let owners = std::mem::take(&mut self.owners);
        let owned =
            |p: &Pod| owners.1.iter().any(|o| (o.kind, &o.name) == (p.owner.0, &p.owner.1) && o.uid == p.owner_uid);
        let lost: Vec<String> = self.pods.values().filter(|p| !owned(p)).map(|p| p.name.clone()).collect();
        lost.iter().for_each(|pod| self.delete_pod(pod));
        for owner in &owners.1 {
            match owner.kind {
                ChildKind::StatefulSet => self.run_stateful_set(owner),
                _ => self.run_deployment(owner),
            }
        }
        self.owners = owners;
    }

    fn run_stateful_set(&mut self, set: &Owner) {
        let wanted: Vec<String> = (0..set.replicas).map(|i| format!("{}-{i}", set.name)).collect();
        let own = |p: &&Pod| p.owner.0 == ChildKind::StatefulSet && p.owner.1 == set.name;
        let surplus: Vec<String> =
            self.pods.values().filter(own).filter(|p| !wanted.contains(&p.name)).map(|p| p.name.clone()).collect();
        surplus.iter().for_each(|pod| self.delete_pod(pod));
        let missing: Vec<String> = wanted.into_iter().filter(|pod| !self.pods.contains_key(pod)).collect();
        missing.into_iter().for_each(|pod| self.create_pod(pod, set));
        let status = json!({
            "observedGeneration": set.generation,
            "updateRevision": set.revision,
            "replicas": self.pods.values().filter(own).count(),
            "readyReplicas": self.pods.values().filter(own).filter(|p| p.ready).count(),
        });
        self.api.set_status(ChildKind::StatefulSet, &set.name, status);
    }

    /// One pod more than wanted while old ones are replaced, and an old one goes only when the others are ready.
    fn run_deployment(&mut self, deployment: &Owner) {
        let Owner { name, replicas, revision, .. } = deployment;
        let own = || self.pods.values().filter(|p| p.owner.1 == *name && !p.terminating);
        let (new, all) = (own().filter(|p| p.revision == *revision).count(), own().count());
        let ready = own().filter(|p| p.ready).count();
        let dispensable = own()
            .filter(|p| p.revision != *revision || new > *replicas)
            .find(|p| !p.ready || ready > *replicas)
            .map(|p| p.name.clone());
        if new < *replicas && all < replicas + 1 {
            self.create_pod(format!("{name}-{revision}-{}", self.uids), deployment);
        } else if let Some(pod) = dispensable {
            self.delete_pod(&pod);
        }
    }

    fn create_pod(&mut self, name: String, owner: &Owner) {
        self.uids += 1;
        let label = |key: &str| text(&owner.template["metadata"]["labels"][key]);
        let spec = &owner.template["spec"];
        let volumes = spec["volumes"].as_array().into_iter().flatten();
        let pod = Pod {
            uid: format!("uid-of-pod-{}", self.uids),
            component: Component::from_name(&label(labels::COMPONENT)).expect("a component"),
            owner: (owner.kind, owner.name.clone()),
            owner_uid: owner.uid.clone(),
            revision: owner.revision.clone(),
            config_maps: volumes.filter_map(|v| v["configMap"]["name"].as_str()).map(str::to_owned).collect(),
            service_account: text(&spec["serviceAccountName"]),
            version: label(labels::VERSION),
            image: text(&spec["containers"][0]["image"]),
            labels: template_labels(&owner.template),
            node: None,
            log_end: None,
            created: self.now,
            since: self.now,
            started: None,
            ready: false,
            failing_since: None,
            terminating: false,
            gone_since: None,
            name,
        };
        if let Some(size) = &owner.volume {
            let uid = format!("uid-of-claim-{}", self.uids);
            let made = Claim { uid, terminating: false, lost: false, owned: false, size: size.clone() };
            self.claims.entry(pod.name.clone()).or_insert(made);
        }
        if let Some(address) = self.address(&pod) {
            let member = self.is_configured(&pod, &address);
            self.engine.world(|w| match pod.component {
                Component::NameServer => w.add_name_server(&address),
                Component::Controller if member => w.add_controller(&address),
                Component::Controller => {}
                Component::Broker => w.add_broker(&owner.name, &address),
                Component::Proxy => {}
            });
        }
        self.pods.insert(pod.name.clone(), pod);
    }

    /// Is an address in the pod's files? A controller that is not among the peers there, of a set that was scaled by hand, joins nobody.
    fn is_configured(&self, pod: &Pod, address: &str) -> bool {
        let mut files = pod.config_maps.iter().filter_map(|name| self.api.get(ChildKind::ConfigMap, name)).peekable();
        files.peek().is_none() || files.any(|file| file["data"].to_string().contains(address))
    }

    /// Tells a pod to go.
    pub fn delete_pod(&mut self, name: &str) {
        let lost = self.is_lost(name);
        let Some(pod) = self.pods.get_mut(name).filter(|p| !p.terminating) else { return };
        pod.terminating = true;
        if lost {
            // Nobody there hears of it.
            return;
        }
        let pod = pod.clone();
        if let Some(address) = self.address(&pod) {
            self.engine.world(|w| w.stop(&address));
        }
    }

    /// The node of a pod takes no new ones: `kubectl drain` begins.
    pub fn cordon(&mut self, pod: &str) {
        let node = format!("node-of-{pod}");
        if let Some(pod) = self.pods.get_mut(pod) {
            pod.node = Some(node.clone());
            self.cordoned.insert(node);
        }
    }

    /// That node takes pods again.
    pub fn uncordon(&mut self, pod: &str) {
        self.cordoned.remove(&format!("node-of-{pod}"));
    }

    /// Asks for the eviction of a pod, as `kubectl drain` does again and again. `true`: it was admitted.
    pub fn evict(&mut self, name: &str) -> bool {
        let Some(pod) = self.pods.get(name).filter(|p| !p.terminating) else { return true };
        let budgets: Vec<Value> = self.api.of_kind(ChildKind::PodDisruptionBudget).map(|b| b["spec"].clone()).collect();
        let mut own = budgets.iter().filter(|spec| selects(spec, &pod.labels));
        let admitted = match (own.next(), own.next()) {
            (None, _) => true,
            (Some(budget), None) => self.admits(budget, pod),
            // The eviction API refuses pods with two.
            (Some(_), Some(_)) => false,
        };
        if admitted {
            self.delete_pod(name);
        }
        admitted
    }

    /// What Kubernetes makes of a budget (pkg/controller/disruption, pkg/registry/core/pod/storage/eviction.go).
    fn admits(&self, budget: &Value, pod: &Pod) -> bool {
        let selected = || self.pods.values().filter(|p| selects(budget, &p.labels));
        let healthy = selected().filter(|p| p.ready && !p.terminating).count() as u64;
        let desired = match (&budget["minAvailable"], &budget["maxUnavailable"]) {
            (Value::Number(least), _) => least.as_u64().unwrap(),
            (_, Value::Number(most)) => {
                let owners: BTreeSet<_> = selected().map(|p| &p.owner).collect();
                let declared =
                    |(kind, name): &(ChildKind, String)| self.api.get(*kind, name)?["spec"]["replicas"].as_u64();
                let expected: u64 = owners.into_iter().filter_map(declared).sum();
                expected.saturating_sub(most.as_u64().unwrap())
            }
            other => panic!("a budget that no test has: {other:?}"),
        };
        // One that is not ready may go where as many as must are (IfHealthyBudget).
        !pod.ready && healthy >= desired && desired > 0 || healthy > desired
    }

    /// The node of a pod is gone for good, with the volume.
    pub fn lose_node(&mut self, pod: &str) {
        if let Some(claim) = self.claims.get_mut(pod) {
            claim.lost = true;
        }
        if let Some(address) = self.pods.get(pod).and_then(|p| self.address(p)) {
            self.cut_off.insert(address.clone());
            self.engine.world(|w| w.cut_off(&address));
        }
    }

    /// Is the volume of this pod on a node that is gone?
    pub fn is_lost(&self, pod: &str) -> bool {
        self.claims.get(pod).is_some_and(|c| c.lost)
    }

    /// What the pass over topics and consumer groups does: every group gets the topic and its reader, a new one not before it is closed.
    pub fn declare_metadata(&mut self, object: &mut BrokerCluster) {
        let Some(status) = object.status.as_mut().filter(|_| self.engine_answers) else { return };
        status.metadata_on.clear();
        for group in status.groups.iter().filter(|g| g.phase != GroupPhase::Removing) {
            let Some(master) = self.engine.world(|w| w.serving_master(&group.name).map(str::to_owned)) else {
                continue;
            };
            let open = self.engine.world(|w| w.takes_messages(&master));
            if group.phase == GroupPhase::Opening && open {
                continue;
            }
            // One that comes late to a group that serves is like a new topic: who is away then misses what is not in memory any more when he comes.
            let away = self.engine.world(|w| w.reader.as_ref().is_some_and(|r| r.away));
            if open && away && !self.engine.world(|w| w.holds(&master, |m| m.topics.contains_key(TOPIC))) {
                continue;
            }
            self.engine.world(|w| {
                if !w.holds(&master, |m| m.topics.contains_key(TOPIC)) {
                    w.edit(&master, |m| {
                        m.topics.insert(TOPIC.to_owned(), TopicConfig::new(TOPIC, 1));
                        m.groups.insert(READER.to_owned(), GroupConfig::new(READER));
                    });
                }
            });
            status.metadata_on.push(group.name.clone());
        }
    }

    /// The address of the broker in a pod that may be gone.
    fn address_of_broker(&self, pod: &str) -> String {
        let service = names::component(&self.name, Component::Broker);
        format!("{pod}.{}:{}", names::service_host(&service, NAMESPACE, "cluster.local"), names::BROKER_PORT)
    }

    /// What the engine says of every process that there is, asked from inside the cluster.
    fn facts_of_all(&self) -> EngineFacts {
        let mut addresses = gantry::engine::ClusterAddresses {
            cluster: ClusterId::new(NAMESPACE, &self.name),
            name_servers: Vec::new(),
            controllers: Vec::new(),
            groups: BTreeMap::new(),
        };
        for pod in self.pods.values() {
            let Some(address) = self.address(pod) else { continue };
            match pod.component {
                Component::NameServer => addresses.name_servers.push(address),
                Component::Controller => addresses.controllers.push(address),
                Component::Broker => addresses.groups.entry(pod.owner.1.clone()).or_default().push(address),
                Component::Proxy => {}
            }
        }
        self.engine.observe(&addresses).now_or_never().expect("the model answers at once")
    }

    /// What the controllers know of every group, also where the operator can't ask them.
    pub fn group_facts(&self) -> BTreeMap<String, GroupFacts> {
        let groups = self.facts_of_all().groups.into_iter();
        groups.filter_map(|(name, fact)| Some((name, fact.known()?.clone()?))).collect()
    }

    /// What the engine says of a cluster's processes, as it is.
    pub fn facts(&self, cluster: &Cluster) -> EngineFacts {
        self.engine.observe(&observe::addresses(cluster)).now_or_never().expect("the model answers at once")
    }

    /// What the operator sees of pods and engine.
    pub fn sight(&mut self, cluster: &Cluster) -> (Resources, Vec<PodFact>, EngineView) {
        let pods: Vec<PodFact> = self.pods.values().map(Pod::fact).collect();
        let mut live = self.listed();
        for name in observe::unlisted(&live, &pods) {
            let set = self.api.get(ChildKind::StatefulSet, &name).cloned();
            live.stateful_sets.extend(set.map(|s| serde_json::from_value(s).expect("a StatefulSet")));
        }
        let cluster = &existing(cluster, &live);
        let facts = if self.engine_answers { self.facts(cluster) } else { nobody_answers(cluster) };
        let engine = if pods.iter().any(|p| p.component != Component::Proxy) {
            let mut view = observe::view(cluster, &facts);
            let look = transition::look(cluster, &self.engine, &facts, &mut view);
            look.now_or_never().expect("the model answers at once");
            view
        } else {
            EngineView::default()
        };
        (live, pods, engine)
    }

    /// What the operator sees.
    pub fn observe(&mut self, cluster: &Cluster) -> Observed {
        let (live, pods, engine) = self.sight(cluster);
        let claims = self.claims.iter().map(|(pod, c)| ClaimFact {
            name: names::claim_of(pod),
            uid: c.uid.clone(),
            terminating: c.terminating,
            owned: c.owned,
            requested: c.size.clone(),
            capacity: Some(c.size.clone()),
        });
        let claims = claims.collect();
        let now = super::operator::at(self.now).0.as_second();
        let nodes = NodeView { cordoned: self.cordoned.clone(), unknown: None };
        Observed { live, claims, pods, engine, now, nodes, ..Observed::default() }
    }

    fn listed(&mut self) -> Resources {
        if self.listed.0 != self.api.version() {
            self.listed = (self.api.version(), self.api.list(&self.name));
        }
        self.listed.1.clone()
    }

    /// Does what apply.rs does with a volume that is to grow; the storage grows it at once.
    pub fn grow(&mut self, growth: &Growth) {
        let pod = growth.claim.trim_start_matches(names::CLAIM_PREFIX);
        if let Some(claim) = self.claims.get_mut(pod) {
            claim.size.clone_from(&growth.to);
        }
    }

    /// Does what apply.rs does with a volume claim that goes with the BrokerCluster, or not any more.
    pub fn own(&mut self, ownership: &Ownership) {
        let pod = ownership.claim.trim_start_matches(names::CLAIM_PREFIX);
        if let Some(claim) = self.claims.get_mut(pod).filter(|c| c.uid == ownership.uid) {
            claim.owned = ownership.owned;
        }
    }

    /// Does what apply.rs does with a write.
    pub fn write(&mut self, write: &Write, owner: &str) -> Result<(), (Reason, String)> {
        let child = write.child();
        let failed = |refusal: Refusal| match refusal {
            Refusal::Conflict => (Reason::NameTaken, child.to_string()),
            Refusal::Invalid(what) => (Reason::ApplyFailed, what),
        };
        match write {
            Write::Create { object, .. } => {
                let ours = self.api.get(child.kind, &child.name).is_some_and(|o| {
                    o["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|r| r["uid"] == owner)
                });
                self.api.apply(child, object, ours).map_err(failed)?;
            }
            Write::Update { object, .. } => {
                self.api.apply(child, object, true).map_err(failed)?;
            }
            Write::Delete { uid, .. } => {
                self.api.delete(child.kind, &child.name, Some(uid)).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Does what apply.rs does with roles of pods.
    pub fn label(&mut self, role: &Role) {
        if let Some(pod) = self.pods.get_mut(&role.pod).filter(|p| p.uid == role.uid) {
            pod.labels.insert(labels::ROLE.to_owned(), role.role.to_owned());
        }
    }

    /// Does what apply.rs does with claims of replicas that were declared away.
    pub fn delete_surplus(&mut self, claim: &ClaimFact) {
        let pod = claim.name.trim_start_matches(names::CLAIM_PREFIX).to_owned();
        self.delete_claim(&pod, &claim.uid);
    }

    fn delete_claim(&mut self, pod: &str, uid: &str) {
        if let Some(claim) = self.claims.get_mut(pod).filter(|c| c.uid == uid) {
            claim.terminating = true;
        }
    }

    /// Where the log of a broker ends, where it says so.
    fn log_end(&self, pod: &str) -> Option<i64> {
        let address = self.address_of_broker(pod);
        let facts = self.facts_of_all();
        Some(facts.brokers.get(&address)?.replication.known()?.max_offset)
    }

    /// Does what apply.rs does with a change of the engine.
    pub fn call(&mut self, call: &Call, cluster: &Cluster) -> Result<(), (Reason, String)> {
        if !self.engine_answers {
            return Err((Reason::EngineUnreachable, "the engine can't be reached".into()));
        }
        let id = ClusterId::new(NAMESPACE, &self.name);
        let outcome = self.engine.execute(&id, &call.write(cluster)).now_or_never().expect("the model answers at once");
        let failed = outcome.map(|o| o.failed.into_values().next());
        match failed {
            Ok(None) => Ok(()),
            Ok(Some(e)) | Err(e) => Err((Reason::from_name(e.reason()), e.to_string())),
        }
    }

    /// How many writes apply.rs makes for a step, one after the other.
    pub fn parts(step: &Step) -> usize {
        match step {
            Step::Elect { .. } => 3,
            Step::GiveUp { .. } => 2,
            Step::Restart { .. } => 1,
        }
    }

    /// Does what apply.rs does with a step: one write of it.
    pub fn take(&mut self, step: &Step, part: usize, cluster: &Cluster) -> Result<(), (Reason, String)> {
        match step {
            Step::Elect { from, end, .. } if part != 1 => {
                // Before the election, and once more after it. That replicas are told of their master is nothing in this world: they find it by themselves.
                let now = self.log_end(from).filter(|_| self.engine_answers);
                let pod = self.pods.get_mut(from);
                match (pod, now) {
                    (Some(pod), Some(now)) => {
                        pod.log_end = pod.log_end.filter(|_| part > 0).max(Some(now + (now - end).max(0)))
                    }
                    (_, None) if part == 0 => {
                        return Err((Reason::EngineUnreachable, "it did not say where its log ends".into()));
                    }
                    _ => {}
                }
                Ok(())
            }
            Step::Elect { group, id, .. } => {
                if !self.engine_answers {
                    return Err((Reason::EngineUnreachable, "the engine can't be reached".into()));
                }
                let write = EngineWrite::ElectMaster {
                    controllers: cluster.controller_addresses(),
                    group: group.clone(),
                    id: u64::try_from(*id).unwrap(),
                };
                let id = ClusterId::new(NAMESPACE, &self.name);
                let outcome = self.engine.execute(&id, &write).now_or_never().expect("the model answers at once");
                outcome.map(drop).map_err(|e| (Reason::from_name(e.reason()), e.to_string()))
            }
            Step::Restart { pod, uid, .. } => {
                if self.pods.get(pod).is_some_and(|p| p.uid == *uid) {
                    self.delete_pod(pod);
                }
                Ok(())
            }
            Step::GiveUp { pod, claim, .. } if part == 0 => {
                if let Some((_, uid)) = claim {
                    self.delete_claim(pod, uid);
                }
                Ok(())
            }
            Step::GiveUp { pod, uid, .. } => {
                if self.pods.get(pod).is_some_and(|p| p.uid == *uid) {
                    self.pods.remove(pod);
                }
                Ok(())
            }
        }
    }
}

impl Pod {
    /// What the operator sees of it.
    pub fn fact(&self) -> PodFact {
        let in_set = self.owner.0 == ChildKind::StatefulSet;
        PodFact {
            name: self.name.clone(),
            uid: self.uid.clone(),
            component: self.component,
            set: if in_set { self.owner.1.clone() } else { String::new() },
            revision: if in_set { self.revision.clone() } else { String::new() },
            ready: self.ready,
            terminating: self.terminating,
            config_maps: self.config_maps.clone(),
            version: self.version.clone(),
            image: self.image.clone(),
            created: Some(super::operator::at(self.created).0.as_second()),
            since: Some(super::operator::at(self.since).0.as_second()),
            restarts: 0,
            trouble: None,
            ip: None,
            node: self.node.clone(),
            zone: None,
            log_end: self.log_end,
            role: self.labels.get(labels::ROLE).cloned(),
            gone_since: self.gone_since.map(|t| super::operator::at(t).0.as_second()),
        }
    }
}

/// What an operator learns that reaches nobody.
fn nobody_answers(cluster: &Cluster) -> EngineFacts {
    fn silent<T>(address: &str) -> Fact<T> {
        let (address, problem) = (address.to_owned(), "no route to host".to_owned());
        Fact::Unknown { unknown: EngineError::EngineUnreachable { address, problem } }
    }
    let addresses = observe::addresses(cluster);
    let of = |addresses: &[String]| addresses.to_vec();
    let broker =
        |a: &str| BrokerFacts { disk_ratio: silent(a), replication: silent(a), epochs: silent(a), config: silent(a) };
    let unled =
        || Fact::Unknown { unknown: EngineError::NoControllerLeader { cluster: addresses.cluster.to_string() } };
    EngineFacts {
        name_servers: of(&addresses.name_servers).into_iter().map(|a| (a.clone(), silent(&a))).collect(),
        controllers: of(&addresses.controllers).into_iter().map(|a| (a.clone(), silent(&a))).collect(),
        groups: addresses.groups.keys().map(|g| (g.clone(), unled())).collect(),
        brokers: addresses.groups.values().flatten().map(|a| (a.clone(), broker(a))).collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn template_labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(k, v)| (k.clone(), text(v))).collect()
}

/// Does the selector of a budget mean a pod with these labels?
fn selects(budget: &Value, labels: &BTreeMap<String, String>) -> bool {
    let selector = &budget["selector"];
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    wanted.into_iter().all(|(k, v)| labels.get(k).map(String::as_str) == v.as_str())
        && expressions.all(|e| {
            let value = labels.get(e["key"].as_str().unwrap_or_default());
            let among = value.is_some_and(|v| e["values"].as_array().is_some_and(|all| all.contains(&json!(v))));
            (e["operator"] == "In") == among
        })
}
