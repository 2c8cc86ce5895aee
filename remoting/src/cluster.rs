//! What name servers know of brokers, and what they are told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::command::Command;
use crate::properties;
use crate::request::{AnswerError, Request, accepted, body, field};

/// The broker id under which a master is registered; replicas have their controller id, from 1 on.
pub const MASTER_ID: u64 = 0;

/// Asks a name server for all brokers that it knows.
#[derive(Clone, Copy, Debug)]
pub struct GetClusterInfo;

/// All brokers that one name server knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Broker groups by name.
    #[serde(rename = "brokerAddrTable", default)]
    pub brokers: BTreeMap<String, BrokerData>,
    /// Names of broker groups by the name of their cluster.
    #[serde(rename = "clusterAddrTable", default)]
    pub clusters: BTreeMap<String, BTreeSet<String>>,
}

/// One broker group as registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerData {
    /// The engine's cluster name.
    pub cluster: String,
    /// The group's name.
    pub broker_name: String,
    /// Addresses `host:port` by broker id; [`MASTER_ID`] is the master.
    #[serde(default)]
    pub broker_addrs: BTreeMap<u64, String>,
}

impl Request for GetClusterInfo {
    type Answer = ClusterInfo;
    const CODE: Code = Code::GetBrokerClusterInfo;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<ClusterInfo, AnswerError> {
        body(Self::CODE, reply)
    }
}

/// Takes the write permission from all of a broker group's routes on one name server. A registration of the group gives it back.
#[derive(Clone, Debug)]
pub struct WipeWritePermission {
    /// The broker group.
    pub broker_name: String,
}

impl Request for WipeWritePermission {
    /// How many topics were concerned; 0 also when the name server knows no such group.
    type Answer = u32;
    const CODE: Code = Code::WipeWritePermOfBroker;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("brokerName", &self.broker_name)
    }

    fn answer(&self, reply: &Command) -> Result<u32, AnswerError> {
        field(Self::CODE, reply, "wipeTopicCount")
    }
}

/// Gives back what [`WipeWritePermission`] took.
#[derive(Clone, Debug)]
pub struct AddWritePermission {
    /// The broker group.
    pub broker_name: String,
}

impl Request for AddWritePermission {
    /// How many topics were concerned.
    type Answer = u32;
    const CODE: Code = Code::AddWritePermOfBroker;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("brokerName", &self.broker_name)
    }

    fn answer(&self, reply: &Command) -> Result<u32, AnswerError> {
        field(Self::CODE, reply, "addTopicCount")
    }
}

/// Makes one name server forget a topic's routes. To delete a topic, delete it on its brokers first.
#[derive(Clone, Debug)]
pub struct DeleteTopicRoutes {
    /// The topic.
    pub topic: String,
    /// The engine's cluster name: routes to other clusters' brokers stay.
    pub cluster: String,
}

impl Request for DeleteTopicRoutes {
    type Answer = ();
    const CODE: Code = Code::DeleteTopicInNamesrv;

    fn command(&self) -> Command {
        Command::request(Self::CODE).with("topic", &self.topic).with("clusterName", &self.cluster)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Makes one name server forget a broker, as it does by itself when nothing was heard of it for two minutes. A broker that lives is known again with its
/// next registration, within 10 s.
#[derive(Clone, Debug)]
pub struct UnregisterBroker {
    /// The engine's cluster name.
    pub cluster: String,
    /// The broker group.
    pub broker_name: String,
    /// The broker's `host:port`.
    pub address: String,
    /// The id under which it is registered: [`MASTER_ID`] or its controller id.
    pub broker_id: u64,
}

impl Request for UnregisterBroker {
    type Answer = ();
    const CODE: Code = Code::UnregisterBroker;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
            .with("clusterName", &self.cluster)
            .with("brokerName", &self.broker_name)
            .with("brokerAddr", &self.address)
            .with("brokerId", self.broker_id)
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}

/// Reads the configuration of a name server, controller or broker.
#[derive(Clone, Copy, Debug)]
pub struct GetNameServerConfig;

impl Request for GetNameServerConfig {
    type Answer = BTreeMap<String, String>;
    const CODE: Code = Code::GetNamesrvConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE)
    }

    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError> {
        Ok(properties::parse(&String::from_utf8_lossy(&accepted(reply)?.body)))
    }
}

/// Sets configuration keys of a running name server. Keys that it does not know are dropped without a word.
#[derive(Clone, Debug)]
pub struct UpdateNameServerConfig {
    /// Keys and their new values.
    pub properties: BTreeMap<String, String>,
}

impl Request for UpdateNameServerConfig {
    type Answer = ();
    const CODE: Code = Code::UpdateNamesrvConfig;

    fn command(&self) -> Command {
        Command::request(Self::CODE).body(properties::format(&self.properties))
    }

    fn answer(&self, reply: &Command) -> Result<(), AnswerError> {
        accepted(reply).map(drop)
    }
}
