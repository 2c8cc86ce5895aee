//! What the end-to-end tests stand on: kubectl, waiting for conditions, the official clients in a pod, and the account of every message.

pub mod audit;
pub mod chaos;
pub mod clients;
pub mod faults;
pub mod kubectl;
pub mod report;
pub mod wait;
