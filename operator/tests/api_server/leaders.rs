//! Two operators, one Lease.

use gantry::error::Error;
use kube::Client;
use serde_json::{Value, json};

use crate::reconcile::{cluster, made};
use crate::recorder::Requests;
use crate::server::{Operator, admin, namespace, put, recorded, send, until};

async fn lease(client: &Client, namespace: &str) -> Value {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/gantry-operator");
    send(client, "GET", &path, &Value::Null).await.body
}

/// An operator, and what it asks of the API server.
async fn start(identity: &str, home: &str) -> (Operator, Requests) {
    let (client, requests) = recorded(None).await;
    (Operator::start(client, identity, home, &[home]), requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_leads_and_the_other_takes_over_when_it_ends() {
    let admin = admin().await;
    let home = namespace(&admin, "leaders", json!({})).await;
    let ((a, of_a), (b, of_b)) = (start("a", &home).await, start("b", &home).await);
    let mut operators = vec![("a", a), ("b", b)];
    let leading = |operators: &[(&str, Operator)]| operators.iter().filter(|(_, o)| o.leads() && !o.ended()).count();
    until("one leads", async || if leading(&operators) == 1 { Ok(()) } else { Err(String::new()) }).await;
    // There is something to do for whoever leads.
    put(&admin, &home, &cluster()).await;
    made(&admin, &home).await;
    // The other one asks again and again; the Lease's renewals are the clock.
    let renewed = lease(&admin, &home).await["spec"]["renewTime"].clone();
    until("a renewal", async || {
        assert_eq!(leading(&operators), 1, "both lead");
        let now = lease(&admin, &home).await["spec"]["renewTime"].clone();
        if now == renewed { Err(now.to_string()) } else { Ok(()) }
    })
    .await;
    let first = operators.iter().position(|(_, o)| o.leads()).unwrap();
    let (name, operator) = operators.remove(first);
    let (leader, waiter) = if name == "a" { (of_a, of_b) } else { (of_b, of_a) };
    assert!(!leader.writes().is_empty());
    assert!(waiter.writes().is_empty(), "who waits writes nothing but the Lease: {:?}", waiter.writes());
    assert_eq!(lease(&admin, &home).await["spec"]["holderIdentity"], name);
    operator.stop().await.unwrap();
    let (name, other) = operators.remove(0);
    until("the other one leads", async || if other.leads() { Ok(()) } else { Err(String::new()) }).await;
    let lease = lease(&admin, &home).await;
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]), (&json!(name), &json!(2)));
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_finds_the_lease_in_other_hands_ends() {
    let admin = admin().await;
    let home = namespace(&admin, "thief", json!({})).await;
    let (operator, _) = start("a", &home).await;
    until("it leads", async || if operator.leads() { Ok(()) } else { Err(String::new()) }).await;
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{home}/leases/gantry-operator");
    send(&admin, "PATCH", &path, &json!({"spec": {"holderIdentity": "thief"}})).await.taken().unwrap();
    let error = operator.end().await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::NotLeader)), "{error:#}");
    assert_eq!(lease(&admin, &home).await["spec"]["holderIdentity"], "thief");
}
