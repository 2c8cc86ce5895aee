//! The control plane's processes: how each is called. Pure: paths in, command lines out.

use std::path::Path;

use serde_json::{Value, json};

use crate::build::Programs;
use crate::certs::inside_server;
use crate::control::Spec;
use crate::network::{API_PORT, CONTROL_PLANE, DNS_SERVICE, DOMAIN, PODS, SERVICES, node_name};
use crate::paths::{INSIDE, INSIDE_PARTS};

/// How long a silent node is believed. Kubernetes' own 50 s would make every test of a node's loss a minute long; less than 20 s would
/// lose nodes on a machine whose two cores start a dozen JVMs.
const NODE_GRACE: &str = "20s";
/// How long pods stay on a lost node (Kubernetes: 300 s), in seconds.
const TOLERATION: u32 = 30;

/// A process of the sandbox, logged under its own name.
pub fn spec(programs: &Programs, name: &str, program: &str, arguments: &[String]) -> Spec {
    let program = programs.at(Path::new(INSIDE_PARTS), program).display().to_string();
    let argv = std::iter::once(program).chain(arguments.iter().cloned()).collect();
    Spec { name: name.to_owned(), argv, log: format!("{INSIDE}/log/{name}.log"), restart: true }
}

/// A file in the state directory, as the cluster's processes see it.
pub fn inside(path: &str) -> String {
    format!("{INSIDE}/{path}")
}

fn cert(name: &str) -> String {
    inside(&format!("certs/{name}"))
}

/// `--name=value` for each pair.
pub fn flags<const N: usize>(pairs: [(&str, &str); N]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// etcd, reachable inside the namespace only; without fsync, because a test cluster's data need not survive the machine.
pub fn etcd() -> Vec<String> {
    flags([
        ("name", "default"),
        ("data-dir", &inside("etcd")),
        ("listen-client-urls", "http://127.0.0.1:2379"),
        ("advertise-client-urls", "http://127.0.0.1:2379"),
        ("listen-peer-urls", "http://127.0.0.1:2380"),
        ("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
        ("initial-cluster", "default=http://127.0.0.1:2380"),
        ("unsafe-no-fsync", "true"),
        // Milliseconds. A lone member elects itself when this time is over: at the default it is a second of every start.
        ("heartbeat-interval", "20"),
        ("election-timeout", "200"),
        ("auto-compaction-retention", "5m"),
        ("log-level", "warn"),
    ])
}

/// The API server. Admission, priority and fairness, CRDs and policies are at their defaults, which are on.
pub fn apiserver() -> Vec<String> {
    flags([
        ("etcd-servers", "http://127.0.0.1:2379"),
        ("bind-address", "0.0.0.0"),
        ("advertise-address", CONTROL_PLANE),
        ("secure-port", &API_PORT.to_string()),
        ("tls-cert-file", &cert("apiserver.crt")),
        ("tls-private-key-file", &cert("apiserver.key")),
        ("client-ca-file", &cert("ca.crt")),
        ("kubelet-certificate-authority", &cert("ca.crt")),
        ("kubelet-client-certificate", &cert("apiserver-kubelet.crt")),
        ("kubelet-client-key", &cert("apiserver-kubelet.key")),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("service-account-issuer", &format!("https://kubernetes.default.svc.{DOMAIN}")),
        ("service-account-key-file", &cert("sa.pub")),
        ("service-account-signing-key-file", &cert("sa.key")),
        ("service-cluster-ip-range", SERVICES),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("allow-privileged", "true"),
        ("default-not-ready-toleration-seconds", &TOLERATION.to_string()),
        ("default-unreachable-toleration-seconds", &TOLERATION.to_string()),
        ("profiling", "false"),
    ])
}

/// The controller manager, quick to react, and with the provisioner that makes volumes of directories.
pub fn controller_manager() -> Vec<String> {
    let kubeconfig = inside("controller-manager.kubeconfig");
    flags([
        ("kubeconfig", &kubeconfig),
        ("authentication-kubeconfig", &kubeconfig),
        ("authorization-kubeconfig", &kubeconfig),
        ("authentication-skip-lookup", "true"),
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "false"),
        ("use-service-account-credentials", "true"),
        ("service-account-private-key-file", &cert("sa.key")),
        ("root-ca-file", &cert("ca.crt")),
        ("cluster-signing-cert-file", &cert("ca.crt")),
        ("cluster-signing-key-file", &cert("ca.key")),
        ("cluster-name", "gantry"),
        ("enable-hostpath-provisioner", "true"),
        ("node-monitor-period", "2s"),
        ("node-monitor-grace-period", NODE_GRACE),
        ("pvclaimbinder-sync-period", "5s"),
        ("concurrent-statefulset-syncs", "10"),
        ("concurrent-service-endpoint-syncs", "10"),
        ("kube-api-qps", "200"),
        ("kube-api-burst", "400"),
        ("profiling", "false"),
    ])
}

/// The scheduler.
pub fn scheduler() -> Vec<String> {
    let kubeconfig = inside("scheduler.kubeconfig");
    flags([
        ("kubeconfig", &kubeconfig),
        ("authentication-kubeconfig", &kubeconfig),
        ("authorization-kubeconfig", &kubeconfig),
        ("authentication-skip-lookup", "true"),
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "false"),
        ("profiling", "false"),
    ])
}

/// kube-proxy, for a node, and for the control plane's namespace: there tests run, and reach Services by its rules.
/// In the latter it goes by the first node's name, because without a node of its name it waits half a minute before it starts.
pub fn proxy(node: u32) -> Vec<String> {
    flags([
        ("kubeconfig", &inside("proxy.kubeconfig")),
        ("hostname-override", &node_name(node)),
        ("proxy-mode", "iptables"),
        ("cluster-cidr", PODS),
        ("healthz-bind-address", ""),
        ("metrics-bind-address", "127.0.0.1:10249"),
        // The default collects changes for a second: that is a second of every pod's way into its Service.
        ("iptables-min-sync-period", "200ms"),
        // These are settings of the machine, not of a namespace: leave them alone.
        ("conntrack-max-per-core", "0"),
        ("conntrack-tcp-timeout-established", "0"),
        ("conntrack-tcp-timeout-close-wait", "0"),
    ])
}

/// CoreDNS' command line.
pub fn coredns() -> Vec<String> {
    vec!["-conf".into(), inside("Corefile")]
}

/// CoreDNS' configuration. No cache, and answers that live one second: a pod's name follows it as soon as its endpoint is known.
/// Whatever is not the cluster's does not exist, and is told so at once rather than refused and tried again.
pub fn corefile() -> String {
    let kubeconfig = inside("coredns.kubeconfig");
    format!(
        "{DOMAIN}:53 in-addr.arpa:53 {{\n  bind {CONTROL_PLANE}\n  errors\n  ready 127.0.0.1:8181\n  kubernetes {DOMAIN} in-addr.arpa {{\n    \
         kubeconfig {kubeconfig}\n    pods insecure\n    ttl 1\n  }}\n}}\n.:53 {{\n  bind {CONTROL_PLANE}\n  template ANY ANY . {{\n    rcode NXDOMAIN\n  }}\n}}\n"
    )
}

/// What processes in the cluster's network use to find names.
pub fn resolv_conf() -> String {
    format!(
        "nameserver {CONTROL_PLANE}\nsearch default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5 timeout:1 attempts:3\n"
    )
}

/// The processes that have a kubeconfig of their own, which is also their certificate's name.
pub const KUBECONFIGS: &[&str] = &["controller-manager", "scheduler", "proxy", "coredns"];

/// The server's address for all of them.
pub fn server() -> String {
    inside_server()
}

/// The objects that a cluster starts with: the default StorageClass and the DNS server's rights and Service.
pub fn addons() -> Value {
    let labels = json!({"k8s-app": "kube-dns"});
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/host-path", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
            // The provisioner makes directories, which have no size: that they have grown is for the one to say who asked.
            "allowVolumeExpansion": true,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": DNS_SERVICE, "ports": ports.map(|(name, protocol)| json!({"name": name, "protocol": protocol, "port": 53}))},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [CONTROL_PLANE], "conditions": {"ready": true}}],
            "ports": ports.map(|(name, protocol)| json!({"name": name, "protocol": protocol, "port": 53})),
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(flags: &[String], flag: &str) -> bool {
        flags.iter().any(|given| given == flag)
    }

    #[test]
    fn the_api_server_checks_who_asks_and_what_they_may() {
        let flags = apiserver();
        assert!(has(&flags, "--authorization-mode=Node,RBAC"));
        assert!(has(&flags, "--client-ca-file=/run/gantry/state/certs/ca.crt"));
        assert!(has(&flags, "--kubelet-certificate-authority=/run/gantry/state/certs/ca.crt"));
        assert!(!flags.iter().any(|flag| flag.starts_with("--disable-admission-plugins") || flag.contains("insecure")));
    }

    #[test]
    fn nothing_of_the_control_plane_but_the_api_server_leaves_the_loopback() {
        for flags in [etcd(), controller_manager(), scheduler()] {
            assert!(!flags.iter().any(|flag| flag.contains("0.0.0.0")), "{flags:?}");
        }
    }

    #[test]
    fn kube_proxy_leaves_the_machines_settings_alone() {
        let flags = proxy(2);
        assert!(has(&flags, "--hostname-override=node2"));
        assert_eq!(flags.iter().filter(|flag| flag.starts_with("--conntrack-") && flag.ends_with("=0")).count(), 3);
    }

    #[test]
    fn names_outside_the_cluster_do_not_exist_and_nothing_is_cached() {
        let text = corefile();
        assert!(text.contains("rcode NXDOMAIN") && text.contains("ttl 1\n"));
        assert!(!text.contains("cache") && !text.contains("forward"));
    }

    #[test]
    fn the_default_storage_class_deletes_its_volumes() {
        let addons = addons();
        let class = addons["items"].as_array().unwrap().iter().find(|item| item["kind"] == "StorageClass").unwrap();
        assert_eq!(class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"], "true");
        assert_eq!(class["reclaimPolicy"], "Delete");
    }
}
