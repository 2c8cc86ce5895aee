//! The definitions, the rules in them, and the examples.

use serde_json::{Value, json};

use crate::cases::{self, By, Case};
use crate::server::{Answer, admin, collection, documents, manifest, namespace, path, put, send};

#[tokio::test]
async fn definitions_are_taken_without_a_warning_and_brought_up_to_date() {
    let client = admin().await;
    for definition in gantry_crds::definitions() {
        taken_anew(&client, json!(definition)).await;
    }
    let definition = json!(gantry_crds::definitions().remove(2));
    let path = path(&definition, "");
    let older = json!({"spec": {"names": {"shortNames": ["old"]}}});
    send(&client, "PATCH", &format!("{path}?fieldManager=helm"), &older).await.taken().unwrap();
    gantry::definitions::apply(&client, "helm").await.unwrap();
    let live = send(&client, "GET", &path, &Value::Null).await.body;
    assert_eq!(live["spec"]["names"]["shortNames"], definition["spec"]["names"]["shortNames"]);
    // Once more: nothing changes. Of the status the server has its own time.
    gantry::definitions::apply(&client, "helm").await.unwrap();
    let again = send(&client, "GET", &path, &Value::Null).await.body;
    assert_eq!(again["metadata"]["generation"], live["metadata"]["generation"]);
}

/// As if it were not there, by another name: a stricter look than that at a change.
async fn taken_anew(client: &kube::Client, mut definition: Value) {
    definition["metadata"]["name"] = "others.example.com".into();
    definition["spec"]["group"] = "example.com".into();
    definition["spec"]["names"] =
        json!({"kind": "Other", "plural": "others", "singular": "other", "listKind": "OtherList"});
    let all = format!("{}?dryRun=All&fieldValidation=Strict", collection(&definition, ""));
    send(client, "POST", &all, &definition).await.taken().unwrap_or_else(|e| panic!("{e}"));
}

#[tokio::test]
async fn the_server_takes_and_refuses_what_the_rules_say_in_their_words() {
    let client = admin().await;
    let mut complaints = Vec::new();
    for case in cases::cases() {
        if let Some(complaint) = complaint(&case, &answer(&client, &case).await) {
            complaints.push(format!("{}: {}: {complaint}", case.kind, case.name));
        }
    }
    assert!(complaints.is_empty(), "{} cases went otherwise:\n{}", complaints.len(), complaints.join("\n"));
}

/// What the server says to the object of a case, sent to create or to change it.
async fn answer(client: &kube::Client, case: &Case) -> Answer {
    let all = format!("{}?dryRun=All&fieldValidation=Strict", collection(&case.new, "default"));
    let Some(old) = &case.old else { return send(client, "POST", &all, &case.new).await };
    let stored = send(client, "POST", &collection(old, "default"), old).await;
    stored.taken().unwrap_or_else(|e| panic!("{}: the old object: {e}", case.name));
    let mut new = case.new.clone();
    new["metadata"]["resourceVersion"] = stored.body["metadata"]["resourceVersion"].clone();
    let one = path(old, "default");
    let answer = send(client, "PUT", &format!("{one}?dryRun=All&fieldValidation=Strict"), &new).await;
    send(client, "DELETE", &one, &Value::Null).await.taken().unwrap();
    answer
}

fn complaint(case: &Case, answer: &Answer) -> Option<String> {
    match (&case.refused, answer.code) {
        (None, _) => answer.taken().err(),
        (Some(_), 200 | 201) => Some("it was taken".into()),
        (Some(text), 422) if answer.message().contains(text) => None,
        // What the schema does not know at all is a bad request where fields are validated strictly.
        (Some(text), 400) if case.by == By::Schema && answer.message().contains(text) => None,
        (Some(text), code) => Some(format!("wanted {text:?}, got {code}: {}", answer.message())),
    }
}

#[tokio::test]
async fn all_examples_are_taken_without_a_warning() {
    let client = admin().await;
    let home = namespace(&client, "examples", json!({})).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|f| f.ends_with(".yaml")).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        for object in documents(&format!("examples/{file}")) {
            let all = format!("{}?dryRun=All&fieldValidation=Strict", collection(&object, &home));
            send(&client, "POST", &all, &object).await.taken().unwrap_or_else(|e| panic!("{file}: {e}"));
        }
    }
}

#[tokio::test]
async fn new_topics_and_consumer_groups_say_that_they_wait_before_anybody_writes() {
    let client = admin().await;
    let home = namespace(&client, "waiting", json!({})).await;
    for kind in ["Topic", "ConsumerGroup"] {
        let object = manifest(kind, "new", json!({"clusterRef": {"name": "shop"}}));
        put(&client, &home, &object).await;
        let live = send(&client, "GET", &path(&object, &home), &Value::Null).await.body;
        let ready = &live["status"]["conditions"][0];
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("Waiting")), "{live}");
    }
}
