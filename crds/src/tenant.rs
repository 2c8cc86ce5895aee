//! Who may use a cluster from other namespaces.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::topic::TopicType;

/// Allows objects of other namespaces, within limits. What no rule allows is refused with the rule named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.topicPrefixes) && self.topicPrefixes.size() > 0) || (has(self.groupPrefixes) && self.groupPrefixes.size() > 0)")
        .message("a tenant allows neither topics nor consumer groups: write topicPrefixes or groupPrefixes"),
    validation = Rule::new("!(has(self.maxTopics) || has(self.maxQueues) || has(self.types)) || (has(self.topicPrefixes) && self.topicPrefixes.size() > 0)")
        .message("types, maxTopics and maxQueues limit topics, and this tenant allows none: write topicPrefixes"),
    validation = Rule::new("!has(self.maxConsumerGroups) || (has(self.groupPrefixes) && self.groupPrefixes.size() > 0)")
        .message("maxConsumerGroups limits consumer groups, and this tenant allows none: write groupPrefixes")
)]
pub struct Tenant {
    /// Name of the rule, as refusals cite it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("a tenant's name holds only a-z, 0-9 and '-': write e.g. payments"))]
    pub name: String,
    /// Namespaces whose objects it allows, 1 to 64.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
        .message("namespaces holds what is no namespace: write its name, of a-z, 0-9 and '-'"))]
    pub namespaces: Vec<String>,
    /// Topics that it allows: their names in the engine begin with one of these. Default: none, so no topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 127)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^[|a-zA-Z0-9_-][%|a-zA-Z0-9_-]*$'))")
        .message("topicPrefixes holds what no topic's name begins with: write letters, digits, '_', '-', '|' and, not first, '%'"))]
    pub topic_prefixes: Vec<String>,
    /// Consumer groups that it allows: their names in the engine begin with one of these. Default: none, so no consumer groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 120)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^[|a-zA-Z0-9_-][%|a-zA-Z0-9_-]*$'))")
        .message("groupPrefixes holds what no group's name begins with: write letters, digits, '_', '-', '|' and, not first, '%'"))]
    pub group_prefixes: Vec<String>,
    /// Types of topics that it allows. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub types: Vec<TopicType>,
    /// Most queues of a topic on each broker group, 1 to 1024. Default: no limit but the topic's own of 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_queues: Option<i32>,
    /// Most topics, over all its namespaces, 1 to 100000. The oldest objects have them. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_topics: Option<i32>,
    /// Most consumer groups, over all its namespaces, 1 to 100000. The oldest objects have them. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_consumer_groups: Option<i32>,
}
