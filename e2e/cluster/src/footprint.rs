//! What a cluster leaves on the machine: looked at while it is up, and again when it should be gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::paths::Home;

/// Kernel settings of the machine that programs of a cluster would change if they could.
const SETTINGS: &[&str] =
    &["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"];

/// The machine's own kernel settings that a cluster must not change.
pub fn settings() -> Vec<String> {
    let read =
        |name: &&str| format!("{name}={}", fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim());
    SETTINGS.iter().map(read).collect()
}

/// What bears the name of the cluster `name`, one line each: processes, mounts, control groups, files.
pub fn named(home: &Home, name: &str) -> Result<BTreeSet<String>> {
    let directory = home.cluster(name);
    let own = directory.path().display().to_string();
    let mut traces = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
        let read = |file: &str| {
            fs::read(process.join(file))
                .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
                .unwrap_or_default()
        };
        let (command, groups) = (read("cmdline"), read("cgroup"));
        if command.contains(&own) || groups.contains(&format!("/gantry/{name}/")) {
            traces.insert(format!("process {} {command}", process.display()));
        }
    }
    let mounts = fs::read_to_string("/proc/mounts")?;
    traces.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
    for tree in mounts.lines().filter(|line| line.starts_with("cgroup")).filter_map(|line| line.split(' ').nth(1)) {
        let group = Path::new(tree).join("gantry").join(name);
        if group.exists() {
            traces.insert(format!("control group {}", group.display()));
        }
    }
    if directory.path().exists() {
        traces.insert(format!("files {own}"));
    }
    Ok(traces)
}

/// Every trace of the cluster `name`: what bears its name, and network interfaces, names and directories that could be another's.
pub fn of(home: &Home, name: &str) -> Result<BTreeSet<String>> {
    let mut traces = named(home, name)?;
    // These have no owner's name on them: whatever is there besides what was there before is ours.
    for place in [
        "/run/netns",
        "/sys/class/net",
        "/tmp/hostpath_pv",
        "/var/lib",
        "/opt",
        "/etc/cni",
        "/run/containerd",
        "/var/log/pods",
    ] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        traces.extend(entries.map(|entry| format!("entry {}", entry.path().display())).filter(|entry| is_ours(entry)));
    }
    Ok(traces)
}

/// Whether a name is one that the programs of a cluster give.
fn is_ours(entry: &str) -> bool {
    let names = [
        "/cni-",
        "/up-node",
        "/cni0",
        "/net.d",
        "/hostpath_pv/",
        "/kubelet",
        "/containerd",
        "/var/log/pods/",
        "/var/lib/cni",
    ];
    names.iter().any(|name| entry.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cluster_programs_give_are_told_from_others() {
        assert!(is_ours("entry /run/netns/cni-1234") && is_ours("entry /sys/class/net/up-node0"));
        assert!(
            !is_ours("entry /run/netns/vpn")
                && !is_ours("entry /sys/class/net/eth0")
                && !is_ours("entry /var/lib/dpkg")
        );
    }

    #[test]
    fn a_cluster_that_never_was_leaves_no_trace() {
        let home = Home::find(|name| (name == "GANTRY_CACHE").then(|| "/nonexistent/gantry".into())).unwrap();
        let traces = of(&home, "never-was").unwrap();
        assert!(!traces.iter().any(|trace| trace.contains("never-was")), "{traces:?}");
    }
}
