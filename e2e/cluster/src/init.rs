//! The first process of a sandbox: it arranges the sandbox's view of the file system, then starts, reaps and restarts processes.
//! It is process 1 of its PID namespace, so when it ends the kernel ends all others, and with them go mounts and network.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process};

use crate::control::{self, Answer, Component, Request, Spec};
use crate::mounts::{self, View};

/// A process that keeps ending is started again this often: it should neither spin nor be long away.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How long a process may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Process {
    spec: Spec,
    pid: Option<Pid>,
    restarts: u32,
    ended: Option<String>,
    wanted: bool,
}

#[derive(Debug, Default)]
struct Table {
    processes: Mutex<BTreeMap<String, Process>>,
    changed: Condvar,
}

/// Runs as the first process of a sandbox; returns only with an error.
pub fn run(view: &View) -> Result<()> {
    mounts::arrange(view)?;
    let listener = control::listen(&view.inside())?;
    let table = Arc::new(Table::default());
    thread::spawn({
        let table = Arc::clone(&table);
        move || table.reap()
    });
    thread::spawn({
        let table = Arc::clone(&table);
        move || table.restart()
    });
    if view.node.is_none() {
        thread::spawn(|| crate::volumes::open_to_all(Path::new(crate::volumes::DIRECTORY)));
    }
    for stream in listener.incoming().flatten() {
        let table = Arc::clone(&table);
        thread::spawn(move || control::serve(stream, |request| table.handle(request)));
    }
    Ok(())
}

impl Table {
    fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Start(spec) => self.start(spec),
            Request::Stop(name) => self.stop(&name),
            Request::List => Ok(()),
        }
        .map_err(|error| format!("{error:#}"))?;
        Ok(self.lock().iter().map(|(name, process)| component(name, process)).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, spec: Spec) -> Result<()> {
        let mut processes = self.lock();
        if processes.get(&spec.name).is_some_and(|process| process.pid.is_some()) {
            return Ok(());
        }
        // Spawned under the lock: the reaper must not see the end of a process that is not in the table yet.
        let pid = spawn(&spec)?;
        let process = Process { pid: Some(pid), restarts: 0, ended: None, wanted: true, spec };
        processes.insert(process.spec.name.clone(), process);
        self.changed.notify_all();
        Ok(())
    }

    fn stop(&self, name: &str) -> Result<()> {
        let mut processes = self.lock();
        let process = processes.get_mut(name).with_context(|| format!("no process {name} here"))?;
        process.wanted = false;
        let Some(pid) = process.pid else { return Ok(()) };
        kill_process(pid, Signal::TERM)?;
        let asked = Instant::now();
        let mut forced = false;
        while processes.get(name).is_some_and(|process| process.pid == Some(pid)) {
            let left = STOP_LIMIT.saturating_sub(asked.elapsed());
            if left.is_zero() && !forced {
                kill_process(pid, Signal::KILL)?;
                forced = true;
            }
            let pause = left.max(Duration::from_millis(100));
            processes = self.changed.wait_timeout(processes, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Waits for children, our own and those that lost their parents, for ever.
    fn reap(&self) {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    let how = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => format!("exit code {code}"),
                        (None, Some(signal)) => format!("signal {signal}"),
                        (None, None) => "no known end".into(),
                    };
                    let mut processes = self.lock();
                    if let Some(process) = processes.values_mut().find(|process| process.pid == Some(pid)) {
                        process.pid = None;
                        process.ended = Some(how);
                    }
                    self.changed.notify_all();
                }
                // No children at all: wait until one is started.
                _ => drop(self.changed.wait_timeout(self.lock(), RESTART_DELAY)),
            }
        }
    }

    /// Starts again what ended by itself, for ever.
    fn restart(&self) {
        loop {
            thread::sleep(RESTART_DELAY);
            for process in self.lock().values_mut() {
                if process.pid.is_none() && process.wanted && process.spec.restart {
                    process.restarts += 1;
                    match spawn(&process.spec) {
                        Ok(pid) => process.pid = Some(pid),
                        Err(error) => process.ended = Some(format!("{error:#}")),
                    }
                }
            }
        }
    }
}

fn component(name: &str, process: &Process) -> Component {
    let pid = process.pid.map(|pid| pid.as_raw_nonzero().get());
    Component { name: name.to_owned(), pid, restarts: process.restarts, ended: process.ended.clone() }
}

/// Starts a process in a group of its own; its end is the reaper's business.
fn spawn(spec: &Spec) -> Result<Pid> {
    let (program, arguments) = spec.argv.split_first().context("an empty command line")?;
    // Looked at first, because a failing exec would make the standard library wait for a child that the reaper may take.
    File::open(program).with_context(|| program.clone())?;
    let log = OpenOptions::new().create(true).append(true).open(&spec.log).with_context(|| spec.log.clone())?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| program.clone())?;
    Pid::from_raw(child.id().cast_signed()).context("a process without an id")
}
