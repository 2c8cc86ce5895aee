//! The client against peers in memory. Time stands still while anybody has something to do, so nothing here depends on how busy the machine is.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use gantry_remoting::command::{PREFIX, length_after};
use gantry_remoting::topic::{MESSAGE_TYPE, TopicChange, TopicConfig};
use gantry_remoting::{Code, Command, Credentials};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{ClusterAddresses, ClusterId, Connect, Engine, EngineWrite, Limits, RemotingEngine, Stream};

/// What a peer does with a request.
enum Does {
    Answers(Command),
    Hangs,
    HangsUp,
}

type Serve = dyn Fn(&str, &Command) -> Does + Send + Sync;

/// Peers in memory by address. Names that are not there are refused.
struct Peers {
    serve: Arc<Serve>,
    connections: Mutex<HashMap<String, usize>>,
    under_way: Arc<AtomicUsize>,
    most_under_way: Arc<AtomicUsize>,
}

impl Peers {
    fn new(serve: impl Fn(&str, &Command) -> Does + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Peers {
            serve: Arc::new(serve),
            connections: Mutex::default(),
            under_way: Arc::default(),
            most_under_way: Arc::default(),
        })
    }

    fn connections(&self, address: &str) -> usize {
        self.connections.lock().unwrap().get(address).copied().unwrap_or(0)
    }
}

impl Connect for Peers {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move {
            *self.connections.lock().unwrap().entry(address.to_owned()).or_default() += 1;
            if address.starts_with("refused") {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if address.starts_with("dropped") {
                return std::future::pending().await;
            }
            let (ours, theirs) = duplex(1024);
            let (serve, address) = (Arc::clone(&self.serve), address.to_owned());
            let counters = (Arc::clone(&self.under_way), Arc::clone(&self.most_under_way));
            tokio::spawn(async move { talk(theirs, &address, &*serve, counters).await });
            let stream: Box<dyn Stream> = Box::new(ours);
            Ok(stream)
        }
        .boxed()
    }
}

async fn talk(
    mut stream: DuplexStream,
    address: &str,
    serve: &Serve,
    (under_way, most): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut prefix = [0; PREFIX];
    while stream.read_exact(&mut prefix).await.is_ok() {
        let mut rest = vec![0; length_after(prefix).unwrap()];
        stream.read_exact(&mut rest).await.unwrap();
        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let request = Command::decode_after_prefix(&rest).unwrap();
        match serve(address, &request) {
            Does::Answers(mut reply) => {
                (reply.flag, reply.opaque) = (1, request.opaque);
                under_way.fetch_sub(1, Ordering::SeqCst);
                if stream.write_all(&reply.encode().unwrap()).await.is_err() {
                    return;
                }
            }
            Does::Hangs => {}
            Does::HangsUp => return,
        }
    }
}

fn answer(body: &str) -> Does {
    Does::Answers(Command { code: 0, ..Command::request(Code::GetTopicConfig) }.body(body))
}

fn refuse(code: i32, remark: &str) -> Does {
    Does::Answers(Command { code, remark: Some(remark.to_owned()), ..Command::request(Code::GetTopicConfig) })
}

const RUNTIME: &str = r#"{"table":{"brokerActive":"true"}}"#;
const GROUPS: &str = r#"{"subscriptionGroupTable":{}}"#;
const MODES: &str = r#"{"messageRequestModeMap":{}}"#;
const MASTER: &str = r#"{"master":true,"masterCommitLogMaxOffset":0,"inSyncSlaveNums":0,"haClientRuntimeInfo":{"maxOffset":0,"lastReadTimestamp":0}}"#;
const TOPICS: &str = r#"{"topicConfigTable":{}}"#;

fn quick() -> Limits {
    Limits {
        connect: Duration::from_millis(50),
        call: Duration::from_millis(150),
        write: Duration::from_millis(150),
        observe: Duration::from_millis(300),
        ..Limits::default()
    }
}

fn shop() -> ClusterId {
    ClusterId::new("ns", "shop")
}

fn all_lists(request: &Command) -> Does {
    let of = |code: Code| request.code == code.number();
    answer(match () {
        () if of(Code::GetAllTopicConfig) => TOPICS,
        () if of(Code::GetAllMessageRequestMode) => MODES,
        () => GROUPS,
    })
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_one_connection() {
    let peers = Peers::new(|_, request| all_lists(request));
    let engine = RemotingEngine::with_connect(quick(), peers.clone());
    let cluster = shop();
    let calls = join_all((0..50).map(|_| engine.metadata(&cluster, "broker:1"))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(peers.connections("broker:1"), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_on_one_address_are_bounded() {
    let peers = Peers::new(|_, _| Does::Hangs);
    let engine = RemotingEngine::with_connect(Limits { concurrency: 3, ..quick() }, peers.clone());
    let cluster = shop();
    join_all((0..10).map(|_| engine.metadata(&cluster, "broker:1"))).await;
    assert_eq!(peers.most_under_way.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_broke_while_idle_is_made_again_for_a_question_but_not_for_a_change() {
    for (change, connections) in [(false, 4), (true, 2)] {
        let count = AtomicUsize::new(0);
        let peers = Peers::new(move |_, request| match count.fetch_add(1, Ordering::SeqCst) {
            // The first three are the lists of the first call. The fourth request finds the peer gone.
            3 => Does::HangsUp,
            _ => all_lists(request),
        });
        let engine = RemotingEngine::with_connect(quick(), peers.clone());
        let cluster = shop();
        engine.metadata(&cluster, "broker:1").await.unwrap();
        if change {
            let group = "g".to_owned();
            let write =
                EngineWrite::SetWritePermission { name_servers: vec!["broker:1".to_owned()], group, writable: false };
            let outcome = engine.execute(&cluster, &write).await.unwrap();
            assert_eq!(
                outcome.failed["broker:1"].reason(),
                "EngineUnreachable",
                "whether it was carried out is unknown"
            );
        }
        engine.metadata(&cluster, "broker:1").await.unwrap();
        assert!(peers.connections("broker:1") <= connections, "{}", peers.connections("broker:1"));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_call_without_an_answer_the_next_one_connects_anew() {
    let peers = Peers::new(|_, request| match request.code {
        code if code == Code::GetBrokerConfig.number() => Does::Hangs,
        _ => all_lists(request),
    });
    let engine = RemotingEngine::with_connect(quick(), peers.clone());
    let target = super::ConfigTarget::Broker("broker:1".to_owned());
    let error = engine.config(&shop(), &target).await.unwrap_err();
    assert_eq!(error.to_string(), "broker:1 did not answer GET_BROKER_CONFIG within 150 ms");
    engine.metadata(&shop(), "broker:1").await.unwrap();
    assert_eq!(peers.connections("broker:1"), 2, "the name may lead elsewhere by now");
}

#[tokio::test(start_paused = true)]
async fn an_observation_is_over_in_time_whoever_hangs_and_knows_all_the_others() {
    let peers = Peers::new(|address, request| {
        match (address, Code::ALL.iter().find(|code| code.number() == request.code).unwrap()) {
            ("hangs:1", _) => Does::Hangs,
            (_, Code::GetBrokerClusterInfo) => {
                answer(r#"{"brokerAddrTable":{"b":{"brokerAddrs":{0:"x:1"},"brokerName":"b","cluster":"shop"}}}"#)
            }
            ("controller:1", Code::ControllerGetMetadataInfo) => {
                let reply = Command { code: 0, ..Command::request(Code::ControllerGetMetadataInfo) };
                Does::Answers(
                    reply
                        .with("controllerLeaderId", "n1")
                        .with("controllerLeaderAddress", "controller:2")
                        .with("peers", "n1:controller:2;"),
                )
            }
            ("controller:2", Code::ControllerGetSyncStateData) => answer(
                r#"{"replicasInfoTable":{"b":{"masterBrokerId":1,"masterAddress":"x:1","masterEpoch":1,"syncStateSetEpoch":1,"inSyncReplicas":[],"notInSyncReplicas":[]}}}"#,
            ),
            ("controller:2", _) => Does::Hangs,
            (_, Code::GetBrokerRuntimeInfo) => answer(RUNTIME),
            (_, _) => refuse(1, "no"),
        }
    });
    let limits = Limits { call: Duration::from_secs(1), ..quick() };
    let engine = RemotingEngine::with_connect(limits, peers.clone());
    let addresses = ClusterAddresses {
        cluster: shop(),
        name_servers: ["ns:1", "hangs:1", "refused:1", "dropped:1"].map(str::to_owned).to_vec(),
        controllers: ["controller:1", "controller:2", "dropped:2"].map(str::to_owned).to_vec(),
        groups: BTreeMap::from([("b".to_owned(), vec!["broker:1".to_owned(), "dropped:3".to_owned()])]),
    };
    let began = tokio::time::Instant::now();
    let facts = engine.observe(&addresses).await;
    let over = began.elapsed().saturating_sub(limits.observe);
    assert!(over < Duration::from_millis(10), "{over:?} more than was allowed");
    assert_eq!(facts.name_servers["ns:1"].known().unwrap()[0].address, "x:1");
    let reason = |address: &str| facts.name_servers[address].unknown().unwrap().reason();
    assert_eq!(
        [reason("hangs:1"), reason("refused:1"), reason("dropped:1")],
        ["EngineTimedOut", "EngineUnreachable", "EngineTimedOut"]
    );
    assert_eq!(facts.master("b"), Some("x:1"), "the leader was asked although it had not said itself that it leads");
    let broker = &facts.brokers["broker:1"];
    assert_eq!(broker.disk_ratio.known(), Some(&None), "it does not say so");
    assert_eq!(
        broker.replication.unknown().unwrap().to_string(),
        "broker:1 refused GET_BROKER_HA_STATUS with SYSTEM_ERROR (1): no"
    );
    assert_eq!(peers.connections("dropped:3"), 1, "three questions waited for one attempt to connect");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_answers_nothing_is_left_alone_and_tried_again_while_others_go_on() {
    let alive = Arc::new(AtomicUsize::new(0));
    let answers = Arc::clone(&alive);
    let peers = Peers::new(move |address, request| match address {
        "dead:1" if answers.load(Ordering::SeqCst) == 0 => Does::Hangs,
        _ => all_lists(request),
    });
    let passed = Arc::new(Mutex::new(Duration::ZERO));
    let (clock, start) = (Arc::clone(&passed), Instant::now());
    let limits = Limits { call: Duration::from_millis(20), concurrency: 100, ..quick() };
    let engine = RemotingEngine::with_connect(limits, peers).with_clock(move || start + *clock.lock().unwrap());
    let (dead, other) = (ClusterId::new("ns", "dead"), shop());
    join_all((0..20).map(|_| engine.metadata(&dead, "dead:1"))).await;
    let error = engine.metadata(&dead, "dead:1").await.unwrap_err();
    assert_eq!(error.to_string(), "no calls to ns/dead for another 1000 ms because too many were not answered");
    engine.metadata(&other, "broker:1").await.unwrap();
    alive.store(1, Ordering::SeqCst);
    assert!(engine.metadata(&dead, "dead:1").await.is_err());
    *passed.lock().unwrap() = Duration::from_secs(2);
    let target = super::ConfigTarget::Broker("dead:1".to_owned());
    let _ = engine.config(&dead, &target).await;
    engine.metadata(&dead, "dead:1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_full_a_volume_is_is_asked_twice_a_minute_however_often_one_looks() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let peers = Peers::new(move |_, request| {
        if request.code != Code::GetBrokerRuntimeInfo.number() {
            return refuse(1, "no");
        }
        let full = count.fetch_add(1, Ordering::SeqCst);
        answer(&format!(r#"{{"table":{{"brokerActive":"true","commitLogDiskRatio":"0.{full}"}}}}"#))
    });
    let passed = Arc::new(Mutex::new(Duration::ZERO));
    let (clock, start) = (Arc::clone(&passed), Instant::now());
    let engine = RemotingEngine::with_connect(quick(), peers).with_clock(move || start + *clock.lock().unwrap());
    let addresses = ClusterAddresses {
        cluster: shop(),
        name_servers: vec![],
        controllers: vec![],
        groups: BTreeMap::from([("b".to_owned(), vec!["broker:1".to_owned()])]),
    };
    let look = async || *engine.observe(&addresses).await.brokers["broker:1"].disk_ratio.known().unwrap();
    assert_eq!((look().await, look().await), (Some(0.0), Some(0.0)));
    *passed.lock().unwrap() = Duration::from_secs(31);
    assert_eq!((look().await, look().await), (Some(0.1), Some(0.1)));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_are_signed_for_clusters_with_credentials_only() {
    let peers = Peers::new(|address, request| match (address, request.ext.contains_key("Signature")) {
        ("signed:1", true) | ("plain:1", false) => all_lists(request),
        _ => refuse(16, "who are you"),
    });
    let credentials = |cluster: &ClusterId| (cluster.name == "signed").then(|| Credentials::new("gantry", "s3cret"));
    let engine = RemotingEngine::with_connect(quick(), peers).with_credentials(credentials);
    engine.metadata(&ClusterId::new("ns", "signed"), "signed:1").await.unwrap();
    engine.metadata(&ClusterId::new("ns", "plain"), "plain:1").await.unwrap();
}

/// A broker that refuses as the engine does: by name before it begins, by attribute in the middle.
fn broker_of_topics(
    held: Mutex<BTreeMap<String, TopicConfig>>,
    requests: Arc<AtomicUsize>,
) -> impl Fn(&str, &Command) -> Does + Send + Sync {
    move |_, request| match request.code {
        code if code == Code::GetBrokerHaStatus.number() => answer(MASTER),
        code if code == Code::GetAllTopicConfig.number() => {
            answer(&serde_json::json!({"topicConfigTable": *held.lock().unwrap()}).to_string())
        }
        code if code == Code::UpdateAndCreateTopicList.number() => {
            requests.fetch_add(1, Ordering::SeqCst);
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let list: Vec<TopicConfig> = serde_json::from_value(body["topicConfigList"].clone()).unwrap();
            if list.iter().any(|topic| topic.topic_name.contains(' ')) {
                return refuse(29, "illegal characters");
            }
            for mut topic in list {
                if topic.attributes.get("+message.type").is_some_and(|kind| kind == "WRONG") {
                    return refuse(1, "value is not in set");
                }
                let repeats = held.lock().unwrap().contains_key(&topic.topic_name)
                    && topic.attributes.contains_key("+cleanup.policy");
                if repeats {
                    return refuse(1, "attempt to update an unchangeable attribute");
                }
                topic.attributes =
                    topic.attributes.iter().map(|(key, value)| (key[1..].to_owned(), value.to_owned())).collect();
                held.lock().unwrap().insert(topic.topic_name.clone(), topic);
            }
            answer("")
        }
        _ => refuse(3, "not supported"),
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_refused_list_all_is_done_that_can_be_and_each_refusal_names_its_topic() {
    let requests = Arc::new(AtomicUsize::new(0));
    let peers = Peers::new(broker_of_topics(Mutex::default(), Arc::clone(&requests)));
    let engine = RemotingEngine::with_connect(
        Limits { execute: Duration::from_secs(20), write: Duration::from_secs(5), ..quick() },
        peers,
    );
    // Every one has an attribute that may not be repeated once it is there.
    let topic = |name: &str| {
        TopicConfig::new(name, 4).with_attribute(MESSAGE_TYPE, "FIFO").with_attribute("cleanup.policy", "COMPACTION")
    };
    let mut topics: Vec<TopicConfig> = (0..400).map(|at| topic(&format!("t{at:03}"))).collect();
    topics[57].attributes.insert(MESSAGE_TYPE, "WRONG");
    topics[311].topic_name = "t 311".to_owned();
    let write = EngineWrite::UpsertTopics {
        broker: "broker:1".to_owned(),
        changes: topics.iter().cloned().map(TopicChange::create).collect(),
    };
    let outcome = engine.execute(&shop(), &write).await.unwrap();
    let failed: Vec<String> = outcome.failed.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert_eq!(
        failed,
        [
            "t 311: broker:1 refused UPDATE_AND_CREATE_TOPIC_LIST with INVALID_PARAMETER (29): illegal characters",
            "t057: broker:1 refused UPDATE_AND_CREATE_TOPIC_LIST with SYSTEM_ERROR (1): value is not in set",
        ]
    );
    let held = engine.ask(&shop(), "broker:1", &gantry_remoting::topic::GetAllTopics).await.unwrap();
    assert_eq!(held.len(), 398);
    assert!(requests.load(Ordering::SeqCst) < 40, "{} requests", requests.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn what_there_was_no_time_for_is_said_to_be_not_tried() {
    let peers = Peers::new(broker_of_topics(Mutex::default(), Arc::default()));
    let engine = RemotingEngine::with_connect(Limits { execute: Duration::ZERO, ..quick() }, peers);
    let changes = vec![TopicChange::create(TopicConfig::new("t", 1).with_attribute(MESSAGE_TYPE, "FIFO"))];
    let outcome =
        engine.execute(&shop(), &EngineWrite::UpsertTopics { broker: "broker:1".to_owned(), changes }).await.unwrap();
    assert_eq!(outcome.failed["t"].reason(), "NotTried");
}

/// Lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_leaves_one_line_in_the_audit_log_and_no_question_does() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time().finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let peers = Peers::new(|address, request| match (address, request.code) {
        ("broker:1", 26) => answer("secret=s3cret\nfileReservedTime=48\n"),
        ("broker:1", _) => answer(""),
        _ => refuse(16, "who are you"),
    });
    let engine = RemotingEngine::with_connect(quick(), peers);
    for broker in ["broker:1", "broker:2"] {
        let properties =
            [("secret", "s3cret"), ("fileReservedTime", "48")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let target = super::ConfigTarget::Broker(broker.to_owned());
        let _ = engine.execute(&shop(), &EngineWrite::UpdateConfig { target, properties: properties.into() }).await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let common = r#"audit: namespace="ns" cluster="shop" address="broker:"#;
    let rest = r#"request="UPDATE_BROKER_CONFIG" code=25 what="fileReservedTime secret""#;
    assert_eq!(
        lines,
        [
            format!(r#"INFO {common}1" {rest} result="Succeeded""#),
            format!(
                r#"WARN {common}2" {rest} result="EngineRefused" error=broker:2 refused UPDATE_BROKER_CONFIG with NO_PERMISSION (16): who are you"#
            ),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_lead_in_the_middle_of_a_change_sends_no_more_of_it_and_may_still_look() {
    let leads = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (lead, taken) = (leads.clone(), Arc::new(AtomicUsize::new(0)));
    let count = taken.clone();
    let peers = Peers::new(move |_, request| {
        if request.code == Code::UpdateConsumerOffset.number() && count.fetch_add(1, Ordering::SeqCst) == 4 {
            lead.store(false, Ordering::SeqCst);
        }
        match request.code {
            code if code == Code::GetBrokerHaStatus.number() => answer(MASTER),
            _ => all_lists(request),
        }
    });
    let limits = Limits { concurrency: 1, ..quick() };
    let engine = RemotingEngine::with_connect(limits, peers.clone()).with_lead(move || leads.load(Ordering::SeqCst));
    let queues = (0..20).map(|queue| (queue, 7)).collect();
    let offsets = [("billing".to_owned(), [("orders".to_owned(), queues)].into())].into();
    let write = EngineWrite::SetOffsets { broker: "broker:1".to_owned(), offsets };
    let outcome = engine.execute(&shop(), &write).await.unwrap();
    assert_eq!((taken.load(Ordering::SeqCst), outcome.failed.len()), (5, 15), "{outcome:?}");
    assert!(outcome.failed.values().all(|error| error.reason() == "NotTried"), "{outcome:?}");
    engine.metadata(&shop(), "broker:1").await.unwrap();
}
