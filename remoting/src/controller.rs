//! What controllers know of broker groups, and what they are told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::code::{Code, ResponseCode};
use crate::command::Command;
use crate::properties;
use crate::request::{AnswerError, Request, accepted, body, optional_field};

/// Asks any controller for the controllers' leader and peers.
#[derive(Clone, Copy, Debug)]
pub struct GetMetadata;

/// The controllers as one of them sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The name of the controllers' own consensus group.
    pub group: Option<String>,
    /// The leader's id, none while there is no leader.
    pub leader_id: Option<String>,
    /// The leader's address `host:port`, none while there is no leader.
    pub leader_address: Option<String>,
    /// True when the controller that answered is the leader.
    pub is_leader: bool,
    /// Addresses by id; with jRaft controllers the address is the id.
    pub peers: BTreeMap<String, String>,
}

impl Request for GetMetadata {
    type Answer = Metadata;
    const CODE: Code = Code::ControllerGetMetadataInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Metadata, AnswerError> {
        let text = |name| Ok(optional_field::<String>(Self::CODE, reply, name)?.filter(|text| !text.is_empty()));
        let peers = text("peers")?.unwrap_or_default();
        Ok(Metadata {
            group: text("group")?,
            leader_id: text("controllerLeaderId")?,
            leader_address: text("controllerLeaderAddress")?,
            is_leader: optional_field(Self::CODE, reply, "isLeader")?.unwrap_or(false),
            peers: peers.split(';').filter(|peer| !peer.is_empty()).map(peer).collect(),
        })
    }
}

/// DLedger controllers say `id:host:port`, jRaft ones `host:port`, which then is the id too.
fn peer(text: &str) -> (String, String) {
    match text.split_once(':') {
        Some((id, address)) if address.contains(':') => (id.to_owned(), address.to_owned()),
        _ => (text.to_owned(), text.to_owned()),
    }
}

/// Asks the leading controller for all replicas of broker groups; refused with `CONTROLLER_NOT_LEADER` by the others.
#[derive(Clone, Debug)]
pub struct GetSyncStateData {
    /// The groups. An empty list is answered with `SYSTEM_ERROR`.
    pub broker_names: Vec<String>,
}

/// One broker group as the controllers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasInfo {
    /// The master's controller id, none while there is no master.
    #[serde(default)]
    pub master_broker_id: Option<u64>,
    /// The master's address.
    #[serde(default)]
    pub master_address: Option<String>,
    /// Rises with every election.
    pub master_epoch: u32,
    /// Rises with every change of the sync state set.
    pub sync_state_set_epoch: u32,
    /// Replicas in the sync state set.
    pub in_sync_replicas: Vec<ReplicaIdentity>,
    /// All others that ever registered and were not cleaned, also those that are gone for good.
    pub not_in_sync_replicas: Vec<ReplicaIdentity>,
}

/// One replica of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaIdentity {
    /// The controller id, from 1 on; a replica that lost its disk comes back under a new one.
    pub broker_id: u64,
    /// The address under which it registered last.
    pub broker_address: String,
    /// True when it sent the leader a heartbeat lately. Right after a change of the leader nobody has.
    #[serde(default)]
    pub alive: Option<bool>,
}

impl Request for GetSyncStateData {
    /// Groups by name; a group that the controllers do not know is absent.
    type Answer = BTreeMap<String, ReplicasInfo>;
    const CODE: Code = Code::ControllerGetSyncStateData;

    fn command(&self) -> Command {
        // Strings only: there is nothing in it that JSON can't hold.
        Command::request(Self::CODE).body(serde_json::to_vec(&self.broker_names).unwrap_or_default())
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            replicas_info_table: BTreeMap<String, ReplicasInfo>,
        }
        body::<Body>(Self::CODE, reply).map(|body| body.replicas_info_table)
    }
}

/// Asks the leading controller for one group's master; refused with `CONTROLLER_BROKER_METADATA_NOT_EXIST` for an unknown group.
#[derive(Clone, Debug)]
pub struct GetReplicaInfo {
    /// The group.
    pub broker_name: String,
}

/// One group's master and sync state set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaInfo {
    /// The master's controller id, none while there is no master.
    pub master_broker_id: Option<u64>,
    /// The master's address.
    pub master_address: Option<String>,
    /// Rises with every election.
    pub master_epoch: Option<u32>,
    /// Controller ids in the sync state set.
    pub sync_state_set: BTreeSet<u64>,
    /// Rises with every change of the sync state set.
    pub sync_state_set_epoch: u32,
}

impl Request for GetReplicaInfo {
    type Answer = ReplicaInfo;
    const CODE: Code = Code::ControllerGetReplicaInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("brokerName", &self.broker_name)
    }

    fn answer(&self, reply: &Command) -> Result<ReplicaInfo, AnswerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            sync_state_set: BTreeSet<u64>,
            sync_state_set_epoch: u32,
        }
        let Body { sync_state_set, sync_state_set_epoch } = body(Self::CODE, reply)?;
        Ok(ReplicaInfo {
            master_broker_id: optional_field(Self::CODE, reply, "masterBrokerId")?,
            master_address: optional_field(Self::CODE, reply, "masterAddress")?,
            master_epoch: optional_field(Self::CODE, reply, "masterEpoch")?,
            sync_state_set,
            sync_state_set_epoch,
        })
    }
}

/// Tells the leading controller to make one replica its group's master.
#[derive(Clone, Debug)]
pub struct ElectMaster {
    /// The engine's cluster name.
    pub cluster: String,
    /// The group.
    pub broker_name: String,
    /// The replica's controller id. It must be alive and in the sync state set, else `CONTROLLER_ELECT_MASTER_FAILED`.
    pub broker_id: u64,
}

/// Who is master now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elected {
    /// Its controller id.
    pub broker_id: Option<u64>,
    /// Its address.
    pub address: Option<String>,
    /// The epoch that began with it.
    pub epoch: Option<u32>,
    /// False when it had been master before.
    pub changed: bool,
}

impl Request for ElectMaster {
    type Answer = Elected;
    const CODE: Code = Code::ControllerElectMaster;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
            .with("clusterName", &self.cluster)
            .with("brokerName", &self.broker_name)
            .with("brokerId", self.broker_id)
            .with("designateElect", true)
    }

    fn answer(&self, reply: &Command) -> Result<Elected, AnswerError> {
        // The engine refuses to elect whom it has: what was asked for is so, which is what counts.
        let still = reply.response_code() == ResponseCode::ControllerMasterStillExist;
        let holds = still && reply.ext.get("masterBrokerId").is_some_and(|id| *id == self.broker_id.to_string());
        let mut reply = std::borrow::Cow::Borrowed(reply);
        if holds {
            reply.to_mut().code = ResponseCode::Success.number();
        }
        Ok(Elected {
            broker_id: optional_field(Self::CODE, &reply, "masterBrokerId")?,
            address: optional_field(Self::CODE, &reply, "masterAddress")?,
            epoch: optional_field(Self::CODE, &reply, "masterEpoch")?,
            changed: !holds,
        })
    }
}

/// Makes the leading controller forget replicas that are gone; refused for a replica that is alive.
#[derive(Clone, Debug)]
pub struct CleanBrokerData {
    /// The engine's cluster name.
    pub cluster: String,
    /// The group.
    pub broker_name: String,
    /// Controller ids; an empty set is the whole group, which is refused while the group has a master.
    pub broker_ids: BTreeSet<u64>,
}

impl Request for CleanBrokerData {
    type Answer = ();
    const CODE: Code = Code::CleanBrokerData;

    fn command(&self) -> Command {
        let command = Command::request(Self::CODE)
            .with("clusterName", &self.cluster)
            .with("brokerName", &self.broker_name)
            .with("isCleanLivingBroker", false);
        if self.broker_ids.is_empty() {
            return command;
        }
        let ids: Vec<String> = self.broker_ids.iter().map(u64::to_string).collect();
        command.with("brokerControllerIdsToClean", ids.join(";"))
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Reads one controller's configuration.
#[derive(Clone, Copy, Debug)]
pub struct GetControllerConfig;

impl Request for GetControllerConfig {
    type Answer = BTreeMap<String, String>;
    const CODE: Code = Code::GetControllerConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        Ok(properties::parse(&String::from_utf8_lossy(&accepted(reply)?.body)))
    }
}

/// Sets configuration keys of one running controller; the others keep theirs.
#[derive(Clone, Debug)]
pub struct UpdateControllerConfig {
    /// Keys and their new values.
    pub properties: BTreeMap<String, String>,
}

impl Request for UpdateControllerConfig {
    type Answer = ();
    const CODE: Code = Code::UpdateControllerConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE).body(properties::format(&self.properties))
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_both_kinds_of_controllers_are_read() {
        let ask = |peers: &str| {
            let reply = Command { code: 0, ..Command::request(Code::ControllerGetMetadataInfo) };
            let metadata = GetMetadata.answer(&reply.with("peers", peers).with("controllerLeaderId", "")).unwrap();
            assert_eq!(metadata.leader_id, None, "an election goes on");
            metadata.peers.into_iter().map(|(id, address)| format!("{id} {address}")).collect::<Vec<_>>()
        };
        assert_eq!(ask("n0:a.b:9878;n1:c.d:9878;"), ["n0 a.b:9878", "n1 c.d:9878"]);
        assert_eq!(ask("a.b:9770;c.d:9770;"), ["a.b:9770 a.b:9770", "c.d:9770 c.d:9770"]);
        assert!(ask("").is_empty());
    }
}
