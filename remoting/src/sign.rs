//! The engine's request signatures (AclClientRPCHook.java and AclSigner.java of its client).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::command::Command;

/// A user of the engine. The secret is in no output: `Debug` leaves it out and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: String,
    secret_key: String,
}

impl Credentials {
    /// A user's name and password.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Credentials { access_key: access_key.into(), secret_key: secret_key.into() }
    }

    /// The user's name.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Signs a request, once all its fields and its body are there: HmacSHA1 over the values of all fields in the order of their
    /// names, then the body. The opaque number is not part of it.
    #[must_use]
    pub fn sign(&self, request: Command) -> Command {
        let mut request = request.with("AccessKey", &self.access_key);
        request.ext.remove("Signature");
        // A key of any length is allowed, so this never fails; without a MAC the engine would refuse the request.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(self.secret_key.as_bytes()) else { return request };
        for value in request.ext.values() {
            mac.update(value.as_bytes());
        }
        mac.update(&request.body);
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        request.with("Signature", signature)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    // The expected values were printed by AclClientRPCHook.doBeforeRequest of rocketmq-client 5.5.0.
    #[test]
    fn signatures_are_those_of_the_java_client() {
        let admin = Credentials::new("rmqadmin", "12345678");
        let topic = Command::request(Code::UpdateAndCreateTopic)
            .with("topic", "orders")
            .with("readQueueNums", 8)
            .with("attributes", "+message.type=FIFO")
            .body("body-ü");
        assert_eq!(admin.sign(topic).ext["Signature"], "Prq5GMpUPQnrMbzCoeOfG5kELWU=");
        let bare = Command::request(Code::GetBrokerRuntimeInfo);
        assert_eq!(admin.sign(bare).ext["Signature"], "zmsZHNd0s3ff/RVZL6zKfZlB/sg=");
    }

    #[test]
    fn a_request_signed_again_has_the_same_signature() {
        let admin = Credentials::new("rmqadmin", "12345678");
        let once = admin.sign(Command::request(Code::GetBrokerRuntimeInfo));
        assert_eq!(admin.sign(once.clone()), once);
    }

    #[test]
    fn debug_leaves_the_secret_out() {
        let shown = format!("{:?}", Credentials::new("rmqadmin", "12345678"));
        assert!(shown.contains("rmqadmin") && !shown.contains("12345678"), "{shown}");
    }
}
