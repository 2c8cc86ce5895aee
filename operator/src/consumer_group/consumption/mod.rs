//! How far consumer groups are and who consumes, for their statuses and for Prometheus. Why it is asked this way: docs/design/0005-consumption.md.

pub mod figures;
pub mod metrics;
pub mod observe;

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::ConsumerGroup;
use gantry_crds::consumer_group::Consumption;

use crate::broker_cluster::cluster::Cluster;
use crate::context::Context;
use crate::metadata::kind::{Declared, Key};
use crate::metadata::view::{Master, Observed};

/// Seconds between two looks at a cluster, so also between two writes of one group's figures.
pub const EVERY: i64 = 30;
/// Calls for single groups in one look, about: with one broker group that is all of a hundred consumer groups.
const CALLS: usize = 400;
/// Of the groups that one look asks, the part that goes to those that seem idle: their clients come and go unseen otherwise.
const IDLE_SHARE: usize = 4;

/// How far a group is over all masters, by the calls that tell it of all groups at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Messages consumed per second.
    pub tps: f64,
    /// Messages not yet acknowledged, by topic.
    pub lag: BTreeMap<String, i64>,
}

/// What earlier looks saw. Kept between passes; an operator that starts anew looks anew.
#[derive(Debug, Default)]
pub struct Looks {
    /// When the last one was, in seconds of the epoch.
    last: Option<i64>,
    number: u64,
    groups: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    totals: Totals,
    /// The totals when it was asked last, and in which look that was.
    asked: Option<(u64, Totals)>,
    figures: Option<Consumption>,
}

impl Looks {
    /// Whether it is time for another look.
    #[must_use]
    pub fn is_due(&self, now: i64) -> bool {
        self.last.is_none_or(|last| now - last >= EVERY || now < last)
    }

    /// The figures of a group, as they are told.
    #[must_use]
    pub fn figures(&self, group: &str) -> Option<&Consumption> {
        self.groups.get(group)?.figures.as_ref()
    }

    /// Takes what a look at `now` saw of all groups. What is no longer declared is forgotten.
    pub fn seen(&mut self, now: i64, declared: &BTreeSet<&str>, mut totals: BTreeMap<String, Totals>) {
        self.last = Some(now);
        self.number += 1;
        self.groups.retain(|name, _| declared.contains(name.as_str()));
        for name in declared {
            let seen = self.groups.entry((*name).to_owned()).or_default();
            seen.totals = totals.remove(*name).unwrap_or_default();
        }
    }

    /// The groups to be asked one by one, at most `most`: those that are at work and were not asked for the longest time, then the idle ones.
    #[must_use]
    pub fn choose(&self, most: usize) -> Vec<String> {
        let mut all: Vec<(bool, Option<u64>, &String)> = self
            .groups
            .iter()
            .map(|(name, seen)| (!seen.is_at_work(), seen.asked.as_ref().map(|a| a.0), name))
            .collect();
        all.sort();
        let busy = all.iter().filter(|(idle, ..)| !idle).count();
        let idle = (all.len() - busy).min((most / IDLE_SHARE).max(most.saturating_sub(busy)));
        let chosen = all[..busy].iter().take(most - idle).chain(all[busy..].iter().take(idle));
        chosen.map(|(_, _, name)| (*name).clone()).collect()
    }

    /// Takes the answer of one group.
    pub fn answered(&mut self, group: &str, figures: Consumption) {
        let number = self.number;
        if let Some(seen) = self.groups.get_mut(group) {
            seen.asked = Some((number, seen.totals.clone()));
            seen.figures = Some(figures);
        }
    }
}

impl Seen {
    /// Whether something moved since it was asked last.
    fn is_at_work(&self) -> bool {
        match &self.asked {
            Some((_, then)) => *then != self.totals,
            None => self.totals != Totals::default(),
        }
    }
}

/// Looks at a cluster's groups, where it is time for that. What can't be learnt leaves the figures as they are: unknown is not zero.
pub async fn look(
    ctx: &Context,
    key: &Key,
    cluster: &Cluster,
    groups: &[(Declared, &ConsumerGroup)],
    observed: &Observed,
    looks: &mut Looks,
) {
    let now = ctx.now().0.as_second();
    let masters: Result<Vec<&Master>, _> = observed.groups.values().map(Result::as_ref).collect();
    let (true, Ok(masters)) = (looks.is_due(now), masters) else { return };
    let asking = observe::Asking::new(&*ctx.engine, cluster, &masters);
    let all = match asking.all().await {
        Ok(all) => all,
        Err(error) => return tracing::info!(cluster = %key.1, %error, "nobody can say how far consumer groups are"),
    };
    let declared: BTreeSet<&str> =
        groups.iter().filter(|(d, _)| !d.deleting()).map(|(d, _)| d.engine_name.as_str()).collect();
    looks.seen(now, &declared, all.totals);
    let chosen = looks.choose((CALLS / (3 * masters.len().max(1) + 1)).max(8));
    let by_name: BTreeMap<&str, &ConsumerGroup> = groups.iter().map(|(d, o)| (d.engine_name.as_str(), *o)).collect();
    for (group, reading) in asking.each(&chosen).await {
        let Some(object) = by_name.get(group.as_str()) else { continue };
        let former = looks.figures(&group).cloned().or_else(|| object.status.as_ref()?.consumption.clone());
        let figures = figures::figures(&group, &object.spec.subscriptions, &reading, &all.delayed, former.as_ref());
        looks.answered(&group, figures);
    }
    let rows = looks.groups.iter().map(|(name, seen)| (name.as_str(), &seen.totals, seen.figures.as_ref()));
    ctx.metrics.consumption.set(key, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(groups: &[&str]) -> Looks {
        let mut looks = Looks::default();
        looks.seen(0, &groups.iter().copied().collect(), BTreeMap::new());
        looks
    }

    fn totals(lag: i64) -> Totals {
        Totals { tps: 0.0, lag: BTreeMap::from([("orders".into(), lag)]) }
    }

    #[test]
    fn groups_at_work_come_first_and_idle_ones_by_turns() {
        let names: Vec<String> = (0..20).map(|i| format!("g{i:02}")).collect();
        let declared: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut looks = looks(&[]);
        let mut asked = BTreeMap::<String, u32>::new();
        for round in 0..10 {
            looks.seen(round, &declared, BTreeMap::from([("g19".to_owned(), totals(round + 1))]));
            let chosen = looks.choose(4);
            assert_eq!((chosen.len(), chosen[0].as_str()), (4, "g19"));
            for name in chosen {
                *asked.entry(name.clone()).or_default() += 1;
                looks.answered(&name, Consumption::default());
            }
        }
        assert_eq!(asked["g19"], 10);
        assert_eq!(asked.len(), 20, "everybody had a turn: {asked:?}");
    }

    #[test]
    fn many_at_work_leave_a_part_to_the_idle() {
        let names: Vec<String> = (0..20).map(|i| format!("g{i:02}")).collect();
        let mut looks = looks(&[]);
        let busy = names.iter().take(16).map(|n| (n.clone(), totals(1))).collect();
        looks.seen(0, &names.iter().map(String::as_str).collect(), busy);
        let chosen = looks.choose(8);
        assert_eq!(chosen.len(), 8);
        assert_eq!(chosen.iter().filter(|n| n.as_str() >= "g16").count(), 2);
    }

    #[test]
    fn what_did_not_move_since_it_was_asked_is_idle_whatever_its_lag() {
        let mut looks = looks(&[]);
        let declared = BTreeSet::from(["a", "b"]);
        looks.seen(0, &declared, BTreeMap::from([("a".to_owned(), totals(7))]));
        assert_eq!(looks.choose(1), ["a"]);
        looks.answered("a", Consumption::default());
        looks.seen(30, &declared, BTreeMap::from([("a".to_owned(), totals(7))]));
        assert_eq!(looks.choose(1), ["b"]);
    }

    #[test]
    fn a_look_is_due_every_thirty_seconds() {
        let looks = looks(&["a"]);
        assert!(!looks.is_due(29) && looks.is_due(30) && Looks::default().is_due(0));
    }
}
