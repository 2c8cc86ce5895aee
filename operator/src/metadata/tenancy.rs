//! Which objects of other namespaces a cluster takes. Pure.

use std::collections::BTreeMap;

use gantry_crds::condition::Reason;
use gantry_crds::tenant::Tenant;

use crate::metadata::kind::{Declared, Demand, Key};

/// Why an object is refused, with the rule named.
pub type Refusal = (Reason, String);

/// Judges objects of one kind. The answer holds those that are refused; all others are taken. Where a rule allows a number of objects, the oldest
/// have them; objects under deletion count until they are gone.
#[must_use]
pub fn refusals(cluster: &Key, tenants: &[Tenant], objects: &[(&Declared, Demand)]) -> BTreeMap<Key, Refusal> {
    let mut refused = BTreeMap::new();
    let mut taken: BTreeMap<&str, i32> = BTreeMap::new();
    let mut strangers: Vec<&(&Declared, Demand)> = objects.iter().filter(|(d, _)| d.key.0 != cluster.0).collect();
    strangers.sort_by_key(|(d, _)| (d.created.clone(), d.key.clone()));
    for (declared, demand) in strangers {
        match admit(cluster, tenants, declared, *demand, &taken) {
            Ok(tenant) => *taken.entry(&tenant.name).or_default() += 1,
            Err(refusal) => drop(refused.insert(declared.key.clone(), refusal)),
        }
    }
    refused
}

/// The first rule that allows an object, or why the first one that speaks of its namespace does not.
fn admit<'a>(
    cluster: &Key,
    tenants: &'a [Tenant],
    declared: &Declared,
    demand: Demand,
    taken: &BTreeMap<&str, i32>,
) -> Result<&'a Tenant, Refusal> {
    let namespace = &declared.key.0;
    let mut first = None;
    for tenant in tenants.iter().filter(|t| t.namespaces.contains(namespace)) {
        match allows(tenant, &declared.engine_name, demand, taken.get(tenant.name.as_str()).copied().unwrap_or(0)) {
            Ok(()) => return Ok(tenant),
            Err((reason, why)) => {
                let refusal =
                    (reason, format!("rule {} of BrokerCluster {}/{}: {why}", tenant.name, cluster.0, cluster.1));
                first.get_or_insert(refusal);
            }
        }
    }
    Err(first.unwrap_or_else(|| {
        let (home, name) = cluster;
        let message = format!(
            "BrokerCluster {home}/{name} takes no objects from namespace {namespace}: create this one in {home}, or let the cluster's spec.tenants name the namespace"
        );
        (Reason::NamespaceNotAllowed, message)
    }))
}

fn allows(tenant: &Tenant, name: &str, demand: Demand, taken: i32) -> Result<(), Refusal> {
    let (prefixes, most, what) = match demand {
        Demand::Topic { .. } => (&tenant.topic_prefixes, tenant.max_topics, "topic"),
        Demand::ConsumerGroup => (&tenant.group_prefixes, tenant.max_consumer_groups, "consumer group"),
    };
    let forbidden = |why: String| Err((Reason::TenantRuleForbids, why));
    if prefixes.is_empty() {
        return forbidden(format!("it allows no {what}s"));
    }
    if !prefixes.iter().any(|p| name.starts_with(p.as_str())) {
        return forbidden(format!("the name of a {what} must begin with {}, {name} does not", prefixes.join(" or ")));
    }
    if let Demand::Topic { type_, queues } = demand {
        if !tenant.types.is_empty() && !tenant.types.contains(&type_) {
            let types: Vec<String> = tenant.types.iter().map(|t| format!("{t:?}")).collect();
            return forbidden(format!("it allows topics of type {}, not {type_:?}", types.join(" or ")));
        }
        if tenant.max_queues.is_some_and(|most| queues > most) {
            return forbidden(format!("{queues} queues are more than its {}", tenant.max_queues.unwrap_or_default()));
        }
    }
    match most {
        Some(most) if taken >= most => {
            Err((Reason::TenantQuotaExceeded, format!("its {most} {what}s are all taken by older objects")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use gantry_crds::topic::TopicType;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn tenants() -> Vec<Tenant> {
        let rule = |value| serde_json::from_value(value).unwrap();
        vec![
            rule(serde_json::json!({
                "name": "payments", "namespaces": ["pay", "pay-test"], "topicPrefixes": ["pay-", "refund-"], "groupPrefixes": ["pay-"],
                "types": ["Normal", "FIFO"], "maxQueues": 16, "maxTopics": 2,
            })),
            rule(serde_json::json!({"name": "audit", "namespaces": ["pay"], "topicPrefixes": ["audit-"]})),
        ]
    }

    fn declared(namespace: &str, name: &str, created: i64) -> Declared {
        Declared {
            key: (namespace.into(), name.into()),
            created: Some(Time(Timestamp::from_second(created).unwrap())),
            cluster: ("ns".into(), "shop".into()),
            engine_name: name.into(),
            broker_groups: Vec::new(),
            deletion: gantry_crds::topic::DeletionPolicy::Retain,
            deleted: None,
            has_finalizer: false,
            adopts: false,
            policy: None,
            generation: Some(1),
        }
    }

    fn judge(namespace: &str, name: &str, demand: Demand) -> Option<String> {
        let d = declared(namespace, name, 1);
        refusals(&("ns".into(), "shop".into()), &tenants(), &[(&d, demand)])
            .remove(&d.key)
            .map(|(r, m)| format!("{}: {m}", r.as_str()))
    }

    fn topic(type_: TopicType, queues: i32) -> Demand {
        Demand::Topic { type_, queues }
    }

    #[test]
    fn every_rule_refuses_with_its_name_and_what_it_wants() {
        let normal = topic(TopicType::Normal, 8);
        let cases = [
            ("ns", "anything", topic(TopicType::Delay, 1024), None),
            ("pay", "pay-orders", normal, None),
            ("pay-test", "refund-orders", topic(TopicType::FIFO, 16), None),
            ("pay", "audit-log", topic(TopicType::Delay, 1024), None),
            ("pay", "pay-billing", Demand::ConsumerGroup, None),
            (
                "other",
                "pay-orders",
                normal,
                Some(
                    "NamespaceNotAllowed: BrokerCluster ns/shop takes no objects from namespace other: create this one in ns, or let the cluster's spec.tenants name the namespace",
                ),
            ),
            (
                "pay",
                "orders",
                normal,
                Some(
                    "TenantRuleForbids: rule payments of BrokerCluster ns/shop: the name of a topic must begin with pay- or refund-, orders does not",
                ),
            ),
            (
                "pay-test",
                "audit-log",
                normal,
                Some(
                    "TenantRuleForbids: rule payments of BrokerCluster ns/shop: the name of a topic must begin with pay- or refund-, audit-log does not",
                ),
            ),
            (
                "pay",
                "pay-later",
                topic(TopicType::Delay, 8),
                Some(
                    "TenantRuleForbids: rule payments of BrokerCluster ns/shop: it allows topics of type Normal or FIFO, not Delay",
                ),
            ),
            (
                "pay",
                "pay-wide",
                topic(TopicType::Normal, 17),
                Some("TenantRuleForbids: rule payments of BrokerCluster ns/shop: 17 queues are more than its 16"),
            ),
            (
                "pay",
                "refund-billing",
                Demand::ConsumerGroup,
                Some(
                    "TenantRuleForbids: rule payments of BrokerCluster ns/shop: the name of a consumer group must begin with pay-, refund-billing does not",
                ),
            ),
        ];
        for (namespace, name, demand, refused) in cases {
            assert_eq!(judge(namespace, name, demand).as_deref(), refused, "{namespace}/{name}");
        }
    }

    #[test]
    fn the_oldest_have_what_a_rule_allows_in_number() {
        let all = [declared("pay", "pay-c", 3), declared("pay", "pay-a", 1), declared("pay-test", "pay-b", 2)];
        let objects: Vec<_> = all.iter().map(|d| (d, topic(TopicType::Normal, 8))).collect();
        let refused = refusals(&("ns".into(), "shop".into()), &tenants(), &objects);
        assert_eq!(refused.len(), 1);
        let (reason, message) = &refused[&("pay".to_owned(), "pay-c".to_owned())];
        assert_eq!(*reason, Reason::TenantQuotaExceeded);
        assert!(message.ends_with("its 2 topics are all taken by older objects"), "{message}");
    }
}
