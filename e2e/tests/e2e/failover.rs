//! Every single failure, one after the other, under an audit of all message types: nothing acknowledged is lost, and all becomes whole by itself.

use anyhow::{Result, ensure};
use gantry_e2e::audit::{Audit, nothing_lost};
use gantry_e2e::chaos::{CLUSTER, Episode, FLOWS, ground};
use gantry_e2e::clients::Clients;
use gantry_e2e::faults::{Fault, Target, nodes};

use crate::shop::START;

#[test]
fn no_single_failure_loses_an_acknowledged_message() -> Result<()> {
    let namespace = ground(3, &FLOWS[..4], START)?;
    let clients = Clients::start(&namespace)?;
    let audit = Audit::start(&clients, &FLOWS[..4])?;
    let target = Target { namespace: &namespace, cluster: CLUSTER };
    // FAULTS names some of them, for somebody who works on just these.
    let chosen = std::env::var("FAULTS").unwrap_or_default();
    let faults = Fault::ALL.into_iter().filter(|f| chosen.is_empty() || chosen.contains(f.name()));
    ensure!(nodes()?.len() >= 3, "some failures take three nodes: make e2e-faults brings them up");
    let mut trouble = None;
    for (nth, fault) in faults.enumerate() {
        match Episode::run(&audit, target, fault, nth) {
            Ok(episode) => println!("{episode}"),
            Err(error) => {
                trouble = Some(format!("{}: {error:#}", fault.name()));
                break;
            }
        }
    }
    let accounts = audit.finish();
    ensure!(trouble.is_none(), "{}; {accounts:?}", trouble.unwrap_or_default());
    nothing_lost(&accounts?)?;
    namespace.kubectl(&["delete", "brokercluster", CLUSTER, "--wait=false"])?;
    Ok(())
}
