//! Where things lie on disk: one cache directory with the built programs and the state of each cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The name of the cluster when none is given.
pub const DEFAULT_NAME: &str = "gantry";

/// The directory that holds all that this tool keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Finds the directory from the environment, given as a function so that tests need not change the real one:
    /// `GANTRY_CACHE`, else `XDG_CACHE_HOME/gantry`, else `HOME/.cache/gantry`.
    pub fn find(var: impl Fn(&str) -> Option<OsString>) -> Result<Home> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = match (set("GANTRY_CACHE"), set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(path), _, _) => path,
            (None, Some(cache), _) => cache.join("gantry"),
            (None, None, Some(home)) => home.join(".cache/gantry"),
            (None, None, None) => bail!("no place for the cache: set GANTRY_CACHE, XDG_CACHE_HOME or HOME"),
        };
        // Absolute, because processes with another working directory are handed these paths.
        Ok(Home(std::path::absolute(path).context("the cache directory's path")?))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Built programs, one directory per part and content key. Nothing else is in it: what no key names is removed, and images and tools keep what
    /// they are made of below the same cache.
    pub fn programs(&self) -> PathBuf {
        self.0.join("programs")
    }

    /// The lock that lets one process at a time build programs.
    pub fn building(&self) -> PathBuf {
        self.0.join("programs.lock")
    }

    /// Go sources written out for the build.
    pub fn sources(&self) -> PathBuf {
        self.0.join("sources")
    }

    /// One directory per cluster.
    pub fn clusters(&self) -> PathBuf {
        self.0.join("clusters")
    }

    /// The state of the cluster `name`.
    pub fn cluster(&self, name: &str) -> ClusterDir {
        ClusterDir(self.clusters().join(name))
    }

    /// The lock that lets one process at a time bring the cluster `name` up or down.
    pub fn lock(&self, name: &str) -> PathBuf {
        self.clusters().join(format!("{name}.lock"))
    }
}

/// The state directory of one cluster. Inside the cluster's namespaces it is mounted at [`INSIDE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDir(PathBuf);

/// Where a cluster's own processes see its state directory.
pub const INSIDE: &str = "/run/gantry/state";
/// Where a cluster's own processes see the built programs.
pub const INSIDE_PARTS: &str = "/run/gantry/parts";

impl ClusterDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// What `up` decided: see [`crate::state::State`].
    pub fn state(&self) -> PathBuf {
        self.0.join("cluster.json")
    }
    /// Certificates and keys.
    pub fn certs(&self) -> PathBuf {
        self.0.join("certs")
    }
    /// One log file per component.
    pub fn logs(&self) -> PathBuf {
        self.0.join("log")
    }
    /// The administrator's kubeconfig for use inside the cluster's network (`gantry-cluster exec`).
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }
    /// The administrator's kubeconfig for use from the host, by way of the relay on loopback.
    pub fn host_kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig-host")
    }
    /// The directory of the node `name`; its control socket lies there.
    pub fn node(&self, name: &str) -> PathBuf {
        self.0.join("nodes").join(name)
    }
}

/// Checks a cluster's name: it becomes part of paths, cgroups and kubeconfig contexts.
pub fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 30
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        bail!(
            "{name:?} is not a name for a cluster: use 1 to 30 lower-case letters, digits and dashes, not starting with a dash"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(vars: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Home::find(find).ok().map(|home| home.0)
    }

    #[test]
    fn the_cache_is_the_named_one_then_the_users_then_the_one_at_home() {
        let all = [("GANTRY_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(home(&all), Some("/a".into()));
        assert_eq!(home(&all[1..]), Some("/b/gantry".into()));
        assert_eq!(home(&all[2..]), Some("/c/.cache/gantry".into()));
        assert_eq!(home(&[]), None);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(home(&[("GANTRY_CACHE", ""), ("HOME", "/c")]), Some("/c/.cache/gantry".into()));
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in ["", "..", "a/b", "A", "-x", "a b", &"a".repeat(31)] {
            assert!(check_name(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["gantry", "api", "ci-7"] {
            assert!(check_name(good).is_ok(), "{good:?} was refused");
        }
    }
}
