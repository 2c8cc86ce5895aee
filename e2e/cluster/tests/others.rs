//! Clusters that others run: what is asked of `kind`, `kubectl` and what pushes images, by programs in their place that write down their words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with programs that write down how they were called, and succeed.
struct Fakes(PathBuf);

impl Fakes {
    fn new(name: &str, programs: &[&str]) -> Fakes {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        let said = folder.join("said").display().to_string();
        for program in programs {
            let file = folder.join("bin").join(program);
            fs::write(&file, format!("#!/bin/sh\necho \"{program} $*\" >>'{said}'\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Fakes(folder)
    }

    /// `gantry-cluster`, for which there are no other programs than these.
    fn run(&self, line: &str, vars: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gantry-cluster"))
            .args(line.split(' '))
            .env_clear()
            .env("PATH", self.0.join("bin"))
            .env("GANTRY_CACHE", self.0.join("cache"))
            .envs(vars.iter().copied())
            .output()
            .unwrap()
    }

    fn succeeds(&self, line: &str, vars: &[(&str, &str)]) -> String {
        let output = self.run(line, vars);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, line: &str, vars: &[(&str, &str)]) -> String {
        let output = self.run(line, vars);
        assert!(!output.status.success(), "{line} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What was said since the last time, without the paths of this test.
    fn said(&self) -> Vec<String> {
        let file = self.0.join("said");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        text.lines().map(|line| line.replace(&self.0.display().to_string(), "")).collect()
    }

    /// A docker-archive of one image, as a line of words can name it.
    fn archive(&self, image: &str) -> String {
        let path = self.0.join("image.tar");
        let manifest = format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"{image}\"],\"Layers\":[]}}]");
        let mut tar = Vec::new();
        for (name, content) in [("manifest.json", manifest.as_str()), ("config.json", "{}")] {
            let mut header = [0_u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
            tar.extend(header);
            tar.extend(content.as_bytes());
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.extend([0; 1024]);
        fs::write(&path, tar).unwrap();
        path.display().to_string()
    }
}

const MINE: [(&str, &str); 2] = [("KUBECONFIG", "/home/me/config"), ("CONTEXT", "staging")];

fn mine_with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&MINE, more].concat()
}

#[test]
fn a_cluster_that_is_named_is_used_and_nothing_is_built_for_it() {
    let fakes = Fakes::new("named", &["kubectl", "kind", "docker"]);
    fakes.succeeds("build", &MINE);
    assert_eq!(fakes.said(), [""; 0]);
    fakes.succeeds("up", &MINE);
    let asked = "kubectl --kubeconfig /home/me/config --context staging --request-timeout=10s get --raw /readyz";
    assert_eq!(fakes.said(), [asked]);
    fakes.succeeds("kubectl -- get nodes", &MINE);
    assert_eq!(fakes.said(), ["kubectl get nodes"]);
    fakes.succeeds("down", &MINE);
    assert_eq!(fakes.said(), [""; 0]);
}

#[test]
fn images_of_a_cluster_that_is_named_are_pushed_to_its_registry() {
    let fakes = Fakes::new("pushed", &["kubectl", "skopeo"]);
    let archive = fakes.archive("gantry/rocketmq:5.5.0");
    let registry = mine_with(&[("GANTRY_REGISTRY", "r.example/team")]);
    fakes.succeeds(&format!("load {archive}"), &registry);
    assert_eq!(
        fakes.said(),
        ["skopeo copy docker-archive:/image.tar:gantry/rocketmq:5.5.0 docker://r.example/team/gantry/rocketmq:5.5.0"]
    );
    assert_eq!(fakes.succeeds("image gantry/operator:1", &registry), "r.example/team/gantry/operator:1\n");
    // What the scripts hand to Helm is a name of the engine's versions.
    assert_eq!(
        fakes.succeeds("image gantry/rocketmq:{version}", &registry),
        "r.example/team/gantry/rocketmq:{version}\n"
    );
}

#[test]
fn images_that_the_nodes_have_already_are_left_alone() {
    let fakes = Fakes::new("present", &["kubectl", "skopeo"]);
    let archive = fakes.archive("gantry/rocketmq:5.5.0");
    let present = mine_with(&[("GANTRY_IMAGES", "present")]);
    fakes.succeeds(&format!("load {archive}"), &present);
    assert_eq!(fakes.said(), [""; 0]);
    assert_eq!(fakes.succeeds("image gantry/operator:1", &present), "gantry/operator:1\n");
}

#[test]
fn without_a_registry_or_a_tool_it_is_said_what_to_do() {
    let fakes = Fakes::new("nothing", &["kubectl"]);
    let archive = fakes.archive("gantry/rocketmq:5.5.0");
    let load = format!("load {archive}");
    assert!(fakes.fails(&load, &MINE).contains("set GANTRY_REGISTRY"));
    let registry = mine_with(&[("GANTRY_REGISTRY", "r.example/team")]);
    assert!(fakes.fails(&load, &registry).contains("install skopeo"));
}

#[test]
fn kind_is_asked_for_a_cluster_where_a_container_engine_answers() {
    let fakes = Fakes::new("kind", &["kind", "docker"]);
    fakes.succeeds("--name other build", &[]);
    fakes.succeeds("--name other up --nodes 3", &[]);
    let archive = fakes.archive("gantry/rocketmq:5.5.0");
    // A registry is for clusters that are named.
    fakes.succeeds(&format!("--name other load {archive}"), &[("GANTRY_REGISTRY", "r.example/team")]);
    assert_eq!(
        fakes.succeeds("--name other image gantry/operator:1", &[("GANTRY_REGISTRY", "r.example")]),
        "gantry/operator:1\n"
    );
    assert!(fakes.fails("--name other traces", &[]).contains("files "));
    fakes.succeeds("--name other down", &[]);
    fakes.succeeds("--name other traces", &[]);
    let said: Vec<String> = fakes.said().into_iter().filter(|line| line != "docker info").collect();
    assert_eq!(
        said,
        [
            "kind create cluster --wait=120s --name gantry-other --config /cache/clusters/other/kind.json --kubeconfig /cache/clusters/other/kubeconfig",
            "kind load image-archive --name gantry-other /image.tar",
            "kind delete cluster --name gantry-other",
        ]
    );
}
