//! What `up` decided about a cluster, kept in a file so that every later command finds it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The layout of the file; a file of another layout belongs to another version of this tool.
const LAYOUT: u32 = 1;

/// Who runs the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// This tool, in namespaces of its own.
    Own,
    /// kind, in containers of a container engine.
    Kind,
}

/// How much of a cluster there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// etcd and the API server.
    ApiServer,
    /// The above and the controller manager.
    Controllers,
    /// Everything, with this many nodes (1 to 20).
    Nodes(u32),
}

impl Extent {
    /// How many nodes there are.
    pub fn nodes(self) -> u32 {
        match self {
            Extent::ApiServer | Extent::Controllers => 0,
            Extent::Nodes(count) => count,
        }
    }
}

/// The state file of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Layout of this file.
    pub layout: u32,
    /// The cluster's name.
    pub name: String,
    /// Who runs it.
    pub provider: Provider,
    /// How much of it there is.
    pub extent: Extent,
    /// The content key of each part that it runs, by the part's name.
    pub parts: BTreeMap<String, String>,
    /// Whether `up` came to its end.
    pub ready: bool,
}

impl State {
    /// A cluster that is about to be brought up.
    pub fn new(name: &str, provider: Provider, extent: Extent) -> State {
        State { layout: LAYOUT, name: name.to_owned(), provider, extent, parts: BTreeMap::new(), ready: false }
    }

    /// Reads the file; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<State>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let state: State = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if state.layout != LAYOUT {
            bail!(
                "{} has layout {}, this version knows {LAYOUT}: run `gantry-cluster down` of the version that made it",
                path.display(),
                state.layout
            );
        }
        Ok(Some(state))
    }

    /// Writes the file whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(self)?).with_context(|| new.display().to_string())?;
        fs::rename(&new, path).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_being_written_and_read() {
        let path = std::env::temp_dir().join(format!("gantry-state-{}.json", std::process::id()));
        let mut state = State::new("ci", Provider::Own, Extent::Nodes(3));
        state.parts.insert("etcd".into(), "0123".into());
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(state));
        fs::remove_file(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), None);
    }

    #[test]
    fn a_state_of_another_layout_is_refused_with_advice() {
        let path = std::env::temp_dir().join(format!("gantry-layout-{}.json", std::process::id()));
        let state = State { layout: 99, ..State::new("ci", Provider::Own, Extent::ApiServer) };
        state.write(&path).unwrap();
        let error = State::read(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(error.contains("has layout 99"), "{error}");
    }
}
