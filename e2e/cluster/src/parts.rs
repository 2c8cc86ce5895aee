//! The programs a cluster is made of, and the content key under which each part of them is kept.

use sha2::{Digest, Sha256};

/// A file of the Go module that is carried inside this program, so that it can build wherever it is run.
pub const SOURCES: &[(&str, &str)] = &[
    ("go.mod", include_str!("../go/go.mod")),
    ("go.sum", include_str!("../go/go.sum")),
    ("coredns/main.go", include_str!("../go/coredns/main.go")),
    ("pause/main.go", include_str!("../go/pause/main.go")),
    ("probe/main.go", include_str!("../go/probe/main.go")),
];

/// The flags of every build. Without DWARF a cold build compiles 5 % faster and its cache is a quarter smaller.
pub const FLAGS: &[&str] = &["-trimpath", "-buildvcs=false", "-mod=readonly", "-gcflags=all=-dwarf=false"];

/// The Kubernetes release in `go/go.mod`.
pub const KUBERNETES: &str = "1.36.3";
/// The helm release in `go/go.mod`.
const HELM: &str = "4.3.1";

/// A package to build and the name its program gets.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Import path, or `./directory` in the module.
    pub package: &'static str,
    /// File name.
    pub name: &'static str,
}

/// Programs that are built, kept and thrown away together.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// A short name, for people and paths.
    pub name: &'static str,
    /// What is in it.
    pub programs: &'static [Program],
    /// Build tags.
    pub tags: &'static str,
    /// Whether it needs a C compiler.
    pub cgo: bool,
}

const fn program(package: &'static str, name: &'static str) -> Program {
    Program { package, name }
}

/// All parts, in the order in which they are built: what others share comes first.
pub const PARTS: &[Part] = &[
    Part {
        name: "kubernetes",
        programs: &[
            program("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            program("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
            program("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
            program("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
            program("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            program("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ],
        tags: "",
        cgo: false,
    },
    Part { name: "etcd", programs: &[program("go.etcd.io/etcd/server/v3", "etcd")], tags: "", cgo: false },
    Part { name: "dns", programs: &[program("./coredns", "coredns")], tags: "", cgo: false },
    Part {
        name: "containerd",
        programs: &[
            program("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
            program("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            program("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
            program("github.com/containernetworking/plugins/plugins/main/bridge", "bridge"),
            program("github.com/containernetworking/plugins/plugins/main/loopback", "loopback"),
            program("github.com/containernetworking/plugins/plugins/ipam/host-local", "host-local"),
            program("github.com/containernetworking/plugins/plugins/meta/portmap", "portmap"),
        ],
        // Snapshotters that nothing here uses.
        tags: "no_btrfs,no_zfs,no_devmapper",
        cgo: false,
    },
    Part {
        name: "images",
        programs: &[program("./pause", "pause"), program("./probe", "probe")],
        tags: "",
        cgo: false,
    },
    // Without seccomp every pod that asks for a profile fails, and "restricted" pods must ask for one.
    Part { name: "runc", programs: &[program("github.com/opencontainers/runc", "runc")], tags: "seccomp", cgo: true },
    Part { name: "helm", programs: &[program("helm.sh/helm/v4/cmd/helm", "helm")], tags: "", cgo: false },
];

impl Part {
    /// What the linker is told: no symbol tables, and the versions that the programs report.
    pub fn ldflags(&self) -> String {
        let version = match self.name {
            "kubernetes" => {
                let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
                let base = "k8s.io/component-base/version";
                format!(
                    " -X {base}.gitVersion=v{KUBERNETES} -X {base}.gitMajor=1 -X {base}.gitMinor={minor} -X {base}.gitTreeState=clean"
                )
            }
            "helm" => format!(" -X helm.sh/helm/v4/internal/version.version=v{HELM}"),
            _ => String::new(),
        };
        format!("-s -w{version}")
    }

    /// The content key: equal keys mean equal programs. `toolchain` is what the Go toolchain says of itself.
    pub fn key(&self, toolchain: &str, sources: &[(&str, &str)]) -> String {
        let mut hash = Sha256::new();
        // Every field is ended by a zero, so that no two lists of fields can look alike.
        let mut add = |field: &str| {
            hash.update(field.as_bytes());
            hash.update([0]);
        };
        for field in [self.name, toolchain, self.tags, &self.ldflags(), if self.cgo { "cgo" } else { "static" }] {
            add(field);
        }
        FLAGS.iter().copied().for_each(&mut add);
        for program in self.programs {
            add(program.package);
            add(program.name);
        }
        for (path, text) in sources.iter().filter(|(path, _)| self.reads(path)) {
            add(path);
            add(text);
        }
        hex(&hash.finalize())[..16].to_owned()
    }

    /// Whether a source file has a say in this part: the module files have in all, a directory in what is built from it.
    fn reads(&self, path: &str) -> bool {
        match path.rsplit_once('/') {
            None => true,
            Some((directory, _)) => self.programs.iter().any(|program| program.package == format!("./{directory}")),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> &'static Part {
        PARTS.iter().find(|part| part.name == name).unwrap()
    }

    #[test]
    fn a_key_changes_with_the_toolchain_and_the_module_files() {
        let (a, b) = ([("go.mod", "a")], [("go.mod", "b")]);
        let key = part("etcd").key("go1.26.6", &a);
        assert_eq!(key, part("etcd").key("go1.26.6", &a));
        assert_ne!(key, part("etcd").key("go1.26.7", &a));
        assert_ne!(key, part("etcd").key("go1.26.6", &b));
        assert_ne!(key, part("runc").key("go1.26.6", &a));
    }

    #[test]
    fn a_source_directory_concerns_only_the_part_that_is_built_from_it() {
        let (a, b) = ([("coredns/main.go", "a")], [("coredns/main.go", "b")]);
        assert_ne!(part("dns").key("go", &a), part("dns").key("go", &b));
        assert_eq!(part("etcd").key("go", &a), part("etcd").key("go", &b));
    }

    #[test]
    fn the_versions_that_programs_report_are_those_of_the_module_file() {
        let module = SOURCES[0].1;
        assert!(module.contains(&format!("k8s.io/kubernetes v{KUBERNETES}")));
        assert!(module.contains(&format!("helm.sh/helm/v4 v{HELM}")));
        assert!(part("kubernetes").ldflags().contains("gitMinor=36"));
    }

    #[test]
    fn no_two_programs_share_a_name() {
        let mut names: Vec<_> = PARTS.iter().flat_map(|part| part.programs).map(|program| program.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
