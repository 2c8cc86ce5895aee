//! Every rule of every definition, without a server: a valid object, one mutation, the sentence that answers it. operator/tests/api_server.rs tries
//! the same cases on a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use kube::core::cel::{CompiledSchema, ErrorKind, ValidationError, Validator, apply_defaults, compile_schema};
use serde_json::Value;
use support::{By, Case};

/// The schema of a kind as it is published, and its rules, compiled once: that takes seconds.
struct Kind {
    schema: Value,
    compiled: CompiledSchema,
}

fn kinds() -> BTreeMap<String, Kind> {
    let kinds = gantry_crds::definitions().into_iter().map(|definition| {
        let schema = definition.spec.versions[0].schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref());
        let schema = serde_json::to_value(schema.expect("the version has a schema")).unwrap();
        (definition.spec.names.kind, Kind { compiled: compile_schema(&schema), schema })
    });
    kinds.collect()
}

impl Kind {
    /// Rules that an object breaks. A rule that can't be evaluated is broken, too.
    fn broken(&self, new: &Value, old: Option<&Value>) -> Vec<ValidationError> {
        let result = Validator::new().validate_compiled(&self.compiled, new, old);
        result.err().map(|errors| errors.into_vec()).unwrap_or_default()
    }
}

/// What is wrong with the outcome of a case; nothing is as it should be.
fn complaint(kind: &Kind, case: &Case) -> Option<String> {
    let new = apply_defaults(&kind.schema, &case.new);
    if let Some(old) = &case.old {
        let before: Vec<String> = kind.broken(old, None).iter().map(ToString::to_string).collect();
        if !before.is_empty() {
            return Some(format!("the old object is itself refused: {before:?}"));
        }
    }
    let by_schema = gantry_crds::admission::refusals(&kind.schema, &new);
    // Rules are asked only where the schema is content, as the server does.
    let by_rule = if by_schema.is_empty() { kind.broken(&case.new, case.old.as_ref()) } else { Vec::new() };
    let said: Vec<String> = match case.by {
        By::Rule if !by_schema.is_empty() => return Some(format!("the schema refuses it: {by_schema:?}")),
        By::Rule => by_rule.iter().map(|e| e.message.clone()).collect(),
        By::Schema => by_schema,
    };
    match (&case.refused, &said[..]) {
        (None, []) => unreadable(&case.kind, new),
        (Some(text), [one]) if one.contains(text) => None,
        (wanted, said) => Some(format!("wanted {wanted:?}, got {said:#?}")),
    }
}

/// Why the operator could not read an object that the server would take.
fn unreadable(kind: &str, object: Value) -> Option<String> {
    let error = match kind {
        "BrokerCluster" => serde_json::from_value::<BrokerCluster>(object).err(),
        "Topic" => serde_json::from_value::<Topic>(object).err(),
        "ConsumerGroup" => serde_json::from_value::<ConsumerGroup>(object).err(),
        other => panic!("there is no kind {other}"),
    };
    error.map(|e| format!("it is taken, but the operator can't read it: {e}"))
}

#[test]
fn every_object_is_taken_or_refused_with_a_sentence_that_says_what_to_write() {
    let kinds = kinds();
    let complain = |c: &Case| Some(format!("{}: {}: {}", c.kind, c.name, complaint(&kinds[&c.kind], c)?));
    let complaints: Vec<String> = support::cases().iter().filter_map(complain).collect();
    assert!(complaints.is_empty(), "{} cases are wrong:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_rule_at_every_place_is_broken_by_a_case() {
    let mut open: BTreeSet<(String, String, String)> = BTreeSet::new();
    let kinds = kinds();
    for (name, kind) in &kinds {
        rules(&kind.schema, "", &mut |path, message| {
            open.insert((name.clone(), path.to_owned(), message.to_owned()));
        });
    }
    let all = open.len();
    for case in support::cases().iter().filter(|c| c.by == By::Rule && c.refused.is_some()) {
        for error in kinds[&case.kind].broken(&case.new, case.old.as_ref()) {
            if error.kind == ErrorKind::ValidationFailure {
                open.remove(&(case.kind.clone(), without_indexes(&error.field_path), error.message));
            }
        }
    }
    let open: Vec<String> = open.iter().map(|(kind, path, message)| format!("{kind} {path}: {message}")).collect();
    assert!(open.is_empty(), "{} of {all} rules are broken by no case of rules.yaml:\n{}", open.len(), open.join("\n"));
}

#[test]
fn there_are_more_than_thirty_rules_and_each_says_what_to_write() {
    let mut messages = BTreeSet::new();
    for kind in kinds().values() {
        rules(&kind.schema, "", &mut |_, message| {
            messages.insert(message.to_owned());
        });
    }
    for message in &messages {
        let advice = ["write ", "remove ", "set ", "create a new "].iter().any(|verb| message.contains(verb));
        assert!(advice, "this does not say what to do instead: {message}");
        assert!(message.len() < 250, "this is more than people read: {message}");
    }
    assert!(messages.len() >= 30, "{}", messages.len());
}

/// Calls `found(path, message)` for every rule of a schema; items are `[]`, values of maps `*`.
fn rules(schema: &Value, path: &str, found: &mut impl FnMut(&str, &str)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found(path, rule["message"].as_str().unwrap_or_else(|| panic!("a rule at {path} has no message")));
    }
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        rules(property, &child(key), found);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], &format!("{path}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        rules(&schema["additionalProperties"], &child("*"), found);
    }
}

/// `spec.endpoints[0].name` as `spec.endpoints[].name`.
fn without_indexes(path: &str) -> String {
    let mut parts = path.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push('[');
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}
