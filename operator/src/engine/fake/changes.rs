//! What the world lets be done to it, and what it refuses, as the engine does.

use std::collections::BTreeMap;

use gantry_remoting::ResponseCode;
use gantry_remoting::controller::Elected;
use gantry_remoting::group::GroupChange;
use gantry_remoting::topic::{MESSAGE_TYPE, TopicChange};

use super::super::{EngineError, EngineWrite, WriteOutcome};
use super::world::World;

/// Attributes that the engine lets nobody change (TopicAttributes.java).
const UNCHANGEABLE: [&str; 2] = ["cleanup.policy", "queue.type"];
/// Values of `message.type` that the engine takes.
const MESSAGE_TYPES: [&str; 8] = ["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "PRIORITY", "LITE", "MIXED"];

type Outcome = Result<WriteOutcome, EngineError>;
type Failed = BTreeMap<String, EngineError>;

pub(super) fn refused(address: &str, request: &str, code: ResponseCode, remark: &str) -> EngineError {
    EngineError::EngineRefused {
        address: address.to_owned(),
        request: request.to_owned(),
        code: code.number(),
        name: code.name().to_owned(),
        remark: remark.to_owned(),
    }
}

impl World {
    pub(super) fn execute(&mut self, write: &EngineWrite) -> Outcome {
        self.journal.push(write.clone());
        match write {
            EngineWrite::ElectMaster { controllers, group, id } => self.elect(controllers, group, *id),
            EngineWrite::CleanReplicas { controllers, group, ids } => {
                for id in ids {
                    self.clean(controllers, group, *id)?;
                }
                Ok(WriteOutcome::default())
            }
            EngineWrite::CleanGroup { controllers, group } => self.clean_all(controllers, group),
            // In this world replicas find their master by themselves.
            EngineWrite::Follow { .. } | EngineWrite::ForgetMaster { .. } => Ok(WriteOutcome::default()),
            EngineWrite::SetOffsets { broker, offsets } => self.set_offsets(broker, offsets),
            EngineWrite::ChangeAccess { broker, change } => self.change_access(broker, change),
            EngineWrite::UpdateConfig { target, properties } => {
                self.reached(target.address(), "UPDATE_BROKER_CONFIG")?;
                if let Some(process) = self.process_mut(target.address()) {
                    process.config.extend(properties.clone());
                }
                Ok(WriteOutcome::default())
            }
            EngineWrite::SetWritePermission { name_servers, group, writable } => {
                Ok(self.permission(name_servers, group, *writable))
            }
            EngineWrite::UpsertTopics { broker, changes } => self.upsert_topics(broker, changes),
            EngineWrite::UpsertGroups { broker, changes } => self.upsert_groups(broker, changes),
            EngineWrite::ResetOffsets { broker, .. } => self.must_be_master(broker).map(|()| WriteOutcome::default()),
            EngineWrite::DeleteTopics { masters, replicas, name_servers: _, topics } => {
                self.delete_topics(masters, replicas, topics)
            }
            EngineWrite::DeleteGroups { masters, groups, clean_offsets: _ } => self.delete_groups(masters, groups),
        }
    }

    fn elect(&mut self, controllers: &[String], name: &str, id: u64) -> Outcome {
        let request = "CONTROLLER_ELECT_MASTER";
        let Some(leader) = self.known_leader(controllers).map(str::to_owned) else {
            return Err(EngineError::NoControllerLeader { cluster: name.to_owned() });
        };
        let Some(group) = self.groups.get(name) else {
            return Err(refused(
                &leader,
                request,
                ResponseCode::ControllerBrokerNeedToBeRegistered,
                "Broker hasn't been registered",
            ));
        };
        let alive = self.is_alive(group, id);
        let changed = group.master != Some(id);
        if changed && !(alive && (group.in_sync.contains(&id) || self.unclean_election)) {
            return Err(refused(
                &leader,
                request,
                ResponseCode::ControllerElectMasterFailed,
                "Failed to elect a new master",
            ));
        }
        if changed {
            self.make_master(name, id);
            self.register_brokers();
        }
        let group = &self.groups[name];
        let elected = Elected {
            broker_id: Some(id),
            address: group.replicas.get(&id).cloned(),
            epoch: Some(group.epoch),
            changed,
        };
        Ok(WriteOutcome { elected: Some(elected), failed: Failed::new() })
    }

    fn clean(&mut self, controllers: &[String], name: &str, id: u64) -> Result<(), EngineError> {
        let Some(leader) = self.known_leader(controllers).map(str::to_owned) else {
            return Err(EngineError::NoControllerLeader { cluster: name.to_owned() });
        };
        let refuse = |remark: &str| {
            refused(&leader, "CLEAN_BROKER_DATA", ResponseCode::ControllerInvalidCleanBrokerMetadata, remark)
        };
        let Some(group) = self.groups.get(name) else { return Err(refuse("Broker is not existed")) };
        if self.is_alive(group, id) {
            return Err(refuse("Broker is still alive, clean up failure"));
        }
        if let Some(group) = self.groups.get_mut(name) {
            group.replicas.remove(&id);
            group.in_sync.remove(&id);
            group.master = group.master.filter(|master| *master != id);
            if group.in_sync.is_empty() {
                // The engine forgets the set itself, and makes the next that registers master, whatever it lacks.
                (group.epoch, group.master) = (0, None);
            }
        }
        Ok(())
    }

    fn clean_all(&mut self, controllers: &[String], name: &str) -> Outcome {
        let Some(leader) = self.known_leader(controllers).map(str::to_owned) else {
            return Err(EngineError::NoControllerLeader { cluster: name.to_owned() });
        };
        if self.groups.get(name).is_none_or(|group| group.master.is_some()) {
            let code = ResponseCode::ControllerInvalidCleanBrokerMetadata;
            return Err(refused(&leader, "CLEAN_BROKER_DATA", code, "Broker is still alive, clean up failure"));
        }
        self.groups.remove(name);
        Ok(WriteOutcome::default())
    }

    fn permission(&mut self, name_servers: &[String], group: &str, writable: bool) -> WriteOutcome {
        let mut failed = Failed::new();
        for address in name_servers {
            if let Err(error) = self.reached(address, "WIPE_WRITE_PERM_OF_BROKER").map(drop) {
                failed.insert(address.clone(), error);
            } else if let Some(name_server) = self.name_servers.get_mut(address) {
                if writable {
                    name_server.wiped.remove(group);
                } else {
                    name_server.wiped.insert(group.to_owned());
                }
            }
        }
        WriteOutcome { elected: None, failed }
    }

    fn must_be_master(&self, address: &str) -> Result<(), EngineError> {
        self.broker(address, "GET_BROKER_HA_STATUS")?;
        if self.is_master(address) { Ok(()) } else { Err(EngineError::NotMaster { address: address.to_owned() }) }
    }

    fn upsert_topics(&mut self, address: &str, changes: &[TopicChange]) -> Outcome {
        self.must_be_master(address)?;
        let now = self.now;
        let mut failed = Failed::new();
        let Some(broker) = self.brokers.get_mut(address) else { return Ok(WriteOutcome::default()) };
        broker.disk.changed(now);
        for change in changes {
            let topics = &mut broker.disk.metadata.topics;
            let name = &change.config.topic_name;
            let exists = topics.contains_key(name);
            let kind = change.set.get(MESSAGE_TYPE);
            let problem = if !is_name(name) {
                Some((ResponseCode::InvalidParameter, "contains illegal characters"))
            } else if kind.is_some_and(|kind| !MESSAGE_TYPES.contains(&kind.as_str())) {
                Some((ResponseCode::SystemError, "value is not in set"))
            } else if exists && change.set.keys().any(|key| UNCHANGEABLE.contains(&key.as_str())) {
                Some((ResponseCode::SystemError, "attempt to update an unchangeable attribute"))
            } else {
                None
            };
            match problem {
                Some((code, remark)) => {
                    failed.insert(name.clone(), refused(address, "UPDATE_AND_CREATE_TOPIC_LIST", code, remark));
                }
                None => {
                    let mut attributes = topics.get(name).map(|topic| topic.attributes.to_map()).unwrap_or_default();
                    attributes.extend(change.set.clone());
                    attributes.retain(|key, _| !change.unset.contains(key));
                    let mut config = change.config.clone();
                    config.attributes = attributes.into();
                    topics.insert(name.clone(), config);
                }
            }
        }
        Ok(WriteOutcome { elected: None, failed })
    }

    fn upsert_groups(&mut self, address: &str, changes: &[GroupChange]) -> Outcome {
        self.must_be_master(address)?;
        let now = self.now;
        let mut failed = Failed::new();
        let Some(broker) = self.brokers.get_mut(address) else { return Ok(WriteOutcome::default()) };
        broker.disk.changed(now);
        for change in changes {
            let name = &change.config.group_name;
            if is_name(name) {
                broker.disk.metadata.groups.insert(name.clone(), change.config.clone());
                let topics = change.dead_letter_topic.iter().map(|t| (t.config.topic_name.clone(), t.config.clone()));
                broker.disk.metadata.topics.extend(topics);
            } else {
                let remark = "contains illegal characters";
                let request = "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST";
                failed.insert(name.clone(), refused(address, request, ResponseCode::InvalidParameter, remark));
            }
        }
        Ok(WriteOutcome { elected: None, failed })
    }

    fn delete_topics(&mut self, masters: &[String], replicas: &[String], topics: &[String]) -> Outcome {
        for master in masters {
            self.must_be_master(master)?;
        }
        let now = self.now;
        let mut failed = Failed::new();
        for address in masters.iter().chain(replicas) {
            let problem = self.broker(address, "DELETE_TOPIC_IN_BROKER").err();
            for topic in topics {
                match (&problem, self.brokers.get_mut(address)) {
                    (Some(error), _) => drop(failed.insert(topic.clone(), error.clone())),
                    (None, Some(broker)) => {
                        broker.disk.metadata.topics.remove(topic);
                        broker.disk.changed(now);
                        broker.disk.messages.remove(topic);
                    }
                    (None, None) => {}
                }
            }
        }
        Ok(WriteOutcome { elected: None, failed })
    }

    fn delete_groups(&mut self, masters: &[String], groups: &[String]) -> Outcome {
        for master in masters {
            self.must_be_master(master)?;
        }
        let now = self.now;
        for broker in masters {
            if let Some(broker) = self.brokers.get_mut(broker) {
                broker.disk.metadata.groups.retain(|name, _| !groups.contains(name));
                broker.disk.changed(now);
            }
        }
        Ok(WriteOutcome::default())
    }
}

/// TopicValidator.java: at most 127 of these characters.
fn is_name(name: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "%|_-".contains(character);
    !name.is_empty() && name.len() <= 127 && name.chars().all(allowed)
}
