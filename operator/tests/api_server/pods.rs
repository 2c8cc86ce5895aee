//! Pods, as the API server and its Pod Security admission judge them.

use gantry::broker_cluster::resources::resources;
use serde_json::{Value, json};

use crate::server::{Answer, admin, collection, namespace, put, send, until};
use crate::support::{object_of, settings};

/// Every cluster of the goldens, and what is made of it.
fn situations() -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".plan.yaml") || name.ends_with(".status.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let cluster = serde_yaml::from_str::<Value>(&text).unwrap()["cluster"].clone();
        found.push((name, cluster));
    }
    found
}

#[tokio::test]
async fn every_pod_is_restricted_and_taken_without_a_warning() {
    let client = admin().await;
    let restricted =
        json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
    let home = namespace(&client, "restricted", restricted).await;
    let mut tried = 0;
    for (name, cluster) in situations() {
        let object = object_of(cluster);
        // One of the goldens is a spec that can't be.
        let Ok(cluster) = gantry::broker_cluster::parse::parse(&object, &settings()) else { continue };
        let made = resources(&cluster);
        for account in &made.service_accounts {
            let name = account.metadata.name.clone();
            put(&client, &home, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}))
                .await;
        }
        let sets = made.stateful_sets.iter().map(|s| json!(s.spec.as_ref().unwrap().template));
        let templates = sets.chain(made.deployments.iter().map(|d| json!(d.spec.as_ref().unwrap().template)));
        for template in templates {
            taken(&client, &home, &template).await.unwrap_or_else(|e| panic!("{name}: {template}: {e}"));
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

async fn taken(client: &kube::Client, home: &str, template: &Value) -> Result<(), String> {
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "pod".into();
    if let Some(class) = pod["spec"]["priorityClassName"].as_str() {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 1});
        put(client, "", &class).await;
    }
    // Volumes of claim templates are added by the StatefulSet's controller.
    let mounted: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|c| c["volumeMounts"].as_array().cloned())
        .flatten()
        .collect();
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    for mount in mounted {
        if !volumes.iter().any(|v| v["name"] == mount["name"]) {
            volumes.push(json!({"name": mount["name"], "persistentVolumeClaim": {"claimName": "data"}}));
        }
    }
    let path = format!("{}?dryRun=All&fieldValidation=Strict", collection(&pod, home));
    // Admission knows priority classes from a watch, which may be a moment behind.
    let behind = |answer: &Answer| answer.message().contains("no PriorityClass with name");
    until("the priority class is known", async || match send(client, "POST", &path, &pod).await {
        answer if behind(&answer) => Err(answer.message().to_owned()),
        answer => Ok(answer),
    })
    .await
    .taken()
}

#[tokio::test]
async fn a_pod_that_is_not_restricted_is_refused_there() {
    let client = admin().await;
    let restricted = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let home = namespace(&client, "also-restricted", restricted).await;
    put(&client, &home, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let answer = send(&client, "POST", &format!("{}?dryRun=All", collection(&pod, &home)), &pod).await;
    assert!(answer.code == 403 && answer.message().contains("violates PodSecurity"), "{answer:?}");
}
