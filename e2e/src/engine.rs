//! What the engine itself says, asked where it runs: pods' addresses must be reachable, as below `hack/cluster exec`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gantry_remoting::blocking::ask;
use gantry_remoting::broker::GetHaStatus;
use gantry_remoting::controller::{GetMetadata, GetSyncStateData, ReplicasInfo};
use gantry_remoting::request::Request;
use gantry_remoting::stats::GetConsumeStats;
use serde_json::Value;

use crate::kubectl::Namespace;
use crate::wait::{Answer, until};

/// Port of brokers for clients and admin calls.
pub const BROKER: u16 = 10911;
/// Port of controllers for brokers and admin calls.
pub const CONTROLLER: u16 = 9878;
/// Port of name servers.
pub const NAME_SERVER: u16 = 9876;
/// A machine of tests is slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// The one cluster of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Engine<'a> {
    namespace: &'a Namespace,
}

/// A pod of the engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its name.
    pub pod: String,
    /// Its address, without a port.
    pub ip: String,
    /// Its node.
    pub node: String,
}

impl Member {
    /// The broker group of a broker: `ha-broker-0` of `ha-broker-0-2`.
    #[must_use]
    pub fn group(&self) -> &str {
        self.pod.rsplit_once('-').map_or(&self.pod, |(group, _)| group)
    }

    /// Puts a question to it.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub fn ask<R: Request>(&self, port: u16, request: &R) -> Result<R::Answer> {
        self.ask_within(port, request, PATIENCE)
    }

    /// The same in at most `time`.
    ///
    /// # Errors
    /// As [`Member::ask`].
    pub fn ask_within<R: Request>(&self, port: u16, request: &R, time: Duration) -> Result<R::Answer> {
        ask(&format!("{}:{port}", self.ip), request, time).with_context(|| self.pod.clone())
    }
}

impl<'a> Engine<'a> {
    /// The cluster in this namespace.
    #[must_use]
    pub fn of(namespace: &'a Namespace) -> Self {
        Self { namespace }
    }

    /// Pods of a role that have an address and are to stay.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub fn members(self, component: &str) -> Result<Vec<Member>> {
        let pods = self.namespace.list("pods", &format!("app.kubernetes.io/component={component}"))?;
        let text = |value: &Value| value.as_str().map(Into::into);
        let member = |pod: &Value| {
            let (name, ip, node) = (&pod["metadata"]["name"], &pod["status"]["podIP"], &pod["spec"]["nodeName"]);
            Some(Member { pod: text(name)?, ip: text(ip)?, node: text(node)? })
        };
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods.iter().filter(stays).filter_map(member).collect())
    }

    /// The brokers that call themselves masters. All brokers must answer.
    ///
    /// # Errors
    /// Where one does not.
    pub fn masters(self) -> Result<Vec<Member>> {
        let mut masters = Vec::new();
        for broker in self.members("broker")? {
            if broker.ask(BROKER, &GetHaStatus)?.master {
                masters.push(broker);
            }
        }
        Ok(masters)
    }

    /// What the controllers' leader knows of broker groups.
    ///
    /// # Errors
    /// Where no controller leads.
    pub fn sync_state(self, groups: &[String]) -> Result<BTreeMap<String, ReplicasInfo>> {
        for controller in self.members("controller")? {
            let leads = controller.ask(CONTROLLER, &GetMetadata).is_ok_and(|m| m.is_leader);
            if leads {
                return controller.ask(CONTROLLER, &GetSyncStateData { broker_names: groups.to_vec() });
            }
        }
        bail!("no controller leads")
    }

    /// Messages that the brokers still have for a consumer group: ready, in flight, or to be delivered again. Consumers must have stopped.
    ///
    /// # Errors
    /// Where a broker does not answer within a minute.
    pub fn left(self, group: &str) -> Result<u64> {
        let question = GetConsumeStats { group: group.into(), topic: None };
        until(&format!("what is left for {group} is known"), Duration::from_secs(60), || {
            let masters = self.masters()?;
            ensure!(!masters.is_empty(), "there is no master");
            let lags: Vec<i64> = masters.iter().map(|m| Ok(m.ask(BROKER, &question)?.lag())).collect::<Result<_>>()?;
            Ok(Answer::Yes(lags.into_iter().map(i64::unsigned_abs).sum()))
        })
    }
}
