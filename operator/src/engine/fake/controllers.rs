//! The controllers: who leads, who is master.

use super::world::{Group, HANG_MISSED, Life, STOP_MISSED, World};

impl World {
    /// A leader needs more than half of all controllers, itself among them, and one of them with what was agreed upon.
    pub(super) fn elect_leader(&mut self) {
        let serving: Vec<&String> =
            self.controllers.iter().filter(|(_, one)| one.process.serves()).map(|(address, _)| address).collect();
        let with_log =
            serving.iter().filter(|address| self.controllers[**address].has_log).map(|address| (*address).clone());
        let quorum = serving.len() * 2 > self.controllers.len();
        let stays = self.leader.clone().filter(|leader| serving.contains(&leader));
        if stays.is_none() {
            self.unheard = None;
        }
        self.leader = if quorum { stays.or_else(|| with_log.into_iter().next()) } else { None };
        if self.leader.is_some() {
            for controller in self.controllers.values_mut().filter(|controller| controller.process.serves()) {
                controller.has_log = true;
            }
        }
    }

    /// Has the leader heard of this broker lately?
    pub(super) fn is_alive(&self, group: &Group, id: u64) -> bool {
        let Some((_, broker)) = self.holder(group, id) else { return false };
        let heard = match broker.process.life {
            Life::Down | Life::Starting { .. } => false,
            Life::Up => true,
            Life::Stopping { since } => self.now < since + STOP_MISSED,
        };
        heard && broker.process.silent_since().is_none_or(|since| self.now < since + HANG_MISSED)
    }

    /// Brokers without an id get one, and one that meets a group without a master becomes it if it may.
    pub(super) fn join_controllers(&mut self, address: &str) {
        let Some(broker) = self.brokers.get_mut(address) else { return };
        let group = self.groups.entry(broker.group.clone()).or_default();
        let id = *broker.disk.id.get_or_insert_with(|| {
            group.next_id += 1;
            group.replicas.insert(group.next_id, address.to_owned());
            group.next_id
        });
        // One that was cleaned while its disk remembers is refused for ever (CONTROLLER_BROKER_NEED_TO_BE_REGISTERED).
        let Some(known) = group.replicas.get_mut(&id) else { return };
        address.clone_into(known);
        let first = group.master.is_none() && group.epoch == 0;
        if first || (group.master.is_none() && (group.in_sync.contains(&id) || self.unclean_election)) {
            let name = broker.group.clone();
            self.make_master(&name, id);
        }
    }

    /// A master that the leader misses is replaced by somebody in sync, or by nobody.
    pub(super) fn replace_missing_masters(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let names: Vec<String> = self.groups.keys().cloned().collect();
        for name in names {
            let group = &self.groups[&name];
            let alive = |id: &u64| self.is_alive(group, *id);
            let Some(master) = group.master.filter(|master| !alive(master)) else { continue };
            // Of several the one whose last heartbeat told the longest log (DefaultElectPolicy.java): while there is traffic, one that still sends some.
            let silent = |id: &u64| {
                let process = self.holder(group, *id).map(|(_, broker)| &broker.process);
                process.is_none_or(|p| p.life != Life::Up || p.silent_since().is_some())
            };
            let candidates = group.in_sync.iter().copied().filter(|id| *id != master && alive(id));
            let in_sync = candidates.min_by_key(silent);
            let anybody = group.replicas.keys().copied().find(|id| self.unclean_election && alive(id));
            match in_sync.or(anybody) {
                Some(next) => self.make_master(&name, next),
                None => {
                    if let Some(group) = self.groups.get_mut(&name) {
                        group.master = None;
                    }
                }
            }
        }
    }

    /// What an election does: a new epoch, and a sync state set of one.
    pub(super) fn make_master(&mut self, name: &str, id: u64) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.master = Some(id);
        group.epoch += 1;
        group.in_sync = [id].into();
        group.in_sync_epoch += 1;
        let end =
            group.replicas.get(&id).and_then(|address| self.brokers.get(address)).map_or(0, |broker| broker.disk.end);
        if end < group.acknowledged {
            group.lost += group.acknowledged - end;
            group.acknowledged = end;
        }
        for broker in self.brokers.values_mut().filter(|broker| broker.group == name) {
            broker.caught_up_since = None;
        }
    }
}
