//! What a user does with Gantry, done for real. One cluster serves all tests, one after the other: run by `make e2e`.

mod bursts;
mod chart;
mod consumption;
mod documents;
mod failover;
mod lifecycle;
mod memory;
mod messages;
mod proxies;
mod refusals;
mod repair;
mod scale;
mod shop;
mod topics;
mod transactions;
mod types;
mod upgrade;
