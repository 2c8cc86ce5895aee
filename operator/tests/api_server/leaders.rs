//! Two operators, one Lease.

use gantry::error::Error;
use kube::Client;
use serde_json::{Value, json};

use crate::server::{Operator, admin, namespace, recorded, send, until};

async fn lease(client: &Client, namespace: &str) -> Value {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/gantry-operator");
    send(client, "GET", &path, &Value::Null).await.body
}

async fn start(identity: &str, home: &str) -> Operator {
    Operator::start(recorded(None).await.0, identity, home, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_leads_and_the_other_takes_over_when_it_ends() {
    let admin = admin().await;
    let home = namespace(&admin, "leaders", json!({})).await;
    let mut operators = vec![("a", start("a", &home).await), ("b", start("b", &home).await)];
    let leading = |operators: &[(&str, Operator)]| operators.iter().filter(|(_, o)| o.leads() && !o.ended()).count();
    until("one leads", async || if leading(&operators) == 1 { Ok(()) } else { Err(String::new()) }).await;
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
    let operator = start("a", &home).await;
    until("it leads", async || if operator.leads() { Ok(()) } else { Err(String::new()) }).await;
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{home}/leases/gantry-operator");
    send(&admin, "PATCH", &path, &json!({"spec": {"holderIdentity": "thief"}})).await.taken().unwrap();
    let error = operator.end().await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::NotLeader)), "{error:#}");
    assert_eq!(lease(&admin, &home).await["spec"]["holderIdentity"], "thief");
}
