//! The operating system's programs: which are needed, from which Debian package, and installing what is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress;

/// A file or program that must be there, and the Debian package that brings it.
pub type Need = (&'static str, &'static str);

/// Needed to build the programs.
pub const BUILD: &[Need] = &[
    ("gcc", "gcc"),
    ("/usr/include/stdlib.h", "libc6-dev"),
    ("/usr/include/seccomp.h", "libseccomp-dev"),
    ("pkg-config", "pkg-config"),
];

/// Needed to run a cluster.
pub const RUN: &[Need] = &[
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("openssl", "openssl"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Directories where administrators' programs are, which a user's PATH may lack.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The caller's PATH with the administrators' directories behind it.
pub fn system_path() -> String {
    format!("{}:{SBIN}", std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into()))
}

/// Installs the packages of whatever is missing. Who is not root is told what to install.
pub fn install(needs: &[Need]) -> Result<()> {
    let missing = missing(needs, &system_path(), |path| Path::new(path).exists());
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::geteuid().is_root() || !on_path("apt-get", &system_path()) {
        bail!("these packages are missing (Debian's names): {list}; install them, or run this as root on Debian");
    }
    progress::step(&format!("install {list}"), |note| {
        if apt(&missing, note).is_err() {
            note.set("apt-get update");
            let _ = apt_get().arg("update").output();
            apt(&missing, note)?;
        }
        Ok(())
    })
}

fn missing(needs: &[Need], path: &str, exists: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let there = |name: &str| match name.starts_with('/') {
        true => exists(name),
        false => path.split(':').any(|directory| exists(&format!("{directory}/{name}"))),
    };
    let mut packages: Vec<&str> = needs.iter().filter(|(name, _)| !there(name)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Whether a program is in one of the directories of `path`.
pub fn on_path(name: &str, path: &str) -> bool {
    path.split(':').any(|directory| Path::new(directory).join(name).is_file())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").stdin(Stdio::null());
    command
}

fn apt(packages: &[&str], note: &progress::Note) -> Result<()> {
    note.set("apt-get install");
    let output = apt_get()
        .args(["-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends"])
        .args(packages)
        .output()
        .context("apt-get")?;
    if !output.status.success() {
        bail!("apt-get install {} failed: {}", packages.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once_and_only_when_something_of_it_is_missing() {
        let there = |path: &str| path == "/bin/ip";
        assert_eq!(missing(RUN, "/bin", there), ["iptables", "conntrack", "openssl", "util-linux"]);
        assert_eq!(missing(&[("ip", "iproute2")], "/bin", there), [""; 0]);
        assert_eq!(missing(&[("/usr/include/x.h", "x-dev")], "/bin", there), ["x-dev"]);
    }
}
