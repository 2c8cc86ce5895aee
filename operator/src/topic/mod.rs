//! Kind `Topic`: what is particular to topics. What they share with consumer groups is in `metadata`.

use std::collections::BTreeMap;

use gantry_crds::condition::Condition;
use gantry_crds::policy::ClusterRef;
use gantry_crds::topic::{Permission, Topic, TopicStatus, TopicType};
use gantry_remoting::topic::{MESSAGE_TYPE, TopicChange, TopicConfig};

use crate::engine::system::is_system_topic;
use crate::engine::{BrokerMetadata, EngineWrite};
use crate::metadata::kind::{Abilities, Declared, Demand, Kind, Report, engine_name};

/// Attributes that the engine takes only at creation. Where the object is silent about them, an existing topic keeps them.
const FIXED: [&str; 2] = ["cleanup.policy", "queue.type"];

/// Topics.
pub struct Topics;

impl Kind for Topics {
    type Object = Topic;
    type Status = TopicStatus;
    type Config = TopicConfig;
    type Change = TopicChange;

    const NAME: &'static str = "Topic";

    fn parse(object: &Topic) -> Declared {
        let s = &object.spec;
        Declared {
            broker_groups: s.broker_groups.clone(),
            ..Declared::new(object, &s.cluster_ref, s.topic_name.as_ref(), s.deletion_policy, s.reconcile_policy)
        }
    }

    fn cluster_ref(object: &Topic) -> &ClusterRef {
        &object.spec.cluster_ref
    }

    fn demand(object: &Topic) -> Demand {
        Demand::Topic { type_: object.spec.type_, queues: object.spec.queues }
    }

    fn desired(object: &Topic, current: Option<&TopicConfig>) -> TopicConfig {
        let s = &object.spec;
        let queues = u32::try_from(s.queues).unwrap_or(1);
        let kept = current.into_iter().flat_map(|c| c.attributes.iter()).filter(|(k, _)| FIXED.contains(k));
        let mut attributes: BTreeMap<String, String> = kept.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        attributes.extend(s.attributes.iter().map(|(k, v)| (k.clone(), v.0.clone())));
        // To the engine a topic without a type is a Normal one: it needs no change to be adopted.
        let plain = s.type_ == TopicType::Normal && current.is_some_and(|c| !c.attributes.contains_key(MESSAGE_TYPE));
        if !plain {
            attributes.insert(MESSAGE_TYPE.into(), s.type_.message_type().into());
        }
        TopicConfig {
            topic_name: engine_name(object, s.topic_name.as_ref()),
            read_queue_nums: queues,
            write_queue_nums: queues,
            perm: u32::try_from(s.permission.bits()).unwrap_or(6),
            topic_sys_flag: current.map_or(0, |c| c.topic_sys_flag),
            order: s.order,
            attributes: attributes.into(),
        }
    }

    fn fit(desired: TopicConfig, _: Option<&TopicConfig>, _: &BrokerMetadata) -> TopicConfig {
        desired
    }

    fn completed(current: &TopicConfig, _: &TopicConfig) -> TopicConfig {
        current.clone()
    }

    fn unsupported(object: &Topic, abilities: &Abilities) -> Option<String> {
        let (type_, version) = (object.spec.type_, &abilities.version);
        let has = match type_ {
            TopicType::Normal | TopicType::FIFO | TopicType::Delay | TopicType::Transaction | TopicType::Mixed => true,
            TopicType::Priority => abilities.from([5, 4, 0]),
            TopicType::Lite => abilities.from([5, 5, 0]),
        };
        if !has {
            return Some(format!(
                "RocketMQ {version} has no topics of type {type_:?}: write another type, or a later version"
            ));
        }
        (type_ == TopicType::Lite && !abilities.light_queues).then(|| {
            "the brokers keep no topics of type Lite: write brokers.config {enableLmq: true, enableMultiDispatch: true} into the cluster".to_owned()
        })
    }

    fn gently(current: &TopicConfig, desired: &TopicConfig) -> Option<TopicConfig> {
        let fewer = current.read_queue_nums > desired.read_queue_nums;
        fewer.then(|| TopicConfig { read_queue_nums: current.read_queue_nums, ..desired.clone() })
    }

    fn change(current: Option<&TopicConfig>, desired: &TopicConfig) -> Option<TopicChange> {
        TopicChange::between(current, desired)
    }

    fn refresh(current: &TopicConfig) -> TopicChange {
        TopicChange::refresh(current)
    }

    fn name_of(change: &TopicChange) -> &str {
        &change.config.topic_name
    }

    fn differences(current: &TopicConfig, desired: &TopicConfig) -> Vec<String> {
        let fields = [
            ("queues (read)", current.read_queue_nums.to_string(), desired.read_queue_nums.to_string()),
            ("queues (write)", current.write_queue_nums.to_string(), desired.write_queue_nums.to_string()),
            ("permission", show_bits(current.perm), show_bits(desired.perm)),
            ("order", current.order.to_string(), desired.order.to_string()),
        ];
        let mut found: Vec<String> =
            fields.iter().filter(|(_, c, d)| c != d).map(|(field, c, d)| format!("{field}: {c} → {d}")).collect();
        let (mut theirs, mut ours) = (current.attributes.to_map(), desired.attributes.to_map());
        let (theirs_type, ours_type) = (theirs.remove(MESSAGE_TYPE), ours.remove(MESSAGE_TYPE));
        if theirs_type != ours_type {
            found.push(format!("type: {} → {}", show_type(theirs_type), show_type(ours_type)));
        }
        found.extend(attribute_differences(&theirs, &ours));
        found
    }

    fn held(metadata: &BrokerMetadata) -> &BTreeMap<String, TopicConfig> {
        &metadata.topics
    }

    fn is_system(name: &str, cluster: &str, broker_groups: &[String]) -> bool {
        is_system_topic(name, cluster, broker_groups)
    }

    fn upsert(broker: String, changes: Vec<TopicChange>) -> EngineWrite {
        EngineWrite::UpsertTopics { broker, changes }
    }

    fn delete(
        topics: Vec<String>,
        masters: Vec<String>,
        replicas: Vec<String>,
        name_servers: Vec<String>,
    ) -> EngineWrite {
        EngineWrite::DeleteTopics { masters, replicas, name_servers, topics }
    }

    fn old_status(object: &Topic) -> Option<&TopicStatus> {
        object.status.as_ref()
    }

    fn status(report: Report, old: Option<&TopicStatus>) -> TopicStatus {
        TopicStatus {
            observed_generation: report.generation,
            conditions: report.conditions,
            topic_name: Some(report.engine_name),
            broker_groups: report.broker_groups,
            differences: report.differences,
            adopted: report.adopted || old.is_some_and(|o| o.adopted),
        }
    }

    fn conditions(status: &TopicStatus) -> &[Condition] {
        &status.conditions
    }

    fn held_by(status: &TopicStatus) -> &[String] {
        &status.broker_groups
    }

    fn adopted(status: &TopicStatus) -> bool {
        status.adopted
    }
}

/// The type as objects name it. To the engine a topic without one is a Normal one.
fn show_type(message_type: Option<String>) -> String {
    let Some(held) = message_type else { return format!("{:?}", TopicType::Normal) };
    TopicType::ALL.into_iter().find(|t| t.message_type() == held).map_or(held, |t| format!("{t:?}"))
}

/// Permission bits of the engine as objects name them.
pub(crate) fn show_bits(bits: u32) -> String {
    Permission::of_bits(bits.cast_signed()).map_or_else(|| bits.to_string(), |p| format!("{p:?}"))
}

/// Differences of two sets of attributes, for people.
pub(crate) fn attribute_differences(
    current: &BTreeMap<String, String>,
    desired: &BTreeMap<String, String>,
) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = current.keys().chain(desired.keys()).collect();
    let show = |v: Option<&String>| v.map_or_else(|| "none".to_owned(), Clone::clone);
    names
        .into_iter()
        .filter(|n| current.get(*n) != desired.get(*n))
        .map(|n| format!("attributes.{n}: {} → {}", show(current.get(n)), show(desired.get(n))))
        .collect()
}
