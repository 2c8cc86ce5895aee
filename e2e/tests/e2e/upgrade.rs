//! Another version of the engine and back, while clients of both protocols work.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::audit::{Audit, accounted, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::Target;
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};
use serde_json::Value;

use crate::scale::{patch, settled};
use crate::shop::START;

/// Ten pods, one after the other, on two cores.
const UPGRADE: Duration = Duration::from_secs(900);

fn set_version(namespace: &Namespace, version: &str) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"version\":\"{version}\"}}}}");
    namespace.kubectl(&["patch", "brokercluster", CLUSTER, "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Somebody takes the risk of 5.4.0 with replicas.
const ACCEPT: &str = "gantry.dev/accept-hazards=replicas-forget-topics";

fn annotate(namespace: &Namespace, annotation: &str) -> Result<()> {
    namespace.kubectl(&["annotate", "brokercluster", CLUSTER, "--overwrite", annotation]).map(drop)
}

/// All pods of the engine.
fn engine_pods(namespace: &Namespace) -> Result<Vec<Value>> {
    namespace.list("pods", &format!("app.kubernetes.io/instance={CLUSTER},app.kubernetes.io/component!=clients"))
}

/// Does no pod run this version?
fn none_runs(namespace: &Namespace, version: &str) -> Result<bool> {
    Ok(engine_pods(namespace)?.iter().all(|p| p["metadata"]["labels"]["app.kubernetes.io/version"] != version))
}

fn to_version(namespace: &Namespace, version: &str) -> Result<()> {
    set_version(namespace, version)?;
    until(&format!("everything runs {version}"), UPGRADE, || {
        let object = namespace.get(&format!("brokercluster/{CLUSTER}"))?;
        let status = &object["status"];
        let pods = engine_pods(namespace)?;
        let others = pods.iter().filter(|p| p["metadata"]["labels"]["app.kubernetes.io/version"] != version).count();
        let calm = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Progressing" && c["status"] == "False");
        let done = others == 0
            && calm
            && status["version"] == version
            && status["observedGeneration"] == object["metadata"]["generation"];
        Ok(Answer::when(done, (), || format!("{others} pods of another version; {}", status["conditions"])))
    })
}

/// When each pod of a role was made, the last of them.
fn newest(namespace: &Namespace, component: &str) -> Result<String> {
    let pods = namespace
        .list("pods", &format!("app.kubernetes.io/instance={CLUSTER},app.kubernetes.io/component={component}"))?;
    Ok(pods.iter().filter_map(|p| p["metadata"]["creationTimestamp"].as_str()).max().unwrap_or_default().to_owned())
}

#[test]
fn an_upgrade_and_a_downgrade_lose_nothing_and_keep_the_order_of_roles() -> Result<()> {
    let namespace = ground(3, &FLOWS[..4], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    // Not before somebody takes the risk: replicas of 5.4.0 may forget topics that nobody declared.
    set_version(&namespace, "5.4.0")?;
    until("the hazard is told", Duration::from_secs(60), || {
        let conditions = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"]["conditions"].to_string();
        Ok(Answer::when(conditions.contains("EngineHazard"), (), || conditions.clone()))
    })?;
    ensure!(none_runs(&namespace, "5.4.0")?, "a version that is refused must change no pod");
    annotate(&namespace, ACCEPT)?;
    let up = ["nameserver", "controller", "broker", "proxy"];
    let down = ["proxy", "broker", "controller", "nameserver"];
    for (version, order) in [("5.4.0", down), ("5.5.0", up)] {
        let from = audit.now();
        to_version(&namespace, version)?;
        let (write, read) = audit.gaps_since(from);
        println!("to {version}: longest without a write {write}, without a read {read}");
        let times: Vec<String> = order.iter().map(|c| newest(&namespace, c)).collect::<Result<_>>()?;
        ensure!(times.is_sorted(), "{order:?} were replaced last at {times:?}");
        audit.until_received(Duration::from_secs(120))?;
    }
    nothing_lost(&audit.finish()?)
}

/// Pods of brokers that run a version, by the group's number.
fn brokers_of(namespace: &Namespace, version: &str) -> Result<Vec<(String, String)>> {
    let pods = namespace.list("pods", "app.kubernetes.io/component=broker")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_it = pods.iter().filter(|p| p["metadata"]["labels"]["app.kubernetes.io/version"] == version);
    let name = |p: &Value| text(&p["metadata"]["name"]);
    let group = |pod: &str| pod.rsplit_once('-').map_or_else(String::new, |(group, _)| group.to_owned());
    Ok(of_it.map(|p| (group(&name(p)), name(p))).collect())
}

fn phase(namespace: &Namespace) -> Result<String> {
    let upgrade = namespace.get(&format!("brokercluster/{CLUSTER}"))?["status"]["upgrade"].clone();
    Ok(upgrade["phase"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_version_whose_brokers_crash_reaches_one_group_only_and_is_taken_back() -> Result<()> {
    let namespace = ground(2, &FLOWS[..2], START)?;
    patch(&namespace, "{\"groups\":2}")?;
    settled(&namespace, "there are two groups", 2, 2)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..2])?;
    let done = crash_and_retry(&namespace, &audit);
    accounted(done, audit.finish())?;
    namespace.kubectl(&["delete", "brokercluster", CLUSTER, "--wait=true", "--timeout=120s"])?;
    Ok(())
}

fn crash_and_retry(namespace: &Namespace, audit: &Audit<'_>) -> Result<()> {
    let target = Target { namespace, cluster: CLUSTER };
    annotate(namespace, ACCEPT)?;
    set_version(namespace, "5.4.0")?;
    // Whatever broker takes the version crashes, again and again.
    let mut reached = BTreeSet::new();
    let watch = |reached: &mut BTreeSet<String>| -> Result<Vec<String>> {
        let (groups, pods): (BTreeSet<String>, Vec<String>) = brokers_of(namespace, "5.4.0")?.into_iter().unzip();
        reached.extend(groups);
        Ok(pods)
    };
    until("the version is taken back", UPGRADE, || {
        watch(&mut reached)?.iter().for_each(|pod| drop(target.kill(pod)));
        let phase = phase(namespace)?;
        Ok(Answer::when(phase == "RollingBack", (), || phase.clone()))
    })?;
    until("every pod runs the version before", UPGRADE, || {
        watch(&mut reached)?;
        let phase = phase(namespace)?;
        Ok(Answer::when(phase == "RolledBack" && none_runs(namespace, "5.4.0")?, (), || phase.clone()))
    })?;
    ensure!(reached.iter().eq(["ha-broker-0"]), "the version reached {reached:?}");
    audit.until_received(Duration::from_secs(120))?;
    annotate(namespace, "gantry.dev/retry-upgrade=again")?;
    to_version(namespace, "5.4.0")?;
    audit.until_received(Duration::from_secs(120))
}
