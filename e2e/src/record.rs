//! The record of a chaos run: a line where a round begins, a line with its account when it has ended, however it ended. Nothing that went wrong is
//! done again in its place.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What a run was made with. Another build, another number of nodes or replicas is another record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Seed of the order.
    pub seed: u64,
    /// Commit, shortened; with a mark where files were edited since.
    pub commit: String,
    /// Nodes of the Kubernetes.
    pub nodes: usize,
    /// Replicas of the broker group.
    pub replicas: usize,
    /// Version of the Kubernetes.
    pub kubernetes: String,
    /// Version of RocketMQ that the cluster's status names.
    pub engine: String,
}

impl Setting {
    /// Where its record is, below `folder`.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        let Self { seed, commit, nodes, replicas, .. } = self;
        folder.join(format!("{commit}-nodes-{nodes}-replicas-{replicas}-seed-{seed}.jsonl"))
    }
}

/// The commit that is checked out, shortened, with `-edited` where other files than the run's own report differ from it.
#[must_use]
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let edited =
        git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]).is_none_or(|e| !e.is_empty());
    format!("{commit}{}", if edited { "-edited" } else { "" })
}

/// Today, by the machine's clock.
fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output().context("date does not start")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A record and its file.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    lines: Vec<Value>,
}

impl Record {
    /// The record in this file; an empty one where there is none.
    ///
    /// # Errors
    /// Where the file is no record.
    pub fn open(path: PathBuf) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let line = |l| serde_json::from_str(l).with_context(|| path.display().to_string());
        let lines = text.lines().map(line).collect::<Result<_>>()?;
        Ok(Self { path, lines })
    }

    #[cfg(test)]
    pub(crate) fn of(lines: &[Value]) -> Self {
        Self { path: PathBuf::new(), lines: lines.to_vec() }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, line: Value) -> Result<()> {
        writeln!(fs::OpenOptions::new().create(true).append(true).open(&self.path)?, "{line}")?;
        self.lines.push(line);
        Ok(())
    }

    /// Notes that a round begins.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn begin(&mut self, setting: &Setting) -> Result<()> {
        let Setting { seed, commit, nodes, replicas, kubernetes, engine } = setting;
        let line = json!({"begun": self.begun().count(), "date": today()?, "seed": seed, "commit": commit, "nodes": nodes, "replicas": replicas,
            "kubernetes": kubernetes, "engine": engine});
        self.append(line)
    }

    /// Notes how the round ended: its faults, its accounts where there are, and what failed.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn end(&mut self, episodes: &[Value], accounts: &[Value], failure: Option<&str>) -> Result<()> {
        let round = self.begun().count().saturating_sub(1);
        self.append(json!({"round": round, "episodes": episodes, "accounts": accounts, "failure": failure}))
    }

    fn begun(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(|l| l["begun"].is_u64())
    }

    /// Rounds that ended.
    pub fn rounds(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(|l| l["round"].is_u64())
    }

    /// Faults of rounds that ended, the last of a failed one among them.
    pub fn episodes(&self) -> impl Iterator<Item = &Value> {
        self.rounds().flat_map(|r| r["episodes"].as_array().into_iter().flatten())
    }

    /// Accounts of flows.
    pub fn accounts(&self) -> impl Iterator<Item = &Value> {
        self.rounds().flat_map(|r| r["accounts"].as_array().into_iter().flatten())
    }

    /// What failed, by round; a round that never ended has no account and failed, too.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for begun in self.begun().filter_map(|b| b["begun"].as_u64()) {
            match self.rounds().find(|r| r["round"] == begun) {
                None => failures.push(format!("round {}: broken off, its messages were not accounted for", begun + 1)),
                Some(round) => {
                    failures.extend(round["failure"].as_str().map(|f| format!("round {}: {f}", begun + 1)));
                }
            }
        }
        failures
    }

    /// What the last round was made with, and the days of the first and the last one.
    #[must_use]
    pub fn made_with(&self) -> Option<(&Value, String)> {
        let (first, last) = (self.begun().next()?, self.begun().last()?);
        let day = |line: &Value| line["date"].as_str().unwrap_or_default().to_owned();
        let days = if day(first) == day(last) { day(last) } else { format!("{} to {}", day(first), day(last)) };
        Some((last, days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(commit: &str, nodes: usize) -> Setting {
        Setting { seed: 7, commit: commit.into(), nodes, replicas: 3, kubernetes: "v1".into(), engine: "5.5.0".into() }
    }

    #[test]
    fn another_build_or_number_of_nodes_has_a_record_of_its_own() {
        let folder = Path::new("f");
        let path = setting("abc", 3).path(folder);
        assert_ne!(path, setting("abd", 3).path(folder));
        assert_ne!(path, setting("abc", 1).path(folder));
        assert_eq!(path, setting("abc", 3).path(folder));
    }

    #[test]
    fn a_round_that_failed_or_never_ended_stays_on_record() -> Result<()> {
        let path = std::env::temp_dir().join(format!("gantry-record-{}.jsonl", std::process::id()));
        let mut record = Record::open(path.clone())?;
        record.begin(&setting("abc", 3))?;
        record.end(&[json!({"fault": "master killed"})], &[json!({"topic": "t", "lost": 0})], None)?;
        record.begin(&setting("abc", 3))?;
        record.end(&[json!({"fault": "slave killed"})], &[json!({"topic": "t", "lost": 2})], Some("2 are lost"))?;
        record.begin(&setting("abc", 3))?;
        let again = Record::open(path.clone());
        fs::remove_file(path)?;
        let again = again?;
        assert_eq!((again.episodes().count(), again.accounts().count()), (2, 2));
        let failures = again.failures();
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert_eq!(failures[0], "round 2: 2 are lost");
        assert!(failures[1].starts_with("round 3: broken off"));
        Ok(())
    }
}
