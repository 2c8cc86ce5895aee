//! The parts of a memory limit hold under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::clients::Client;

use crate::shop::{GRPC, REMOTING, Shop};

/// Large enough bodies to fill buffers, from enough callers to make the engine open all of its threads.
const LOAD: &str = "--size 16384 --threads 16 --warmup 2 --seconds 25";

#[test]
fn no_container_is_killed_for_its_memory_under_load() -> Result<()> {
    let shop = Shop::ready()?;
    shop.topic("heavy", "Normal")?;
    let clients = shop.clients()?;
    for (protocol, endpoint) in [("grpc", GRPC), ("remoting", REMOTING)] {
        let summary = clients.summary(
            Client::Java,
            &format!("bench --protocol {protocol} --endpoint {endpoint} --topic heavy --type normal {LOAD}"),
        )?;
        println!("{protocol}: {summary}");
        ensure!(summary["messages"].as_i64() > Some(100), "that was no load: {summary}");
    }
    for pod in shop.namespace.list("pods", "app.kubernetes.io/instance=shop")? {
        let container = &pod["status"]["containerStatuses"][0];
        ensure!(
            container["restartCount"] == 0 && container["lastState"]["terminated"].is_null(),
            "{}: {container}",
            pod["metadata"]["name"]
        );
    }
    shop.namespace.wait_for_condition("brokercluster/shop", "Degraded", "False", Duration::from_secs(120))?;
    Ok(())
}
