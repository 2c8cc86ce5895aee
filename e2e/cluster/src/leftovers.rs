//! Processes that were started from outside into a cluster's network (`gantry-cluster exec`) and outlive it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use crate::control::Sandbox;
use crate::paths::ClusterDir;
use crate::progress::wait_for;

/// How long a visitor may take to end when asked to.
const ASKED: Duration = Duration::from_secs(5);
/// How long it may take when forced.
const FORCED: Duration = Duration::from_secs(20);

/// The network namespaces of a cluster, by the kernel's names for them.
#[derive(Debug)]
pub struct Namespaces(BTreeSet<PathBuf>);

impl Namespaces {
    /// Those of the control plane and of each node; to be taken while they live.
    pub fn of(directory: &ClusterDir, control_plane: i32) -> Namespaces {
        let nodes = fs::read_dir(directory.path().join("nodes")).into_iter().flatten().flatten();
        let pids = nodes.filter_map(|node| Sandbox::find(&node.path())).map(|node| node.pid());
        Namespaces(pids.chain([control_plane]).filter_map(network_of).collect())
    }

    /// Ends the processes that are in them, asking first. Our own ancestors are spared: `exec -- gantry-cluster down` is one of them.
    pub fn end(&self) -> Result<()> {
        let spared = ancestors();
        let left = || -> Vec<i32> {
            pids()
                .filter(|pid| !spared.contains(pid) && network_of(*pid).is_some_and(|name| self.0.contains(&name)))
                .collect()
        };
        signal(&left(), Signal::TERM);
        if wait_for("visitors of the cluster's network to end", ASKED, || Ok(left().is_empty())).is_err() {
            signal(&left(), Signal::KILL);
            wait_for("visitors of the cluster's network to end", FORCED, || Ok(left().is_empty()))?;
        }
        Ok(())
    }
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, signal); // it may have ended by itself
    }
}

fn network_of(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// This process and those above it.
fn ancestors() -> BTreeSet<i32> {
    let own = std::process::id().cast_signed();
    std::iter::successors(Some(own), |pid| parent(Path::new(&format!("/proc/{pid}/status"))).filter(|pid| *pid > 0))
        .collect()
}

fn parent(status: &Path) -> Option<i32> {
    let text = fs::read_to_string(status).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_parent_are_ancestors() {
        let all = ancestors();
        assert!(all.contains(&std::process::id().cast_signed()));
        assert!(all.contains(&std::os::unix::process::parent_id().cast_signed()));
    }

    #[test]
    fn nobody_is_in_a_network_that_does_not_exist() {
        Namespaces(["net:[0]".into()].into()).end().unwrap();
    }
}
