//! A sandbox's view of the file system: the host's, with private places for everything that a cluster writes outside its state directory.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, unmount,
};

use crate::paths::{INSIDE, INSIDE_PARTS};

/// What the first process of a sandbox is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The cluster's state directory, as seen before the mounts.
    pub state: PathBuf,
    /// The built programs, as seen before the mounts.
    pub parts: PathBuf,
    /// The node's name; `None` for the control plane's sandbox.
    pub node: Option<String>,
}

impl View {
    /// The sandbox's own directory, as seen after the mounts.
    pub fn inside(&self) -> PathBuf {
        match &self.node {
            None => INSIDE.into(),
            Some(node) => Path::new(INSIDE).join("nodes").join(node),
        }
    }
}

/// Kernel settings that kubelet insists on. They are the machine's, not a namespace's: kubelet is shown files that hold what it wants,
/// so that it has no reason to change the machine.
const KUBELET_SETTINGS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Arranges the mounts. Must run in a mount namespace of its own.
pub fn arrange(view: &View) -> Result<()> {
    // Opened before anything is covered: the state may lie below /tmp, /run or /var/lib.
    let (state, parts) = (open(&view.state)?, open(&view.parts)?);
    // Pods' volumes are mounted here and must show up in their containers; nothing goes back to the host, whose tree is private to us.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).context("make / shared")?;
    let_go_of_networks()?;
    tmpfs("/run")?;
    bind(&through(&state), INSIDE)?;
    bind(&through(&parts), INSIDE_PARTS)?;
    fs::create_dir_all("/run/lock")?;
    let shared_tmp = directory(&Path::new(INSIDE).join("tmp"), 0o1777)?;
    mount_bind(&shared_tmp, "/tmp").context("/tmp")?;
    for name in ["resolv.conf", "hosts"] {
        let (own, host) = (Path::new(INSIDE).join(name), Path::new("/etc").join(name));
        if let (true, Ok(host)) = (own.exists(), fs::canonicalize(host)) {
            mount_bind(&own, &host).with_context(|| host.display().to_string())?;
        }
    }
    if let Some(node) = &view.node {
        let own = view.inside();
        for (name, place) in [("lib", "/var/lib"), ("log", "/var/log")] {
            let own = directory(&own.join(name), 0o755)?;
            mount_bind(&own, place).context(place)?;
        }
        calm_kubelet(Path::new("/run/gantry/settings"))?;
        fs::write("/proc/sys/kernel/hostname", node).context("the node's host name")?;
    }
    Ok(())
}

/// Drops the named network namespaces of others that came along with the copy of the host's mounts: held here, they would outlive their
/// removal on the host.
fn let_go_of_networks() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for line in mounts.lines() {
        if let [_, at, "nsfs", ..] = line.split(' ').collect::<Vec<_>>()[..] {
            unmount(at, UnmountFlags::DETACH).with_context(|| at.to_owned())?;
        }
    }
    Ok(())
}

fn calm_kubelet(directory: &Path) -> Result<()> {
    for (name, value) in KUBELET_SETTINGS {
        let (own, real) = (directory.join(name), Path::new("/proc/sys").join(name));
        if real.exists() {
            fs::create_dir_all(own.parent().unwrap_or(directory))?;
            fs::write(&own, value)?;
            mount_bind(&own, &real).with_context(|| real.display().to_string())?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

/// A path that leads to an open directory whatever covers its real one.
fn through(directory: &File) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

fn bind(from: &str, to: &str) -> Result<()> {
    fs::create_dir_all(to).context(to.to_owned())?;
    mount_bind_recursive(from, to).with_context(|| format!("{from} at {to}"))
}

fn directory(path: &Path, mode: u32) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| path.display().to_string())?;
    Ok(path.to_owned())
}

fn tmpfs(at: &str) -> Result<()> {
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755")).context(at.to_owned())
}
