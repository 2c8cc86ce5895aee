//! Carries out one change, whatever requests it takes.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use gantry_remoting::Request;
use gantry_remoting::access::{CreateAcl, CreateUser, DeleteAclEntry, DeleteUser, UpdateUser};
use gantry_remoting::broker::{FollowMaster, GetHaStatus, UpdateBrokerConfig};
use gantry_remoting::cluster::{
    AddWritePermission, DeleteTopicRoutes, MASTER_ID, UnregisterBroker, UpdateNameServerConfig, WipeWritePermission,
};
use gantry_remoting::consume::{ResetOffset, SetRequestMode};
use gantry_remoting::controller::{CleanBrokerData, ElectMaster, UpdateControllerConfig};
use gantry_remoting::group::{DeleteGroup, GroupChange};
use gantry_remoting::stats::{QueueOffsets, SetConsumerOffset};
use gantry_remoting::topic::{DeleteTopic, UpsertTopic};
use tokio::time::Instant;

use super::batch::{Batches, Item, write};
use super::client::RemotingEngine;
use super::observe::leader;
use super::{AccessChange, ClusterId, ConfigTarget, Engine, EngineError, EngineWrite, WriteOutcome, same_value};

/// Deletions under way at once on one process: it takes them one after the other anyway.
const DELETIONS: usize = 4;

type Failed = BTreeMap<String, EngineError>;
type Outcome = Result<WriteOutcome, EngineError>;

struct Execution<'a> {
    engine: &'a RemotingEngine,
    cluster: &'a ClusterId,
    deadline: Instant,
}

pub(super) async fn execute(engine: &RemotingEngine, cluster: &ClusterId, change: &EngineWrite) -> Outcome {
    let execution = Execution { engine, cluster, deadline: Instant::now() + engine.limits.execute };
    match change {
        EngineWrite::ElectMaster { controllers, group, id } => execution.elect(controllers, group, *id).await,
        EngineWrite::CleanReplicas { controllers, group, ids } => execution.clean(controllers, group, ids).await,
        EngineWrite::CleanGroup { controllers, group } => execution.clean_all(controllers, group).await,
        EngineWrite::Follow { replicas, master, log } => Ok(execution.follow(replicas, master, log).await),
        EngineWrite::ForgetMaster { name_servers, group, address } => {
            Ok(execution.forget_master(name_servers, group, address).await)
        }
        EngineWrite::SetOffsets { broker, offsets } => execution.offsets(broker, offsets).await,
        EngineWrite::ChangeAccess { broker, change } => Ok(failed(execution.access(broker, change).await)),
        EngineWrite::UpdateConfig { target, properties } => execution.config(target, properties).await,
        EngineWrite::SetWritePermission { name_servers, group, writable } => {
            Ok(failed(execution.permission(name_servers, group, *writable).await))
        }
        EngineWrite::UpsertTopics { broker, changes } => execution.upsert(broker, changes).await,
        EngineWrite::UpsertGroups { broker, changes } => execution.groups(broker, changes).await,
        EngineWrite::ResetOffsets { broker, group, topics, timestamp } => {
            execution.reset(broker, group, topics, *timestamp).await
        }
        EngineWrite::DeleteTopics { masters, replicas, name_servers, topics } => {
            execution.delete_topics(masters, replicas, name_servers, topics).await
        }
        EngineWrite::DeleteGroups { masters, groups, clean_offsets } => {
            execution.delete_groups(masters, groups, *clean_offsets).await
        }
    }
}

fn failed(failed: Failed) -> WriteOutcome {
    WriteOutcome { elected: None, failed }
}

impl Execution<'_> {
    async fn elect(&self, controllers: &[String], group: &str, id: u64) -> Outcome {
        let leader = leader(self.engine, self.cluster, controllers).await?;
        let request = ElectMaster { cluster: self.cluster.name.clone(), broker_name: group.to_owned(), broker_id: id };
        let elected = write(self.engine, self.cluster, &leader, &request, &format!("{group} id {id}")).await?;
        Ok(WriteOutcome { elected: Some(elected), failed: Failed::new() })
    }

    async fn follow(&self, replicas: &[String], master: &str, log: &str) -> WriteOutcome {
        let request = FollowMaster { master: master.to_owned(), log: log.to_owned() };
        let told = replicas.iter().map(|replica| self.one(replica, master, &request));
        for error in join_all(told).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a replica could not be told of its master");
        }
        WriteOutcome::default()
    }

    async fn forget_master(&self, name_servers: &[String], group: &str, address: &str) -> WriteOutcome {
        let request = UnregisterBroker {
            cluster: self.cluster.name.clone(),
            broker_name: group.to_owned(),
            address: address.to_owned(),
            broker_id: MASTER_ID,
        };
        let told = name_servers.iter().map(|server| self.one(server, address, &request));
        for error in join_all(told).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a name server could not be told that a master is gone");
        }
        WriteOutcome::default()
    }

    async fn clean(&self, controllers: &[String], group: &str, ids: &BTreeSet<u64>) -> Outcome {
        if ids.is_empty() {
            // To the engine it would mean the whole group.
            return Ok(WriteOutcome::default());
        }
        let leader = leader(self.engine, self.cluster, controllers).await?;
        let what = format!("{group} ids {}", ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
        let request = CleanBrokerData {
            cluster: self.cluster.name.clone(),
            broker_name: group.to_owned(),
            broker_ids: ids.clone(),
        };
        write(self.engine, self.cluster, &leader, &request, &what).await?;
        Ok(WriteOutcome::default())
    }

    async fn clean_all(&self, controllers: &[String], group: &str) -> Outcome {
        let leader = leader(self.engine, self.cluster, controllers).await?;
        let request = CleanBrokerData {
            cluster: self.cluster.name.clone(),
            broker_name: group.to_owned(),
            broker_ids: BTreeSet::new(),
        };
        write(self.engine, self.cluster, &leader, &request, &format!("{group}, all of it")).await?;
        Ok(WriteOutcome::default())
    }

    async fn offsets(&self, broker: &str, offsets: &BTreeMap<String, BTreeMap<String, QueueOffsets>>) -> Outcome {
        self.must_be_master(broker).await?;
        let mut requests = Vec::new();
        for (group, topics) in offsets {
            for (topic, queues) in topics {
                requests.extend(queues.iter().map(|(queue, offset)| {
                    let request = SetConsumerOffset {
                        group: group.clone(),
                        topic: topic.clone(),
                        queue_id: *queue,
                        offset: *offset,
                    };
                    (format!("{topic}@{group} queue {queue}"), request)
                }));
            }
        }
        Ok(failed(self.at_one(broker, &requests).await))
    }

    /// Users before their ACLs; the entries of one ACL one after the other, because the engine reads the ACL, changes it and writes it.
    async fn access(&self, broker: &str, change: &AccessChange) -> Failed {
        let user = |name: &String| format!("user {name}");
        let created: Vec<_> = change.create_users.iter().map(|u| (user(&u.username), CreateUser(u.clone()))).collect();
        let updated: Vec<_> = change.update_users.iter().map(|u| (user(&u.username), UpdateUser(u.clone()))).collect();
        let set: Vec<_> =
            change.set_entries.iter().map(|a| (format!("ACL of {}", a.subject), CreateAcl(a.clone()))).collect();
        let mut failed = self.at_one(broker, &created).await;
        failed.extend(self.at_one(broker, &updated).await);
        failed.extend(self.at_one(broker, &set).await);
        for acl in &change.delete_entries {
            for entry in &acl.entries {
                let what = format!("ACL of {} on {}", acl.subject, entry.resource);
                let (subject, policy_type) = (acl.subject.clone(), entry.policy_type.clone());
                let request = DeleteAclEntry { subject, policy_type, resource: entry.resource.clone() };
                let result = self.one(broker, &what, &request).await;
                failed.extend(result.err().map(|error| (what, error)));
            }
        }
        let deleted: Vec<_> =
            change.delete_users.iter().map(|u| (user(u), DeleteUser { username: u.clone() })).collect();
        failed.extend(self.at_one(broker, &deleted).await);
        failed
    }

    /// The engine says success also to keys that it does not know, so what it runs with afterwards decides.
    async fn config(&self, target: &ConfigTarget, properties: &BTreeMap<String, String>) -> Outcome {
        let properties = properties.clone();
        // Values may be secrets.
        let what = properties.keys().cloned().collect::<Vec<_>>().join(" ");
        let (engine, cluster) = (self.engine, self.cluster);
        match target {
            ConfigTarget::NameServer(address) => {
                write(engine, cluster, address, &UpdateNameServerConfig { properties: properties.clone() }, &what)
                    .await?;
            }
            ConfigTarget::Controller(address) => {
                write(engine, cluster, address, &UpdateControllerConfig { properties: properties.clone() }, &what)
                    .await?;
            }
            ConfigTarget::Broker(address) => {
                write(engine, cluster, address, &UpdateBrokerConfig { properties: properties.clone() }, &what).await?;
            }
        }
        let now = engine.config(cluster, target).await?;
        let ignored = properties.into_iter().filter(|(key, value)| !now.get(key).is_some_and(|n| same_value(n, value)));
        let problem = |(key, _): (String, String)| {
            let problem = match now.get(&key) {
                Some(_) => format!("{key} was accepted, but another value is in force"),
                None => format!("{key} was accepted, but is not a key of this process"),
            };
            (key, EngineError::EngineAnswerNotUnderstood { address: target.address().to_owned(), problem })
        };
        Ok(failed(ignored.map(problem).collect()))
    }

    async fn permission(&self, name_servers: &[String], group: &str, writable: bool) -> Failed {
        let tell = |address: &String| {
            let address = address.clone();
            async move {
                let broker_name = group.to_owned();
                let result = if writable {
                    write(self.engine, self.cluster, &address, &AddWritePermission { broker_name }, group).await
                } else {
                    write(self.engine, self.cluster, &address, &WipeWritePermission { broker_name }, group).await
                };
                result.err().map(|error| (address, error))
            }
        };
        join_all(name_servers.iter().map(tell)).await.into_iter().flatten().collect()
    }

    async fn upsert<I: Item + 'static>(&self, broker: &str, items: &[I]) -> Outcome {
        self.must_be_master(broker).await?;
        let Execution { engine, cluster, deadline } = *self;
        let batches = Batches { engine, cluster, broker, deadline, within: engine.limits.execute };
        Ok(failed(batches.run(items).await))
    }

    /// Groups in lists, then their modes one by one, there is no list of those, and their dead-letter topics, which have no attributes that would make
    /// them sure in a list.
    async fn groups(&self, broker: &str, changes: &[GroupChange]) -> Outcome {
        let mut outcome = self.upsert(broker, changes).await?;
        for change in changes {
            let group = &change.config.group_name;
            for (topic, mode) in &change.modes {
                if outcome.failed.contains_key(group) {
                    break;
                }
                let request = SetRequestMode { topic: topic.clone(), group: group.clone(), mode: *mode };
                let what = format!("{group} {topic} {mode:?}");
                if let Err(error) = self.one(broker, &what, &request).await {
                    outcome.failed.insert(group.clone(), error);
                }
            }
            if let Some(topic) = change.dead_letter_topic.clone().filter(|_| !outcome.failed.contains_key(group)) {
                let what = topic.config.topic_name.clone();
                if let Err(error) = self.one(broker, &what, &UpsertTopic(topic)).await {
                    outcome.failed.insert(group.clone(), error);
                }
            }
        }
        Ok(outcome)
    }

    async fn reset(&self, broker: &str, group: &str, topics: &[String], timestamp: i64) -> Outcome {
        self.must_be_master(broker).await?;
        let mut failed = Failed::new();
        for topic in topics {
            let request = ResetOffset { group: group.to_owned(), topic: topic.clone(), timestamp };
            if let Err(error) = self.one(broker, &format!("{group} {topic} to {timestamp}"), &request).await {
                failed.insert(topic.clone(), error);
            }
        }
        Ok(self::failed(failed))
    }

    /// A replica takes topics and groups like a master, says success, and forgets them when it next copies its master's.
    async fn must_be_master(&self, broker: &str) -> Result<(), EngineError> {
        if self.engine.ask(self.cluster, broker, &GetHaStatus).await?.master {
            return Ok(());
        }
        Err(EngineError::NotMaster { address: broker.to_owned() })
    }

    async fn delete_topics(
        &self,
        masters: &[String],
        replicas: &[String],
        name_servers: &[String],
        topics: &[String],
    ) -> Outcome {
        for master in masters {
            self.must_be_master(master).await?;
        }
        let mut failed = Failed::new();
        for brokers in [masters, replicas] {
            let deletions = remaining(topics, &failed, |topic| DeleteTopic { topic });
            failed.extend(self.everywhere(brokers, &deletions).await);
        }
        let routes =
            remaining(topics, &failed, |topic| DeleteTopicRoutes { topic, cluster: self.cluster.name.clone() });
        failed.extend(self.everywhere(name_servers, &routes).await);
        Ok(self::failed(failed))
    }

    async fn delete_groups(&self, masters: &[String], groups: &[String], clean_offset: bool) -> Outcome {
        for master in masters {
            self.must_be_master(master).await?;
        }
        let deletions = remaining(groups, &Failed::new(), |group| DeleteGroup { group, clean_offset });
        Ok(failed(self.everywhere(masters, &deletions).await))
    }

    /// Sends named changes to every address: addresses side by side, a few changes at a time at each.
    async fn everywhere<R: Change>(&self, addresses: &[String], changes: &[(String, R)]) -> Failed {
        join_all(addresses.iter().map(|address| self.at_one(address, changes))).await.into_iter().flatten().collect()
    }

    async fn at_one<R: Change>(&self, address: &str, changes: &[(String, R)]) -> Failed {
        let mut failed = Failed::new();
        for chunk in changes.chunks(DELETIONS) {
            let results = join_all(chunk.iter().map(|(name, change)| self.one(address, name, change))).await;
            let names = chunk.iter().map(|(name, _)| name);
            failed.extend(names.zip(results).filter_map(|(name, result)| Some((name.clone(), result.err()?))));
        }
        failed
    }

    async fn one<R: Change>(&self, address: &str, name: &str, change: &R) -> Result<(), EngineError> {
        if Instant::now() >= self.deadline {
            let because = format!("{} ms were not enough for all", self.engine.limits.execute.as_millis());
            return Err(EngineError::NotTried { because });
        }
        write(self.engine, self.cluster, address, change, name).await
    }
}

/// A request that changes something and is answered with nothing.
trait Change: Request<Answer = ()> + Send + Sync {}

impl<R: Request<Answer = ()> + Send + Sync> Change for R {}

fn remaining<R>(names: &[String], failed: &Failed, change: impl Fn(String) -> R) -> Vec<(String, R)> {
    names.iter().filter(|name| !failed.contains_key(*name)).map(|name| (name.clone(), change(name.clone()))).collect()
}
