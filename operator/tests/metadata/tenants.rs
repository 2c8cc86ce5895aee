use serde_json::json;

use crate::shop::Shop;

/// A cluster that lets namespace `pay` have two topics and a consumer group with a prefix.
async fn shared() -> Shop {
    Shop::new(json!({"tenants": [{
        "name": "payments", "namespaces": ["pay"], "topicPrefixes": ["pay-"], "groupPrefixes": ["pay-"], "maxTopics": 2,
        "maxConsumerGroups": 1,
    }]}))
    .await
}

fn holds(shop: &Shop, topic: &str) -> bool {
    let master = shop.master("shop-broker-0");
    shop.engine.world(|w| w.holds(&master, |m| m.topics.contains_key(topic)))
}

#[tokio::test]
async fn a_tenant_has_what_its_rule_allows_and_the_rest_is_refused_with_the_rule_named() {
    let shop = shared().await;
    for (namespace, name) in
        [("pay", "pay-a"), ("pay", "orders"), ("other", "pay-b"), ("pay", "pay-c"), ("pay", "pay-d")]
    {
        shop.declare("Topic", "topics", namespace, name, json!({}));
    }
    for name in ["pay-billing", "pay-second"] {
        shop.declare("ConsumerGroup", "consumergroups", "pay", name, json!({}));
    }
    shop.settle().await;
    let ready = |namespace: &str, name: &str| shop.condition("topics", namespace, name, "Ready").1;
    assert_eq!(ready("pay", "pay-a"), "InSync");
    assert_eq!(ready("pay", "orders"), "TenantRuleForbids");
    assert_eq!(ready("other", "pay-b"), "NamespaceNotAllowed");
    assert_eq!((ready("pay", "pay-c").as_str(), ready("pay", "pay-d").as_str()), ("InSync", "TenantQuotaExceeded"));
    assert_eq!(shop.condition("consumergroups", "pay", "pay-billing", "Ready").1, "InSync");
    let (_, reason, why) = shop.condition("consumergroups", "pay", "pay-second", "Ready");
    assert_eq!(reason, "TenantQuotaExceeded");
    assert!(why.ends_with("its 1 consumer groups are all taken by older objects"), "{why}");
    for (topic, there) in [("pay-a", true), ("pay-c", true), ("orders", false), ("pay-b", false), ("pay-d", false)] {
        assert_eq!(holds(&shop, topic), there, "{topic}");
    }
    assert!(
        shop.condition("topics", "pay", "orders", "Ready").2.starts_with("rule payments of BrokerCluster ns/shop:")
    );
    let writes = shop.api.with(|s| s.writes.len());
    shop.pass().await;
    assert_eq!(shop.api.with(|s| s.writes.len()), writes, "a refusal is said once");
}

#[tokio::test]
async fn who_is_refused_deletes_nothing() {
    let shop = shared().await;
    shop.topic("orders", json!({}));
    shop.declare("Topic", "topics", "pay", "thief", json!({"topicName": "orders", "deletionPolicy": "Delete"}));
    shop.settle().await;
    shop.delete("topics", "pay", "thief");
    shop.settle().await;
    assert!(holds(&shop, "orders"));
    assert!(shop.get::<serde_json::Value>("topics", "pay", "thief").is_none());
}

#[tokio::test]
async fn a_topic_goes_no_further_than_its_cluster() {
    let shop = Shop::new(json!({"reconcilePolicy": "Plan"})).await;
    shop.topic("orders", json!({}));
    shop.pass().await;
    assert_eq!(shop.ready("topics", "orders").1, "Drifted");
    assert!(shop.engine.changes().is_empty());
}
