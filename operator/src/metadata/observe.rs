//! What the brokers of a cluster hold: two calls per replica, whatever the number of topics and groups. Only reads.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use gantry_crds::condition::Reason;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::observe::addresses;
use crate::broker_cluster::view::{Known, Unknown};
use crate::engine::{BrokerMetadata, ClusterId, Engine, EngineError, EngineFacts, Fact, kept};
use crate::metadata::drain::longest_transaction;
use crate::metadata::kind::Abilities;
use crate::metadata::view::{Master, Observed, Replica};

/// Asks every replica of every broker group, all at once.
pub async fn observe(engine: &dyn Engine, cluster: &Cluster, unopened: &BTreeSet<String>) -> Observed {
    let facts = engine.observe(&addresses(cluster)).await;
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let names = cluster.groups();
    let masters: Vec<BoxFuture<'_, Known<Master>>> =
        names.iter().map(|g| master(engine, cluster, &id, &facts, g, unopened.contains(g)).boxed()).collect();
    let masters = join_all(masters).await;
    let elsewhere = |master: &Known<Master>| {
        let facts = facts.brokers.get(&master.as_ref().ok()?.address)?;
        facts.runtime.known()?.delayed_elsewhere
    };
    let delayed_elsewhere = names.iter().cloned().zip(masters.iter().map(elsewhere)).collect();
    let access = facts.brokers.iter().filter_map(|(a, b)| Some((a.clone(), kept(b.config.known()?)))).collect();
    Observed {
        access,
        delayed_elsewhere,
        longest_transaction: longest_transaction(&cluster.brokers.pods.config),
        groups: names.into_iter().zip(masters).collect(),
        abilities: abilities(cluster),
        ..Observed::default()
    }
}

/// The same with what these masters hold now, after something was written to them: three calls for each. The rest is as it was a moment ago.
pub async fn again(
    engine: &dyn Engine,
    cluster: &Cluster,
    mut observed: Observed,
    written: &BTreeSet<String>,
) -> Observed {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    for known in observed.groups.values_mut() {
        let Ok(master) = known else { continue };
        if !written.contains(&master.address) {
            continue;
        }
        // Before it is read anew: both at once are ten thousand topics twice.
        master.metadata = BrokerMetadata::default();
        match engine.metadata(&id, &master.address).await {
            Ok(metadata) => master.metadata = metadata,
            Err(error) => *known = Err(unknown(&error)),
        }
    }
    observed
}

fn abilities(cluster: &Cluster) -> Abilities {
    let on = |key: &str| cluster.brokers.pods.config.get(key).is_some_and(|v| v == "true");
    Abilities { version: cluster.version.clone(), light_queues: on("enableLmq") && on("enableMultiDispatch") }
}

fn unknown(error: &EngineError) -> Unknown {
    Unknown { reason: error.reason().into(), message: error.to_string() }
}

async fn master(
    engine: &dyn Engine,
    cluster: &Cluster,
    id: &ClusterId,
    facts: &EngineFacts,
    group: &str,
    unopened: bool,
) -> Known<Master> {
    let address = match facts.groups.get(group) {
        Some(Fact::Known(Some(g))) => g.master_address.clone(),
        Some(Fact::Unknown { unknown: error }) => return Err(unknown(error)),
        Some(Fact::Known(None)) | None => None,
    };
    let Some(address) = address else {
        return Err(Unknown { reason: Reason::NoMaster.as_str().into(), message: format!("{group} has no master") });
    };
    // A topic that producers could send to before its consumers' offsets are there is what the phase is for.
    let config = facts.brokers.get(&address).and_then(|b| b.config.known());
    if unopened && config.is_none_or(|c| c.get(PERMISSION).is_none_or(|p| p != CLOSED)) {
        let message = format!("{group} is new, and not yet closed for producers");
        return Err(Unknown { reason: Reason::GroupOpening.as_str().into(), message });
    }
    let replicas = cluster.broker_addresses(group).into_iter().filter(|a| *a != address);
    let replicas = join_all(replicas.map(|address| replica(engine, id, address)));
    let (metadata, replicas) = futures::join!(engine.metadata(id, &address), replicas);
    Ok(Master { metadata: metadata.map_err(|e| unknown(&e))?, replicas, address })
}

async fn replica(engine: &dyn Engine, id: &ClusterId, address: String) -> Replica {
    let metadata = engine.metadata(id, &address).await.map_err(|e| unknown(&e));
    Replica { address, metadata }
}
