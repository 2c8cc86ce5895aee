//! A changed configuration rolls what it concerns; a deleted cluster keeps its messages.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::Client;
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};

use crate::shop::{GRPC, START, Shop};

/// Replicas rejoin the sync state set 15 s and more after an election, and each start takes its time.
const ROLL: Duration = Duration::from_secs(600);

fn uids(shop: &Shop, component: &str) -> Result<Vec<String>> {
    let selector = format!("app.kubernetes.io/instance=shop,app.kubernetes.io/component={component}");
    let mut uids: Vec<String> = shop
        .namespace
        .list("pods", &selector)?
        .iter()
        .map(|p| p["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
        .collect();
    uids.sort();
    Ok(uids)
}

#[test]
fn a_changed_broker_key_rolls_brokers_only_and_hands_the_master_over() -> Result<()> {
    let mut shop = Shop::alone()?;
    let (proxies, controllers, brokers) = (uids(&shop, "proxy")?, uids(&shop, "controller")?, uids(&shop, "broker")?);
    let epoch = |c: &serde_json::Value| c["status"]["groups"][0]["epoch"].as_i64().unwrap_or(0);
    let before = epoch(&shop.namespace.get("brokercluster/shop")?);
    shop.change("config: {", "config: {sendMessageThreadPoolNums: \"48\", ")?;
    let cluster = until("all brokers run the new configuration", ROLL, || {
        let cluster = shop.namespace.get("brokercluster/shop")?;
        let now = uids(&shop, "broker")?;
        let done = now.len() == brokers.len() && now.iter().all(|u| !brokers.contains(u));
        let idle = cluster["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Progressing" && c["status"] == "False");
        let said = cluster["status"]["conditions"][1].to_string();
        Ok(Answer::when(done && idle, cluster, || said))
    })?;
    ensure!(
        uids(&shop, "proxy")? == proxies && uids(&shop, "controller")? == controllers,
        "more than brokers was restarted"
    );
    ensure!(
        epoch(&cluster) > before,
        "the master was restarted without a hand-over: epoch {before} then {}",
        epoch(&cluster)
    );
    for reason in ["MasterMoved", "Restarted"] {
        let fields = format!("reason={reason},regarding.name=shop");
        let events =
            shop.namespace.kubectl(&["get", "events.events.k8s.io", "--field-selector", &fields, "-o", "name"])?;
        ensure!(!events.trim().is_empty(), "there is no Event with the reason {reason}");
    }
    Ok(())
}

#[test]
fn a_key_that_brokers_take_while_they_run_is_in_force_and_restarts_none() -> Result<()> {
    let shop = Shop::alone()?;
    let before = uids(&shop, "broker")?;
    let in_force = |ordinal: u32| -> Result<String> {
        let (pod, host) =
            (format!("shop-broker-0-{ordinal}"), format!("shop-broker-0-{ordinal}.shop-broker.shop:10911"));
        let all = shop.namespace.kubectl(&["exec", &pod, "--", "rocketmq", "admin", "getBrokerConfig", "-b", &host])?;
        Ok(all.lines().find(|l| l.starts_with("fileReservedTime ")).unwrap_or_default().to_owned())
    };
    shop.change_for_now("config: {", "config: {fileReservedTime: \"50\", ")?;
    shop.namespace.wait_for_condition("brokercluster/shop", "Progressing", "False", Duration::from_secs(60))?;
    for ordinal in 0..2 {
        until("the key is in force", Duration::from_secs(60), || {
            let line = in_force(ordinal)?;
            Ok(Answer::when(line.ends_with(" 50"), (), || line))
        })?;
    }
    ensure!(uids(&shop, "broker")? == before, "a broker was restarted");
    Ok(())
}

#[test]
fn volumes_grow_to_the_declared_size_and_go_with_a_cluster_that_says_so() -> Result<()> {
    let namespace = Namespace::create("growing")?;
    // Its pods find no node: growing is a matter of claims alone.
    let of_size = |size: &str| {
        format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: BrokerCluster, metadata: {{name: grown}}, spec: {{brokers: {{replicas: 2, scheduling: {{nodeSelector: {{there: is-none}}}}, storage: {{size: {size}, reclaimPolicy: Delete}}}}, controllers: {{replicas: 1, scheduling: {{nodeSelector: {{there: is-none}}}}}}, nameServers: {{replicas: 1, scheduling: {{nodeSelector: {{there: is-none}}}}}}, proxies: {{scheduling: {{nodeSelector: {{there: is-none}}}}}}}}}}"
        )
    };
    let claims = ["data-grown-broker-0-0", "data-grown-broker-0-1"];
    let size_of = |claim: &str, path: &str| -> Result<String> {
        let claim = namespace.get(&format!("pvc/{claim}"))?;
        Ok(claim.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
    };
    namespace.apply(&of_size("1Gi"))?;
    for claim in claims {
        until(&format!("{claim} is bound"), Duration::from_secs(60), || {
            let has = size_of(claim, "/status/capacity/storage")?;
            Ok(Answer::when(has == "1Gi", (), || has))
        })?;
    }
    namespace.apply(&of_size("2Gi"))?;
    for claim in claims {
        until(&format!("{claim} asks for more"), Duration::from_secs(30), || {
            let asks = size_of(claim, "/spec/resources/requests/storage")?;
            Ok(Answer::when(asks == "2Gi", (), || asks))
        })?;
    }
    until("the status says what is waited for", Duration::from_secs(30), || {
        let conditions = namespace.get("brokercluster/grown")?["status"]["conditions"].to_string();
        Ok(Answer::when(conditions.contains("has 1Gi of 2Gi"), (), || conditions))
    })?;
    // Controllers have volumes too; all of them say Delete.
    ensure!(namespace.list("pvc", "app.kubernetes.io/instance=grown")?.len() >= 2, "no claims to look for");
    namespace.kubectl(&["delete", "brokercluster/grown", "--wait=true", "--timeout=60s"])?;
    until("no claim is left", Duration::from_secs(120), || {
        let left = namespace.list("pvc", "")?;
        let names: Vec<_> = left.iter().map(|claim| claim["metadata"]["name"].to_string()).collect();
        Ok(Answer::when(left.is_empty(), (), || format!("{names:?} are left")))
    })
}

#[test]
fn a_deleted_cluster_takes_its_children_along_and_finds_its_messages_again() -> Result<()> {
    let shop = Shop::alone()?;
    shop.topic("kept", "Normal")?;
    shop.group("kept-readers", "Concurrent")?;
    let run = format!("kept-{}", std::process::id());
    let clients = shop.clients()?;
    clients.summary(
        Client::Java,
        &format!(
            "produce --protocol grpc --endpoint {GRPC} --topic kept --run {run} --type normal --count 50 --attempts 5"
        ),
    )?;
    shop.namespace.kubectl(&["delete", "brokercluster/shop", "--wait=true", "--timeout=120s"])?;
    let ours = "app.kubernetes.io/managed-by=gantry,app.kubernetes.io/instance=shop";
    until("all children are gone", Duration::from_secs(180), || {
        let left = shop.namespace.list("statefulset,deployment,service,configmap,serviceaccount,pdb,pod", ours)?;
        Ok(Answer::when(left.is_empty(), (), || format!("{} are left", left.len())))
    })?;
    ensure!(!shop.namespace.list("pvc", "app.kubernetes.io/instance=shop")?.is_empty(), "the volumes are gone");
    shop.declare()?;
    shop.namespace.wait_for_condition("brokercluster/shop", "Ready", "True", START)?;
    let got = clients.summary(
        Client::Java,
        &format!("consume --protocol grpc --endpoint {GRPC} --topic kept --consumer-group kept-readers --run {run} --expect 50 --timeout 120 --mode push --quiet --abandon"),
    )?;
    ensure!(got["distinct"] == 50 && got["bad_bodies"] == 0, "{got}");
    Ok(())
}
