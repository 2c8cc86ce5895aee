//! `examples/gitops`: what is written there can be read, and Flux's expressions say of objects what hack/gitops finds that Argo CD says of the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::core::cel::cel::{Context, Program, Value as CelValue};
use serde::Deserialize;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gitops")
}

fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let all = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    all.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn every_file_is_yaml_of_objects_or_of_a_patch() {
    let mut objects = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        for document in documents(&path) {
            // The health rules for Argo CD are a patch of its own ConfigMap.
            if path.ends_with("argocd-health.yaml") {
                assert!(document["data"].is_object(), "{}: {document}", path.display());
            } else {
                for field in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
                    assert!(document.pointer(field).is_some_and(Value::is_string), "{}: {field}", path.display());
                }
                objects += 1;
            }
        }
    }
    assert!(objects >= 6, "{objects}");
}

/// `current` and `inProgress` by kind.
fn expressions() -> BTreeMap<String, (String, String)> {
    let all = documents(&folder().join("flux.yaml"));
    let checks = all.iter().filter_map(|d| d["spec"]["healthCheckExprs"].as_array()).flatten();
    let text = |value: &Value| value.as_str().expect("an expression").to_owned();
    checks
        .map(|check| {
            assert_eq!(check["apiVersion"], "rocketmq.gantry.dev/v1alpha1");
            (text(&check["kind"]), (text(&check["current"]), text(&check["inProgress"])))
        })
        .collect()
}

/// What an expression says of an object, whose fields are its variables; nothing where it can't be evaluated, which Flux calls Unknown.
fn says(expression: &str, object: &Value) -> Option<bool> {
    let program = Program::compile(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    let mut context = Context::default();
    for (field, value) in object.as_object().unwrap() {
        context.add_variable(field.as_str(), value.clone()).unwrap();
    }
    match program.execute(&context) {
        Ok(CelValue::Bool(answer)) => Some(answer),
        Ok(other) => panic!("{expression} says {other:?}"),
        Err(_) => None,
    }
}

fn object(generation: i64, observed: i64, ready: &str, degraded: &str) -> Value {
    let condition =
        |kind: &str, status: &str| json!({"type": kind, "status": status, "message": format!("{kind} is {status}")});
    json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": observed, "conditions": [condition("Ready", ready), condition("Degraded", degraded)]},
    })
}

#[test]
fn flux_waits_for_every_kind_until_it_is_ready_as_it_is_declared_now() {
    let expressions = expressions();
    let kinds: Vec<String> = gantry_crds::definitions().into_iter().map(|d| d.spec.names.kind).collect();
    for kind in &kinds {
        let (current, in_progress) = expressions.get(kind).unwrap_or_else(|| panic!("flux.yaml does not know {kind}"));
        // The object, whether Flux calls it done, and whether it calls it in progress.
        let cases = [
            ("without a status", json!({"metadata": {"generation": 1}}), None, None),
            (
                "that waits for an operator",
                json!({"metadata": {"generation": 1}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
                Some(false),
                Some(true),
            ),
            ("that is ready", object(2, 2, "True", "False"), Some(true), Some(false)),
            ("that was ready before its last change", object(3, 2, "True", "False"), Some(false), Some(true)),
            ("that is not ready yet", object(1, 1, "False", "False"), Some(false), Some(true)),
            ("that serves with something broken", object(1, 1, "True", "True"), Some(true), Some(false)),
        ];
        for (name, object, done, waits) in cases {
            assert_eq!(says(current, &object), done, "{kind} {name}: current");
            assert_eq!(says(in_progress, &object), waits, "{kind} {name}: inProgress");
        }
    }
    assert_eq!(expressions.len(), kinds.len(), "{:?}", expressions.keys());
}
