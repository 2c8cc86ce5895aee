//! `gantry import`: the topics and consumer groups that a cluster's brokers hold, as manifests ready to commit.

mod manifests;
mod names;
mod spec;

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_crds::{BrokerCluster, ConsumerGroup, Topic};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::broker_cluster::parse::parse;
use crate::config::Settings;
use crate::consumer_group::ConsumerGroups;
use crate::engine::{Limits, RemotingEngine};
use crate::metadata::kind::{Key, Kind};
use crate::metadata::observe::observe;
use crate::topic::Topics;

pub use manifests::{Declared, Live, manifests, yaml};

/// What to import.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The BrokerCluster.
    #[arg(long)]
    pub cluster: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// DNS domain of the Kubernetes cluster.
    #[arg(long, env = "GANTRY_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Manifests of all that the cluster's brokers hold and no object declares yet, the engine's own left out. Needs to reach the API server and the
/// brokers: the operator's pod does.
///
/// # Errors
/// Where the API server or a broker group can't be asked: half of a cluster is not imported.
pub async fn import(what: &Import) -> anyhow::Result<String> {
    let settings = Settings { cluster_domain: what.cluster_domain.clone(), ..Settings::default() };
    let client = Client::try_default().await.context("no Kubernetes is configured")?;
    let clusters: Api<BrokerCluster> = Api::namespaced(client.clone(), &what.namespace);
    // A list of one: in the operator's pod the operator's rights must do, and it never gets a cluster by name.
    let by_name = ListParams::default().fields(&format!("metadata.name={}", what.cluster));
    let found = clusters
        .list(&by_name)
        .await
        .with_context(|| format!("BrokerClusters of namespace {} can't be read", what.namespace))?;
    let object = found
        .items
        .into_iter()
        .next()
        .with_context(|| format!("there is no BrokerCluster {} in namespace {}", what.cluster, what.namespace))?;
    let cluster = parse(&object, &settings)?;
    let key = (what.namespace.clone(), what.cluster.clone());
    let declared = Declared {
        topics: declared::<Topics>(&Api::<Topic>::all(client.clone()), &key).await?,
        groups: declared::<ConsumerGroups>(&Api::<ConsumerGroup>::all(client), &key).await?,
    };
    let engine = RemotingEngine::new(Limits::default());
    let observed = observe(&engine, &cluster, &BTreeSet::new()).await;
    let mut groups = std::collections::BTreeMap::new();
    for (group, master) in observed.groups {
        match master {
            Ok(master) => drop(groups.insert(group, master.metadata)),
            Err(unknown) => bail!("broker group {group} can't be asked: {}", unknown.message),
        }
    }
    Ok(yaml(&manifests(&Live { cluster: key, groups }, &declared)))
}

/// Names in the engine that objects declare already.
async fn declared<K: Kind>(api: &Api<K::Object>, cluster: &Key) -> anyhow::Result<BTreeSet<String>> {
    let list = api
        .list(&ListParams::default())
        .await
        .with_context(|| format!("objects of kind {} can't be listed", K::NAME))?;
    let of_cluster = list.items.iter().map(K::parse).filter(|d| d.cluster == *cluster);
    Ok(of_cluster.map(|d| d.engine_name).collect())
}
