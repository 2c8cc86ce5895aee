//! Builds the programs of a cluster from the Go module that this program carries, or finds them in the cache.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::lock;
use crate::parts::{FLAGS, PARTS, Part, SOURCES};
use crate::paths::Home;
use crate::progress::{self, Note};

/// The built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The directory of each part's key, by the part's name.
    keys: BTreeMap<String, String>,
    root: PathBuf,
}

impl Programs {
    /// Programs that were built before, by the keys in a state file.
    pub fn known(home: &Home, keys: &BTreeMap<String, String>) -> Programs {
        Programs { keys: keys.clone(), root: home.programs() }
    }

    /// The content key of each part.
    pub fn keys(&self) -> &BTreeMap<String, String> {
        &self.keys
    }

    /// The directories with the programs, below `root` (the cache seen from the host, or where a sandbox sees it).
    fn directories(&self, root: &Path) -> Vec<PathBuf> {
        self.keys.iter().map(|(part, key)| root.join(format!("{part}-{key}"))).collect()
    }

    /// A PATH with these programs before all others; `rest` is what follows.
    pub fn path(&self, root: &Path, rest: &str) -> String {
        let mut all: Vec<String> = self.directories(root).iter().map(|dir| dir.display().to_string()).collect();
        all.push(rest.to_owned());
        all.join(":")
    }

    /// Where the program `name` is on the host.
    pub fn on_host(&self, name: &str) -> PathBuf {
        self.at(&self.root, name)
    }

    /// Where the program `name` is below `root`; the bare name if no part has it.
    pub fn at(&self, root: &Path, name: &str) -> PathBuf {
        let part = PARTS.iter().find(|part| part.programs.iter().any(|program| program.name == name));
        match part.and_then(|part| self.keys.get_key_value(part.name)) {
            Some((part, key)) => root.join(format!("{part}-{key}")).join(name),
            None => name.into(),
        }
    }

    /// The PATH entry for use on the host.
    pub fn host_path(&self) -> String {
        self.path(&self.root, &std::env::var("PATH").unwrap_or_default())
    }
}

/// Makes sure that every part is built; prints a line for each that had to be, or one when all were there.
pub fn ensure(home: &Home, verbose: bool) -> Result<Programs> {
    let toolchain = toolchain()?;
    let keys: BTreeMap<String, String> =
        PARTS.iter().map(|part| (part.name.to_owned(), part.key(&toolchain, SOURCES))).collect();
    let programs = Programs { keys, root: home.programs() };
    if !verbose && PARTS.iter().all(|part| is_built(&programs, part)) {
        progress::cached("programs");
        return Ok(programs);
    }
    let _lock = lock::take(&home.building(), "another command that builds programs")?;
    let missing: Vec<&Part> = PARTS.iter().filter(|part| !is_built(&programs, part)).collect();
    if !missing.is_empty() {
        debian::install(debian::BUILD)?;
        let sources = write_sources(home)?;
        progress::step("download Go modules", |note| download(&sources, &missing, note))?;
        for part in PARTS {
            match is_built(&programs, part) {
                true => progress::cached(&title(part)),
                false => progress::step(&title(part), |note| build(part, &programs, &sources, note))?,
            }
        }
        forget_old(home, &programs)?;
    } else {
        PARTS.iter().for_each(|part| progress::cached(&title(part)));
    }
    Ok(programs)
}

fn title(part: &Part) -> String {
    let names: Vec<&str> = part.programs.iter().map(|program| program.name).collect();
    format!("build {}", names.join(" "))
}

fn is_built(programs: &Programs, part: &Part) -> bool {
    part.programs.iter().all(|program| programs.on_host(program.name).is_file())
}

/// What the Go toolchain says of itself: version, system, processor.
fn toolchain() -> Result<String> {
    let advice = "Go 1.26.6 or newer is needed to build the test cluster; install it and put `go` on PATH";
    let output = Command::new("go").args(["env", "GOVERSION", "GOOS", "GOARCH"]).output().context(advice)?;
    if !output.status.success() {
        bail!("{advice}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Writes the module out. Go caches by content, so an unchanged file written again costs nothing.
fn write_sources(home: &Home) -> Result<PathBuf> {
    let root = home.sources();
    for (path, text) in SOURCES {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(root)
}

fn go(sources: &Path, cgo: bool) -> Command {
    let mut command = Command::new("go");
    // GOFLAGS and GOWORK of the caller would change what is built, and the key does not know them.
    command
        .current_dir(sources)
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOFLAGS", "")
        .env("GOWORK", "off");
    command
}

/// Downloads the modules that the missing parts need, and no more: `go mod download` would take twice as many.
fn download(sources: &Path, missing: &[&Part], note: &Note) -> Result<()> {
    for cgo in [false, true] {
        let parts = missing.iter().filter(|part| part.cgo == cgo);
        let packages: Vec<&str> = parts.flat_map(|part| part.programs).map(|program| program.package).collect();
        if !packages.is_empty() {
            let mut command = go(sources, cgo);
            command.args(["list", "-deps", "-mod=readonly", "-f", "", "-tags", "seccomp"]).args(packages);
            run(command, note)?;
        }
    }
    Ok(())
}

fn build(part: &Part, programs: &Programs, sources: &Path, note: &Note) -> Result<()> {
    let directory = programs.at(&programs.root, part.programs[0].name);
    let directory = directory.parent().context("a program without a directory")?;
    let unfinished = directory.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished).with_context(|| unfinished.display().to_string())?;
    let mut command = go(sources, part.cgo);
    command.arg("build").arg("-v").args(FLAGS).args(["-tags", part.tags]).arg("-ldflags").arg(part.ldflags());
    command.arg("-o").arg(format!("{}/", unfinished.display()));
    command.args(part.programs.iter().map(|program| program.package));
    run(command, note)?;
    for program in part.programs {
        let made = unfinished.join(default_name(program.package));
        fs::rename(&made, unfinished.join(program.name)).with_context(|| made.display().to_string())?;
    }
    let _ = fs::remove_dir_all(directory);
    fs::rename(&unfinished, directory).with_context(|| directory.display().to_string())
}

/// The file name that `go build` gives a package's program: the last element that is not a major version.
fn default_name(package: &str) -> &str {
    let is_version = |element: &str| element.strip_prefix('v').is_some_and(|digits| digits.parse::<u32>().is_ok());
    package.rsplit('/').find(|element| !is_version(element)).unwrap_or(package)
}

/// Runs a command, telling what it prints as progress, and all of it when it fails.
fn run(mut command: Command, note: &Note) -> Result<()> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("go")?;
    let (mut said, mut compiled) = (Vec::new(), 0_u32);
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.starts_with("go: downloading ") || line.contains(' ') || line.starts_with('#') {
                note.set(line.trim_start_matches("go: "));
                said.push(line);
            } else {
                // With -v a line is the name of a package that was compiled.
                compiled += 1;
                note.set(format!("{compiled} packages compiled, {line}"));
            }
        }
    }
    let status = child.wait().context("go")?;
    if !status.success() {
        let errors: Vec<&str> =
            said.iter().map(String::as_str).filter(|line| !line.starts_with("go: downloading ")).collect();
        bail!("{command:?} ended with {status}:\n{}", errors.join("\n"));
    }
    Ok(())
}

/// Removes programs of other keys that no cluster runs: each set is half a gigabyte.
fn forget_old(home: &Home, programs: &Programs) -> Result<()> {
    let mut wanted: Vec<String> = programs.keys.iter().map(|(part, key)| format!("{part}-{key}")).collect();
    for cluster in fs::read_dir(home.clusters()).into_iter().flatten().flatten() {
        let state = crate::state::State::read(&cluster.path().join("cluster.json")).ok().flatten();
        wanted.extend(state.into_iter().flat_map(|state| state.parts).map(|(part, key)| format!("{part}-{key}")));
    }
    for entry in fs::read_dir(home.programs())?.flatten() {
        if !wanted.iter().any(|name| entry.file_name() == name.as_str()) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_names_a_program_after_its_package_and_not_after_a_major_version() {
        assert_eq!(default_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(default_name("./coredns"), "coredns");
        assert_eq!(default_name("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
    }

    #[test]
    fn programs_of_other_keys_are_removed_and_what_images_are_made_of_is_not() {
        let root = std::env::temp_dir().join(format!("gantry-programs-{}", std::process::id()));
        let home = Home::find(|name| (name == "GANTRY_CACHE").then(|| root.clone().into())).unwrap();
        let (old, new) = (home.programs().join("etcd-k0"), home.programs().join("etcd-k1"));
        let image = home.path().join("parts/base-k0.tar");
        for directory in [&old, &new, &home.path().join("parts")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(&image, "").unwrap();
        let programs = Programs { keys: [("etcd".to_owned(), "k1".to_owned())].into(), root: home.programs() };
        forget_old(&home, &programs).unwrap();
        assert_eq!((old.exists(), new.exists(), image.exists()), (false, true, true));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_program_is_found_in_its_part_and_an_unknown_one_on_the_path() {
        let keys = [("etcd".to_owned(), "k1".to_owned())].into();
        let programs = Programs { keys, root: "/cache".into() };
        assert_eq!(programs.on_host("etcd"), PathBuf::from("/cache/etcd-k1/etcd"));
        assert_eq!(programs.on_host("iptables"), PathBuf::from("iptables"));
        assert_eq!(programs.path(Path::new("/x"), "/bin"), "/x/etcd-k1:/bin");
    }
}
