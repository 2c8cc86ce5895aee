//! Another version of the engine and back, while clients of both protocols work.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::audit::{Audit, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::kubectl::Namespace;
use gantry_e2e::wait::{Answer, until};

use crate::shop::START;

/// Ten pods, one after the other, on two cores.
const UPGRADE: Duration = Duration::from_secs(900);

fn to_version(namespace: &Namespace, version: &str) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"version\":\"{version}\"}}}}");
    namespace.kubectl(&["patch", "brokercluster", CLUSTER, "--type=merge", "-p", &patch])?;
    until(&format!("everything runs {version}"), UPGRADE, || {
        let object = namespace.get(&format!("brokercluster/{CLUSTER}"))?;
        let status = &object["status"];
        let pods = namespace
            .list("pods", &format!("app.kubernetes.io/instance={CLUSTER},app.kubernetes.io/component!=clients"))?;
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
    let namespace = ground(&FLOWS[..4], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    for version in ["5.4.0", "5.5.0"] {
        let from = audit.now();
        to_version(&namespace, version)?;
        let (write, read) = audit.gaps_since(from);
        println!("to {version}: longest without a write {write} ms, without a read {read} ms");
        let times: Vec<String> = ["nameserver", "controller", "broker", "proxy"]
            .iter()
            .map(|c| newest(&namespace, c))
            .collect::<Result<_>>()?;
        ensure!(times.is_sorted(), "name servers, controllers, brokers, proxies were replaced last at {times:?}");
        audit.until_received(Duration::from_secs(120))?;
    }
    nothing_lost(&audit.finish()?)
}
