//! The breaker that holds mass deletions. Pure.
//!
//! A pruned folder of a GitOps tool deletes hundreds of objects within seconds, and with them data that nobody meant to lose. So where more
//! than [`MOST`] topics, or more than [`PERCENT`] % of a cluster's, are deleted within [`WINDOW`], those that are still there stay until somebody
//! confirms. All of it follows from what can be seen: when objects were deleted stands in the objects, when others were deleted before them in the
//! BrokerCluster's status, and the annotation confirms by time: whatever was deleted until then is meant. Nothing is lost with the operator, and nothing
//! that is deleted after the confirmation is covered by it. The same holds for consumer groups, which take offsets along.

use std::collections::{BTreeMap, BTreeSet};

use gantry_crds::policy::ReconcilePolicy;
use gantry_crds::status::{KindDeletions, RecentDeletions};
use gantry_crds::topic::DeletionPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::metadata::kind::{Declared, Key, Kind};
use crate::metadata::view::Observed;

/// Deletions within this many seconds of each other are one mass deletion.
pub const WINDOW: i64 = 300;
/// So many are no mass deletion, where the cluster holds enough others.
pub const MOST: usize = 10;
/// So many of a hundred are none, but one always may go.
pub const PERCENT: usize = 20;

/// What the breaker lets through, and what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breaker {
    held: BTreeMap<Key, i64>,
    together: usize,
    limit: usize,
    /// Deletions that it remembers, with how many there were, by time in seconds of the epoch.
    recent: BTreeMap<i64, i32>,
}

/// An object under deletion whose topic or group would be deleted with it, and when its deletion was asked for, in seconds of the epoch.
pub type Pending = (Key, i64);

/// What would be deleted of one kind, were it let.
#[must_use]
pub fn pending<K: Kind>(objects: &[(Declared, &K::Object)], observed: &Observed) -> Vec<Pending> {
    let stays: BTreeSet<&String> = objects.iter().filter(|(d, _)| !d.deleting()).map(|(d, _)| &d.engine_name).collect();
    let held = |d: &Declared| {
        let about = observed.groups.iter().filter(|(group, _)| d.is_about(group));
        about.filter_map(|(_, m)| m.as_ref().ok()).any(|m| K::held(&m.metadata).contains_key(&d.engine_name))
    };
    let goes = |(d, object): &&(Declared, &K::Object)| {
        d.has_finalizer
            && (d.was_adopted::<K>(object) || observed.adopted.contains(&(K::NAME, d.key.clone())))
            && d.deletion != DeletionPolicy::Retain
            && d.policy == Some(ReconcilePolicy::Apply)
            && !stays.contains(&d.engine_name)
            && held(d)
    };
    let of = |d: &Declared| Some((d.key.clone(), d.deleted.as_ref()?.0.as_second()));
    objects.iter().filter(goes).filter_map(|(d, _)| of(d)).collect()
}

impl Breaker {
    /// Judges all that is under deletion. `held_by_engine`: how many of the kind the cluster holds. `confirmed`: deletions until then are meant.
    #[must_use]
    pub fn judge(
        pending: &[Pending],
        old: &KindDeletions,
        held_by_engine: usize,
        confirmed: Option<i64>,
        now: i64,
    ) -> Self {
        let doubtful: Vec<&Pending> =
            pending.iter().filter(|(_, at)| confirmed.is_none_or(|until| *at > until)).collect();
        // What was done long before the oldest that waits can't matter any more.
        let oldest = doubtful.iter().map(|(_, at)| *at).min().unwrap_or(now).min(now);
        let recent: BTreeMap<i64, i32> = old
            .recent
            .iter()
            .map(|r| (r.at.0.as_second(), r.count))
            .filter(|(at, _)| *at > oldest - WINDOW && confirmed.is_none_or(|until| *at > until))
            .collect();
        let done = |around: i64| around_time(&recent, around);
        let mut by_time: BTreeMap<i64, i32> = BTreeMap::new();
        doubtful.iter().for_each(|(_, at)| *by_time.entry(*at).or_default() += 1);
        let limit = ((held_by_engine + done(oldest)) * PERCENT / 100).clamp(1, MOST);
        let near = |at: i64| around_time(&by_time, at) + done(at);
        let held: BTreeMap<Key, i64> =
            doubtful.iter().filter(|(_, at)| near(*at) > limit).map(|p| (*p).clone()).collect();
        let most = held.values().map(|at| near(*at)).max().unwrap_or(0);
        Self { held, together: most, limit, recent }
    }

    /// Whether this object's deletion is held, and the sentence that says so.
    #[must_use]
    pub fn holds(&self, kind: &str, declared: &Declared) -> Option<String> {
        let (key, cluster) = (&declared.key, &declared.cluster);
        self.held.contains_key(key).then(|| {
            let until = self.confirm().unwrap_or_default();
            format!(
                "{} deletions of {kind}s within 5 minutes are more than {}: if they are meant, kubectl annotate brokerclusters.rocketmq.gantry.dev {} -n {} --overwrite {}={until}",
                self.together, self.limit, cluster.1, cluster.0, gantry_crds::CONFIRM_DELETIONS_ANNOTATION,
            )
        })
    }

    /// How many it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What the annotation must say to confirm all that is held now.
    fn confirm(&self) -> Option<String> {
        Timestamp::from_second(*self.held.values().max()?).ok().map(|t| t.to_string())
    }

    /// What to remember once `going` are deleted: written down before they are, so that a crash in between counts too much rather than too little.
    #[must_use]
    pub fn record(&self, going: &[Pending], confirmed: Option<i64>) -> KindDeletions {
        let mut recent = self.recent.clone();
        for (_, at) in going.iter().filter(|(_, at)| confirmed.is_none_or(|until| *at > until)) {
            *recent.entry(*at).or_default() += 1;
        }
        let entry =
            |(at, count): (i64, i32)| Some(RecentDeletions { at: Time(Timestamp::from_second(at).ok()?), count });
        KindDeletions {
            recent: recent.into_iter().filter_map(entry).collect(),
            held: i32::try_from(self.held.len()).unwrap_or(i32::MAX),
            confirm: self.confirm(),
        }
    }
}

/// How many there were less than [`WINDOW`] away.
fn around_time(counts: &BTreeMap<i64, i32>, at: i64) -> usize {
    let near = counts.range(at - WINDOW + 1..at + WINDOW);
    near.map(|(_, count)| usize::try_from(*count).unwrap_or(0)).sum()
}

/// Whether what is to be remembered is worth a write: not that something old is forgotten, an idle operator writes nothing.
#[must_use]
pub fn is_news(old: &KindDeletions, new: &KindDeletions) -> bool {
    (old.held, &old.confirm) != (new.held, &new.confirm) || new.recent.iter().any(|r| !old.recent.contains(r))
}

/// The time until which deletions are confirmed, as the annotation has it. What is no time confirms nothing.
#[must_use]
pub fn confirmed_until(annotation: Option<&String>) -> Option<i64> {
    annotation?.trim().parse::<Timestamp>().ok().map(Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deletions of so many objects at each of these seconds.
    fn pending(at: &[(i64, usize)]) -> Vec<Pending> {
        let many = |(second, n): &(i64, usize)| {
            let second = *second;
            (0..*n).map(move |i| (("ns".to_owned(), format!("t{second}-{i}")), second))
        };
        at.iter().flat_map(many).collect()
    }

    fn recent(at: &[(i64, i32)]) -> KindDeletions {
        let entry = |(at, count): &(i64, i32)| RecentDeletions {
            at: Time(Timestamp::from_second(*at).unwrap()),
            count: *count,
        };
        KindDeletions { recent: at.iter().map(entry).collect(), ..KindDeletions::default() }
    }

    struct Case {
        what: &'static str,
        pending: &'static [(i64, usize)],
        recent: &'static [(i64, i32)],
        topics: usize,
        confirmed: Option<i64>,
        held: usize,
    }

    #[test]
    fn what_is_held_and_what_is_not() {
        let base = Case { what: "", pending: &[], recent: &[], topics: 1000, confirmed: None, held: 0 };
        let cases = [
            Case { what: "nothing is deleted", ..base },
            Case { what: "ten of a thousand may go", pending: &[(5000, 10)], ..base },
            Case { what: "of eleven none goes: all are seen at once", pending: &[(5000, 11)], held: 11, ..base },
            Case { what: "one of two may go", pending: &[(5000, 1)], topics: 2, ..base },
            Case { what: "two of five are more than 20 %", pending: &[(5000, 2)], topics: 5, held: 2, ..base },
            Case { what: "two of ten are 20 %, not more", pending: &[(5000, 2)], topics: 10, ..base },
            Case {
                what: "those that went before count",
                pending: &[(5000, 1)],
                recent: &[(4900, 10)],
                held: 1,
                ..base
            },
            Case {
                what: "those that went before count to the whole",
                pending: &[(5000, 1)],
                recent: &[(4999, 1)],
                topics: 9,
                ..base
            },
            Case { what: "those that went long before do not", pending: &[(5000, 1)], recent: &[(4700, 10)], ..base },
            Case { what: "ten and ten that are five minutes apart may go", pending: &[(5000, 10), (5300, 10)], ..base },
            Case {
                what: "ten and one that are closer are held, also the former",
                pending: &[(5000, 10), (5299, 1)],
                held: 11,
                ..base
            },
            Case {
                what: "what is confirmed goes, however much",
                pending: &[(5000, 500)],
                confirmed: Some(5000),
                ..base
            },
            Case {
                what: "what is deleted after the confirmation is not covered",
                pending: &[(5000, 500), (5010, 11)],
                confirmed: Some(5000),
                held: 11,
                ..base
            },
            Case {
                what: "what was confirmed does not count against what comes later",
                pending: &[(5010, 3)],
                recent: &[(5000, 500)],
                confirmed: Some(5000),
                ..base
            },
        ];
        for c in cases {
            let breaker = Breaker::judge(&pending(c.pending), &recent(c.recent), c.topics, c.confirmed, 5400);
            assert_eq!(breaker.held(), c.held, "{}", c.what);
        }
    }

    #[test]
    fn what_is_held_stays_held_whatever_time_passes() {
        let at = pending(&[(5000, 3)]);
        let old = recent(&[(4990, 10)]);
        let first = Breaker::judge(&at, &old, 1000, None, 5001);
        assert_eq!(first.held(), 3);
        let later = Breaker::judge(&at, &first.record(&[], None), 1000, None, 5000 + 100 * WINDOW);
        assert_eq!(later.held(), 3, "what was deleted before is remembered as long as it matters");
    }

    #[test]
    fn the_sentence_names_the_annotation_that_confirms_and_it_does() {
        let at = pending(&[(1_767_225_600, 11)]);
        let breaker = Breaker::judge(&at, &KindDeletions::default(), 1000, None, 1_767_225_700);
        let object: gantry_crds::Topic = serde_json::from_value(serde_json::json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "Topic", "metadata": {"name": at[0].0.1, "namespace": "ns"},
            "spec": {"clusterRef": {"name": "shop"}},
        }))
        .unwrap();
        let sentence = breaker.holds("Topic", &crate::topic::Topics::parse(&object)).unwrap();
        assert_eq!(
            sentence,
            "11 deletions of Topics within 5 minutes are more than 10: if they are meant, kubectl annotate \
             brokerclusters.rocketmq.gantry.dev shop -n ns --overwrite gantry.dev/confirm-deletions=2026-01-01T00:00:00Z"
        );
        let written = breaker.record(&[], None).confirm.unwrap();
        let confirmed = confirmed_until(Some(&written));
        assert!(Breaker::judge(&at, &KindDeletions::default(), 1000, confirmed, 1_767_225_700).held() == 0);
    }

    #[test]
    fn what_goes_is_remembered_for_five_minutes_and_no_longer() {
        let at = pending(&[(5000, 4)]);
        let breaker = Breaker::judge(&at, &KindDeletions::default(), 1000, None, 5001);
        let written = breaker.record(&at, None);
        assert_eq!((written.recent[0].at.0.as_second(), written.recent[0].count), (5000, 4));
        assert!(Breaker::judge(&[], &written, 1000, None, 5000 + WINDOW).record(&[], None).recent.is_empty());
    }

    #[test]
    fn an_annotation_that_is_no_time_confirms_nothing() {
        assert_eq!(confirmed_until(Some(&"yes".to_owned())), None);
        assert_eq!(confirmed_until(None), None);
    }
}
