//! No reply, whatever its bytes, makes the reader of any question's answer panic, nor what is counted from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::{Path, PathBuf};

use gantry_remoting::access::{
    Acl, CreateAcl, CreateUser, DeleteAclEntry, DeleteUser, ListAcls, ListUsers, UpdateUser, User,
};
use gantry_remoting::broker::{
    FollowMaster, GetBrokerConfig, GetEpochCache, GetHaStatus, GetRuntimeInfo, UpdateBrokerConfig,
};
use gantry_remoting::cluster::{
    AddWritePermission, DeleteTopicRoutes, GetClusterInfo, GetNameServerConfig, UnregisterBroker,
    UpdateNameServerConfig, WipeWritePermission,
};
use gantry_remoting::consume::{GetRequestModes, ResetOffset, SetRequestMode};
use gantry_remoting::consumption::{GetBrokerConsumeStats, GetTimerMetrics};
use gantry_remoting::controller::{
    CleanBrokerData, ElectMaster, GetControllerConfig, GetMetadata, GetReplicaInfo, GetSyncStateData,
    UpdateControllerConfig,
};
use gantry_remoting::group::{
    DeleteGroup, GetAllGroups, GetGroup, GroupChange, GroupConfig, RequestMode, UpsertGroup, UpsertGroups,
};
use gantry_remoting::route::GetRoute;
use gantry_remoting::stats::{
    GetAllConsumerOffsets, GetConsumeStats, GetConsumerConnections, GetTopicConsumers, GetTopicStats, SetConsumerOffset,
};
use gantry_remoting::topic::{
    DeleteTopic, GetAllTopics, GetTopic, TopicChange, TopicConfig, UpsertTopic, UpsertTopics,
};
use gantry_remoting::{Command, Request, properties};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn config() -> ProptestConfig {
    // A failure prints its input; there is no file to keep beside it.
    let failure_persistence: Option<Box<dyn proptest::test_runner::FailurePersistence>> =
        Some(Box::new(FileFailurePersistence::Off));
    ProptestConfig { cases: 512, failure_persistence, ..ProptestConfig::default() }
}

/// Lets every question read a reply, and counts with what was understood. How many questions there are, and what was counted.
fn read_by_all(reply: &Command) -> (usize, Vec<i64>) {
    let mut questions = 0;
    let mut said: Vec<i64> = Vec::new();
    macro_rules! ask {
        ($($question:expr $(=> $count:expr)?),+ $(,)?) => {$(
            questions += 1;
            #[allow(unused_variables, reason = "most answers are not counted with")]
            if let Ok(answer) = $question.answer(reply) {
                $(said.extend($count(&answer));)?
            }
        )+};
    }
    let text = || "x".to_owned();
    let topic = || TopicChange::create(TopicConfig::new("x", 1));
    let group = || GroupChange::create(GroupConfig::new("x"));
    ask!(
        ListUsers,
        CreateUser(User::default()),
        UpdateUser(User::default()),
        DeleteUser { username: text() },
        ListAcls,
        CreateAcl(Acl { subject: text(), entries: Vec::new() }),
        DeleteAclEntry { subject: text(), policy_type: text(), resource: text() },
        GetRuntimeInfo => counted_of_a_broker,
        GetHaStatus,
        FollowMaster { master: text(), log: text() },
        GetEpochCache,
        GetBrokerConfig,
        UpdateBrokerConfig { properties: [].into() },
        GetClusterInfo,
        WipeWritePermission { broker_name: text() },
        AddWritePermission { broker_name: text() },
        DeleteTopicRoutes { topic: text(), cluster: text() },
        UnregisterBroker { cluster: text(), broker_name: text(), address: text(), broker_id: 1 },
        GetNameServerConfig,
        UpdateNameServerConfig { properties: [].into() },
        SetRequestMode { topic: text(), group: text(), mode: RequestMode::Pop },
        GetRequestModes,
        ResetOffset { group: text(), topic: text(), timestamp: 0 },
        GetBrokerConsumeStats,
        GetTimerMetrics,
        GetMetadata,
        GetSyncStateData { broker_names: vec![text()] },
        GetReplicaInfo { broker_name: text() },
        ElectMaster { cluster: text(), broker_name: text(), broker_id: 1 },
        CleanBrokerData { cluster: text(), broker_name: text(), broker_ids: [1].into() },
        GetControllerConfig,
        UpdateControllerConfig { properties: [].into() },
        UpsertGroup(group()),
        UpsertGroups(vec![group()]),
        GetAllGroups,
        GetGroup { group: text() },
        DeleteGroup { group: text(), clean_offset: true },
        GetRoute { topic: text() },
        GetTopicStats { topic: text() } => |s: &gantry_remoting::stats::TopicStats| Some(s.messages()),
        GetConsumeStats { group: text(), topic: None } => counted_of_a_group,
        GetAllConsumerOffsets,
        SetConsumerOffset { group: text(), topic: text(), queue_id: 0, offset: 0 },
        GetTopicConsumers { topic: text() },
        GetConsumerConnections { group: text() },
        UpsertTopic(topic()),
        UpsertTopics(vec![topic()]),
        GetAllTopics,
        GetTopic { topic: text() },
        DeleteTopic { topic: text() },
    );
    (questions, said)
}

fn counted_of_a_broker(info: &gantry_remoting::broker::RuntimeInfo) -> Option<i64> {
    info.delayed_messages()
}

fn counted_of_a_group(stats: &gantry_remoting::stats::ConsumeStats) -> Vec<i64> {
    let in_flight = stats.offset_table.iter().map(|(_, offset)| offset.in_flight());
    in_flight.chain([stats.lag()]).collect()
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    files.sort();
    files
}

/// Header and body of what a real engine answered.
fn recorded() -> Vec<(String, String)> {
    let split = |path: PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let (header, body) = text.split_once('\n').unwrap();
        (header.to_owned(), body.to_owned())
    };
    files("tests/fixtures", "txt").into_iter().map(split).collect()
}

/// Replaces every third number, beginning with one of them.
fn with_number(text: &str, from: usize, number: &str) -> String {
    let (mut changed, mut at, mut rest) = (String::new(), from, text);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| start + length);
        changed.push_str(&rest[..start]);
        changed.push_str(if at.is_multiple_of(3) { number } else { &rest[start..end] });
        at += 1;
        rest = &rest[end..];
    }
    changed + rest
}

fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend(header);
    frame.extend(body);
    frame
}

fn success(body: impl Into<Vec<u8>>) -> Command {
    Command { code: 0, body: body.into(), ..Command::request(GetRuntimeInfo::CODE) }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let names = prop::sample::select(vec![
        "table",
        "offsetTable",
        "topicConfigTable",
        "subscriptionGroupTable",
        "consumeStatsList",
        "timingCount",
        "count",
        "connectionSet",
        "brokerAddrTable",
        "queueDatas",
        "replicasInfoTable",
        "groupList",
        "username",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

#[test]
fn every_question_is_asked_here() {
    let sources = files("src", "rs");
    let questions: usize =
        sources.iter().map(|path| fs::read_to_string(path).unwrap().matches("\nimpl Request for ").count()).sum();
    assert_eq!(read_by_all(&success("")).0, questions);
}

#[test]
fn numbers_at_their_limits_are_counted_with() {
    let limits = ["0", "-1", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1e400"];
    let mut counted = Vec::new();
    for (header, body) in recorded() {
        for number in limits {
            for from in 0..3 {
                counted.extend(read_by_all(&success(with_number(&body, from, number))).1);
                if let Ok(reply) =
                    Command::decode(&frame(with_number(&header, from, number).as_bytes(), body.as_bytes()))
                {
                    read_by_all(&reply);
                }
            }
        }
    }
    assert!(counted.contains(&i64::MAX), "nothing was counted with");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_bytes_make_any_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_by_all(&success(bytes));
    }

    #[test]
    fn no_json_makes_any_reader_panic(value in json()) {
        read_by_all(&success(value.to_string()));
    }

    #[test]
    fn no_fields_make_any_reader_panic(
        code in prop::sample::select(vec![0, 1, 17, 206, -1]),
        fields in prop::collection::btree_map(
            prop::sample::select(vec!["version", "epoch", "masterEpoch", "brokerId", "masterBrokerId", "wipeTopicCount", "addTopicCount", "group"]),
            prop_oneof![".*", any::<i64>().prop_map(|number| number.to_string())],
            0..6,
        ),
        remark in prop::option::of(".*"),
    ) {
        let ext = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        read_by_all(&Command { code, ext, remark, ..success("{}") });
    }

    #[test]
    fn no_change_of_what_was_recorded_makes_any_reader_panic(
        (header, body) in prop::sample::select(recorded()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut changed = body.clone().into_bytes();
        if !changed.is_empty() {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        read_by_all(&success(changed));
        read_by_all(&success(&body.as_bytes()[..keep.index(body.len() + 1)]));
        let mut frame = frame(header.as_bytes(), body.as_bytes());
        let at = 8 + at.index(header.len());
        frame[at] = byte;
        if let Ok(reply) = Command::decode(&frame) {
            read_by_all(&reply);
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_properties_panic(text in ".*", lines in prop::collection::vec("[a=:#!\\\\ ü]{0,8}", 0..8)) {
        let _ = properties::parse(&text);
        let parsed = properties::parse(&lines.join("\n"));
        prop_assert!(parsed.len() <= lines.iter().filter(|line| line.contains('=')).count());
    }
}
