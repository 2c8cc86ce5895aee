//! The official clients, run in a pod beside the cluster under test.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::kubectl::Namespace;
use crate::wait::{Answer, until};

/// A pod with the official clients of Java (gRPC and remoting) and Go (gRPC).
pub struct Clients<'a> {
    namespace: &'a Namespace,
}

/// Which official client.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// `rocketmq-client-java` for gRPC, `rocketmq-client` for remoting.
    Java,
    /// `rocketmq-clients/golang/v5`.
    Go,
}

impl<'a> Clients<'a> {
    /// Starts the pod and waits until commands can be run in it.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        // In a cluster of the user's own the image comes from a registry: e2e/cluster/README.md.
        let registry = std::env::var("GANTRY_REGISTRY").ok().filter(|prefix| !prefix.is_empty());
        let image = registry.map_or_else(String::new, |prefix| format!("{prefix}/")) + "gantry/e2e-clients:";
        namespace.apply(&include_str!("../clients/pod.yaml").replace("gantry/e2e-clients:", &image))?;
        until("the clients' pod runs", Duration::from_secs(60), || {
            let pod = namespace.get("pod/clients")?;
            let phase = pod["status"]["phase"].as_str().unwrap_or_default().to_owned();
            Ok(Answer::when(phase == "Running", (), || phase))
        })?;
        Ok(Self { namespace })
    }

    /// The namespace that it is in.
    #[must_use]
    pub fn namespace(&self) -> &'a Namespace {
        self.namespace
    }

    /// Runs one command of the clients and returns all its events; the last is the summary.
    ///
    /// # Errors
    /// Where it did not do everything that was asked for, with its reason.
    pub fn run(&self, client: Client, command: &str) -> Result<Vec<Value>> {
        let program: &[&str] = match client {
            Client::Java => &["java", "@/opt/clients/java.options"],
            Client::Go => &["rmq-go"],
        };
        let mut args = vec!["exec", "clients", "--"];
        args.extend(program);
        args.extend(command.split_whitespace());
        // A failed command's events are on standard output too, but its reason is what matters then.
        let text = self.namespace.kubectl(&args).with_context(|| format!("{client:?} client: {command}"))?;
        let events: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let summary = events.last().with_context(|| format!("{command} printed nothing"))?;
        ensure!(summary["event"] == "summary" && summary["ok"] == true, "{command}: {summary}");
        Ok(events)
    }

    /// Starts the Java clients' `serve`: commands go to its standard input, events come from its standard output.
    ///
    /// # Errors
    /// Where kubectl does not start.
    pub fn serve(&self) -> Result<Child> {
        self.namespace
            .command(&["exec", "-i", "clients", "--", "java", "@/opt/clients/java.options", "serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("kubectl exec does not start")
    }

    /// Many commands side by side, each waited for where it matters.
    ///
    /// # Errors
    /// As [`Clients::serve`].
    pub fn session(&self) -> Result<Session> {
        let mut child = self.serve()?;
        let stdin = Some(child.stdin.take().context("no input")?);
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Session { child, stdin, lines, events: Vec::new() })
    }

    /// Runs one command and returns its summary.
    ///
    /// # Errors
    /// As [`Clients::run`].
    pub fn summary(&self, client: Client, command: &str) -> Result<Value> {
        self.run(client, command)?.pop().context("no summary")
    }
}

/// Commands side by side in one JVM.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
}

impl Session {
    /// Starts a command under a name of its own, or stops one: `stop NAME`.
    ///
    /// # Errors
    /// Where the clients have ended.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the session has ended")?;
        writeln!(stdin, "{line}").context("the clients ended")
    }

    /// Waits for the first event of this kind of the command of this name.
    ///
    /// # Errors
    /// Where the command, or all of them, ended without it.
    pub fn event(&mut self, command: &str, kind: &str) -> Result<Value> {
        let mut next = 0;
        loop {
            while let Some(event) = self.events.get(next) {
                next += 1;
                if event["cmd"] != command {
                    continue;
                }
                if event["event"] == kind {
                    return Ok(event.clone());
                }
                ensure!(event["event"] != "exit", "{command} ended without {kind}: {:?}", self.of(command));
            }
            let line = self.lines.next().with_context(|| format!("the clients ended before {kind} of {command}"))??;
            self.events.push(serde_json::from_str(&line)?);
        }
    }

    /// The events of a command that were seen so far.
    #[must_use]
    pub fn of(&self, command: &str) -> Vec<&Value> {
        self.events.iter().filter(|e| e["cmd"] == command).collect()
    }

    /// Waits until all commands have ended.
    ///
    /// # Errors
    /// Where kubectl fails; what commands did not do is in their summaries.
    pub fn end(&mut self) -> Result<()> {
        self.stdin = None;
        for line in self.lines.by_ref() {
            self.events.push(serde_json::from_str(&line?)?);
        }
        self.child.wait()?;
        Ok(())
    }
}
