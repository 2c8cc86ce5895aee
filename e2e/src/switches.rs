//! Every change of a master, judged while it happens: the new one must have been in the sync state set that the former one had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use gantry_remoting::controller::{GetSyncStateData, ReplicasInfo};

use crate::engine::{CONTROLLER, Engine, Member};
use crate::kubectl::Namespace;

/// Between two looks: shorter than what a sync state set needs to change and a master to be elected from it.
const EVERY: Duration = Duration::from_millis(300);
/// A controller that hangs is not waited for: another one leads.
const PATIENCE: Duration = Duration::from_secs(1);

/// What two looks at one group, one after the other, say of a change of its master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    None,
    InSync,
    /// The sync state set changed between the last look and the election, so nobody knows.
    Unseen,
    OutOfSync,
}

fn switch(before: &ReplicasInfo, after: &ReplicasInfo) -> Switch {
    let Some(master) = after.master_broker_id else { return Switch::None };
    if before.master_epoch == after.master_epoch || before.master_broker_id == Some(master) {
        return Switch::None;
    }
    let was: BTreeSet<u64> = before.in_sync_replicas.iter().map(|r| r.broker_id).collect();
    // An election makes a set of its own, which counts one.
    let unchanged = after.sync_state_set_epoch <= before.sync_state_set_epoch + 1;
    match (was.contains(&master), unchanged) {
        (true, _) => Switch::InSync,
        (false, true) => Switch::OutOfSync,
        (false, false) => Switch::Unseen,
    }
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Changes of a master to a replica that was in the sync state set.
    pub in_sync: usize,
    /// Changes of which nobody can say.
    pub unseen: usize,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, group: &str, before: &ReplicasInfo, after: &ReplicasInfo) {
        match switch(before, after) {
            Switch::None => {}
            Switch::InSync => self.in_sync += 1,
            Switch::Unseen => self.unseen += 1,
            Switch::OutOfSync => self.wrong.push(format!("{group}: {before:?} became {after:?}")),
        }
    }
}

/// Looks at the sync state sets of broker groups until it is finished.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// Begins.
    #[must_use]
    pub fn start(namespace: &Namespace, groups: Vec<String>) -> Self {
        let (namespace, stop) = (namespace.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut seen, mut last, mut controllers) = (Seen::default(), BTreeMap::new(), Vec::new());
            let question = GetSyncStateData { broker_names: groups };
            while !stopped.load(Ordering::Relaxed) {
                match look(&controllers, &question) {
                    Some(now) => {
                        for (group, after) in &now {
                            last.get(group).into_iter().for_each(|before| seen.note(group, before, after));
                        }
                        last.extend(now);
                    }
                    // Pods come back with other addresses.
                    None => controllers = Engine::of(&namespace).members("controller").unwrap_or_default(),
                }
                thread::sleep(EVERY);
            }
            seen
        });
        Self { stop, thread }
    }

    /// Ends, and says what was seen.
    ///
    /// # Errors
    /// Where a replica became master that was not in the sync state set.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().map_err(|_| anyhow!("the watch of the masters broke"))?;
        ensure!(seen.wrong.is_empty(), "a replica became master that was not in sync: {}", seen.wrong.join("; "));
        Ok(seen)
    }
}

/// The others than the leader refuse.
fn look(controllers: &[Member], question: &GetSyncStateData) -> Option<BTreeMap<String, ReplicasInfo>> {
    controllers.iter().find_map(|c| c.ask_within(CONTROLLER, question, PATIENCE).ok()).filter(|now| !now.is_empty())
}

#[cfg(test)]
mod tests {
    use gantry_remoting::controller::ReplicaIdentity;

    use super::*;

    fn group(master: Option<u64>, master_epoch: u32, in_sync: &[u64], sync_state_set_epoch: u32) -> ReplicasInfo {
        let replica =
            |id: &u64| ReplicaIdentity { broker_id: *id, broker_address: format!("b{id}"), alive: Some(true) };
        ReplicasInfo {
            master_broker_id: master,
            master_address: None,
            master_epoch,
            sync_state_set_epoch,
            in_sync_replicas: in_sync.iter().map(replica).collect(),
            not_in_sync_replicas: Vec::new(),
        }
    }

    #[test]
    fn a_master_that_was_not_in_the_sync_state_set_is_told() {
        let before = group(Some(1), 4, &[1, 2], 9);
        let cases = [
            (group(Some(2), 5, &[2], 10), Switch::InSync),
            (group(Some(3), 5, &[3], 10), Switch::OutOfSync),
            (group(Some(3), 5, &[3], 12), Switch::Unseen),
            (group(None, 4, &[1, 2], 9), Switch::None),
            (group(Some(1), 4, &[1], 10), Switch::None),
        ];
        for (after, expected) in cases {
            assert_eq!(switch(&before, &after), expected, "{after:?}");
        }
        let mut seen = Seen::default();
        seen.note("g", &group(None, 4, &[2], 9), &group(Some(3), 5, &[3], 10));
        assert_eq!((seen.in_sync, seen.wrong.len()), (0, 1));
    }
}
