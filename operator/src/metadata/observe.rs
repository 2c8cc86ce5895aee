//! What the brokers of a cluster hold: three calls per replica and its configuration, whatever the number of topics and groups. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use gantry_crds::condition::Reason;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::keys::{CLOSED, PERMISSION};
use crate::broker_cluster::observe::of_controllers;
use crate::broker_cluster::view::{Known, Unknown};
use crate::engine::{BrokerMetadata, ClusterId, ConfigTarget, Engine, EngineError, EngineFacts, Fact, kept};
use crate::metadata::drain::longest_transaction;
use crate::metadata::kind::Abilities;
use crate::metadata::view::{Master, Observed, Replica};

/// Keys of a process.
type Config = BTreeMap<String, String>;

/// Asks every replica of every broker group, all at once.
pub async fn observe(engine: &dyn Engine, cluster: &Cluster, unopened: &BTreeSet<String>) -> Observed {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let leaders = of_controllers(cluster);
    let (facts, configs) = futures::join!(engine.observe(&leaders), configs(engine, cluster, &id));
    let names = cluster.groups();
    let masters: Vec<BoxFuture<'_, Known<Master>>> =
        names.iter().map(|g| master(engine, cluster, &id, &facts, &configs, g, unopened.contains(g)).boxed()).collect();
    let masters = join_all(masters).await;
    Observed {
        access: configs.iter().map(|(address, config)| (address.clone(), kept(config))).collect(),
        longest_transaction: longest_transaction(&cluster.brokers.pods.config),
        groups: names.into_iter().zip(masters).collect(),
        abilities: abilities(cluster),
        ..Observed::default()
    }
}

/// Messages that wait for their time on the masters, of which nobody tells the topic, by broker group.
pub async fn delayed_elsewhere(
    engine: &dyn Engine,
    cluster: &Cluster,
    observed: &Observed,
) -> BTreeMap<String, Option<i64>> {
    let id = ClusterId::new(&cluster.namespace, &cluster.name);
    let ask = async |(group, master): (&String, &Master)| {
        let said = engine.runtime(&id, &master.address).await;
        (group.clone(), said.ok().and_then(|runtime| runtime.delayed_elsewhere))
    };
    let known = observed.groups.iter().filter_map(|(group, master)| Some((group, master.as_ref().ok()?)));
    join_all(known.map(ask)).await.into_iter().collect()
}

/// What brokers run with, by address, of those that say so.
async fn configs(engine: &dyn Engine, cluster: &Cluster, id: &ClusterId) -> BTreeMap<String, Config> {
    let addresses = cluster.groups().into_iter().flat_map(|g| cluster.broker_addresses(&g));
    let ask = |address: String| async move {
        let config = engine.config(id, &ConfigTarget::Broker(address.clone())).await;
        config.ok().map(|config| (address, config))
    };
    join_all(addresses.map(ask)).await.into_iter().flatten().collect()
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
    configs: &BTreeMap<String, Config>,
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
    if unopened && configs.get(&address).is_none_or(|c| c.get(PERMISSION).is_none_or(|p| p != CLOSED)) {
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
