//! From what a broker holds to the spec that declares it: only what is not the default. Pure.

use std::collections::BTreeSet;

use gantry_crds::consumer_group::{ExpressionType, LoadBalancing, Subscription};
use gantry_crds::topic::{Permission, TopicType};
use gantry_remoting::group::{ExponentialRetry, GroupConfig, RequestMode, RetryPolicyKind, SimpleSubscription};
use gantry_remoting::topic::{MESSAGE_TYPE, TopicConfig};
use serde_json::{Map, Value, json};

use crate::quantity::interval;

type Fields = Map<String, Value>;

/// The spec of a topic, without `clusterRef` and `topicName`. What it can't say is left out: the caller compares.
#[must_use]
pub fn of_topic(held: &TopicConfig) -> Fields {
    let mut spec = Fields::new();
    let kind = held.attributes.get(MESSAGE_TYPE);
    if let Some(type_) = TopicType::ALL
        .into_iter()
        .filter(|t| *t != TopicType::Normal)
        .find(|t| kind.is_some_and(|k| k == t.message_type()))
    {
        spec.insert("type".into(), json!(type_));
    }
    spec.insert("queues".into(), json!(held.write_queue_nums.clamp(1, 1024)));
    if let Some(p) = Permission::of_bits(held.perm.cast_signed()).filter(|p| *p != Permission::ReadWrite) {
        spec.insert("permission".into(), json!(p));
    }
    if held.order {
        spec.insert("order".into(), json!(true));
    }
    let attributes: Fields =
        held.attributes.iter().filter(|(k, _)| *k != MESSAGE_TYPE).map(|(k, v)| (k.to_owned(), json!(v))).collect();
    if !attributes.is_empty() {
        spec.insert("attributes".into(), Value::Object(attributes));
    }
    spec
}

/// The spec of a consumer group that brokers hold so, without `clusterRef` and `groupName`. Of what an object need not speak only that is in it which is
/// the same everywhere: the rest stays as each broker has it.
#[must_use]
pub fn of_group(all: &[&GroupConfig]) -> Option<Fields> {
    let held = *all.first()?;
    let mut spec = Fields::new();
    if held.consume_message_orderly {
        spec.insert("delivery".into(), json!("Ordered"));
    } else if held.consume_broadcast_enable {
        spec.insert("broadcast".into(), json!(true));
    }
    if !held.consume_enable {
        spec.insert("enabled".into(), json!(false));
    }
    if !held.consume_from_min_enable {
        spec.insert("consumeFromMin".into(), json!(false));
    }
    let retry = retry(held);
    if !retry.is_empty() {
        spec.insert("retry".into(), Value::Object(retry));
    }
    let dead_letters = held.dead_letter_topic.as_ref().and_then(|t| Permission::of_bits(t.perm.cast_signed()));
    if dead_letters == Some(Permission::WriteOnly) {
        spec.insert("deadLetterTopic".into(), json!({"permission": Permission::WriteOnly}));
    }
    spec.extend(said_alike(held, all));
    Some(spec)
}

/// Of what an object need not speak, what is the same on all brokers.
fn said_alike(held: &GroupConfig, all: &[&GroupConfig]) -> Fields {
    let mut spec = Fields::new();
    let alike = all.iter().all(|g| g.subscription_data_set == held.subscription_data_set);
    if let Some(subscriptions) = subscriptions(held).filter(|_| alike) {
        let modes = all.iter().flat_map(|g| subscriptions.iter().map(|s| g.request_modes.get(&s.topic)));
        let modes: BTreeSet<Option<&RequestMode>> = modes.collect();
        let sharing = match modes.into_iter().collect::<Vec<_>>()[..] {
            [Some(RequestMode::Pop)] => Some(LoadBalancing::Message),
            [Some(RequestMode::Pull)] => Some(LoadBalancing::Queue),
            _ => None,
        };
        spec.extend(sharing.map(|s| ("loadBalancing".to_owned(), json!(s))));
        spec.insert("subscriptions".into(), json!(subscriptions));
    }
    let is_name = |key: &str| {
        let allowed = key.bytes().all(|b| b.is_ascii_lowercase() || b == b'.');
        allowed && !key.starts_with('.') && (1..=64).contains(&key.len())
    };
    let same =
        |(key, value): &(&String, &String)| is_name(key) && all.iter().all(|g| g.attributes.get(*key) == Some(*value));
    let attributes: Fields = held.attributes.iter().filter(same).take(16).map(|(k, v)| (k.clone(), json!(v))).collect();
    if !attributes.is_empty() {
        spec.insert("attributes".into(), Value::Object(attributes));
    }
    spec
}

/// All subscriptions that a group has, or none where an object can't say one of them.
fn subscriptions(held: &GroupConfig) -> Option<Vec<Subscription>> {
    let of = |s: &SimpleSubscription| {
        let expression_type = match s.expression_type.as_deref()? {
            "TAG" => ExpressionType::TAG,
            "SQL92" => ExpressionType::SQL92,
            _ => return None,
        };
        let expression = s.expression.clone().filter(|e| (1..=1024).contains(&e.chars().count()))?;
        let is_topic =
            !s.topic.starts_with('%') && s.topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"%|_-".contains(&b));
        is_topic.then(|| Subscription { topic: s.topic.clone(), expression, expression_type })
    };
    let all: Vec<Subscription> = held.subscription_data_set.iter().flatten().map(of).collect::<Option<_>>()?;
    let topics: BTreeSet<&String> = all.iter().map(|s| &s.topic).collect();
    ((1..=256).contains(&all.len()) && topics.len() == all.len()).then_some(all)
}

fn retry(held: &GroupConfig) -> Fields {
    let mut retry = Fields::new();
    if held.retry_max_times != 16 && (0..=1000).contains(&held.retry_max_times) {
        retry.insert("maxAttempts".into(), json!(held.retry_max_times));
    }
    let policy = &held.group_retry_policy;
    match (policy.kind, &policy.exponential_retry_policy, &policy.customized_retry_policy) {
        (RetryPolicyKind::Exponential, Some(e), _) => {
            drop(exponential(e).map(|e| retry.insert("exponential".into(), e)))
        }
        (RetryPolicyKind::Customized, _, Some(list)) => {
            let intervals: Option<Vec<String>> = list.next.iter().map(|ms| interval(*ms)).collect();
            if let Some(intervals) = intervals.filter(|i| (1..=32).contains(&i.len())) {
                retry.insert("intervals".into(), json!(intervals));
            }
        }
        _ => {}
    }
    retry
}

fn exponential(held: &ExponentialRetry) -> Option<Value> {
    let coarse = |ms| interval(ms).filter(|d| !d.ends_with("ms"));
    let (initial, max) = (coarse(held.initial)?, coarse(held.max)?);
    let sane = (2..=5).contains(&held.multiplier);
    sane.then(|| json!({"initial": initial, "max": max, "multiplier": held.multiplier}))
}
