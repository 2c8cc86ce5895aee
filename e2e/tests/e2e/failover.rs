//! Every single failure, one after the other, under an audit of all message types: nothing acknowledged is lost, and all becomes whole by itself.

use anyhow::{Context as _, Result, ensure};
use gantry_e2e::audit::{Audit, accounted};
use gantry_e2e::chaos::{CALM, CLUSTER, Episode, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target, nodes};

use crate::shop::START;

#[test]
fn no_single_failure_loses_an_acknowledged_message() -> Result<()> {
    // FAULTS names some of them, with a semicolon between, for somebody who works on just these.
    let faults = Fault::chosen(&std::env::var("FAULTS").unwrap_or_default())?;
    ensure!(
        nodes()?.len() >= 3 || !faults.iter().any(|f| f.needs_nodes()),
        "some failures take three nodes: make e2e-faults brings them up"
    );
    let namespace = ground(3, &FLOWS[..CALM], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..CALM])?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    let done = faults.into_iter().enumerate().try_for_each(|(nth, fault)| {
        let episode = Episode::run(&audit, target, fault, nth).context(fault.name())?;
        println!("{episode}");
        Ok(())
    });
    accounted(done, audit.finish())?;
    namespace.kubectl(&["delete", "brokercluster", CLUSTER, "--wait=false"])?;
    Ok(())
}
