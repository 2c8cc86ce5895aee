//! Many topics at once, an operator that is killed among them, and clusters that are dead.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::kubectl::{Namespace, kubectl};
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

const BURST: usize = 300;
const SOON: Duration = Duration::from_secs(90);

fn topic(name: &str, cluster: &str, more: &str) -> String {
    format!(
        "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}, labels: {{folder: burst}}}}, spec: {{clusterRef: {{name: {cluster}}}, queues: 1{more}}}}}"
    )
}

#[test]
fn an_operator_killed_among_many_topics_is_followed_by_one_that_makes_them_all() -> Result<()> {
    let shop = Shop::ready()?;
    let mut manifests = String::new();
    for i in 0..BURST {
        writeln!(manifests, "{}\n---", topic(&format!("burst-{i:03}"), "shop", ""))?;
    }
    let applying = std::thread::spawn({
        let namespace = shop.namespace.clone();
        move || namespace.apply(&manifests)
    });
    until("some are there, and not all", SOON, || {
        let count = shop.namespace.list("topics.rocketmq.gantry.dev", "folder=burst")?.len();
        Ok(Answer::when(count > 20, (), || format!("{count} topics")))
    })?;
    let selector = "app.kubernetes.io/name=gantry";
    kubectl(&["-n", "gantry-system", "delete", "pods", "-l", selector, "--grace-period=0", "--force"])?;
    applying.join().map_err(|_| anyhow::anyhow!("applying panicked"))??;
    until("all are ready", Duration::from_secs(180), || {
        let topics = shop.namespace.list("topics.rocketmq.gantry.dev", "folder=burst")?;
        let ready = topics.iter().filter(|t| t["status"]["conditions"].to_string().contains("InSync")).count();
        Ok(Answer::when(ready == BURST, (), || format!("{ready} of {BURST}")))
    })?;
    let known = shop.admin("topicList")?;
    let missing = (0..BURST).filter(|i| !known.contains(&format!("burst-{i:03}"))).count();
    ensure!(missing == 0, "name servers do not know {missing} of them");
    shop.namespace.kubectl(&["delete", "topics.rocketmq.gantry.dev", "-l", "folder=burst", "--timeout=120s"])?;
    Ok(())
}

#[test]
fn objects_of_a_cluster_that_is_dead_go_with_it_or_their_namespace_and_kept_ones_at_once() -> Result<()> {
    // Its pods find no node: there is an object, and nobody who answers.
    let dead = "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: BrokerCluster, metadata: {name: dead}, spec: {brokers: {storage: {reclaimPolicy: Delete}, scheduling: {nodeSelector: {there: is-none}}}, controllers: {scheduling: {nodeSelector: {there: is-none}}}, nameServers: {scheduling: {nodeSelector: {there: is-none}}}, proxies: {scheduling: {nodeSelector: {there: is-none}}}}}";
    let _shop = Shop::ready()?;
    let grave = Namespace::create("grave")?;
    grave.apply(dead)?;
    grave.apply(&topic("kept", "dead", ""))?;
    grave.apply(&topic("held", "dead", ", deletionPolicy: Delete"))?;
    let object = |name: &str| format!("topics.rocketmq.gantry.dev/{name}");
    until("the finalizer is on", SOON, || {
        let held = grave.get(&object("held"))?;
        let on = held["metadata"]["finalizers"].to_string().contains("rocketmq.gantry.dev/engine");
        Ok(Answer::when(on, (), || held["status"].to_string()))
    })?;
    grave.kubectl(&["delete", &object("kept"), "--timeout=20s"])?;
    grave.kubectl(&["delete", &object("held"), "--wait=false"])?;
    until("it says that it waits for its cluster", SOON, || {
        let held = grave.get(&object("held"))?;
        let said = held["status"]["conditions"].to_string();
        Ok(Answer::when(said.contains("ClusterNotReady"), (), || said))
    })?;
    grave.kubectl(&["delete", "brokercluster/dead", "--timeout=60s"])?;
    until("it goes with its cluster", SOON, || {
        let left = grave.list("topics.rocketmq.gantry.dev", "")?;
        Ok(Answer::when(left.is_empty(), (), || format!("{} are left", left.len())))
    })?;
    grave.apply(dead)?;
    grave.apply(&topic("buried", "dead", ", deletionPolicy: Delete"))?;
    until("the finalizer is on", SOON, || {
        let buried = grave.get(&object("buried"))?;
        let on = buried["metadata"]["finalizers"].to_string().contains("rocketmq.gantry.dev/engine");
        Ok(Answer::when(on, (), || buried["status"].to_string()))
    })?;
    kubectl(&["delete", "namespace", "grave", "--timeout=180s"])?;
    Ok(())
}
