//! Notices new masters between two looks at a cluster, and helps replicas to follow them. Pods tell of a process that ends, nobody tells of one that hangs,
//! is cut off or lost its node: its group gets another master by itself, but messages are acknowledged only when a second replica follows that one.
//!
//! A look at the whole cluster takes seconds while a broker does not answer, so what can't wait is done here: it follows from what the controllers have
//! decided, and does not decide anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, stream};
use gantry_crds::BrokerCluster;
use kube::runtime::reflector::Store;
use tokio::time::Instant;

use crate::apply;
use crate::broker_cluster::call::Call;
use crate::broker_cluster::cluster::{Cluster, Mode};
use crate::broker_cluster::observe::of_controllers;
use crate::broker_cluster::parse::parse;
use crate::context::Context;
use crate::engine::{ClusterId, EngineWrite, Fact, GroupFacts};

/// Time between two questions: two requests to the controllers of each cluster with replicas. The engine's brokers take up to 3 s to change their roles
/// when their master hangs; name servers must have forgotten that one before.
const EVERY: Duration = Duration::from_secs(1);
/// For how long after a switch replicas are told whom to follow. After that they have learned it by themselves, with their next registration.
const HELP: Duration = Duration::from_secs(15);

/// A group when it was last seen.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    epoch: u32,
    master: Option<String>,
    switched: Option<Instant>,
}

/// By cluster and broker group.
type Known = BTreeMap<(ClusterId, String), Seen>;

/// An item for every time that some group of some cluster has another master.
pub fn switches(ctx: Arc<Context>, clusters: Store<BrokerCluster>) -> impl Stream<Item = ()> {
    stream::unfold((ctx, clusters, Known::new()), |(ctx, clusters, mut known)| async move {
        loop {
            tokio::time::sleep(EVERY).await;
            if look(&ctx, &clusters, &mut known).await {
                return Some(((), (ctx, clusters, known)));
            }
        }
    })
}

/// Asks all controllers once, and does what can't wait. Whether a group has another master than before.
async fn look(ctx: &Context, clusters: &Store<BrokerCluster>, known: &mut Known) -> bool {
    let replicated =
        clusters.state().into_iter().filter_map(|o| parse(&o, &ctx.settings).ok().filter(|c| c.brokers.replicas > 1));
    let asked = replicated.map(|cluster| async move { (groups(ctx, &cluster).await, cluster) });
    let (mut switched, mut writes) = (false, Vec::new());
    for (groups, cluster) in join_all(asked).await {
        let id = ClusterId::new(&cluster.namespace, &cluster.name);
        // What can't be asked now is compared when it can.
        for (group, facts) in groups {
            let before = known.get(&(id.clone(), group.clone()));
            let now = seen(before, &facts, Instant::now());
            switched |= before.is_some_and(|b| b.epoch != now.epoch);
            if cluster.mode == Mode::Apply {
                writes.extend(help(&cluster, &group, before, &now, &facts).into_iter().map(|w| (id.clone(), w)));
            }
            known.insert((id.clone(), group), now);
        }
    }
    join_all(writes.iter().map(|(id, write)| apply::help(ctx, id, write))).await;
    switched
}

/// What the controllers say of a cluster's groups.
async fn groups(ctx: &Context, cluster: &Cluster) -> Vec<(String, GroupFacts)> {
    let facts = ctx.engine.observe(&of_controllers(cluster)).await.groups;
    facts.into_iter().filter_map(|(group, fact): (String, Fact<_>)| Some((group, fact.known()?.clone()?))).collect()
}

fn seen(before: Option<&Seen>, facts: &GroupFacts, now: Instant) -> Seen {
    // An election that is not over is none yet.
    if let Some(before) = before.filter(|_| facts.master_address.is_none()) {
        return before.clone();
    }
    let switched = match before {
        Some(before) if before.epoch != facts.master_epoch => Some(now),
        Some(before) => before.switched.filter(|s| now.duration_since(*s) < HELP),
        None => None,
    };
    Seen { epoch: facts.master_epoch, master: facts.master_address.clone(), switched }
}

/// Name servers forget a former master that is silent, before replicas are sent to it; replicas that live and are not in sync are told where to go.
fn help(cluster: &Cluster, group: &str, before: Option<&Seen>, now: &Seen, facts: &GroupFacts) -> Vec<EngineWrite> {
    let mut writes = Vec::new();
    let Some(master) = now.master.as_ref().filter(|_| now.switched.is_some()) else { return writes };
    let silent = |address: &String| {
        let mut replicas = facts.in_sync.iter().chain(&facts.not_in_sync);
        !replicas.any(|r| r.address == *address && r.alive)
    };
    let former = before.filter(|b| b.epoch != now.epoch).and_then(|b| b.master.clone());
    if let Some(address) = former.filter(|f| f != master && silent(f)) {
        let name_servers = cluster.name_server_addresses();
        writes.push(EngineWrite::ForgetMaster { name_servers, group: group.to_owned(), address });
    }
    let pods = cluster.pods_of(group);
    let pod = |address: &str| pods.iter().find(|p| cluster.address_of_broker(p) == address).cloned();
    let waiting = facts.not_in_sync.iter().filter(|r| r.alive && r.address != *master);
    let replicas: Vec<String> = waiting.filter_map(|r| pod(&r.address)).collect();
    if let Some(master) = pod(master).filter(|_| !replicas.is_empty()) {
        writes.push(Call::Follow { master, replicas: replicas.into_iter().collect() }.write(cluster));
    }
    writes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Settings;
    use crate::engine::ReplicaFacts;

    fn cluster() -> Cluster {
        let object = json!({"apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"brokers": {"replicas": 3}}});
        parse(&serde_json::from_value(object).unwrap(), &Settings::default()).unwrap()
    }

    fn address(cluster: &Cluster, nth: usize) -> String {
        cluster.address_of_broker(&format!("c-broker-0-{nth}"))
    }

    /// Replica 0 was the master; 1 is, in sync alone.
    fn after(cluster: &Cluster, alive: [bool; 3]) -> GroupFacts {
        let replica =
            |nth: usize| ReplicaFacts { id: nth as u64 + 1, address: address(cluster, nth), alive: alive[nth] };
        GroupFacts {
            master_id: Some(2),
            master_address: Some(address(cluster, 1)),
            master_epoch: 8,
            sync_state_set_epoch: 9,
            in_sync: vec![replica(1)],
            not_in_sync: vec![replica(0), replica(2)],
        }
    }

    fn before(cluster: &Cluster) -> Seen {
        Seen { epoch: 7, master: Some(address(cluster, 0)), switched: None }
    }

    #[test]
    fn a_master_that_hung_is_forgotten_and_the_other_replica_told_whom_to_follow() {
        let cluster = cluster();
        let (facts, before, start) = (after(&cluster, [false, true, true]), before(&cluster), Instant::now());
        let now = seen(Some(&before), &facts, start);
        let forget = EngineWrite::ForgetMaster {
            name_servers: cluster.name_server_addresses(),
            group: "c-broker-0".into(),
            address: address(&cluster, 0),
        };
        let follow = EngineWrite::Follow {
            replicas: vec![address(&cluster, 2)],
            master: address(&cluster, 1),
            log: cluster.log_of_broker("c-broker-0-1"),
        };
        assert_eq!(help(&cluster, "c-broker-0", Some(&before), &now, &facts), [forget, follow.clone()]);
        // It is forgotten once, replicas are told again, for a while.
        let later = seen(Some(&now), &facts, start + EVERY);
        assert_eq!(help(&cluster, "c-broker-0", Some(&now), &later, &facts), [follow]);
        let long_after = seen(Some(&later), &facts, start + HELP);
        assert_eq!(help(&cluster, "c-broker-0", Some(&later), &long_after, &facts), []);
    }

    #[test]
    fn a_former_master_that_lives_is_not_forgotten_but_follows() {
        let cluster = cluster();
        let (facts, before) = (after(&cluster, [true, true, false]), before(&cluster));
        let now = seen(Some(&before), &facts, Instant::now());
        let [EngineWrite::Follow { replicas, .. }] = &help(&cluster, "c-broker-0", Some(&before), &now, &facts)[..]
        else {
            panic!("one write")
        };
        assert_eq!(replicas, &[address(&cluster, 0)]);
    }

    #[test]
    fn an_election_that_is_not_over_is_waited_for() {
        let cluster = cluster();
        let before = before(&cluster);
        let facts = GroupFacts { master_address: None, ..after(&cluster, [false, true, true]) };
        assert_eq!(seen(Some(&before), &facts, Instant::now()), before);
    }

    #[test]
    fn a_group_that_is_seen_for_the_first_time_has_not_switched() {
        let cluster = cluster();
        let facts = after(&cluster, [false, true, true]);
        let now = seen(None, &facts, Instant::now());
        assert_eq!(help(&cluster, "c-broker-0", None, &now, &facts), []);
    }
}
