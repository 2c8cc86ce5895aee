//! What is broken by hand is put right; what is well is left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

/// What is promised. An operator that only looks again every 20 s, as it does at a cluster that is as declared, does not keep it.
const REPAIR: Duration = Duration::from_secs(10);
const OURS: &str = "app.kubernetes.io/managed-by=gantry,app.kubernetes.io/instance=shop";

#[test]
fn a_child_of_any_kind_that_is_deleted_or_edited_is_put_right_within_10_seconds_and_no_pod_is_restarted() -> Result<()>
{
    let shop = Shop::alone()?;
    // A configuration of which the last pod is about to go is no child that comes back.
    shop.namespace.wait_for_condition("brokercluster/shop", "Progressing", "False", Duration::from_secs(300))?;
    let before = pods(&shop, "app.kubernetes.io/component!=proxy")?;
    let mut children = 0;
    for kind in ["service", "configmap", "poddisruptionbudget", "serviceaccount", "statefulset", "deployment"] {
        for child in shop.namespace.list(kind, OURS)? {
            let name = format!("{kind}/{}", child["metadata"]["name"].as_str().unwrap_or_default());
            // The pods of a set that is deleted with its orphans left are adopted by the next one.
            shop.namespace.kubectl(&["delete", &name, "--wait=false", "--cascade=orphan"])?;
            until(&format!("{name} is back"), REPAIR, || {
                let uid = shop.namespace.get(&name)?["metadata"]["uid"].clone();
                Ok(Answer::when(uid != child["metadata"]["uid"], (), || "it is still the old one".into()))
            })?;
            let version = "app.kubernetes.io/version";
            shop.namespace.kubectl(&["label", &name, "--overwrite", &format!("{version}=mine")])?;
            until(&format!("{name} is labelled as before"), REPAIR, || {
                let now = shop.namespace.get(&name)?["metadata"]["labels"][version].clone();
                Ok(Answer::when(now == child["metadata"]["labels"][version], (), || now.to_string()))
            })?;
            children += 1;
        }
    }
    ensure!(children >= 15, "only {children} children were tried");
    shop.namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", Duration::from_secs(180))?;
    ensure!(pods(&shop, "app.kubernetes.io/component!=proxy")? == before, "pods were {before:?}");
    Ok(())
}

#[test]
fn a_set_that_was_scaled_by_hand_is_scaled_back() -> Result<()> {
    let shop = Shop::alone()?;
    shop.namespace.kubectl(&["scale", "statefulset/shop-nameserver", "--replicas=1"])?;
    until("there are two name servers again", REPAIR, || {
        let replicas = shop.namespace.get("statefulset/shop-nameserver")?["spec"]["replicas"].clone();
        Ok(Answer::when(replicas == 2, (), || replicas.to_string()))
    })?;
    shop.namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", Duration::from_secs(180))?;
    Ok(())
}

#[test]
fn a_broken_cluster_in_another_namespace_slows_no_other() -> Result<()> {
    let shop = Shop::together()?;
    let elsewhere = Namespace::create("elsewhere")?;
    elsewhere.apply(
        "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: BrokerCluster, metadata: {name: shop}, spec: {image: 'gantry/none:0', brokers: {storage: {reclaimPolicy: Delete}}}}",
    )?;
    let said = until("the broken one says what is wrong", Duration::from_secs(90), || {
        let cluster = elsewhere.get("brokercluster/shop")?;
        let conditions = cluster["status"]["conditions"].to_string();
        Ok(Answer::when(
            conditions.contains("ImagePull") || conditions.contains("ErrImage"),
            conditions.clone(),
            || conditions,
        ))
    })?;
    ensure!(said.contains("\"status\":\"True\",\"type\":\"Degraded\""), "{said}");
    // Of the same name in another namespace, and not its: nothing of the one becomes the other's.
    shop.topic("beside-a-broken-one", "Normal")?;
    shop.namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", Duration::from_secs(60))?;
    elsewhere.kubectl(&["delete", "brokercluster/shop", "--wait=true", "--timeout=60s"])?;
    Ok(())
}

#[test]
fn an_edited_child_is_put_right() -> Result<()> {
    let shop = Shop::alone()?;
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
    let shop = Shop::alone()?;
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
    every_name_server_knows_brokers_by_name(&shop)
}

/// What each name server lists is names of pods, and no address of any pod.
fn every_name_server_knows_brokers_by_name(shop: &Shop) -> Result<()> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = shop.namespace.list("pods", OURS)?;
    let addresses: Vec<String> = all.iter().map(|pod| text(&pod["status"]["podIP"])).collect();
    ensure!(addresses.len() >= 7 && addresses.iter().all(|a| !a.is_empty()), "not all pods have an address");
    let brokers = pods(shop, "app.kubernetes.io/component=broker")?;
    for server in pods(shop, "app.kubernetes.io/component=nameserver")?.keys() {
        let host = format!("{server}.shop-nameserver.shop.svc.cluster.local:9876");
        let asked = ["exec", server, "--", "rocketmq", "admin", "clusterList", "-n", &host];
        // A replica says its name again every 10 s at the latest to a name server that has just come.
        until(&format!("{server} lists every broker by name"), Duration::from_secs(60), || {
            let said = shop.namespace.kubectl(&asked)?;
            let missing = brokers.keys().find(|broker| {
                let name = format!("{broker}.shop-broker.shop.svc.cluster.local:10911");
                !said.split_whitespace().any(|word| word == name)
            });
            Ok(Answer::when(missing.is_none(), (), || format!("{missing:?} is not in {said}")))
        })?;
        let said = shop.namespace.kubectl(&asked)?;
        let words: Vec<&str> = said.split(|c: char| c.is_whitespace() || c == ':').collect();
        let found = addresses.iter().find(|address| words.contains(&address.as_str()));
        ensure!(found.is_none(), "{server} lists a pod's address, {found:?}: {said}");
    }
    Ok(())
}

#[test]
fn an_idle_operator_writes_nothing() -> Result<()> {
    let shop = Shop::alone()?;
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
