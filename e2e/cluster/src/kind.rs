//! kind, where a container engine answers: the same commands, carried out by it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::debian::on_path;
use crate::network::{PODS, SERVICES, zone};
use crate::paths::Home;
use crate::progress::{self, step};
use crate::registry::answers;
use crate::state::{Extent, Provider, State};

/// kind's name for a cluster of ours.
fn kind_name(name: &str) -> String {
    format!("gantry-{name}")
}

/// Whether kind is installed and a container engine answers it.
pub fn works() -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    on_path("kind", &path)
        && ["docker", "podman", "nerdctl"].iter().any(|engine| on_path(engine, &path) && answers(engine))
}

/// Brings a cluster up; one that is up already is left as it is.
pub fn up(home: &Home, name: &str, extent: Extent) -> Result<()> {
    let directory = home.cluster(name);
    if State::read(&directory.state())?.is_some_and(|state| state.ready) && clusters()?.contains(&kind_name(name)) {
        progress::say(&format!("  ok cluster {name} is up already"));
        return Ok(());
    }
    fs::create_dir_all(directory.path())?;
    let mut state = State::new(name, Provider::Kind, extent);
    state.write(&directory.state())?;
    let config = directory.path().join("kind.json");
    fs::write(&config, serde_json::to_string_pretty(&configuration(extent.nodes().max(1)))?)?;
    step("kind create cluster", |_| {
        let kubeconfig = directory.kubeconfig();
        run(Command::new("kind")
            .args(["create", "cluster", "--wait=120s", "--name", &kind_name(name)])
            .arg("--config")
            .arg(&config)
            .arg("--kubeconfig")
            .arg(kubeconfig))
    })?;
    state.ready = true;
    state.write(&directory.state())
}

/// kind's configuration: the first node carries the control plane too, and every node has its zone.
fn configuration(nodes: u32) -> serde_json::Value {
    let node = |index: u32| {
        let role = if index == 0 { "control-plane" } else { "worker" };
        json!({"role": role, "labels": {"topology.kubernetes.io/zone": zone(index), "topology.kubernetes.io/region": "gantry"}})
    };
    json!({
        "kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"podSubnet": PODS, "serviceSubnet": SERVICES},
        "nodes": (0..nodes).map(node).collect::<Vec<_>>(),
    })
}

/// Loads an image archive into every node; kind itself skips what is there.
pub fn load(name: &str, archive: &Path) -> Result<()> {
    run(Command::new("kind").args(["load", "image-archive", "--name", &kind_name(name)]).arg(archive))
}

/// Takes a cluster down.
pub fn down(home: &Home, name: &str) -> Result<()> {
    step(&format!("kind delete cluster {name}"), |_| {
        run(Command::new("kind").args(["delete", "cluster", "--name", &kind_name(name)]))
    })?;
    fs::remove_dir_all(home.cluster(name).path()).context("the cluster's state")
}

/// kind's name for the context.
pub fn context(name: &str) -> String {
    format!("kind-{}", kind_name(name))
}

fn clusters() -> Result<Vec<String>> {
    let output = Command::new("kind").args(["get", "clusters"]).output().context("kind")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("kind")?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_first_node_carries_the_control_plane_and_all_have_zones() {
        let config = configuration(3);
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(
            nodes.iter().map(|node| node["role"].as_str().unwrap()).collect::<Vec<_>>(),
            ["control-plane", "worker", "worker"]
        );
        assert_eq!(nodes[2]["labels"]["topology.kubernetes.io/zone"], "zone-c");
    }
}
