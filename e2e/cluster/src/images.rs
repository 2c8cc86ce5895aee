//! Getting images into the nodes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::archive;
use crate::build::Programs;
use crate::node::Node;

/// The image of the process that holds a pod's namespaces.
pub const PAUSE: &str = "gantry/pause:1";
/// What a node has loaded, in its directory: digest by image name.
const RECORD: &str = "images.json";

/// containerd's socket of the node whose first process is `pid`, seen from the host.
pub fn socket(pid: i32) -> PathBuf {
    format!("/proc/{pid}/root/run/containerd/containerd.sock").into()
}

/// The archive of the image `gantry/PROGRAM:1`, whose entry point is a program of ours; made on first use beside the program.
pub fn of_program(programs: &Programs, program: &str) -> Result<PathBuf> {
    let program_path = programs.on_host(program);
    let path = program_path.with_extension("tar");
    if !path.exists() {
        archive::write_program(&path, &format!("gantry/{program}:1"), &program_path)?;
    }
    Ok(path)
}

/// Loads an archive into nodes that are on; nodes that have the same content under the same names are left alone.
/// Returns the names of the images and how many nodes had to load.
pub fn load(path: &Path, nodes: &[Node<'_>]) -> Result<(Vec<String>, usize)> {
    let images = archive::images(path)?;
    let missing: Vec<&Node<'_>> = nodes.iter().filter(|node| !has(node, &images)).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = missing.iter().map(|node| scope.spawn(|| import(path, node, &images))).collect();
        all.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("loading an image panicked")))
    })?;
    Ok((images.into_keys().collect(), missing.len()))
}

fn record(node: &Node<'_>) -> PathBuf {
    node.directory.node(&node.name()).join(RECORD)
}

fn recorded(node: &Node<'_>) -> BTreeMap<String, String> {
    let text = fs::read(record(node)).unwrap_or_default();
    // A record that can't be read costs a load, not more.
    serde_json::from_slice(&text).unwrap_or_default()
}

fn has(node: &Node<'_>, images: &BTreeMap<String, String>) -> bool {
    let recorded = recorded(node);
    images.iter().all(|(name, digest)| recorded.get(name) == Some(digest))
}

fn import(path: &Path, node: &Node<'_>, images: &BTreeMap<String, String>) -> Result<()> {
    let sandbox = node.on()?;
    let output = Command::new(node.programs.on_host("ctr"))
        .arg("--address")
        .arg(socket(sandbox.pid()))
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(path)
        .output()
        .context("ctr")?;
    if !output.status.success() {
        bail!(
            "loading {} into {} failed: {}",
            path.display(),
            node.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let mut known = recorded(node);
    known.extend(images.clone());
    fs::write(record(node), serde_json::to_string_pretty(&known)?).with_context(|| record(node).display().to_string())
}
