//! What a user does with Gantry, done for real. One cluster serves all tests, one after the other: run by `make e2e`.

mod bursts;
mod chart;
mod consumption;
mod documents;
mod lifecycle;
mod memory;
mod messages;
mod proxies;
mod refusals;
mod repair;
mod shop;
mod topics;
mod transactions;
