//! The operator as it is released, as a process of its own, and what it says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

const CONTAINERFILE: &str = include_str!("../../Containerfile");
const LISTEN: &str = "127.0.0.1:18080";

/// What the operator's image sets.
fn image_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = CONTAINERFILE.lines().filter_map(|line| line.strip_prefix("ENV "));
    lines.flat_map(str::split_whitespace).filter_map(|variable| variable.split_once('='))
}

/// A running operator; killed with it.
pub struct Operator(Child);

impl Operator {
    /// Starts one for namespace `bench`, with its log in `folder`.
    pub fn start(kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("operator.log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_gantry"))
            .args(["run", "--listen", LISTEN, "--watch-namespaces", "bench", "--namespace", "bench"])
            .env("KUBECONFIG", kubeconfig)
            .envs(image_environment())
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log))
            .spawn()?;
        Ok(Self(child))
    }

    /// Its figures, by name with labels.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: gantry\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let lines = text.lines().filter(|l| l.starts_with("gantry_"));
        Ok(lines
            .filter_map(|l| l.rsplit_once(' '))
            .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
            .collect())
    }

    /// Resident memory now and at its highest, in MiB.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find(|l| l.starts_with(name)).with_context(|| name.to_owned())?;
            let kilobytes: f64 = line.split_whitespace().nth(1).context("a figure")?.parse()?;
            Ok(kilobytes / 1024.0)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Seconds of processor time that it took so far.
    pub fn processor(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let ticks: f64 = stat.split_whitespace().skip(13).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sum of the figures of this name, all labels or those that hold `with`.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str, with: &str) -> f64 {
    metrics.iter().filter(|(k, _)| k.starts_with(name) && k.contains(with)).map(|(_, v)| v).sum()
}
