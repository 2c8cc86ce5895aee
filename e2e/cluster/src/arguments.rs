//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::mounts::View;
use crate::network::MAX_NODES;
use crate::state::{Extent, Provider};

/// What `--help` prints.
pub const HELP: &str = "\
gantry-cluster brings up a real Kubernetes for tests and development.

  gantry-cluster build                       build and cache the programs of a cluster
  gantry-cluster up [--nodes N]              bring a cluster up (one node), or say that it is up
                    [--control-plane-only [--with-controllers]] [--provider own|kind]
  gantry-cluster load IMAGE.tar...           load image archives (docker-archive) into every node, or push
                                             them to GANTRY_REGISTRY for the nodes of a cluster that you name
  gantry-cluster image NAME                  print what the nodes call the image NAME that was loaded
  gantry-cluster exec -- COMMAND...          run a command where the cluster's network is reachable
  gantry-cluster kubectl -- ARGUMENTS...     the same, for kubectl
  gantry-cluster env                         print exports for a shell: eval \"$(gantry-cluster env)\"
  gantry-cluster status                      what runs; fails unless all is well
  gantry-cluster logs [PART]                 list the logs, or print the path and the end of one
  gantry-cluster node start|stop|kill|pause|resume|cut|heal NODE
                                             a node's power switch, its stun gun, and its network cable
  gantry-cluster down                        end the cluster; nothing of it stays
  gantry-cluster traces                      what is left of a cluster that was ended; fails unless it is nothing
  gantry-cluster selftest [--nodes N]        bring one up, try everything, take it down (minutes; needs root)

  --name NAME   the cluster (default: gantry, or the one that this runs inside of)

Which Kubernetes: the one that KUBECONFIG and CONTEXT name (both or none), kind where it works, otherwise its own.
Where it keeps things: GANTRY_CACHE, else XDG_CACHE_HOME/gantry, else HOME/.cache/gantry.
";

/// What to do with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeAction {
    /// Switch it on.
    Start,
    /// Shut it down in order.
    Stop,
    /// Cut its power.
    Kill,
    /// Freeze all its processes.
    Pause,
    /// Let them go on.
    Resume,
    /// Cut its network.
    Cut,
    /// Join its network again.
    Heal,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Print the help.
    Help,
    /// Build the programs.
    Build,
    /// Bring a cluster up.
    Up(Extent),
    /// Load image archives.
    Load(Vec<PathBuf>),
    /// Print what nodes call an image.
    Image(String),
    /// Run a command in the cluster's network.
    Exec(Vec<OsString>),
    /// Print shell exports.
    Env,
    /// Print what runs.
    Status,
    /// List logs or show the end of one.
    Logs(Option<String>),
    /// Do something to a node.
    Node(NodeAction, String),
    /// Take the cluster down.
    Down,
    /// Print what is left of the cluster.
    Traces,
    /// Try everything on a cluster with this many nodes.
    Selftest(u32),
    /// Be the first process of a sandbox (internal).
    Init(View),
    /// Pass connections on (internal).
    Relay {
        /// The network namespace to connect in.
        namespace: PathBuf,
        /// Where to write the port's number.
        port_file: PathBuf,
    },
}

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--name`.
    pub name: Option<String>,
    /// `--provider`.
    pub provider: Option<Provider>,
    /// What to do.
    pub action: Action,
}

/// The words of a command line, from which what is known is taken out.
struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|word| word == name);
        found.map(|at| self.0.remove(at)).is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self
            .0
            .iter()
            .position(|word| word == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
        else {
            return Ok(None);
        };
        let word = self.0.remove(at);
        match word.split_once('=') {
            Some((_, value)) => Ok(Some(value.to_owned())),
            None if at < self.0.len() => Ok(Some(self.0.remove(at))),
            None => bail!("{name} needs a value"),
        }
    }

    fn required(&mut self, name: &str) -> Result<String> {
        self.value(name)?.with_context(|| format!("{name} is missing"))
    }

    fn next(&mut self, what: &str) -> Result<String> {
        match self.0.is_empty() {
            true => bail!("{what} is missing"),
            false => Ok(self.0.remove(0)),
        }
    }
}

/// Parses a command line without the program's name. What follows `--` is taken as it is.
pub fn parse(line: impl Iterator<Item = OsString>) -> Result<Arguments> {
    let all: Vec<OsString> = line.collect();
    let cut = all.iter().position(|word| word == "--").unwrap_or(all.len());
    let rest: Vec<OsString> = all.iter().skip(cut + 1).cloned().collect();
    let mut words = Vec::new();
    for word in &all[..cut] {
        words.push(word.to_str().with_context(|| format!("{} is not UTF-8", word.display()))?.to_owned());
    }
    let mut words = Words(words);
    if words.flag("--help") || words.flag("-h") {
        return Ok(Arguments { name: None, provider: None, action: Action::Help });
    }
    let name = words.value("--name")?;
    let provider = match words.value("--provider")?.as_deref() {
        None => None,
        Some("own") => Some(Provider::Own),
        Some("kind") => Some(Provider::Kind),
        Some(other) => bail!("--provider {other}: it is own or kind"),
    };
    let action = action(&mut words, rest)?;
    if let Some(word) = words.0.first() {
        bail!("{word:?} is not understood here; see gantry-cluster --help");
    }
    Ok(Arguments { name, provider, action })
}

fn action(words: &mut Words, mut rest: Vec<OsString>) -> Result<Action> {
    let verb = if words.0.is_empty() { "help".to_owned() } else { words.0.remove(0) };
    Ok(match verb.as_str() {
        "help" => Action::Help,
        "build" => Action::Build,
        "up" => Action::Up(extent(words)?),
        "down" => Action::Down,
        "traces" => Action::Traces,
        "env" => Action::Env,
        "status" => Action::Status,
        "logs" => Action::Logs(words.0.pop()),
        "load" => match words.0.is_empty() {
            true => bail!("load needs an image archive, such as image.tar"),
            false => Action::Load(words.0.drain(..).map(PathBuf::from).collect()),
        },
        "image" => Action::Image(words.next("the image's name")?),
        "exec" | "kubectl" => {
            // Without `--` the words themselves are the command; options of ours have been taken out.
            rest.splice(0..0, words.0.drain(..).map(OsString::from));
            if verb == "kubectl" {
                rest.insert(0, "kubectl".into());
            }
            match rest.is_empty() {
                true => bail!("exec needs a command: gantry-cluster exec -- COMMAND"),
                false => Action::Exec(rest),
            }
        }
        "node" => Action::Node(node_action(&words.next("what to do with the node")?)?, words.next("the node's name")?),
        "selftest" => Action::Selftest(extent(words)?.nodes().max(1)),
        "init" => Action::Init(View {
            state: words.required("--state")?.into(),
            parts: words.required("--parts")?.into(),
            node: words.value("--node")?,
        }),
        "relay" => Action::Relay {
            namespace: words.required("--namespace")?.into(),
            port_file: words.required("--port-file")?.into(),
        },
        other => bail!("{other:?} is not a command; see gantry-cluster --help"),
    })
}

fn extent(words: &mut Words) -> Result<Extent> {
    let (plane, controllers, nodes) =
        (words.flag("--control-plane-only"), words.flag("--with-controllers"), words.value("--nodes")?);
    match (plane, controllers, nodes) {
        (true, _, Some(_)) => bail!("--control-plane-only has no nodes: leave out --nodes"),
        (true, true, None) => Ok(Extent::Controllers),
        (true, false, None) => Ok(Extent::ApiServer),
        (false, true, _) => {
            bail!("--with-controllers goes with --control-plane-only: a cluster with nodes has controllers anyway")
        }
        (false, false, None) => Ok(Extent::Nodes(1)),
        (false, false, Some(count)) => match count.parse() {
            Ok(count @ 1..=MAX_NODES) => Ok(Extent::Nodes(count)),
            _ => bail!("--nodes {count}: a number from 1 to {MAX_NODES}"),
        },
    }
}

fn node_action(word: &str) -> Result<NodeAction> {
    Ok(match word {
        "start" => NodeAction::Start,
        "stop" => NodeAction::Stop,
        "kill" => NodeAction::Kill,
        "pause" => NodeAction::Pause,
        "resume" => NodeAction::Resume,
        "cut" => NodeAction::Cut,
        "heal" => NodeAction::Heal,
        other => bail!("node {other}: it is start, stop, kill, pause, resume, cut or heal"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments> {
        parse(line.split(' ').map(OsString::from))
    }

    fn action_of(line: &str) -> Action {
        parsed(line).unwrap().action
    }

    #[test]
    fn a_cluster_has_one_node_unless_told_otherwise() {
        assert_eq!(action_of("up"), Action::Up(Extent::Nodes(1)));
        assert_eq!(action_of("up --nodes 3"), Action::Up(Extent::Nodes(3)));
        assert_eq!(action_of("up --nodes=2 --name x"), Action::Up(Extent::Nodes(2)));
        assert_eq!(action_of("up --control-plane-only --with-controllers"), Action::Up(Extent::Controllers));
    }

    #[test]
    fn what_follows_two_dashes_belongs_to_the_command() {
        let arguments = parsed("exec --name api -- kubectl --name other").unwrap();
        assert_eq!(arguments.name.as_deref(), Some("api"));
        assert_eq!(arguments.action, Action::Exec(["kubectl", "--name", "other"].map(OsString::from).to_vec()));
        assert_eq!(
            action_of("kubectl -- get nodes"),
            Action::Exec(["kubectl", "get", "nodes"].map(OsString::from).to_vec())
        );
        assert_eq!(
            action_of("kubectl get nodes"),
            Action::Exec(["kubectl", "get", "nodes"].map(OsString::from).to_vec())
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        for (line, part) in [
            ("up --nodes 0", "1 to 20"),
            ("up --nodes", "needs a value"),
            ("up --control-plane-only --nodes 2", "leave out --nodes"),
            ("up --provider docker", "own or kind"),
            ("up now", "\"now\" is not understood"),
            ("load", "image archive"),
            ("image", "name is missing"),
            ("node drop node1", "start, stop"),
            ("node kill", "name is missing"),
            ("fly", "not a command"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
