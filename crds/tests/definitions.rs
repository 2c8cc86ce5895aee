//! The definitions as they are published: small, described, free of warnings, readable by the operator, and the same as the files in `manifests/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use gantry_crds::condition::{ConditionType, condition};
use gantry_crds::status::{EndpointStatus, HoldStatus, PlannedChange, ReplicaState, ReplicaStatus, Risk};
use gantry_crds::{BrokerCluster, ConsumerGroup, Reason, Topic};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Every schema under a definition, with its path; items are `[]`, values of maps `*`.
fn schemas(definition: &CustomResourceDefinition) -> Vec<(String, Value)> {
    fn walk(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        found.push((path.to_owned(), schema.clone()));
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{key}"), found);
        }
        for (key, name) in [("items", "[]"), ("additionalProperties", ".*")] {
            if schema[key].is_object() {
                walk(&schema[key], &format!("{path}{name}"), found);
            }
        }
    }
    let mut found = Vec::new();
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref());
    walk(&serde_json::to_value(schema.expect("the version has a schema")).unwrap(), "", &mut found);
    found
}

/// All places of all definitions of which `wrong` says something.
fn complaints(wrong: impl Fn(&str, &Value) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for definition in gantry_crds::definitions() {
        let schemas = schemas(&definition);
        assert!(schemas.len() > 20, "{} has hardly a field", definition.spec.names.kind);
        let kind = &definition.spec.names.kind;
        found.extend(schemas.iter().filter_map(|(path, s)| Some(format!("{kind}{path}: {}", wrong(path, s)?))));
    }
    found
}

#[test]
fn a_definition_is_smaller_than_100_kilobytes() {
    for definition in gantry_crds::definitions() {
        let size = serde_json::to_string(&definition).unwrap().len();
        assert!(size < 100_000, "{} has {size} bytes", definition.spec.names.kind);
    }
}

#[test]
fn every_field_has_a_description_that_explain_can_show() {
    let found = complaints(|path, schema| {
        let is_field = !path.is_empty() && !path.ends_with("[]") && !path.ends_with(".*");
        let text = schema["description"].as_str().unwrap_or_default();
        (is_field && text.len() < 5).then(|| format!("described as {text:?}"))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether a place is in what a user writes, and not inside a type of Kubernetes' own, whose words are not ours.
fn is_ours(path: &str) -> bool {
    path.starts_with(".spec.")
        && ![".tolerations[]", ".imagePullSecrets[]"].iter().any(|foreign| path.contains(foreign))
}

#[test]
fn every_number_says_its_range_in_its_description() {
    let mut seen = 0;
    for definition in gantry_crds::definitions() {
        for (path, schema) in schemas(&definition) {
            if !is_ours(&path) || schema["type"] != "integer" {
                continue;
            }
            seen += 1;
            let kind = &definition.spec.names.kind;
            let text = schema["description"].as_str().unwrap_or_default().replace(',', "");
            for bound in ["minimum", "maximum"] {
                let value = schema[bound].as_f64().unwrap_or_else(|| panic!("{kind}{path} has no {bound}"));
                let words: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
                assert!(
                    words.contains(&&*format!("{value}")),
                    "{kind}{path} does not say its {bound}, {value}: {text}"
                );
            }
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn every_optional_field_says_its_default() {
    let mut seen = 0;
    for definition in gantry_crds::definitions() {
        for (path, schema) in schemas(&definition) {
            if path != ".spec" && !is_ours(&path) {
                continue;
            }
            for name in optional(&schema) {
                let field = &schema["properties"][&name];
                // A section with defaults of its own says them at its fields.
                if field["properties"].is_object() && !field["default"].is_null() {
                    continue;
                }
                seen += 1;
                let text = field["description"].as_str().unwrap_or_default();
                let said = text.contains("Default") || text.contains("default");
                assert!(said, "{}{path}.{name} does not say its default: {text}", definition.spec.names.kind);
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn no_format_makes_the_api_server_warn() {
    let known = ["int32", "int64", "date-time"];
    let found = complaints(|_, schema| {
        let format = schema["format"].as_str()?;
        (!known.contains(&format)).then(|| format!("format {format}"))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn conditions_are_a_map_by_type_so_that_appliers_do_not_overwrite_each_other() {
    let mut seen = 0;
    for definition in gantry_crds::definitions() {
        let schemas = schemas(&definition);
        let (_, conditions) = schemas.iter().find(|(path, _)| path == ".status.conditions").expect("conditions");
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{}", definition.spec.names.kind);
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{}", definition.spec.names.kind);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn every_kind_is_in_the_category_and_shows_whether_it_is_ready() {
    for definition in gantry_crds::definitions() {
        let names = &definition.spec.names;
        assert_eq!(names.categories.as_deref(), Some(&["rocketmq".to_owned()][..]), "{}", names.kind);
        assert_eq!(names.short_names.as_ref().map(Vec::len), Some(1), "{}", names.kind);
        let version = &definition.spec.versions[0];
        let columns: Vec<&str> =
            version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
        assert!(columns.contains(&"Ready") && columns.contains(&"Age"), "{}: {columns:?}", names.kind);
        assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()), "{}", names.kind);
    }
}

/// An object with every field set, so that each of them can be taken away or nulled.
fn everything() -> Vec<Value> {
    let now: Time = serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
    let ready = condition(ConditionType::Ready, true, Reason::AsDeclared, "m", Some(1), now);
    let role = json!({
        "resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}}, "config": {"a": "b"}, "jvm": {"heapPercent": 40, "options": ["-Da=b"]},
        "scheduling": {
            "nodeSelector": {"a": "b"}, "affinity": {}, "topologySpreadConstraints": [{}], "priorityClassName": "p",
            "tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 1}],
        },
        "labels": {"a": "b"}, "annotations": {"a": "b"},
    });
    let with = |fields: Value| {
        let mut all = role.clone();
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        all
    };
    let spec = json!({
        "version": "5.5.0", "upgradeTimeout": "10m", "image": "a:b", "imagePullSecrets": [{"name": "s"}],
        "nameServers": with(json!({"replicas": 1})),
        "controllers": with(json!({"replicas": 1, "storage": {"size": "1Gi", "class": "c"}})),
        "brokers": with(json!({
            "groups": 1, "replicas": 1, "minInSyncReplicas": 1, "maxUnavailableGroups": 2, "drainBeforeRestart": false, "storage": {"size": "1Gi", "class": "c", "reclaimPolicy": "Delete", "giveUpAfter": "30m"},
        })),
        "proxies": with(json!({
            "replicas": 1, "autoscaling": {"minReplicas": 1, "maxReplicas": 2, "targetCpuUtilizationPercentage": 50},
        })),
        "endpoints": [{"name": "a", "type": "ClusterIP", "annotations": {"a": "b"}}],
        "tenants": [{
            "name": "t", "namespaces": ["n"], "topicPrefixes": ["p"], "groupPrefixes": ["p"], "types": ["FIFO"], "maxQueues": 1, "maxTopics": 1,
            "maxConsumerGroups": 1,
        }],
        "metrics": {"enabled": true}, "reconcilePolicy": "Plan",
    });
    let replica = ReplicaStatus { pod: "p".into(), state: ReplicaState::CatchingUp, behind_bytes: Some(1) };
    let group = json!({
        "name": "g", "master": "m", "epoch": 1, "replicas": [replica], "phase": "Draining",
        "closedSince": "2026-11-01T10:00:00Z", "drain": {
            "since": "2026-01-02T03:04:05Z", "at": "2026-01-02T03:04:05Z", "emptySince": "2026-01-02T03:04:05Z", "messages": 1, "delayed": 1,
            "transactions": 1, "estimatedSeconds": 1, "unreadTopics": ["t"],
            "consumers": [{"group": "g", "messages": 1, "progressedAt": "2026-01-02T03:04:05Z", "stuck": true}],
        },
    });
    let endpoint = EndpointStatus { name: "e".into(), grpc: Some("g".into()), remoting: Some("r".into()) };
    let status = json!({
        "observedGeneration": 1, "conditions": [ready], "version": "v",
        "summary": {"groups": "1/1", "inSync": "1/1", "proxies": "1/1", "nameServers": "1/1", "controllers": "1/1"},
        "groups": [group], "controllerLeader": "l", "endpoints": [endpoint],
        "holds": [HoldStatus { reason: "r".into(), message: "m".into() }],
        "deletions": {
            "topics": {"recent": [{"at": "2026-01-02T03:04:05Z", "count": 1}], "held": 1, "confirm": "2026-01-02T03:04:05Z"},
            "consumerGroups": {"recent": [{"at": "2026-01-02T03:04:05Z", "count": 1}], "held": 1, "confirm": "2026-01-02T03:04:05Z"},
        },
        "metadataOn": ["g"],
        "upgrade": {
            "from": "5.4.0", "fromImage": "i", "to": "5.5.0", "phase": "RollingBack", "canary": "g", "done": 1, "total": 2, "progress": "p",
            "reason": "r", "since": "2026-01-02T03:04:05Z", "generation": 1, "retry": "a",
        },
        "planHash": "h",
        "plan": [PlannedChange { action: "Create".into(), object: "o".into(), why: Some("w".into()), risk: Risk::Restart, affects: vec!["p".into()] }],
    });
    let object = |kind: &str, spec: Value, status: Value| json!({"apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": kind, "metadata": {"name": "n"}, "spec": spec, "status": status});
    let small = |name: &str| json!({name: "n", "observedGeneration": 1, "conditions": [ready], "brokerGroups": ["g"], "adopted": true, "differences": ["d"]});
    vec![
        object("BrokerCluster", spec, status),
        object(
            "Topic",
            json!({
                "clusterRef": {"name": "c", "namespace": "n"}, "topicName": "t", "type": "FIFO", "queues": 1, "permission": "ReadOnly", "order": true,
                "brokerGroups": ["g"], "attributes": {"a.b": "c"}, "deletionPolicy": "Delete", "reconcilePolicy": "Observe",
            }),
            small("topicName"),
        ),
        object(
            "ConsumerGroup",
            json!({
                "clusterRef": {"name": "c", "namespace": "n"}, "groupName": "g", "delivery": "Ordered", "enabled": true, "broadcast": false,
                "retry": {"maxAttempts": 1, "exponential": {"initial": "1s", "max": "2s", "multiplier": 2}, "intervals": ["1s"]},
                "loadBalancing": "Message", "subscriptions": [{"topic": "t", "expression": "a || b", "expressionType": "SQL92"}], "attributes": {"a.b": "c"},
                "resetOffset": {"to": "Time", "time": "2026-01-02T03:04:05Z", "topics": ["t"], "id": "i"}, "consumeFromMin": true, "deletionPolicy": "Delete", "reconcilePolicy": "Observe",
                "deadLetterTopic": {"permission": "WriteOnly"},
            }),
            {
                let mut status = small("groupName");
                status["resetOffset"] = json!({"value": "v", "timestamp": 1, "done": true, "topics": ["g/t"]});
                status["consumption"] = json!({
                    "lag": 1, "tps": 1, "deadLetters": 1, "clients": 1, "mismatches": ["m"],
                    "clientKinds": [{"protocol": "gRPC", "language": "JAVA", "version": "5.0.0", "count": 1}],
                    "topics": [{"topic": "t", "ready": 1, "inFlight": 1, "delayed": 1}],
                });
                status
            },
        ),
    ]
}

/// The values in `object` at a schema's path.
fn at<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(object, |value, step| {
        let key = step.trim_end_matches("[]");
        let mut value = if key == "*" { value.as_object_mut()?.values_mut().next()? } else { value.get_mut(key)? };
        for _ in 0..step.matches("[]").count() {
            value = value.as_array_mut()?.first_mut()?;
        }
        Some(value)
    })
}

fn readable<K: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let typed: K = serde_json::from_value(object.clone()).map_err(|e| e.to_string())?;
    serde_json::to_value(&typed).map_err(|e| e.to_string())
}

fn read(object: &Value) -> Result<Value, String> {
    match object["kind"].as_str().unwrap_or_default() {
        "BrokerCluster" => readable::<BrokerCluster>(object),
        "Topic" => readable::<Topic>(object),
        "ConsumerGroup" => readable::<ConsumerGroup>(object),
        other => panic!("there is no kind {other}"),
    }
}

/// One object that the operator can't read ends its watch of all objects of the kind.
#[test]
fn whatever_the_schema_lets_be_null_or_absent_the_operator_can_read() {
    let mut tried = 0;
    for (object, definition) in everything().into_iter().zip(gantry_crds::definitions()) {
        assert_eq!(object["kind"], definition.spec.names.kind);
        read(&object).unwrap_or_else(|e| panic!("{} with every field set: {e}", object["kind"]));
        for (path, schema) in schemas(&definition) {
            let is_known = path.is_empty() || ["apiVersion", "kind", "metadata"].iter().any(|k| path.contains(k));
            if is_known || path == ".spec" {
                continue;
            }
            let mut changed = object.clone();
            let value = at(&mut changed, &path).unwrap_or_else(|| panic!("`everything` does not set {path}"));
            if schema["nullable"] == true {
                *value = Value::Null;
                read(&changed).unwrap_or_else(|e| panic!("{}{path} is null: {e}", object["kind"]));
                tried += 1;
            }
            for name in optional(&schema) {
                let mut changed = object.clone();
                let parent = at(&mut changed, &path).and_then(Value::as_object_mut).expect("an object");
                assert!(parent.remove(&name).is_some(), "`everything` does not set {path}.{name}");
                read(&changed).unwrap_or_else(|e| panic!("{}{path}.{name} is absent: {e}", object["kind"]));
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

/// Properties that may be left out.
fn optional(schema: &Value) -> Vec<String> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let names = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    names.filter(|name| !required.contains(&json!(name))).collect()
}

#[test]
fn what_was_read_is_written_back_whole() {
    for object in everything() {
        assert_eq!(read(&object).unwrap()["spec"], expected(&object)["spec"], "{}", object["kind"]);
        assert_eq!(read(&object).unwrap()["status"], object["status"], "{}", object["kind"]);
    }
}

/// Numbers that are quantities are written back as text.
fn expected(object: &Value) -> Value {
    let mut object = object.clone();
    for role in ["nameServers", "controllers", "brokers", "proxies"] {
        if let Some(cpu) = object.pointer_mut(&format!("/spec/{role}/resources/requests/cpu")) {
            *cpu = json!("1");
        }
    }
    object
}

#[test]
fn the_committed_manifests_are_what_the_code_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut expected = Vec::new();
    for definition in gantry_crds::definitions() {
        let yaml = serde_yaml::to_string(&definition).unwrap();
        let text = format!("# Generated from crds/src: `UPDATE=1 cargo test -p gantry-crds` writes it anew.\n{yaml}");
        let name = format!("{}.yaml", definition.spec.names.plural);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(folder.join(&name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(committed == text, "manifests/{name} is not current: run UPDATE=1 cargo test -p gantry-crds");
        expected.push(name);
    }
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    expected.sort();
    assert_eq!(files, expected, "manifests/ holds other files than one for each kind");
}
