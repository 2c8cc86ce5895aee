//! Passes against a real API server, with its defaults, its versions and its own mind about fields.

use std::collections::BTreeMap;

use gantry::child::ChildKind;
use kube::Client;
use serde_json::{Value, json};

use crate::server::{Operator, admin, manifest, namespace, path, put, recorded, send, until};

/// All kinds of children.
pub const KINDS: [ChildKind; 7] = [
    ChildKind::ServiceAccount,
    ChildKind::ConfigMap,
    ChildKind::Service,
    ChildKind::PodDisruptionBudget,
    ChildKind::StatefulSet,
    ChildKind::Deployment,
    ChildKind::HorizontalPodAutoscaler,
];

/// The cluster that has children of all kinds.
pub fn cluster() -> Value {
    let autoscaling = json!({"minReplicas": 2, "maxReplicas": 4});
    manifest(
        "BrokerCluster",
        "shop",
        json!({"proxies": {"autoscaling": autoscaling}, "endpoints": [{"name": "private"}]}),
    )
}

/// Objects of a kind, with their kind.
pub async fn children(client: &Client, namespace: &str, kind: ChildKind) -> Vec<Value> {
    let resource = kind.api_resource();
    let group =
        if resource.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", resource.api_version) };
    let list =
        send(client, "GET", &format!("{group}/namespaces/{namespace}/{}", resource.plural), &Value::Null).await.body;
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    for item in &mut items {
        item["apiVersion"] = resource.api_version.clone().into();
        item["kind"] = resource.kind.clone().into();
    }
    items.retain(|i| i["metadata"]["ownerReferences"].is_array());
    items
}

/// Version of every child and of the cluster.
async fn versions(client: &Client, namespace: &str) -> BTreeMap<String, String> {
    let mut objects = vec![send(client, "GET", &path(&cluster(), namespace), &Value::Null).await.body];
    for kind in KINDS {
        objects.extend(children(client, namespace, kind).await);
    }
    let version = |o: &Value| (path(o, namespace), o["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    objects.iter().map(version).collect()
}

/// Waits until a cluster's children are all there and its status is of its spec.
pub async fn made(client: &Client, namespace: &str) {
    until("the children", async || {
        let object = send(client, "GET", &path(&cluster(), namespace), &Value::Null).await.body;
        for kind in KINDS {
            if children(client, namespace, kind).await.is_empty() {
                return Err(format!("no {kind:?} is there: {}", object["status"]));
            }
        }
        if object["status"]["observedGeneration"] == object["metadata"]["generation"] {
            Ok(())
        } else {
            Err(object["status"].to_string())
        }
    })
    .await;
}

/// Waits for `more` passes.
async fn passes(operator: &Operator, more: u64) {
    let wanted = operator.passes() + more;
    until("passes", async || if operator.passes() >= wanted { Ok(()) } else { Err(operator.passes().to_string()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_over_a_cluster_writes_nothing_at_all() {
    let admin = admin().await;
    let home = namespace(&admin, "quiet", json!({})).await;
    put(&admin, &home, &cluster()).await;
    let (client, requests) = recorded(None).await;
    let operator = Operator::start(client, "one", &home, &[&home]);
    made(&admin, &home).await;
    // The pass that sees what was created has a status to write.
    passes(&operator, 2).await;
    let (before, written) = (versions(&admin, &home).await, requests.writes());
    passes(&operator, 2).await;
    assert_eq!(versions(&admin, &home).await, before);
    let more: Vec<String> = requests.writes().split_off(written.len());
    assert!(more.is_empty(), "{more:#?}");
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_deleted_or_edited_is_put_right() {
    let admin = admin().await;
    let home = namespace(&admin, "repair", json!({})).await;
    put(&admin, &home, &cluster()).await;
    let operator = Operator::start(recorded(None).await.0, "one", &home, &[&home]);
    made(&admin, &home).await;
    for kind in KINDS {
        let child = children(&admin, &home, kind).await.remove(0);
        let path = path(&child, &home);
        send(&admin, "DELETE", &path, &json!({"propagationPolicy": "Background"})).await;
        until("it is made again", async || {
            let now = send(&admin, "GET", &path, &Value::Null).await.body;
            if now["metadata"]["uid"].is_string() && now["metadata"]["uid"] != child["metadata"]["uid"] {
                Ok(())
            } else {
                Err(path.clone())
            }
        })
        .await;
        let edit = json!({"metadata": {"labels": {"app.kubernetes.io/version": "mine"}}});
        send(&admin, "PATCH", &path, &edit).await.taken().unwrap();
        until("it is put right", async || {
            let now = send(&admin, "GET", &path, &Value::Null).await.body;
            if now["metadata"]["labels"]["app.kubernetes.io/version"] == "5.5.0" { Ok(()) } else { Err(path.clone()) }
        })
        .await;
    }
    operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_namespaces_an_operator_serves_those_that_it_is_told() {
    let admin = admin().await;
    let mut homes = Vec::new();
    for name in ["served-a", "served-b", "unserved"] {
        let home = namespace(&admin, name, json!({})).await;
        put(&admin, &home, &cluster()).await;
        homes.push(home);
    }
    let operator = Operator::start(recorded(None).await.0, "one", &homes[0], &[&homes[0], &homes[1]]);
    made(&admin, &homes[0]).await;
    made(&admin, &homes[1]).await;
    passes(&operator, 2).await;
    for kind in KINDS {
        assert!(children(&admin, &homes[2], kind).await.is_empty(), "{kind:?}");
    }
    let object = send(&admin, "GET", &path(&cluster(), &homes[2]), &Value::Null).await.body;
    assert!(object["status"].is_null(), "{object}");
    operator.stop().await.unwrap();
}

/// Waits for an Event about the cluster of which `note` has this.
async fn told(client: &Client, namespace: &str, reason: &str, part: &str) {
    until(&format!("an Event {reason} with {part:?}"), async || {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let all = send(client, "GET", &path, &Value::Null).await.body["items"].take();
        let notes: Vec<String> = all
            .as_array()
            .into_iter()
            .flatten()
            .filter(|e| e["reason"] == reason && e["regarding"]["kind"] == "BrokerCluster")
            .map(|e| e["note"].to_string())
            .collect();
        if notes.iter().any(|n| n.contains(part)) { Ok(()) } else { Err(format!("{notes:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_was_created_and_which_field_of_what_was_changed() {
    let admin = admin().await;
    let home = namespace(&admin, "told", json!({})).await;
    put(&admin, &home, &cluster()).await;
    let operator = Operator::start(recorded(None).await.0, "one", &home, &[&home]);
    made(&admin, &home).await;
    told(&admin, &home, "Created", "created").await;
    let mut more = cluster();
    more["spec"]["nameServers"] = json!({"replicas": 3});
    put(&admin, &home, &more).await;
    told(
        &admin,
        &home,
        "Updated",
        "changed StatefulSet/shop-nameserver: metadata.annotations.gantry.dev/replicas, spec.replicas",
    )
    .await;
    operator.stop().await.unwrap();
}
