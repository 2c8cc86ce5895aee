//! The Gantry operator: **watch → parse → observe → plan → apply → status**. Arrows never turn back. `parse`, `plan` and `status` are
//! pure; `observe` only reads; `apply` only writes, and makes no choices.

pub mod apply;
pub mod broker_cluster;
pub mod child;
pub mod config;
pub mod consumer_group;
pub mod context;
pub mod definitions;
pub mod diff;
pub mod engine;
pub mod error;
pub mod import;
pub mod labels;
pub mod leader;
pub mod metadata;
pub mod metrics;
pub mod offline;
pub mod quantity;
pub mod run;
pub mod server;
pub mod telemetry;
pub mod topic;
