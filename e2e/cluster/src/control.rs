//! The conversation between a command on the host and the first process of a sandbox: one JSON line each way over a Unix socket.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The socket's file name in a sandbox's state directory.
const SOCKET: &str = "control.sock";
/// A sandbox answers at once, but stopping a process may take this long.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A process that the sandbox keeps running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name, also that of its log.
    pub name: String,
    /// Program (an absolute path) and arguments.
    pub argv: Vec<String>,
    /// Where standard output and error go, appended.
    pub log: String,
    /// Whether it is started again, after a second, when it ends by itself.
    pub restart: bool,
}

/// What a sandbox can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Start a process, unless one of that name runs.
    Start(Spec),
    /// Ask a process to end (SIGTERM), end it by force after 10 s, and do not start it again.
    Stop(String),
    /// List the processes.
    List,
}

/// A process as the sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its process id inside the sandbox; `None` when it does not run.
    pub pid: Option<i32>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// How it ended the last time, as a sentence's end: "exit code 1", "signal 9".
    pub ended: Option<String>,
}

/// The answer: the processes, or what went wrong.
pub type Answer = std::result::Result<Vec<Component>, String>;

/// A sandbox that answers.
#[derive(Debug, Clone)]
pub struct Sandbox {
    directory: PathBuf,
    pid: i32,
}

impl Sandbox {
    /// The sandbox whose state is in `directory`; `None` when none answers there.
    pub fn find(directory: &Path) -> Option<Sandbox> {
        let stream = connect(directory).ok()?;
        let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get();
        Some(Sandbox { directory: directory.to_owned(), pid })
    }

    /// The process id, seen from here, of its first process. When that ends, everything in the sandbox ends.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks, and returns the processes as they are then.
    pub fn ask(&self, request: &Request) -> Result<Vec<Component>> {
        let mut stream = connect(&self.directory).context("the sandbox does not answer")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        writeln!(stream, "{}", serde_json::to_string(request)?)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("no answer from the sandbox")?;
        let answer: Answer = serde_json::from_str(&line).context("an answer that makes no sense")?;
        answer.or_else(|error| bail!(error))
    }
}

/// Connects to the socket in `directory`. A socket's path may have 107 bytes only, and a cache may lie deeper than that:
/// hence by way of an open directory.
fn connect(directory: &Path) -> std::io::Result<UnixStream> {
    let directory = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

/// Listens in `directory`, whose path must be short.
pub fn listen(directory: &Path) -> Result<UnixListener> {
    let path = directory.join(SOCKET);
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| path.display().to_string())
}

/// Serves one connection.
pub fn serve(stream: UnixStream, mut handle: impl FnMut(Request) -> Answer) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(()); // somebody only looked whether we are here
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => handle(request),
        Err(error) => Err(format!("a request that makes no sense: {error}")),
    };
    let mut stream = stream;
    writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_answer_cross_the_socket() {
        let directory = std::env::temp_dir().join(format!("gantry-control-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let listener = listen(&directory).unwrap();
        let server = std::thread::spawn(move || {
            // The first connection is the look, the second the question.
            for stream in listener.incoming().take(2) {
                serve(stream.unwrap(), |request| match request {
                    Request::Stop(name) => Err(format!("no {name} here")),
                    _ => Ok(Vec::new()),
                })
                .unwrap();
            }
        });
        let sandbox = Sandbox::find(&directory).unwrap();
        assert_eq!(sandbox.pid(), std::process::id().cast_signed());
        let error = sandbox.ask(&Request::Stop("etcd".into())).unwrap_err();
        assert_eq!(error.to_string(), "no etcd here");
        server.join().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(Sandbox::find(&directory).is_none());
    }
}
