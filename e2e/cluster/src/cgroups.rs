//! A cluster's part of the control group tree: `/gantry/CLUSTER/NODE`, below which kubelet puts its pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::progress::wait_for;

/// The group above all clusters.
const ROOT: &str = "gantry";
/// The controllers that kubelet and runc ask for, where they exist.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
/// Emptying or freezing a group takes the kernel milliseconds; a loaded machine a little more.
const LIMIT: Duration = Duration::from_secs(20);

/// The machine's control group trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 1: one tree per controller, and the empty one of version 2 where runc makes groups too. The second is the freezer's.
    V1(Vec<PathBuf>, PathBuf),
    /// Version 2: one tree.
    V2(PathBuf),
}

/// The control group that kubelet is given as its root.
pub fn node_path(cluster: &str, node: &str) -> String {
    format!("/{ROOT}/{cluster}/{node}")
}

impl Cgroups {
    /// Finds the trees.
    pub fn find() -> Result<Cgroups> {
        Cgroups::parse(&fs::read_to_string("/proc/mounts")?)
    }

    /// Reads /proc/mounts. Where both versions are mounted, version 1 has the controllers.
    fn parse(mounts: &str) -> Result<Cgroups> {
        let mounted = |kind: &str| -> Vec<PathBuf> {
            let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            fields
                .filter(|fields| fields.get(2) == Some(&kind))
                .filter_map(|fields| fields.get(1).map(PathBuf::from))
                .collect()
        };
        let (v1, v2) = (mounted("cgroup"), mounted("cgroup2"));
        let named = |name: &str| {
            v1.iter().find(|path| {
                path.file_name().is_some_and(|file| file.to_string_lossy().split(',').any(|part| part == name))
            })
        };
        match (named("freezer").cloned(), v2.first()) {
            (Some(freezer), _) if named("memory").is_some() => Ok(Cgroups::V1([v1, v2].concat(), freezer)),
            (_, Some(unified)) => Ok(Cgroups::V2(unified.clone())),
            _ => bail!("no control groups are mounted: kubelet can't work here"),
        }
    }

    fn trees(&self) -> &[PathBuf] {
        match self {
            Cgroups::V1(trees, _) => trees,
            Cgroups::V2(tree) => std::slice::from_ref(tree),
        }
    }

    /// Makes a node's group, and moves the sandbox's first process, and so all that it will start, below it.
    pub fn make(&self, cluster: &str, node: &str, pid: i32) -> Result<()> {
        for tree in self.trees() {
            let mut group = tree.clone();
            for name in [ROOT, cluster, node] {
                if let Cgroups::V2(_) = self {
                    delegate(&group);
                }
                group.push(name);
            }
            fs::create_dir_all(&group)
                .with_context(|| format!("{}: the control groups must be writable", group.display()))?;
        }
        // In a leaf of its own: version 2 wants no processes in groups that have children. Of version 1 only the freezer matters.
        let home = self.freezable(cluster, node).join("system");
        fs::create_dir_all(&home)?;
        fs::write(home.join("cgroup.procs"), pid.to_string()).with_context(|| home.display().to_string())
    }

    fn freezable(&self, cluster: &str, node: &str) -> PathBuf {
        let tree = match self {
            Cgroups::V1(_, freezer) => freezer,
            Cgroups::V2(tree) => tree,
        };
        tree.join(ROOT).join(cluster).join(node)
    }

    /// Stops every process of a node in its tracks, or lets them go on.
    pub fn freeze(&self, cluster: &str, node: &str, frozen: bool) -> Result<()> {
        let group = self.freezable(cluster, node);
        let (file, value, seen, sign) = match (self, frozen) {
            (Cgroups::V1(..), true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (Cgroups::V1(..), false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
            (Cgroups::V2(_), true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (Cgroups::V2(_), false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
        };
        fs::write(group.join(file), value).with_context(|| group.display().to_string())?;
        wait_for(&format!("{node} to be {}", sign.to_lowercase()), LIMIT, || {
            Ok(fs::read_to_string(group.join(seen))?.contains(sign))
        })
    }

    /// Whether a node is frozen.
    pub fn is_frozen(&self, cluster: &str, node: &str) -> bool {
        let (file, sign) = match self {
            Cgroups::V1(..) => ("freezer.state", "FR"),
            Cgroups::V2(_) => ("cgroup.events", "frozen 1"),
        };
        fs::read_to_string(self.freezable(cluster, node).join(file)).is_ok_and(|text| text.contains(sign))
    }

    /// Removes a cluster's groups; its processes must have ended. Waits for the kernel to notice that they are empty.
    pub fn remove(&self, cluster: &str) -> Result<()> {
        for tree in self.trees() {
            let group = tree.join(ROOT).join(cluster);
            wait_for(&format!("{} to be empty", group.display()), LIMIT, || {
                remove_tree(&group);
                Ok(!group.exists())
            })?;
            let _ = fs::remove_dir(tree.join(ROOT)); // stays while another cluster is in it
        }
        Ok(())
    }
}

/// Hands the controllers down to a group's children. Each by itself: one that is missing must not stop the others.
fn delegate(group: &Path) {
    let _ = fs::create_dir_all(group);
    for controller in CONTROLLERS {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Removes a group and those in it, from the leaves up. A group is a directory whose files can't be removed and need not be.
fn remove_tree(group: &Path) {
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    let _ = fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_both_versions_are_mounted_the_first_has_the_controllers() {
        let mounts = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw 0 0\n\
                      cgroup /sys/fs/cgroup/freezer cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let Cgroups::V1(trees, freezer) = Cgroups::parse(mounts).unwrap() else { panic!("not version 1") };
        assert_eq!(trees.len(), 4, "runc makes groups in the empty tree of version 2 too");
        assert_eq!(freezer, PathBuf::from("/sys/fs/cgroup/freezer"));
    }

    #[test]
    fn a_single_tree_is_version_2_also_beside_systemds_own() {
        let mounts =
            "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n";
        assert_eq!(Cgroups::parse(mounts).unwrap(), Cgroups::V2("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_machine_without_control_groups_is_refused() {
        assert!(Cgroups::parse("proc /proc proc rw 0 0\n").is_err());
    }
}
