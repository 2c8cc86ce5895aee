//! Users and ACLs: each broker's own, on its disk, where its configuration names who keeps them.

use gantry_remoting::ResponseCode;

use super::super::{AccessChange, BrokerAccess, EngineError, WriteOutcome, kept};
use super::changes::refused;
use super::world::World;

impl World {
    pub(super) fn access(&self, address: &str, acls: bool) -> Result<BrokerAccess, EngineError> {
        let broker = self.broker(address, "AUTH_LIST_USER")?;
        let keeps = kept(&broker.process.config);
        if keeps.is_none() || (acls && keeps != Some(true)) {
            let remark = "An system error occurred, please try again later.";
            return Err(refused(address, "AUTH_LIST_USER", ResponseCode::SystemError, remark));
        }
        let mut access = broker.disk.access.clone();
        if !acls {
            access.acls.clear();
        }
        Ok(access)
    }

    pub(super) fn change_access(&mut self, address: &str, change: &AccessChange) -> Result<WriteOutcome, EngineError> {
        let held = self.access(address, true)?;
        let mut outcome = WriteOutcome::default();
        for user in change.create_users.iter().filter(|u| held.users.contains_key(&u.username)) {
            let error = refused(address, "AUTH_CREATE_USER", ResponseCode::NoPermission, "The user is existed");
            outcome.failed.insert(format!("user {}", user.username), error);
        }
        let mut change = change.clone();
        change.create_users.retain(|u| !held.users.contains_key(&u.username));
        self.edit_access(address, |access| change.apply(access));
        Ok(outcome)
    }

    /// Changes users and ACLs of one broker, as `mqadmin` does.
    pub fn edit_access(&mut self, address: &str, change: impl FnOnce(&mut BrokerAccess)) {
        if let Some(broker) = self.brokers.get_mut(address) {
            change(&mut broker.disk.access);
        }
    }

    /// Users and ACLs on one broker's disk.
    #[must_use]
    pub fn access_of(&self, address: &str) -> BrokerAccess {
        self.brokers.get(address).map(|b| b.disk.access.clone()).unwrap_or_default()
    }
}
