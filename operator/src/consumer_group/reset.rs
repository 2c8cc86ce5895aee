//! `resetOffset`: each value is carried out once. Pure.
//!
//! First the status says what is begun and to which time, then it is carried out, then the status says that it is done. An operator that is killed in
//! between finds what was begun, and carries out the same, to the same time, only where it was not recorded: nothing is skipped, and what was consumed
//! in between may be consumed once more.

use std::collections::BTreeMap;

use gantry_crds::consumer_group::{ResetOffset, ResetOffsetStatus, ResetTo};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: none is declared, or it was carried out.
    Nothing,
    /// The status must say this before anything is done.
    Begin(ResetOffsetStatus),
    /// These topics are still to be set, by broker group.
    CarryOut(BTreeMap<String, Vec<String>>),
}

/// The next step. `topics`: by broker group, what the group has consumed there and what the broker holds of the declared topics. `now` in milliseconds of the
/// epoch.
#[must_use]
pub fn next(
    declared: Option<&ResetOffset>,
    status: Option<&ResetOffsetStatus>,
    topics: &BTreeMap<String, Vec<String>>,
    now: i64,
) -> Step {
    let Some(declared) = declared else { return Step::Nothing };
    let value = line(declared);
    match status.filter(|s| s.value == value) {
        Some(status) if status.done => Step::Nothing,
        Some(status) => Step::CarryOut(missing(&status.topics, topics)),
        None => {
            let timestamp = match (declared.to, &declared.time) {
                (ResetTo::Earliest, _) => 0,
                (ResetTo::Time, Some(time)) => time.0.as_millisecond(),
                // Not the engine's own "latest", which would be later when it is carried out once more.
                (ResetTo::Latest | ResetTo::Time, _) => now,
            };
            Step::Begin(ResetOffsetStatus { value, timestamp, done: false, topics: Vec::new() })
        }
    }
}

/// What is not recorded as set yet.
fn missing(recorded: &[String], topics: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let left = |group: &String, all: &Vec<String>| -> Vec<String> {
        all.iter().filter(|topic| !recorded.contains(&format!("{group}/{topic}"))).cloned().collect()
    };
    topics.iter().map(|(group, all)| (group.clone(), left(group, all))).filter(|(_, left)| !left.is_empty()).collect()
}

/// The value in one line: another line is another reset.
fn line(declared: &ResetOffset) -> String {
    let mut line = match (&declared.time, declared.to) {
        (Some(time), ResetTo::Time) => time.0.to_string(),
        (_, to) => format!("{to:?}"),
    };
    if !declared.topics.is_empty() {
        line = format!("{line} of {}", declared.topics.join(", "));
    }
    match &declared.id {
        Some(id) => format!("{line} ({id})"),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(value: serde_json::Value) -> ResetOffset {
        serde_json::from_value(value).unwrap()
    }

    fn topics() -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([("b0".into(), vec!["orders".into(), "views".into()]), ("b1".into(), vec!["orders".into()])])
    }

    #[test]
    fn what_is_declared_is_begun_then_carried_out_then_done() {
        let latest = declared(json!({"to": "Latest"}));
        let Step::Begin(begun) = next(Some(&latest), None, &topics(), 7) else { panic!() };
        assert_eq!((begun.value.as_str(), begun.timestamp, begun.done), ("Latest", 7, false));
        assert_eq!(
            next(Some(&latest), Some(&begun), &topics(), 99),
            Step::CarryOut(topics()),
            "to the time when it was begun"
        );
        let done = ResetOffsetStatus { done: true, ..begun };
        assert_eq!(next(Some(&latest), Some(&done), &topics(), 99), Step::Nothing);
        assert_eq!(next(None, Some(&done), &topics(), 99), Step::Nothing);
    }

    #[test]
    fn after_a_kill_only_what_was_not_recorded_is_carried_out() {
        let earliest = declared(json!({"to": "Earliest"}));
        let half = ResetOffsetStatus {
            value: "Earliest".into(),
            topics: vec!["b0/orders".into(), "b1/orders".into()],
            ..Default::default()
        };
        let left = BTreeMap::from([("b0".to_owned(), vec!["views".to_owned()])]);
        assert_eq!(next(Some(&earliest), Some(&half), &topics(), 1), Step::CarryOut(left));
    }

    #[test]
    fn another_value_is_another_reset_and_so_is_another_id() {
        let done = ResetOffsetStatus { value: "Earliest".into(), done: true, ..Default::default() };
        for other in [
            json!({"to": "Earliest", "id": "again"}),
            json!({"to": "Latest"}),
            json!({"to": "Earliest", "topics": ["orders"]}),
        ] {
            assert!(matches!(next(Some(&declared(other)), Some(&done), &topics(), 1), Step::Begin(_)));
        }
        let time = declared(json!({"to": "Time", "time": "2026-01-01T00:00:00Z", "topics": ["a", "b"], "id": "x"}));
        let Step::Begin(begun) = next(Some(&time), Some(&done), &topics(), 1) else { panic!() };
        assert_eq!((begun.value.as_str(), begun.timestamp), ("2026-01-01T00:00:00Z of a, b (x)", 1_767_225_600_000));
    }
}
