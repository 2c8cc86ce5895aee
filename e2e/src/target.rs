//! The cluster that faults are done to: who is who in it, and the hands laid on its processes, volumes and network. It needs a Kubernetes whose nodes'
//! processes are visible here and a user who may signal them, as on the cluster that `hack/cluster` makes itself.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kubectl::{Namespace, kubectl};
use crate::wait::{Answer, until};

/// Routing rules that cut a pod off have this preference, so that they are found again.
const RULE: &str = "1";
/// The process that holds a pod's network: it stays when the engine is started again.
const SANDBOX: &str = "pause";

/// A cluster that faults are done to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// Its name.
    pub cluster: &'a str,
}

/// What is undone when it is dropped: no way out of a fault leaves it in place.
#[derive(Debug, Default)]
pub(crate) struct Undo(Vec<Step>);

#[derive(Debug)]
enum Step {
    Continue { pid: i32 },
    Unblock { pid: i32 },
    Uncordon { node: String },
    Start { node: String },
}

impl Undo {
    fn continues(&mut self, pid: i32) {
        self.0.push(Step::Continue { pid });
    }

    fn unblocks(&mut self, pid: i32) {
        self.0.push(Step::Unblock { pid });
    }

    fn uncordons(&mut self, node: &str) {
        self.0.push(Step::Uncordon { node: node.into() });
    }

    pub(crate) fn starts(&mut self, node: &str) {
        self.0.push(Step::Start { node: node.into() });
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for step in self.0.drain(..) {
            match step {
                Step::Continue { pid } => drop(signal(pid, "CONT")),
                Step::Uncordon { node } => drop(kubectl(&["uncordon", &node])),
                Step::Start { node } => drop(switch_node("start", &node)),
                Step::Unblock { pid } => while in_network(pid, &["rule", "del", "pref", RULE]).is_ok() {},
            }
        }
    }
}

/// Names of the nodes.
///
/// # Errors
/// Where kubectl fails.
pub fn nodes() -> Result<Vec<String>> {
    let names = kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])?;
    Ok(names.split_whitespace().map(Into::into).collect())
}

/// Switches a node of the Kubernetes under test: `kill`, `start`.
///
/// # Errors
/// Where there is no such node.
pub fn switch_node(action: &str, node: &str) -> Result<()> {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/cluster"), &["node", action, node])
}

impl Target<'_> {
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(self.namespace.get(&format!("brokercluster/{}", self.cluster))?["status"].clone())
    }

    /// Names of the broker groups.
    pub(crate) fn groups(&self) -> Result<Vec<String>> {
        let groups = self.status()?["groups"].clone();
        let names = groups.as_array().into_iter().flatten().filter_map(|g| g["name"].as_str().map(Into::into));
        Ok(names.collect())
    }

    fn instance(&self) -> String {
        format!("app.kubernetes.io/instance={}", self.cluster)
    }

    pub(crate) fn selector(&self, component: &str) -> String {
        format!("{},app.kubernetes.io/component={component}", self.instance())
    }

    fn node(&self, pod: &str) -> Result<String> {
        let node = self.namespace.get(&format!("pod/{pod}"))?["spec"]["nodeName"].clone();
        Ok(node.as_str().with_context(|| format!("{pod} has no node"))?.to_owned())
    }

    /// The master and its node.
    pub(crate) fn masters_node(&self) -> Result<(String, String)> {
        let master = self.master()?;
        let node = self.node(&master)?;
        Ok((master, node))
    }

    /// Sees to it that the master is on another node than the clients of the test: they would go with it. Masters leave cordoned nodes.
    pub(crate) fn part_master_from_clients(&self) -> Result<()> {
        let clients = self.node("clients")?;
        if self.masters_node()?.1 != clients {
            return Ok(());
        }
        kubectl(&["cordon", &clients])?;
        let parted = until("the master is on another node than the clients", Duration::from_secs(120), || {
            let (master, node) = self.masters_node()?;
            Ok(Answer::when(node != clients, (), || format!("{master} is on {node}")))
        });
        kubectl(&["uncordon", &clients])?;
        parted?;
        let cluster = format!("brokercluster/{}", self.cluster);
        self.namespace.wait_for_condition(&cluster, "Degraded", "False", Duration::from_secs(120)).map(drop)
    }

    /// What docs/how-to/drain-a-node.md has people do once a drained node is back: where two controllers or brokers share a node while another has none, one
    /// is deleted, and its place is there.
    ///
    /// # Errors
    /// Where that does not help.
    pub fn spread(&self) -> Result<()> {
        let nodes = kubectl(&["get", "nodes", "-o", "name"])?.lines().count();
        for component in ["controller", "broker"] {
            while let Some(pod) = self.crowded(component, nodes)? {
                println!("   {pod} shares its node and is deleted");
                self.namespace.kubectl(&["delete", "pod", &pod])?;
                let cluster = format!("brokercluster/{}", self.cluster);
                self.namespace.wait_for_condition(&cluster, "Degraded", "False", Duration::from_secs(180))?;
                let parted = self.crowded(component, nodes)?.is_none_or(|other| other != pod);
                ensure!(parted, "{pod} was deleted and shares its node again");
            }
        }
        Ok(())
    }

    /// A pod, not the master's, that shares its node with one of its role while some node has none.
    fn crowded(&self, component: &str, nodes: usize) -> Result<Option<String>> {
        let master = self.master()?;
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let pods = self.pods(component)?;
        for pod in &pods {
            places.entry(self.node(pod)?).or_default().push(pod.clone());
        }
        if places.len() >= nodes.min(pods.len()) {
            return Ok(None);
        }
        Ok(places.into_values().filter(|pods| pods.len() > 1).flatten().find(|pod| *pod != master))
    }

    pub(crate) fn pods(&self, component: &str) -> Result<Vec<String>> {
        let pods = self.namespace.list("pods", &self.selector(component))?;
        Ok(pods.iter().filter_map(|p| p["metadata"]["name"].as_str().map(Into::into)).collect())
    }

    /// Pod of the first group's master.
    ///
    /// # Errors
    /// Where there is none.
    pub fn master(&self) -> Result<String> {
        let master = self.status()?["groups"][0]["master"].clone();
        master.as_str().map(Into::into).context("the group has no master")
    }

    pub(crate) fn slave(&self, nth: usize) -> Result<String> {
        let status = self.status()?;
        let replicas = status["groups"][0]["replicas"].as_array().cloned().unwrap_or_default();
        let slaves: Vec<&str> =
            replicas.iter().filter(|r| r["state"] == "InSync").filter_map(|r| r["pod"].as_str()).collect();
        let slave = slaves.get(nth % slaves.len().max(1)).context("the group has no slave in sync")?;
        Ok((*slave).into())
    }

    pub(crate) fn controller_leader(&self) -> Result<String> {
        self.status()?["controllerLeader"].as_str().map(Into::into).context("the controllers have no leader")
    }

    pub(crate) fn proxy(&self, nth: usize) -> Result<String> {
        let all = self.pods("proxy")?;
        all.get(nth % all.len().max(1)).cloned().context("there is no proxy")
    }

    /// Ends a pod's process without a word.
    ///
    /// # Errors
    /// Where it is not to be found.
    pub fn kill(&self, pod: &str) -> Result<String> {
        signal(self.process(pod, "java")?, "KILL")?;
        Ok(format!("{pod} killed"))
    }

    /// Lets a pod's process stand still.
    pub(crate) fn hang(&self, pod: &str, undo: &mut Undo) -> Result<String> {
        let pid = self.process(pod, "java")?;
        undo.continues(pid);
        signal(pid, "STOP")?;
        Ok(format!("{pod} hangs"))
    }

    pub(crate) fn hang_all(&self, pods: &[String], undo: &mut Undo) -> Result<String> {
        Ok(pods.iter().map(|pod| self.hang(pod, undo)).collect::<Result<Vec<_>>>()?.join(", "))
    }

    pub(crate) fn hang_majority(&self, undo: &mut Undo) -> Result<String> {
        let all = self.pods("controller")?;
        self.hang_all(&all[..all.len() / 2 + 1], undo)
    }

    /// Cuts a pod off from everything. Nothing of it leaves any more, so no connection of it works.
    pub(crate) fn cut_off(&self, pod: &str, undo: &mut Undo) -> Result<String> {
        let pid = self.process(pod, SANDBOX)?;
        undo.unblocks(pid);
        in_network(pid, &["rule", "add", "pref", RULE, "blackhole"])?;
        Ok(format!("{pod} cut off"))
    }

    /// Cuts a pod off from others, both ways.
    pub(crate) fn cut(&self, pod: &str, others: &[String], undo: &mut Undo) -> Result<String> {
        let addresses = others.iter().map(|other| self.address(other)).collect::<Result<Vec<_>>>()?;
        block(self.process(pod, SANDBOX)?, &addresses, undo)?;
        let back = [self.address(pod)?];
        for other in others {
            block(self.process(other, SANDBOX)?, &back, undo)?;
        }
        Ok(format!("{pod} cut off from {}", others.join(", ")))
    }

    /// Cuts the operator off from every pod of the cluster; it still reaches the API server.
    pub(crate) fn cut_operator(&self, undo: &mut Undo) -> Result<String> {
        let pods = self.namespace.list("pods", &self.instance())?;
        let addresses: Vec<String> =
            pods.iter().filter_map(|p| p["status"]["podIP"].as_str().map(Into::into)).collect();
        for pid in operator(SANDBOX)? {
            block(pid, &addresses, undo)?;
        }
        Ok(format!("the operator cut off from {} pods", addresses.len()))
    }

    fn address(&self, pod: &str) -> Result<String> {
        let ip = self.namespace.get(&format!("pod/{pod}"))?["status"]["podIP"].clone();
        ip.as_str().map(Into::into).with_context(|| format!("{pod} has no address"))
    }

    /// Drains the master's node, as anybody does before it is upgraded; the clients of the test stay.
    pub(crate) fn drain(&self, undo: &mut Undo) -> Result<String> {
        let (master, node) = self.masters_node()?;
        undo.uncordons(&node);
        let selector = format!("--pod-selector={},app.kubernetes.io/component!=clients", self.instance());
        let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=600s"];
        kubectl(&[&drain[..], &[&selector]].concat())?;
        Ok(format!("{node} drained, {master} was on it"))
    }

    pub(crate) fn delete(&self, pod: &str) -> Result<String> {
        self.namespace.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        Ok(format!("{pod} deleted"))
    }

    pub(crate) fn lose_volume(&self, pod: &str) -> Result<String> {
        let claim = format!("pvc/data-{pod}");
        let old = self.namespace.get(&claim)?["metadata"]["uid"].clone();
        self.namespace.kubectl(&["delete", &claim, "--wait=false"])?;
        self.delete(pod)?;
        until(&format!("{pod} has another volume"), Duration::from_secs(180), || {
            let now = self.namespace.get(&claim)?["metadata"]["uid"].clone();
            Ok(Answer::when(now != old, (), || "it is still the old one".into()))
        })?;
        Ok(format!("{pod} without its volume"))
    }

    /// Changes a key that brokers read at their start only.
    pub(crate) fn roll(&self, nth: usize) -> Result<String> {
        let threads = 40 + nth % 20;
        let patch =
            format!("{{\"spec\":{{\"brokers\":{{\"config\":{{\"sendMessageThreadPoolNums\":\"{threads}\"}}}}}}}}");
        self.namespace.kubectl(&["patch", "brokercluster", self.cluster, "--type=merge", "-p", &patch])?;
        Ok(format!("sendMessageThreadPoolNums: {threads}"))
    }

    fn process(&self, pod: &str, name: &str) -> Result<i32> {
        let uid = self.namespace.get(&format!("pod/{pod}"))?["metadata"]["uid"].clone();
        process(uid.as_str().context("no uid")?, name).with_context(|| format!("pod {pod}"))
    }
}

/// Processes of this name of the operator's pods.
fn operator(name: &str) -> Result<Vec<i32>> {
    let text = kubectl(&["-n", "gantry-system", "get", "pods", "-l", "app.kubernetes.io/name=gantry", "-o", "json"])?;
    let pods: Value = serde_json::from_str(&text)?;
    let uids = pods["items"].as_array().into_iter().flatten().filter_map(|p| p["metadata"]["uid"].as_str());
    let pids: Vec<i32> = uids.filter_map(|uid| process(uid, name).ok()).collect();
    ensure!(!pids.is_empty(), "no process {name} of the operator is to be found");
    Ok(pids)
}

/// Ends the operator without a word.
///
/// # Errors
/// Where its process is not to be found.
pub fn kill_operator() -> Result<String> {
    operator("gantry")?.into_iter().try_for_each(|pid| signal(pid, "KILL"))?;
    Ok("operator killed".into())
}

/// The process of this name in the pod's control group.
fn process(uid: &str, name: &str) -> Result<i32> {
    let marks = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() == name && marks.iter().any(|m| read("cgroup").contains(m)) {
            return Ok(pid);
        }
    }
    bail!("no process {name} of it is to be found: faults need a cluster whose nodes' processes are visible here")
}

fn signal(pid: i32, name: &str) -> Result<()> {
    run("kill", &[&format!("-{name}"), &pid.to_string()])
}

/// Nothing leaves the network of this process for these addresses any more.
fn block(pid: i32, addresses: &[String], undo: &mut Undo) -> Result<()> {
    undo.unblocks(pid);
    addresses.iter().try_for_each(|ip| in_network(pid, &["rule", "add", "pref", RULE, "to", ip, "blackhole"]))
}

/// `ip ARGS` in the network of a process.
fn in_network(pid: i32, args: &[&str]) -> Result<()> {
    let pid = pid.to_string();
    let mut all = vec!["-t", &pid, "-n", "ip"];
    all.extend(args);
    run("nsenter", &all)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("{program} does not start"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a process, as the kernel calls it.
    fn state(pid: i32) -> Result<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).context("no state")
    }

    #[test]
    fn a_fault_that_fails_half_way_is_undone() -> Result<()> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let pid = i32::try_from(child.id())?;
        let half_way = || -> Result<()> {
            let mut undo = Undo::default();
            undo.continues(pid);
            signal(pid, "STOP")?;
            until("it stands still", Duration::from_secs(10), || {
                let state = state(pid)?;
                Ok(Answer::when(state == 'T', (), || state.to_string()))
            })?;
            bail!("the second of two is not to be found")
        };
        let failed = half_way();
        let goes = until("it goes on", Duration::from_secs(10), || {
            let state = state(pid)?;
            Ok(Answer::when(state != 'T', (), || state.to_string()))
        });
        child.kill()?;
        child.wait()?;
        ensure!(format!("{:#}", failed.err().context("it did not fail")?).contains("the second"));
        goes
    }
}
