//! docs/reference is what `kubectl explain` says, on a page per kind, and every reason with its meaning. `UPDATE=1` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use gantry_crds::Reason;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const GENERATED: &str = "<!-- Generated from the definitions: `make generate`. -->\n";

#[test]
fn pages_of_the_kinds_are_current() {
    for definition in gantry_crds::definitions() {
        keep(&format!("{}.md", definition.spec.names.kind.to_lowercase()), &kind(&definition));
    }
}

#[test]
fn the_page_of_reasons_is_current() {
    let mut page = format!("{GENERATED}# Reasons\n\n");
    page.push_str("One vocabulary: a condition's `reason`, an Event's `reason` and the `reason` label of metrics.\n\n");
    page.push_str("| reason | meaning |\n|---|---|\n");
    for reason in Reason::ALL {
        writeln!(page, "| `{}` | {} |", reason.as_str(), cell(reason.meaning().trim())).unwrap();
    }
    keep("reasons.md", &page);
}

fn keep(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference/{name} is not current: run `make generate`");
}

fn kind(definition: &CustomResourceDefinition) -> String {
    let (names, version) = (&definition.spec.names, &definition.spec.versions[0]);
    let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
    let schema = serde_json::to_value(schema).unwrap();
    let mut page = format!("{GENERATED}# {}\n\n{}\n\n", names.kind, text(&schema));
    writeln!(
        page,
        "`apiVersion: {}/{}`, short name `{}`, category `rocketmq`.\n",
        definition.spec.group,
        version.name,
        names.short_names.as_ref().map(|s| s.join(", ")).unwrap_or_default()
    )
    .unwrap();
    for part in ["spec", "status"] {
        writeln!(page, "## {part}\n\n| field | type | default | what it is |\n|---|---|---|---|").unwrap();
        fields(&schema["properties"][part], part, &mut page);
        page.push('\n');
    }
    let mut found = Vec::new();
    rules(&schema, "", &mut found);
    page.push_str("## What is refused at `kubectl apply`, beside types and ranges\n\n| where | what the refusal says |\n|---|---|\n");
    for (path, message) in found {
        writeln!(page, "| `{path}` | {} |", cell(&message)).unwrap();
    }
    page
}

fn fields(schema: &Value, path: &str, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let default = match &field["default"] {
            Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            // What an empty object stands for is told by its fields.
            Value::Null | Value::Object(_) => String::new(),
            value => format!("`{value}`"),
        };
        writeln!(page, "| `{path}` | {} | {default} | {} |", type_of(field), text(field)).unwrap();
        let (inner, path) =
            if field["items"].is_object() { (&field["items"], format!("{path}[]")) } else { (field, path) };
        // What Kubernetes itself defines is described there.
        if !inner["x-kubernetes-preserve-unknown-fields"].is_boolean() {
            fields(inner, &path, page);
        }
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".into();
    }
    if let Some(values) = field["enum"].as_array() {
        return values.iter().filter_map(Value::as_str).map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    }
    let of = |t: &Value| t.as_str().unwrap_or("any").to_owned();
    match field["type"].as_str() {
        Some("array") => format!("list of {}", of(&field["items"]["type"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map to {}", of(&field["additionalProperties"]["type"]))
        }
        Some("integer") => match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
            (Some(min), Some(max)) => format!("integer {min} to {max}"),
            _ => "integer".into(),
        },
        _ => of(&field["type"]),
    }
}

fn text(schema: &Value) -> String {
    cell(schema["description"].as_str().unwrap_or_default())
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn rules(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let place = if path.is_empty() { "the object" } else { path };
        found.push((place.to_owned(), rule["message"].as_str().unwrap_or_default().to_owned()));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        rules(field, &path, found);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], &format!("{path}[]"), found);
    }
}
