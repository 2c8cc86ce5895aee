//! The addresses of a cluster, and the commands that lay its network. Every cluster uses the same addresses, each in network
//! namespaces of its own: nothing in them has a way out, so nothing clashes.
//!
//! ```text
//! control plane's namespace            node N's namespace                  a pod's namespace
//!   nodes (bridge) 10.76.0.1  <-veth->  eth0 10.76.0.(10+N), cni0 10.77.N.1  <-veth->  eth0 10.77.N.x
//! ```

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The API server's and the DNS server's address.
pub const CONTROL_PLANE: &str = "10.76.0.1";
/// The API server's port.
pub const API_PORT: u16 = 6443;
/// All pods.
pub const PODS: &str = "10.77.0.0/16";
/// All Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The first Service address: the API server's own.
pub const API_SERVICE: &str = "10.96.0.1";
/// The DNS server's Service address.
pub const DNS_SERVICE: &str = "10.96.0.10";
/// The cluster's DNS domain.
pub const DOMAIN: &str = "cluster.local";
/// The most nodes a cluster can have: more than two cores can carry, and few enough for the addresses.
pub const MAX_NODES: u32 = 20;

/// A node's name, from its number.
pub fn node_name(index: u32) -> String {
    format!("node{index}")
}

/// A node's address.
pub fn node_address(index: u32) -> String {
    format!("10.76.0.{}", 10 + index)
}

/// The addresses of a node's pods.
pub fn node_pods(index: u32) -> String {
    format!("10.77.{index}.0/24")
}

/// The zone of a node: three zones, round robin.
pub fn zone(index: u32) -> &'static str {
    ["zone-a", "zone-b", "zone-c"][index as usize % 3]
}

/// What `ip -batch` is told in the control plane's namespace.
///
/// Services need a route, because the kernel looks for one before kube-proxy's rules replace the address; the world gets none, so that
/// whoever tries to leave is told at once.
fn control_plane_batch() -> String {
    format!(
        "link set lo up\nlink add nodes type bridge\naddr add {CONTROL_PLANE}/24 dev nodes\nlink set nodes up\nroute add {SERVICES} dev nodes\n"
    )
}

/// What `ip -batch` is told in the control plane's namespace for a node whose first process is `pid`.
fn uplink_batch(index: u32, pid: i32) -> String {
    let (link, pods, address) = (uplink(index), node_pods(index), node_address(index));
    format!(
        "link add {link} type veth peer name eth0 netns {pid}\nlink set {link} master nodes\nlink set {link} up\nroute replace {pods} via {address}\n"
    )
}

/// What `ip -batch` is told in the node's namespace, in a cluster of `count` nodes.
fn node_batch(index: u32, count: u32) -> String {
    let mut batch = format!(
        "link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\nroute add default via {CONTROL_PLANE}\n",
        node_address(index)
    );
    for other in (0..count).filter(|other| *other != index) {
        batch += &format!("route add {} via {}\n", node_pods(other), node_address(other));
    }
    batch
}

/// The control plane's end of a node's link.
pub fn uplink(index: u32) -> String {
    format!("up-{}", node_name(index))
}

/// Lays the control plane's network.
pub fn lay_control_plane(pid: i32) -> Result<()> {
    settings(pid, &[("net/ipv4/ip_forward", "1")])?;
    batch(pid, &control_plane_batch())
}

/// Lays a node's network and joins it to the control plane's.
pub fn lay_node(control_plane: i32, node: i32, index: u32, count: u32) -> Result<()> {
    // The link of a node that was switched off goes when the kernel gets to it: a new one must not wait for that.
    let _ = batch(control_plane, &format!("link del {}\n", uplink(index)));
    batch(control_plane, &uplink_batch(index, node))?;
    batch(node, &node_batch(index, count))?;
    settings(node, &[("net/ipv4/ip_forward", "1"), ("net/bridge/bridge-nf-call-iptables", "1")])
}

/// Cuts a node's link, or joins it again.
pub fn cut(control_plane: i32, index: u32, cut: bool) -> Result<()> {
    batch(control_plane, &format!("link set {} {}\n", uplink(index), if cut { "down" } else { "up" }))?;
    // A link that went down has lost its route.
    match cut {
        true => Ok(()),
        false => batch(control_plane, &format!("route replace {} via {}\n", node_pods(index), node_address(index))),
    }
}

/// A command that runs in the network namespace of the process `pid`, and in nothing else of it.
///
/// Not `ip netns exec`: that mounts another /sys, which hides the cgroups.
pub fn enter(pid: i32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").env("PATH", crate::debian::system_path());
    command
}

fn batch(pid: i32, lines: &str) -> Result<()> {
    feed(enter(pid).args(["ip", "-batch", "-"]), lines)
}

/// Sets kernel settings of a network namespace; they are found under /proc by whoever is in it.
fn settings(pid: i32, settings: &[(&str, &str)]) -> Result<()> {
    let script: String = settings.iter().map(|(name, value)| format!("echo {value} > /proc/sys/{name}\n")).collect();
    feed(enter(pid).args(["sh", "-e"]), &script)
}

fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("nsenter")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Whether somebody listens on a TCP port (IPv4 or any) in the network namespace of `pid`; read from /proc, so it costs nothing.
pub fn listens(pid: i32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        is_listening(&text, port)
    })
}

/// Reads a table of /proc/net/tcp: the second field is the local address, the fourth the state, 0A being "listen".
fn is_listening(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_routes_to_the_pods_of_all_others_and_none_to_its_own() {
        let batch = node_batch(1, 3);
        assert!(batch.contains("addr add 10.76.0.11/24 dev eth0\n"));
        assert!(batch.contains("route add 10.77.0.0/24 via 10.76.0.10\n"));
        assert!(batch.contains("route add 10.77.2.0/24 via 10.76.0.12\n"));
        assert!(!batch.contains("10.77.1.0/24"));
    }

    #[test]
    fn zones_go_round() {
        assert_eq!([0, 1, 2, 3].map(zone), ["zone-a", "zone-b", "zone-c", "zone-a"]);
    }

    #[test]
    fn interface_names_fit_the_kernels_fifteen_bytes() {
        assert!(uplink(MAX_NODES).len() <= 15);
    }

    #[test]
    fn only_a_listening_socket_on_that_port_counts() {
        let table = "  sl  local_address rem_address   st\n   0: 01004C0A:192B 00000000:0000 0A 0\n   1: 01004C0A:0050 00000000:0000 01 0\n";
        assert!(is_listening(table, 6443));
        assert!(!is_listening(table, 80), "an established connection is not a listener");
        assert!(!is_listening(table, 22));
    }
}
