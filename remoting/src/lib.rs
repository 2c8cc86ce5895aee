//! Apache RocketMQ's remoting protocol, without any input or output of its own.
//!
//! Three layers, each usable alone:
//! - [`Command`]: one frame, encoded and decoded ([`command`]);
//! - [`Request`]: a typed question with its typed answer, one module per subject ([`cluster`], [`controller`], …);
//! - [`blocking`]: one call over a plain socket, for programs too small for an async runtime.
//!
//! The bodies follow the engine's version 5.5.0. Its JSON is not always JSON: see [`fastjson`].

pub mod access;
pub mod attributes;
pub mod blocking;
pub mod broker;
pub mod cluster;
pub mod code;
pub mod command;
pub mod consume;
pub mod consumption;
pub mod controller;
pub mod fastjson;
pub mod group;
mod header;
pub mod properties;
pub mod request;
pub mod route;
#[cfg(feature = "sign")]
pub mod sign;
pub mod stats;
pub mod topic;
pub mod version;

pub use code::{Code, ResponseCode};
pub use command::{Command, DecodeError, EncodeError};
pub use request::{AnswerError, Request};
#[cfg(feature = "sign")]
pub use sign::Credentials;
