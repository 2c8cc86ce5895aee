//! What the end-to-end tests stand on: kubectl, waiting for conditions, and the official clients in a pod.

pub mod clients;
pub mod kubectl;
pub mod wait;
