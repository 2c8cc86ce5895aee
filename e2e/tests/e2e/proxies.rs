//! Proxies come and go while clients work.

use std::time::Duration;

use anyhow::{Result, ensure};
use gantry_e2e::audit::{Audit, Flow, nothing_lost};
use gantry_e2e::wait::{Answer, until};

use crate::shop::{GRPC, REMOTING, Shop};

#[test]
fn a_roll_of_the_proxies_fails_no_send_and_loses_no_message() -> Result<()> {
    let mut shop = Shop::alone()?;
    shop.topic("rolled", "Normal")?;
    shop.group("rolled-readers", "Concurrent")?;
    shop.topic("rolled-classic", "Normal")?;
    shop.group("rolled-classic-readers", "Concurrent")?;
    let clients = shop.clients()?;
    let flow = |topic, protocol, endpoint| Flow { topic, protocol, endpoint, type_: "normal", rate: 20 };
    let audit = Audit::start(&clients, &[flow("rolled", "grpc", GRPC), flow("rolled-classic", "remoting", REMOTING)])?;

    let selector = "app.kubernetes.io/instance=shop,app.kubernetes.io/component=proxy";
    let uids = || -> Result<Vec<String>> {
        Ok(shop.namespace.list("pods", selector)?.iter().map(|p| p["metadata"]["uid"].to_string()).collect())
    };
    let before = uids()?;
    // Another value each time, so that the test can be run again on the same cluster.
    let stamp = format!("'{}'", std::process::id());
    shop.change("proxies: {replicas: 2", &format!("proxies: {{replicas: 2, annotations: {{rolled: {stamp}}}"))?;
    until("every proxy was replaced", Duration::from_secs(300), || {
        let now = uids()?;
        Ok(Answer::when(now.len() == 2 && now.iter().all(|u| !before.contains(u)), (), || format!("{now:?}")))
    })?;
    audit.until_received(Duration::from_secs(120))?;
    let accounts = audit.finish()?;
    nothing_lost(&accounts)?;
    for account in &accounts {
        ensure!(account.failed.is_empty(), "{account}: {:?}", account.failed);
    }
    Ok(())
}
