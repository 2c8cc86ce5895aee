//! Against a real API server, without nodes and controllers: no pod ever runs, and the engine is a fake that nobody hears.
//!
//! `make api-server` brings a server up for it. By hand: KUBECONFIG and CONTEXT, and `cargo test -p gantry-operator --test api_server`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../crds/tests/support/mod.rs"]
mod cases;
mod definitions;
mod leaders;
mod pods;
mod reconcile;
mod recorder;
mod rights;
mod server;
#[path = "../support/mod.rs"]
mod support;
