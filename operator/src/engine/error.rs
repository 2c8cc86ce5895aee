//! Why the engine did not do or say what was wanted.

use std::time::Duration;

use gantry_remoting::{AnswerError, Code, ResponseCode};
use serde::{Deserialize, Serialize};

/// Why the engine did not do or say what was wanted. Plain data: it stands in facts, goldens and outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum EngineError {
    /// Its name does not resolve, nobody takes the connection, or the connection broke.
    #[error("{address} can't be reached: {problem}")]
    EngineUnreachable {
        /// Whom was asked.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// It took too long.
    #[error("{address} did not answer {request} within {after_ms} ms")]
    EngineTimedOut {
        /// Whom was asked.
        address: String,
        /// What was asked, by the engine's name for it.
        request: String,
        /// How long it was waited for, in milliseconds.
        after_ms: u64,
    },
    /// It said no.
    #[error("{address} refused {request} with {name} ({code}): {remark}")]
    EngineRefused {
        /// Whom was asked.
        address: String,
        /// What was asked, by the engine's name for it.
        request: String,
        /// The engine's answer code.
        code: i32,
        /// The engine's name for the code.
        name: String,
        /// What the engine said.
        remark: String,
    },
    /// It said something that is not understood.
    #[error("{address} gave an answer that is not understood: {problem}")]
    EngineAnswerNotUnderstood {
        /// Whom was asked.
        address: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// What was to be sent is more than the engine takes at once.
    #[error("a request is too large for {address}: {problem}")]
    EngineRequestTooLarge {
        /// Who was to be asked.
        address: String,
        /// How large it is.
        problem: String,
    },
    /// The cluster answered nothing lately, so it is left alone for a while.
    #[error("no calls to {cluster} for another {retry_after_ms} ms because too many were not answered")]
    CircuitOpen {
        /// The cluster.
        cluster: String,
        /// When it will be tried again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// None of the controllers leads, or none that answers knows who does.
    #[error("no controller of {cluster} leads")]
    NoControllerLeader {
        /// The cluster.
        cluster: String,
    },
    /// The broker is not its group's master, so what is written to it would be lost.
    #[error("{address} is not its group's master")]
    NotMaster {
        /// The broker.
        address: String,
    },
    /// Something before it failed or took all the time.
    #[error("it was not tried: {because}")]
    NotTried {
        /// What failed.
        because: String,
    },
}

impl EngineError {
    /// The reason in one word, as conditions, events and metrics carry it: one of a closed set.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            EngineError::EngineUnreachable { .. } => "EngineUnreachable",
            EngineError::EngineTimedOut { .. } => "EngineTimedOut",
            EngineError::EngineRefused { .. } => "EngineRefused",
            EngineError::EngineAnswerNotUnderstood { .. } => "EngineAnswerNotUnderstood",
            EngineError::EngineRequestTooLarge { .. } => "EngineRequestTooLarge",
            EngineError::CircuitOpen { .. } => "CircuitOpen",
            EngineError::NoControllerLeader { .. } => "NoControllerLeader",
            EngineError::NotMaster { .. } => "NotMaster",
            EngineError::NotTried { .. } => "NotTried",
        }
    }

    /// The engine's code when it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<ResponseCode> {
        match self {
            EngineError::EngineRefused { code, .. } => Some(ResponseCode::from(*code)),
            _ => None,
        }
    }

    pub(super) fn unreachable(address: &str, problem: impl Into<String>) -> Self {
        EngineError::EngineUnreachable { address: address.to_owned(), problem: problem.into() }
    }

    pub(super) fn timed_out(address: &str, request: Code, after: Duration) -> Self {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        EngineError::EngineTimedOut { address: address.to_owned(), request: request.name().to_owned(), after_ms }
    }

    pub(super) fn answer(address: &str, request: Code, error: AnswerError) -> Self {
        let address = address.to_owned();
        match error {
            AnswerError::Refused { code, remark } => EngineError::EngineRefused {
                address,
                request: request.name().to_owned(),
                code: code.number(),
                name: code.name().to_owned(),
                remark,
            },
            other => EngineError::EngineAnswerNotUnderstood { address, problem: other.to_string() },
        }
    }
}
