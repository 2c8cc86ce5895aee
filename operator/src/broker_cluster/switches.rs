//! Notices new masters between two looks at a cluster. Pods tell of a process that ends, nobody tells of one that hangs: its group gets another master, whose
//! replicas then wait to be told where its log is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, stream};
use gantry_crds::BrokerCluster;
use kube::runtime::reflector::Store;

use crate::broker_cluster::parse::parse;
use crate::context::Context;
use crate::engine::{ClusterAddresses, ClusterId};

/// Time between two questions: two requests to the controllers of each cluster with replicas.
const EVERY: Duration = Duration::from_secs(2);

/// Master epochs by cluster and broker group.
type Epochs = BTreeMap<(ClusterId, String), u32>;

/// An item for every time that some group of some cluster has another master.
pub fn switches(ctx: Arc<Context>, clusters: Store<BrokerCluster>) -> impl Stream<Item = ()> {
    stream::unfold((ctx, clusters, Epochs::new()), |(ctx, clusters, mut known)| async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let now = epochs(&ctx, &clusters).await;
            let changed = now.iter().any(|(group, epoch)| known.get(group).is_some_and(|old| old != epoch));
            // What can't be asked now is compared when it can.
            known.extend(now);
            if changed {
                return Some(((), (ctx, clusters, known)));
            }
        }
    })
}

async fn epochs(ctx: &Context, clusters: &Store<BrokerCluster>) -> Epochs {
    let addresses = clusters.state().into_iter().filter_map(|object| {
        let cluster = parse(&object, &ctx.settings).ok().filter(|c| c.brokers.replicas > 1)?;
        Some(ClusterAddresses {
            cluster: ClusterId::new(&cluster.namespace, &cluster.name),
            name_servers: Vec::new(),
            controllers: cluster.controller_addresses(),
            // No broker is asked.
            groups: cluster.groups().into_iter().map(|group| (group, Vec::new())).collect(),
        })
    });
    let asked = addresses.map(|a| async move { (ctx.engine.observe(&a).await, a.cluster) });
    let answers = join_all(asked).await.into_iter().flat_map(|(facts, cluster)| {
        let epoch = move |(group, fact): (String, crate::engine::Fact<Option<crate::engine::GroupFacts>>)| {
            Some(((cluster.clone(), group), fact.known()?.as_ref()?.master_epoch))
        };
        facts.groups.into_iter().filter_map(epoch)
    });
    answers.collect()
}
