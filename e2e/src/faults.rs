//! What can go wrong with a cluster: the kinds, what is expected of each, and how each is done.

use std::time::Duration;

use anyhow::{Context as _, Result};

pub use crate::target::{Target, nodes};
use crate::target::{Undo, kill_operator, switch_node};
use crate::wait::{Answer, until};

/// What clients may wait for at most, by what went wrong: the aims that reports measure against, in seconds.
const PLANNED: f64 = 2.0;
const DEATH: f64 = 3.0;
const SILENCE: f64 = 10.0;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The master's pod is deleted, and nobody hands over before.
    DeleteMaster,
    /// The master's process ends without a word (`kill -9`).
    KillMaster,
    /// A slave's process ends without a word.
    KillSlave,
    /// The master stands still (SIGSTOP), connections open.
    HangMaster,
    /// A slave stands still.
    HangSlave,
    /// The master's volume and pod are deleted.
    LoseMasterVolume,
    /// A slave's volume and pod are deleted.
    LoseSlaveVolume,
    /// The master reaches nobody and nobody reaches it, as if its node had lost the network.
    CutOffMaster,
    /// The master and one slave don't reach each other.
    CutMasterFromSlave,
    /// The master does not reach the controllers.
    CutMasterFromControllers,
    /// A slave does not reach the controllers.
    CutSlaveFromControllers,
    /// The master and the name servers don't reach each other.
    CutMasterFromNameServers,
    /// A proxy does not reach the master.
    CutProxyFromMaster,
    /// The leading controller and the other controllers don't reach each other.
    CutControllerLeader,
    /// The operator reaches nothing of the cluster.
    CutOperator,
    /// The leading controller ends without a word.
    KillControllerLeader,
    /// A minority of the controllers, the leader among them, stands still.
    HangControllerMinority,
    /// A majority of the controllers stands still.
    HangControllerMajority,
    /// A majority of the controllers stands still, and the master ends without a word.
    HangControllerMajorityAndKillMaster,
    /// The leading controller's volume and pod are deleted.
    LoseControllerVolume,
    /// All name servers end without a word.
    KillNameServers,
    /// All name servers stand still.
    HangNameServers,
    /// A proxy ends without a word.
    KillProxy,
    /// The operator ends without a word.
    KillOperator,
    /// A key that brokers read at their start is changed: a roll.
    Roll,
    /// A roll, and the operator ends without a word in the middle of it.
    RollAndKillOperator,
    /// The master's node is drained with `kubectl drain`, and takes pods again.
    DrainNode,
    /// The master's node loses its power, and gets it back.
    KillNode,
}

/// A fault that was done. What lasts of it ends with it.
#[derive(Debug)]
pub struct Injected {
    /// What was done, to whom.
    pub what: String,
    undo: Undo,
}

impl Fault {
    /// All there are.
    pub const ALL: [Fault; 28] = [
        Self::DeleteMaster,
        Self::KillMaster,
        Self::KillSlave,
        Self::HangMaster,
        Self::HangSlave,
        Self::LoseMasterVolume,
        Self::LoseSlaveVolume,
        Self::CutOffMaster,
        Self::CutMasterFromSlave,
        Self::CutMasterFromControllers,
        Self::CutSlaveFromControllers,
        Self::CutMasterFromNameServers,
        Self::CutProxyFromMaster,
        Self::CutControllerLeader,
        Self::CutOperator,
        Self::KillControllerLeader,
        Self::HangControllerMinority,
        Self::HangControllerMajority,
        Self::HangControllerMajorityAndKillMaster,
        Self::LoseControllerVolume,
        Self::KillNameServers,
        Self::HangNameServers,
        Self::KillProxy,
        Self::KillOperator,
        Self::Roll,
        Self::RollAndKillOperator,
        Self::DrainNode,
        Self::KillNode,
    ];

    /// Whether it takes more than one node: what is on the one must have a place elsewhere.
    #[must_use]
    pub fn needs_nodes(self) -> bool {
        matches!(self, Self::DrainNode | Self::KillNode)
    }

    /// As reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeleteMaster => "master deleted",
            Self::KillMaster => "master killed",
            Self::KillSlave => "slave killed",
            Self::HangMaster => "master hangs",
            Self::HangSlave => "slave hangs",
            Self::LoseMasterVolume => "master's volume lost",
            Self::LoseSlaveVolume => "slave's volume lost",
            Self::CutOffMaster => "master cut off",
            Self::CutMasterFromSlave => "master and slave cut",
            Self::CutMasterFromControllers => "master and controllers cut",
            Self::CutSlaveFromControllers => "slave and controllers cut",
            Self::CutMasterFromNameServers => "master and name servers cut",
            Self::CutProxyFromMaster => "proxy and master cut",
            Self::CutControllerLeader => "controllers cut from leader",
            Self::CutOperator => "operator cut off",
            Self::KillControllerLeader => "controller leader killed",
            Self::HangControllerMinority => "controller leader hangs",
            Self::HangControllerMajority => "controller majority hangs",
            Self::HangControllerMajorityAndKillMaster => "no majority, master killed",
            Self::LoseControllerVolume => "controller's volume lost",
            Self::KillNameServers => "all name servers killed",
            Self::HangNameServers => "all name servers hang",
            Self::KillProxy => "proxy killed",
            Self::KillOperator => "operator killed",
            Self::Roll => "planned roll",
            Self::RollAndKillOperator => "roll, operator killed",
            Self::DrainNode => "node drained",
            Self::KillNode => "node killed",
        }
    }

    /// How long it lasts before it is undone; nothing for what is over at once.
    #[must_use]
    pub fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            Self::KillNode => 60,
            // Long enough for probes to fail and the status to tell.
            Self::HangSlave | Self::HangControllerMajority | Self::HangControllerMajorityAndKillMaster => 45,
            Self::HangMaster
            | Self::HangNameServers
            | Self::CutOffMaster
            | Self::CutMasterFromNameServers
            | Self::CutOperator => 30,
            Self::CutMasterFromSlave
            | Self::CutMasterFromControllers
            | Self::CutSlaveFromControllers
            | Self::CutProxyFromMaster
            | Self::CutControllerLeader
            | Self::HangControllerMinority => 20,
            _ => 0,
        })
    }

    /// How long clients may find no way to write at most, in seconds; none where nothing can be written before it is undone.
    #[must_use]
    pub fn aim(self) -> Option<f64> {
        match self {
            Self::Roll | Self::RollAndKillOperator | Self::DrainNode => Some(PLANNED),
            Self::DeleteMaster
            | Self::KillMaster
            | Self::KillSlave
            | Self::LoseMasterVolume
            | Self::LoseSlaveVolume
            | Self::KillControllerLeader
            | Self::LoseControllerVolume
            | Self::KillNameServers
            | Self::KillProxy
            | Self::KillOperator => Some(DEATH),
            Self::HangMaster
            | Self::HangSlave
            | Self::CutOffMaster
            | Self::CutMasterFromSlave
            | Self::CutMasterFromControllers
            | Self::CutSlaveFromControllers
            | Self::CutMasterFromNameServers
            | Self::CutProxyFromMaster
            | Self::CutControllerLeader
            | Self::CutOperator
            | Self::HangControllerMinority
            | Self::HangControllerMajority
            | Self::HangNameServers
            | Self::KillNode => Some(SILENCE),
            Self::HangControllerMajorityAndKillMaster => None,
        }
    }

    /// The reason that a condition of the BrokerCluster must have while it lasts, where it lasts long enough to be told.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::HangControllerMajorityAndKillMaster => Some("NoControllerLeader"),
            Self::HangSlave => Some("ReplicasNotInSync"),
            _ => None,
        }
    }

    /// Whether no replica may become master while it lasts: nobody could have elected it.
    #[must_use]
    pub fn forbids_masters(self) -> bool {
        matches!(self, Self::HangControllerMajority | Self::HangControllerMajorityAndKillMaster)
    }

    /// Whether a replica comes back under another identity.
    #[must_use]
    pub fn loses_identity(self) -> bool {
        matches!(self, Self::LoseMasterVolume | Self::LoseSlaveVolume)
    }

    /// The kind that reports call so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// Those that somebody chose by their names, with a semicolon between; all where nobody did.
    ///
    /// # Errors
    /// Where there is none of a name.
    pub fn chosen(names: &str) -> Result<Vec<Self>> {
        let names: Vec<&str> = names.split(';').map(str::trim).filter(|n| !n.is_empty()).collect();
        if names.is_empty() {
            return Ok(Self::ALL.to_vec());
        }
        let known = || Self::ALL.map(Self::name).join("; ");
        names
            .iter()
            .map(|n| Self::named(n).with_context(|| format!("there is no fault {n:?}: write some of {}", known())))
            .collect()
    }

    /// Does it. `nth` chooses among several that it could be done to, and makes a changed value another one.
    ///
    /// # Errors
    /// Where the cluster is not as it must be for this fault: no master, no slave, no process to be found. What was done of it by then is undone.
    pub fn inject(self, target: Target<'_>, nth: usize) -> Result<Injected> {
        let mut undo = Undo::default();
        let what = self.act(target, nth, &mut undo)?;
        Ok(Injected { what, undo })
    }

    fn act(self, t: Target<'_>, nth: usize, undo: &mut Undo) -> Result<String> {
        Ok(match self {
            Self::DeleteMaster => t.delete(&t.master()?)?,
            Self::KillMaster => t.kill(&t.master()?)?,
            Self::KillSlave => t.kill(&t.slave(nth)?)?,
            Self::HangMaster => t.hang(&t.master()?, undo)?,
            Self::HangSlave => t.hang(&t.slave(nth)?, undo)?,
            Self::LoseMasterVolume => t.lose_volume(&t.master()?)?,
            Self::LoseSlaveVolume => t.lose_volume(&t.slave(nth)?)?,
            Self::CutOffMaster => t.cut_off(&t.master()?, undo)?,
            Self::CutMasterFromSlave => t.cut(&t.master()?, &[t.slave(nth)?], undo)?,
            Self::CutMasterFromControllers => t.cut(&t.master()?, &t.pods("controller")?, undo)?,
            Self::CutSlaveFromControllers => t.cut(&t.slave(nth)?, &t.pods("controller")?, undo)?,
            Self::CutMasterFromNameServers => t.cut(&t.master()?, &t.pods("nameserver")?, undo)?,
            Self::CutProxyFromMaster => t.cut(&t.proxy(nth)?, &[t.master()?], undo)?,
            Self::CutControllerLeader => {
                let leader = t.controller_leader()?;
                let mut others = t.pods("controller")?;
                others.retain(|pod| *pod != leader);
                t.cut(&leader, &others, undo)?
            }
            Self::CutOperator => t.cut_operator(undo)?,
            Self::KillControllerLeader => t.kill(&t.controller_leader()?)?,
            Self::HangControllerMinority => t.hang(&t.controller_leader()?, undo)?,
            Self::HangControllerMajority => t.hang_majority(undo)?,
            Self::HangControllerMajorityAndKillMaster => {
                let master = t.master()?;
                format!("{}; {}", t.hang_majority(undo)?, t.kill(&master)?)
            }
            Self::LoseControllerVolume => t.lose_volume(&t.controller_leader()?)?,
            Self::KillNameServers => {
                t.pods("nameserver")?.iter().map(|pod| t.kill(pod)).collect::<Result<Vec<_>>>()?.join(", ")
            }
            Self::HangNameServers => t.hang_all(&t.pods("nameserver")?, undo)?,
            Self::KillProxy => t.kill(&t.proxy(nth)?)?,
            Self::KillOperator => kill_operator()?,
            Self::Roll => t.roll(nth)?,
            Self::RollAndKillOperator => {
                let what = t.roll(nth)?;
                until("the roll is under way", Duration::from_secs(120), || {
                    let brokers = t.namespace.list("pods", &t.selector("broker"))?;
                    let going = brokers.iter().any(|p| !p["metadata"]["deletionTimestamp"].is_null());
                    Ok(Answer::when(going, (), || "no broker goes yet".into()))
                })?;
                format!("{what}; {}", kill_operator()?)
            }
            Self::DrainNode => t.drain(undo)?,
            Self::KillNode => {
                t.spread()?;
                t.part_master_from_clients()?;
                let (master, node) = t.masters_node()?;
                switch_node("kill", &node)?;
                undo.starts(&node);
                format!("{node} killed, {master} was on it")
            }
        })
    }
}

impl Injected {
    /// Undoes what lasts. What has gone meanwhile needs no undoing.
    pub fn heal(self) {
        drop(self.undo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_their_whole_names() {
        assert_eq!(
            Fault::chosen("roll, operator killed; master killed").ok(),
            Some(vec![Fault::RollAndKillOperator, Fault::KillMaster])
        );
        assert_eq!(Fault::chosen(" ").map(|all| all.len()).ok(), Some(Fault::ALL.len()));
        assert!(Fault::chosen("killed").is_err());
        let names: std::collections::BTreeSet<&str> = Fault::ALL.into_iter().map(Fault::name).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }

    #[test]
    fn what_is_told_of_a_fault_is_told_while_it_lasts() {
        for fault in Fault::ALL.into_iter().filter(|f| f.reason().is_some() || f.forbids_masters()) {
            assert!(fault.lasts() >= Duration::from_secs(30), "{}", fault.name());
        }
    }
}
