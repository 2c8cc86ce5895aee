//! What is broken by hand is put right; what is well is left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

/// The bound of the promise is 10 s from the watch event; the rest is this machine's.
const REPAIR: Duration = Duration::from_secs(30);
const OURS: &str = "app.kubernetes.io/managed-by=gantry,app.kubernetes.io/instance=shop";

#[test]
fn a_deleted_child_comes_back() -> Result<()> {
    let shop = Shop::ready()?;
    for child in ["service/shop-proxy-private", "poddisruptionbudget/shop-broker-0", "serviceaccount/shop-broker"] {
        let before = shop.namespace.get(child)?["metadata"]["uid"].clone();
        shop.namespace.kubectl(&["delete", child, "--wait=false"])?;
        until(&format!("{child} is back"), REPAIR, || {
            let uid = shop.namespace.get(child)?["metadata"]["uid"].clone();
            Ok(Answer::when(uid != before, (), || "it is still the old one".into()))
        })?;
    }
    Ok(())
}

#[test]
fn an_edited_child_is_put_right() -> Result<()> {
    let shop = Shop::ready()?;
    let patch = r#"{"spec":{"selector":{"app.kubernetes.io/component":"nobody"}}}"#;
    shop.namespace.kubectl(&["patch", "service/shop-proxy-private", "--type=merge", "-p", patch])?;
    until("the selector is right again", REPAIR, || {
        let selector =
            shop.namespace.get("service/shop-proxy-private")?["spec"]["selector"]["app.kubernetes.io/component"]
                .clone();
        Ok(Answer::when(selector == "proxy", (), || selector.to_string()))
    })
}

#[test]
fn replacing_every_name_server_pod_restarts_no_broker() -> Result<()> {
    let shop = Shop::ready()?;
    let brokers = || pods(&shop, "app.kubernetes.io/component=broker");
    let before = brokers()?;
    for pod in pods(&shop, "app.kubernetes.io/component=nameserver")?.keys() {
        shop.namespace.kubectl(&["delete", "pod", pod])?;
        until(&format!("{pod} is ready again"), Duration::from_secs(180), || {
            let pod = shop.namespace.get(&format!("pod/{pod}"))?;
            let ready = pod["status"]["containerStatuses"][0]["ready"] == true
                && pod["metadata"]["deletionTimestamp"].is_null();
            Ok(Answer::when(ready, (), || pod["status"]["phase"].to_string()))
        })?;
    }
    shop.namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", Duration::from_secs(180))?;
    ensure!(brokers()? == before, "brokers were {before:?} and are {:?}", brokers()?);
    Ok(())
}

#[test]
fn an_idle_operator_writes_nothing() -> Result<()> {
    let shop = Shop::ready()?;
    let versions = || -> Result<BTreeMap<String, String>> {
        let kinds = "brokercluster,topics.rocketmq.gantry.dev,consumergroups.rocketmq.gantry.dev,statefulset,deployment,service,configmap,serviceaccount,pdb";
        let mut found = BTreeMap::new();
        for object in shop.namespace.list(kinds, "")? {
            let id = format!("{}/{}", object["kind"], object["metadata"]["name"]);
            found.insert(id, object["metadata"]["resourceVersion"].to_string());
        }
        Ok(found)
    };
    // Two looks of the operator at everything, counted by itself, must pass without a write. What other tests left is let settle first.
    until("a whole look passes without a write", Duration::from_secs(240), || {
        let before = (versions()?, passes(&shop)?);
        let enough = until("two more passes", Duration::from_secs(90), || {
            let now = passes(&shop)?;
            Ok(Answer::when(now >= before.1 + 2.0, (), || format!("{now} passes")))
        });
        enough?;
        let after = versions()?;
        let changed: Vec<_> =
            after.iter().filter(|(k, v)| before.0.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect();
        Ok(Answer::when(changed.is_empty(), (), || format!("{changed:?} changed")))
    })
}

/// Passes over BrokerClusters that succeeded, by the operator's own metrics.
fn passes(_: &Shop) -> Result<f64> {
    let text = gantry_e2e::kubectl::kubectl(&[
        "get",
        "--raw",
        "/api/v1/namespaces/gantry-system/services/gantry-operator:metrics/proxy/metrics",
    ])?;
    text.lines()
        .find(|l| l.starts_with("gantry_reconciles_total{kind=\"BrokerCluster\",reason=\"Succeeded\"}"))
        .and_then(|l| l.split(' ').next_back())
        .and_then(|n| n.parse().ok())
        .context("the operator does not count its passes")
}

fn pods(shop: &Shop, selector: &str) -> Result<BTreeMap<String, String>> {
    let pods = shop.namespace.list("pods", &format!("{OURS},{selector}"))?;
    Ok(pods
        .iter()
        .map(|p| {
            let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
            let restarts = &p["status"]["containerStatuses"][0]["restartCount"];
            (text(&p["metadata"]["name"]), format!("{} {restarts}", text(&p["metadata"]["uid"])))
        })
        .collect())
}
