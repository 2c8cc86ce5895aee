//! The chart as its users use it: a first cluster by values, `helm test`, an upgrade, an uninstall that keeps what is theirs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::kubectl::Namespace;

use crate::shop::{START, Shop};

const RELEASE: [&str; 3] = ["gantry", "--namespace", "gantry-system"];
/// A first cluster of the release, small, kept when the release goes.
const FIRST: &str = r#"{"create": true, "name": "first", "annotations": {"helm.sh/resource-policy": "keep"},
  "spec": {"brokers": {"storage": {"size": "1Gi", "reclaimPolicy": "Delete"}}}}"#;

fn helm(words: &[&str]) -> Result<String> {
    let output = Command::new("helm").args(words).output().context("helm is not on the PATH")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "helm {}: {said}{}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

fn release(verb: &str, more: &[&str]) -> Result<String> {
    let mut words: Vec<&str> = verb.split(' ').collect();
    words.extend(RELEASE);
    words.extend(more);
    helm(&words)
}

fn with_chart(verb: &str, more: &[&str]) -> Result<String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/gantry");
    let chart = chart.to_string_lossy();
    let mut words = vec![verb, RELEASE[0], &*chart];
    words.extend(&RELEASE[1..]);
    words.extend(["--wait", "--timeout", "3m"]);
    words.extend(more);
    helm(&words)
}

#[test]
fn the_chart_makes_a_cluster_tests_it_upgrades_and_leaves_it_when_it_goes() -> Result<()> {
    let shop = Shop::ready()?;
    let system = Namespace { name: "gantry-system".into() };
    let first = format!("brokerCluster={FIRST}");
    with_chart("upgrade", &["--reuse-values", "--set-json", &first])?;
    system.wait_for_condition("brokercluster/first", "Ready", "True", START)?;
    println!("{}", release("test", &["--timeout", "5m"])?);

    let identity = || -> Result<String> {
        let cluster = system.get("brokercluster/first")?["metadata"]["uid"].to_string();
        let volume = system.get("pvc/data-first-broker-0-0")?["metadata"]["uid"].to_string();
        let pod = system.get("pod/first-broker-0-0")?["metadata"]["uid"].to_string();
        let other = shop.namespace.get("pod/shop-broker-0-0")?["metadata"]["uid"].to_string();
        Ok([cluster, volume, pod, other].join(" "))
    };
    let before = identity()?;
    with_chart("upgrade", &["--reuse-values", "--set-json", &first])?;
    ensure!(identity()? == before, "an upgrade without a change changed something: {before} became {}", identity()?);

    let values = release("get values", &["-o", "json"])?;
    let file = std::env::temp_dir().join(format!("values-{}.json", std::process::id()));
    std::fs::write(&file, values)?;
    release("uninstall", &["--wait", "--timeout", "2m"])?;
    ensure!(identity()? == before, "an uninstall took something along: {before} became {}", identity()?);
    let again =
        with_chart("install", &["-f", &file.to_string_lossy(), "--set-json", r#"brokerCluster={"create": false}"#]);
    std::fs::remove_file(&file)?;
    again?;
    system.wait_for_condition("brokercluster/first", "Degraded", "False", Duration::from_secs(120))?;
    ensure!(identity()? == before, "another operator restarted something: {before} became {}", identity()?);
    system.kubectl(&["delete", "brokercluster/first", "--wait=true", "--timeout=120s"])?;
    Ok(())
}
