//! What goes over the wire when apply.rs writes, and when a process asks for the lead: every request, with its answer given here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use gantry::apply::{apply, publish};
use gantry::broker_cluster::plan::plan;
use gantry::broker_cluster::steps::{Cause, Plan, Step};
use gantry::broker_cluster::view::Observed;
use gantry::broker_cluster::volumes::Ownership;
use gantry::child::{ChildKind, ChildRef, Write};
use gantry::context::Context;
use gantry::engine::fake::{FakeEngine, World};
use gantry::error::Error;
use gantry::leader::Leadership;
use gantry::metrics::Metrics;
use gantry_crds::BrokerClusterStatus;
use gantry_crds::names::Component;
use kube::Client;
use serde_json::{Value, json};
use support::requests::{Answer, Asked, Log, client, refusal, taken};
use support::{object, parsed, settings};

const SET: &str = "/apis/apps/v1/namespaces/ns/statefulsets/shop-broker-0";

fn context(client: Client, leadership: Leadership) -> Context {
    let engine = Arc::new(FakeEngine::new(World::new(1)));
    Context::new(client, settings(), engine, leadership, Metrics::new().unwrap())
}

/// Everything that a cluster of an empty spec needs.
fn creation() -> Plan {
    plan(&parsed(&object("shop", json!({}))), &Observed::default()).unwrap()
}

fn child(kind: ChildKind, name: &str) -> ChildRef {
    ChildRef { kind, name: name.into() }
}

fn set() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "shop-broker-0"}, "spec": {"replicas": 3}})
}

fn creates_set() -> Plan {
    let child = child(ChildKind::StatefulSet, "shop-broker-0");
    Plan { writes: vec![Write::Create { child, object: set() }], ..Plan::default() }
}

fn restarts() -> Plan {
    let step = Step::Restart {
        pod: "shop-broker-0-1".into(),
        uid: "uid-1".into(),
        component: Component::Broker,
        cause: Cause::Outdated,
    };
    Plan { step: Some(step), ..Plan::default() }
}

fn gives_up() -> Plan {
    let claim = Some(("data-shop-broker-0-1".into(), "uid-2".into()));
    let step = Step::GiveUp { pod: "shop-broker-0-1".into(), uid: "uid-1".into(), claim };
    Plan { step: Some(step), ..Plan::default() }
}

/// Applies a plan against a server that answers so.
async fn applied(plan: &Plan, answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> (Result<(), Error>, Log) {
    let (client, log) = client(answer);
    let ctx = context(client, Leadership::alone());
    (apply(&ctx, &parsed(&object("shop", json!({}))), plan).await, log)
}

#[tokio::test]
async fn what_is_missing_is_made_by_server_side_apply_and_takes_no_field_from_anybody() {
    let plan = creation();
    let (result, log) = applied(&plan, taken).await;
    result.unwrap();
    let asked = log.all();
    assert_eq!(asked.len(), plan.writes.len());
    for (asked, write) in asked.iter().zip(&plan.writes) {
        let Write::Create { child, object } = write else { panic!("{write:?}") };
        assert_eq!(&asked.body, object);
        assert_eq!(asked.content_type, "application/apply-patch+yaml", "{child}");
        assert!(asked.line.ends_with(&format!("/{}?&fieldManager=gantry", child.name)), "{}", asked.line);
    }
    assert_eq!(asked[0].line, "PATCH /api/v1/namespaces/ns/serviceaccounts/shop-nameserver?&fieldManager=gantry");
}

#[tokio::test]
async fn what_differs_is_put_right_by_force() {
    let child = child(ChildKind::StatefulSet, "shop-broker-0");
    let write = Write::Update { child, object: set(), differences: vec!["spec.replicas".into()] };
    let (result, log) = applied(&Plan { writes: vec![write], ..Plan::default() }, taken).await;
    result.unwrap();
    let body = set();
    let line = format!("PATCH {SET}?&force=true&fieldManager=gantry");
    assert_eq!(log.all(), [Asked { line, content_type: "application/apply-patch+yaml".into(), body }]);
}

#[tokio::test]
async fn an_object_that_somebody_else_made_is_left_alone() {
    let (result, log) = applied(&creates_set(), |asked| match asked.line.split(' ').next() {
        Some("GET") => Some((200, json!({"metadata": {"name": "shop-broker-0", "uid": "theirs"}}))),
        _ => refusal(409, "Conflict"),
    })
    .await;
    assert!(matches!(result, Err(Error::NameTaken(name)) if name == "StatefulSet/shop-broker-0"));
    assert_eq!(log.lines(), [format!("PATCH {SET}?&fieldManager=gantry"), format!("GET {SET}")]);
}

#[tokio::test]
async fn one_of_ours_whose_labels_were_edited_away_is_recognised_by_its_owner() {
    let owner = json!([{"apiVersion": "v1", "kind": "x", "name": "shop", "uid": "uid-of-the-cluster"}]);
    let (result, log) = applied(&creates_set(), move |asked| match asked.line.split(' ').next() {
        Some("GET") => Some((200, json!({"metadata": {"name": "shop-broker-0", "ownerReferences": owner}}))),
        _ if asked.line.contains("force") => taken(asked),
        _ => refusal(409, "Conflict"),
    })
    .await;
    result.unwrap();
    assert_eq!(log.lines().last().unwrap(), &format!("PATCH {SET}?&force=true&fieldManager=gantry"));
}

#[tokio::test]
async fn what_is_not_declared_any_more_is_deleted_and_nothing_newer_of_its_name() {
    let child = child(ChildKind::ConfigMap, "shop-old");
    let plan = Plan { writes: vec![Write::Delete { child, uid: "uid-7".into() }], ..Plan::default() };
    for answer in [Some((200, json!({"kind": "Status", "status": "Success"}))), refusal(404, "NotFound")] {
        let (result, log) = applied(&plan, move |_| answer.clone()).await;
        result.unwrap();
        let asked = log.all();
        assert_eq!(asked[0].line, "DELETE /api/v1/namespaces/ns/configmaps/shop-old?");
        assert_eq!(asked[0].body, json!({"preconditions": {"uid": "uid-7"}, "propagationPolicy": "Background"}));
    }
}

#[tokio::test]
async fn a_restart_deletes_that_very_pod_and_is_done_where_it_is_gone() {
    let answers = [Some((200, json!({"metadata": {}}))), refusal(404, "NotFound"), refusal(409, "Conflict")];
    for answer in answers {
        let (result, log) = applied(&restarts(), move |_| answer.clone()).await;
        result.unwrap();
        let asked = log.all();
        assert_eq!(asked[0].line, "DELETE /api/v1/namespaces/ns/pods/shop-broker-0-1?");
        assert_eq!(asked[0].body, json!({"preconditions": {"uid": "uid-1"}}));
    }
}

#[tokio::test]
async fn a_replica_that_is_given_up_loses_its_claim_before_its_pod_and_nobody_waits_for_its_node() {
    let (result, log) = applied(&gives_up(), |_| Some((200, json!({"metadata": {}})))).await;
    result.unwrap();
    let asked = log.all();
    assert_eq!(asked[0].line, "DELETE /api/v1/namespaces/ns/persistentvolumeclaims/data-shop-broker-0-1?");
    assert_eq!(asked[0].body, json!({"preconditions": {"uid": "uid-2"}}));
    assert_eq!(asked[1].line, "DELETE /api/v1/namespaces/ns/pods/shop-broker-0-1?");
    assert_eq!(asked[1].body, json!({"preconditions": {"uid": "uid-1"}, "gracePeriodSeconds": 0}));
}

#[tokio::test]
async fn after_a_write_that_failed_nothing_more_is_written_and_no_step_is_taken() {
    let plan = Plan { step: restarts().step, ..creation() };
    let mut left = 3;
    let (result, log) = applied(&plan, move |asked| {
        left -= 1;
        if left > 0 { taken(asked) } else { refusal(500, "InternalError") }
    })
    .await;
    assert!(matches!(result, Err(Error::Kubernetes { .. })), "{result:?}");
    assert_eq!(log.all().len(), 3);
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let (client, log) = client(taken);
    let ctx = context(client, Leadership::default());
    let object = object("shop", json!({}));
    for plan in [creation(), restarts()] {
        assert!(matches!(apply(&ctx, &parsed(&object), &plan).await, Err(Error::NotLeader)));
    }
    let status = BrokerClusterStatus::default();
    assert!(matches!(publish(&ctx, &object, None, &status).await, Err(Error::NotLeader)));
    assert!(log.all().is_empty());
}

#[tokio::test]
async fn a_status_is_written_only_where_it_changed_and_only_to_that_very_object() {
    let object = object("shop", json!({}));
    let stored = serde_json::to_value(&object).unwrap();
    let (client, log) = client(move |_| Some((200, stored.clone())));
    let ctx = context(client, Leadership::alone());
    let status = BrokerClusterStatus { observed_generation: Some(1), ..BrokerClusterStatus::default() };
    assert!(!publish(&ctx, &object, Some(&status), &status).await.unwrap());
    assert!(log.all().is_empty());
    assert!(publish(&ctx, &object, None, &status).await.unwrap());
    let asked = &log.all()[0];
    let path = "/apis/rocketmq.gantry.dev/v1alpha1/namespaces/ns/brokerclusters/shop/status";
    assert_eq!(asked.line, format!("PATCH {path}?&force=true&fieldManager=gantry"));
    assert_eq!(asked.body["metadata"], json!({"uid": "uid-of-the-cluster"}));
    assert_eq!(asked.body["status"]["observedGeneration"], 1);
    assert_eq!(asked.body.as_object().unwrap().len(), 4, "{}", asked.body);
}

#[tokio::test]
async fn the_status_of_an_object_that_is_gone_is_no_failure() {
    for refused in [refusal(404, "NotFound"), refusal(409, "Conflict")] {
        let (client, _) = client(move |_| refused.clone());
        let ctx = context(client, Leadership::alone());
        let status = BrokerClusterStatus { observed_generation: Some(1), ..BrokerClusterStatus::default() };
        assert!(!publish(&ctx, &object("shop", json!({})), None, &status).await.unwrap());
    }
}

#[tokio::test]
async fn a_volume_is_said_to_go_with_the_cluster_or_not_any_more_and_no_newer_one_of_its_name() {
    let ownership = |owned| Ownership { claim: "data-shop-broker-0-1".into(), uid: "uid-3".into(), owned };
    let plan = Plan { ownerships: vec![ownership(true), ownership(false)], ..Plan::default() };
    let (result, log) = applied(&plan, taken).await;
    result.unwrap();
    let asked = log.all();
    let path = "/api/v1/namespaces/ns/persistentvolumeclaims/data-shop-broker-0-1";
    for one in &asked {
        assert_eq!(
            (&*one.line, &*one.content_type),
            (&*format!("PATCH {path}?"), "application/strategic-merge-patch+json")
        );
        assert_eq!(one.body["metadata"]["uid"], "uid-3");
    }
    let owner = json!({"apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "name": "shop", "uid": "uid-of-the-cluster"});
    assert_eq!(asked[0].body["metadata"]["ownerReferences"], json!([owner]));
    // Only this one: other owners stay.
    let gone = json!([{"$patch": "delete", "uid": "uid-of-the-cluster"}]);
    assert_eq!(asked[1].body["metadata"]["ownerReferences"], gone);
}

/// A hand-over from the first replica to the second one, whose log ended at 500 when it was looked at.
fn hands_over() -> Plan {
    let (group, to, from) = ("shop-broker-0".into(), "shop-broker-0-1".into(), "shop-broker-0-0".into());
    Plan { step: Some(Step::Elect { group, to, id: 2, from, end: 500 }), ..Plan::default() }
}

#[tokio::test]
async fn where_its_log_ends_is_written_to_a_master_before_it_hands_over() {
    let cluster = parsed(&object("shop", json!({"brokers": {"replicas": 2}, "controllers": {"replicas": 1}})));
    let mut world = World::new(1);
    world.traffic = true;
    for address in cluster.name_server_addresses() {
        world.add_name_server(&address);
        world.start(&address);
    }
    for address in cluster.controller_addresses() {
        world.add_controller(&address);
        world.start(&address);
    }
    for address in cluster.broker_addresses("shop-broker-0") {
        world.add_broker("shop-broker-0", &address);
        world.start(&address);
        world.ticks(30);
    }
    assert_eq!(world.serving_master("shop-broker-0"), Some(&*cluster.address_of_broker("shop-broker-0-0")));
    let engine = Arc::new(FakeEngine::new(world));
    let (seen, (client, log)) = (engine.clone(), client(taken));
    let ctx = Context::new(client, settings(), engine, Leadership::alone(), Metrics::new().unwrap());
    apply(&ctx, &cluster, &hands_over()).await.unwrap();
    assert!(seen.world(|w| w.serving_master("shop-broker-0") == Some(&*cluster.address_of_broker("shop-broker-0-1"))));
    let asked = &log.all()[0];
    assert_eq!(asked.line, "PATCH /api/v1/namespaces/ns/pods/shop-broker-0-0?");
    let end: i64 = asked.body["metadata"]["annotations"]["gantry.dev/log-end"].as_str().unwrap().parse().unwrap();
    // It may go on as far as it came since the look, until it hears of the election.
    let now = (end + 500) / 2;
    assert!(now > 500 && end == now + (now - 500), "{end}");
}

#[tokio::test]
async fn a_master_that_does_not_say_where_its_log_ends_does_not_hand_over() {
    let (client, log) = client(taken);
    let engine = Arc::new(FakeEngine::new(World::new(1)));
    let seen = engine.clone();
    let ctx = Context::new(client, settings(), engine, Leadership::alone(), Metrics::new().unwrap());
    let error = apply(&ctx, &parsed(&object("shop", json!({}))), &hands_over()).await.unwrap_err();
    assert_eq!(
        error.sentence(),
        "shop-broker-0-0.shop-broker.ns.svc.cluster.local:10911 can't be reached: it did not say where its log ends"
    );
    assert!(log.all().is_empty());
    assert!(seen.world(|w| w.journal.is_empty()), "nobody was elected");
}
