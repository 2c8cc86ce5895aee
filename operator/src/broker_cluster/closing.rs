//! Before a master is restarted or hands over, it takes no new messages, where another group takes them: clients go there first, and nobody's send
//! fails. Pure. Only the running broker is told, its configuration file is not: one that starts anew takes messages again by itself, and one whose restart
//! was given up is told so, whatever became of the operator meanwhile.

use std::collections::BTreeSet;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::scale::QUIET;
use crate::broker_cluster::view::{Observed, PodFact};

/// May this pod, which safety lets go, go now? `closing`: pods that take no new messages, this one added where it must not.
///
/// # Errors
/// Clients may not yet have heard that it takes no messages.
pub fn closed(
    cluster: &Cluster,
    observed: &Observed,
    pod: &PodFact,
    closing: &mut BTreeSet<String>,
) -> Result<(), Hold> {
    let group = &pod.set;
    let leads = |p: &PodFact| observed.engine.sync(&p.set).is_ok_and(|s| s.master.as_deref() == Some(&p.name));
    if !cluster.brokers.drain || !pod.ready || !leads(pod) || !cluster.phase_of(group).is_open() {
        return Ok(());
    }
    let serves =
        |p: &&PodFact| p.set != *group && p.ready && !p.terminating && leads(p) && cluster.phase_of(&p.set).is_open();
    let others: Vec<&PodFact> = observed.pods.iter().filter(serves).collect();
    let never = cluster.brokers.pods.config.get(PERMISSION).is_some_and(|p| p.trim() == CLOSED);
    if others.is_empty() || never {
        return Ok(());
    }
    let takes = |p: &&&PodFact| {
        !closing.contains(&p.name) && observed.engine.live_key(&p.name, PERMISSION).is_some_and(|has| has != CLOSED)
    };
    if others.iter().find(takes).is_none() {
        // One that was closed is about to take messages again.
        return Err(Hold::Closing { pod: pod.name.clone() });
    }
    closing.insert(pod.name.clone());
    let is_closed = observed.engine.live_key(&pod.name, PERMISSION) == Some(CLOSED);
    let long = observed.closed_since.get(group).is_some_and(|since| observed.now - since >= QUIET);
    if is_closed && long { Ok(()) } else { Err(Hold::Closing { pod: pod.name.clone() }) }
}
