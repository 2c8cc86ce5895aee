//! The commands, whoever runs the cluster.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arguments::NodeAction;
use crate::cgroups::Cgroups;
use crate::find::{Found, Surroundings, find};
use crate::own::{self, Own};
use crate::paths::{DEFAULT_NAME, Home, check_name};
use crate::progress::{print, say, step};
use crate::registry::Delivery;
use crate::state::{Extent, Provider, State};
use crate::{build, footprint, images, kind, network, node};

/// The cluster that a command is for.
#[derive(Debug)]
pub enum Target {
    /// The user's own.
    Users {
        /// Path of its kubeconfig.
        kubeconfig: String,
        /// Name of the context in it.
        context: String,
    },
    /// kind's, by our name for it.
    Kind(String),
    /// Ours, by name; it may not be up.
    Own(String),
}

/// Finds the cluster that a command is for.
pub fn target(home: &Home, name: Option<String>, wanted: Option<Provider>) -> Result<Target> {
    let around = Surroundings::read(|name| std::env::var(name).ok(), wanted);
    let ours = |path: &str| name_of_kubeconfig(home, Path::new(path));
    let (name, provider) = match find(&around, ours, kind::works)? {
        Found::Users { kubeconfig, context } => return Ok(Target::Users { kubeconfig, context }),
        Found::Named(inside) => (name.unwrap_or(inside), wanted),
        Found::Ours(provider) => (name.unwrap_or_else(|| DEFAULT_NAME.to_owned()), Some(provider)),
    };
    check_name(&name)?;
    // One that is there already keeps its provider, whatever has been installed since.
    let known = State::read(&home.cluster(&name).state())?.map(|state| state.provider);
    Ok(match known.or(provider) {
        Some(Provider::Kind) => Target::Kind(name),
        None if kind::works() => Target::Kind(name),
        Some(Provider::Own) | None => Target::Own(name),
    })
}

/// The name of the cluster that a kubeconfig belongs to, if it lies where we write them; the cluster may be down since.
fn name_of_kubeconfig(home: &Home, kubeconfig: &Path) -> Option<String> {
    let name = kubeconfig.parent()?.file_name()?.to_str()?;
    let cluster = home.cluster(name);
    [cluster.kubeconfig(), cluster.host_kubeconfig()].iter().any(|own| own == kubeconfig).then(|| name.to_owned())
}

/// A cluster of ours that was brought up.
pub fn existing(home: &Home, name: &str) -> Result<Own> {
    match Own::find(home, name)? {
        Some(own) => Ok(own),
        None => bail!("there is no cluster {name}: `gantry-cluster up --name {name}` brings it up"),
    }
}

/// `up`.
pub fn up(home: &Home, target: &Target, extent: Extent) -> Result<()> {
    match target {
        Target::Users { kubeconfig, context } => {
            let mut kubectl = user_kubectl(kubeconfig, context);
            let output = kubectl
                .args(["get", "--raw", "/readyz"])
                .output()
                .context("kubectl, which is needed to reach your cluster")?;
            if !output.status.success() {
                bail!(
                    "the cluster that KUBECONFIG and CONTEXT name does not answer: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
            say(&format!("  ok your cluster {context} answers; nothing was brought up"));
        }
        Target::Kind(name) => {
            kind::up(home, name, extent)?;
            say(&format!("\n  reach it:  eval \"$(gantry-cluster env --name {name})\""));
        }
        Target::Own(name) => {
            let own = own::up(home, name, extent)?;
            let flag = if name == DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
            say(&format!("\n  cluster {name}, {}, Kubernetes {}", own::describe(own.extent), crate::parts::KUBERNETES));
            say(&format!("  API from this machine:    eval \"$(gantry-cluster env{flag})\"; kubectl get all -A"));
            say(&format!(
                "  inside its network:       gantry-cluster exec{flag} -- COMMAND (reaches pods, Services, DNS names)"
            ));
            say(&format!(
                "  images and logs:          gantry-cluster load{flag} IMAGE.tar; gantry-cluster logs{flag} kube-apiserver"
            ));
        }
    }
    Ok(())
}

fn user_kubectl(kubeconfig: &str, context: &str) -> Command {
    let mut command = Command::new("kubectl");
    command.args(["--kubeconfig", kubeconfig, "--context", context, "--request-timeout=10s"]);
    command
}

/// `down`.
pub fn down(home: &Home, target: &Target) -> Result<()> {
    match target {
        Target::Users { context, .. } => say(&format!(
            "  ok {context} is your own cluster: it is left as it is. `helm uninstall gantry -n gantry-system` and `kubectl delete namespace demo` there remove what `make demo` made"
        )),
        Target::Kind(name) => kind::down(home, name)?,
        Target::Own(name) => match own::down(home, name)? {
            true => {}
            false => say(&format!("  ok there is no cluster {name}")),
        },
    }
    Ok(())
}

/// `traces`: what is left of a cluster that was taken down; an error unless it is nothing.
pub fn traces(home: &Home, target: &Target) -> Result<()> {
    let left = match target {
        Target::Users { context, .. } => {
            say(&format!("  ok {context} is your own cluster: nothing was brought up"));
            return Ok(());
        }
        Target::Kind(name) | Target::Own(name) => footprint::named(home, name)?,
    };
    if !left.is_empty() {
        bail!("there is something left:\n{}", left.into_iter().collect::<Vec<_>>().join("\n"));
    }
    say("  ok nothing of it is left on this machine");
    Ok(())
}

/// `load`.
pub fn load(home: &Home, target: &Target, archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        let file = archive.display();
        match target {
            Target::Users { .. } => {
                let delivery = delivery()?;
                let names = step(&format!("bring {file}"), |_| delivery.bring(archive))?;
                let what = if matches!(delivery, Delivery::Push(_)) { "pushed" } else { "taken as present" };
                say(&format!("     {} {what}", names.join(" ")));
            }
            Target::Kind(name) => step(&format!("load {file}"), |_| kind::load(name, archive))?,
            Target::Own(name) => {
                let own = existing(home, name)?;
                own.running()?;
                let cgroups = Cgroups::find()?;
                // A node that is off or paused can't load; it is loaded when the command is given again.
                let awake = |node: &node::Node<'_>| node.sandbox().is_some() && !cgroups.is_frozen(name, &node.name());
                if own.extent.nodes() == 0 {
                    bail!("cluster {name} has no nodes to load images into");
                }
                let nodes: Vec<_> = own.nodes().into_iter().filter(awake).collect();
                let (images, count) = step(&format!("load {file}"), |_| images::load(archive, &nodes))?;
                let what = if count == 0 {
                    "was there already".to_owned()
                } else {
                    format!("loaded into {count} of {} nodes", nodes.len())
                };
                say(&format!("     {} {what}", images.join(" ")));
            }
        }
    }
    Ok(())
}

fn delivery() -> Result<Delivery> {
    Delivery::read(|name| std::env::var(name).ok())
}

/// `image`: what the nodes call an image that was loaded.
pub fn image(target: &Target, name: &str) -> Result<()> {
    let name = match target {
        Target::Users { .. } => delivery()?.name(name),
        Target::Kind(_) | Target::Own(_) => name.to_owned(),
    };
    print(&format!("{name}\n"))
}

/// `exec`: becomes the command; returns only when it can't.
pub fn exec(home: &Home, target: &Target, words: &[OsString]) -> Result<()> {
    let mut command = match target {
        Target::Users { kubeconfig, context } => plain(words, kubeconfig.as_ref(), context),
        Target::Kind(name) => plain(words, home.cluster(name).kubeconfig().as_ref(), &kind::context(name)),
        Target::Own(name) => inside(&existing(home, name)?, words)?,
    };
    if !matches!(target, Target::Users { .. }) {
        // Its nodes have the images under the names that they were built with.
        command.env_remove("GANTRY_REGISTRY");
    }
    Err(command.exec()).with_context(|| format!("{}", words[0].display()))
}

fn plain(words: &[OsString], kubeconfig: &OsStr, context: &str) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("KUBECONFIG", kubeconfig).env("CONTEXT", context);
    command
}

/// A command in the cluster's network. It sees the machine's files, but the cluster's DNS server: the mount is its own and ends with it.
fn inside(own: &Own, words: &[OsString]) -> Result<Command> {
    let mut command = network::enter(own.running()?.pid());
    command.args([
        "unshare",
        "--mount",
        "--",
        "sh",
        "-c",
        r#"mount --bind "$1" /etc/resolv.conf; shift; exec "$@""#,
        "exec",
    ]);
    command.arg(own.directory.path().join("resolv.conf")).args(words);
    command
        .env("PATH", own.programs.host_path())
        .env("KUBECONFIG", own.directory.kubeconfig())
        .env("CONTEXT", own.context());
    Ok(command)
}

/// `node`.
pub fn node(home: &Home, target: &Target, action: NodeAction, name: &str) -> Result<()> {
    let Target::Own(cluster) = target else { bail!("only the nodes of a cluster of our own can be switched") };
    let own = existing(home, cluster)?;
    let (node, sandbox) = (own.node(name)?, own.running()?);
    step(&format!("{} {name}", format!("{action:?}").to_lowercase()), |_| match action {
        NodeAction::Start => start(&node, &sandbox),
        NodeAction::Stop => node.stop(),
        NodeAction::Kill => node.kill(),
        NodeAction::Pause => node.on().and_then(|_| Cgroups::find()?.freeze(cluster, name, true)),
        NodeAction::Resume => node.on().and_then(|_| Cgroups::find()?.freeze(cluster, name, false)),
        NodeAction::Cut => node.on().and_then(|_| network::cut(sandbox.pid(), node.index, true)),
        NodeAction::Heal => node.on().and_then(|_| network::cut(sandbox.pid(), node.index, false)),
    })
}

fn start(node: &node::Node<'_>, sandbox: &crate::control::Sandbox) -> Result<()> {
    match node.sandbox() {
        Some(_) => Ok(()),
        None => node.join(&node.start(sandbox)?),
    }
}

/// `build`: what a cluster of our own runs, and nothing where another one is used.
pub fn build(home: &Home, target: &Target) -> Result<()> {
    match target {
        Target::Users { context, .. } => say(&format!("  ok your cluster {context} is used: nothing is built for it")),
        Target::Kind(_) => say("  ok kind is used, which brings Kubernetes along: nothing is built"),
        Target::Own(_) => build::ensure(home, true).map(drop)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_ours_only_where_we_write_them() {
        let home = Home::find(|name| (name == "GANTRY_CACHE").then(|| "/cache".into())).unwrap();
        let ours = |path: &str| name_of_kubeconfig(&home, Path::new(path));
        assert_eq!(ours("/cache/clusters/api/kubeconfig").as_deref(), Some("api"));
        assert_eq!(ours("/cache/clusters/api/kubeconfig-host").as_deref(), Some("api"));
        assert_eq!(ours("/cache/clusters/api/other"), None);
        assert_eq!(ours("/root/.kube/config"), None);
    }
}
