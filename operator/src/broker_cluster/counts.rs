//! How much there is of what is declared. Pure.

use gantry_crds::names::Component;
use gantry_crds::status::{GroupStatus, ReplicaState, ReplicaStatus, Summary};

use crate::broker_cluster::cluster::{Cluster, ProxyScale};
use crate::broker_cluster::view::Observed;

/// How many there are, where that is known, and how many are declared.
pub type Count = (Option<usize>, i32);

/// Ready and declared counts per role.
pub struct Counts {
    /// Name servers that are ready.
    pub name_servers: Count,
    /// Controllers that are ready.
    pub controllers: Count,
    /// Proxies that are ready.
    pub proxies: Count,
    /// Broker groups that take messages, with enough replicas in sync.
    pub groups: Count,
    /// Declared groups that do not take messages yet, and need not.
    pub on_their_way: i32,
    /// Broker replicas in sync, masters included.
    pub in_sync: Count,
}

impl Counts {
    /// What there is of what is declared, by what was seen. `all`: the cluster with everything that there is.
    #[must_use]
    pub fn of(cluster: &Cluster, all: &Cluster, observed: &Observed, groups: &[GroupStatus]) -> Self {
        let ready = |c| Some(observed.pods.iter().filter(|p| p.component == c && p.ready && !p.terminating).count());
        // A pod that serves while nobody can say what: to count it as none would be a guess.
        let declared = cluster.groups();
        let groups: Vec<&GroupStatus> = groups.iter().filter(|g| declared.contains(&g.name)).collect();
        let known = !groups.iter().flat_map(|g| &g.replicas).any(|r| r.state == ReplicaState::Unknown);
        let replicas = usize::try_from(cluster.brokers.replicas).unwrap_or(0);
        let in_sync = |g: &GroupStatus| {
            let in_sync = |r: &&ReplicaStatus| matches!(r.state, ReplicaState::Master | ReplicaState::InSync);
            g.replicas.iter().filter(in_sync).count().min(replicas)
        };
        let min = |g: &GroupStatus| usize::try_from(all.min_in_sync_of(&g.name)).unwrap_or(1);
        let serves =
            |g: &GroupStatus| g.replicas.iter().any(|r| r.state == ReplicaState::Master) && in_sync(g) >= min(g);
        let proxies = match &cluster.proxies.scale {
            ProxyScale::Fixed(n) => *n,
            ProxyScale::Auto(a) => {
                let deployment = observed.live.deployments.first().and_then(|d| d.spec.as_ref()?.replicas);
                deployment.unwrap_or(a.min_replicas)
            }
        };
        Self {
            name_servers: (ready(Component::NameServer), cluster.name_servers.replicas),
            controllers: (ready(Component::Controller), cluster.controllers.replicas),
            // A surge pod of a roll is not one proxy more than declared.
            proxies: (ready(Component::Proxy).map(|n| n.min(usize::try_from(proxies).unwrap_or(0))), proxies),
            groups: (
                known.then(|| groups.iter().filter(|g| g.phase.is_open() && serves(g)).count()),
                cluster.brokers.groups,
            ),
            on_their_way: i32::try_from(groups.iter().filter(|g| !g.phase.is_open()).count()).unwrap_or(0),
            in_sync: (
                known.then(|| groups.iter().map(|g| in_sync(g)).sum()),
                cluster.brokers.groups * cluster.brokers.replicas,
            ),
        }
    }

    /// Whether all that is declared is there.
    #[must_use]
    pub fn all(&self) -> bool {
        [self.groups, self.in_sync, self.proxies, self.name_servers, self.controllers].into_iter().all(all)
    }

    /// For `kubectl get`.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let show = |(ready, wanted): Count| format!("{}/{wanted}", shown(ready));
        Summary {
            groups: show(self.groups),
            in_sync: show(self.in_sync),
            proxies: show(self.proxies),
            name_servers: show(self.name_servers),
            controllers: show(self.controllers),
        }
    }
}

/// Whether as many are there as declared.
#[must_use]
pub fn all((ready, wanted): Count) -> bool {
    ready.is_some_and(|ready| i64::try_from(ready).unwrap_or(i64::MAX) >= i64::from(wanted))
}

/// A number, or a question mark.
#[must_use]
pub fn shown(count: Option<usize>) -> String {
    count.map_or_else(|| "?".into(), |n| n.to_string())
}
