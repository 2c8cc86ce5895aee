//! The commands that print what they find on standard output: `env`, `status`, `logs`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cgroups::Cgroups;
use crate::commands::{Target, existing};
use crate::control::{Component, Request, Sandbox};
use crate::own::{self, Own};
use crate::paths::Home;
use crate::progress::print;
use crate::{kind, sandbox};

/// `env`: exports for a shell. They lead to the API server; pods and Services are reached by `exec`.
pub fn env(home: &Home, target: &Target) -> Result<()> {
    let (kubeconfig, context, programs) = match target {
        Target::Users { kubeconfig, context } => (PathBuf::from(kubeconfig), context.clone(), Vec::new()),
        Target::Kind(name) => (home.cluster(name).kubeconfig(), kind::context(name), Vec::new()),
        Target::Own(name) => {
            let own = existing(home, name)?;
            own.running()?;
            let programs = ["kubectl", "helm"].map(|program| own.programs.on_host(program)).to_vec();
            (own.directory.host_kubeconfig(), own.context(), programs)
        }
    };
    let mut text = format!("export KUBECONFIG={}\n", quoted(&kubeconfig.display().to_string()));
    text += &format!("export CONTEXT={}\n", quoted(&context));
    for directory in programs.iter().filter_map(|program| program.parent()) {
        text += &format!("export PATH={}:\"$PATH\"\n", quoted(&directory.display().to_string()));
    }
    print(&text)
}

/// A word that a shell reads as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `status`: what runs; an error unless all is well.
pub fn status(home: &Home, target: &Target) -> Result<()> {
    match target {
        Target::Users { kubeconfig, context } => {
            print(&format!("your own cluster: context {context} of {kubeconfig}\n"))
        }
        Target::Kind(name) => print(&format!("cluster {name}, by kind\n")),
        Target::Own(name) => own_status(&existing(home, name)?),
    }
}

fn own_status(own: &Own) -> Result<()> {
    let (control_plane, cgroups) = (own.running()?, Cgroups::find()?);
    let mut lines = components(&control_plane)?;
    for node in own.nodes() {
        match node.sandbox() {
            // It would not answer.
            Some(_) if cgroups.is_frozen(&own.name, &node.name()) => lines.push((node.name(), "paused".into(), false)),
            Some(on) => lines.extend(components(&on)?),
            None => {}
        }
    }
    let mut text =
        format!("cluster {}: {}; state in {}\n", own.name, own::describe(own.extent), own.directory.path().display());
    text.extend(lines.iter().map(|(name, state, _)| format!("  {name:<28} {state}\n")));
    print(&text)?;
    let troubled: Vec<&str> = lines.iter().filter(|(_, _, well)| !well).map(|(name, _, _)| name.as_str()).collect();
    if !troubled.is_empty() {
        bail!("not running: {}", troubled.join(" "));
    }
    Ok(())
}

/// The name of each process of a sandbox, its state in words, and whether that is well. A node is a process of the control plane's sandbox.
fn components(sandbox: &Sandbox) -> Result<Vec<(String, String, bool)>> {
    Ok(sandbox
        .ask(&Request::List)?
        .into_iter()
        .map(|part| (part.name.clone(), words(&part), part.pid.is_some()))
        .collect())
}

fn words(part: &Component) -> String {
    match (part.pid, &part.ended) {
        (Some(_), None) => "running".into(),
        (Some(_), Some(how)) => format!("running, started again {} times, last after {how}", part.restarts),
        (None, how) => format!("off, ended with {}", how.as_deref().unwrap_or("no known end")),
    }
}

/// `logs`: the paths of all, or the end of one.
pub fn logs(home: &Home, target: &Target, part: Option<&str>) -> Result<()> {
    let Target::Own(name) = target else { bail!("only a cluster of our own has its components' logs here") };
    let directory = home.cluster(name).logs();
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .with_context(|| format!("there is no cluster {name}"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    match part {
        None => print(&files.iter().map(|file| format!("{}\n", file.display())).collect::<String>()),
        Some(part) => match files.iter().find(|file| file.file_stem().is_some_and(|stem| stem == part)) {
            Some(file) => print(&format!("{}\n", sandbox::tail(file))),
            None => bail!("no part {part:?} has a log; `gantry-cluster logs` lists those that have"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_survives_quotes_and_blanks() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_process_that_was_started_again_is_told_from_one_that_ran_through() {
        let part = |pid, ended: Option<&str>| Component {
            name: "x".into(),
            pid,
            restarts: 2,
            ended: ended.map(str::to_owned),
        };
        assert_eq!(words(&part(Some(1), None)), "running");
        assert_eq!(words(&part(Some(1), Some("signal 9"))), "running, started again 2 times, last after signal 9");
        assert_eq!(words(&part(None, Some("exit code 1"))), "off, ended with exit code 1");
    }
}
