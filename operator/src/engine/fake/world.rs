//! Processes, disks and connections, and what becomes of them from tick to tick.

use std::collections::{BTreeMap, BTreeSet};

use gantry_remoting::stats::{ConsumeStats, ConsumerConnections};

use super::super::{BrokerAccess, BrokerMetadata, ConsumerOffsets, EngineWrite, Registered};
use super::consumers::Reader;

/// Ticks from a process's start until it answers. Measured: a JVM with a small heap took 3 s on an idle machine and 13 s on a busy one.
pub const START: u64 = 3;
/// Ticks that a broker needs to end in good order. Measured: 10 to 21 s.
pub const STOP: u64 = 12;
/// Ticks after the order to stop until the controllers miss a master that ends in good order, because it closes that connection late. Measured: 6.9 s.
pub const STOP_MISSED: u64 = 7;
/// Ticks until the controllers miss a broker that hangs or is cut off. Measured: 9.8 s.
pub const HANG_MISSED: u64 = 10;
/// Ticks until a name server forgets a broker that hangs or is cut off (NamesrvConfig: 120 s).
pub const HANG_UNREGISTERED: u64 = 120;
/// Ticks until a master takes a replica out of the sync state set (haMaxTimeSlaveNotCatchup, 15 s).
pub const SHRINK: u64 = 15;
/// Ticks from when a replica has everything until its master takes it into the sync state set. Measured: more than 15 s on an idle group.
pub const EXPAND: u64 = 15;
/// Bytes that a replica copies in a tick.
pub const COPY: u64 = 10_000;
/// Bytes that producers send to a group in a tick while [`World::traffic`] is on.
pub const TRAFFIC: u64 = 100;

/// What runs somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Down,
    Starting {
        up_at: u64,
    },
    Up,
    /// Ends in good order; what it no longer does depends on how long.
    Stopping {
        since: u64,
    },
}

/// A process. It is reached when it runs, is not hung and not cut off.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) hung_since: Option<u64>,
    pub(super) cut_off_since: Option<u64>,
    pub(super) config: BTreeMap<String, String>,
}

impl Default for Process {
    fn default() -> Self {
        Process { life: Life::Down, hung_since: None, cut_off_since: None, config: BTreeMap::new() }
    }
}

impl Process {
    /// True when it answers.
    pub(super) fn serves(&self) -> bool {
        matches!(self.life, Life::Up | Life::Stopping { .. })
            && self.hung_since.is_none()
            && self.cut_off_since.is_none()
    }

    /// Since when nobody heard of it although nobody closed its connections.
    pub(super) fn silent_since(&self) -> Option<u64> {
        match (self.hung_since, self.cut_off_since) {
            (Some(hung), Some(cut_off)) => Some(hung.min(cut_off)),
            (one, other) => one.or(other),
        }
    }
}

/// What a broker keeps on its volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// The controller id, once it has one.
    pub(super) id: Option<u64>,
    /// The end of its log, in bytes.
    pub(super) end: u64,
    pub(super) metadata: BrokerMetadata,
    /// Rises with every change that the engine itself makes; a replica copies when its master's differs from its own.
    pub(super) version: u64,
    /// Messages by topic, all of them in queue 0.
    pub(super) messages: BTreeMap<String, i64>,
    /// Where consumer groups go on reading.
    pub(super) offsets: ConsumerOffsets,
    /// Its own; no replica copies them.
    pub(super) access: BrokerAccess,
    /// Delayed messages.
    pub(super) delayed: i64,
}

impl Disk {
    /// The engine's versions hold the time: two brokers that both changed never have the same one.
    pub(super) fn changed(&mut self, now: u64) {
        self.version = (self.version + 1).max(now * 1_000);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub(super) group: String,
    pub(super) process: Process,
    pub(super) disk: Disk,
    /// Since when it has all that its master has.
    pub(super) caught_up_since: Option<u64>,
    /// When its master last had it up to date.
    pub(super) last_in_step: u64,
}

/// One broker group as the controllers know it; they keep it on their disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The master's id.
    pub master: Option<u64>,
    /// Rises with every election.
    pub epoch: u32,
    /// Ids in sync.
    pub in_sync: BTreeSet<u64>,
    /// Rises with every change of the former.
    pub in_sync_epoch: u32,
    /// Addresses by id, of all that ever registered and were not cleaned.
    pub replicas: BTreeMap<u64, String>,
    /// Up to where producers were told that their messages are safe, in bytes.
    pub acknowledged: u64,
    /// Bytes that were acknowledged and are gone. Must stay 0 unless the test destroyed every copy.
    pub lost: u64,
    pub(super) next_id: u64,
}

/// RocketMQ in memory.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Seconds since the beginning.
    pub now: u64,
    /// Do producers send?
    pub traffic: bool,
    /// minInSyncReplicas of all brokers that were told no other: fewer in sync, and nothing is acknowledged.
    pub min_in_sync: usize,
    /// May a replica that is not in sync become master (enableElectUncleanMaster)?
    pub unclean_election: bool,
    /// Clients of consumer groups, as the test says.
    pub consumers: BTreeMap<String, ConsumerConnections>,
    /// Clients of consumer groups that proxies know and brokers do not, as the test says; none where no proxy answers.
    pub proxied_consumers: Option<BTreeMap<String, ConsumerConnections>>,
    /// Messages by topic and queue beside those of queue 0, as the test says.
    pub queues: BTreeMap<(String, u32), i64>,
    /// How far consumer groups are, as the test says.
    pub consume_stats: BTreeMap<String, ConsumeStats>,
    /// Who reads a topic to which producers send while there is traffic.
    pub reader: Option<Reader>,
    /// Messages that wait for their time, by topic, as the test says.
    pub delayed: BTreeMap<String, i64>,
    /// Messages that wait for their time on every broker, and nobody tells in which topic, as the test says; none where nobody tells how many.
    pub delayed_elsewhere: Option<i64>,
    /// Every change that was asked for, also those that were refused.
    pub journal: Vec<EngineWrite>,
    /// What the controllers know. Kept by their disks, lost when all of them are.
    pub groups: BTreeMap<String, Group>,
    pub(super) name_servers: BTreeMap<String, NameServer>,
    pub(super) controllers: BTreeMap<String, Controller>,
    pub(super) brokers: BTreeMap<String, Broker>,
    pub(super) leader: Option<String>,
    /// The controller to which the leader sends nothing as long as it leads.
    pub(super) unheard: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct NameServer {
    pub(super) process: Process,
    pub(super) brokers: BTreeSet<Registered>,
    /// Groups whose write permission was taken.
    pub(super) wiped: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Controller {
    pub(super) process: Process,
    /// Has it what the others agreed upon? Not after it lost its disk, until it heard from a leader.
    pub(super) has_log: bool,
}

impl World {
    /// A world without anything in it.
    #[must_use]
    pub fn new(min_in_sync: usize) -> Self {
        World { min_in_sync, proxied_consumers: Some(BTreeMap::new()), delayed_elsewhere: Some(0), ..World::default() }
    }

    /// A name server at `address`, not started.
    pub fn add_name_server(&mut self, address: &str) {
        self.name_servers.entry(address.to_owned()).or_default();
    }

    /// A controller at `address`, not started. All must be there before the first is started: the engine can't change their number.
    pub fn add_controller(&mut self, address: &str) {
        self.controllers
            .entry(address.to_owned())
            .or_insert_with(|| Controller { has_log: true, ..Controller::default() });
    }

    /// A broker of `group` at `address`, not started, with an empty disk.
    pub fn add_broker(&mut self, group: &str, address: &str) {
        let broker = Broker {
            group: group.to_owned(),
            process: Process::default(),
            disk: Disk::default(),
            caught_up_since: None,
            last_in_step: 0,
        };
        self.brokers.entry(address.to_owned()).or_insert(broker);
    }

    pub(super) fn process(&self, address: &str) -> Option<&Process> {
        let name_server = self.name_servers.get(address).map(|name_server| &name_server.process);
        let controller = self.controllers.get(address).map(|controller| &controller.process);
        name_server.or(controller).or(self.brokers.get(address).map(|broker| &broker.process))
    }

    pub(super) fn process_mut(&mut self, address: &str) -> Option<&mut Process> {
        if let Some(name_server) = self.name_servers.get_mut(address) {
            return Some(&mut name_server.process);
        }
        if let Some(controller) = self.controllers.get_mut(address) {
            return Some(&mut controller.process);
        }
        self.brokers.get_mut(address).map(|broker| &mut broker.process)
    }

    /// Starts a process that is down; it answers [`START`] ticks later.
    pub fn start(&mut self, address: &str) {
        let now = self.now;
        if let Some(process) = self.process_mut(address).filter(|process| process.life == Life::Down) {
            *process = Process {
                life: Life::Starting { up_at: now + START },
                config: std::mem::take(&mut process.config),
                ..Process::default()
            };
        }
    }

    /// The configuration with which a process starts next.
    pub fn configure(&mut self, address: &str, keys: BTreeMap<String, String>) {
        if let Some(process) = self.process_mut(address) {
            process.config = keys;
        }
    }

    /// Tells a process to end in good order (SIGTERM). A broker takes [`STOP`] ticks for it, the others end with the next one.
    pub fn stop(&mut self, address: &str) {
        let now = self.now;
        if let Some(process) = self.process_mut(address).filter(|process| process.life != Life::Down) {
            process.life = if process.life == Life::Up { Life::Stopping { since: now } } else { Life::Down };
        }
        self.unregister(address);
    }

    /// Ends a process at once (SIGKILL).
    pub fn kill(&mut self, address: &str) {
        if let Some(process) = self.process_mut(address) {
            process.life = Life::Down;
            process.hung_since = None;
        }
        self.unregister(address);
    }

    /// Stops a process without ending it (SIGSTOP): it takes connections and answers nothing.
    pub fn hang(&mut self, address: &str) {
        let now = self.now;
        if let Some(process) = self.process_mut(address) {
            process.hung_since.get_or_insert(now);
        }
    }

    /// Lets a process go on that was stopped.
    pub fn resume(&mut self, address: &str) {
        if let Some(process) = self.process_mut(address) {
            process.hung_since = None;
        }
    }

    /// Nobody reaches this process, and it reaches nobody.
    pub fn cut_off(&mut self, address: &str) {
        let now = self.now;
        if let Some(process) = self.process_mut(address) {
            process.cut_off_since.get_or_insert(now);
        }
    }

    /// It is reached again.
    pub fn join(&mut self, address: &str) {
        if let Some(process) = self.process_mut(address) {
            process.cut_off_since = None;
        }
    }

    /// Kills a process and empties its disk.
    pub fn lose_disk(&mut self, address: &str) {
        self.kill(address);
        if let Some(broker) = self.brokers.get_mut(address) {
            broker.disk = Disk::default();
        }
        if let Some(controller) = self.controllers.get_mut(address) {
            controller.has_log = false;
            if self.controllers.values().all(|controller| !controller.has_log) {
                self.groups.clear();
                self.controllers.values_mut().for_each(|controller| controller.has_log = true);
            }
        }
    }

    /// True from the start of a process until its end: a pod with it is running.
    #[must_use]
    pub fn is_running(&self, address: &str) -> bool {
        self.process(address).is_some_and(|process| process.life != Life::Down)
    }

    /// True while a process answers.
    #[must_use]
    pub fn serves(&self, address: &str) -> bool {
        self.process(address).is_some_and(Process::serves)
    }

    /// The broker that holds this id: an address may since be that of another replica, with a new disk and a new id.
    pub(super) fn holder<'a>(&'a self, group: &'a Group, id: u64) -> Option<(&'a String, &'a Broker)> {
        let address = group.replicas.get(&id)?;
        let broker = self.brokers.get(address).filter(|broker| broker.disk.id == Some(id))?;
        Some((address, broker))
    }

    /// The address of a group's master while it serves.
    #[must_use]
    pub fn serving_master(&self, group: &str) -> Option<&str> {
        let known = self.groups.get(group)?;
        let (address, broker) = self.holder(known, known.master?)?;
        broker.process.serves().then_some(address)
    }

    /// True when producers get their messages acknowledged: there is a master, and enough are in sync and alive.
    #[must_use]
    pub fn is_writable(&self, group: &str) -> bool {
        let Some(known) = self.groups.get(group) else { return false };
        let serves = |id: &u64| self.holder(known, *id).is_some_and(|(_, broker)| broker.process.serves());
        self.serving_master(group).is_some()
            && known.in_sync.len() >= self.min_in_sync_of(group)
            && known.in_sync.iter().all(serves)
    }

    /// As many replicas must hold a message, as the master was told.
    pub(super) fn min_in_sync_of(&self, group: &str) -> usize {
        let master = self.serving_master(group).and_then(|a| self.brokers.get(a));
        let told = master.and_then(|b| b.process.config.get("minInSyncReplicas")?.parse().ok());
        told.unwrap_or(self.min_in_sync)
    }

    /// The leader that a controller follows, itself where it leads.
    #[must_use]
    pub fn leader_of(&self, controller: &str) -> Option<&str> {
        self.leader.as_deref().filter(|_| self.unheard.as_deref() != Some(controller))
    }

    /// The leading controller sends nothing to another one as long as it leads, as jraft-core's `Replicator` does once its first heartbeat failed.
    pub fn send_nothing_to(&mut self, controller: &str) {
        if self.leader.as_deref() != Some(controller) {
            self.unheard = Some(controller.to_owned());
        }
    }

    /// Puts messages into a topic of one broker.
    pub fn put_messages(&mut self, broker: &str, topic: &str, messages: i64) {
        if let Some(broker) = self.brokers.get_mut(broker) {
            broker.disk.messages.insert(topic.to_owned(), messages);
        }
    }

    /// Changes what a broker holds behind the engine's back, as its defects do: no version rises, so no replica copies it.
    pub fn corrupt(&mut self, broker: &str, change: impl FnOnce(&mut BrokerMetadata)) {
        if let Some(broker) = self.brokers.get_mut(broker) {
            change(&mut broker.disk.metadata);
        }
    }

    /// Whether what a broker holds is so.
    #[must_use]
    pub fn holds(&self, broker: &str, so: impl FnOnce(&BrokerMetadata) -> bool) -> bool {
        self.brokers.get(broker).is_some_and(|b| so(&b.disk.metadata))
    }

    /// Changes what a broker holds as `mqadmin` does: the version rises. A replica forgets it with its next copy.
    pub fn edit(&mut self, broker: &str, change: impl FnOnce(&mut BrokerMetadata)) {
        let now = self.now;
        if let Some(broker) = self.brokers.get_mut(broker) {
            change(&mut broker.disk.metadata);
            broker.disk.changed(now);
        }
    }

    /// A second passes.
    pub fn tick(&mut self) {
        self.now += 1;
        self.age_processes();
        self.elect_leader();
        self.tick_brokers();
        self.tick_consumers();
        self.register_brokers();
    }

    /// Seconds pass.
    pub fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    fn age_processes(&mut self) {
        let now = self.now;
        let grown = |process: &mut Process, stop: u64| match process.life {
            Life::Starting { up_at } if now >= up_at => process.life = Life::Up,
            Life::Stopping { since } if now >= since + stop => process.life = Life::Down,
            _ => {}
        };
        self.name_servers.values_mut().for_each(|name_server| grown(&mut name_server.process, 1));
        self.controllers.values_mut().for_each(|controller| grown(&mut controller.process, 1));
        self.brokers.values_mut().for_each(|broker| grown(&mut broker.process, STOP));
        for name_server in self.name_servers.values_mut().filter(|name_server| name_server.process.life == Life::Down) {
            // It keeps nothing.
            name_server.brokers.clear();
            name_server.wiped.clear();
        }
    }
}
