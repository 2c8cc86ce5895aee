//! Both types of controllers against what happens to them: lost disks, snapshots, processes that end or hang. The table in
//! docs/design/0009-controller-type.md is written anew; `make trial-controllers` runs it.

#[path = "../../tests/engine_real/processes.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared with the tests of the engine"
)]
mod processes;

mod cluster;
mod report;
mod trial;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use cluster::Type;

fn main() -> Result<()> {
    let hosts =
        std::env::var("HOSTS").context("HOSTS names the file that stands for /etc/hosts: `make trial-controllers`")?;
    let hosts = PathBuf::from(hosts);
    println!("── jRaft");
    let jraft = trial::run(Type::JRaft, &hosts)?;
    println!("── DLedger");
    let dledger = trial::run(Type::DLedger, &hosts)?;
    report::write(&dledger, &jraft)
}
