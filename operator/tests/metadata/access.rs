use std::collections::BTreeMap;

use gantry::engine::{ACLS_PROVIDER, AccessChange, BrokerAccess, USERS_PROVIDER};
use gantry_remoting::access::{Acl, AclEntry, Password, User};
use serde_json::{Value, json};

use crate::shop::Shop;

const GROUP: &str = "shop-broker-0";
const SECRET: &str = "s3cret";

fn user(name: &str) -> User {
    User { username: name.into(), password: Password::new(SECRET), ..User::default() }
}

/// A user that may publish to all topics.
pub fn billing() -> AccessChange {
    let resource = "Topic:*".to_owned();
    let entry =
        AclEntry { policy_type: "Custom".into(), resource, actions: ["Pub".into()].into(), ..AclEntry::default() };
    AccessChange {
        create_users: vec![user("billing")],
        set_entries: vec![Acl { subject: "User:billing".into(), entries: vec![entry] }],
        ..AccessChange::default()
    }
}

pub fn held() -> BrokerAccess {
    let mut access = BrokerAccess::default();
    billing().apply(&mut access);
    access
}

/// Two replicas that keep users and ACLs, and a user that was created on the master alone.
async fn with_a_user(spec: Value) -> Shop {
    let shop = Shop::new(spec).await;
    shop.settle().await;
    let providers = [USERS_PROVIDER, ACLS_PROVIDER].map(|key| (key.to_owned(), "Local".to_owned()));
    let (master, replica) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        [&master, &replica].into_iter().for_each(|a| w.configure(a, BTreeMap::from(providers.clone())));
        w.edit_access(&master, |access| billing().apply(access));
    });
    shop.wait(30);
    shop.engine.changes();
    shop.engine.calls();
    shop
}

fn two() -> Value {
    json!({"brokers": {"replicas": 2}})
}

fn access_of(shop: &Shop, broker: &str) -> BrokerAccess {
    shop.engine.world(|w| w.access_of(broker))
}

fn notes(shop: &Shop, reason: &str) -> Vec<String> {
    shop.api.with(|s| s.events.iter().filter(|e| e.0 == reason).map(|e| e.2.clone()).collect())
}

#[tokio::test]
async fn users_and_acls_of_a_master_are_on_its_replica_before_a_switch() {
    let shop = with_a_user(two()).await;
    shop.settle().await;
    assert_eq!(access_of(&shop, &shop.replica(GROUP)), held());
    assert_eq!((shop.repairs("User", "ReplicaRefreshed"), shop.repairs("Acl", "ReplicaRefreshed")), (1, 1));
    let notes = notes(&shop, "ReplicaRefreshed");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("1 user and 1 ACL (billing, User:billing)") && !notes[0].contains(SECRET), "{notes:?}");
    shop.wait(30);
    shop.engine.changes();
    shop.pass().await;
    assert!(shop.engine.changes().is_empty(), "what is equal is not written again");
}

#[tokio::test]
async fn what_a_new_master_lacks_is_put_back_and_told() {
    let shop = with_a_user(two()).await;
    shop.settle().await;
    let (old, new) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        w.edit_access(&new, |access| *access = BrokerAccess::default());
        w.kill(&old);
    });
    shop.wait(15);
    assert_eq!(shop.master(GROUP), new);
    shop.pass().await;
    assert_eq!(access_of(&shop, &new), held());
    assert_eq!((shop.repairs("User", "Restored"), shop.repairs("Acl", "Restored")), (1, 1));
    let notes = notes(&shop, "Restored");
    assert!(
        notes.iter().any(|n| n.starts_with("the new master of shop-broker-0 lacked 1 user and 1 ACL")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_cluster_that_is_made_anew_gets_no_users_of_the_one_before_it() {
    let shop = with_a_user(two()).await;
    shop.settle().await;
    let (old, new) = (shop.master(GROUP), shop.replica(GROUP));
    shop.edit("brokerclusters", "shop", |o| o["metadata"]["uid"] = json!("another"));
    shop.engine.world(|w| {
        w.edit_access(&new, |access| *access = BrokerAccess::default());
        w.kill(&old);
    });
    shop.wait(15);
    shop.settle().await;
    assert_eq!(access_of(&shop, &new), BrokerAccess::default());
    assert_eq!(shop.repairs("User", "Restored"), 0);
}

#[tokio::test]
async fn a_user_that_was_deleted_on_the_master_does_not_come_back_with_a_replica() {
    let shop = with_a_user(two()).await;
    shop.settle().await;
    let (master, replica) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        w.edit_access(&master, |access| *access = BrokerAccess::default());
        w.edit_access(&replica, |access| drop(access.users.insert("other".into(), user("other"))));
    });
    shop.wait(30);
    shop.settle().await;
    let left = access_of(&shop, &replica);
    assert!(left.users.keys().eq(["other"]) && left.acls.is_empty(), "{left:?}");
}

#[tokio::test]
async fn brokers_without_users_are_not_asked_and_others_once_in_20_s() {
    let shop = with_a_user(two()).await;
    shop.pass().await;
    shop.pass().await;
    assert_eq!(shop.engine.calls()["access"], 2, "the master and its replica");
    let shop = Shop::new(two()).await;
    shop.settle().await;
    assert_eq!(shop.engine.calls().get("access"), None);
}

#[tokio::test]
async fn a_cluster_that_is_only_observed_is_not_changed() {
    let shop = with_a_user(json!({"brokers": {"replicas": 2}, "reconcilePolicy": "Observe"})).await;
    shop.settle().await;
    assert_eq!(access_of(&shop, &shop.replica(GROUP)), BrokerAccess::default());
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_cut_off_forgets_no_user() {
    let shop = with_a_user(two()).await;
    shop.settle().await;
    let (old, new) = (shop.master(GROUP), shop.replica(GROUP));
    shop.engine.world(|w| {
        w.edit_access(&new, |access| *access = BrokerAccess::default());
        w.kill(&old);
    });
    shop.wait(15);
    shop.pass_that_is_cut_off("access").await;
    shop.pass().await;
    assert_eq!(access_of(&shop, &new), held());
}
