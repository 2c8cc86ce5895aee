//! Every typed question against what a running engine 5.5.0 answered. `fixtures/README.md` tells how the answers were captured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::broker::{GetBrokerConfig, GetEpochCache, GetHaStatus, GetRuntimeInfo, UpdateBrokerConfig};
use gantry_remoting::cluster::{AddWritePermission, GetClusterInfo, GetNameServerConfig, WipeWritePermission};
use gantry_remoting::controller::{
    CleanBrokerData, ElectMaster, GetControllerConfig, GetMetadata, GetReplicaInfo, GetSyncStateData,
};
use gantry_remoting::group::{GetAllGroups, GetGroup, GroupConfig, RetryPolicyKind};
use gantry_remoting::route::GetRoute;
use gantry_remoting::stats::{GetConsumeStats, GetConsumerConnections, GetTopicStats};
use gantry_remoting::topic::{GetAllTopics, GetTopic, TopicChange, TopicConfig, UpsertTopics};
use gantry_remoting::{AnswerError, Command, Request, ResponseCode};

/// The frame as it was on the wire.
fn reply(name: &str) -> Command {
    let path = format!("{}/tests/fixtures/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (header, body) = text.split_once('\n').unwrap();
    let mut frame = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend(header.bytes());
    frame.extend(body.bytes());
    Command::decode(&frame).unwrap()
}

fn answer<R: Request>(request: R, name: &str) -> R::Answer {
    request.answer(&reply(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refusal<R: Request>(request: R, name: &str) -> ResponseCode {
    match request.answer(&reply(name)) {
        Err(AnswerError::Refused { code, remark }) => {
            assert!(!remark.contains('\n') && !remark.is_empty(), "{remark:?}");
            code
        }
        Err(other) => panic!("{name}: {other}"),
        Ok(_) => panic!("{name} was not refused"),
    }
}

fn topic(name: &str) -> GetTopic {
    GetTopic { topic: name.to_owned() }
}

#[test]
fn a_name_server_lists_brokers_by_id() {
    let info = answer(GetClusterInfo, "nameserver-cluster");
    let group = &info.brokers["broker-a"];
    assert_eq!(group.cluster, "demo");
    let addresses = BTreeMap::from([(0, "127.0.0.1:10911".to_owned()), (2, "127.0.0.1:11911".to_owned())]);
    assert_eq!(group.broker_addrs, addresses);
    assert_eq!(info.clusters, BTreeMap::from([("demo".to_owned(), BTreeSet::from(["broker-a".to_owned()]))]));
}

#[test]
fn a_route_tells_whether_somebody_takes_messages() {
    let orders = || GetRoute { topic: "orders".to_owned() };
    let mut route = answer(orders(), "nameserver-route");
    assert_eq!((route.queues[0].read_queue_nums, route.queues[0].perm), (4, 6));
    assert!(route.is_writable());
    route.brokers[0].broker_addrs.remove(&0);
    assert!(!route.is_writable(), "a group without a master takes no messages");
    assert_eq!(refusal(orders(), "nameserver-route-unknown"), ResponseCode::TopicNotExist);
}

#[test]
fn wiping_and_giving_back_the_write_permission_count_topics() {
    let broker_name = || "broker-a".to_owned();
    let wiped = answer(WipeWritePermission { broker_name: broker_name() }, "nameserver-wipe");
    assert_eq!(wiped, answer(AddWritePermission { broker_name: broker_name() }, "nameserver-add"));
    assert!(wiped > 10, "{wiped}");
}

#[test]
fn a_request_to_the_wrong_role_is_refused_as_not_supported() {
    assert_eq!(refusal(GetRuntimeInfo, "nameserver-not-supported"), ResponseCode::RequestCodeNotSupported);
}

#[test]
fn leader_and_followers_name_the_same_leader() {
    let leader = answer(GetMetadata, "leader-metadata");
    let follower = answer(GetMetadata, "follower-metadata");
    assert!(leader.is_leader && !follower.is_leader);
    assert_eq!(leader.leader_address, follower.leader_address);
    assert_eq!(leader.peers.len(), 3);
    assert_eq!(leader.leader_address.as_ref(), leader.peers.get(leader.leader_id.as_ref().unwrap()));
}

#[test]
fn the_leader_knows_all_replicas_and_a_follower_refuses() {
    let ask = || GetSyncStateData { broker_names: vec!["broker-a".to_owned(), "nope".to_owned()] };
    let groups = answer(ask(), "leader-sync-state");
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["broker-a"], "an unknown group is absent");
    let group = &groups["broker-a"];
    assert_eq!((group.master_broker_id, group.master_address.as_deref()), (Some(1), Some("127.0.0.1:10911")));
    let ids: Vec<_> = group.in_sync_replicas.iter().map(|replica| (replica.broker_id, replica.alive)).collect();
    assert_eq!(ids, [(1, Some(true)), (2, Some(true))]);
    assert!(group.not_in_sync_replicas.is_empty());
    assert_eq!(refusal(ask(), "follower-sync-state"), ResponseCode::ControllerNotLeader);
}

#[test]
fn one_groups_master_and_sync_state_set() {
    let ask = || GetReplicaInfo { broker_name: "broker-a".to_owned() };
    let info = answer(ask(), "leader-replica-info");
    assert_eq!((info.master_broker_id, info.sync_state_set), (Some(1), BTreeSet::from([1, 2])));
    assert_eq!(refusal(ask(), "leader-replica-info-unknown"), ResponseCode::ControllerBrokerMetadataNotExist);
}

#[test]
fn electing_the_master_that_is_one_changes_nothing_and_is_no_error() {
    let elect = |broker_id| ElectMaster { cluster: "demo".to_owned(), broker_name: "broker-a".to_owned(), broker_id };
    let elected = answer(elect(1), "leader-elect-same");
    assert_eq!((elected.broker_id, elected.changed), (Some(1), false));
    // The same reply to the wish for another master is not what was wished for.
    assert_eq!(refusal(elect(2), "leader-elect-same"), ResponseCode::ControllerMasterStillExist);
    assert_eq!(refusal(elect(9), "leader-elect-impossible"), ResponseCode::ControllerElectMasterFailed);
    assert_eq!(refusal(elect(1), "leader-elect-unknown-group"), ResponseCode::ControllerBrokerNeedToBeRegistered);
}

#[test]
fn a_replica_that_lives_is_not_cleaned() {
    let clean = CleanBrokerData {
        cluster: "demo".to_owned(),
        broker_name: "broker-a".to_owned(),
        broker_ids: BTreeSet::from([2]),
    };
    assert_eq!(clean.command().ext["brokerControllerIdsToClean"], "2");
    assert_eq!(refusal(clean, "leader-clean-living"), ResponseCode::ControllerInvalidCleanBrokerMetadata);
}

#[test]
fn a_master_and_a_replica_say_what_they_are() {
    let master = answer(GetRuntimeInfo, "master-runtime");
    let replica = answer(GetRuntimeInfo, "replica-runtime");
    assert_eq!((master.is_active(), replica.is_active()), (Some(true), Some(false)));
    assert_eq!(master.dispatch_behind_bytes(), Some(0));
    assert!(master.commit_log_disk_ratio().is_some_and(|ratio| (0.0..=1.0).contains(&ratio)));
}

#[test]
fn replication_is_seen_from_both_ends() {
    let master = answer(GetHaStatus, "master-ha");
    assert!(master.master);
    assert_eq!((master.in_sync_slave_nums, master.ha_connection_info.len()), (1, 1));
    assert!(master.ha_connection_info[0].in_sync);
    let replica = answer(GetHaStatus, "replica-ha");
    assert!(!replica.master);
    assert_eq!(replica.ha_client_runtime_info.master_addr.as_deref(), Some("127.0.0.1:10912"));
    assert_eq!(replica.ha_client_runtime_info.max_offset, master.master_commit_log_max_offset);
}

#[test]
fn epochs_end_with_one_that_goes_on() {
    let master = answer(GetEpochCache, "master-epochs");
    let replica = answer(GetEpochCache, "replica-epochs");
    assert_eq!((master.broker_id, replica.broker_id), (0, 2));
    assert_eq!(master.epoch_list, replica.epoch_list);
    assert_eq!(master.epoch_list.last().unwrap().end_offset, i64::MAX);
}

#[test]
fn configurations_are_read_key_by_key() {
    assert_eq!(answer(GetNameServerConfig, "nameserver-config")["listenPort"], "9876");
    assert_eq!(answer(GetControllerConfig, "leader-config")["enableElectUncleanMaster"], "false");
    let broker = answer(GetBrokerConfig, "master-config");
    assert!(broker.len() > 450, "{} keys", broker.len());
    assert_eq!(broker["controllerAddr"], "127.0.0.1:9877;127.0.0.1:9878;127.0.0.1:9879");
    let update = UpdateBrokerConfig { properties: BTreeMap::new() };
    assert_eq!(refusal(update, "master-config-black-listed"), ResponseCode::NoPermission);
}

#[test]
fn topics_are_read_with_their_attributes() {
    let topics = answer(GetAllTopics, "master-topics");
    let orders = TopicConfig::new("orders", 4).with_attribute("message.type", "FIFO");
    assert_eq!(topics["orders"], orders);
    assert!(topics.contains_key("SELF_TEST_TOPIC"), "the engine's own topics are among them");
    assert_eq!(answer(topic("orders"), "master-topic"), orders);
    assert_eq!(refusal(topic("nope"), "master-topic-unknown"), ResponseCode::TopicNotExist);
}

#[test]
fn a_list_of_topics_is_taken_or_refused_as_one() {
    let list = || UpsertTopics(vec![TopicChange::create(TopicConfig::new("invoices", 2))]);
    let created = reply("master-topics-created");
    assert_eq!(created.remark.as_deref(), Some("not set any response code"), "which means nothing");
    list().answer(&created).unwrap();
    assert_eq!(refusal(list(), "master-topics-refused"), ResponseCode::SystemError);
}

#[test]
fn a_topics_messages_are_counted() {
    let orders = || GetTopicStats { topic: "orders".to_owned() };
    let stats = answer(orders(), "master-topic-stats");
    let queues: Vec<u32> = stats.offset_table.iter().map(|(queue, _)| queue.queue_id).collect();
    assert_eq!(queues, [0, 1, 2, 3]);
    assert!(stats.messages() >= 20, "{stats:?}");
    assert_eq!(refusal(orders(), "master-topic-stats-unknown"), ResponseCode::TopicNotExist);
}

#[test]
fn groups_are_read_with_their_retry_policy() {
    let groups = answer(GetAllGroups, "master-groups");
    let billing = &groups["billing"];
    assert_eq!(billing, &answer(GetGroup { group: "billing".to_owned() }, "master-group"));
    assert!(!billing.consume_broadcast_enable);
    assert_eq!(billing.group_retry_policy.kind, RetryPolicyKind::Exponential);
    assert_eq!(billing.group_retry_policy.exponential_retry_policy.unwrap().max, 60_000);
    let plain = GroupConfig::new("SELF_TEST_C_GROUP");
    assert_eq!(groups["SELF_TEST_C_GROUP"], plain, "the defaults here are the engine's");
}

#[test]
fn a_groups_lag_is_read_although_its_keys_are_objects() {
    let billing = || GetConsumeStats { group: "billing".to_owned(), topic: None };
    let stats = answer(billing(), "master-consume-stats");
    assert!(stats.offset_table.iter().any(|(queue, _)| queue.topic == "orders"), "{stats:?}");
    assert!(stats.offset_table.iter().any(|(queue, _)| queue.topic == "%RETRY%billing"), "{stats:?}");
    assert!(stats.lag() > 0, "{stats:?}");
    assert_eq!(answer(billing(), "master-consume-stats-none").lag(), 0);
}

#[test]
fn a_group_without_clients_has_none_which_is_no_error() {
    let billing = || GetConsumerConnections { group: "billing".to_owned() };
    let online = answer(billing(), "master-consumers");
    assert_eq!(online.connection_set.len(), 1);
    assert_eq!(online.connection_set[0].language.as_deref(), Some("JAVA"));
    assert_eq!(online.consume_type.as_deref(), Some("CONSUME_PASSIVELY"));
    assert!(answer(billing(), "master-consumers-offline").connection_set.is_empty());
}
