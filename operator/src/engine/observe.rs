//! Asks a whole cluster at once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{join_all, join4};
use gantry_remoting::broker::{GetBrokerConfig, GetEpochCache, GetHaStatus, GetRuntimeInfo, HaStatus, RuntimeInfo};
use gantry_remoting::cluster::{ClusterInfo, GetClusterInfo};
use gantry_remoting::controller::{GetMetadata, GetSyncStateData, Metadata, ReplicaIdentity, ReplicasInfo};
use gantry_remoting::{Code, Request, ResponseCode};
use tokio::time::Instant;

use super::client::RemotingEngine;
use super::{
    BrokerFacts, BrokerRuntime, ClusterAddresses, ClusterId, ControllerFacts, ControllerLeader, EngineError,
    EngineFacts, Fact, GroupFacts, Registered, ReplicaFacts, Replication,
};

/// Questions of one observation, all under one deadline: who has not answered by then is unknown, and delays nobody.
struct Observation<'a> {
    engine: &'a RemotingEngine,
    cluster: &'a ClusterId,
    within: Duration,
    deadline: Instant,
}

pub(super) async fn observe(engine: &RemotingEngine, addresses: &ClusterAddresses) -> EngineFacts {
    let within = engine.limits.observe;
    let observation = Observation { engine, cluster: &addresses.cluster, within, deadline: Instant::now() + within };
    let (leaders, candidates) = mpsc::unbounded();
    let (name_servers, controllers, groups, brokers) = join4(
        join_all(addresses.name_servers.iter().map(|address| observation.name_server(address))),
        observation.controllers(&addresses.controllers, leaders),
        observation.groups(addresses, candidates),
        join_all(addresses.groups.values().flatten().map(|address| observation.broker(address))),
    )
    .await;
    EngineFacts {
        name_servers: name_servers.into_iter().collect(),
        controllers,
        groups,
        brokers: brokers.into_iter().collect(),
    }
}

impl Observation<'_> {
    async fn ask<R: Request>(&self, address: &str, request: &R) -> Result<R::Answer, EngineError> {
        let answer = tokio::time::timeout_at(self.deadline, self.engine.ask(self.cluster, address, request)).await;
        answer.unwrap_or_else(|_| Err(EngineError::timed_out(address, R::CODE, self.within)))
    }

    async fn name_server(&self, address: &str) -> (String, Fact<Vec<Registered>>) {
        let answer = self.ask(address, &GetClusterInfo).await;
        (address.to_owned(), answer.map(registered).into())
    }

    /// Asks every controller, and says who leads as soon as the first one knows.
    async fn controllers(
        &self,
        addresses: &[String],
        leaders: mpsc::UnboundedSender<String>,
    ) -> BTreeMap<String, Fact<ControllerFacts>> {
        let ask = |address: &String| {
            let (address, leaders) = (address.clone(), leaders.clone());
            async move {
                let answer = self.ask(&address, &GetMetadata).await.map(controller);
                // A leader's own word before what others say of it. The other end may have heard enough.
                let leader = answer
                    .as_ref()
                    .ok()
                    .and_then(|facts| facts.leader.as_ref().map(|leader| (facts.is_leader, leader)));
                if let Some((itself, leader)) = leader {
                    let _ = leaders.unbounded_send(if itself { address.clone() } else { leader.address.clone() });
                }
                (address, Fact::from(answer))
            }
        };
        let asked = join_all(addresses.iter().map(ask)).await;
        asked.into_iter().collect()
    }

    /// Asks whoever is said to lead about all groups, one after the other until one does.
    async fn groups(
        &self,
        addresses: &ClusterAddresses,
        mut candidates: mpsc::UnboundedReceiver<String>,
    ) -> BTreeMap<String, Fact<Option<GroupFacts>>> {
        let names: Vec<String> = addresses.groups.keys().cloned().collect();
        if names.is_empty() {
            return BTreeMap::new();
        }
        let mut problem = EngineError::NoControllerLeader { cluster: self.cluster.to_string() };
        let mut asked = Vec::new();
        while let Some(candidate) = candidates.next().await {
            if asked.contains(&candidate) {
                continue;
            }
            match self.ask(&candidate, &GetSyncStateData { broker_names: names.clone() }).await {
                Ok(mut groups) => {
                    return names
                        .into_iter()
                        .map(|name| (name.clone(), Fact::Known(groups.remove(&name).map(group))))
                        .collect();
                }
                Err(error) if error.refusal() == Some(ResponseCode::ControllerNotLeader) => {}
                Err(error) => problem = error,
            }
            asked.push(candidate);
        }
        names.into_iter().map(|name| (name, Fact::Unknown { unknown: problem.clone() })).collect()
    }

    async fn broker(&self, address: &str) -> (String, BrokerFacts) {
        let (disk_ratio, replication, epochs, config) = join4(
            self.disk_ratio(address),
            self.ask(address, &GetHaStatus),
            self.ask(address, &GetEpochCache),
            self.ask(address, &GetBrokerConfig),
        )
        .await;
        let facts = BrokerFacts {
            disk_ratio: disk_ratio.into(),
            replication: replication.map(replication_of).into(),
            epochs: epochs.map(|epochs| epochs.epoch_list).into(),
            config: config.into(),
        };
        (address.to_owned(), facts)
    }

    /// As it was less than half a minute ago, where it was asked then.
    async fn disk_ratio(&self, address: &str) -> Result<Option<f64>, EngineError> {
        let key = (self.cluster.clone(), address.to_owned());
        if let Some(ratio) = self.engine.disk_ratio(&key) {
            return Ok(ratio);
        }
        let ratio = runtime_of(address, &self.ask(address, &GetRuntimeInfo).await?)?.disk_ratio;
        self.engine.keep_disk_ratio(key, ratio);
        Ok(ratio)
    }
}

/// The address of the leading controller, by its own word or another's.
pub(super) async fn leader(
    engine: &RemotingEngine,
    cluster: &ClusterId,
    controllers: &[String],
) -> Result<String, EngineError> {
    let mut asks: futures::stream::FuturesUnordered<_> =
        controllers
            .iter()
            .map(|address| async move {
                engine.ask(cluster, address, &GetMetadata).await.map(|metadata| (address, metadata))
            })
            .collect();
    let mut problem = EngineError::NoControllerLeader { cluster: cluster.to_string() };
    while let Some(answer) = asks.next().await {
        match answer {
            Ok((address, metadata)) if metadata.is_leader => return Ok(address.clone()),
            Ok((_, Metadata { leader_address: Some(leader), .. })) => return Ok(leader),
            Ok(_) => {}
            Err(error @ EngineError::CircuitOpen { .. }) => problem = error,
            Err(_) => {}
        }
    }
    Err(problem)
}

fn registered(info: ClusterInfo) -> Vec<Registered> {
    let brokers = info.brokers.into_iter().flat_map(|(group, data)| {
        let of_group = move |(id, address)| Registered { group: group.clone(), id, address };
        data.broker_addrs.into_iter().map(of_group)
    });
    brokers.collect()
}

fn controller(metadata: Metadata) -> ControllerFacts {
    let leader = metadata.leader_id.zip(metadata.leader_address);
    let leader = leader.map(|(id, address)| ControllerLeader { id, address });
    ControllerFacts { is_leader: metadata.is_leader, leader, peers: metadata.peers }
}

fn group(info: ReplicasInfo) -> GroupFacts {
    let replica = |replica: ReplicaIdentity| ReplicaFacts {
        id: replica.broker_id,
        address: replica.broker_address,
        alive: replica.alive.unwrap_or(false),
    };
    let replicas = |replicas: Vec<ReplicaIdentity>| {
        let mut replicas: Vec<_> = replicas.into_iter().map(replica).collect();
        replicas.sort_by_key(|replica| replica.id);
        replicas
    };
    GroupFacts {
        master_id: info.master_broker_id,
        master_address: info.master_address,
        master_epoch: info.master_epoch,
        sync_state_set_epoch: info.sync_state_set_epoch,
        in_sync: replicas(info.in_sync_replicas),
        not_in_sync: replicas(info.not_in_sync_replicas),
    }
}

pub(super) fn runtime_of(address: &str, info: &RuntimeInfo) -> Result<BrokerRuntime, EngineError> {
    if info.is_active().is_none() {
        let problem = format!("the answer to {} does not say brokerActive", Code::GetBrokerRuntimeInfo);
        return Err(EngineError::EngineAnswerNotUnderstood { address: address.to_owned(), problem });
    }
    Ok(BrokerRuntime {
        dispatch_behind_bytes: info.dispatch_behind_bytes(),
        delayed_messages: info.delayed_messages(),
        delayed_elsewhere: info.delayed_elsewhere(),
        timer_behind_seconds: info.timer_behind_seconds(),
        disk_ratio: info.commit_log_disk_ratio(),
    })
}

/// The address without its port.
fn ip_of(address: &str) -> String {
    address.rsplit_once(':').map_or(address, |(ip, _)| ip).trim_matches(['[', ']']).to_owned()
}

fn replication_of(status: HaStatus) -> Replication {
    let max_offset =
        if status.master { status.master_commit_log_max_offset } else { status.ha_client_runtime_info.max_offset };
    Replication {
        master: status.master,
        max_offset,
        in_sync_replicas: status.in_sync_slave_nums,
        followers: status.ha_connection_info.iter().map(|c| ip_of(&c.addr)).collect(),
        follows: status.ha_client_runtime_info.master_addr,
    }
}
