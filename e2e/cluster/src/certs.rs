//! The cluster's certificate authority, its certificates and the kubeconfigs made of them.
//!
//! Made by the openssl program: a Rust library for it would compile longer than all of this tool. P-256 keys, because they take a
//! millisecond to make where RSA ones take hundreds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::network::{API_PORT, API_SERVICE, CONTROL_PLANE, DOMAIN, node_address, node_name};

/// Ten years: a cluster of tests does not live that long, and nothing renews these.
const DAYS: &str = "3650";
/// Without a file of its own openssl adds extensions from the system's.
const OPENSSL_CONFIG: &str = "[req]\ndistinguished_name = dn\n[dn]\n";

/// One certificate to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// File name without ending.
    pub name: String,
    /// The subject: `/O=group/CN=user`, which RBAC reads as group and user.
    pub subject: String,
    /// Names and addresses of a server; empty for a client.
    pub names: String,
}

/// The certificates of a cluster with `nodes` nodes.
pub fn wanted(nodes: u32) -> Vec<Wanted> {
    let client =
        |name: &str, subject: &str| Wanted { name: name.into(), subject: subject.into(), names: String::new() };
    let api_names = format!(
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.{DOMAIN},DNS:localhost,\
         IP:{API_SERVICE},IP:{CONTROL_PLANE},IP:127.0.0.1"
    );
    let mut all = vec![
        Wanted { name: "apiserver".into(), subject: "/CN=kube-apiserver".into(), names: api_names },
        client("admin", "/O=system:masters/CN=admin"),
        client("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
        client("controller-manager", "/CN=system:kube-controller-manager"),
        client("scheduler", "/CN=system:kube-scheduler"),
        client("proxy", "/CN=system:kube-proxy"),
        client("coredns", "/CN=system:coredns"),
    ];
    // Kubelet is a client of the API server and a server to it, for logs, exec and port-forward.
    all.extend((0..nodes).map(|index| {
        let name = node_name(index);
        Wanted {
            subject: format!("/O=system:nodes/CN=system:node:{name}"),
            names: format!("DNS:{name},IP:{}", node_address(index)),
            name,
        }
    }));
    all
}

/// Makes the authority, the key that signs service account tokens and all certificates in `directory`.
pub fn make(directory: &Path, cluster: &str, wanted: &[Wanted]) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("openssl.cnf"), OPENSSL_CONFIG)?;
    let authority = request(directory, "ca", &format!("/CN=gantry-{cluster}"))
        .args(["-addext", "basicConstraints=critical,CA:TRUE"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .output();
    check(authority, "the certificate authority")?;
    // The API server does not find the public key in a PKCS #8 private one: it gets it in a file of its own.
    let token_keys: [&[&str]; 2] = [
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "sa.key"],
        &["pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
    ];
    for arguments in token_keys {
        let output = Command::new("openssl").current_dir(directory).args(arguments).output();
        check(output, "the keys for service account tokens")?;
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = wanted.iter().map(|wanted| scope.spawn(|| sign(directory, wanted))).collect();
        all.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("making a certificate panicked")))
    })
}

fn request(directory: &Path, name: &str, subject: &str) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(["req", "-x509", "-config", "openssl.cnf", "-nodes", "-days", DAYS]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject]);
    command.arg("-keyout").arg(format!("{name}.key")).arg("-out").arg(format!("{name}.crt"));
    command
}

fn sign(directory: &Path, wanted: &Wanted) -> Result<()> {
    let mut command = request(directory, &wanted.name, &wanted.subject);
    command.args(["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]);
    match wanted.names.as_str() {
        "" => command.args(["-addext", "extendedKeyUsage=clientAuth"]),
        names => command.args([
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
            "-addext",
            &format!("subjectAltName={names}"),
        ]),
    };
    check(command.output(), &wanted.name)
}

fn check(output: std::io::Result<std::process::Output>, what: &str) -> Result<()> {
    let output = output.context("openssl")?;
    if !output.status.success() {
        bail!(
            "openssl could not make {what} (version 3 or newer is needed): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The API server's address inside the cluster's network.
pub fn inside_server() -> String {
    format!("https://{CONTROL_PLANE}:{API_PORT}")
}

/// Writes a kubeconfig for the owner of the certificate `user`, complete in itself. `context` names the cluster for people.
pub fn write_kubeconfig(certs: &Path, user: &str, context: &str, server: &str, to: PathBuf) -> Result<()> {
    let read = |file: &str| fs::read(certs.join(file)).with_context(|| file.to_owned());
    let (ca, cert, key) = (read("ca.crt")?, read(&format!("{user}.crt"))?, read(&format!("{user}.key"))?);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": base64(&ca)}}],
        "users": [{"name": user, "user": {"client-certificate-data": base64(&cert), "client-key-data": base64(&key)}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
    });
    let new = to.with_extension("new");
    fs::write(&new, serde_json::to_string_pretty(&config)?).with_context(|| new.display().to_string())?;
    // Whoever reads the administrator's key is administrator.
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    fs::rename(&new, &to).with_context(|| to.display().to_string())
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_what_is_not_a_multiple_of_three() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn every_node_has_a_certificate_for_its_name_and_address() {
        let all = wanted(2);
        let node = all.iter().find(|wanted| wanted.name == "node1").unwrap();
        assert_eq!(node.subject, "/O=system:nodes/CN=system:node:node1");
        assert_eq!(node.names, "DNS:node1,IP:10.76.0.11");
        assert!(all.iter().filter(|wanted| wanted.names.is_empty()).all(|wanted| !wanted.name.starts_with("node")));
    }

    #[test]
    fn certificates_are_signed_by_the_clusters_own_authority() {
        let directory = std::env::temp_dir().join(format!("gantry-certs-{}", std::process::id()));
        make(&directory, "t", &wanted(1)).unwrap();
        let verify = |purpose: &str, file: &str| {
            let arguments = ["verify", "-CAfile", "ca.crt", "-purpose", purpose, file];
            Command::new("openssl").current_dir(&directory).args(arguments).output().unwrap().status.success()
        };
        assert!(verify("sslserver", "apiserver.crt"));
        assert!(verify("sslclient", "node0.crt") && verify("sslserver", "node0.crt"));
        assert!(verify("sslclient", "admin.crt"));
        assert!(!verify("sslserver", "admin.crt"), "a client's certificate must not serve");
        write_kubeconfig(&directory, "admin", "gantry-t", "https://x", directory.join("kubeconfig")).unwrap();
        let text = fs::read_to_string(directory.join("kubeconfig")).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["current-context"], "gantry-t");
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://x");
    }
}
