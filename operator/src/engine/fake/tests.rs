use std::collections::BTreeMap;

use futures::FutureExt;
use gantry_remoting::group::{GroupChange, GroupConfig};
use gantry_remoting::topic::{TopicChange, TopicConfig};
use proptest::prelude::*;

use super::super::{ClusterAddresses, ClusterId, Engine, EngineError, EngineFacts, EngineWrite, WriteOutcome};
use super::FakeEngine;
use super::world::{EXPAND, HANG_MISSED, START, STOP, STOP_MISSED, World};

const BROKERS: [&str; 3] = ["shop-broker-0-0:10911", "shop-broker-0-1:10911", "shop-broker-0-2:10911"];
const CONTROLLERS: [&str; 3] = ["shop-controller-0:9878", "shop-controller-1:9878", "shop-controller-2:9878"];
const NAME_SERVER: &str = "shop-nameserver-0:9876";
const GROUP: &str = "shop-broker-0";

fn addresses() -> ClusterAddresses {
    ClusterAddresses {
        cluster: ClusterId::new("ns", "shop"),
        name_servers: vec![NAME_SERVER.to_owned()],
        controllers: CONTROLLERS.map(str::to_owned).to_vec(),
        groups: BTreeMap::from([(GROUP.to_owned(), BROKERS.map(str::to_owned).to_vec())]),
    }
}

/// A cluster of one group that is up and in sync.
fn running() -> FakeEngine {
    let mut world = World::new(2);
    world.add_name_server(NAME_SERVER);
    CONTROLLERS.iter().for_each(|address| world.add_controller(address));
    BROKERS.iter().for_each(|address| world.add_broker(GROUP, address));
    for address in CONTROLLERS.iter().chain([&NAME_SERVER]).chain(&BROKERS) {
        world.start(address);
    }
    world.traffic = true;
    world.ticks(START + EXPAND + 2);
    FakeEngine::new(world)
}

fn observe(engine: &FakeEngine) -> EngineFacts {
    engine.observe(&addresses()).now_or_never().unwrap()
}

fn execute(engine: &FakeEngine, write: &EngineWrite) -> Result<WriteOutcome, EngineError> {
    engine.execute(&ClusterId::new("ns", "shop"), write).now_or_never().unwrap()
}

fn elect(id: u64) -> EngineWrite {
    EngineWrite::ElectMaster { controllers: CONTROLLERS.map(str::to_owned).to_vec(), group: GROUP.to_owned(), id }
}

fn in_sync(engine: &FakeEngine) -> Vec<u64> {
    engine.world(|world| world.groups[GROUP].in_sync.iter().copied().collect())
}

fn master(engine: &FakeEngine) -> Option<String> {
    engine.world(|world| world.serving_master(GROUP).map(str::to_owned))
}

/// Ticks until `what` holds.
fn until(engine: &FakeEngine, what: impl Fn(&World) -> bool) -> u64 {
    for tick in 0..200 {
        if engine.world(|world| what(world)) {
            return tick;
        }
        engine.world(World::tick);
    }
    panic!("it never came about: {:#?}", engine.world(|world| world.groups.clone()));
}

#[test]
fn a_cluster_comes_up_with_everybody_in_sync_and_registered() {
    let facts = observe(&running());
    let group = facts.groups[GROUP].known().unwrap().as_ref().unwrap();
    assert_eq!((group.master_id, group.in_sync.len(), group.not_in_sync.len()), (Some(1), 3, 0));
    let registered = facts.name_servers[NAME_SERVER].known().unwrap();
    assert_eq!(registered.iter().map(|broker| broker.id).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(facts.controllers.values().filter(|controller| controller.known().unwrap().is_leader).count(), 1);
    assert_eq!(facts.behind_bytes(GROUP, BROKERS[1]), Some(0));
}

#[test]
fn before_the_controllers_have_a_leader_groups_are_unknown_not_empty() {
    let mut world = World::new(1);
    CONTROLLERS.iter().for_each(|address| world.add_controller(address));
    world.start(CONTROLLERS[0]);
    world.ticks(START);
    let facts = observe(&FakeEngine::new(world));
    assert_eq!(facts.groups[GROUP].unknown().unwrap().reason(), "NoControllerLeader");
    assert_eq!(facts.controllers[CONTROLLERS[0]].known().unwrap().leader, None);
    assert_eq!(facts.controllers[CONTROLLERS[1]].unknown().unwrap().reason(), "EngineUnreachable");
    assert_eq!(facts.brokers[BROKERS[0]].replication.unknown().unwrap().reason(), "EngineUnreachable");
}

#[test]
fn a_killed_master_is_replaced_sooner_than_one_that_ends_in_good_order_or_hangs() {
    for (end, ticks) in
        [(World::kill as fn(&mut World, &str), 1), (World::stop, STOP_MISSED), (World::hang, HANG_MISSED)]
    {
        let engine = running();
        engine.world(|world| end(world, BROKERS[0]));
        assert_eq!(until(&engine, |world| world.groups[GROUP].master == Some(2)), ticks);
        assert_eq!(in_sync(&engine), [2], "an election leaves the new master alone in the set");
    }
}

#[test]
fn a_broker_that_ends_in_good_order_leaves_the_name_servers_at_once_and_is_gone_later() {
    let engine = running();
    engine.world(|world| world.stop(BROKERS[1]));
    let facts = observe(&engine);
    assert!(!facts.name_servers[NAME_SERVER].known().unwrap().iter().any(|broker| broker.address == BROKERS[1]));
    assert_eq!(until(&engine, |world| !world.is_running(BROKERS[1])), STOP);
}

#[test]
fn mastership_moves_only_to_who_is_alive_and_in_sync() {
    let engine = running();
    let outcome = execute(&engine, &elect(3)).unwrap();
    assert!(outcome.elected.unwrap().changed);
    assert_eq!(master(&engine).as_deref(), Some(BROKERS[2]));
    let refused = execute(&engine, &elect(1)).unwrap_err();
    assert_eq!(refused.refusal(), Some(gantry_remoting::ResponseCode::ControllerElectMasterFailed), "{refused}");
    assert!(!execute(&engine, &elect(3)).unwrap().elected.unwrap().changed, "who is master stays it");
    until(&engine, |world| world.groups[GROUP].in_sync.len() == 3);
    execute(&engine, &elect(1)).unwrap();
}

#[test]
fn a_broker_that_lost_its_disk_comes_back_under_a_new_id_and_the_old_one_stays_until_cleaned() {
    let engine = running();
    engine.world(|world| {
        world.lose_disk(BROKERS[1]);
        world.start(BROKERS[1]);
    });
    until(&engine, |world| world.groups[GROUP].in_sync.contains(&4));
    let facts = observe(&engine);
    let group = facts.groups[GROUP].known().unwrap().clone().unwrap();
    assert_eq!(group.not_in_sync.iter().map(|replica| (replica.id, replica.alive)).collect::<Vec<_>>(), [(2, false)]);
    let clean = |id| EngineWrite::CleanReplicas {
        controllers: CONTROLLERS.map(str::to_owned).to_vec(),
        group: GROUP.to_owned(),
        ids: [id].into(),
    };
    assert!(execute(&engine, &clean(4)).is_err(), "it lives");
    execute(&engine, &clean(2)).unwrap();
    assert_eq!(in_sync(&engine), [1, 3, 4]);
}

#[test]
fn a_lost_master_that_was_alone_in_sync_leaves_no_master_until_an_unclean_election() {
    let engine = running();
    engine.world(|world| {
        world.kill(BROKERS[1]);
        world.kill(BROKERS[2]);
    });
    until(&engine, |world| world.groups[GROUP].in_sync.len() == 1);
    engine.world(|world| {
        world.lose_disk(BROKERS[0]);
        world.start(BROKERS[1]);
        world.ticks(30);
    });
    assert_eq!(master(&engine), None);
    assert!(
        observe(&engine).name_servers[NAME_SERVER].known().unwrap().is_empty(),
        "without a master nobody is registered"
    );
    assert!(execute(&engine, &elect(2)).is_err());
    engine.world(|world| world.unclean_election = true);
    execute(&engine, &elect(2)).unwrap();
    assert_eq!(master(&engine).as_deref(), Some(BROKERS[1]));
}

#[test]
fn without_enough_in_sync_nothing_is_acknowledged() {
    let engine = running();
    engine.world(|world| {
        world.kill(BROKERS[1]);
        world.kill(BROKERS[2]);
        world.ticks(40);
    });
    let before = engine.world(|world| world.groups[GROUP].acknowledged);
    engine.world(|world| world.ticks(10));
    assert_eq!(engine.world(|world| world.groups[GROUP].acknowledged), before);
    assert!(!engine.world(|world| world.is_writable(GROUP)));
}

#[test]
fn without_a_majority_of_controllers_no_master_is_replaced() {
    let engine = running();
    engine.world(|world| {
        world.kill(CONTROLLERS[0]);
        world.kill(CONTROLLERS[1]);
        world.kill(BROKERS[0]);
        world.ticks(60);
    });
    assert_eq!(master(&engine), None);
    assert_eq!(execute(&engine, &elect(2)).unwrap_err().reason(), "NoControllerLeader");
    engine.world(|world| world.start(CONTROLLERS[0]));
    until(&engine, |world| world.serving_master(GROUP) == Some(BROKERS[1]));
}

#[test]
fn topics_and_groups_reach_all_replicas_through_the_master_only() {
    let engine = running();
    let topics = |broker: &str, name: &str, kind: &str| EngineWrite::UpsertTopics {
        broker: broker.to_owned(),
        changes: vec![
            TopicChange::create(TopicConfig::new(name, 8).with_attribute("message.type", kind)),
            TopicChange::create(TopicConfig::new("other", 8)),
        ],
    };
    assert_eq!(execute(&engine, &topics(BROKERS[1], "orders", "FIFO")).unwrap_err().reason(), "NotMaster");
    assert!(execute(&engine, &topics(BROKERS[0], "orders", "FIFO")).unwrap().is_complete());
    let refused = execute(&engine, &topics(BROKERS[0], "no good", "FIFO")).unwrap().failed;
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["no good"]);
    let refused = execute(&engine, &topics(BROKERS[0], "wrong", "WRONG")).unwrap().failed;
    assert_eq!(refused["wrong"].reason(), "EngineRefused");
    let groups = EngineWrite::UpsertGroups {
        broker: BROKERS[0].to_owned(),
        changes: vec![GroupChange::create(GroupConfig::new("billing"))],
    };
    execute(&engine, &groups).unwrap();
    engine.world(World::tick);
    let cluster = ClusterId::new("ns", "shop");
    for broker in BROKERS {
        let metadata = engine.metadata(&cluster, broker).now_or_never().unwrap().unwrap();
        assert_eq!(metadata.topics.keys().collect::<Vec<_>>(), ["orders", "other"]);
        assert_eq!(metadata.groups.keys().collect::<Vec<_>>(), ["billing"]);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Kill(usize),
    Stop(usize),
    Hang(usize),
    CutOff(usize),
    Mend,
    Elect(u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3usize).prop_map(Event::Kill),
        (0..3usize).prop_map(Event::Stop),
        (0..3usize).prop_map(Event::Hang),
        (0..3usize).prop_map(Event::CutOff),
        Just(Event::Mend),
        (1..4u64).prop_map(Event::Elect),
        (1..30u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the simulation of the operator leans on: the world itself loses nothing as long as disks stay.
    #[test]
    fn no_order_of_events_loses_what_was_acknowledged_while_disks_stay(events in prop::collection::vec(event(), 1..30)) {
        let engine = running();
        for event in events {
            if let Event::Elect(id) = &event {
                let _ = execute(&engine, &elect(*id));
            }
            engine.world(|world| {
                match event {
                    Event::Kill(at) => world.kill(BROKERS[at]),
                    Event::Stop(at) => world.stop(BROKERS[at]),
                    Event::Hang(at) => world.hang(BROKERS[at]),
                    Event::CutOff(at) => world.cut_off(BROKERS[at]),
                    Event::Mend => BROKERS.iter().for_each(|address| {
                        world.resume(address);
                        world.join(address);
                        world.start(address);
                    }),
                    Event::Elect(_) => {}
                    Event::Wait(ticks) => world.ticks(ticks),
                }
                world.tick();
            });
            prop_assert_eq!(engine.world(|world| world.groups[GROUP].lost), 0);
        }
        engine.world(|world| {
            for address in BROKERS {
                world.resume(address);
                world.join(address);
                world.ticks(STOP + 1);
                world.start(address);
            }
        });
        until(&engine, |world| world.groups[GROUP].in_sync.len() == 3);
        prop_assert!(engine.world(|world| world.is_writable(GROUP)));
    }
}
