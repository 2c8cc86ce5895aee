//! Looks at a cluster: children and pods on the API server, then the engine. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use gantry_crds::Reason;
use gantry_crds::names::Component;
use gantry_crds::names::pod_of;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::extent::{existing, set};
use crate::broker_cluster::keys;
use crate::broker_cluster::resources::Resources;
use crate::broker_cluster::transition;
use crate::broker_cluster::view::{
    ClaimFact, ConfigView, EngineView, GroupView, Identity, Known, NodeView, Observed, PodFact, RouteView, SyncState,
    Unknown,
};
use crate::engine::{
    BrokerFacts, ClusterAddresses, ClusterId, ControllerFacts, Engine, EngineFacts, Fact, GroupFacts, ReplicaFacts,
};
use crate::labels;

/// Everything that `plan` and `status` need to know.
///
/// # Errors
/// Where the API server does not answer. An engine that does not answer is no error but an unknown fact.
pub async fn observe(
    cluster: &Cluster,
    client: &Client,
    engine: &dyn Engine,
    now: &Time,
) -> Result<Observed, kube::Error> {
    let mut live = children(cluster, client).await?;
    let claims: Vec<PersistentVolumeClaim> = list(cluster, client, &labels::of_claims(&cluster.name)).await?;
    let mut claims: Vec<ClaimFact> = claims.iter().map(|c| ClaimFact::of(c, &cluster.owner.uid)).collect();
    claims.sort_by(|a, b| a.name.cmp(&b.name));
    let pods: Vec<Pod> = list(cluster, client, &labels::of_cluster(&cluster.name)).await?;
    let mut pods: Vec<PodFact> = pods.iter().filter_map(PodFact::of).collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &cluster.namespace);
    for name in unlisted(&live, &pods) {
        live.stateful_sets.extend(sets.get_opt(&name).await?);
    }
    // Before the first pod runs nobody could answer, and looking up names that are not there yet only fills negative caches.
    let cluster = &existing(cluster, &live);
    let engine = if pods.iter().any(|p| p.component != Component::Proxy) {
        let facts = engine.observe(&addresses(cluster)).await;
        let mut view = view(cluster, &facts);
        // What nobody could look at in time is not known.
        let look = transition::look(cluster, engine, &facts, &mut view);
        if tokio::time::timeout(transition::TIME_LIMIT, look).await.is_err() {
            tracing::warn!(cluster = %cluster.name, "to look at a broker group that is on its way took too long");
        }
        view
    } else {
        EngineView::default()
    };
    let nodes = nodes(client, &pods, &engine).await;
    Ok(Observed { nodes, live, claims, pods, engine, now: now.0.as_second(), ..Observed::default() })
}

/// Names of StatefulSets that have pods and were not found by their labels: somebody took these away. A broker group on its way out would be forgotten with
/// all that it holds.
#[must_use]
pub fn unlisted(live: &Resources, pods: &[PodFact]) -> BTreeSet<String> {
    let sets = pods.iter().filter(|p| !p.set.is_empty()).map(|p| p.set.clone());
    sets.filter(|name| set(live, name).is_none()).collect()
}

/// Which nodes take no new pods: those of masters and former masters, and where one of these is to be drained, all that its group runs on.
async fn nodes(client: &Client, pods: &[PodFact], engine: &EngineView) -> NodeView {
    let replicated = |group: &str| pods.iter().filter(|p| p.set == group).count() > 1;
    let masters: BTreeSet<&String> = engine
        .groups
        .iter()
        .filter(|(g, _)| replicated(g))
        .filter_map(|(_, v)| v.sync.as_ref().ok()?.master.as_ref())
        .collect();
    let of = |wanted: &dyn Fn(&PodFact) -> bool| -> BTreeSet<String> {
        pods.iter().filter(|p| wanted(p)).filter_map(|p| p.node.clone()).collect()
    };
    let mut view = NodeView::default();
    let leading = of(&|p| masters.contains(&p.name) || p.role.as_deref() == Some(labels::MASTER));
    look_at(client, &leading, &mut view).await;
    if !view.cordoned.is_empty() {
        let groups: BTreeSet<&String> = pods
            .iter()
            .filter(|p| masters.contains(&p.name) && p.node.as_ref().is_some_and(|n| view.cordoned.contains(n)))
            .map(|p| &p.set)
            .collect();
        let others = of(&|p| groups.contains(&p.set)).difference(&leading).cloned().collect();
        look_at(client, &others, &mut view).await;
    }
    view
}

/// Asks about these nodes, and adds what is learnt.
pub async fn look_at(client: &Client, names: &BTreeSet<String>, view: &mut NodeView) {
    let api: Api<Node> = Api::all(client.clone());
    let ask = |name: &String| {
        let (api, name) = (api.clone(), name.clone());
        async move { (api.get_opt(&name).await, name) }
    };
    for (answer, name) in join_all(names.iter().map(ask)).await {
        match answer {
            Ok(node) => {
                if node.and_then(|n| n.spec?.unschedulable).unwrap_or(false) {
                    view.cordoned.insert(name);
                }
            }
            Err(error) => view.unknown = Some(error.to_string()),
        }
    }
}

async fn children(cluster: &Cluster, client: &Client) -> Result<Resources, kube::Error> {
    let all = &labels::of_cluster(&cluster.name);
    let (service_accounts, config_maps, services, budgets, sets, deployments, autoscalers) = futures::try_join!(
        list(cluster, client, all),
        list(cluster, client, all),
        list(cluster, client, all),
        list(cluster, client, all),
        list(cluster, client, all),
        list(cluster, client, all),
        list(cluster, client, all),
    )?;
    Ok(Resources {
        service_accounts,
        config_maps,
        services,
        pod_disruption_budgets: budgets,
        stateful_sets: sets,
        deployments,
        horizontal_pod_autoscalers: autoscalers,
    })
}

async fn list<K>(cluster: &Cluster, client: &Client, selector: &str) -> Result<Vec<K>, kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &cluster.namespace);
    Ok(api.list(&ListParams::default().labels(selector)).await?.items)
}

/// All processes of a cluster.
#[must_use]
pub fn addresses(cluster: &Cluster) -> ClusterAddresses {
    ClusterAddresses {
        cluster: ClusterId::new(&cluster.namespace, &cluster.name),
        name_servers: cluster.name_server_addresses(),
        controllers: cluster.controller_addresses(),
        groups: cluster.groups().into_iter().map(|g| (g.clone(), cluster.broker_addresses(&g))).collect(),
    }
}

/// Those of the controllers, and the groups to ask them about: nobody else is asked.
#[must_use]
pub fn of_controllers(cluster: &Cluster) -> ClusterAddresses {
    ClusterAddresses {
        cluster: ClusterId::new(&cluster.namespace, &cluster.name),
        name_servers: Vec::new(),
        controllers: cluster.controller_addresses(),
        groups: cluster.groups().into_iter().map(|group| (group, Vec::new())).collect(),
    }
}

/// The engine's facts by pod names.
#[must_use]
pub fn view(cluster: &Cluster, facts: &EngineFacts) -> EngineView {
    let groups = cluster.groups();
    EngineView {
        controller_leader: leader(facts),
        leaderless: leaderless(facts),
        groups: groups.iter().map(|g| (g.clone(), group(facts, g))).collect(),
        routes: facts
            .name_servers
            .iter()
            .map(|(address, registered)| (pod_of(address), route(registered, &groups)))
            .collect(),
        configs: facts.brokers.iter().map(|(address, b)| (pod_of(address), config(&b.config))).collect(),
        disks: facts.brokers.iter().filter_map(|(address, b)| Some((pod_of(address), percent(b)?))).collect(),
    }
}

// Cast from a float between 0 and 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn percent(broker: &BrokerFacts) -> Option<u8> {
    let ratio = (*broker.disk_ratio.known()?)?;
    Some((ratio.clamp(0.0, 1.0) * 100.0) as u8)
}

fn group(facts: &EngineFacts, group: &str) -> GroupView {
    GroupView { sync: sync(facts, group), left: None, lacks: None }
}

fn config(fact: &Fact<BTreeMap<String, String>>) -> ConfigView {
    let live = match fact {
        Fact::Unknown { unknown: error } => Err(error.into()),
        Fact::Known(all) => {
            Ok(all.iter().filter(|(k, _)| keys::is_live(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
    };
    ConfigView { live }
}

/// The leader that any controller sees; `None` only where all that answer see none.
fn leader(facts: &EngineFacts) -> Known<Option<String>> {
    let mut answered = false;
    let mut problem = Unknown::not_asked();
    for fact in facts.controllers.values() {
        match fact {
            Fact::Known(c) => {
                if let Some(leader) = &c.leader {
                    return Ok(Some(pod_of(&leader.address)));
                }
                answered = true;
            }
            Fact::Unknown { unknown: error } => problem = error.into(),
        }
    }
    if answered { Ok(None) } else { Err(problem) }
}

fn leaderless(facts: &EngineFacts) -> BTreeSet<String> {
    let sees_none = |fact: &Fact<ControllerFacts>| fact.known().is_some_and(|c| c.leader.is_none());
    facts.controllers.iter().filter(|(_, fact)| sees_none(fact)).map(|(address, _)| pod_of(address)).collect()
}

fn sync(facts: &EngineFacts, group: &str) -> Known<SyncState> {
    match facts.groups.get(group) {
        None => Err(Unknown::not_asked()),
        Some(Fact::Unknown { unknown: error }) => Err(error.into()),
        Some(Fact::Known(None)) => Ok(SyncState::default()),
        Some(Fact::Known(Some(g))) => sync_state(facts, group, g),
    }
}

fn sync_state(facts: &EngineFacts, group: &str, g: &GroupFacts) -> Known<SyncState> {
    let replicas = || g.in_sync.iter().chain(&g.not_in_sync);
    let behind: BTreeMap<String, i64> = g
        .not_in_sync
        .iter()
        .filter_map(|r| Some((pod_of(&r.address), facts.behind_bytes(group, &r.address)?)))
        .collect();
    // A replica that lost its volume is known twice, by its old and by its new id: the one that is alive, else the newer, is it.
    let mut ids: BTreeMap<String, (bool, u64)> = BTreeMap::new();
    for r in replicas() {
        let id = ids.entry(pod_of(&r.address)).or_default();
        *id = (*id).max((r.alive, r.id));
    }
    let ids =
        ids.into_iter().map(|(pod, (_, id))| i64::try_from(id).map(|id| (pod, id))).collect::<Result<_, _>>().map_err(
            |_| Unknown {
                reason: Reason::EngineAnswerNotUnderstood.as_str().into(),
                message: format!("a broker id of {group} is too large"),
            },
        )?;
    let identity = |r: &ReplicaFacts, in_sync| Identity { id: r.id, pod: pod_of(&r.address), alive: r.alive, in_sync };
    let mut identities: Vec<Identity> = g.in_sync.iter().map(|r| identity(r, true)).collect();
    identities.extend(g.not_in_sync.iter().map(|r| identity(r, false)));
    identities.sort_by_key(|i| i.id);
    Ok(SyncState {
        answering: replicas()
            .filter(|r| facts.brokers.get(&r.address).is_some_and(|b| b.replication.known().is_some()))
            .map(|r| pod_of(&r.address))
            .collect(),
        identities,
        ends: replicas()
            .filter_map(|r| Some((pod_of(&r.address), facts.brokers.get(&r.address)?.replication.known()?.max_offset)))
            .collect(),
        followers: facts.followers(group),
        master: g.master_address.as_deref().map(pod_of),
        epoch: i64::from(g.master_epoch),
        // The set keeps dead replicas until the master drops them: they hold what they hold, but nobody can be sure of it now.
        in_sync: g.in_sync.iter().filter(|r| r.alive).map(|r| pod_of(&r.address)).collect(),
        ids,
        behind,
    })
}

fn route(registered: &Fact<Vec<crate::engine::Registered>>, groups: &[String]) -> RouteView {
    let masters = match registered {
        Fact::Unknown { unknown: error } => Err(error.into()),
        Fact::Known(brokers) => Ok(groups
            .iter()
            .filter(|g| brokers.iter().any(|b| b.group == **g))
            .map(|g| (g.clone(), brokers.iter().find(|b| b.group == *g && b.id == 0).map(|b| pod_of(&b.address))))
            .collect()),
    };
    RouteView { masters }
}
