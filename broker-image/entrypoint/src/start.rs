//! `rocketmq start`: what has to be true before the engine's process may begin.

use std::convert::Infallible;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use signal_hook::consts::SIGTERM;

use crate::java::{self, JavaError};
use crate::placeholders::{self, Missing};
use crate::probe;
use crate::role::Role;
use crate::settings::Settings;

/// Where the operator's ConfigMap is mounted, read-only.
const GIVEN: &str = "/etc/rocketmq";
/// What a broker takes while it runs; only brokers have it.
pub const LIVE: &str = "/etc/rocketmq-live/live.conf";
/// Where the engine reads and rewrites its configuration: an emptyDir.
const RENDERED: &str = "/run/rocketmq";

/// Between two tries: short against the seconds that a JVM takes to start.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two lines about the same wait.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The exit code of a process that SIGTERM ended.
const TERMINATED: i32 = 128 + SIGTERM;

/// Why a role did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator names a host and does not say what it should resolve to.
    #[error("GANTRY_HOST is set to {host} but POD_IP holds no address")]
    NoAddress {
        /// The host.
        host: String,
    },
    /// A signal handler was refused.
    #[error("can't listen for SIGTERM")]
    Signal(#[source] io::Error),
    /// Nothing would answer the kubelet.
    #[error("can't serve probes")]
    Probes(#[source] io::Error),
    /// A configuration file can't be read or written.
    #[error("can't copy {path}")]
    Copy {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A configuration file asks for what the pod does not have.
    #[error("in {path}")]
    Fill {
        /// Which.
        path: PathBuf,
        /// What it asks for.
        source: Missing,
    },
    /// No Java process.
    #[error(transparent)]
    Java(#[from] JavaError),
}

/// Waits, renders, and becomes the role's Java process.
pub fn start(role: Role, settings: &Settings) -> Result<Infallible, StartError> {
    // As process 1 of a container SIGTERM would be ignored while we wait, and the pod would stay for its whole grace period.
    let now = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(SIGTERM, TERMINATED, now).map_err(StartError::Signal)?;
    serve_probes(role).map_err(StartError::Probes)?;
    if let Some(host) = &settings.host {
        let address = settings.pod_ip.ok_or_else(|| StartError::NoAddress { host: host.clone() })?;
        // The engine resolves its own name once: when that fails every later message fails, with the broker looking well.
        wait_for("this pod's own name", || points_to(host, &resolve(host), address));
    }
    render(Path::new(GIVEN), Path::new(RENDERED), settings)?;
    if role == Role::Broker {
        append(Path::new(LIVE), &Path::new(RENDERED).join("broker.conf"), settings)?;
    }
    if role == Role::Proxy {
        // Its system topic needs a master; without one it ends at once.
        wait_for("a writable master", || {
            probe::writable_master(settings).map(drop).map_err(|reason| reason.to_string())
        });
    }
    Ok(java::role(role, Path::new(RENDERED))?)
}

/// Beside what this process does and becomes. It ends with the container; until then nobody waits for it.
fn serve_probes(role: Role) -> io::Result<()> {
    Command::new(env::current_exe()?).args(["serve-probes", role.name()]).spawn().map(drop)
}

fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// A name that leads elsewhere is the record of the pod that was here before: others would still be sent there.
fn points_to(host: &str, found: &io::Result<Vec<IpAddr>>, own: IpAddr) -> Result<(), String> {
    match found {
        Ok(addresses) if addresses.contains(&own) => Ok(()),
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Err(format!("{host} resolves to {}, not yet to {own}", addresses.join(", ")))
        }
        Err(error) => Err(format!("{host} does not resolve yet: {error}")),
    }
}

fn wait_for(what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    let mut next_line = Duration::ZERO;
    while let Err(reason) = check() {
        if begun.elapsed() >= next_line {
            println!("rocketmq: waiting for {what} since {} s: {reason}", begun.elapsed().as_secs());
            next_line = begun.elapsed() + LINE_EVERY;
        }
        thread::sleep(PAUSE);
    }
    println!("rocketmq: {what} is there after {:.1} s", begun.elapsed().as_secs_f64());
}

/// Copies every file with its placeholders replaced. A ConfigMap's volume holds links to files, and folders of its own that begin with two dots.
fn render(from: &Path, to: &Path, settings: &Settings) -> Result<(), StartError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Copy { path, source }
    };
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let text =
            placeholders::fill(&text, settings).map_err(|source| StartError::Fill { path: path.clone(), source })?;
        if let Some(name) = path.file_name() {
            let target = to.join(name);
            fs::write(&target, text).map_err(at(&target))?;
        }
    }
    Ok(())
}

/// Adds a file, its placeholders replaced, to the end of another. Without it there is nothing to add.
fn append(from: &Path, to: &Path, settings: &Settings) -> Result<(), StartError> {
    let copy = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Copy { path, source }
    };
    if !from.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(from).map_err(copy(from))?;
    let text = placeholders::fill(&text, settings).map_err(|source| StartError::Fill { path: from.into(), source })?;
    let before = fs::read_to_string(to).map_err(copy(to))?;
    fs::write(to, format!("{}\n{text}", before.trim_end())).map_err(copy(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const HOST: &str = "shop-broker-0-0.shop-broker.ns.svc.cluster.local";

    #[test]
    fn the_own_name_must_lead_to_this_pod_and_not_to_the_one_before_it() {
        let own: IpAddr = [10, 0, 0, 7].into();
        let before: IpAddr = [10, 0, 0, 3].into();
        let cases = [
            (Ok(vec![own]), Ok(())),
            (Ok(vec![before, own]), Ok(())),
            (Ok(vec![before]), Err(format!("{HOST} resolves to 10.0.0.3, not yet to 10.0.0.7"))),
            (Err(io::Error::other("no such name")), Err(format!("{HOST} does not resolve yet: no such name"))),
        ];
        for (found, expected) in cases {
            assert_eq!(points_to(HOST, &found, own), expected);
        }
    }

    #[test]
    fn a_wait_ends_with_the_first_success() {
        let mut left = 3;
        wait_for("a test", || {
            left -= 1;
            if left == 0 { Ok(()) } else { Err("not yet".to_owned()) }
        });
        assert_eq!(left, 0);
    }

    #[test]
    fn rendering_follows_a_config_maps_links_and_leaves_its_folders_out() {
        let base = std::env::temp_dir().join(format!("gantry-entrypoint-render-{}", std::process::id()));
        let (from, to) = (base.join("etc"), base.join("run"));
        let data = from.join("..2026_11_23");
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(data.join("broker.conf"), "brokerIP1=${HOST}").unwrap();
        symlink("..2026_11_23", from.join("..data")).unwrap();
        symlink("..data/broker.conf", from.join("broker.conf")).unwrap();
        // A restarted container finds what its engine made of the file.
        fs::write(to.join("broker.conf"), "brokerIP1=elsewhere\nhundreds=of lines").unwrap();

        let settings = Settings { host: Some(HOST.to_owned()), ..Settings::default() };
        render(&from, &to, &settings).unwrap();
        let rendered = fs::read_to_string(to.join("broker.conf")).unwrap();
        let names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let refused = render(&from, &to, &Settings::default());
        fs::remove_dir_all(&base).unwrap();

        assert_eq!(rendered, format!("brokerIP1={HOST}"));
        assert_eq!(names, ["broker.conf"]);
        assert!(matches!(refused, Err(StartError::Fill { .. })), "{refused:?}");
    }

    #[test]
    fn what_a_broker_takes_while_it_runs_comes_after_the_rest() {
        let folder = std::env::temp_dir().join(format!("gantry-append-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (live, file) = (folder.join("live.conf"), folder.join("broker.conf"));
        fs::write(&file, "brokerName=a\n").unwrap();
        let settings = Settings { host: Some(HOST.to_owned()), ..Settings::default() };
        append(&live, &file, &settings).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "brokerName=a\n");
        fs::write(&live, "fileReservedTime=48\nbrokerIP1=${HOST}\n").unwrap();
        append(&live, &file, &settings).unwrap();
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("brokerName=a\nfileReservedTime=48\nbrokerIP1={HOST}\n")
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_missing_configuration_is_an_error_that_names_the_folder() {
        let error = render(Path::new("/does/not/exist"), Path::new("/tmp"), &Settings::default()).unwrap_err();
        assert_eq!(error.to_string(), "can't copy /does/not/exist");
    }
}
