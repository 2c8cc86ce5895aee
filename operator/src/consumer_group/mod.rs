//! Kind `ConsumerGroup`: what is particular to consumer groups. What they share with topics is in `metadata`.

pub mod consumption;
pub mod reset;

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::condition::Condition;
use gantry_crds::consumer_group::{
    ConsumerGroup, ConsumerGroupStatus, Delivery, ExpressionType, LoadBalancing, Retry, Subscription,
};
use gantry_crds::policy::ClusterRef;
use gantry_remoting::group::{
    CustomizedRetry, ExponentialRetry, GroupChange, GroupConfig, RequestMode, RetryPolicy, RetryPolicyKind,
    SimpleSubscription, dead_letter_topic,
};
use gantry_remoting::topic::TopicConfig;

use crate::consumer_group::consumption::figures::is_quiet;
use crate::engine::system::is_system_group;
use crate::engine::{BrokerMetadata, EngineWrite};
use crate::metadata::kind::{Abilities, Declared, Demand, Kind, Report, engine_name};
use crate::quantity;
use crate::topic::{attribute_differences, show_bits};

/// The group in which proxies tell each other of their clients. With autoCreateSubscriptionGroup off nobody else creates it.
pub const PROXY_GROUP: &str = "CID_DefaultHeartBeatSyncerTopic";

/// Consumer groups.
pub struct ConsumerGroups;

impl Kind for ConsumerGroups {
    type Object = ConsumerGroup;
    type Status = ConsumerGroupStatus;
    type Config = GroupConfig;
    type Change = GroupChange;

    const NAME: &'static str = "ConsumerGroup";

    fn parse(object: &ConsumerGroup) -> Declared {
        let s = &object.spec;
        Declared::new(object, &s.cluster_ref, s.group_name.as_ref(), s.deletion_policy, s.reconcile_policy)
    }

    fn cluster_ref(object: &ConsumerGroup) -> &ClusterRef {
        &object.spec.cluster_ref
    }

    fn demand(_: &ConsumerGroup) -> Demand {
        Demand::ConsumerGroup
    }

    fn desired(object: &ConsumerGroup, current: Option<&GroupConfig>) -> GroupConfig {
        let s = &object.spec;
        let name = engine_name(object, s.group_name.as_ref());
        GroupConfig {
            group_name: name.clone(),
            consume_enable: s.enabled,
            consume_from_min_enable: s.consume_from_min,
            consume_broadcast_enable: s.broadcast,
            consume_message_orderly: s.delivery == Delivery::Ordered,
            retry_max_times: s.retry.max_attempts,
            group_retry_policy: retry_policy(&s.retry),
            subscription_data_set: subscriptions(object, current),
            attributes: attributes(object, current),
            request_modes: request_modes(object, current),
            dead_letter_topic: dead_letters(object, current),
            ..current.cloned().unwrap_or_else(|| GroupConfig::new(name))
        }
    }

    fn fit(desired: GroupConfig, current: Option<&GroupConfig>, broker: &BrokerMetadata) -> GroupConfig {
        let held = |topic: &String| current.is_some_and(|c| c.request_modes.contains_key(topic));
        let modes = desired.request_modes.iter().filter(|(t, _)| broker.topics.contains_key(*t) || held(t));
        let request_modes = modes.map(|(t, m)| (t.clone(), *m)).collect();
        GroupConfig { request_modes, ..desired }
    }

    fn completed(current: &GroupConfig, desired: &GroupConfig) -> GroupConfig {
        // Both are requests of their own, after the one that makes the group; a topic may come later than the group.
        let mut modes = desired.request_modes.clone();
        modes.extend(current.request_modes.clone());
        let dead_letter_topic = current.dead_letter_topic.clone().or_else(|| desired.dead_letter_topic.clone());
        GroupConfig { request_modes: modes, dead_letter_topic, ..current.clone() }
    }

    fn unsupported(_: &ConsumerGroup, _: &Abilities) -> Option<String> {
        None
    }

    fn gently(_: &GroupConfig, _: &GroupConfig) -> Option<GroupConfig> {
        None
    }

    fn change(current: Option<&GroupConfig>, desired: &GroupConfig) -> Option<GroupChange> {
        GroupChange::between(current, desired)
    }

    fn refresh(current: &GroupConfig) -> GroupChange {
        GroupChange::refresh(current)
    }

    fn name_of(change: &GroupChange) -> &str {
        &change.config.group_name
    }

    fn differences(current: &GroupConfig, desired: &GroupConfig) -> Vec<String> {
        let show = |c: &GroupConfig| {
            [
                ("enabled", c.consume_enable.to_string()),
                ("consumeFromMin", c.consume_from_min_enable.to_string()),
                ("broadcast", c.consume_broadcast_enable.to_string()),
                ("delivery", format!("{:?}", delivery(c))),
                ("retry.maxAttempts", c.retry_max_times.to_string()),
                ("retry.exponential", show_exponential(&c.group_retry_policy)),
                ("retry.intervals", show_intervals(&c.group_retry_policy)),
                ("subscriptions", show_subscriptions(c)),
                ("loadBalancing", show_modes(c)),
                ("deadLetterTopic.permission", show_permission(c.dead_letter_topic.as_ref())),
            ]
        };
        let pairs = show(current).into_iter().zip(show(desired));
        let mut found: Vec<String> =
            pairs.filter(|(c, d)| c != d).map(|((field, c), (_, d))| format!("{field}: {c} → {d}")).collect();
        found.extend(attribute_differences(&current.attributes, &desired.attributes));
        found
    }

    fn held(metadata: &BrokerMetadata) -> &BTreeMap<String, GroupConfig> {
        &metadata.groups
    }

    fn is_system(name: &str, _: &str, _: &[String]) -> bool {
        is_system_group(name)
    }

    fn upsert(broker: String, changes: Vec<GroupChange>) -> EngineWrite {
        EngineWrite::UpsertGroups { broker, changes }
    }

    fn delete(groups: Vec<String>, masters: Vec<String>, _: Vec<String>, _: Vec<String>) -> EngineWrite {
        EngineWrite::DeleteGroups { masters, groups, clean_offsets: true }
    }

    fn old_status(object: &ConsumerGroup) -> Option<&ConsumerGroupStatus> {
        object.status.as_ref()
    }

    fn status(report: Report, old: Option<&ConsumerGroupStatus>) -> ConsumerGroupStatus {
        let former = old.and_then(|o| o.consumption.clone());
        // A group that never did anything needs no write to say so.
        let told = report.consumption.filter(|c| former.is_some() || !is_quiet(c));
        ConsumerGroupStatus {
            consumption: told.or(former),
            observed_generation: report.generation,
            conditions: report.conditions,
            group_name: Some(report.engine_name),
            broker_groups: report.broker_groups,
            differences: report.differences,
            adopted: report.adopted || old.is_some_and(|o| o.adopted),
            reset_offset: old.and_then(|o| o.reset_offset.clone()),
        }
    }

    fn conditions(status: &ConsumerGroupStatus) -> &[Condition] {
        &status.conditions
    }

    fn held_by(status: &ConsumerGroupStatus) -> &[String] {
        &status.broker_groups
    }

    fn adopted(status: &ConsumerGroupStatus) -> bool {
        status.adopted
    }
}

/// The proxies' own group as it should be on every master.
#[must_use]
pub fn proxy_group(current: Option<&GroupConfig>) -> GroupConfig {
    let config = current.cloned().unwrap_or_else(|| GroupConfig::new(PROXY_GROUP));
    GroupConfig { consume_broadcast_enable: true, consume_enable: true, ..config }
}

/// With the permission that is declared; without a word about it, as the engine has it.
fn dead_letters(object: &ConsumerGroup, current: Option<&GroupConfig>) -> Option<TopicConfig> {
    let held = current.and_then(|c| c.dead_letter_topic.clone());
    let Some(declared) = &object.spec.dead_letter_topic else { return held };
    let topic = held.unwrap_or_else(|| {
        TopicConfig::new(dead_letter_topic(&engine_name(object, object.spec.group_name.as_ref())), 1)
    });
    Some(TopicConfig { perm: u32::try_from(declared.permission.bits()).unwrap_or(topic.perm), ..topic })
}

fn delivery(config: &GroupConfig) -> Delivery {
    if config.consume_message_orderly { Delivery::Ordered } else { Delivery::Concurrent }
}

fn show_exponential(policy: &RetryPolicy) -> String {
    match (policy.kind, &policy.exponential_retry_policy) {
        (RetryPolicyKind::Exponential, Some(e)) => {
            format!("{} × {}, at most {}", show_interval(e.initial), e.multiplier, show_interval(e.max))
        }
        (RetryPolicyKind::Exponential, None) => "the engine's".to_owned(),
        (RetryPolicyKind::Customized, _) => "none".to_owned(),
    }
}

fn show_intervals(policy: &RetryPolicy) -> String {
    match (policy.kind, &policy.customized_retry_policy) {
        (RetryPolicyKind::Customized, Some(list)) => {
            list.next.iter().map(|ms| show_interval(*ms)).collect::<Vec<_>>().join(", ")
        }
        (RetryPolicyKind::Customized, None) => "the engine's".to_owned(),
        (RetryPolicyKind::Exponential, _) => "none".to_owned(),
    }
}

fn show_interval(ms: i64) -> String {
    quantity::interval(ms).unwrap_or_else(|| format!("{ms}ms"))
}

fn show_permission(topic: Option<&TopicConfig>) -> String {
    topic.map_or_else(|| "no such topic".to_owned(), |topic| show_bits(topic.perm))
}

/// What is declared; without a word about it, as the engine has it.
fn subscriptions(object: &ConsumerGroup, current: Option<&GroupConfig>) -> Option<BTreeSet<SimpleSubscription>> {
    let held = current.and_then(|c| c.subscription_data_set.clone());
    if object.spec.subscriptions.is_empty() {
        return held;
    }
    let of = |s: &Subscription| {
        let kind = match s.expression_type {
            ExpressionType::TAG => "TAG",
            ExpressionType::SQL92 => "SQL92",
        };
        let same = |h: &&SimpleSubscription| {
            h.topic == s.topic
                && h.expression.as_deref() == Some(&*s.expression)
                && h.expression_type.as_deref() == Some(kind)
        };
        // The version is the engine's affair.
        let version = held.iter().flatten().find(same).map_or(0, |h| h.version);
        SimpleSubscription {
            topic: s.topic.clone(),
            expression_type: Some(kind.to_owned()),
            expression: Some(s.expression.clone()),
            version,
        }
    };
    Some(object.spec.subscriptions.iter().map(of).collect())
}

fn attributes(object: &ConsumerGroup, current: Option<&GroupConfig>) -> BTreeMap<String, String> {
    let mut attributes = current.map(|c| c.attributes.clone()).unwrap_or_default();
    attributes.extend(object.spec.attributes.iter().map(|(k, v)| (k.clone(), v.0.clone())));
    attributes
}

fn request_modes(object: &ConsumerGroup, current: Option<&GroupConfig>) -> BTreeMap<String, RequestMode> {
    let mut modes = current.map(|c| c.request_modes.clone()).unwrap_or_default();
    if let Some(sharing) = object.spec.load_balancing {
        let mode = match sharing {
            LoadBalancing::Message => RequestMode::Pop,
            LoadBalancing::Queue => RequestMode::Pull,
        };
        modes.extend(object.spec.subscriptions.iter().map(|s| (s.topic.clone(), mode)));
    }
    modes
}

fn show_subscriptions(config: &GroupConfig) -> String {
    let show = |s: &SimpleSubscription| {
        format!(
            "{} {} {}",
            s.topic,
            s.expression_type.as_deref().unwrap_or("TAG"),
            s.expression.as_deref().unwrap_or("*")
        )
    };
    or_none(config.subscription_data_set.iter().flatten().map(show).collect())
}

fn show_modes(config: &GroupConfig) -> String {
    let show = |(topic, mode): (&String, &RequestMode)| match mode {
        RequestMode::Pop => format!("{topic} Message"),
        RequestMode::Pull => format!("{topic} Queue"),
    };
    or_none(config.request_modes.iter().map(show).collect())
}

fn or_none(shown: Vec<String>) -> String {
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn retry_policy(retry: &Retry) -> RetryPolicy {
    if let Some(e) = &retry.exponential {
        let waits = ExponentialRetry {
            initial: quantity::milliseconds(&e.initial),
            max: quantity::milliseconds(&e.max),
            multiplier: i64::from(e.multiplier),
        };
        return RetryPolicy {
            kind: RetryPolicyKind::Exponential,
            exponential_retry_policy: Some(waits),
            customized_retry_policy: None,
        };
    }
    let next: Vec<i64> = retry.intervals.iter().map(|i| quantity::milliseconds(i)).collect();
    RetryPolicy {
        kind: RetryPolicyKind::Customized,
        exponential_retry_policy: None,
        // None: the engine's own list, from 10 s to 2 h.
        customized_retry_policy: (!next.is_empty()).then_some(CustomizedRetry { next }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_milliseconds() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("", 0), ("x", 0)] {
            assert_eq!(quantity::milliseconds(text), ms, "{text}");
        }
    }

    #[test]
    fn what_the_object_does_not_speak_of_stays_as_the_engine_has_it() {
        let object: ConsumerGroup = serde_json::from_value(serde_json::json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "ConsumerGroup", "metadata": {"name": "billing"},
            "spec": {"clusterRef": {"name": "shop"}, "delivery": "Ordered", "retry": {"maxAttempts": 3}},
        }))
        .unwrap();
        let current = GroupConfig { consume_timeout_minute: 99, ..GroupConfig::new("billing") };
        let desired = ConsumerGroups::desired(&object, Some(&current));
        assert_eq!(
            (desired.consume_timeout_minute, desired.consume_message_orderly, desired.retry_max_times),
            (99, true, 3)
        );
        assert_eq!(
            ConsumerGroups::differences(&current, &desired),
            ["broadcast: true → false", "delivery: Concurrent → Ordered", "retry.maxAttempts: 16 → 3"]
        );
    }
}
