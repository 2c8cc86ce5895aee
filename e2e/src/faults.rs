//! What can go wrong with a cluster, done for real: to processes, volumes and the network of its pods. It needs a Kubernetes whose nodes' processes
//! are visible here and a user who may signal them, as on the cluster that `hack/cluster` makes itself.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kubectl::{Namespace, kubectl};
use crate::wait::{Answer, until};

/// Routing rules that cut a pod off have this preference, so that they are found again.
const RULE: &str = "1";

/// A cluster that faults are done to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// Its name.
    pub cluster: &'a str,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The master's process ends without a word (`kill -9`).
    KillMaster,
    /// A slave's process ends without a word.
    KillSlave,
    /// The master stands still (SIGSTOP), connections open.
    HangMaster,
    /// A slave stands still.
    HangSlave,
    /// The master's volume and pod are deleted.
    LoseMasterVolume,
    /// A slave's volume and pod are deleted.
    LoseSlaveVolume,
    /// The master reaches nobody and nobody reaches it, as if its node had lost the network.
    CutOffMaster,
    /// The master and one slave don't reach each other.
    CutMasterFromSlave,
    /// The master does not reach the controllers.
    CutMasterFromControllers,
    /// The leading controller ends without a word.
    KillControllerLeader,
    /// A minority of the controllers, the leader among them, stands still.
    HangControllerMinority,
    /// A majority of the controllers stands still.
    HangControllerMajority,
    /// The leading controller's volume and pod are deleted.
    LoseControllerVolume,
    /// All name servers end without a word.
    KillNameServers,
    /// A proxy ends without a word.
    KillProxy,
    /// The operator ends without a word.
    KillOperator,
    /// A key that brokers read at their start is changed: a roll.
    Roll,
    /// A roll, and the operator ends without a word in the middle of it.
    RollAndKillOperator,
    /// The master's node is drained with `kubectl drain`, and takes pods again.
    DrainNode,
    /// The master's node loses its power, and gets it back.
    KillNode,
}

/// How to undo what lasts.
#[derive(Debug)]
enum Undo {
    Continue { pid: i32 },
    Unblock { pid: i32 },
    Uncordon { node: String },
    Start { node: String },
}

/// A fault that was done.
#[derive(Debug)]
pub struct Injected {
    /// What was done, to whom.
    pub what: String,
    undo: Vec<Undo>,
}

impl Fault {
    /// All there are.
    pub const ALL: [Fault; 20] = [
        Self::KillMaster,
        Self::KillSlave,
        Self::HangMaster,
        Self::HangSlave,
        Self::LoseMasterVolume,
        Self::LoseSlaveVolume,
        Self::CutOffMaster,
        Self::CutMasterFromSlave,
        Self::CutMasterFromControllers,
        Self::KillControllerLeader,
        Self::HangControllerMinority,
        Self::HangControllerMajority,
        Self::LoseControllerVolume,
        Self::KillNameServers,
        Self::KillProxy,
        Self::KillOperator,
        Self::Roll,
        Self::RollAndKillOperator,
        Self::DrainNode,
        Self::KillNode,
    ];

    /// Whether it takes more than one node: what is on the one must have a place elsewhere.
    #[must_use]
    pub fn needs_nodes(self) -> bool {
        matches!(self, Self::DrainNode | Self::KillNode)
    }

    /// As reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillMaster => "master killed",
            Self::KillSlave => "slave killed",
            Self::HangMaster => "master hangs",
            Self::HangSlave => "slave hangs",
            Self::LoseMasterVolume => "master's volume lost",
            Self::LoseSlaveVolume => "slave's volume lost",
            Self::CutOffMaster => "master cut off",
            Self::CutMasterFromSlave => "master and slave cut",
            Self::CutMasterFromControllers => "master and controllers cut",
            Self::KillControllerLeader => "controller leader killed",
            Self::HangControllerMinority => "controller leader hangs",
            Self::HangControllerMajority => "controller majority hangs",
            Self::LoseControllerVolume => "controller's volume lost",
            Self::KillNameServers => "all name servers killed",
            Self::KillProxy => "proxy killed",
            Self::KillOperator => "operator killed",
            Self::Roll => "planned roll",
            Self::RollAndKillOperator => "roll, operator killed",
            Self::DrainNode => "node drained",
            Self::KillNode => "node killed",
        }
    }

    /// How long it lasts before it is undone; nothing for what is over at once.
    #[must_use]
    pub fn lasts(self) -> Duration {
        Duration::from_secs(match self {
            Self::KillNode => 60,
            Self::HangMaster | Self::HangSlave | Self::CutOffMaster => 30,
            Self::CutMasterFromSlave
            | Self::CutMasterFromControllers
            | Self::HangControllerMinority
            | Self::HangControllerMajority => 20,
            _ => 0,
        })
    }

    /// Does it. `nth` chooses among several that it could be done to, and makes a changed value another one.
    ///
    /// # Errors
    /// Where the cluster is not as it must be for this fault: no master, no slave, no process to be found.
    pub fn inject(self, target: Target<'_>, nth: usize) -> Result<Injected> {
        let t = target;
        let mut undo = Vec::new();
        let what = match self {
            Self::KillMaster => t.kill(&t.master()?)?,
            Self::KillSlave => t.kill(&t.slave(nth)?)?,
            Self::HangMaster => t.hang(&t.master()?, &mut undo)?,
            Self::HangSlave => t.hang(&t.slave(nth)?, &mut undo)?,
            Self::LoseMasterVolume => t.lose_volume(&t.master()?)?,
            Self::LoseSlaveVolume => t.lose_volume(&t.slave(nth)?)?,
            Self::CutOffMaster => t.block(&t.master()?, &[], &mut undo)?,
            Self::CutMasterFromSlave => {
                let (master, slave) = (t.master()?, t.slave(nth)?);
                t.block(&slave, std::slice::from_ref(&master), &mut undo)?;
                t.block(&master, &[slave], &mut undo)?
            }
            Self::CutMasterFromControllers => t.block(&t.master()?, &t.pods("controller")?, &mut undo)?,
            Self::KillControllerLeader => t.kill(&t.controller_leader()?)?,
            Self::HangControllerMinority => t.hang(&t.controller_leader()?, &mut undo)?,
            Self::HangControllerMajority => {
                let all = t.pods("controller")?;
                let majority = &all[..all.len() / 2 + 1];
                majority.iter().map(|pod| t.hang(pod, &mut undo)).collect::<Result<Vec<_>>>()?.join(", ")
            }
            Self::LoseControllerVolume => t.lose_volume(&t.controller_leader()?)?,
            Self::KillNameServers => {
                t.pods("nameserver")?.iter().map(|pod| t.kill(pod)).collect::<Result<Vec<_>>>()?.join(", ")
            }
            Self::KillProxy => {
                let all = t.pods("proxy")?;
                t.kill(all.get(nth % all.len().max(1)).context("there is no proxy")?)?
            }
            Self::KillOperator => kill_operator()?,
            Self::Roll => t.roll(nth)?,
            Self::RollAndKillOperator => {
                let what = t.roll(nth)?;
                until("the roll is under way", Duration::from_secs(120), || {
                    let brokers = t.namespace.list("pods", &t.selector("broker"))?;
                    let going = brokers.iter().any(|p| !p["metadata"]["deletionTimestamp"].is_null());
                    Ok(Answer::when(going, (), || "no broker goes yet".into()))
                })?;
                format!("{what}; {}", kill_operator()?)
            }
            Self::DrainNode => {
                let (master, node) = t.masters_node()?;
                undo.push(Undo::Uncordon { node: node.clone() });
                // As anybody does before a node is upgraded; the clients of the test stay.
                let selector = format!("{},app.kubernetes.io/component!=clients", t.instance());
                let selector = format!("--pod-selector={selector}");
                let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=600s"];
                kubectl(&[&drain[..], &[&selector]].concat())?;
                format!("{node} drained, {master} was on it")
            }
            Self::KillNode => {
                t.part_master_from_clients()?;
                let (master, node) = t.masters_node()?;
                switch("kill", &node)?;
                undo.push(Undo::Start { node: node.clone() });
                format!("{node} killed, {master} was on it")
            }
        };
        Ok(Injected { what, undo })
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
fn switch(action: &str, node: &str) -> Result<()> {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/cluster"), &["node", action, node])
}

impl Injected {
    /// Undoes what lasts. What has gone meanwhile needs no undoing.
    pub fn heal(self) {
        for undo in self.undo {
            match undo {
                Undo::Continue { pid } => drop(signal(pid, "CONT")),
                Undo::Uncordon { node } => drop(kubectl(&["uncordon", &node])),
                Undo::Start { node } => drop(switch("start", &node)),
                Undo::Unblock { pid } => while in_network(pid, &["rule", "del", "pref", RULE]).is_ok() {},
            }
        }
    }
}

impl Target<'_> {
    fn status(&self) -> Result<Value> {
        Ok(self.namespace.get(&format!("brokercluster/{}", self.cluster))?["status"].clone())
    }

    fn instance(&self) -> String {
        format!("app.kubernetes.io/instance={}", self.cluster)
    }

    fn selector(&self, component: &str) -> String {
        format!("{},app.kubernetes.io/component={component}", self.instance())
    }

    fn node(&self, pod: &str) -> Result<String> {
        let node = self.namespace.get(&format!("pod/{pod}"))?["spec"]["nodeName"].clone();
        Ok(node.as_str().with_context(|| format!("{pod} has no node"))?.to_owned())
    }

    /// The master and its node.
    fn masters_node(&self) -> Result<(String, String)> {
        let master = self.master()?;
        let node = self.node(&master)?;
        Ok((master, node))
    }

    /// Sees to it that the master is on another node than the clients of the test: they would go with it. Masters leave cordoned nodes.
    fn part_master_from_clients(&self) -> Result<()> {
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

    fn pods(&self, component: &str) -> Result<Vec<String>> {
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

    fn slave(&self, nth: usize) -> Result<String> {
        let status = self.status()?;
        let replicas = status["groups"][0]["replicas"].as_array().cloned().unwrap_or_default();
        let slaves: Vec<&str> =
            replicas.iter().filter(|r| r["state"] == "InSync").filter_map(|r| r["pod"].as_str()).collect();
        let slave = slaves.get(nth % slaves.len().max(1)).context("the group has no slave in sync")?;
        Ok((*slave).into())
    }

    fn controller_leader(&self) -> Result<String> {
        self.status()?["controllerLeader"].as_str().map(Into::into).context("the controllers have no leader")
    }

    fn kill(&self, pod: &str) -> Result<String> {
        signal(self.process(pod, "java")?, "KILL")?;
        Ok(format!("{pod} killed"))
    }

    fn hang(&self, pod: &str, undo: &mut Vec<Undo>) -> Result<String> {
        let pid = self.process(pod, "java")?;
        signal(pid, "STOP")?;
        undo.push(Undo::Continue { pid });
        Ok(format!("{pod} hangs"))
    }

    /// Cuts a pod off from others, or from everything where there are none named. Nothing of it leaves any more, so no connection of it works.
    fn block(&self, pod: &str, others: &[String], undo: &mut Vec<Undo>) -> Result<String> {
        // The sandbox's: it stays when the engine is started again.
        let pid = self.process(pod, "pause")?;
        undo.push(Undo::Unblock { pid });
        for other in others {
            let ip = self.namespace.get(&format!("pod/{other}"))?["status"]["podIP"].clone();
            in_network(pid, &["rule", "add", "pref", RULE, "to", ip.as_str().context("no address")?, "blackhole"])?;
        }
        if others.is_empty() {
            in_network(pid, &["rule", "add", "pref", RULE, "blackhole"])?;
            return Ok(format!("{pod} cut off"));
        }
        Ok(format!("{pod} cut off from {}", others.join(", ")))
    }

    fn lose_volume(&self, pod: &str) -> Result<String> {
        let claim = format!("pvc/data-{pod}");
        let old = self.namespace.get(&claim)?["metadata"]["uid"].clone();
        self.namespace.kubectl(&["delete", &claim, "--wait=false"])?;
        self.namespace.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        until(&format!("{pod} has another volume"), Duration::from_secs(180), || {
            let now = self.namespace.get(&claim)?["metadata"]["uid"].clone();
            Ok(Answer::when(now != old, (), || "it is still the old one".into()))
        })?;
        Ok(format!("{pod} without its volume"))
    }

    /// Changes a key that brokers read at their start only.
    fn roll(&self, nth: usize) -> Result<String> {
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

fn kill_operator() -> Result<String> {
    let text = kubectl(&["-n", "gantry-system", "get", "pods", "-l", "app.kubernetes.io/name=gantry", "-o", "json"])?;
    let pods: Value = serde_json::from_str(&text)?;
    let uids = pods["items"].as_array().into_iter().flatten().filter_map(|p| p["metadata"]["uid"].as_str());
    let pids: Vec<i32> = uids.filter_map(|uid| process(uid, "gantry").ok()).collect();
    ensure!(!pids.is_empty(), "the operator's process is not to be found");
    for pid in pids {
        signal(pid, "KILL")?;
    }
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
