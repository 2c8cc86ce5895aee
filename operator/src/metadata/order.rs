//! In what order objects are worked off where there are more than one pass takes. Pure.
//!
//! What somebody edited comes before what is new or goes, and that before what only needs to be looked at again. Among equals namespaces take turns, each
//! with its oldest first: whoever applies ten thousand objects keeps nobody waiting but himself.

use std::collections::BTreeMap;

use gantry_crds::condition::{Condition, ConditionType, Reason};

use crate::metadata::kind::Parsed;
use crate::metadata::kind::{Declared, Kind};

/// Objects of one kind on which one pass works, the rest is for the next: the engine takes so many in 0.4 s and the API server their statuses in about 2 s,
/// so an edit waits for seconds at most.
pub const MOST: usize = 1_000;

/// How urgent an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody changed it, and it was looked at before.
    Edited,
    /// It is new, or it goes.
    Pending,
    /// As far as anybody knows it is as it should be.
    Settled,
}

/// How urgent this object is.
#[must_use]
pub fn urgency<K: Kind>(declared: &Declared, object: &K::Object) -> Urgency {
    let ready = |c: &&Condition| c.type_ == ConditionType::Ready.as_str() && c.reason != Reason::Waiting.as_str();
    let conditions = K::old_status(object).map(K::conditions).unwrap_or_default();
    match conditions.iter().find(ready) {
        _ if declared.deleting() => Urgency::Pending,
        None => Urgency::Pending,
        Some(c) if c.observed_generation != declared.generation => Urgency::Edited,
        Some(_) => Urgency::Settled,
    }
}

/// Puts objects into the order in which they are worked off.
pub fn order<K: Kind>(objects: &mut Parsed<'_, K>) {
    // Oldest first, and then numbered by namespace.
    objects.sort_by(|(a, _), (b, _)| (&a.created, &a.key).cmp(&(&b.created, &b.key)));
    let mut taken: BTreeMap<(Urgency, &str), usize> = BTreeMap::new();
    let ranks = objects.iter().map(|(declared, object)| {
        let urgency = urgency::<K>(declared, object);
        let turn = taken.entry((urgency, &declared.key.0)).or_default();
        *turn += 1;
        (urgency, *turn)
    });
    let ranks: Vec<(Urgency, usize)> = ranks.collect();
    let mut ranked: Vec<_> = ranks.into_iter().zip(std::mem::take(objects)).collect();
    ranked.sort_by(|(a, (one, _)), (b, (other, _))| (a, &one.key).cmp(&(b, &other.key)));
    *objects = ranked.into_iter().map(|(_, object)| object).collect();
}

/// How many of these wait for something.
#[must_use]
pub fn waiting<K: Kind>(objects: &[(Declared, &K::Object)]) -> usize {
    objects.iter().filter(|(d, o)| urgency::<K>(d, o) < Urgency::Settled).count()
}

#[cfg(test)]
mod tests {
    use gantry_crds::Topic;
    use serde_json::{Value, json};

    use super::*;
    use crate::topic::Topics;

    fn topic(namespace: &str, name: &str, second: u32, generation: i64, status: Value) -> Topic {
        serde_json::from_value(json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "Topic", "spec": {"clusterRef": {"name": "shop"}}, "status": status,
            "metadata": {
                "namespace": namespace, "name": name, "generation": generation,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
        }))
        .unwrap()
    }

    fn ready(reason: &str, generation: i64) -> Value {
        let time = "2026-01-01T00:00:00Z";
        json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": reason, "message": "", "observedGeneration": generation, "lastTransitionTime": time},
        ]})
    }

    #[test]
    fn edits_come_first_and_a_namespace_with_one_new_object_does_not_wait_for_another_with_many() {
        let waiting = || ready("Waiting", 0);
        let all = [
            topic("many", "a", 1, 1, waiting()),
            topic("many", "b", 2, 1, Value::Null),
            topic("many", "c", 3, 1, waiting()),
            topic("few", "late", 9, 1, waiting()),
            topic("many", "settled", 0, 1, ready("InSync", 1)),
            topic("many", "edited", 0, 2, ready("InSync", 1)),
        ];
        let mut objects: Parsed<'_, Topics> = all.iter().map(|t| (Topics::parse(t), t)).collect();
        order::<Topics>(&mut objects);
        let names: Vec<&str> = objects.iter().map(|(d, _)| d.key.1.as_str()).collect();
        assert_eq!(names, ["edited", "late", "a", "b", "c", "settled"]);
        assert_eq!(super::waiting::<Topics>(&objects), 5);
    }
}
