//! The audit log: one line for every request that changes something in the engine, tracing target `audit`.

use gantry_remoting::Code;

use super::{ClusterId, EngineError};

/// Writes the line. `what` says in words what was to be changed, without secrets.
pub(super) fn line(cluster: &ClusterId, address: &str, code: Code, what: &str, result: Result<(), &EngineError>) {
    match result {
        Ok(()) => tracing::info!(
            target: "audit", namespace = cluster.namespace, cluster = cluster.name, address, request = code.name(), code = code.number(), what,
            result = "Succeeded"
        ),
        Err(error) => tracing::warn!(
            target: "audit", namespace = cluster.namespace, cluster = cluster.name, address, request = code.name(), code = code.number(), what,
            result = error.reason(), %error
        ),
    }
}
