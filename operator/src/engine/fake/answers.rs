//! What the world answers.

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::broker::EpochEntry;
use gantry_remoting::consumption::GroupConsumption;
use gantry_remoting::stats::{ConsumeStats, ConsumerConnections, MessageQueue, TopicOffset, TopicStats};

use super::super::{
    BrokerConsumption, BrokerFacts, BrokerMetadata, BrokerRuntime, ClusterAddresses, ConsumerOffsets, ControllerFacts,
    ControllerLeader, EngineError, EngineFacts, Fact, GroupFacts, Registered, ReplicaFacts, Replication,
};
use super::world::{Broker, Group, Life, Process, World};

impl World {
    /// The process, if it answers.
    pub(super) fn reached(&self, address: &str, request: &str) -> Result<&Process, EngineError> {
        match self.process(address) {
            Some(process) if process.serves() => Ok(process),
            Some(process) if process.silent_since().is_some() && process.life != Life::Down => {
                let (address, request) = (address.to_owned(), request.to_owned());
                Err(EngineError::EngineTimedOut { address, request, after_ms: 3000 })
            }
            Some(_) => Err(EngineError::unreachable(address, "connection refused")),
            None => Err(EngineError::unreachable(address, "no such name")),
        }
    }

    pub(super) fn broker(&self, address: &str, request: &str) -> Result<&Broker, EngineError> {
        self.reached(address, request)?;
        self.brokers.get(address).ok_or_else(|| EngineError::unreachable(address, "not a broker"))
    }

    /// The leader, if one of `controllers` that answers knows one.
    pub(super) fn known_leader(&self, controllers: &[String]) -> Option<&str> {
        let answers = controllers.iter().any(|address| self.controllers.contains_key(address) && self.serves(address));
        self.leader.as_deref().filter(|_| answers)
    }

    pub(super) fn observe(&self, addresses: &ClusterAddresses) -> EngineFacts {
        let leader = self.known_leader(&addresses.controllers).is_some();
        let group = |name: &String| match leader {
            true => Fact::Known(self.groups.get(name).map(|group| self.group_facts(group))),
            false => {
                Fact::Unknown { unknown: EngineError::NoControllerLeader { cluster: addresses.cluster.to_string() } }
            }
        };
        let keyed = |addresses: &[String]| addresses.to_vec();
        EngineFacts {
            name_servers: keyed(&addresses.name_servers)
                .into_iter()
                .map(|at| (at.clone(), self.registered(&at).into()))
                .collect(),
            controllers: keyed(&addresses.controllers)
                .into_iter()
                .map(|at| (at.clone(), self.controller_facts(&at).into()))
                .collect(),
            groups: addresses.groups.keys().map(|name| (name.clone(), group(name))).collect(),
            brokers: addresses.groups.values().flatten().map(|at| (at.clone(), self.broker_facts(at))).collect(),
        }
    }

    fn registered(&self, address: &str) -> Result<Vec<Registered>, EngineError> {
        self.reached(address, "GET_BROKER_CLUSTER_INFO")?;
        Ok(self
            .name_servers
            .get(address)
            .map(|name_server| name_server.brokers.iter().cloned().collect())
            .unwrap_or_default())
    }

    fn controller_facts(&self, address: &str) -> Result<ControllerFacts, EngineError> {
        self.reached(address, "CONTROLLER_GET_METADATA_INFO")?;
        let id = |address: &str| format!("n{}", self.controllers.keys().position(|one| one == address).unwrap_or(0));
        let leader =
            self.leader_of(address).map(|leader| ControllerLeader { id: id(leader), address: leader.to_owned() });
        let peers = self.controllers.keys().map(|address| (id(address), address.clone())).collect();
        Ok(ControllerFacts { is_leader: self.leader.as_deref() == Some(address), leader, peers })
    }

    fn group_facts(&self, group: &Group) -> GroupFacts {
        let replica = |(id, address): (&u64, &String)| ReplicaFacts {
            id: *id,
            address: address.clone(),
            alive: self.is_alive(group, *id),
        };
        let (in_sync, not_in_sync): (Vec<_>, Vec<_>) =
            group.replicas.iter().map(replica).partition(|replica| group.in_sync.contains(&replica.id));
        GroupFacts {
            master_id: group.master,
            master_address: group.master.and_then(|master| group.replicas.get(&master)).cloned(),
            master_epoch: group.epoch,
            sync_state_set_epoch: group.in_sync_epoch,
            in_sync,
            not_in_sync,
        }
    }

    /// Is this broker what its group's controllers call master?
    pub(super) fn is_master(&self, address: &str) -> bool {
        let Some(broker) = self.brokers.get(address) else { return false };
        let group = self.groups.get(&broker.group);
        group.is_some_and(|group| group.master.is_some() && group.master == broker.disk.id)
    }

    fn broker_facts(&self, address: &str) -> BrokerFacts {
        let master = self.is_master(address);
        let replication = |broker: &Broker| {
            let group = self.groups.get(&broker.group);
            Replication {
                master,
                max_offset: i64::try_from(broker.disk.end).unwrap_or(i64::MAX),
                in_sync_replicas: group
                    .filter(|_| master)
                    .map_or(0, |group| group.in_sync.len().saturating_sub(1) as u32),
                // Pods of the model have no addresses.
                followers: BTreeSet::new(),
                follows: self.serving_master(&broker.group).filter(|_| !master).map(str::to_owned),
            }
        };
        let epochs = |broker: &Broker| {
            let epoch = self.groups.get(&broker.group).map_or(0, |group| group.epoch);
            vec![EpochEntry { epoch, start_offset: 0, end_offset: i64::MAX }]
        };
        BrokerFacts {
            disk_ratio: self.runtime(address).map(|runtime| runtime.disk_ratio).into(),
            replication: self.broker(address, "GET_BROKER_HA_STATUS").map(replication).into(),
            epochs: self.broker(address, "GET_BROKER_EPOCH_CACHE").map(epochs).into(),
            config: self.config(address).into(),
        }
    }

    pub(super) fn runtime(&self, address: &str) -> Result<BrokerRuntime, EngineError> {
        let broker = self.broker(address, "GET_BROKER_RUNTIME_INFO")?;
        Ok(BrokerRuntime {
            dispatch_behind_bytes: Some(0),
            delayed_messages: Some(broker.disk.delayed),
            delayed_elsewhere: self.delayed_elsewhere,
            timer_behind_seconds: Some(0),
            disk_ratio: Some(0.1),
        })
    }

    pub(super) fn metadata(&self, broker: &str) -> Result<BrokerMetadata, EngineError> {
        let BrokerMetadata { topics, groups } = self.broker(broker, "GET_ALL_TOPIC_CONFIG")?.disk.metadata.clone();
        Ok(BrokerMetadata::new(topics, groups))
    }

    pub(super) fn topic_stats(&self, address: &str, topic: &str) -> Result<Option<TopicStats>, EngineError> {
        let broker = self.broker(address, "GET_TOPIC_STATS_INFO")?;
        if !broker.disk.metadata.topics.contains_key(topic) {
            return Ok(None);
        }
        let queue = |queue_id, max_offset| {
            let queue = MessageQueue { topic: topic.to_owned(), broker_name: broker.group.clone(), queue_id };
            (queue, TopicOffset { min_offset: 0, max_offset, last_update_timestamp: 0 })
        };
        let mut table = vec![queue(0, broker.disk.messages.get(topic).copied().unwrap_or(0))];
        let queues = self.queues.iter().filter(|((t, _), _)| t == topic);
        table.extend(queues.map(|((_, id), messages)| queue(*id, *messages)));
        Ok(Some(TopicStats { offset_table: table }))
    }

    pub(super) fn topic_consumers(&self, address: &str, topic: &str) -> Result<Vec<String>, EngineError> {
        self.broker(address, "QUERY_TOPIC_CONSUME_BY_WHO")?;
        let reads = |stats: &ConsumeStats| stats.offset_table.iter().any(|(queue, _)| queue.topic == topic);
        Ok(self.consume_stats.iter().filter(|(_, stats)| reads(stats)).map(|(group, _)| group.clone()).collect())
    }

    pub(super) fn consumption(&self, address: &str) -> Result<BrokerConsumption, EngineError> {
        let broker = self.broker(address, "GET_BROKER_CONSUME_STATS")?;
        let here = |queue: &MessageQueue| queue.broker_name == broker.group;
        let mut groups = BTreeMap::new();
        for (name, stats) in &self.consume_stats {
            let mut group = GroupConsumption { tps: stats.consume_tps, ..GroupConsumption::default() };
            for (queue, offset) in stats.offset_table.iter().filter(|(queue, _)| here(queue)) {
                *group.lag.entry(queue.topic.clone()).or_default() +=
                    (offset.broker_offset - offset.consumer_offset).max(0);
            }
            if !group.lag.is_empty() {
                groups.insert(name.clone(), group);
            }
        }
        Ok(BrokerConsumption { groups, delayed: self.delayed(address)? })
    }

    pub(super) fn delayed(&self, address: &str) -> Result<BTreeMap<String, i64>, EngineError> {
        let broker = self.broker(address, "GET_TIMER_METRICS")?;
        let waits = |topic: &String| broker.disk.metadata.topics.contains_key(topic);
        Ok(self.delayed.iter().filter(|(t, _)| waits(t)).map(|(t, n)| (t.clone(), *n)).collect())
    }

    pub(super) fn consume_stats(&self, broker: &str, group: &str) -> Result<ConsumeStats, EngineError> {
        self.broker(broker, "GET_CONSUME_STATS")?;
        Ok(self.consume_stats.get(group).cloned().unwrap_or_default())
    }

    pub(super) fn offsets(&self, address: &str) -> Result<ConsumerOffsets, EngineError> {
        Ok(self.broker(address, "GET_ALL_CONSUMER_OFFSET")?.disk.offsets.clone())
    }

    pub(super) fn consumers(&self, broker: &str, group: &str) -> Result<ConsumerConnections, EngineError> {
        // A proxy's Service is no process of this world: it answers as long as the test does not say otherwise.
        if self.process(broker).is_none() && broker.contains("-proxy-") {
            return match &self.proxied_consumers {
                Some(consumers) => Ok(consumers.get(group).cloned().unwrap_or_default()),
                None => Err(EngineError::unreachable(broker, "connection refused")),
            };
        }
        self.broker(broker, "GET_CONSUMER_CONNECTION_LIST")?;
        Ok(self.consumers.get(group).cloned().unwrap_or_default())
    }

    pub(super) fn config(&self, address: &str) -> Result<BTreeMap<String, String>, EngineError> {
        Ok(self.reached(address, "GET_BROKER_CONFIG")?.config.clone())
    }
}
