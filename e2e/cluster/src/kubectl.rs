//! The few questions that are asked of a cluster of ours with kubectl.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::network;
use crate::own::Own;

/// Asked for quickly: it is asked again, so a request must not hang.
const TIMEOUT: &str = "--request-timeout=10s";

fn command(own: &Own) -> Result<Command> {
    let mut command = network::enter(own.running()?.pid());
    command.arg(own.programs.on_host("kubectl")).arg("--kubeconfig").arg(own.directory.kubeconfig()).arg(TIMEOUT);
    // Discovery is cached with the cluster, and so removed with it.
    command.arg("--cache-dir").arg(own.directory.path().join("kubectl-cache"));
    Ok(command)
}

/// Runs kubectl and returns what it prints.
pub fn run(own: &Own, arguments: &[&str]) -> Result<String> {
    finish(command(own)?.args(arguments).stdin(Stdio::null()).output().context("kubectl")?, arguments)
}

/// Runs kubectl with `input` as its standard input.
pub fn feed(own: &Own, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = command(own)?;
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl")?;
    if let Some(mut stdin) = child.stdin.take() {
        // When kubectl ends before it has read all, its error says more than ours would.
        let _ = stdin.write_all(input.as_bytes());
    }
    finish(child.wait_with_output()?, arguments)
}

fn finish(output: Output, arguments: &[&str]) -> Result<String> {
    if !output.status.success() {
        bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many nodes are Ready and without the taint that says otherwise.
pub fn ready_nodes(own: &Own) -> Result<usize> {
    let template = r#"-o=jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}{"\n"}{end}"#;
    // A question that fails counts as no node: it is asked again, and the components are watched beside it.
    Ok(count_ready(&run(own, &["get", "nodes", template]).unwrap_or_default()))
}

fn count_ready(lines: &str) -> usize {
    lines.lines().filter(|line| line.starts_with("True") && !line.contains("node.kubernetes.io/")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_a_taint_of_kubernetes_is_not_ready_yet() {
        assert_eq!(count_ready("True \nTrue node.kubernetes.io/not-ready\nFalse \nUnknown \nTrue dedicated\n"), 2);
    }
}
