//! Judging the facts: pure, so that every case is a line of a table.

use std::fmt;
use std::time::Duration;

use crate::role::Role;

/// What a name server says of itself.
#[derive(Clone, Debug)]
pub struct NameServerFacts {
    /// How many replicas it lists.
    pub brokers: Result<usize, String>,
}

/// What a controller says of itself.
#[derive(Clone, Debug)]
pub struct ControllerFacts {
    /// The leader that it knows.
    pub leader: Result<Option<String>, String>,
}

/// What is known of a broker.
#[derive(Clone, Debug)]
pub struct BrokerFacts {
    /// Whether it answers.
    pub own: Result<(), String>,
    /// For every name server: whether it lists this broker under its own address.
    pub registered: Vec<(String, Result<bool, String>)>,
    /// What the controllers say of it.
    pub membership: Membership,
}

/// A replica's place in its group, by the leading controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is the master.
    Master,
    /// It has all that was acknowledged.
    InSync,
    /// It is known and not in sync.
    Behind,
    /// It is not known.
    Absent,
    /// No leader could be asked, for this reason.
    Unknown(String),
}

/// What is known of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyFacts {
    /// Whether the gRPC port takes connections.
    pub grpc: Result<(), String>,
    /// Whether a question over remoting is answered.
    pub remoting: Result<(), String>,
    /// For every name server: whether it lists a master that takes messages.
    pub masters: Vec<(String, Result<bool, String>)>,
}

/// Whether a process hangs.
#[derive(Clone, Debug)]
pub enum Life {
    /// It answers.
    Answers,
    /// It took the connection and said nothing.
    Silent {
        /// For how long.
        within: Duration,
    },
    /// Neither was seen.
    Unproven(String),
}

/// Why a role can't serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its own process does not answer.
    NoAnswer(String),
    /// The controllers have not elected a leader.
    NoLeader,
    /// Not one name server answers.
    NoNameServer(String),
    /// These name servers do not list it.
    NotRegistered(Vec<String>),
    /// It lacks acknowledged messages.
    NotInSync,
    /// The controllers do not know it.
    NotAMember,
    /// No name server lists a master that takes messages.
    NoMaster,
    /// The process takes connections and does not answer.
    Hangs {
        /// Whose process.
        role: Role,
        /// For how long it was silent.
        within: Duration,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(reason) => write!(f, "it does not answer: {reason}"),
            Self::NoLeader => f.write_str("the controllers have no leader"),
            Self::NoNameServer(reason) => write!(f, "no name server answers: {reason}"),
            Self::NotRegistered(servers) => write!(f, "it is not registered on {}", servers.join(", ")),
            Self::NotInSync => f.write_str("it is not in the sync state set"),
            Self::NotAMember => f.write_str("the controllers do not know this replica"),
            Self::NoMaster => f.write_str("no name server lists a master that takes messages"),
            Self::Hangs { role, within } => {
                write!(f, "the {role} takes connections and answers none within {:.1} s", within.as_secs_f64())
            }
        }
    }
}

/// A name server serves as soon as it answers: also without brokers, so that they can register.
pub fn name_server(facts: &NameServerFacts) -> Result<String, Unfit> {
    let brokers = facts.brokers.as_ref().map_err(|reason| Unfit::NoAnswer(reason.clone()))?;
    Ok(format!("it answers and lists {brokers} broker replicas"))
}

/// A controller serves when it knows a leader, itself or another.
pub fn controller(facts: &ControllerFacts) -> Result<String, Unfit> {
    match &facts.leader {
        Ok(Some(leader)) => Ok(format!("it knows the leader {leader}")),
        Ok(None) => Err(Unfit::NoLeader),
        Err(reason) => Err(Unfit::NoAnswer(reason.clone())),
    }
}

/// A broker serves when it answers, can be found, and is the master or in sync. Without controllers it serves as what it was.
pub fn broker(facts: &BrokerFacts) -> Result<String, Unfit> {
    facts.own.clone().map_err(Unfit::NoAnswer)?;
    let answered = answered(&facts.registered)?;
    let lacking: Vec<_> = answered.iter().filter(|(_, lists)| !lists).map(|(server, _)| (*server).to_owned()).collect();
    if !lacking.is_empty() {
        return Err(Unfit::NotRegistered(lacking));
    }
    let place = match &facts.membership {
        Membership::Master => "is the master".to_owned(),
        Membership::InSync => "is in the sync state set".to_owned(),
        Membership::Unknown(reason) => format!("keeps the role it had ({reason})"),
        Membership::Behind => return Err(Unfit::NotInSync),
        Membership::Absent => return Err(Unfit::NotAMember),
    };
    Ok(format!("it {place} and is registered on {} of {} name servers", answered.len(), facts.registered.len()))
}

/// A proxy serves when its ports answer and a master is there. It knows its routes by heart: name servers that are all silent do not stop it.
pub fn proxy(facts: &ProxyFacts) -> Result<String, Unfit> {
    facts.grpc.clone().and_then(|()| facts.remoting.clone()).map_err(Unfit::NoAnswer)?;
    match writable_master(&facts.masters) {
        Err(Unfit::NoNameServer(reason)) => {
            Ok(format!("it answers, with the routes it remembers: no name server answers: {reason}"))
        }
        Err(unfit) => Err(unfit),
        Ok(server) => Ok(format!("it answers and {server}")),
    }
}

/// There is a master that takes messages when some name server lists one.
pub fn writable_master(masters: &[(String, Result<bool, String>)]) -> Result<String, Unfit> {
    let answered = answered(masters)?;
    let listing = answered.iter().find(|(_, lists)| *lists);
    listing.map(|(server, _)| format!("{server} lists a master that takes messages")).ok_or(Unfit::NoMaster)
}

/// Only silence after an accepted connection proves a hang. A port that is closed may be a broker reading its log: that can take long.
pub fn live(role: Role, life: &Life) -> Result<String, Unfit> {
    match life {
        Life::Answers => Ok("it answers".to_owned()),
        Life::Unproven(reason) => Ok(format!("it is not seen to hang: {reason}")),
        Life::Silent { within } => Err(Unfit::Hangs { role, within: *within }),
    }
}

/// The servers that answered, of which there must be one.
fn answered(servers: &[(String, Result<bool, String>)]) -> Result<Vec<(&str, bool)>, Unfit> {
    let answered: Vec<_> =
        servers.iter().filter_map(|(server, answer)| Some((server.as_str(), *answer.as_ref().ok()?))).collect();
    if answered.is_empty() {
        let reason = servers.iter().find_map(|(_, answer)| answer.as_ref().err().cloned());
        return Err(Unfit::NoNameServer(reason.unwrap_or_else(|| "GANTRY_NAMESERVERS is not set".to_owned())));
    }
    Ok(answered)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
