//! Broker ids that the controllers keep of replicas that are no more. Pure.
//!
//! A replica whose volume is empty registers under a new id, and the controllers keep the old one for ever. One that is forgotten too early is
//! refused when it comes back (CONTROLLER_BROKER_NEED_TO_BE_REGISTERED), and with the last id of the sync state set the engine forgets the set itself:
//! the next broker that registers would become master, whatever it lacks (ReplicasInfoManager.java, handleCleanBrokerDataEvent).

use std::collections::BTreeSet;

use gantry_crds::names;

use crate::broker_cluster::call::Call;
use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::view::{Identity, Observed, SyncState};

/// Ids to be forgotten, a call for each group that has some.
#[must_use]
pub fn stale(cluster: &Cluster, observed: &Observed) -> Vec<Call> {
    let groups = cluster.groups().into_iter();
    groups
        .filter_map(|group| {
            let sync = observed.engine.sync(&group).ok()?;
            let stale: Vec<&Identity> = sync.identities.iter().filter(|i| is_stale(observed, sync, i)).collect();
            let ids: BTreeSet<u64> = stale.iter().map(|i| i.id).collect();
            let pods: BTreeSet<String> = stale.into_iter().map(|i| i.pod.clone()).collect();
            (!ids.is_empty()).then_some(Call::Forget { group, ids, pods })
        })
        .collect()
}

fn is_stale(observed: &Observed, sync: &SyncState, identity: &Identity) -> bool {
    // Without a master nobody keeps the sync state set, and what is in it may be the last copy.
    let counts = sync.master.is_none() || identity.in_sync || identity.alive;
    !counts && (is_superseded(sync, identity) || is_removed(observed, identity))
}

/// Its pod has another id by now, so its volume is another one.
pub fn is_superseded(sync: &SyncState, identity: &Identity) -> bool {
    sync.identities.iter().any(|newer| newer.pod == identity.pod && newer.id > identity.id && newer.alive)
}

/// There is neither its pod nor its volume. A volume that is kept keeps its id: it could not be used again without.
fn is_removed(observed: &Observed, identity: &Identity) -> bool {
    let claim = names::claim_of(&identity.pod);
    !observed.claims.iter().any(|c| c.name == claim) && !observed.pods.iter().any(|p| p.name == identity.pod)
}

/// A group that has lost every copy that was in sync, where that can be told: all their pods came back with empty volumes.
#[must_use]
pub fn copies_lost(group: &str, sync: &SyncState) -> Option<Hold> {
    let mut in_sync = sync.identities.iter().filter(|i| i.in_sync).peekable();
    in_sync.peek()?;
    let lost: Vec<&Identity> = in_sync.collect();
    let all = lost.iter().all(|i| !i.alive && is_superseded(sync, i));
    let mut pods: Vec<String> = lost.into_iter().map(|i| i.pod.clone()).collect();
    pods.sort();
    pods.dedup();
    all.then(|| Hold::CopiesLost { group: group.to_owned(), pods })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1+ a` is in sync, `2! a` alive, `3 b` neither; the first one of both is master.
    fn sync(ids: &[(u64, &str, &str)]) -> SyncState {
        let identities: Vec<Identity> = ids
            .iter()
            .map(|(id, marks, pod)| Identity {
                id: *id,
                pod: format!("shop-broker-0-{pod}"),
                alive: marks.contains('!'),
                in_sync: marks.contains('+'),
            })
            .collect();
        let master = identities.iter().find(|i| i.alive && i.in_sync).map(|i| i.pod.clone());
        SyncState { master, identities, ..SyncState::default() }
    }

    fn stale_ids(ids: &[(u64, &str, &str)], claims: &[&str]) -> Vec<u64> {
        let claims = claims.iter().map(|pod| crate::broker_cluster::view::ClaimFact {
            name: format!("data-shop-broker-0-{pod}"),
            ..Default::default()
        });
        let (observed, sync) = (Observed { claims: claims.collect(), ..Observed::default() }, sync(ids));
        sync.identities.iter().filter(|i| is_stale(&observed, &sync, i)).map(|i| i.id).collect()
    }

    #[test]
    fn an_old_id_is_forgotten_when_its_pod_lives_under_a_newer_one() {
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "", "1"), (3, "!", "1")], &["0", "1"]), [2]);
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "", "1"), (3, "!+", "1"), (4, "", "1")], &["0", "1"]), [2]);
    }

    #[test]
    fn an_id_without_pod_and_volume_is_forgotten_and_one_whose_volume_is_kept_is_not() {
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "", "1")], &["0"]), [2]);
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "", "1")], &["0", "1"]), Vec::<u64>::new());
    }

    #[test]
    fn an_id_that_is_alive_or_in_sync_or_without_a_master_is_never_forgotten() {
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "!", "1"), (3, "!", "1")], &["0", "1"]), Vec::<u64>::new());
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "+", "1"), (3, "!", "1")], &["0", "1"]), Vec::<u64>::new());
        assert_eq!(stale_ids(&[(1, "+", "0"), (2, "", "1"), (3, "!", "1")], &["0", "1"]), Vec::<u64>::new());
        assert_eq!(stale_ids(&[(1, "!+", "0"), (2, "", "1"), (3, "", "1")], &["0", "1"]), Vec::<u64>::new());
    }

    #[test]
    fn copies_are_lost_when_every_pod_that_was_in_sync_came_back_under_another_id() {
        let lost = |ids: &[(u64, &str, &str)]| copies_lost("shop-broker-0", &sync(ids)).is_some();
        assert!(lost(&[(1, "+", "0"), (2, "", "1"), (3, "!", "0"), (4, "!", "1")]));
        assert!(!lost(&[(1, "+", "0"), (2, "+", "1"), (3, "!", "0")]), "one copy may still come back");
        assert!(!lost(&[(1, "+", "0"), (3, "", "0")]), "nobody heard of its successor");
        assert!(!lost(&[(1, "!+", "0"), (2, "", "1"), (3, "!", "1")]));
        assert!(!lost(&[]));
    }
}
