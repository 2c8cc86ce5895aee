//! What a user does with Gantry, done for real, by `make e2e`. One cluster serves nearly all tests, some of them at the same time; others make one of their own.

mod bursts;
mod chart;
mod consumption;
mod documents;
mod failover;
mod lifecycle;
mod memory;
mod messages;
mod proxies;
mod queues;
mod refusals;
mod repair;
mod scale;
mod shop;
mod signals;
mod topics;
mod types;
mod upgrade;
