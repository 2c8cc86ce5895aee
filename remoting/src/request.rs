//! Questions with typed answers.

use serde::de::DeserializeOwned;

use crate::code::{Code, ResponseCode};
use crate::command::Command;
use crate::fastjson;

/// One question to the engine: how it is put, and how the answer is read. Both are pure.
pub trait Request {
    /// What the answer says.
    type Answer;

    /// What is asked.
    const CODE: Code;

    /// The command to send.
    fn command(&self) -> Command;

    /// Reads the answer.
    ///
    /// # Errors
    /// [`AnswerError::Refused`] when the engine answered with another code than success, [`AnswerError::NotUnderstood`] when a
    /// field that must be there is not.
    fn answer(&self, reply: &Command) -> Result<Self::Answer, AnswerError>;
}

/// Why there is no answer although the engine replied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The engine said no.
    #[error("{code}: {remark}")]
    Refused {
        /// The engine's reason as a code.
        code: ResponseCode,
        /// The engine's reason in words.
        remark: String,
    },
    /// The reply is not what this engine version sends.
    #[error("the reply to {request} is not understood: {problem}")]
    NotUnderstood {
        /// What had been asked.
        request: Code,
        /// What is wrong with the reply.
        problem: String,
    },
}

impl AnswerError {
    /// The engine's code when it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<ResponseCode> {
        match self {
            AnswerError::Refused { code, .. } => Some(*code),
            AnswerError::NotUnderstood { .. } => None,
        }
    }
}

/// A reply whose code says success.
///
/// # Errors
/// [`AnswerError::Refused`] otherwise.
pub fn accepted(reply: &Command) -> Result<&Command, AnswerError> {
    match reply.response_code() {
        ResponseCode::Success => Ok(reply),
        code => {
            let remark = reply.remark.clone().unwrap_or_else(|| "no reason given".to_owned());
            // The engine appends an advertisement of its web page and, after an exception, its stack.
            let remark = remark.split("\nSee http").next().unwrap_or_default();
            let remark = remark.lines().next().unwrap_or_default().trim().to_owned();
            Err(AnswerError::Refused { code, remark })
        }
    }
}

/// The body of a successful reply.
pub(crate) fn body<T: DeserializeOwned>(request: Code, reply: &Command) -> Result<T, AnswerError> {
    let reply = accepted(reply)?;
    fastjson::from_slice(&reply.body)
        .map_err(|error| AnswerError::NotUnderstood { request, problem: error.to_string() })
}

/// A header field of a successful reply.
pub(crate) fn field<T: std::str::FromStr>(request: Code, reply: &Command, name: &str) -> Result<T, AnswerError> {
    optional_field(request, reply, name)?
        .ok_or_else(|| AnswerError::NotUnderstood { request, problem: format!("it has no field {name}") })
}

/// A header field of a successful reply that may be absent.
pub(crate) fn optional_field<T: std::str::FromStr>(
    request: Code,
    reply: &Command,
    name: &str,
) -> Result<Option<T>, AnswerError> {
    let value = accepted(reply)?.ext.get(name);
    let parsed = value.map(|value| {
        value
            .parse()
            .map_err(|_| AnswerError::NotUnderstood { request, problem: format!("its field {name} reads {value:?}") })
    });
    parsed.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: i32, remark: Option<&str>) -> Command {
        let mut reply = Command::request(Code::GetBrokerRuntimeInfo);
        reply.code = code;
        reply.remark = remark.map(str::to_owned);
        reply
    }

    #[test]
    fn success_is_success_whatever_the_remark_says() {
        assert!(accepted(&reply(0, Some("not set any response code"))).is_ok());
    }

    #[test]
    fn a_refusal_says_the_engines_reason_in_one_line() {
        let remark = "No topic route info in name server for the topic: orders\nSee https://rocketmq.apache.org/docs/ for details.";
        let error = accepted(&reply(17, Some(remark))).unwrap_err();
        assert_eq!(error.to_string(), "TOPIC_NOT_EXIST (17): No topic route info in name server for the topic: orders");
        assert_eq!(error.refusal(), Some(ResponseCode::TopicNotExist));
        let error = accepted(&reply(1, None)).unwrap_err();
        assert_eq!(error.to_string(), "SYSTEM_ERROR (1): no reason given");
    }
}
