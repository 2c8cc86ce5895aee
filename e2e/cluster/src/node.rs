//! A node: its configuration, and starting, stopping, killing and starting it again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::build::Programs;
use crate::cgroups::{self, Cgroups};
use crate::control::{Request, Sandbox, Spec};
use crate::control_plane::{flags, inside, proxy, spec};
use crate::images;
use crate::network::{self, CONTROL_PLANE, DOMAIN, node_address, node_name, node_pods, zone};
use crate::paths::{ClusterDir, INSIDE, INSIDE_PARTS};
use crate::progress::wait_for;
use crate::sandbox;

/// containerd's socket, as the node's processes see it.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// containerd is there in a second; on a machine that compiles, later.
const CONTAINERD_LIMIT: Duration = Duration::from_secs(90);
/// A node that is switched off gives its pods this long, as a machine's shutdown does.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// A cluster's node, by number.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// The cluster's state directory.
    pub directory: &'a ClusterDir,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The programs it runs.
    pub programs: &'a Programs,
    /// Its number, from 0.
    pub index: u32,
    /// How many nodes the cluster has.
    pub count: u32,
}

impl Node<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        node_name(self.index)
    }

    /// Its sandbox, if it is on.
    pub fn sandbox(&self) -> Option<Sandbox> {
        Sandbox::find(&self.directory.node(&self.name()))
    }

    /// Switches it on as far as containerd, with the pause image; `control_plane` is the cluster's sandbox. Kubelet comes by
    /// [`Node::join`]: it would lose seconds in back-off if it were started before the API server answers.
    pub fn start(&self, control_plane: &Sandbox) -> Result<Sandbox> {
        let (name, own) = (self.name(), self.directory.node(&self.name()));
        self.write_configuration(&own)?;
        let launcher = sandbox::command(INSIDE, INSIDE_PARTS, Some(&name));
        control_plane.ask(&Request::Start(Spec {
            name: name.clone(),
            argv: ["/bin/sh".into(), "-c".into(), format!("exec {}", launcher.join(" "))].to_vec(),
            log: inside(&format!("log/{name}.log")),
            restart: false,
        }))?;
        let node = sandbox::wait(&own, || dead(control_plane, &name, &self.directory.logs()))?;
        Cgroups::find()?.make(self.cluster, &name, node.pid())?;
        network::lay_node(control_plane.pid(), node.pid(), self.index, self.count)?;
        let configuration = format!("{INSIDE}/nodes/{name}/containerd.toml");
        self.launch(&node, "containerd", &["--config".into(), configuration])?;
        let socket = images::socket(node.pid());
        wait_for(&format!("containerd of {name}"), CONTAINERD_LIMIT, || {
            self.check(&node)?;
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok())
        })?;
        images::load(&images::of_program(self.programs, "pause")?, &[*self])?;
        Ok(node)
    }

    /// Starts kubelet and kube-proxy.
    pub fn join(&self, node: &Sandbox) -> Result<()> {
        let kubelet = flags([
            ("config", &format!("{INSIDE}/nodes/{}/kubelet.json", self.name())),
            ("kubeconfig", &inside(&format!("{}.kubeconfig", self.name()))),
            ("hostname-override", &self.name()),
            ("node-ip", &node_address(self.index)),
            ("node-labels", &labels(self.index)),
        ]);
        self.launch(node, "kubelet", &kubelet)?;
        self.launch(node, "kube-proxy", &proxy(self.index))
    }

    fn launch(&self, node: &Sandbox, program: &str, arguments: &[String]) -> Result<()> {
        let name = format!("{}-{program}", self.name());
        node.ask(&Request::Start(spec(self.programs, &name, program, arguments))).map(drop)
    }

    /// An error with the log's end when one of its processes has ended.
    pub fn check(&self, node: &Sandbox) -> Result<()> {
        sandbox::check(node, &self.directory.logs())
    }

    fn write_configuration(&self, own: &Path) -> Result<()> {
        fs::create_dir_all(own.join("cni"))?;
        let overlay = rustix::fs::statfs(own)?.f_type == OVERLAYFS;
        let files = [
            ("kubelet.json", serde_json::to_string_pretty(&kubelet(self.cluster, self.index))?),
            ("cni/10-pods.conflist", serde_json::to_string_pretty(&cni(self.index))?),
            ("containerd.toml", containerd(self.programs, &self.name(), if overlay { "native" } else { "overlayfs" })),
        ];
        for (name, text) in files {
            fs::write(own.join(name), text).with_context(|| own.join(name).display().to_string())?;
        }
        Ok(())
    }

    /// Ends everything in it at once, as a loss of power does. What is on its disk stays.
    pub fn kill(&self) -> Result<()> {
        let node = self.on()?;
        sandbox::kill(node.pid())?;
        // What is frozen can't die.
        let _ = Cgroups::find()?.freeze(self.cluster, &self.name(), false);
        sandbox::wait_for_end(node.pid())
    }

    /// Switches it off as a shutdown does: no new pods, then SIGTERM to everything, then the end.
    pub fn stop(&self) -> Result<()> {
        let node = self.on()?;
        let name = self.name();
        if Cgroups::find()?.is_frozen(self.cluster, &name) {
            bail!("{name} is paused: `gantry-cluster node resume {name}` first, or `node kill {name}`");
        }
        for program in ["kubelet", "kube-proxy"] {
            let _ = node.ask(&Request::Stop(format!("{name}-{program}")));
        }
        let pid = node.pid();
        let everything = ["--pid", "--mount", "--", "sh", "-c", "kill -TERM -1"];
        Command::new("nsenter").arg(format!("--target={pid}")).args(everything).output().context("nsenter")?;
        // Pods that ignore it are ended by force below; that is no error.
        let pods = || {
            Ok(fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                .is_ok_and(|children| children.trim().is_empty()))
        };
        let _ = wait_for("the pods to end", SHUTDOWN_LIMIT, pods);
        self.kill()
    }

    /// Its sandbox, or a sentence that it is off.
    pub fn on(&self) -> Result<Sandbox> {
        match self.sandbox() {
            Some(node) => Ok(node),
            None => bail!("{} is off: `gantry-cluster node start {}` switches it on", self.name(), self.name()),
        }
    }
}

/// The kind of file system that can't carry another overlay: f_type of an overlayfs (linux/magic.h).
const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;

/// A sentence and the log's end when a node's sandbox has ended while it was to start.
fn dead(control_plane: &Sandbox, name: &str, logs: &Path) -> Result<()> {
    let node = control_plane.ask(&Request::List)?.into_iter().find(|component| component.name == name);
    match node.and_then(|node| node.ended) {
        Some(how) => bail!("{name} ended with {how}; {}", sandbox::tail(&logs.join(format!("{name}.log")))),
        None => Ok(()),
    }
}

fn labels(index: u32) -> String {
    format!("topology.kubernetes.io/zone={},topology.kubernetes.io/region=gantry", zone(index))
}

/// Kubelet's configuration: quick to report, slow to evict (the machine's disk is not the cluster's business).
fn kubelet(cluster: &str, index: u32) -> Value {
    let name = node_name(index);
    let cert = |file: &str| inside(&format!("certs/{file}"));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": node_address(index),
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": cert("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": cert(&format!("{name}.crt")), "tlsPrivateKeyFile": cert(&format!("{name}.key")),
        "cgroupRoot": cgroups::node_path(cluster, &name), "cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false,
        "clusterDNS": [CONTROL_PLANE], "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "maxPods": 250, "serializeImagePulls": false,
        "healthzPort": 10248, "healthzBindAddress": "127.0.0.1",
        "syncFrequency": "10s", "nodeStatusUpdateFrequency": "4s",
        // Renewed every quarter of it: several times within the controller manager's patience of 20 s.
        "nodeLeaseDurationSeconds": 12,
        // Images are loaded by hand: one that is collected would not come back.
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"},
        "evictionPressureTransitionPeriod": "10s",
    })
}

/// The pods' network: a bridge, addresses of the node's own range, host ports. Reservations lie in /run, so they end with the node.
fn cni(index: u32) -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": "/run/cni",
                "ranges": [[{"subnet": node_pods(index)}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

/// containerd's configuration. Left out are plugins that write outside what a node owns (opt), or that only take time to load.
fn containerd(programs: &Programs, node: &str, snapshotter: &str) -> String {
    let (runc, own) = (programs.at(Path::new(INSIDE_PARTS), "runc"), programs.at(Path::new(INSIDE_PARTS), "bridge"));
    let plugins = own.parent().unwrap_or(Path::new("/"));
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs"]
[grpc]
  address = "{CONTAINERD}"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "{snapshotter}"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  # A machine may lack the right to protect processes from the out-of-memory killer (CAP_SYS_RESOURCE).
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{INSIDE}/nodes/{node}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"#,
        pause = images::PAUSE,
        plugins = plugins.display(),
        runc = runc.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_lets_nobody_in_without_asking_the_api_server() {
        let config = kubelet("ci", 1);
        assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(config["authorization"]["mode"], "Webhook");
        assert_eq!(config["cgroupRoot"], "/gantry/ci/node1");
        assert_eq!(config["address"], "10.76.0.11");
    }

    #[test]
    fn every_node_gives_out_addresses_of_its_own() {
        assert_eq!(cni(2)["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.77.2.0/24");
    }

    #[test]
    fn labels_name_the_zone() {
        assert!(labels(4).contains("topology.kubernetes.io/zone=zone-b"));
    }
}
