//! Sandboxes from the outside: starting one, watching it, ending it.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::control::{Request, Sandbox};
use crate::paths::ClusterDir;
use crate::progress::wait_for;

/// A sandbox answers within a tenth of a second; on a machine that compiles, later.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The kernel ends all processes of a sandbox and frees their memory within a second or two.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How much of a log is shown when its process has failed.
const TAIL_LINES: usize = 25;

/// The name of the copy of this program that a cluster's sandboxes run: a copy, so that a rebuilt one does not disturb them.
const COPY: &str = "gantry-cluster";

/// The command line that makes a sandbox. `state` and `parts` are paths as its first process sees them before it arranges its mounts.
///
/// Namespaces for processes, mounts, network, host name and System V objects; not for users (it would cost cgroup rights) and not for
/// cgroups (kubelet's and runc's paths are the machine's). `--kill-child` ends the sandbox with its launcher.
pub fn command(state: &str, parts: &str, node: Option<&str>) -> Vec<String> {
    let mut words =
        vec!["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"];
    let program = format!("{state}/{COPY}");
    words.extend(["--", &program, "init", "--state", state, "--parts", parts]);
    words.extend(node.into_iter().flat_map(|node| ["--node", node]));
    words.into_iter().map(str::to_owned).collect()
}

/// Starts the cluster's sandbox and waits until it answers. `path` is PATH for everything in it.
pub fn start(directory: &ClusterDir, parts: &Path, path: &str) -> Result<Sandbox> {
    let copy = directory.path().join(COPY);
    fs::copy(std::env::current_exe()?, &copy).with_context(|| copy.display().to_string())?;
    let state = directory.path().display().to_string();
    let words = command(&state, &parts.display().to_string(), None);
    let file = directory.logs().join("init.log");
    let log = OpenOptions::new().create(true).append(true).open(&file).with_context(|| file.display().to_string())?;
    let mut child = Command::new("setsid")
        .arg("--fork")
        .args(words)
        .current_dir("/")
        // Nothing of the caller's environment: a proxy or a KUBECONFIG must not reach the cluster's processes.
        .env_clear()
        .env("PATH", path)
        .env("HOME", "/root")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("setsid")?;
    child.wait()?;
    wait(directory.path(), || match fs::read_to_string(&file).unwrap_or_default() {
        text if text.trim().is_empty() => Ok(()),
        text => bail!("the sandbox could not be made: {}", text.trim()),
    })
}

/// Waits until a sandbox answers; `check` ends the wait with an error when there is no hope.
pub fn wait(directory: &Path, check: impl Fn() -> Result<()>) -> Result<Sandbox> {
    let mut found = None;
    wait_for("a sandbox to answer", START_LIMIT, || {
        found = Sandbox::find(directory);
        if found.is_none() {
            check()?;
        }
        Ok(found.is_some())
    })?;
    found.context("the sandbox is gone again")
}

/// An error with the log's end when a process of the sandbox has ended by itself, even if it was started again.
pub fn check(sandbox: &Sandbox, logs: &Path) -> Result<()> {
    for component in sandbox.ask(&Request::List)? {
        if let Some(how) = component.ended {
            bail!("{} ended with {how}; {}", component.name, tail(&logs.join(format!("{}.log", component.name))));
        }
    }
    Ok(())
}

/// The last lines of a log, with where it is.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("the last lines of {}:\n{}", log.display(), last.join("\n"))
}

/// Ends a sandbox at once by ending its first process; `pid` is that process seen from here.
pub fn kill(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process id")?;
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("ending the sandbox"),
    }
}

/// Waits until a process is gone. The first process of a sandbox goes last, after all others in it.
pub fn wait_for_end(pid: i32) -> Result<()> {
    wait_for(&format!("process {pid} and all below it to end"), END_LIMIT, || {
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_sandbox_is_told_its_name() {
        let words = command("/s", "/p", Some("node1")).join(" ");
        assert!(words.ends_with("-- /s/gantry-cluster init --state /s --parts /p --node node1"), "{words}");
        assert!(words.contains("--pid") && words.contains("--kill-child"));
    }

    #[test]
    fn a_tail_shows_the_end_of_a_long_log() {
        let log = std::env::temp_dir().join(format!("gantry-tail-{}", std::process::id()));
        fs::write(&log, (0..100).map(|line| format!("line {line}\n")).collect::<String>()).unwrap();
        let tail = tail(&log);
        fs::remove_file(&log).unwrap();
        assert!(tail.ends_with("line 99") && tail.contains("line 75\n") && !tail.contains("line 74\n"));
    }
}
