//! From a verdict to conditions. Pure.

use gantry_crds::condition::{Condition, ConditionType, Truth, condition, keep_transition_times};
use gantry_crds::{ADOPT_ANNOTATION, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use crate::engine::EngineError;
use crate::metadata::kind::{Declared, Kind, Report};
use crate::metadata::plan::{State, Verdict};

/// The status of one object. `failure`: what became of the write, where it failed.
#[must_use]
pub fn status<K: Kind>(
    declared: &Declared,
    verdict: &Verdict,
    failure: Option<&EngineError>,
    old: Option<&K::Status>,
    now: &Time,
) -> K::Status {
    let (ready, reason, message) = judge::<K>(declared, verdict, failure);
    let conditions =
        conditions(declared.generation, ready, reason, &message, old.map(K::conditions).unwrap_or_default(), now);
    let report = Report {
        generation: declared.generation,
        conditions,
        engine_name: verdict.engine_name.clone(),
        broker_groups: verdict.held_by.clone(),
        differences: differences(verdict),
        adopted: verdict.adopted,
        consumption: verdict.consumption.as_deref().cloned(),
    };
    K::status(report, old)
}

/// What is not put right.
fn differences(verdict: &Verdict) -> Vec<String> {
    let mut found = match verdict.state {
        State::Drifted | State::NotAdopted | State::ReplicaStale => verdict.differences.clone(),
        _ => Vec::new(),
    };
    found.extend(verdict.left_out.iter().map(|group| format!("{group}: holds it, and brokerGroups leaves it out")));
    found
}

/// The status of an object whose cluster is not there, or may not be used from its namespace.
#[must_use]
pub fn without_cluster<K: Kind>(
    declared: &Declared,
    reason: Reason,
    message: &str,
    old: Option<&K::Status>,
    now: &Time,
) -> K::Status {
    let conditions =
        conditions(declared.generation, Truth::False, reason, message, old.map(K::conditions).unwrap_or_default(), now);
    let report = Report {
        generation: declared.generation,
        conditions,
        engine_name: declared.engine_name.clone(),
        broker_groups: Vec::new(),
        differences: Vec::new(),
        adopted: false,
        consumption: None,
    };
    K::status(report, old)
}

fn conditions(
    generation: Option<i64>,
    ready: Truth,
    reason: Reason,
    message: &str,
    old: &[Condition],
    now: &Time,
) -> Vec<Condition> {
    let is = |type_, truth| condition(type_, truth, reason, message, generation, now.clone());
    let working =
        matches!(reason, Reason::Applying | Reason::ClusterNotReady | Reason::DeletionPending | Reason::Draining);
    // A topic that a replica lacks serves, until that replica becomes master.
    let limps = matches!(reason, Reason::ReplicaStale | Reason::SubscriptionMismatch);
    let degraded = (ready != Truth::True && !working && reason != Reason::Paused) || limps;
    // That of an object that was never looked at is no transition.
    let old: Vec<Condition> = old.iter().filter(|c| c.reason != Reason::Waiting.as_str()).cloned().collect();
    keep_transition_times(
        &old,
        vec![
            is(ConditionType::Ready, ready),
            is(ConditionType::Progressing, working.into()),
            is(ConditionType::Degraded, degraded.into()),
        ],
    )
}

fn judge<K: Kind>(declared: &Declared, verdict: &Verdict, failure: Option<&EngineError>) -> (Truth, Reason, String) {
    if let Some(error) = failure {
        return (Truth::False, Reason::from_name(error.reason()), error.to_string());
    }
    let name = &verdict.engine_name;
    let mismatches = verdict.consumption.as_ref().map(|c| c.mismatches.as_slice()).unwrap_or_default();
    match &verdict.state {
        State::InSync if !mismatches.is_empty() => (
            Truth::True,
            Reason::SubscriptionMismatch,
            format!(
                "{name} is on {} as declared, but its clients subscribe otherwise: {}",
                verdict.held_by.join(", "),
                mismatches.join("; ")
            ),
        ),
        State::InSync => (Truth::True, Reason::InSync, in_sync(verdict)),
        State::ReplicaStale => (
            Truth::True,
            Reason::ReplicaStale,
            format!(
                "{name} is on {} as declared, but not on every replica: {}",
                verdict.held_by.join(", "),
                verdict.differences.join("; ")
            ),
        ),
        State::Draining => (
            Truth::True,
            Reason::Draining,
            format!("{name} serves, and loses queues once they are read: {}", verdict.draining.join("; ")),
        ),
        State::Unsupported { why } => (Truth::False, Reason::UnsupportedByEngine, why.clone()),
        State::Changing => (Truth::False, Reason::Applying, verdict.differences.join("; ")),
        State::Drifted => {
            (Truth::False, Reason::Drifted, format!("reconcilePolicy forbids to change {name}: see status.differences"))
        }
        State::NotAdopted => (Truth::False, Reason::Drifted, not_adopted::<K>(declared, name)),
        State::Paused => (Truth::Unknown, Reason::Paused, "annotation gantry.dev/paused stops all changes".into()),
        State::Conflict { with: (namespace, object) } => (
            Truth::False,
            Reason::Conflict,
            format!("{namespace}/{object} is older and declares {name}: delete one of them"),
        ),
        State::Waiting { group, unknown } => {
            (Truth::False, Reason::ClusterNotReady, format!("waiting for broker group {group}: {}", unknown.message))
        }
        State::NoSuchGroup { group } => (
            Truth::False,
            Reason::InvalidSpec,
            format!("the cluster has no broker group {group}: write one of its groups or leave brokerGroups out"),
        ),
        State::DeletionHeld { why } => (Truth::False, Reason::DeletionHeld, format!("{name} is kept: {why}")),
        State::Released { .. } | State::Deleting => {
            (Truth::False, Reason::DeletionPending, format!("{name} is being deleted"))
        }
        State::NotEmpty { what } => (Truth::False, Reason::NotEmpty, format!("{name} is kept: {what}")),
    }
}

fn in_sync(verdict: &Verdict) -> String {
    let Verdict { engine_name: name, held_by, left_out, .. } = verdict;
    let held_by = held_by.join(", ");
    match left_out.as_slice() {
        [] => format!("{name} is on {held_by} as declared"),
        others => format!(
            "{name} is on {held_by} as declared; it is also on {}, which brokerGroups leaves out: it stays there as it is",
            others.join(", ")
        ),
    }
}

fn not_adopted<K: Kind>(declared: &Declared, name: &str) -> String {
    let (namespace, object) = &declared.key;
    let resource = format!("{}.{}", K::Object::plural(&()), K::Object::group(&()));
    format!(
        "{name} was there before this object, with other settings: write into the spec what is there, status.differences has it as engine → declared; or to have \
         what is declared written, kubectl annotate {resource} {object} -n {namespace} {ADOPT_ANNOTATION}=true"
    )
}
