//! Our own cluster: bringing it up, finding it, taking it down.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::{self, Programs};
use crate::cgroups::Cgroups;
use crate::control::{Request, Sandbox};
use crate::control_plane as plane;
use crate::network::{self, API_PORT, node_name};
use crate::node::Node;
use crate::paths::{ClusterDir, Home, INSIDE_PARTS};
use crate::progress::{self, step, wait_for};
use crate::state::{Extent, Provider, State};
use crate::{certs, debian, kubectl, leftovers, lock, sandbox};

/// The API server answers within seconds; on a machine that compiles and starts JVMs, later.
const READY_LIMIT: Duration = Duration::from_secs(240);

/// A cluster of ours that may or may not be up.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its state directory.
    pub directory: ClusterDir,
    /// The programs it runs.
    pub programs: Programs,
    /// How much of it there is.
    pub extent: Extent,
}

impl Own {
    /// Finds a cluster by its state file.
    pub fn find(home: &Home, name: &str) -> Result<Option<Own>> {
        let directory = home.cluster(name);
        let Some(state) = State::read(&directory.state())? else { return Ok(None) };
        let programs = Programs::known(home, &state.parts);
        Ok(Some(Own { name: name.to_owned(), directory, programs, extent: state.extent }))
    }

    /// Its control plane's sandbox, if it is up.
    pub fn sandbox(&self) -> Option<Sandbox> {
        Sandbox::find(self.directory.path())
    }

    /// Its control plane's sandbox, or a sentence that it is down.
    pub fn running(&self) -> Result<Sandbox> {
        match self.sandbox() {
            Some(sandbox) => Ok(sandbox),
            None => bail!(
                "cluster {} is not running any more (a restart of the machine ends it): `gantry-cluster up --name {}` brings it up",
                self.name,
                self.name
            ),
        }
    }

    /// Its nodes.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let count = self.extent.nodes();
        (0..count)
            .map(|index| Node {
                directory: &self.directory,
                cluster: &self.name,
                programs: &self.programs,
                index,
                count,
            })
            .collect()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<Node<'_>> {
        let names: Vec<String> = (0..self.extent.nodes()).map(node_name).collect();
        match self.nodes().into_iter().find(|node| node.name() == name) {
            Some(node) => Ok(node),
            None => bail!("cluster {} has no node {name:?}; it has: {}", self.name, names.join(" ")),
        }
    }

    /// The name of its context in kubeconfigs.
    pub fn context(&self) -> String {
        format!("gantry-{}", self.name)
    }
}

/// Brings a cluster up; one that is up already is left as it is.
pub fn up(home: &Home, name: &str, extent: Extent) -> Result<Own> {
    let _lock = lock(home, name)?;
    if let Some(own) = Own::find(home, name)? {
        let ready = State::read(&own.directory.state())?.is_some_and(|state| state.ready);
        if ready && own.sandbox().is_some() {
            if own.extent != extent {
                bail!(
                    "cluster {name} is up with {}: take it down first, or bring up another with --name",
                    describe(own.extent)
                );
            }
            progress::say(&format!("  ok cluster {name} is up already"));
            return Ok(own);
        }
        step("clear away what an earlier run left", |_| remove(&own.directory, name))?;
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "bringing up a cluster takes root (namespaces, mounts, control groups); or name one with KUBECONFIG and CONTEXT"
        );
    }
    debian::install(debian::RUN)?;
    let programs = build::ensure(home, false)?;
    let own = Own { name: name.to_owned(), directory: home.cluster(name), programs, extent };
    let mut state = State { parts: own.programs.keys().clone(), ..State::new(name, Provider::Own, extent) };
    step("certificates and configuration", |_| own.prepare(&state))?;
    let sandbox = step("namespaces and network", |_| own.enclose(home))?;
    own.start(&sandbox)?;
    state.ready = true;
    state.write(&own.directory.state())?;
    Ok(own)
}

fn lock(home: &Home, name: &str) -> Result<File> {
    lock::take(&home.lock(name), &format!("another command that works on cluster {name}"))
}

/// What an extent is, in words.
pub fn describe(extent: Extent) -> String {
    match extent {
        Extent::ApiServer => "its API server only".into(),
        Extent::Controllers => "API server and controllers, no node".into(),
        Extent::Nodes(1) => "one node".into(),
        Extent::Nodes(count) => format!("{count} nodes"),
    }
}

impl Own {
    fn prepare(&self, state: &State) -> Result<()> {
        let directory = &self.directory;
        for path in [directory.logs(), directory.path().join("nodes")] {
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        // Keys and volumes are nobody else's business.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        state.write(&directory.state())?;
        let nodes = self.extent.nodes();
        certs::make(&directory.certs(), &self.name, &certs::wanted(nodes))?;
        let users = plane::KUBECONFIGS.iter().map(|name| (*name).to_owned()).chain((0..nodes).map(node_name));
        for user in users {
            let to = directory.path().join(format!("{user}.kubeconfig"));
            certs::write_kubeconfig(&directory.certs(), &user, &self.context(), &plane::server(), to)?;
        }
        certs::write_kubeconfig(
            &directory.certs(),
            "admin",
            &self.context(),
            &plane::server(),
            directory.kubeconfig(),
        )?;
        let hosts: String =
            (0..nodes).map(|index| format!("{} {}\n", network::node_address(index), node_name(index))).collect();
        let files = [
            ("Corefile", plane::corefile()),
            ("resolv.conf", plane::resolv_conf()),
            ("hosts", format!("127.0.0.1 localhost\n::1 localhost\n{} control-plane\n{hosts}", network::CONTROL_PLANE)),
        ];
        files.iter().try_for_each(|(name, text)| {
            fs::write(directory.path().join(name), text).with_context(|| (*name).to_owned())
        })
    }

    fn enclose(&self, home: &Home) -> Result<Sandbox> {
        let path = self.programs.path(Path::new(INSIDE_PARTS), &debian::system_path());
        let sandbox = sandbox::start(&self.directory, &home.programs(), &path)?;
        network::lay_control_plane(sandbox.pid())?;
        self.relay(&sandbox)?;
        Ok(sandbox)
    }

    /// Starts the way in from the host's loopback. It enters the sandbox's PID namespace only, so that it ends with it.
    fn relay(&self, sandbox: &Sandbox) -> Result<()> {
        let (pid, directory) = (sandbox.pid(), self.directory.path());
        let port_file = directory.join("api-port");
        let log = File::create(self.directory.logs().join("relay.log"))?;
        Command::new("setsid")
            .args(["--fork", "nsenter", &format!("--target={pid}"), "--pid", "--"])
            .arg(directory.join("gantry-cluster"))
            .args(["relay", "--namespace", &format!("/proc/{pid}/ns/net"), "--port-file"])
            .arg(&port_file)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("setsid")?;
        wait_for("the relay on loopback", READY_LIMIT, || Ok(port_file.exists()))?;
        let server = format!("https://127.0.0.1:{}", fs::read_to_string(&port_file)?.trim());
        certs::write_kubeconfig(
            &self.directory.certs(),
            "admin",
            &self.context(),
            &server,
            self.directory.host_kubeconfig(),
        )
    }

    fn start(&self, sandbox: &Sandbox) -> Result<()> {
        let launch = |name: &str, arguments: Vec<String>| {
            sandbox.ask(&Request::Start(plane::spec(&self.programs, name, name, &arguments))).map(drop)
        };
        launch("etcd", plane::etcd())?;
        launch("kube-apiserver", plane::apiserver())?;
        let nodes = self.nodes();
        // The nodes' containerd starts while the API server does.
        let started = std::thread::scope(|scope| {
            let all: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.start(sandbox))).collect();
            step("etcd and API server", |_| self.wait_for_api(sandbox))?;
            let joined =
                all.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("starting a node panicked")));
            let title = "containerd on each node";
            if nodes.is_empty() { Ok(Vec::new()) } else { step(title, |_| joined.collect::<Result<Vec<Sandbox>>>()) }
        })?;
        if self.extent == Extent::ApiServer {
            return Ok(());
        }
        launch("kube-controller-manager", plane::controller_manager())?;
        for (node, on) in nodes.iter().zip(&started) {
            node.join(on)?;
        }
        if !nodes.is_empty() {
            launch("kube-scheduler", plane::scheduler())?;
        }
        step("StorageClass, DNS rights and Service", |_| self.apply_addons())?;
        if !nodes.is_empty() {
            launch("coredns", plane::coredns())?;
            launch("kube-proxy", plane::proxy(0))?;
        }
        step("controllers", |_| self.wait_for_controllers(sandbox))?;
        if !nodes.is_empty() {
            step(&format!("nodes Ready ({})", nodes.len()), |note| {
                self.wait_for_nodes(sandbox, &nodes, &started, note)
            })?;
            step("DNS", |_| self.wait_for_dns(sandbox))?;
        }
        Ok(())
    }

    /// CoreDNS listens only when it has read the cluster's Services.
    fn wait_for_dns(&self, sandbox: &Sandbox) -> Result<()> {
        wait_for("the DNS server to listen", READY_LIMIT, || {
            sandbox::check(sandbox, &self.directory.logs())?;
            Ok(network::listens(sandbox.pid(), 53))
        })
    }

    fn wait_for_api(&self, sandbox: &Sandbox) -> Result<()> {
        wait_for("the API server to be ready", READY_LIMIT, || {
            sandbox::check(sandbox, &self.directory.logs())?;
            // kubectl costs a tenth of a second of processor: it is asked only when somebody listens.
            Ok(network::listens(sandbox.pid(), API_PORT) && kubectl::run(self, &["get", "--raw", "/readyz"]).is_ok())
        })
    }

    fn apply_addons(&self) -> Result<()> {
        let objects = serde_json::to_string(&plane::addons())?;
        let mut last = None;
        // Not validated by kubectl: that takes the API server's whole description, which a new one has yet to compute. Right after its start the API server may still be making the namespace kube-system.
        wait_for("the first objects to be accepted", READY_LIMIT, || {
            let result = kubectl::feed(self, &["apply", "--server-side", "--validate=false", "--filename=-"], &objects);
            let done = result.is_ok();
            last = result.err();
            Ok(done)
        })
        .map_err(|error| last.map_or(error, |last| last.context("the first objects were not accepted")))
    }

    fn wait_for_controllers(&self, sandbox: &Sandbox) -> Result<()> {
        wait_for("the default service account", READY_LIMIT, || {
            sandbox::check(sandbox, &self.directory.logs())?;
            Ok(kubectl::run(
                self,
                &["get", "serviceaccount/default", "configmap/kube-root-ca.crt", "--namespace=default"],
            )
            .is_ok())
        })
    }

    fn wait_for_nodes(
        &self,
        control: &Sandbox,
        nodes: &[Node<'_>],
        on: &[Sandbox],
        note: &progress::Note,
    ) -> Result<()> {
        wait_for("all nodes to be Ready", READY_LIMIT, || {
            sandbox::check(control, &self.directory.logs())?;
            nodes.iter().zip(on).try_for_each(|(node, on)| node.check(on))?;
            let ready = kubectl::ready_nodes(self)?;
            note.set(format!("{ready} of {}", nodes.len()));
            Ok(ready == nodes.len())
        })
    }
}

/// Takes a cluster down and leaves nothing of it; `false` when there was none.
pub fn down(home: &Home, name: &str) -> Result<bool> {
    let directory = home.cluster(name);
    if !directory.path().exists() {
        return Ok(false);
    }
    let lock = lock(home, name)?;
    step(&format!("take cluster {name} down"), |_| remove(&directory, name))?;
    fs::remove_file(home.lock(name))?;
    drop(lock);
    Ok(true)
}

fn remove(directory: &ClusterDir, name: &str) -> Result<()> {
    let cgroups = Cgroups::find()?;
    if let Some(sandbox) = Sandbox::find(directory.path()) {
        let visitors = leftovers::Namespaces::of(directory, sandbox.pid());
        sandbox::kill(sandbox.pid())?;
        // What is frozen can't die.
        for node in fs::read_dir(directory.path().join("nodes")).into_iter().flatten().flatten() {
            let _ = cgroups.freeze(name, &node.file_name().to_string_lossy(), false);
        }
        sandbox::wait_for_end(sandbox.pid())?;
        visitors.end()?;
    }
    cgroups.remove(name)?;
    fs::remove_dir_all(directory.path()).with_context(|| directory.path().display().to_string())
}
