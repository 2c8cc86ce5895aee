//! What an API server would say to an object, without one: the schema of its definition in the server's words, then its rules.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, Validator, apply_defaults, compile_schema};
use regex::Regex;
use serde_json::Value;

/// The schema of a kind as it is published, and its rules, compiled once.
#[derive(Debug)]
pub struct Admission {
    schema: Value,
    rules: CompiledSchema,
}

impl Admission {
    /// For objects of this definition's first version. A definition without a schema takes everything.
    #[must_use]
    pub fn of(definition: &CustomResourceDefinition) -> Self {
        let version = definition.spec.versions.first().and_then(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref());
        let schema = version.and_then(|s| serde_json::to_value(s).ok()).unwrap_or_default();
        Self { rules: compile_schema(&schema), schema }
    }

    /// Why `kubectl apply` would not take `new` in the place of `old`, one sentence each; none where it would.
    #[must_use]
    pub fn refusals(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        for (key, value) in new.as_object().into_iter().flatten() {
            match self.schema["properties"].get(key) {
                Some(property) => unknown(property, value, key, &mut found),
                // What every object has the definition leaves out.
                None if ["apiVersion", "kind", "metadata"].contains(&key.as_str()) => {}
                None => found.push(format!("{key}: unknown field")),
            }
        }
        found.extend(refusals(&self.schema, &apply_defaults(&self.schema, new)));
        // Rules are asked only where the schema is content, as the server does.
        if found.is_empty()
            && let Err(errors) = Validator::new().validate_compiled(&self.rules, new, old)
        {
            found.extend(errors.into_vec().into_iter().map(|e| format!("{}: {}", e.field_path, e.message)));
        }
        found
    }
}

/// Fields that the schema does not have; kubectl has the server refuse them.
fn unknown(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        unknown(&schema["items"], item, &format!("{path}[{i}]"), found);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match schema["properties"].get(key) {
            Some(property) => unknown(property, value, &path, found),
            None if schema["additionalProperties"].is_object() => {
                unknown(&schema["additionalProperties"], value, &path, found);
            }
            // A schema that names no field takes all.
            None if schema["properties"].is_object() && schema["x-kubernetes-preserve-unknown-fields"] != true => {
                found.push(format!("{path}: unknown field"));
            }
            None => {}
        }
    }
}

/// What the schema refuses in `value`, in the API server's words. Rules (CEL) are not looked at here.
#[must_use]
pub fn refusals(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let mut refuse = |text: String| found.push(format!("{path}: {text}"));
    if let Some(wanted) = schema["type"].as_str()
        && wanted != type_of(value)
        && !(wanted == "number" && type_of(value) == "integer")
    {
        refuse(format!("Invalid value: {path} in body must be of type {wanted}: {:?}", type_of(value)));
        return;
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        refuse(format!("Unsupported value: {value}: supported values: {}", values.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
            refuse(format!("Invalid value: {value}: {path} in body should be greater than or equal to {least}"));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
            refuse(format!("Invalid value: {value}: {path} in body should be less than or equal to {most}"));
        }
    }
    match value {
        Value::String(text) => check_text(schema, text, path, &mut refuse),
        Value::Array(items) => check_items(schema, items, path, found),
        Value::Object(fields) => check_fields(schema, fields, path, found),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_text(schema: &Value, text: &str, path: &str, refuse: &mut impl FnMut(String)) {
    let length = text.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        refuse(format!("Too long: may not be more than {most} bytes"));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        refuse(format!("Invalid value: {text:?}: {path} in body should be at least {least} chars long"));
    }
    // A pattern that is none would be a defect of the definition, which the API server refuses.
    if let Some(pattern) = schema["pattern"].as_str()
        && !Regex::new(pattern).is_ok_and(|expression| expression.is_match(text))
    {
        refuse(format!("Invalid value: {text:?}: {path} in body should match '{pattern}'"));
    }
}

fn check_items(schema: &Value, items: &[Value], path: &str, found: &mut Vec<String>) {
    let length = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| length < *least) {
        found.push(format!("{path}: Invalid value: {length}: {path} in body should have at least {least} items"));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| length > *most) {
        found.push(format!("{path}: Too many: {length}: must have at most {most} items"));
    }
    for (i, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{i}]"), found);
    }
}

fn check_fields(schema: &Value, fields: &serde_json::Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(key) {
            found.push(format!("{}: Required value", child(key)));
        }
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| fields.len() as u64 > *most) {
        found.push(format!("{path}: Too many: {}: must have at most {most} items", fields.len()));
    }
    for (key, value) in fields {
        let property = &schema["properties"][key];
        let schema = if property.is_null() { &schema["additionalProperties"] } else { property };
        if schema.is_object() {
            check(schema, value, &child(key), found);
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
