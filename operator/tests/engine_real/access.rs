//! Users and ACLs, which every broker keeps for itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gantry::engine::{
    AccessChange, BrokerAccess, ClusterId, ConfigTarget, Engine, EngineWrite, RemotingEngine, WriteOutcome, kept,
};
use gantry::metadata::access::{Names, copy, lost};
use gantry_remoting::access::{Acl, AclEntry, Password, User};
use gantry_remoting::{Credentials, ResponseCode};

use crate::processes::Machine;
use crate::{Test, at, patient};

const SECRET: &str = "s3cret-of-billing";

fn user(password: &str) -> User {
    user_named("billing", password)
}

fn user_named(name: &str, password: &str) -> User {
    User {
        username: name.into(),
        password: Password::new(password),
        user_type: Some("Normal".into()),
        user_status: Some("enable".into()),
    }
}

fn acl(resources: &[&str]) -> Acl {
    let entry = |resource: &&str| AclEntry {
        policy_type: "Custom".into(),
        resource: (*resource).into(),
        actions: ["Pub", "Sub"].map(str::to_owned).into(),
        source_ips: ["10.0.0.0/8".to_owned()].into(),
        decision: "Allow".into(),
    };
    Acl { subject: "User:billing".into(), entries: resources.iter().map(entry).collect() }
}

impl Test {
    async fn access(&self, broker: &str) -> BrokerAccess {
        self.engine.access(&self.addresses.cluster, broker, true).await.unwrap()
    }

    async fn change_access(&self, broker: &str, change: &AccessChange) -> WriteOutcome {
        self.execute(EngineWrite::ChangeAccess { broker: broker.to_owned(), change: change.clone() }).await
    }

    pub async fn users_and_acls_are_copied_by_us_because_replicas_do_not(&self) {
        let (master, replica) = self.roles().await;
        let facts = self.observe().await;
        assert!(facts.brokers.values().all(|broker| kept(broker.config.known().unwrap()) == Some(true)));
        assert_eq!(self.access(&master).await, BrokerAccess::default());
        let create = AccessChange {
            create_users: vec![user(SECRET)],
            set_entries: vec![acl(&["Group:*", "Topic:orders"])],
            ..AccessChange::default()
        };
        assert!(self.change_access(&master, &create).await.is_complete());
        let mut expected = BrokerAccess::default();
        create.apply(&mut expected);
        let held = self.access(&master).await;
        assert_eq!(held, expected);
        let again = self.change_access(&master, &create).await;
        assert_eq!(again.failed.keys().collect::<Vec<_>>(), ["user billing"], "ACLs are merged");
        let error = &again.failed["user billing"];
        assert_eq!(error.refusal(), Some(ResponseCode::NoPermission));
        assert!(!format!("{error} {error:?} {held:?}").contains(SECRET));

        let theirs = self.access(&replica).await;
        assert_eq!(theirs, BrokerAccess::default(), "nothing copied them");
        self.copy_to(&master, &replica).await;
        self.step("a user and its ACL are on both brokers");

        let change = AccessChange {
            update_users: vec![User { user_status: Some("disable".into()), ..user("another") }],
            set_entries: vec![acl(&["Topic:invoices"])],
            delete_entries: vec![acl(&["Topic:orders"])],
            ..AccessChange::default()
        };
        assert!(self.change_access(&master, &change).await.is_complete());
        self.copy_to(&master, &replica).await;
        let before = self.access(&replica).await;
        assert!(
            before.acls["User:billing"].entries.iter().map(|e| e.resource.as_str()).eq(["Group:*", "Topic:invoices"])
        );

        let delete = AccessChange { delete_users: BTreeSet::from(["billing".to_owned()]), ..AccessChange::default() };
        assert!(self.change_access(&master, &delete).await.is_complete());
        let now = self.access(&master).await;
        assert_eq!(now, BrokerAccess::default(), "an ACL goes with its user");
        assert!(self.change_access(&master, &lost(&before, &now)).await.is_complete());
        assert_eq!(self.access(&master).await, before, "what a new master lacks is put back");
        assert!(self.change_access(&master, &delete).await.is_complete());
        let gone = copy(&now, &before, &Names::default().with(&before));
        assert!(self.change_access(&replica, &gone).await.is_complete());
        assert_eq!(self.access(&replica).await, now, "what was deleted on the master is deleted on its replica");
        self.step("users and ACLs were changed, put back and deleted");
    }

    pub async fn a_broker_that_asks_for_signatures_takes_ours_and_no_others(&mut self) {
        let (user, port) = ("gantry", Machine::port());
        self.machine.broker_that_asks_for_signatures("signed", port, self.ports.name_server, user, SECRET);
        let signing = |secret: &'static str| {
            RemotingEngine::new(patient()).with_credentials(move |_| Some(Credentials::new(user, secret)))
        };
        let (signed, wrong) = (signing(SECRET), signing("another"));
        let (cluster, target) = (ClusterId::new("ns", "signed"), ConfigTarget::Broker(at(port)));
        let began = Instant::now();
        let keys = loop {
            match signed.config(&cluster, &target).await {
                Ok(keys) => break keys,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(120), "{error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(keys["authenticationEnabled"], "true");
        for engine in [&self.engine, &wrong] {
            let error = engine.config(&cluster, &target).await.unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::NoPermission), "{error}");
        }
        let change = AccessChange { create_users: vec![user_named("orders", SECRET)], ..AccessChange::default() };
        let write = EngineWrite::ChangeAccess { broker: at(port), change };
        assert!(signed.execute(&cluster, &write).await.unwrap().is_complete(), "a body is signed as well");
        let held = signed.access(&cluster, &at(port), false).await.unwrap();
        assert_eq!(held.users.keys().collect::<Vec<_>>(), [user, "orders"]);
        self.step("a broker took what was signed by a user of its, and refused all else");
    }

    async fn copy_to(&self, master: &str, replica: &str) {
        let held = self.access(master).await;
        let change = copy(&held, &self.access(replica).await, &Names::default());
        assert!(self.change_access(replica, &change).await.is_complete());
        assert_eq!(self.access(replica).await, held);
    }
}
