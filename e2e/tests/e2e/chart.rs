//! The chart as its users use it: a first cluster by values, `helm test`, an upgrade, an uninstall that keeps what is theirs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::clients::{Client, Clients};
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

/// A topic and a group in the release's cluster, and five messages that nobody has read yet. Returns what receives them.
fn unread(system: &Namespace) -> Result<String> {
    system.apply(
        "{apiVersion: v1, kind: List, items: [
          {apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {name: kept}, spec: {clusterRef: {name: first}}},
          {apiVersion: rocketmq.gantry.dev/v1alpha1, kind: ConsumerGroup, metadata: {name: kept-readers}, spec: {clusterRef: {name: first}}}]}",
    )?;
    for object in ["topics.rocketmq.gantry.dev/kept", "consumergroups.rocketmq.gantry.dev/kept-readers"] {
        system.wait_for_condition(object, "Ready", "True", Duration::from_secs(90))?;
    }
    let run = format!("kept-{}", std::process::id());
    let to = format!("--protocol grpc --endpoint first-proxy-default.gantry-system:8081 --topic kept --run {run}");
    Clients::start(system)?.summary(Client::Java, &format!("produce {to} --type normal --count 5 --attempts 5"))?;
    Ok(format!("consume {to} --consumer-group kept-readers --mode push --expect 5 --timeout 120 --quiet --abandon"))
}

#[test]
fn the_chart_makes_a_cluster_tests_it_upgrades_and_leaves_it_when_it_goes() -> Result<()> {
    let shop = Shop::alone()?;
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
    let receive = unread(&system)?;
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
    let got = Clients::start(&system)?.summary(Client::Java, &receive)?;
    ensure!(got["distinct"] == 5 && got["bad_bodies"] == 0, "{got}");
    system.kubectl(&[
        "delete",
        "topics.rocketmq.gantry.dev/kept",
        "consumergroups.rocketmq.gantry.dev/kept-readers",
    ])?;
    system.kubectl(&["delete", "pod/clients", "--wait=false"])?;
    system.kubectl(&["delete", "brokercluster/first", "--wait=true", "--timeout=120s"])?;
    Ok(())
}
