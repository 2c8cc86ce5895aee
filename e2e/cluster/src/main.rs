//! `gantry-cluster`: brings up a real Kubernetes for tests and development where there is none.
//!
//! A cluster lives in a sandbox: namespaces for processes, mounts and network. When the first process of the sandbox ends, the kernel
//! ends all others, and mounts and interfaces go with them. Each node is a sandbox inside the cluster's. See README.md.

mod archive;
mod arguments;
mod build;
mod certs;
mod cgroups;
mod commands;
mod control;
mod control_plane;
mod debian;
mod find;
mod footprint;
mod images;
mod init;
mod kind;
mod kubectl;
mod leftovers;
mod lock;
mod mounts;
mod network;
mod node;
mod own;
mod parts;
mod paths;
mod progress;
mod registry;
mod relay;
mod report;
mod sandbox;
mod selftest;
mod state;
mod volumes;

use std::process::ExitCode;

use anyhow::Result;

use arguments::{Action, Arguments};
use paths::Home;

fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("gantry-cluster: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let home = || Home::find(|name| std::env::var_os(name));
    let Arguments { name, provider, action } = arguments;
    match action {
        Action::Help => progress::print(arguments::HELP)?,
        Action::Init(view) => return init::run(&view),
        Action::Relay { namespace, port_file } => return relay::run(&namespace, &port_file),
        Action::Selftest(nodes) => return selftest::run(&home()?, nodes),
        action => {
            let home = home()?;
            let target = commands::target(&home, name, provider)?;
            return dispatch(&home, &target, action);
        }
    }
    Ok(())
}

fn dispatch(home: &Home, target: &commands::Target, action: Action) -> Result<()> {
    match action {
        Action::Build => commands::build(home, target),
        Action::Up(extent) => commands::up(home, target, extent),
        Action::Load(archives) => commands::load(home, target, &archives),
        Action::Image(image) => commands::image(target, &image),
        Action::Exec(words) => commands::exec(home, target, &words),
        Action::Env => report::env(home, target),
        Action::Status => report::status(home, target),
        Action::Logs(part) => report::logs(home, target, part.as_deref()),
        Action::Node(action, name) => commands::node(home, target, action, &name),
        Action::Down => commands::down(home, target),
        Action::Traces => commands::traces(home, target),
        Action::Help | Action::Selftest(_) | Action::Init(_) | Action::Relay { .. } => Ok(()),
    }
}
