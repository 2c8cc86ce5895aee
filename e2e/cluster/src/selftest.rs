//! The test of this tool on itself: a cluster is brought up, everything that others rely on is tried, and it is taken down without a trace.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::arguments::NodeAction;
use crate::commands::{self, Target};
use crate::own::{self, Own};
use crate::paths::Home;
use crate::progress::{step, wait_for};
use crate::state::Extent;
use crate::{footprint, images, kubectl, network};

/// The name of the cluster under test, and of the one beside it.
const NAME: &str = "selftest";
const BESIDE: &str = "selftest-api";
/// For what Kubernetes does within seconds, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(120);
/// The image of the program that says its host name.
const IMAGE: &str = "gantry/probe:1";

/// Runs all of it; a cluster that fails is left for a look, the next run clears it away.
pub fn run(home: &Home, nodes: u32) -> Result<()> {
    let settings = footprint::settings();
    let before = footprint::of(home, NAME)?;
    own::down(home, NAME)?;
    own::down(home, BESIDE)?;
    let own = own::up(home, NAME, Extent::Nodes(nodes))?;
    let during = footprint::of(home, NAME)?;
    ensure!(
        during.len() > before.len(),
        "a running cluster left no trace to look for: the check of traces checks nothing"
    );
    step("up again is done in a second", |_| again(home, nodes))?;
    step("images are loaded once", |_| load_twice(&own))?;
    step("pods, volumes, DNS and exec", |_| pods(home, &own))?;
    step("logs and port-forward", |_| logs_and_forward(home, &own))?;
    step("admission refuses what it should", |_| admission(&own))?;
    step("Services and the API from outside, the world not at all", |_| reach(home, &own))?;
    if nodes > 1 {
        step("a node lost and found", |_| lose_a_node(home, &own))?;
    }
    step("a second cluster beside it", |_| beside(home))?;
    let visitor = visitor(home)?;
    own::down(home, NAME)?;
    step("nothing stays", |_| nothing_stays(home, visitor, &before, &settings))
}

fn again(home: &Home, nodes: u32) -> Result<()> {
    let started = Instant::now();
    own::up(home, NAME, Extent::Nodes(nodes))?;
    ensure!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    ensure!(own::up(home, NAME, Extent::Nodes(nodes + 1)).is_err(), "another number of nodes was accepted");
    Ok(())
}

fn load_twice(own: &Own) -> Result<()> {
    let archive = images::of_program(&own.programs, "probe")?;
    for wanted in [own.nodes().len(), 0] {
        let (names, count) = images::load(&archive, &own.nodes())?;
        ensure!(names == [IMAGE] && count == wanted, "{names:?} was loaded into {count} nodes and not {wanted}");
    }
    Ok(())
}

/// A StatefulSet whose pods are restricted, have a volume each, lie on different nodes, and are named before they are ready.
fn workload(spread: bool) -> Value {
    let labels = json!({"app": "probe"});
    let security = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": 10001,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": labels}},
    ]}});
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "probe"}, "spec": spec});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        service("probe", json!({"clusterIP": "None", "publishNotReadyAddresses": true, "selector": labels, "ports": [{"port": 80}]})),
        service("front", json!({"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]})),
        {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe", "namespace": "probe"},
            "spec": {
                "serviceName": "probe", "replicas": 2, "podManagementPolicy": "Parallel", "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "terminationGracePeriodSeconds": 1, "affinity": if spread { apart } else { json!({}) },
                    "containers": [{
                        "name": "probe", "image": IMAGE, "args": ["serve", ":8080"], "securityContext": security,
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                }},
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }],
            },
        },
    ]})
}

fn pods(home: &Home, own: &Own) -> Result<()> {
    let objects = workload(own.nodes().len() > 1).to_string();
    kubectl::feed(own, &["apply", "--server-side", "--filename=-"], &objects)?;
    wait_for("both pods to be ready", LIMIT, || Ok(get(own, "statefulset/probe", "{.status.readyReplicas}")? == "2"))?;
    for pod in ["probe-0", "probe-1"] {
        let address = get(own, &format!("pod/{pod}"), "{.status.podIP}")?;
        let name = format!("{pod}.probe.probe.svc.cluster.local");
        let found = || Ok(inside(home, &["getent", "hosts", &name])?.starts_with(&address));
        wait_for(&format!("{name} to be {address}"), Duration::from_secs(5), found)?;
        in_pod(own, pod, &["write", "/data/written", pod]).context("a pod that is not root writes to its volume")?;
    }
    let volumes = own.directory.path().join("tmp/hostpath_pv");
    ensure!(std::fs::read_dir(&volumes)?.count() == 2, "not two volumes in {}", volumes.display());
    // From pod to pod, which with several nodes lie on different ones, by name and by Service.
    let said = in_pod(own, "probe-0", &["get", "probe-1.probe:8080"])?;
    ensure!(said == "probe-1\n", "probe-1 says {said:?}");
    wait_for("the Service to lead to both pods", LIMIT, || {
        let said: Result<BTreeSet<String>> = (0..10).map(|_| in_pod(own, "probe-1", &["get", "front:80"])).collect();
        Ok(said.is_ok_and(|said| said.len() == 2))
    })
}

fn logs_and_forward(home: &Home, own: &Own) -> Result<()> {
    let logs = kubectl::run(own, &["logs", "probe-0", "--namespace=probe"])?;
    ensure!(logs == "listening\n", "the log says {logs:?}");
    let sandbox = own.running()?;
    let mut forward = network::enter(sandbox.pid())
        .arg(own.programs.on_host("kubectl"))
        .arg("--kubeconfig")
        .arg(own.directory.kubeconfig())
        .args(["port-forward", "--namespace=probe", "pod/probe-1", "18080:8080"])
        .stdout(Stdio::null())
        .spawn()?;
    let asked = wait_for("the forwarded port to answer", LIMIT, || {
        Ok(inside(home, &["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/18080; cat <&3"])
            .is_ok_and(|said| said == "probe-1\n"))
    });
    forward.kill()?;
    forward.wait()?;
    asked
}

/// Runs the probe program in a pod.
fn in_pod(own: &Own, pod: &str, words: &[&str]) -> Result<String> {
    kubectl::run(own, &[&["exec", pod, "--namespace=probe", "--", "/probe"], words].concat())
}

fn admission(own: &Own) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "probe"},
        "spec": {"containers": [{"name": "c", "image": IMAGE, "securityContext": {"privileged": true}}]},
    });
    let Err(refusal) = kubectl::feed(own, &["create", "--filename=-"], &pod.to_string()) else {
        bail!("a privileged pod got into a restricted namespace")
    };
    ensure!(refusal.to_string().contains("violates PodSecurity"), "refused for another reason: {refusal}");
    let nobody = kubectl::run(own, &["auth", "can-i", "list", "secrets", "--as=system:serviceaccount:probe:default"]);
    ensure!(nobody.is_err(), "a service account without rights may list secrets");
    Ok(())
}

fn reach(home: &Home, own: &Own) -> Result<()> {
    for service in ["10.96.0.1/443", "front.probe.svc.cluster.local/80", "kube-dns.kube-system.svc.cluster.local/53"] {
        wait_for(&format!("Service {service} to accept"), LIMIT, || {
            Ok(inside(home, &["bash", "-c", &format!("exec 3<>/dev/tcp/{service}")]).is_ok())
        })?;
    }
    let started = Instant::now();
    ensure!(
        inside(home, &["bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80"]).is_err(),
        "the cluster's network has a way out"
    );
    ensure!(
        started.elapsed() < Duration::from_secs(3),
        "a way out that is not there took {:?} to be refused",
        started.elapsed()
    );
    let mut outside = Command::new(own.programs.on_host("kubectl"));
    let output = outside
        .arg("--kubeconfig")
        .arg(own.directory.host_kubeconfig())
        .args(["get", "namespace", "probe", "--output=name"])
        .output()?;
    ensure!(output.stdout == b"namespace/probe\n", "from the host: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn lose_a_node(home: &Home, own: &Own) -> Result<()> {
    let (target, name) = (Target::Own(NAME.to_owned()), "node1");
    let ready = |wanted: usize| {
        wait_for(&format!("{wanted} nodes to be ready"), LIMIT, || Ok(kubectl::ready_nodes(own)? == wanted))
    };
    let all = own.nodes().len();
    for (away, back) in [
        (NodeAction::Kill, NodeAction::Start),
        (NodeAction::Pause, NodeAction::Resume),
        (NodeAction::Cut, NodeAction::Heal),
        (NodeAction::Stop, NodeAction::Start),
    ] {
        commands::node(home, &target, away, name)?;
        ready(all - 1)?;
        commands::node(home, &target, back, name)?;
        ready(all)?;
    }
    for action in [NodeAction::Pause, NodeAction::Kill, NodeAction::Start] {
        commands::node(home, &target, action, name)?;
    }
    ready(all)?;
    wait_for("both pods to be ready again", LIMIT, || {
        Ok(get(own, "statefulset/probe", "{.status.readyReplicas}")? == "2")
    })
}

fn beside(home: &Home) -> Result<()> {
    let other = own::up(home, BESIDE, Extent::ApiServer)?;
    let namespaces = kubectl::run(&other, &["get", "namespaces", "--output=name"])?;
    ensure!(!namespaces.contains("probe"), "the second cluster has the first one's objects");
    own::down(home, BESIDE)?;
    let traces = footprint::of(home, BESIDE)?;
    ensure!(!traces.iter().any(|trace| trace.contains(BESIDE)), "left behind: {traces:?}");
    Ok(())
}

/// A process that somebody started in the cluster's network and forgot.
fn visitor(home: &Home) -> Result<Child> {
    let child = command(home, &["sleep", "1000"]).stdin(Stdio::null()).spawn()?;
    wait_for("the visitor to arrive", LIMIT, || {
        Ok(std::fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|name| name.trim() == "sleep"))
    })?;
    Ok(child)
}

fn nothing_stays(home: &Home, mut visitor: Child, before: &BTreeSet<String>, settings: &[String]) -> Result<()> {
    ensure!(!visitor.wait()?.success(), "a process in the cluster's network survived it");
    let after = footprint::of(home, NAME)?;
    let left: Vec<_> = after.difference(before).collect();
    ensure!(left.is_empty(), "left behind:\n{left:#?}");
    ensure!(
        footprint::settings() == settings,
        "kernel settings of the machine were changed: {settings:?}, now {:?}",
        footprint::settings()
    );
    Ok(())
}

fn get(own: &Own, what: &str, path: &str) -> Result<String> {
    kubectl::run(own, &["get", what, "--namespace=probe", &format!("--output=jsonpath={path}")])
}

fn command(home: &Home, words: &[&str]) -> Command {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["exec", "--name", NAME, "--"])
        .args(words)
        .env("GANTRY_CACHE", home.path())
        .env_remove("KUBECONFIG")
        .env_remove("CONTEXT");
    command
}

/// Runs a command in the cluster's network and returns what it prints.
fn inside(home: &Home, words: &[&str]) -> Result<String> {
    let output = command(home, words).output().context("exec")?;
    if !output.status.success() {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
