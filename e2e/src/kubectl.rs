//! kubectl, as a user types it. The cluster is the one that KUBECONFIG and CONTEXT name.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::wait::{Answer, until};

/// A namespace of a test's own.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes a namespace that enforces the `restricted` Pod Security Standard, or takes the one that is there.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub fn create(name: &str) -> Result<Self> {
        apply_to(
            None,
            &format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
            ),
        )?;
        Ok(Self { name: name.into() })
    }

    /// `kubectl -n <namespace> ARGS`, its standard output.
    ///
    /// # Errors
    /// Where kubectl fails, with what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        kubectl(&all)
    }

    /// `kubectl -n <namespace> ARGS`, to be started by the caller.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.args(["-n", &self.name]).args(args);
        command
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// Where the API server refuses them, with its words.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        apply_to(Some(&self.name), manifests)
    }

    /// An object as JSON.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, what: &str) -> Result<Value> {
        let text = self.kubectl(&["get", what, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {what} printed no JSON"))
    }

    /// Items of a list as JSON; `selector` may be empty.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", kind, "-l", selector, "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until an object's condition has this status, for the generation that is declared now.
    ///
    /// # Errors
    /// After `limit`, with the conditions as they were.
    pub fn wait_for_condition(&self, what: &str, condition: &str, status: &str, limit: Duration) -> Result<Value> {
        until(&format!("{what} has {condition}={status}"), limit, || {
            let object = self.get(what)?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let found =
                object["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == condition);
            let holds = current && found.is_some_and(|c| c["status"] == status);
            let said = format!("{}", object["status"]["conditions"]);
            Ok(Answer::when(holds, object, || said))
        })
    }
}

/// kubectl with these arguments; its standard output.
///
/// # Errors
/// Where it fails, with what it said.
pub fn kubectl(args: &[&str]) -> Result<String> {
    run(args, None)
}

fn apply_to(namespace: Option<&str>, manifests: &str) -> Result<()> {
    let mut args = namespace.map_or_else(Vec::new, |n| vec!["-n", n]);
    args.extend(["apply", "-f", "-"]);
    run(&args, Some(manifests)).map(|_| ())
}

fn command() -> Command {
    let mut command = Command::new("kubectl");
    if let Ok(context) = std::env::var("CONTEXT") {
        command.args(["--context", &context]);
    }
    command
}

fn run(args: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = command()
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl is not on the PATH: run `make e2e`")?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
