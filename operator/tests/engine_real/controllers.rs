//! What happens to a controller's disk.

use std::fs;
use std::path::{Path, PathBuf};

use gantry::engine::{ControllerFacts, EngineFacts};

use crate::Test;

fn name(id: usize) -> String {
    format!("controller-{id}")
}

impl Test {
    fn store_of(&self, id: usize) -> PathBuf {
        PathBuf::from(self.machine.store(&name(id)))
    }

    fn said<'a>(&self, facts: &'a EngineFacts, id: usize) -> Option<&'a ControllerFacts> {
        facts.controllers[&self.addresses.controllers[id]].known()
    }

    /// The followers, and then the leader.
    async fn controllers_by_role(&self) -> [usize; 3] {
        let leads = |facts: &EngineFacts, id: usize| self.said(facts, id).is_some_and(|one| one.is_leader);
        let all = |facts: &EngineFacts| (0..3).all(|id| self.said(facts, id).is_some_and(|one| one.leader.is_some()));
        let (facts, _) = self.until("", |facts| all(facts) && (0..3).any(|id| leads(facts, id))).await;
        let leader = (0..3).find(|id| leads(&facts, *id)).unwrap();
        [(leader + 1) % 3, (leader + 2) % 3, leader]
    }

    async fn until_a_snapshot_is_taken(&self, id: usize) {
        let snapshots = self.store_of(id).join("snapshot");
        let taken = || {
            let entries = fs::read_dir(&snapshots).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("snapshot_"))
        };
        self.until("", |_| taken()).await;
    }

    /// With the third one away the leader answers only what this one has acknowledged: here every answer is an entry of their log.
    pub async fn a_controller_that_lost_its_disk_gets_everything_back(&mut self) {
        let [lost, other, leader] = self.controllers_by_role().await;
        self.until_a_snapshot_is_taken(leader).await;
        self.machine.kill(&name(lost));
        self.machine.lose_disk(&name(lost));
        self.machine.controller(&name(lost), lost, &self.ports.controllers);
        self.until("", |facts| self.said(facts, lost).is_some_and(|one| one.leader.is_some())).await;
        self.machine.kill(&name(other));
        let (facts, _) = self
            .until("a controller that lost its disk makes a majority", |facts| {
                self.said(facts, other).is_none() && crate::in_sync(facts) > 0
            })
            .await;
        assert!(facts.master(crate::GROUP).is_some());
        self.machine.controller(&name(other), other, &self.ports.controllers);
        self.controllers_by_role().await;
    }

    /// A snapshot that can't be saved stops a controller for good, also when its disk is well again.
    pub async fn a_controller_that_stopped_for_good_is_seen_and_comes_back_when_it_is_restarted(&mut self) {
        let [stopped, _, leader] = self.controllers_by_role().await;
        self.until_a_snapshot_is_taken(stopped).await;
        let snapshots = self.store_of(stopped).join("snapshot");
        let aside = self.store_of(stopped).join("aside");
        fs::rename(&snapshots, &aside).unwrap();
        fs::write(&snapshots, "").unwrap();
        let alone = |facts: &EngineFacts| {
            let sees = |id| self.said(facts, id).map(|one: &ControllerFacts| one.leader.is_some());
            sees(stopped) == Some(false) && sees(leader) == Some(true) && crate::in_sync(facts) > 0
        };
        self.until("a controller whose disk took no snapshot follows nobody", alone).await;
        give_back(&snapshots, &aside);
        self.machine.kill(&name(stopped));
        self.machine.controller(&name(stopped), stopped, &self.ports.controllers);
        self.controllers_by_role().await;
        self.step("restarted, it follows the leader");
    }
}

fn give_back(snapshots: &Path, aside: &Path) {
    fs::remove_file(snapshots).unwrap();
    fs::rename(aside, snapshots).unwrap();
}
