//! From what a broker holds to the spec that declares it: only what is not the default. Pure.

use gantry_crds::topic::{Permission, TopicType};
use gantry_remoting::group::{ExponentialRetry, GroupConfig, RetryPolicyKind};
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

/// The spec of a consumer group, without `clusterRef` and `groupName`.
#[must_use]
pub fn of_group(held: &GroupConfig) -> Fields {
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
    spec
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
