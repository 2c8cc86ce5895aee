//! Many topics at once, an operator that is killed among them, and clusters that are dead.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::kubectl::{Namespace, kubectl};
use gantry_e2e::wait::{Answer, until};

use crate::shop::Shop;

/// More than one turn of a pass works on.
const BURST: usize = 1200;
/// How many kubectl apply them.
const TOOLS: usize = 4;
const SOON: Duration = Duration::from_secs(90);

fn topic(name: &str, cluster: &str, folder: &str, more: &str) -> String {
    format!(
        "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: Topic, metadata: {{name: {name}, labels: {{folder: {folder}}}}}, spec: {{clusterRef: {{name: {cluster}}}, queues: 1{more}}}}}"
    )
}

/// The topics of one burst.
struct Burst<'a> {
    shop: &'a Shop,
    folder: String,
}

impl Burst<'_> {
    fn label(&self) -> String {
        format!("folder={}", self.folder)
    }

    /// Creates all of them, by some tools at a time: one alone is slowed down by its own limits.
    fn create(&self) -> Result<()> {
        let tools = (0..TOOLS).map(|tool| {
            let mut manifests = String::new();
            for i in (tool..BURST).step_by(TOOLS) {
                manifests.push_str(&topic(&format!("{}-{i:04}", self.folder), "shop", &self.folder, ""));
                manifests.push_str("\n---\n");
            }
            let namespace = self.shop.namespace.clone();
            std::thread::spawn(move || namespace.apply(&manifests))
        });
        for tool in tools.collect::<Vec<_>>() {
            tool.join().map_err(|_| anyhow::anyhow!("applying panicked"))??;
        }
        Ok(())
    }

    /// How many the engine has as declared, as far as their statuses say.
    fn in_sync(&self) -> Result<usize> {
        let path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].reason}";
        let reasons =
            self.shop.namespace.kubectl(&["get", "topics.rocketmq.gantry.dev", "-l", &self.label(), "-o", path])?;
        Ok(reasons.split_whitespace().filter(|reason| *reason == "InSync").count())
    }

    /// Lets all of them come to an operator at once and kills it among them: who led then. `None`: it was done sooner.
    fn kill_among_them(&self) -> Result<Option<String>> {
        scale_operator(0)?;
        let created = self.create();
        scale_operator(1)?;
        created?;
        until("some are there", SOON, || {
            let count = self.in_sync()?;
            Ok(Answer::when(count > 0, (), || format!("{count} in sync")))
        })?;
        let leader = leader()?;
        let selector = "app.kubernetes.io/name=gantry";
        kubectl(&["-n", "gantry-system", "delete", "pods", "-l", selector, "--grace-period=0", "--force"])?;
        let done = self.in_sync()?;
        println!("killed when {done} of {BURST} were in sync");
        Ok((done < BURST).then_some(leader))
    }

    /// Takes the objects away in one request; the engine keeps its topics.
    fn remove(&self) -> Result<()> {
        let all = "/apis/rocketmq.gantry.dev/v1alpha1/namespaces/shop/topics?labelSelector=folder%3D";
        kubectl(&["delete", "--raw", &format!("{all}{}", self.folder)])?;
        until("the objects are gone", SOON, || {
            let left = self.shop.namespace.list("topics.rocketmq.gantry.dev", &self.label())?.len();
            Ok(Answer::when(left == 0, (), || format!("{left} are left")))
        })
    }
}

fn scale_operator(replicas: u32) -> Result<()> {
    let words = ["-n", "gantry-system", "scale", "deployment/gantry-operator"];
    kubectl(&[&words[..], &[&format!("--replicas={replicas}")]].concat())?;
    if replicas > 0 {
        return Ok(());
    }
    until("no operator runs", SOON, || {
        let selector = "app.kubernetes.io/name=gantry";
        let pods = kubectl(&["-n", "gantry-system", "get", "pods", "-l", selector, "-o", "name"])?;
        Ok(Answer::when(pods.trim().is_empty(), (), || pods))
    })
}

/// Whose the operators' Lease is.
fn leader() -> Result<String> {
    let path = "jsonpath={.spec.holderIdentity}";
    kubectl(&["-n", "gantry-system", "get", "lease/gantry-operator", "-o", path])
}

#[test]
fn an_operator_killed_among_many_topics_is_followed_by_one_that_makes_them_all() -> Result<()> {
    let shop = Shop::alone()?;
    // Where the first operator was done before anybody could kill it, once more with others.
    let begin = || -> Result<Option<(Burst<'_>, String)>> {
        for time in 0..2 {
            let burst = Burst { shop: &shop, folder: format!("burst-{}-{time}", std::process::id()) };
            if let Some(killed) = burst.kill_among_them()? {
                return Ok(Some((burst, killed)));
            }
            burst.remove()?;
        }
        Ok(None)
    };
    let (burst, killed) = begin()?.context("the operator was done twice before it was killed")?;
    until("all are ready", Duration::from_secs(180), || {
        let ready = burst.in_sync()?;
        Ok(Answer::when(ready == BURST, (), || format!("{ready} of {BURST}")))
    })?;
    let now = leader()?;
    ensure!(now != killed, "{now} was killed and leads");
    let known = shop.admin("topicList")?;
    let missing = (0..BURST).filter(|i| !known.contains(&format!("{}-{i:04}", burst.folder))).count();
    ensure!(missing == 0, "name servers do not know {missing} of them");
    burst.remove()
}

#[test]
fn objects_of_a_cluster_that_is_dead_go_with_it_or_their_namespace_and_kept_ones_at_once() -> Result<()> {
    // Its pods find no node: there is an object, and nobody who answers.
    let dead = "{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: BrokerCluster, metadata: {name: dead}, spec: {brokers: {storage: {reclaimPolicy: Delete}, scheduling: {nodeSelector: {there: is-none}}}, controllers: {scheduling: {nodeSelector: {there: is-none}}}, nameServers: {scheduling: {nodeSelector: {there: is-none}}}, proxies: {scheduling: {nodeSelector: {there: is-none}}}}}";
    let _shop = Shop::alone()?;
    let grave = Namespace::create("grave")?;
    grave.apply(dead)?;
    grave.apply(&topic("kept", "dead", "dead", ""))?;
    grave.apply(&topic("held", "dead", "dead", ", deletionPolicy: Delete"))?;
    grave.apply(&topic("never", "dead", "dead", ", deletionPolicy: Delete"))?;
    let object = |name: &str| format!("topics.rocketmq.gantry.dev/{name}");
    until("the finalizer is on", SOON, || {
        let held = grave.get(&object("held"))?;
        let on = held["metadata"]["finalizers"].to_string().contains("rocketmq.gantry.dev/engine");
        Ok(Answer::when(on, (), || held["status"].to_string()))
    })?;
    grave.kubectl(&["delete", &object("kept"), "--timeout=20s"])?;
    // What the engine never had by this object is not this object's to delete.
    grave.kubectl(&["delete", &object("never"), "--timeout=20s"])?;
    let adopt =
        ["patch", &object("held"), "--subresource=status", "--type=merge", "-p", r#"{"status": {"adopted": true}}"#];
    grave.kubectl(&adopt)?;
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
    grave.apply(&topic("buried", "dead", "dead", ", deletionPolicy: Delete"))?;
    until("the finalizer is on", SOON, || {
        let buried = grave.get(&object("buried"))?;
        let on = buried["metadata"]["finalizers"].to_string().contains("rocketmq.gantry.dev/engine");
        Ok(Answer::when(on, (), || buried["status"].to_string()))
    })?;
    kubectl(&["delete", "namespace", "grave", "--timeout=180s"])?;
    Ok(())
}
