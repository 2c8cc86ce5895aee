//! The brokers: logs, the sync state set, registration.

use std::collections::BTreeSet;

use super::super::Registered;
use super::world::{COPY, EXPAND, HANG_UNREGISTERED, Life, SHRINK, TRAFFIC, World};

impl World {
    pub(super) fn tick_brokers(&mut self) {
        if self.leader.is_some() {
            let up =
                self.brokers.iter().filter(|(_, broker)| broker.process.serves() && broker.process.life == Life::Up);
            let up: Vec<String> = up.map(|(address, _)| address.clone()).collect();
            for address in up {
                self.join_controllers(&address);
            }
            self.replace_missing_masters();
        }
        let names: Vec<String> = self.groups.keys().cloned().collect();
        for name in names {
            self.write_and_copy(&name);
            self.change_sync_state_set(&name);
        }
    }

    /// Producers write to the master, replicas copy from it, and what all in sync have is acknowledged if they are enough.
    fn write_and_copy(&mut self, name: &str) {
        let Some(master) = self.serving_master(name).map(str::to_owned) else { return };
        let writable = self.traffic && self.is_writable(name) && self.takes_messages(&master);
        let (now, group) = (self.now, &self.groups[name]);
        let enough = group.in_sync.len() >= self.min_in_sync_of(name);
        let known = group.replicas.keys().filter_map(|id| self.holder(group, *id)).map(|(address, _)| address.clone());
        let known: BTreeSet<String> = known.collect();
        let Some(broker) = self.brokers.get_mut(&master) else { return };
        broker.disk.end += if writable { TRAFFIC } else { 0 };
        let (end, metadata, version) = (broker.disk.end, broker.disk.metadata.clone(), broker.disk.version);
        let (messages, offsets) = (broker.disk.messages.clone(), broker.disk.offsets.clone());
        let replicas = self
            .brokers
            .iter_mut()
            .filter(|(address, broker)| **address != master && known.contains(*address) && broker.process.serves());
        for (_, replica) in replicas {
            // What it has beyond its master was never acknowledged, or was lost with the election.
            replica.disk.end = replica.disk.end.min(end);
            replica.disk.end = end.min(replica.disk.end + COPY);
            if replica.disk.version != version {
                replica.disk.metadata = metadata.clone();
                replica.disk.version = version;
            }
            if replica.disk.end == end {
                replica.disk.messages = messages.clone();
                replica.disk.offsets = offsets.clone();
                replica.last_in_step = now;
                replica.caught_up_since.get_or_insert(now);
            } else {
                replica.caught_up_since = None;
            }
        }
        let group = &self.groups[name];
        let in_sync = group
            .in_sync
            .iter()
            .filter_map(|id| group.replicas.get(id))
            .filter_map(|address| self.brokers.get(address));
        let safe = in_sync.map(|broker| broker.disk.end).min().unwrap_or(0);
        if let Some(group) = self.groups.get_mut(name).filter(|_| enough) {
            group.acknowledged = group.acknowledged.max(safe);
        }
    }

    /// A master takes replicas into the set that have everything for a while, and out of it that have not for a while. It needs the leader for that.
    fn change_sync_state_set(&mut self, name: &str) {
        let Some(master) = self.serving_master(name).map(str::to_owned) else { return };
        if self.leader.is_none() {
            return;
        }
        let now = self.now;
        let group = &self.groups[name];
        let mut in_sync = BTreeSet::new();
        for id in group.replicas.keys() {
            let Some((address, broker)) = self.holder(group, *id) else { continue };
            let was = group.in_sync.contains(id);
            let keeps = was && now < broker.last_in_step + SHRINK;
            let enters =
                !was && broker.process.serves() && broker.caught_up_since.is_some_and(|since| now >= since + EXPAND);
            if *address == master || keeps || enters {
                in_sync.insert(*id);
            }
        }
        if let Some(group) = self.groups.get_mut(name).filter(|group| group.in_sync != in_sync) {
            group.in_sync = in_sync;
            group.in_sync_epoch += 1;
        }
    }

    /// Brokers with a part to play are in every name server's list that they reach.
    pub(super) fn register_brokers(&mut self) {
        let now = self.now;
        let mut registered = BTreeSet::new();
        let mut silent = BTreeSet::new();
        for (address, broker) in &self.brokers {
            let Some(group) = self.groups.get(&broker.group) else { continue };
            let Some(id) = broker.disk.id.filter(|id| group.replicas.get(id) == Some(address)) else { continue };
            let id = if group.master == Some(id) { 0 } else { id };
            let entry = Registered { group: broker.group.clone(), id, address: address.clone() };
            if broker.process.serves() && broker.process.life == Life::Up && group.master.is_some() {
                registered.insert(entry);
            } else if broker.process.silent_since().is_some_and(|since| now < since + HANG_UNREGISTERED) {
                silent.insert(address.clone());
            }
        }
        for name_server in self.name_servers.values_mut().filter(|name_server| name_server.process.serves()) {
            name_server.brokers.retain(|entry| silent.contains(&entry.address));
            // One id, one address: a new master takes the old one's place.
            name_server
                .brokers
                .retain(|old| !registered.iter().any(|new| (&new.group, new.id) == (&old.group, old.id)));
            name_server.brokers.extend(registered.iter().cloned());
        }
    }

    /// A connection that is closed is noticed at once.
    pub(super) fn unregister(&mut self, address: &str) {
        for name_server in self.name_servers.values_mut().filter(|name_server| name_server.process.serves()) {
            name_server.brokers.retain(|entry| entry.address != address);
        }
    }
}
