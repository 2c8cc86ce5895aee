//! Passes over topics and consumer groups, with an API server and an engine in memory: what is written, told and left alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod access;
mod adoption;
mod api;
mod bursts;
mod consumption;
mod counting;
mod deletions;
mod emptiness;
mod fuse;
mod groups;
mod import;
mod killed;
mod offsets;
mod queues;
mod refusals;
mod replicas;
mod scaling;
mod shop;
mod stores;
mod tenants;
