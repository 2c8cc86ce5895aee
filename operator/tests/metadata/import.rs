use std::collections::{BTreeMap, BTreeSet};

use gantry::engine::{BrokerMetadata, EngineWrite};
use gantry::import::{Declared, Live, manifests, yaml};
use gantry_remoting::group::{
    CustomizedRetry, ExponentialRetry, GroupConfig, RequestMode, RetryPolicyKind, SimpleSubscription,
};
use gantry_remoting::topic::{MESSAGE_TYPE, TopicConfig};
use serde_json::{Value, json};

use crate::shop::Shop;

/// What a cluster may hold that grew by hand.
fn grown(m: &mut BrokerMetadata) {
    let mut topic = |name: &str, kind: &str, change: fn(&mut TopicConfig)| {
        let mut config = TopicConfig::new(name, 8);
        if !kind.is_empty() {
            config.attributes.insert(MESSAGE_TYPE, kind);
        }
        change(&mut config);
        m.topics.insert(name.into(), config);
    };
    for (name, kind) in [
        ("plain", ""),
        ("normal", "NORMAL"),
        ("fifo", "FIFO"),
        ("delay", "DELAY"),
        ("tx", "TRANSACTION"),
        ("mixed", "MIXED"),
    ] {
        topic(name, kind, |_| {});
    }
    topic("Page_Views", "NORMAL", |t| t.perm = 4);
    topic("page-views", "PRIORITY", |t| t.order = true);
    topic("kept", "FIFO", |t| {
        t.attributes.insert("cleanup.policy", "COMPACTION");
        t.attributes.insert("reserve.time", "3600000");
        t.topic_sys_flag = 3;
    });
    topic("odd|name", "NORMAL", |_| {});
    topic("odd.name", "NORMAL", |_| {});
    topic("uneven", "NORMAL", |t| t.write_queue_nums = 4);
    topic("unspecified", "UNSPECIFIED", |_| {});
    topic("TBW102", "", |_| {});
    topic("%RETRY%billing", "", |_| {});
    let mut group = |name: &str, change: fn(&mut GroupConfig)| {
        let mut config = GroupConfig::new(name);
        change(&mut config);
        m.groups.insert(name.into(), config);
    };
    group("by_default", |_| {});
    group("ordered", |g| {
        g.consume_broadcast_enable = false;
        g.consume_message_orderly = true;
        g.consume_timeout_minute = 99;
    });
    group("both", |g| g.consume_message_orderly = true);
    group("growing", |g| {
        g.group_retry_policy.kind = RetryPolicyKind::Exponential;
        g.group_retry_policy.exponential_retry_policy =
            Some(ExponentialRetry { initial: 5_000, max: 7_200_000, multiplier: 2 });
    });
    group("listed", |g| {
        g.retry_max_times = 3;
        g.consume_from_min_enable = false;
        g.group_retry_policy.customized_retry_policy = Some(CustomizedRetry { next: vec![500, 10_000, 300_000] });
    });
    group("subscribed", |g| {
        g.subscription_data_set =
            Some([subscription("fifo", Some("a||b")), subscription("odd|name", Some("*"))].into());
        g.request_modes = [("fifo".to_owned(), RequestMode::Pop), ("odd|name".to_owned(), RequestMode::Pop)].into();
        g.attributes = [("priority.factor".to_owned(), "50".to_owned())].into();
    });
    group("half_said", |g| {
        g.subscription_data_set = Some([subscription("fifo", None), subscription("delay", Some("*"))].into());
        g.request_modes = [("delay".to_owned(), RequestMode::Pull)].into();
    });
    group("TOOLS_CONSUMER", |_| {});
}

/// By tags, or without a word about them, as older clients have it.
fn subscription(topic: &str, tags: Option<&str>) -> SimpleSubscription {
    SimpleSubscription {
        topic: topic.into(),
        expression_type: tags.map(|_| "TAG".to_owned()),
        expression: tags.map(str::to_owned),
        version: 7,
    }
}

/// A cluster of two broker groups that grew by hand; one topic is on one of them only.
async fn cluster() -> (Shop, Live) {
    let shop = Shop::new(json!({"brokers": {"groups": 2}})).await;
    shop.settle().await;
    let mut groups = BTreeMap::new();
    for group in ["shop-broker-0", "shop-broker-1"] {
        let master = shop.master(group);
        shop.engine.world(|w| {
            w.edit(&master, |m| {
                grown(m);
                if group == "shop-broker-1" {
                    m.topics.remove("fifo");
                }
                groups.insert(group.to_owned(), m.clone());
            })
        });
    }
    shop.engine.changes();
    (shop, Live { cluster: ("ns".into(), "shop".into()), groups })
}

fn apply(shop: &Shop, text: &str) -> usize {
    let mut n = 0;
    for document in serde_yaml::Deserializer::from_str(text) {
        let object: Value = serde::Deserialize::deserialize(document).unwrap();
        let kind = object["kind"].as_str().unwrap();
        let plural = if kind == "Topic" { "topics" } else { "consumergroups" };
        shop.declare(kind, plural, "ns", object["metadata"]["name"].as_str().unwrap(), object["spec"].clone());
        n += 1;
    }
    n
}

#[tokio::test]
async fn what_is_imported_and_applied_changes_nothing() {
    let (shop, live) = cluster().await;
    let text = yaml(&manifests(&live, &Declared::default()));
    assert_eq!(apply(&shop, &text), 19, "{text}");
    for _ in 0..4 {
        shop.settle().await;
        shop.wait(30);
    }
    let changes: Vec<EngineWrite> = shop.engine.changes();
    assert!(changes.is_empty(), "{changes:#?}");
    let observed: BTreeSet<String> = shop.api.with(|s| {
        let ready = |o: &Value| o["status"]["conditions"][0]["status"] == "True";
        let objects = s.objects.iter().filter(|(k, o)| k.0 != "brokerclusters" && !ready(o));
        objects.map(|(k, _)| k.2.clone()).collect()
    });
    let odd: BTreeSet<String> = ["both", "uneven", "unspecified"].map(str::to_owned).into();
    assert_eq!(observed, odd, "all others are as declared, these are observed");
}

#[tokio::test]
async fn an_import_reads_as_somebody_would_have_written_it() {
    let (_, live) = cluster().await;
    let text = yaml(&manifests(&live, &Declared::default()));
    let of = |name: &str| {
        let start = text.find(&format!("  name: {name}\n")).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        let end = text[start..].find("---").map_or(text.len(), |e| start + e);
        text[start..end].to_owned()
    };
    assert_eq!(
        of("fifo"),
        "  name: fifo\n  namespace: ns\nspec:\n  brokerGroups:\n  - shop-broker-0\n  clusterRef:\n    name: shop\n  queues: 8\n  type: FIFO\n"
    );
    assert_eq!(
        of("ordered"),
        "  name: ordered\n  namespace: ns\nspec:\n  clusterRef:\n    name: shop\n  delivery: Ordered\n"
    );
    assert!(
        of("listed").contains("  retry:\n    intervals:\n    - 500ms\n    - 10s\n    - 5m\n    maxAttempts: 3\n"),
        "{}",
        of("listed")
    );
    assert_eq!(
        of("subscribed"),
        "  name: subscribed\n  namespace: ns\nspec:\n  attributes:\n    priority.factor: '50'\n  broadcast: true\n  clusterRef:\n    name: shop\n  \
         loadBalancing: Message\n  subscriptions:\n  - expression: a||b\n    expressionType: TAG\n    topic: fifo\n  - expression: '*'\n    \
         expressionType: TAG\n    topic: odd|name\n"
    );
    assert!(!of("half-said").contains("subscriptions") && !of("half-said").contains("loadBalancing"));
    assert!(text.contains("#   shop-broker-0: queues (read): 8 → 4\n"), "{text}");
    assert!(text.contains("#   Topic odd.name can't be declared"), "{text}");
    assert!(!text.contains("TBW102") && !text.contains("%RETRY%") && !text.contains("TOOLS_CONSUMER"), "{text}");
}

#[tokio::test]
async fn what_objects_declare_already_is_not_declared_twice() {
    let (_, live) = cluster().await;
    let declared = Declared { topics: ["fifo".to_owned()].into(), groups: ["listed".to_owned()].into() };
    let text = yaml(&manifests(&live, &declared));
    assert!(!text.contains("  name: fifo\n") && !text.contains("  name: listed\n"));
}
