//! The engine client against running processes of the real engine: one name server, three controllers, one group of two brokers.
//!
//! It runs in a network namespace of its own where the system allows one, else on free ports of the loopback. It needs `java` and `mvn`;
//! `GANTRY_SKIP_REAL_ENGINE=1` skips it, and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod access;
mod controllers;
mod processes;
mod tls;
mod topics;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use gantry::engine::{
    ClusterAddresses, ClusterId, ConfigTarget, Engine, EngineFacts, EngineWrite, GroupFacts, Limits, RemotingEngine,
    ReplicaFacts, WriteOutcome,
};
use gantry_remoting::ResponseCode;
use gantry_remoting::topic::{TopicChange, TopicConfig};

use processes::Machine;

const GROUP: &str = "shop-broker-0";
const INSIDE: &str = "GANTRY_IN_NETWORK_NAMESPACE";

#[test]
fn the_client_speaks_to_a_real_engine() {
    if std::env::var_os("GANTRY_SKIP_REAL_ENGINE").is_some() {
        println!("SKIPPED: GANTRY_SKIP_REAL_ENGINE is set, so nothing was tried against a real engine");
        return;
    }
    let jars = processes::jars();
    if std::env::var_os(INSIDE).is_none() && enter_a_namespace() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Test::new(Machine::new(jars)).run());
}

/// Runs this test again in a network namespace with nothing but a loopback. False where the system allows none.
fn enter_a_namespace() -> bool {
    let allowed = Command::new("unshare").args(["--net", "--map-root-user", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("no network namespace here: the engine listens on free ports of the loopback");
        return false;
    }
    let status = Command::new("unshare")
        .args([
            "--net",
            "--map-root-user",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" --exact --nocapture the_client_speaks_to_a_real_engine",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see the output above");
    true
}

struct Test {
    machine: Machine,
    engine: RemotingEngine,
    addresses: ClusterAddresses,
    ports: Ports,
    began: Instant,
}

/// What is tried here is right also on a machine that is busy with other things.
fn patient() -> Limits {
    let [connect, call] = [Duration::from_secs(15); 2];
    let [write, observe, execute] = [20, 30, 180].map(Duration::from_secs);
    Limits { connect, call, write, observe, execute, ..Limits::default() }
}

struct Ports {
    name_server: u16,
    controllers: [u16; 3],
    brokers: [u16; 2],
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Test {
    fn new(machine: Machine) -> Self {
        let port = |_| Machine::port();
        let ports = Ports { name_server: Machine::port(), controllers: [0; 3].map(port), brokers: [0; 2].map(port) };
        let addresses = ClusterAddresses {
            cluster: ClusterId::new("ns", "shop"),
            name_servers: vec![at(ports.name_server)],
            controllers: ports.controllers.map(at).to_vec(),
            groups: BTreeMap::from([(GROUP.to_owned(), ports.brokers.map(at).to_vec())]),
        };
        Test { machine, engine: RemotingEngine::new(patient()), addresses, ports, began: Instant::now() }
    }

    async fn run(mut self) {
        self.nobody_is_there_yet().await;
        self.the_cluster_comes_up().await;
        self.every_fact_is_known().await;
        self.topics_are_created_and_refusals_attributed().await;
        self.a_list_with_an_equal_topic_is_still_carried_out().await;
        self.attributes_are_set_and_taken_away().await;
        self.a_replica_that_lost_a_topic_copies_it_and_a_master_stays_as_it_is_when_written_once_more().await;
        self.groups_are_created_and_refusals_attributed().await;
        self.an_import_changes_nothing().await;
        self.ten_thousand_topics_take_a_few_calls().await;
        self.users_and_acls_are_copied_by_us_because_replicas_do_not().await;
        self.configuration_is_read_back().await;
        self.write_permission_is_taken_and_given_back().await;
        self.a_replica_takes_no_topics().await;
        self.a_hung_process_costs_its_own_time_out_only().await;
        self.mastership_moves_to_a_replica_in_sync().await;
        self.a_replica_that_lost_its_disk_gets_a_new_id_and_the_old_one_is_cleaned().await;
        self.a_controller_that_lost_its_disk_gets_everything_back().await;
        self.a_controller_that_stopped_for_good_is_seen_and_comes_back_when_it_is_restarted().await;
        self.a_process_that_speaks_tls_is_spoken_to_and_plain_connections_are_not_answered().await;
        self.a_broker_that_asks_for_signatures_takes_ours_and_no_others().await;
        self.step("done");
    }

    fn step(&self, what: &str) {
        println!("{:6.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    async fn observe(&self) -> EngineFacts {
        self.engine.observe(&self.addresses).await
    }

    /// Observes until `what` holds.
    async fn until(&self, what: &str, holds: impl Fn(&EngineFacts) -> bool) -> (EngineFacts, Duration) {
        let began = Instant::now();
        loop {
            let facts = self.observe().await;
            if holds(&facts) {
                if !what.is_empty() {
                    self.step(what);
                }
                return (facts, began.elapsed());
            }
            assert!(began.elapsed() < Duration::from_secs(300), "not so after 5 minutes: {what}\n{facts:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn execute(&self, write: EngineWrite) -> WriteOutcome {
        self.engine.execute(&self.addresses.cluster, &write).await.unwrap_or_else(|error| panic!("{error}\n{write:?}"))
    }

    /// The address of the master, and that of the replica.
    async fn roles(&self) -> (String, String) {
        let (facts, _) = self.until("", |facts| facts.master(GROUP).is_some()).await;
        let master = facts.master(GROUP).unwrap().to_owned();
        let replica = self.addresses.groups[GROUP].iter().find(|address| **address != master).unwrap().clone();
        (master, replica)
    }

    async fn nobody_is_there_yet(&self) {
        let began = Instant::now();
        let facts = self.observe().await;
        assert!(began.elapsed() < Duration::from_secs(5), "refused connections cost nothing: {:?}", began.elapsed());
        let reasons = facts.name_servers.values().map(|fact| fact.unknown().unwrap().reason());
        let reasons = reasons.chain(facts.controllers.values().map(|fact| fact.unknown().unwrap().reason()));
        assert!(
            reasons
                .chain(facts.brokers.values().map(|broker| broker.replication.unknown().unwrap().reason()))
                .all(|reason| reason == "EngineUnreachable")
        );
        assert_eq!(facts.groups[GROUP].unknown().unwrap().reason(), "NoControllerLeader");
    }

    async fn the_cluster_comes_up(&mut self) {
        self.machine.name_server("name-server", self.ports.name_server);
        for id in 0..3 {
            self.machine.controller(&format!("controller-{id}"), id, &self.ports.controllers);
        }
        for (at, port) in self.ports.brokers.into_iter().enumerate() {
            self.machine.broker(&format!("broker-{at}"), port, self.ports.name_server, &self.ports.controllers);
        }
        self.until("both brokers are in sync and registered", |facts| {
            in_sync(facts) == 2 && registered(facts).len() == 2
        })
        .await;
    }

    async fn every_fact_is_known(&self) {
        let began = Instant::now();
        self.observe().await;
        self.step(&format!("one observation took {:?}", began.elapsed()));
        let all_known = |facts: &EngineFacts| {
            let brokers = facts.brokers.values();
            facts.master(GROUP).is_some()
                && brokers.clone().all(|one| {
                    one.disk_ratio.known().is_some()
                        && one.replication.known().is_some()
                        && one.epochs.known().is_some()
                })
                && facts.controllers.values().all(|one| one.known().is_some_and(|one| one.leader.is_some()))
        };
        let (facts, _) = self.until("every fact is known", all_known).await;
        let master = facts.master(GROUP).unwrap();
        for (address, broker) in &facts.brokers {
            assert!(broker.disk_ratio.known().unwrap().is_some_and(|ratio| (0.0..1.0).contains(&ratio)));
            let replication = broker.replication.known().unwrap();
            assert_eq!(replication.master, address == master);
            assert_eq!(replication.follows.is_some(), address != master);
            assert_eq!(broker.epochs.known().unwrap().last().unwrap().epoch, group(&facts).master_epoch);
            assert!(facts.behind_bytes(GROUP, address).is_some());
        }
        assert_eq!(facts.controllers.values().filter(|controller| controller.known().unwrap().is_leader).count(), 1);
    }

    async fn configuration_is_read_back(&self) {
        let (master, _) = self.roles().await;
        let target = ConfigTarget::Broker(master);
        let properties = BTreeMap::from([("fileReservedTime", "47"), ("noSuchKey", "1")]);
        let properties = properties.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let outcome = self.execute(EngineWrite::UpdateConfig { target: target.clone(), properties }).await;
        assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["noSuchKey"], "the engine itself says success");
        let config = self.engine.config(&self.addresses.cluster, &target).await.unwrap();
        assert_eq!(config["fileReservedTime"], "47");
        for target in [
            ConfigTarget::NameServer(at(self.ports.name_server)),
            ConfigTarget::Controller(at(self.ports.controllers[0])),
        ] {
            assert!(self.engine.config(&self.addresses.cluster, &target).await.unwrap().len() > 10);
        }
    }

    async fn write_permission_is_taken_and_given_back(&self) {
        for writable in [false, true] {
            let name_servers = self.addresses.name_servers.clone();
            let outcome =
                self.execute(EngineWrite::SetWritePermission { name_servers, group: GROUP.to_owned(), writable }).await;
            assert!(outcome.is_complete(), "{outcome:?}");
        }
    }

    async fn a_replica_takes_no_topics(&self) {
        let (_, replica) = self.roles().await;
        let changes = vec![TopicChange::create(TopicConfig::new("astray", 1))];
        let write = EngineWrite::UpsertTopics { broker: replica, changes };
        let error = self.engine.execute(&self.addresses.cluster, &write).await.unwrap_err();
        assert_eq!(
            error.reason(),
            "NotMaster",
            "the engine itself says success, and forgets the topic a few seconds later"
        );
    }

    async fn a_hung_process_costs_its_own_time_out_only(&self) {
        let engine = RemotingEngine::new(Limits::default());
        let name_server = at(self.ports.name_server);
        self.machine.signal("name-server", "STOP");
        // More than once only where the machine is so busy that the others take too long as well.
        let others_known = loop {
            let began = Instant::now();
            let facts = engine.observe(&self.addresses).await;
            let took = began.elapsed();
            assert_eq!(facts.name_servers[&name_server].unknown().unwrap().reason(), "EngineTimedOut");
            let known =
                facts.brokers.values().all(|broker| broker.replication.known().is_some()) && in_sync(&facts) == 2;
            if known || self.began.elapsed() > Duration::from_secs(600) {
                self.step(&format!("with a name server that hangs, an observation took {took:?}"));
                break known;
            }
        };
        self.machine.signal("name-server", "CONT");
        assert!(others_known);
        self.until("the name server is back", |facts| registered(facts).len() == 2).await;
    }

    async fn mastership_moves_to_a_replica_in_sync(&self) {
        let (before, _) = self.until("both are in sync", |facts| in_sync(facts) == 2).await;
        let old = group(&before).master_id.unwrap();
        let new = group(&before).in_sync.iter().map(|replica| replica.id).find(|id| *id != old).unwrap();
        let elect = |id| EngineWrite::ElectMaster {
            controllers: self.addresses.controllers.clone(),
            group: GROUP.to_owned(),
            id,
        };
        let began = Instant::now();
        let elected = self.execute(elect(new)).await.elected.unwrap();
        assert_eq!((elected.broker_id, elected.changed), (Some(new), true));
        let moved = |facts: &EngineFacts| {
            let master = registered(facts).iter().find(|(id, _)| *id == 0).map(|(_, address)| address.clone());
            master.is_some() && master == elected.address
        };
        self.until("the name server knows the new master", moved).await;
        self.step(&format!("which was {:?} after the election was asked for", began.elapsed()));
        assert!(!self.execute(elect(new)).await.elected.unwrap().changed);
        let facts = self.observe().await;
        if in_sync(&facts) == 1 {
            let error = self.engine.execute(&self.addresses.cluster, &elect(old)).await.unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::ControllerElectMasterFailed), "{error}");
        }
        self.until("the old master is back in sync", |facts| in_sync(facts) == 2).await;
    }

    async fn a_replica_that_lost_its_disk_gets_a_new_id_and_the_old_one_is_cleaned(&mut self) {
        let (master, replica) = self.roles().await;
        let (facts, _) = self.until("both are in sync", |facts| in_sync(facts) == 2).await;
        let stale = group(&facts).in_sync.iter().find(|one| one.address == replica).unwrap().id;
        let at = self.addresses.groups[GROUP].iter().position(|address| *address == replica).unwrap();
        let name = format!("broker-{at}");
        let clean = EngineWrite::CleanReplicas {
            controllers: self.addresses.controllers.clone(),
            group: GROUP.to_owned(),
            ids: [stale].into(),
        };
        let alive = self.engine.execute(&self.addresses.cluster, &clean).await.unwrap_err();
        assert_eq!(alive.refusal(), Some(ResponseCode::ControllerInvalidCleanBrokerMetadata));
        self.machine.kill(&name);
        self.machine.lose_disk(&name);
        let port = self.ports.brokers[at];
        self.until("the controllers miss the replica", |facts| {
            replicas(facts).iter().any(|one| one.id == stale && !one.alive)
        })
        .await;
        assert!(self.execute(clean).await.is_complete());
        self.machine.broker(&name, port, self.ports.name_server, &self.ports.controllers);
        let (facts, _) = self
            .until("it is back under a new id", |facts| replicas(facts).iter().any(|one| one.id > stale.max(2)))
            .await;
        let ids: Vec<u64> = replicas(&facts).iter().map(|one| one.id).collect();
        assert!(!ids.contains(&stale), "{ids:?}");
        assert_eq!(facts.master(GROUP), Some(master.as_str()));
    }
}

fn group(facts: &EngineFacts) -> &GroupFacts {
    facts.groups[GROUP].known().unwrap().as_ref().unwrap()
}

/// Every replica that the controllers know.
fn replicas(facts: &EngineFacts) -> Vec<&ReplicaFacts> {
    let group = facts.groups[GROUP].known().and_then(Option::as_ref);
    group.map(|group| group.in_sync.iter().chain(&group.not_in_sync).collect()).unwrap_or_default()
}

fn in_sync(facts: &EngineFacts) -> usize {
    let group = facts.groups[GROUP].known().and_then(Option::as_ref);
    group.map_or(0, |group| group.in_sync.len())
}

/// Ids and addresses that the name server has.
fn registered(facts: &EngineFacts) -> Vec<(u64, String)> {
    let lists = facts.name_servers.values().filter_map(|fact| fact.known());
    lists.flatten().map(|broker| (broker.id, broker.address.clone())).collect()
}
