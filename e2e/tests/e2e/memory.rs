//! The parts of a memory limit hold under load.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use gantry_e2e::clients::{Client, Clients};
use serde_json::Value;

use crate::shop::{GRPC, REMOTING, Shop};

/// Large enough bodies to fill buffers, from enough callers to make the engine open all of its threads.
const LOAD: &str = "--size 16384 --threads 16 --warmup 2 --seconds 25";

/// Callers that send as fast as they can, and a consumer that takes what it can get in the meantime: all bear one number, so that they count as received again and again.
fn beside_each_other(clients: &Clients<'_>, to: &str) -> Result<(Value, Value)> {
    let read = format!(
        "consume {to} --topic heavy --consumer-group heavy-readers --run bench --mode push --until-idle 15000 --timeout 120 --quiet --abandon"
    );
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| clients.summary(Client::Java, &read));
        let sent = clients.summary(Client::Java, &format!("bench {to} --topic heavy --type normal {LOAD}"))?;
        let received = reader.join().map_err(|_| anyhow!("the consumer's thread ended"))??;
        Ok((sent, received))
    })
}

#[test]
fn no_container_is_killed_for_its_memory_under_load() -> Result<()> {
    let shop = Shop::alone()?;
    shop.topic("heavy", "Normal")?;
    shop.group("heavy-readers", "Concurrent")?;
    let clients = shop.clients()?;
    for (protocol, endpoint) in [("grpc", GRPC), ("remoting", REMOTING)] {
        let (sent, received) = beside_each_other(&clients, &format!("--protocol {protocol} --endpoint {endpoint}"))?;
        println!("{protocol}: {sent}\n{protocol}: {received}");
        ensure!(sent["messages"].as_i64() > Some(100), "that was no load: {sent}");
        ensure!(received["received"].as_i64() > Some(100), "consumers had nothing to do: {received}");
    }
    for pod in shop.namespace.list("pods", "app.kubernetes.io/instance=shop")? {
        within_its_limit(&shop, &pod)?;
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

/// What a container holds is below its limit, where its control group tells: anonymous memory, since page cache fills whatever is left and is taken away
/// again when it is needed.
fn within_its_limit(shop: &Shop, pod: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let read = "cat /sys/fs/cgroup/memory/memory.stat /sys/fs/cgroup/memory.stat 2>/dev/null; echo limit $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null)";
    let said = shop.namespace.kubectl(&["exec", name, "--", "sh", "-c", read])?;
    let value = |key: &str| -> Option<f64> {
        said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    };
    // `total_rss` in version 1 of control groups, `anon` in version 2.
    let (Some(held), Some(limit)) = (value("total_rss").or_else(|| value("anon")), value("limit")) else {
        println!("{name}: its control group can't be read: {said}");
        return Ok(());
    };
    println!("{name}: holds {:.0} MiB of {:.0}", held / 1_048_576.0, limit / 1_048_576.0);
    ensure!(held < 0.95 * limit, "{name} holds {held} of {limit} bytes: next to nothing is left");
    Ok(())
}
