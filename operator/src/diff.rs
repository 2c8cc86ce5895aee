//! What differs between an object as declared and as it is on the server.
//!
//! Server-side apply would make both equal anyway, but a patch per child and resync is a write per child and resync, and an idle
//! operator writes nothing. So the comparison is made here, on plain data: every declared field must stand in the live object with the same
//! value; fields that the server or others added are theirs. Fields that are *no longer* declared are noticed by the stamp.

use serde_json::Value;

/// Paths of declared fields that the live object has not, or has otherwise, e.g. `spec.template.spec.containers[0].image`.
#[must_use]
pub fn differences(declared: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", declared, live, &mut found);
    found
}

fn compare(path: &str, declared: &Value, live: &Value, found: &mut Vec<String>) {
    match (declared, live) {
        (Value::Null, _) => {}
        (Value::Object(d), Value::Object(l)) => {
            for (key, value) in d {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match l.get(key) {
                    Some(other) => compare(&path, value, other, found),
                    None if is_empty(value) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(d), Value::Array(l)) if d.len() == l.len() => {
            for (i, (value, other)) in d.iter().zip(l).enumerate() {
                compare(&format!("{path}[{i}]"), value, other, found);
            }
        }
        (d, l) if d == l => {}
        (d, l) if is_quantity_path(path) && same_quantity(d, l) => {}
        _ => found.push(path.to_owned()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(o) => o.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

/// The server writes quantities in canonical form (`1024Mi` becomes `1Gi`): only where they stand may two spellings be equal.
fn is_quantity_path(path: &str) -> bool {
    path.contains(".limits.") || path.contains(".requests.") || path.ends_with(".sizeLimit")
}

fn same_quantity(a: &Value, b: &Value) -> bool {
    let parse = |v: &Value| match v {
        Value::String(s) => crate::quantity::parse(s),
        Value::Number(n) => crate::quantity::parse(&n.to_string()),
        _ => None,
    };
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let declared = json!({"spec": {"containers": [{"name": "a", "image": "i"}], "empty": {}}});
        let live = json!({"metadata": {"uid": "x"}, "spec": {"containers": [{"name": "a", "image": "i", "imagePullPolicy": "IfNotPresent"}]}});
        assert_eq!(differences(&declared, &live), Vec::<String>::new());
    }

    #[test]
    fn a_changed_a_missing_and_an_extra_item_are_differences() {
        let declared = json!({"a": 1, "b": {"c": "x"}, "list": [1]});
        assert_eq!(differences(&declared, &json!({"a": 2, "b": {}, "list": [1, 2]})), ["a", "b.c", "list"]);
    }

    #[test]
    fn quantities_are_compared_by_value_and_only_where_quantities_stand() {
        let object = |s: &str| json!({"resources": {"limits": {"memory": s}}});
        assert!(differences(&object("1024Mi"), &object("1Gi")).is_empty());
        assert_eq!(differences(&object("1025Mi"), &object("1Gi")), ["resources.limits.memory"]);
        assert_eq!(differences(&json!({"env": "1024Mi"}), &json!({"env": "1Gi"})), ["env"]);
    }
}
