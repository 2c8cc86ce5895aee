//! What the end-to-end tests stand on: kubectl, waiting for conditions, the official clients in a pod, faults, and the account of every message.

pub mod account;
pub mod audit;
pub mod chaos;
pub mod checks;
pub mod clients;
pub mod engine;
pub mod faults;
pub mod kubectl;
pub mod record;
pub mod report;
pub mod switches;
pub mod target;
pub mod wait;
