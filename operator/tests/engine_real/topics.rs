//! Topics and consumer groups on a real broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gantry::consumer_group::ConsumerGroups;
use gantry::engine::{Engine, EngineWrite};
use gantry::import::{Declared, Live, manifests};
use gantry::metadata::deletion::Breaker;
use gantry::metadata::kind::Kind;
use gantry::metadata::plan::plan;
use gantry::metadata::view::{Master, Observed};
use gantry::topic::Topics;
use gantry_remoting::blocking;
use gantry_remoting::group::{
    CustomizedRetry, ExponentialRetry, GroupChange, GroupConfig, RequestMode, RetryPolicy, RetryPolicyKind,
    SimpleSubscription,
};
use gantry_remoting::topic::{self, TopicChange, TopicConfig};
use gantry_remoting::{Code, Command, ResponseCode};

use super::{GROUP, Test, in_sync, registered};

impl Test {
    pub async fn topics_are_created_and_refusals_attributed(&self) {
        let (master, _) = self.roles().await;
        let good = |at: usize| TopicConfig::new(format!("good-{at}"), 4).with_attribute(topic::MESSAGE_TYPE, "FIFO");
        let mut configs: Vec<TopicConfig> = (0..30).map(good).collect();
        configs.insert(11, TopicConfig::new("wrong-type", 4).with_attribute(topic::MESSAGE_TYPE, "WRONG"));
        configs.insert(23, TopicConfig::new("no good name", 4).with_attribute(topic::MESSAGE_TYPE, "FIFO"));
        configs.insert(29, TopicConfig::new("compacted", 4).with_attribute("cleanup.policy", "COMPACTION"));
        let changes = configs.iter().cloned().map(TopicChange::create).collect();
        let outcome = self.execute(EngineWrite::UpsertTopics { broker: master.clone(), changes }).await;
        let refused: Vec<&str> = outcome.failed.keys().map(String::as_str).collect();
        assert_eq!(refused, ["no good name", "wrong-type"], "{outcome:?}");
        assert_eq!(outcome.failed["no good name"].refusal(), Some(ResponseCode::InvalidParameter));
        assert!(outcome.failed["wrong-type"].to_string().contains("value is not in set"), "{outcome:?}");
        let topics = self.engine.metadata(&self.addresses.cluster, &master).await.unwrap().topics;
        for config in configs.iter().filter(|config| !refused.contains(&config.topic_name.as_str())) {
            assert_eq!(topics.get(&config.topic_name), Some(config));
        }
        self.step("topics are created, and each refusal is attributed to its topic");
    }

    /// The engine alone would answer success and do nothing: see `TopicChange::is_sure_in_a_list`.
    pub async fn a_list_with_an_equal_topic_is_still_carried_out(&self) {
        let (master, _) = self.roles().await;
        let plain = |name: &str| TopicChange::create(TopicConfig::new(name, 2));
        let upsert = |changes| EngineWrite::UpsertTopics { broker: master.clone(), changes };
        self.execute(upsert(vec![plain("plain-1")])).await;
        assert!(self.execute(upsert(vec![plain("plain-1"), plain("plain-2"), plain("plain-3")])).await.is_complete());
        let topics = self.engine.metadata(&self.addresses.cluster, &master).await.unwrap().topics;
        assert!(topics.contains_key("plain-2") && topics.contains_key("plain-3"));
    }

    pub async fn attributes_are_set_and_taken_away(&self) {
        const RESERVE: &str = "reserve.time";
        let (master, _) = self.roles().await;
        let plain = TopicConfig::new("kept-for-a-while", 2).with_attribute(topic::MESSAGE_TYPE, "NORMAL");
        let kept = plain.clone().with_attribute(RESERVE, "3600000");
        for wanted in [&plain, &kept, &plain] {
            let held = self.held(&master, &plain.topic_name).await;
            let changes = vec![TopicChange::between(held.as_ref(), wanted).unwrap()];
            let outcome = self.execute(EngineWrite::UpsertTopics { broker: master.clone(), changes }).await;
            assert!(outcome.is_complete(), "{outcome:?}");
            assert_eq!(self.held(&master, &plain.topic_name).await.as_ref(), Some(wanted));
        }
        self.step("an attribute of a topic is set and taken away");
    }

    /// A topic as a broker has it.
    async fn held(&self, broker: &str, topic: &str) -> Option<TopicConfig> {
        self.engine.metadata(&self.addresses.cluster, broker).await.unwrap().topics.remove(topic)
    }

    /// A replica that starts anew has another version than its master, so it copies by itself; to write the master once more, which
    /// `metadata::replicas` does where a replica has the same version and other topics, changes nothing there.
    pub async fn a_replica_that_lost_a_topic_copies_it_and_a_master_stays_as_it_is_when_written_once_more(&mut self) {
        const LOST: &str = "good-2";
        let (master, replica) = self.roles().await;
        let ours = self.held(&master, LOST).await.unwrap();
        let began = Instant::now();
        while self.held(&replica, LOST).await.as_ref() != Some(&ours) {
            assert!(began.elapsed() < Duration::from_secs(60), "the replica never copied it");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let at = self.addresses.groups[GROUP].iter().position(|address| *address == replica).unwrap();
        let name = format!("broker-{at}");
        self.machine.kill(&name);
        let file = format!("{}/config/topics.json", self.machine.store(&name));
        let mut topics: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        topics["topicConfigTable"].as_object_mut().unwrap().remove(LOST).unwrap();
        std::fs::write(&file, topics.to_string()).unwrap();
        self.machine.broker(&name, self.ports.brokers[at], self.ports.name_server, &self.ports.controllers);
        self.until("the replica is back without a topic", |facts| in_sync(facts) == 2 && registered(facts).len() == 2)
            .await;
        // It asks for its master's topics every 10 s.
        let began = Instant::now();
        while self.held(&replica, LOST).await.as_ref() != Some(&ours) {
            assert!(began.elapsed() < Duration::from_secs(60), "the replica does not copy");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let copied = began.elapsed();
        let changes = vec![TopicChange::refresh(&ours)];
        assert!(self.execute(EngineWrite::UpsertTopics { broker: master.clone(), changes }).await.is_complete());
        assert_eq!(self.held(&master, LOST).await, Some(ours));
        self.step(&format!("a replica copied what it lacked {copied:?} after it was back"));
    }

    pub async fn groups_are_created_and_refusals_attributed(&self) {
        let (master, _) = self.roles().await;
        let mut configs: Vec<GroupConfig> = (0..20).map(|at| GroupConfig::new(format!("group-{at}"))).collect();
        configs[5].attributes.insert("unknown".to_owned(), "x".to_owned());
        configs[7].retry_max_times = 3;
        configs[7].consume_message_orderly = true;
        configs[8].group_retry_policy = RetryPolicy {
            kind: RetryPolicyKind::Exponential,
            exponential_retry_policy: Some(ExponentialRetry { initial: 5000, max: 7_200_000, multiplier: 3 }),
            customized_retry_policy: None,
        };
        configs[9].group_retry_policy = RetryPolicy {
            kind: RetryPolicyKind::Customized,
            exponential_retry_policy: None,
            customized_retry_policy: Some(CustomizedRetry { next: vec![500, 60_000] }),
        };
        let changes = configs.iter().cloned().map(GroupChange::create).collect();
        let outcome = self.execute(EngineWrite::UpsertGroups { broker: master.clone(), changes }).await;
        assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["group-5"], "{outcome:?}");
        let groups = self.engine.metadata(&self.addresses.cluster, &master).await.unwrap().groups;
        for at in 7..10 {
            assert_eq!(groups[&format!("group-{at}")], configs[at]);
        }
        assert!(groups.contains_key("group-19"));
        let delete = EngineWrite::DeleteGroups {
            masters: vec![master.clone()],
            groups: vec!["group-7".to_owned()],
            clean_offsets: true,
        };
        assert!(self.execute(delete).await.is_complete());
        let groups = self.engine.metadata(&self.addresses.cluster, &master).await.unwrap().groups;
        assert!(!groups.contains_key("group-7"));
        assert!(
            self.engine.consumers(&self.addresses.cluster, &master, "group-1").await.unwrap().connection_set.is_empty()
        );
        assert_eq!(self.engine.consume_stats(&self.addresses.cluster, &master, "group-1").await.unwrap().lag(), 0);
        self.step("consumer groups are created, refused and deleted");
        self.modes_and_offsets_are_set(&master).await;
    }

    async fn modes_and_offsets_are_set(&self, master: &str) {
        let mut desired = GroupConfig::new("group-1");
        desired.request_modes = BTreeMap::from([("good-1".to_owned(), RequestMode::Pop)]);
        let subscription = SimpleSubscription {
            topic: "good-1".to_owned(),
            expression_type: Some("TAG".to_owned()),
            expression: Some("a || b".to_owned()),
            version: 0,
        };
        desired.subscription_data_set = Some([subscription].into());
        desired.attributes.insert("priority.factor".to_owned(), "0".to_owned());
        let current = self.engine.metadata(&self.addresses.cluster, master).await.unwrap().groups["group-1"].clone();
        let changes = vec![GroupChange::between(Some(&current), &desired).unwrap()];
        assert!(self.execute(EngineWrite::UpsertGroups { broker: master.to_owned(), changes }).await.is_complete());
        let held = self.engine.metadata(&self.addresses.cluster, master).await.unwrap().groups["group-1"].clone();
        assert_eq!(GroupChange::between(Some(&held), &desired), None, "{held:?}");
        let reset = EngineWrite::ResetOffsets {
            broker: master.to_owned(),
            group: "group-1".to_owned(),
            topics: vec!["good-1".to_owned(), "nowhere".to_owned()],
            timestamp: 0,
        };
        let outcome = self.execute(reset).await;
        assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["nowhere"], "{outcome:?}");
        let consumers = self.engine.topic_consumers(&self.addresses.cluster, master, "good-1").await.unwrap();
        assert_eq!(consumers, ["group-1"], "whose offsets were set has consumed");
        self.step("modes, subscriptions and offsets of a group are set and read back");
        self.a_replica_copies_offsets_also_where_somebody_pulls(master).await;
    }

    /// Whoever pulls, as every proxy does for a topic of its own, leaves a second table of offsets at the master, which replicas must be able to skip
    /// (rocketmq #10284).
    async fn a_replica_copies_offsets_also_where_somebody_pulls(&self, master: &str) {
        let (_, replica) = self.roles().await;
        let began = Instant::now();
        pull(master, "good-0", "group-1");
        let offsets = [("group-1".to_owned(), [("good-0".to_owned(), BTreeMap::from([(0, 7)]))].into())].into();
        let set = EngineWrite::SetOffsets { broker: master.to_owned(), offsets };
        assert!(self.execute(set).await.is_complete());
        let key = ("good-0".to_owned(), "group-1".to_owned());
        loop {
            let copied = self.engine.offsets(&self.addresses.cluster, &replica).await.unwrap();
            if copied.get(&key).and_then(|queues| queues.get(&0)) == Some(&7) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(90), "the replica has {copied:?} only");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.step(&format!("a replica had the offsets of its master {:?} later", began.elapsed()));
    }

    /// What a real broker holds, imported and planned: nothing would be written.
    pub async fn an_import_changes_nothing(&self) {
        let (address, _) = self.roles().await;
        let metadata = self.engine.metadata(&self.addresses.cluster, &address).await.unwrap();
        let live = Live {
            cluster: ("ns".to_owned(), "shop".to_owned()),
            groups: BTreeMap::from([(GROUP.to_owned(), metadata.clone())]),
        };
        let imported: Vec<serde_json::Value> =
            manifests(&live, &Declared::default()).into_iter().filter_map(|m| m.object).collect();
        let observed = Observed {
            groups: BTreeMap::from([(GROUP.to_owned(), Ok(Master { address, replicas: Vec::new(), metadata }))]),
            ..Observed::default()
        };
        let written = planned::<Topics>(&imported, &observed) + planned::<ConsumerGroups>(&imported, &observed);
        assert_eq!(written, 0);
        assert!(imported.len() > 20, "{}", imported.len());
        self.step(&format!("an import of {} topics and groups would write nothing", imported.len()));
    }

    pub async fn ten_thousand_topics_take_a_few_calls(&self) {
        let (master, replica) = self.roles().await;
        let config =
            |at: u32| TopicConfig::new(format!("many-{at:05}"), 2).with_attribute(topic::MESSAGE_TYPE, "NORMAL");
        let configs: Vec<TopicConfig> = (0..10_000).map(config).collect();
        let began = Instant::now();
        let changes = configs.iter().cloned().map(TopicChange::create).collect();
        let outcome = self.execute(EngineWrite::UpsertTopics { broker: master.clone(), changes }).await;
        assert!(outcome.is_complete(), "{} failed", outcome.failed.len());
        let written = began.elapsed();
        let began = Instant::now();
        let topics = self.engine.metadata(&self.addresses.cluster, &master).await.unwrap().topics;
        self.step(&format!("10,000 topics were written in {written:?} and read in {:?}", began.elapsed()));
        assert!(configs.iter().all(|config| TopicChange::between(topics.get(&config.topic_name), config).is_none()));
        let began = Instant::now();
        while self.engine.metadata(&self.addresses.cluster, &replica).await.unwrap().topics != topics {
            assert!(began.elapsed() < Duration::from_secs(60), "the replica has other topics than its master");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.step(&format!("the replica had them all {:?} later", began.elapsed()));
        let gone: Vec<String> = configs.iter().take(50).map(|config| config.topic_name.clone()).collect();
        let began = Instant::now();
        let delete = EngineWrite::DeleteTopics {
            masters: vec![master.clone()],
            replicas: vec![replica],
            name_servers: self.addresses.name_servers.clone(),
            topics: gone.clone(),
        };
        assert!(self.execute(delete).await.is_complete());
        self.step(&format!("50 topics were deleted everywhere in {:?}", began.elapsed()));
        assert!(self.engine.topic_stats(&self.addresses.cluster, &master, &gone[0]).await.unwrap().is_none());
        let left = self.engine.topic_stats(&self.addresses.cluster, &master, "many-09999").await.unwrap();
        assert_eq!(left.unwrap().messages(), 0);
    }
}

/// How many objects of a kind a plan would write to the engine.
fn planned<K: Kind>(imported: &[serde_json::Value], observed: &Observed) -> usize {
    let of_kind = imported.iter().filter(|object| object["kind"] == K::NAME);
    let objects: Vec<K::Object> = of_kind.map(|object| serde_json::from_value(object.clone()).unwrap()).collect();
    let parsed: Vec<_> = objects.iter().map(|object| (K::parse(object), object)).collect();
    plan::<K>(&parsed, observed, &Breaker::default()).upserts.values().map(Vec::len).sum()
}

/// One pull of a queue, as clients of RocketMQ 4 send it (request 11, which the operator has no use for).
fn pull(broker: &str, topic: &str, group: &str) {
    let request = Command { code: 11, ..Command::request(Code::GetMaxOffset) }
        .with("consumerGroup", group)
        .with("topic", topic)
        .with("queueId", 0)
        .with("queueOffset", 0)
        .with("maxMsgNums", 1)
        .with("sysFlag", 4)
        .with("commitOffset", 0)
        .with("suspendTimeoutMillis", 0)
        .with("subscription", "*")
        .with("subVersion", 0)
        .with("expressionType", "TAG");
    let reply = blocking::call(broker, &request, Duration::from_secs(15)).unwrap();
    assert_eq!(reply.response_code(), ResponseCode::PullNotFound, "{:?}", reply.remark);
}
