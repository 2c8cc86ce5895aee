//! What a probe finds out. Every question has its own limit of time, and those to several servers are put at once.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use gantry_remoting::blocking::{self, AskError, CallError};
use gantry_remoting::broker::GetHaStatus;
use gantry_remoting::cluster::{ClusterInfo, GetClusterInfo};
use gantry_remoting::controller::{GetMetadata, GetSyncStateData, Metadata, ReplicasInfo};
use gantry_remoting::route::GetRoute;
use gantry_remoting::{AnswerError, Request};

use super::verdict::{BrokerFacts, ControllerFacts, Life, Membership, NameServerFacts, ProxyFacts};
use crate::role::Role;
use crate::settings::Settings;

/// For the process in this pod: it answers in milliseconds, and under full load in tenths of a second.
const OWN: Duration = Duration::from_millis(1500);
/// For servers in other pods, which may be gone: resolving and connecting are part of it.
const OTHERS: Duration = Duration::from_millis(1100);
/// For the liveness question: all the time that there is.
const LIFE: Duration = Duration::from_millis(3500);
/// The proxy's gRPC port.
const GRPC: u16 = 8081;

/// The name server's own answer.
pub fn name_server(settings: &Settings) -> NameServerFacts {
    NameServerFacts {
        brokers: ask(&settings.own(Role::NameServer.remoting_port()), &GetClusterInfo, OWN).map(|info| replicas(&info)),
    }
}

/// The controller's own answer.
pub fn controller(settings: &Settings) -> ControllerFacts {
    let own = ask(&settings.own(Role::Controller.remoting_port()), &GetMetadata, OWN);
    ControllerFacts { leader: own.map(|metadata| metadata.leader_address) }
}

/// The broker's own answer, what the name servers list, and what the leading controller says of its group.
pub fn broker(settings: &Settings) -> BrokerFacts {
    let port = Role::Broker.remoting_port();
    let address = settings.host.as_ref().map(|host| format!("{host}:{port}"));
    let (own, (registered, membership)) = thread::scope(|scope| {
        let own = scope.spawn(|| answers(&settings.own(port), &GetHaStatus, OWN));
        let membership = scope.spawn(|| membership(settings, address.as_deref()));
        let registered = ask_each(&settings.name_servers, |server| {
            ask(server, &GetClusterInfo, OTHERS)
                .map(|info| address.as_deref().is_some_and(|address| lists(&info, address)))
        });
        (
            joined(own.join()).and_then(|answer| answer),
            (registered, joined(membership.join()).unwrap_or_else(Membership::Unknown)),
        )
    });
    BrokerFacts { own, registered, membership }
}

/// Whether the proxy takes connections and answers, and what the name servers list.
pub fn proxy(settings: &Settings) -> ProxyFacts {
    let topic = GetRoute { topic: settings.cluster.clone().unwrap_or_default() };
    thread::scope(|scope| {
        let remoting = scope.spawn(|| answers(&settings.own(Role::Proxy.remoting_port()), &topic, OWN));
        let masters = writable_masters(settings);
        ProxyFacts {
            grpc: accepts(&settings.own(GRPC)),
            remoting: joined(remoting.join()).and_then(|answer| answer),
            masters,
        }
    })
}

/// For every name server: whether it lists a master that takes messages. Every broker has a topic of its cluster's name.
pub fn writable_masters(settings: &Settings) -> Vec<(String, Result<bool, String>)> {
    let topic = GetRoute { topic: settings.cluster.clone().unwrap_or_default() };
    ask_each(&settings.name_servers, |server| match blocking::ask(server, &topic, OTHERS) {
        Ok(route) => Ok(route.is_writable()),
        // It answers, and knows no such topic: no broker is there.
        Err(AskError::Answer(AnswerError::Refused { .. })) => Ok(false),
        Err(error) => Err(sentence(&error)),
    })
}

/// Whether the role's process takes connections without answering them.
pub fn life(role: Role, settings: &Settings) -> Life {
    let own = settings.own(role.remoting_port());
    // Any answer will do, so the question is one that costs its role little: GET_BROKER_RUNTIME_INFO counts through the whole timer wheel, 0.35 s of a core
    // (5.5.0, TimerMessageStore.getAllCongestNum).
    let asked = match role {
        Role::NameServer | Role::Proxy => {
            let topic = settings.cluster.clone().unwrap_or_default();
            blocking::call(&own, &GetRoute { topic }.command(), LIFE)
        }
        Role::Controller => blocking::call(&own, &GetMetadata.command(), LIFE),
        Role::Broker => blocking::call(&own, &GetHaStatus.command(), LIFE),
    };
    match asked {
        Ok(_) => Life::Answers,
        Err(CallError::NoAnswer { .. }) => Life::Silent { within: LIFE },
        Err(error) => Life::Unproven(sentence(&error)),
    }
}

fn membership(settings: &Settings, address: Option<&str>) -> Membership {
    let (Some(group), Some(address)) = (settings.group(), address) else {
        return Membership::Unknown("POD_NAME and GANTRY_HOST do not say which replica this is".to_owned());
    };
    let found = ask_each(&settings.controllers, |controller| ask(controller, &GetMetadata, OTHERS));
    let Some(leader) = leader(&found) else {
        return Membership::Unknown("no controller knows a leader".to_owned());
    };
    match ask(&leader, &GetSyncStateData { broker_names: vec![group.to_owned()] }, OTHERS) {
        Ok(groups) => place(groups.get(group), address),
        Err(reason) => Membership::Unknown(reason),
    }
}

/// The leader that says of itself that it is one, else the one that others name: after a failover some are late.
fn leader(found: &[(String, Result<Metadata, String>)]) -> Option<String> {
    let answers = || found.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let named = |metadata: &Metadata| metadata.leader_address.clone();
    answers().filter(|metadata| metadata.is_leader).find_map(named).or_else(|| answers().find_map(named))
}

fn place(group: Option<&ReplicasInfo>, address: &str) -> Membership {
    let Some(group) = group else { return Membership::Absent };
    let among = |replicas: &[gantry_remoting::controller::ReplicaIdentity]| {
        replicas.iter().any(|replica| replica.broker_address == address)
    };
    if group.master_address.as_deref() == Some(address) {
        Membership::Master
    } else if among(&group.in_sync_replicas) {
        Membership::InSync
    } else if among(&group.not_in_sync_replicas) {
        Membership::Behind
    } else {
        Membership::Absent
    }
}

fn lists(info: &ClusterInfo, address: &str) -> bool {
    info.brokers.values().any(|group| group.broker_addrs.values().any(|registered| registered == address))
}

fn replicas(info: &ClusterInfo) -> usize {
    info.brokers.values().map(|group| group.broker_addrs.len()).sum()
}

fn accepts(address: &str) -> Result<(), String> {
    let parsed = address.parse().map_err(|_| format!("{address} is not an address"))?;
    TcpStream::connect_timeout(&parsed, OWN)
        .map(drop)
        .map_err(|error| format!("{address} takes no connection: {error}"))
}

fn ask<R: Request>(address: &str, request: &R, limit: Duration) -> Result<R::Answer, String> {
    blocking::ask(address, request, limit).map_err(|error| sentence(&error))
}

/// Succeeds on any answer, also a refusal: users and rights are no matter of health.
fn answers<R: Request>(address: &str, request: &R, limit: Duration) -> Result<(), String> {
    match blocking::ask(address, request, limit) {
        Ok(_) | Err(AskError::Answer(_)) => Ok(()),
        Err(error) => Err(sentence(&error)),
    }
}

/// Puts the same question to several servers at once.
fn ask_each<T: Send>(
    servers: &[String],
    question: impl Fn(&str) -> Result<T, String> + Sync,
) -> Vec<(String, Result<T, String>)> {
    let question = &question;
    thread::scope(|scope| {
        let asked: Vec<_> = servers.iter().map(|server| (server, scope.spawn(move || question(server)))).collect();
        asked
            .into_iter()
            .map(|(server, answer)| (server.clone(), joined(answer.join()).and_then(|answer| answer)))
            .collect()
    })
}

fn joined<T>(outcome: thread::Result<T>) -> Result<T, String> {
    outcome.map_err(|_| "the probe itself failed".to_owned())
}

fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_remoting::Command;
    use gantry_remoting::command::{PREFIX, length_after};
    use gantry_remoting::controller::ReplicaIdentity;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const ME: &str = "shop-broker-0-1.shop-broker.ns.svc.cluster.local:10911";
    const OTHER: &str = "shop-broker-0-0.shop-broker.ns.svc.cluster.local:10911";

    fn replica(broker_id: u64, address: &str) -> ReplicaIdentity {
        ReplicaIdentity { broker_id, broker_address: address.to_owned(), alive: Some(true) }
    }

    fn group(master: Option<&str>, in_sync: &[&str], behind: &[&str]) -> ReplicasInfo {
        ReplicasInfo {
            master_broker_id: master.map(|_| 1),
            master_address: master.map(str::to_owned),
            master_epoch: 1,
            sync_state_set_epoch: 1,
            in_sync_replicas: in_sync.iter().map(|address| replica(1, address)).collect(),
            not_in_sync_replicas: behind.iter().map(|address| replica(2, address)).collect(),
        }
    }

    #[test]
    fn a_replicas_place_is_what_the_leading_controller_says_of_its_address() {
        let cases = [
            (Some(group(Some(ME), &[ME, OTHER], &[])), Membership::Master),
            (Some(group(Some(OTHER), &[OTHER, ME], &[])), Membership::InSync),
            (Some(group(None, &[OTHER, ME], &[])), Membership::InSync),
            (Some(group(Some(OTHER), &[OTHER], &[ME])), Membership::Behind),
            (Some(group(Some(OTHER), &[OTHER], &[])), Membership::Absent),
            (None, Membership::Absent),
        ];
        for (group, expected) in cases {
            assert_eq!(place(group.as_ref(), ME), expected, "{group:?}");
        }
    }

    #[test]
    fn the_leader_that_speaks_for_itself_is_believed_before_those_that_name_one() {
        let answer = |is_leader, leader: Option<&str>| {
            let metadata = Metadata { is_leader, leader_address: leader.map(str::to_owned), ..Metadata::default() };
            ("c:9878".to_owned(), Ok(metadata))
        };
        let gone = || ("c:9878".to_owned(), Err("no route".to_owned()));
        let cases = [
            (vec![answer(false, Some("old:9878")), answer(true, Some("new:9878"))], Some("new:9878")),
            (vec![gone(), answer(false, Some("b:9878"))], Some("b:9878")),
            (vec![answer(false, None), gone()], None),
            (vec![], None),
        ];
        for (found, expected) in cases {
            assert_eq!(leader(&found).as_deref(), expected);
        }
    }

    /// A broker's port on an address of the loopback that is this test's alone.
    fn broker_at(ip: &str) -> (Settings, TcpListener) {
        let settings = Settings { pod_ip: Some(ip.parse().unwrap()), ..Settings::default() };
        let listener = TcpListener::bind(settings.own(Role::Broker.remoting_port())).unwrap();
        (settings, listener)
    }

    #[test]
    fn a_closed_port_proves_nothing_silence_proves_a_hang_and_any_answer_life() {
        let (settings, listener) = broker_at("127.83.0.1");
        drop(listener);
        assert!(matches!(life(Role::Broker, &settings), Life::Unproven(_)));

        // The kernel takes the connection, the process never does.
        let (settings, _hangs) = broker_at("127.83.0.2");
        let silent = life(Role::Broker, &settings);
        assert!(matches!(silent, Life::Silent { within } if within == LIFE), "{silent:?}");

        let (settings, listener) = broker_at("127.83.0.3");
        let refuses = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut prefix = [0; PREFIX];
            stream.read_exact(&mut prefix).unwrap();
            let mut rest = vec![0; length_after(prefix).unwrap()];
            stream.read_exact(&mut rest).unwrap();
            let mut refusal = Command::decode_after_prefix(&rest).unwrap();
            // A refusal is an answer: users and rights are no matter of health.
            (refusal.code, refusal.flag) = (16, 1);
            stream.write_all(&refusal.encode().unwrap()).unwrap();
        });
        let answered = life(Role::Broker, &settings);
        refuses.join().unwrap();
        assert!(matches!(answered, Life::Answers), "{answered:?}");
    }
}
