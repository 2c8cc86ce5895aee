use std::collections::BTreeMap;

use super::*;
use crate::broker_cluster::view::{GroupView, Identity, RouteView};

const GROUP: &str = "shop-broker-0";

fn cluster(replicas: i32) -> Cluster {
    let object = serde_json::json!({
        "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster",
        "metadata": {"name": "shop", "namespace": "ns", "uid": "u"},
        "spec": {"brokers": {"replicas": replicas}, "controllers": {"replicas": 3}, "nameServers": {"replicas": 2}},
    });
    let object = serde_json::from_value(object).unwrap();
    crate::broker_cluster::parse::parse(&object, &crate::config::Settings::default()).unwrap()
}

fn pod(component: Component, set: &str, ordinal: i32) -> PodFact {
    let fact = serde_json::json!({
        "name": format!("{set}-{ordinal}"), "uid": format!("uid-{set}-{ordinal}"), "component": component, "set": set, "ready": true,
    });
    serde_json::from_value(fact).unwrap()
}

/// Two name servers, three controllers, a group of so many replicas, all well; replica 0 is the master, and every log ends at 600.
fn all_is_well(replicas: i32) -> Observed {
    let brokers: Vec<PodFact> = (0..replicas).map(|i| pod(Component::Broker, GROUP, i)).collect();
    let names = || brokers.iter().map(|p| p.name.clone());
    let identity = |(id, pod)| Identity { id, pod, alive: true, in_sync: true };
    let sync = SyncState {
        master: names().next(),
        epoch: 1,
        in_sync: names().collect(),
        ids: names().zip(1..).collect(),
        answering: names().collect(),
        ends: names().map(|name| (name, 600)).collect(),
        identities: (1..).zip(names()).map(identity).collect(),
        ..SyncState::default()
    };
    let masters = || Ok(BTreeMap::from([(GROUP.to_owned(), sync.master.clone())]));
    let mut observed = Observed::default();
    for i in 0..2 {
        observed.engine.routes.insert(format!("shop-nameserver-{i}"), RouteView { masters: masters() });
    }
    observed.engine.groups.insert(GROUP.into(), GroupView { sync: Ok(sync.clone()), left: None, lacks: None });
    observed.pods = (0..2).map(|i| pod(Component::NameServer, "shop-nameserver", i)).collect();
    observed.pods.extend((0..3).map(|i| pod(Component::Controller, "shop-controller", i)));
    observed.pods.extend(brokers);
    observed
}

fn sync(observed: &mut Observed) -> &mut SyncState {
    observed.engine.groups.get_mut(GROUP).unwrap().sync.as_mut().unwrap()
}

fn of<'a>(observed: &'a mut Observed, name: &str) -> &'a mut PodFact {
    observed.pods.iter_mut().find(|p| p.name == name).unwrap()
}

fn unready(name: &'static str) -> impl Fn(&mut Observed) {
    move |o| of(o, name).ready = false
}

/// It is not in sync; the controllers hear of it or not.
fn behind(name: &'static str, alive: bool) -> impl Fn(&mut Observed) {
    move |o| {
        let sync = sync(o);
        sync.in_sync.remove(name);
        let identity = sync.identities.iter_mut().find(|i| i.pod == name).unwrap();
        (identity.in_sync, identity.alive) = (false, alive);
        if !alive {
            sync.answering.remove(name);
        }
    }
}

fn not_known() -> Unknown {
    Unknown { reason: "EngineUnreachable".into(), message: "nobody answers".into() }
}

type Facts = Vec<Box<dyn Fn(&mut Observed)>>;

macro_rules! facts {
    ($($fact:expr),* $(,)?) => {{ let all: Facts = vec![$(Box::new($fact)),*]; all }};
}

fn judged(replicas: i32, name: &str, facts: &Facts) -> String {
    let mut observed = all_is_well(replicas);
    facts.iter().for_each(|fact| fact(&mut observed));
    let pod = observed.pods.iter().find(|p| p.name == name).unwrap();
    match may_restart(&cluster(replicas), &observed, pod) {
        Ok(Consent::Stop) => "stop".into(),
        Ok(Consent::MoveMasterFirst { to, id, end }) => format!("{to} ({id}) becomes master, the log ends at {end}"),
        Err(hold) => format!("{}: {}", hold.reason().as_str(), hold.why()),
    }
}

fn check(replicas: i32, rows: Vec<(&str, Facts, &str)>) {
    for (i, (name, facts, expected)) in rows.iter().enumerate() {
        assert_eq!(judged(replicas, name, facts), *expected, "row {i}, {name}");
    }
}

const COPIES: &str = "CatchingUp: it copies what it lacks, and a former master that is stopped meanwhile may keep messages that nobody else has";

#[test]
fn name_servers_and_controllers_go_one_at_a_time_and_a_majority_of_controllers_stays() {
    let (ns, c) = ("shop-nameserver-0", "shop-controller-0");
    check(
        3,
        vec![
            (ns, facts![], "stop"),
            (ns, facts![unready("shop-nameserver-1")], "OtherReplicaDown: shop-nameserver-1 is not ready"),
            (
                ns,
                facts![|o| of(o, "shop-nameserver-1").terminating = true],
                "OtherReplicaDown: shop-nameserver-1 is not ready",
            ),
            (
                ns,
                facts![|o| o.pods.retain(|p| p.name != "shop-nameserver-1")],
                "OtherReplicaDown: shop-nameserver-1 is not ready",
            ),
            (ns, facts![unready("shop-nameserver-0"), unready("shop-nameserver-1")], "stop"),
            (ns, facts![unready("shop-controller-1"), unready("shop-broker-0-1")], "stop"),
            (c, facts![], "stop"),
            (c, facts![unready("shop-controller-2")], "OtherReplicaDown: shop-controller-2 is not ready"),
            (c, facts![unready("shop-controller-0"), unready("shop-controller-2")], "stop"),
        ],
    );
}

#[test]
fn a_slave_goes_where_all_others_are_in_sync_and_every_name_server_lists_the_master() {
    let slave = "shop-broker-0-1";
    check(
        3,
        vec![
            (slave, facts![], "stop"),
            (slave, facts![unready("shop-broker-0-2")], "OtherReplicaDown: shop-broker-0-2 is not ready"),
            (
                slave,
                facts![behind("shop-broker-0-2", true)],
                "NotEnoughInSync: only [\"shop-broker-0-0\"] of shop-broker-0 would stay in sync, and 2 must",
            ),
            (slave, facts![|o| sync(o).master = None], "NoMaster: shop-broker-0 has no master"),
            (
                slave,
                facts![|o| o.engine.groups.get_mut(GROUP).unwrap().sync = Err(not_known())],
                "FactsUnknown: nobody answers",
            ),
            (slave, facts![|o| o.engine.groups.clear()], "FactsUnknown: the engine was not asked, no pod of it runs"),
            (
                slave,
                facts![|o| o.engine.routes.get_mut("shop-nameserver-1").unwrap().masters = Err(not_known())],
                "FactsUnknown: nobody answers",
            ),
            (
                slave,
                facts![|o| o.engine.routes.get_mut("shop-nameserver-1").unwrap().masters = Ok(BTreeMap::new())],
                "HandingOver: name server shop-nameserver-1 does not list shop-broker-0-0 as master of shop-broker-0",
            ),
            // Not in sync and not ready: it serves nothing, but it may be a former master.
            (slave, facts![unready(slave), behind(slave, true)], COPIES),
            (slave, facts![unready(slave), behind(slave, false)], "stop"),
            (
                slave,
                facts![unready(slave), behind(slave, true), |o| of(o, "shop-broker-0-1").trouble =
                    Some("CrashLoopBackOff".into())],
                "stop",
            ),
            // In sync, with bytes on its disk that were cut off its log.
            (slave, facts![|o| of(o, "shop-broker-0-1").log_end = Some(601)], COPIES),
            (slave, facts![|o| of(o, "shop-broker-0-1").log_end = Some(600)], "stop"),
            (
                slave,
                facts![|o| of(o, "shop-broker-0-1").log_end = Some(600), |o| sync(o)
                    .ends
                    .retain(|p, _| p != "shop-broker-0-0")],
                COPIES,
            ),
        ],
    );
}

#[test]
fn a_master_hands_over_to_a_replica_in_sync_that_answers() {
    let master = "shop-broker-0-0";
    let first = "shop-broker-0-1 (2) becomes master, the log ends at 600";
    let second = "shop-broker-0-2 (3) becomes master, the log ends at 600";
    check(
        3,
        vec![
            (master, facts![], first),
            (master, facts![unready("shop-broker-0-2")], "OtherReplicaDown: shop-broker-0-2 is not ready"),
            (master, facts![|o| sync(o).answering.retain(|p| p != "shop-broker-0-1")], second),
            (master, facts![|o| sync(o).ids.retain(|p, _| p != "shop-broker-0-1")], second),
            (
                master,
                facts![|o| of(o, "shop-broker-0-1").node = Some("n".into()), |o| o.nodes.cordoned.extend(["n".into()])],
                second,
            ),
            (
                master,
                facts![|o| sync(o).answering.retain(|p| p == "shop-broker-0-0")],
                "FactsUnknown: no in-sync replica answers",
            ),
            (
                master,
                facts![|o| sync(o).ends.retain(|p, _| p != "shop-broker-0-0")],
                "FactsUnknown: it has not said where its log ends",
            ),
            (
                master,
                facts![|o| of(o, "shop-broker-0-2").since = Some(o.now - 4)],
                "Rolling: shop-broker-0-2 has been ready for less than 5 s",
            ),
            (master, facts![|o| of(o, "shop-broker-0-2").since = Some(o.now - 5)], first),
            // What it had when it was master before is of no matter: it leads, its log is the group's.
            (master, facts![|o| of(o, "shop-broker-0-0").log_end = Some(9000)], first),
        ],
    );
}

#[test]
fn a_single_replica_goes_whatever_is_known() {
    check(
        1,
        vec![("shop-broker-0-0", facts![], "stop"), ("shop-broker-0-0", facts![|o| o.engine.groups.clear()], "stop")],
    );
}
