//! The chart's rights are those that the operator uses, no more and no less: it runs with them, everything that it can do is made to happen, and
//! what it asked for is compared with what it was granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry::apply::apply;
use gantry::broker_cluster::observe::look_at;
use gantry::broker_cluster::parse::parse;
use gantry::broker_cluster::roles::Role;
use gantry::broker_cluster::steps::{Plan, Step};
use gantry::broker_cluster::view::NodeView;
use gantry::child::{ChildKind, ChildRef, Write};
use gantry::config::Settings;
use gantry::context::Context;
use gantry::engine::fake::{FakeEngine, World};
use gantry::leader::Leadership;
use gantry::metrics::Metrics;
use kube::Client;
use serde_json::{Value, json};

use crate::reconcile::{KINDS, children, cluster, made};
use crate::recorder::Right;
use crate::server::{Operator, admin, collection, documents, manifest, namespace, path, put, recorded, send, until};

/// As rendered; charts/check.sh makes sure of that.
const RENDERED: &str = "charts/golden/rbac-all-namespaces.yaml";
/// The same for an operator that watches two namespaces.
const RENDERED_FOR_TWO: &str = "charts/golden/rbac-two-namespaces.yaml";
const HOME: &str = "gantry-system";

fn granted(file: &str) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    for rule in documents(file).iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()) {
        let list = |key: &str| rule[key].as_array().unwrap().clone();
        for group in &list("apiGroups") {
            for resource in &list("resources") {
                found.extend(list("verbs").iter().map(|verb| (text(group), text(resource), text(verb))));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_grants_what_the_operator_uses_and_nothing_else() {
    let admin = admin().await;
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}});
    put(&admin, "", &home).await;
    // Of an earlier run on this server: `create` would not be used.
    send(
        &admin,
        "DELETE",
        &format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/gantry-operator"),
        &Value::Null,
    )
    .await;
    let watched = &namespace(&admin, "rights", json!({})).await;
    for object in documents(RENDERED) {
        put(&admin, HOME, &object).await;
    }
    let (client, requests) = recorded(Some("system:serviceaccount:gantry-system:gantry-operator")).await;
    let recorded_client = client.clone();
    let operator = Operator::start(client, "gantry-operator-0", HOME, &[watched]);
    put(&admin, watched, &cluster()).await;
    made(&admin, watched).await;
    topics_and_groups(&admin, watched).await;
    for kind in KINDS {
        taken_back(&admin, watched, kind).await;
        if kind != ChildKind::StatefulSet {
            stray(&admin, watched, kind).await;
        }
    }
    roll(&admin, watched).await;
    grown(&admin, watched).await;
    deleted_topic(&admin, watched, || requests.rights()).await;
    repeated_event(&admin, watched, || requests.rights()).await;
    operator.stop().await.unwrap();
    given_up(recorded_client, watched).await;

    assert_eq!(requests.forbidden(), BTreeSet::new(), "the chart does not grant these");
    let (used, granted) = (requests.rights(), granted(RENDERED));
    let show = |a: &BTreeSet<Right>, b: &BTreeSet<Right>| a.difference(b).map(|r| format!("{r:?}")).collect::<Vec<_>>();
    assert_eq!(show(&used, &granted), Vec::<String>::new(), "the chart does not grant these");
    assert_eq!(show(&granted, &used), Vec::<String>::new(), "nobody uses these");
}

#[test]
fn an_operator_of_some_namespaces_is_granted_the_same_there() {
    assert_eq!(granted(RENDERED_FOR_TWO), granted(RENDERED));
}

/// Those whose deletion is the operator's business get its finalizer and a status.
async fn topics_and_groups(admin: &Client, watched: &str) {
    let spec = json!({"clusterRef": {"name": "shop"}, "deletionPolicy": "Delete"});
    for object in [manifest("Topic", "orders", spec.clone()), manifest("ConsumerGroup", "billing", spec)] {
        put(admin, watched, &object).await;
        until("finalizer and status", async || {
            let now = send(admin, "GET", &path(&object, watched), &Value::Null).await.body;
            let done = now["metadata"]["finalizers"].is_array() && now["status"]["conditions"].is_array();
            if done { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    }
}

/// Somebody makes one of ours his own, with labels by which nobody finds it; it is taken back.
async fn taken_back(admin: &Client, watched: &str, kind: ChildKind) {
    let path = path(&children(admin, watched, kind).await.remove(0), watched);
    let label = |value: &str| json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": value}}});
    send(admin, "PATCH", &path, &label("somebody")).await.taken().unwrap();
    until("taken back", async || {
        let now = send(admin, "GET", &path, &Value::Null).await.body;
        if now["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "gantry" {
            Ok(())
        } else {
            Err(now["metadata"].to_string())
        }
    })
    .await;
}

/// A child that is not declared is deleted.
async fn stray(admin: &Client, watched: &str, kind: ChildKind) {
    let mut object = children(admin, watched, kind).await.remove(0);
    let metadata = &object["metadata"];
    let name = format!("shop-stray-{}", kind.as_str().to_lowercase());
    object["metadata"] =
        json!({"name": name, "labels": metadata["labels"], "ownerReferences": metadata["ownerReferences"]});
    for given in ["clusterIP", "clusterIPs"] {
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove(given);
        }
    }
    send(admin, "POST", &collection(&object, watched), &object)
        .await
        .taken()
        .unwrap_or_else(|e| panic!("{object}: {e}"));
    until("the stray is deleted", async || {
        let now = send(admin, "GET", &path(&object, watched), &Value::Null).await;
        if now.code == 404 || now.body["metadata"]["deletionTimestamp"].is_string() {
            Ok(())
        } else {
            Err(path(&object, watched))
        }
    })
    .await;
}

/// What the StatefulSet's controller would do of a roll: it says that there is a new revision, and a pod has the old one.
async fn roll(admin: &Client, watched: &str) {
    let sets = children(admin, watched, ChildKind::StatefulSet).await;
    let set = sets.iter().find(|s| s["metadata"]["name"] == "shop-nameserver").expect("the name servers");
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop-nameserver", "uid": set["metadata"]["uid"]});
    let mut labels = set["spec"]["template"]["metadata"]["labels"].clone();
    labels["controller-revision-hash"] = "old".into();
    let metadata = json!({"name": "shop-nameserver-0", "labels": labels, "ownerReferences": [owner]});
    let spec = json!({"serviceAccountName": "shop-nameserver", "containers": [{"name": "c", "image": "i:1"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let uid = send(admin, "POST", &collection(&pod, watched), &pod).await.body["metadata"]["uid"].clone();
    assert!(uid.is_string());
    for set in &sets {
        let status =
            json!({"observedGeneration": set["metadata"]["generation"], "replicas": 1, "updateRevision": "new"});
        let path = format!("{}/status", path(set, watched));
        send(admin, "PATCH", &path, &json!({"status": status})).await.taken().unwrap();
    }
    until("the pod is restarted", async || {
        let now = send(admin, "GET", &path(&pod, watched), &Value::Null).await;
        if now.code == 404 || now.body["metadata"]["deletionTimestamp"].is_string() {
            Ok(())
        } else {
            Err("it is there".into())
        }
    })
    .await;
}

/// What takes an engine or nodes to be decided: a replica is given up with its volume, a broker group is removed, a pod is called master.
async fn given_up(client: Client, watched: &str) {
    let mut object = manifest("BrokerCluster", "shop", json!({}));
    object["metadata"]["namespace"] = watched.into();
    object["metadata"]["uid"] = "uid".into();
    let cluster = parse(&serde_json::from_value(object).unwrap(), &Settings::default()).unwrap();
    let engine = Arc::new(FakeEngine::new(World::new(1)));
    let ctx = Context::new(client, Settings::default(), engine, Leadership::alone(), Metrics::new().unwrap());
    let claim = Some(("data-shop-broker-0-9".into(), "uid-of-claim".into()));
    let step = Step::GiveUp { pod: "shop-broker-0-9".into(), uid: "uid-of-pod".into(), claim };
    let child = ChildRef { kind: ChildKind::StatefulSet, name: "shop-broker-9".into() };
    let writes = vec![Write::Delete { child, uid: "uid-of-set".into() }];
    let roles = vec![Role { pod: "shop-broker-0-9".into(), uid: "uid-of-pod".into(), role: gantry::labels::MASTER }];
    apply(&ctx, &cluster, &Plan { writes, roles, step: Some(step), ..Plan::default() }).await.unwrap();
    let mut nodes = NodeView::default();
    look_at(&ctx.client, &["node0".to_owned()].into(), &mut nodes).await;
    assert_eq!(nodes, NodeView::default());
}

/// A volume that is smaller than declared grows. What a StatefulSet's controller and a provisioner would do of it: the claim, and that it is bound.
async fn grown(admin: &Client, watched: &str) {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "elastic"}, "provisioner": "nobody", "allowVolumeExpansion": true});
    put(admin, "", &class).await;
    let labels = json!({"app.kubernetes.io/name": "rocketmq", "app.kubernetes.io/instance": "shop"});
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "elastic", "resources": {"requests": {"storage": "1Gi"}}});
    let metadata = json!({"name": "data-shop-broker-0-0", "labels": labels});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec});
    put(admin, watched, &claim).await;
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    send(admin, "PATCH", &format!("{}/status", path(&claim, watched)), &bound).await.taken().unwrap();
    until("the claim asks for more", async || {
        let now = send(admin, "GET", &path(&claim, watched), &Value::Null).await.body;
        let asks = now["spec"]["resources"]["requests"]["storage"].clone();
        if asks == "10Gi" { Ok(()) } else { Err(asks.to_string()) }
    })
    .await;
}

/// Of an object that would be held by its finalizer it is asked whether its namespace goes away too.
async fn deleted_topic(admin: &Client, watched: &str, rights: impl Fn() -> BTreeSet<Right>) {
    let topic = manifest("Topic", "orders", Value::Null);
    send(admin, "DELETE", &path(&topic, watched), &Value::Null).await.taken().unwrap();
    let asked = ("".to_owned(), "namespaces".to_owned(), "get".to_owned());
    until("it is asked", async || if rights().contains(&asked) { Ok(()) } else { Err("not yet".into()) }).await;
}

/// The same thing happens again: the Event of the first time is counted up.
async fn repeated_event(admin: &Client, watched: &str, rights: impl Fn() -> BTreeSet<Right>) {
    let counted_up = ("events.k8s.io".to_owned(), "events".to_owned(), "patch".to_owned());
    until("an Event is counted up", async || {
        taken_back(admin, watched, ChildKind::ServiceAccount).await;
        if rights().contains(&counted_up) { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
}
