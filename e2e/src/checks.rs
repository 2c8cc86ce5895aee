//! What must hold of a cluster after something was done to it, asked of the engine itself: topics and consumer groups as declared on every replica,
//! no group of consumers behind where it was, one identity a replica, replicas apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_remoting::group::{GetAllGroups, GroupConfig};
use gantry_remoting::stats::{GetAllConsumerOffsets, QueueOffsets};
use gantry_remoting::topic::{GetAllTopics, MESSAGE_TYPE, READ, TopicConfig, WRITE};
use serde_json::Value;

use crate::engine::{BROKER, Engine};
use crate::kubectl::{Namespace, kubectl};
use crate::wait::{Answer, until};

/// Replicas copy from their masters every few seconds, consumers tell where they are as often.
const SETTLES: Duration = Duration::from_secs(180);

/// A topic or consumer group as somebody declared it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Declared {
    Topic { name: String, type_: String, queues: u32 },
    Group { name: String, ordered: bool },
}

impl Declared {
    fn of(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let name = |key: &str| spec[key].as_str().or(object["metadata"]["name"].as_str()).map(Into::into);
        Some(if object["kind"] == "Topic" {
            let queues = spec["queues"].as_u64().and_then(|n| u32::try_from(n).ok())?;
            Self::Topic { name: name("topicName")?, type_: spec["type"].as_str()?.to_uppercase(), queues }
        } else {
            Self::Group { name: name("groupName")?, ordered: spec["delivery"] == "Ordered" }
        })
    }

    /// What a broker has otherwise, in words.
    fn difference(
        &self,
        topics: &BTreeMap<String, TopicConfig>,
        groups: &BTreeMap<String, GroupConfig>,
    ) -> Option<String> {
        match self {
            Self::Topic { name, type_, queues } => {
                let Some(topic) = topics.get(name) else { return Some(format!("topic {name} is not there")) };
                let right = (topic.read_queue_nums, topic.write_queue_nums) == (*queues, *queues)
                    && topic.perm == READ | WRITE
                    && topic.attributes.get(MESSAGE_TYPE) == Some(type_);
                (!right).then(|| format!("topic {name} is {topic:?}"))
            }
            Self::Group { name, ordered } => match groups.get(name) {
                None => Some(format!("consumer group {name} is not there")),
                Some(group) if group.consume_message_orderly != *ordered || !group.consume_enable => {
                    Some(format!("consumer group {name} is {group:?}"))
                }
                Some(_) => None,
            },
        }
    }
}

/// Every topic and consumer group that is declared in the namespace is on every broker as declared, masters and replicas alike.
///
/// # Errors
/// Where one is not, after the time that copying takes.
pub fn metadata_is_as_declared(namespace: &Namespace) -> Result<()> {
    let kinds = "topics.rocketmq.gantry.dev,consumergroups.rocketmq.gantry.dev";
    let objects = namespace.list(kinds, "")?;
    let declared: Vec<Declared> = objects.iter().filter_map(Declared::of).collect();
    ensure!(
        !declared.is_empty() && declared.len() == objects.len(),
        "{} of {} understood",
        declared.len(),
        objects.len()
    );
    until("topics and consumer groups are as declared on every broker", SETTLES, || {
        let mut differences = Vec::new();
        let brokers = Engine::of(namespace).members("broker")?;
        ensure!(!brokers.is_empty(), "there is no broker");
        for broker in brokers {
            let (topics, groups) = (broker.ask(BROKER, &GetAllTopics)?, broker.ask(BROKER, &GetAllGroups)?);
            let of_it = declared.iter().filter_map(|d| d.difference(&topics, &groups));
            differences.extend(of_it.map(|d| format!("{}: {d}", broker.pod)));
        }
        Ok(Answer::when(differences.is_empty(), (), || differences.join("; ")))
    })
}

/// Where consumer groups of readers were: offsets by broker group, topic and consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress(BTreeMap<(String, String, String), QueueOffsets>);

impl Progress {
    /// By what the masters say.
    ///
    /// # Errors
    /// Where a broker does not answer.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let mut all = BTreeMap::new();
        for master in Engine::of(namespace).masters()? {
            for ((topic, group), offsets) in master.ask(BROKER, &GetAllConsumerOffsets)? {
                if group.ends_with("-readers") && !topic.starts_with('%') {
                    all.insert((master.group().to_owned(), topic, group), offsets);
                }
            }
        }
        ensure!(!all.is_empty(), "no master knows where readers are");
        Ok(Self(all))
    }

    /// Queues in which a group is behind where it was, or of which the master has forgotten where it was.
    fn behind(&self, before: &Self) -> Vec<String> {
        let mut behind = Vec::new();
        for (key, queues) in &before.0 {
            let now = self.0.get(key);
            for (queue, was) in queues {
                let is = now.and_then(|queues| queues.get(queue));
                if is.is_none_or(|is| is < was) {
                    behind.push(format!("{} in queue {queue} of {} on {}: {was}, now {is:?}", key.2, key.1, key.0));
                }
            }
        }
        behind
    }

    /// Waits until readers are at least where they were: offsets that a new master lacks would be read again, or skipped.
    ///
    /// # Errors
    /// Where one stays behind.
    pub fn is_passed(&self, namespace: &Namespace) -> Result<()> {
        until("readers are at least where they were", SETTLES, || {
            let behind = Self::of(namespace)?.behind(self);
            Ok(Answer::when(behind.is_empty(), (), || behind.join("; ")))
        })
    }
}

/// The controllers have one identity for each replica of each group: those of lost volumes are forgotten.
///
/// # Errors
/// Where one has more, after a while.
pub fn one_identity_each(namespace: &Namespace) -> Result<()> {
    let engine = Engine::of(namespace);
    until("the controllers have one identity a replica", SETTLES, || {
        let brokers = engine.members("broker")?;
        let groups: BTreeSet<String> = brokers.iter().map(|b| b.group().to_owned()).collect();
        let known = engine.sync_state(&groups.iter().cloned().collect::<Vec<_>>())?;
        for group in &groups {
            let pods = brokers.iter().filter(|b| b.group() == group).count();
            let state = known.get(group).with_context(|| format!("the controllers don't know {group}"))?;
            let all: Vec<_> = state.in_sync_replicas.iter().chain(&state.not_in_sync_replicas).collect();
            ensure!(all.len() == pods, "{group} has {pods} pods and the identities {all:?}");
        }
        Ok(Answer::Yes(()))
    })
}

/// No broker has found that the index of a queue lacks a message, which readers then never see at that replica (docs/design/0012-guard.md).
///
/// # Errors
/// Where one said so in the last quarter of an hour.
pub fn nothing_is_hidden(namespace: &Namespace) -> Result<()> {
    for broker in Engine::of(namespace).members("broker")? {
        let log = namespace.kubectl(&["logs", &broker.pod, "--since=15m"])?;
        let gap = log.lines().find(|line| line.contains("logic queue order maybe wrong"));
        ensure!(gap.is_none(), "{} lacks a message in a queue: {gap:?}", broker.pod);
    }
    Ok(())
}

/// Events of a reason in the namespace, each with how often it was said.
///
/// # Errors
/// Where kubectl fails.
pub fn events(namespace: &Namespace, reason: &str) -> Result<BTreeSet<String>> {
    let field = format!("reason={reason}");
    let text = namespace.kubectl(&["get", "events", "--field-selector", &field, "-o", "json"])?;
    let list: Value = serde_json::from_str(&text)?;
    let said = |e: &Value| format!("{} {} {}", e["metadata"]["uid"], e["series"]["count"], e["message"]);
    Ok(list["items"].as_array().into_iter().flatten().map(said).collect())
}

/// Waits until an Event of this reason was said that is not among those `before`.
///
/// # Errors
/// After three minutes.
pub fn said_since(namespace: &Namespace, reason: &str, before: &BTreeSet<String>) -> Result<()> {
    until(&format!("an Event says {reason}"), SETTLES, || {
        let now = events(namespace, reason)?;
        Ok(Answer::when(!now.is_subset(before), (), || format!("{now:?}")))
    })
}

/// Replicas of each broker group are on different nodes, as far as there are nodes, and in different zones, as far as there are zones.
///
/// # Errors
/// Where two share one although another has none.
pub fn replicas_are_apart(namespace: &Namespace) -> Result<()> {
    let list: Value = serde_json::from_str(&kubectl(&["get", "nodes", "-o", "json"])?)?;
    let zones: BTreeMap<String, String> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|n| {
            let (name, zone) = (&n["metadata"]["name"], &n["metadata"]["labels"]["topology.kubernetes.io/zone"]);
            Some((name.as_str()?.to_owned(), zone.as_str().unwrap_or_default().to_owned()))
        })
        .collect();
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for broker in Engine::of(namespace).members("broker")? {
        of.entry(broker.group().to_owned()).or_default().push(broker.node);
    }
    ensure!(!of.is_empty(), "there is no broker");
    for (group, nodes) in of {
        apart(&nodes, &zones).with_context(|| group)?;
    }
    Ok(())
}

fn apart(nodes: &[String], zones: &BTreeMap<String, String>) -> Result<()> {
    let zone = |node: &String| zones.get(node).cloned().unwrap_or_default();
    let (used, all): (BTreeSet<&String>, BTreeSet<&String>) = (nodes.iter().collect(), zones.keys().collect());
    let wanted = nodes.len().min(all.len());
    ensure!(used.len() >= wanted, "replicas are on {nodes:?}");
    let (used, all): (BTreeSet<String>, BTreeSet<&String>) =
        (nodes.iter().map(zone).collect(), zones.values().collect());
    let wanted = nodes.len().min(all.len());
    ensure!(used.len() >= wanted, "replicas are on {nodes:?}, in zones {used:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_topic_or_group_that_a_broker_lacks_or_has_otherwise_is_named() {
        let topic = json!({"kind": "Topic", "metadata": {"name": "t"}, "spec": {"type": "Fifo", "queues": 4}});
        let group = json!({"kind": "ConsumerGroup", "metadata": {"name": "g"}, "spec": {"delivery": "Ordered"}});
        let declared: Vec<Declared> = [topic, group].iter().filter_map(Declared::of).collect();
        let differ = |topic: Option<&TopicConfig>, group: Option<&GroupConfig>| {
            let topics = topic.into_iter().map(|t| (t.topic_name.clone(), t.clone())).collect();
            let groups = group.into_iter().map(|g| (g.group_name.clone(), g.clone())).collect();
            declared.iter().filter_map(|d| d.difference(&topics, &groups)).count()
        };
        let right = TopicConfig::new("t", 4).with_attribute(MESSAGE_TYPE, "FIFO");
        let orderly = GroupConfig { consume_message_orderly: true, ..GroupConfig::new("g") };
        assert_eq!(differ(Some(&right), Some(&orderly)), 0);
        assert_eq!(differ(None, None), 2);
        let wrong = [
            TopicConfig { read_queue_nums: 8, ..right.clone() },
            TopicConfig { perm: READ, ..right.clone() },
            TopicConfig::new("t", 4).with_attribute(MESSAGE_TYPE, "NORMAL"),
        ];
        for topic in wrong {
            assert_eq!(differ(Some(&topic), Some(&orderly)), 1, "{topic:?}");
        }
        assert_eq!(differ(Some(&right), Some(&GroupConfig::new("g"))), 1);
    }

    #[test]
    fn a_group_that_a_new_master_knows_less_of_is_behind() {
        let progress = |offsets: &[(u32, i64)]| {
            let key = ("b".to_owned(), "t".to_owned(), "t-readers".to_owned());
            Progress([(key, offsets.iter().copied().collect())].into())
        };
        let before = progress(&[(0, 10), (1, 20)]);
        assert_eq!(progress(&[(0, 10), (1, 25)]).behind(&before).len(), 0);
        assert_eq!(progress(&[(0, 9), (1, 25)]).behind(&before).len(), 1);
        assert_eq!(progress(&[(1, 25)]).behind(&before).len(), 1);
        assert_eq!(Progress::default().behind(&before).len(), 2);
    }

    #[test]
    fn replicas_share_a_node_or_zone_only_where_there_are_too_few() {
        let zones = |of: &[(&str, &str)]| of.iter().map(|(n, z)| ((*n).to_owned(), (*z).to_owned())).collect();
        let nodes = |of: &[&str]| of.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let three = zones(&[("n0", "a"), ("n1", "b"), ("n2", "b")]);
        assert!(apart(&nodes(&["n0", "n1", "n2"]), &three).is_ok());
        assert!(apart(&nodes(&["n0", "n1", "n1"]), &three).is_err());
        assert!(apart(&nodes(&["n1", "n2"]), &three).is_err());
        assert!(apart(&nodes(&["n0", "n0", "n0"]), &zones(&[("n0", "")])).is_ok());
    }
}
