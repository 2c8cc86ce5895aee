//! How far a broker group that is to go is: figures for people, kept in the status from pass to pass. Pure.

use std::collections::BTreeMap;

use gantry_crds::status::{ConsumerLag, DrainStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::broker_cluster::view::{Known, Left};

/// Seconds between two figures: each is a write to the API server.
const EVERY: i64 = 10;
/// Seconds without any progress after which a consumer group is called stuck.
const STUCK: i64 = 300;
/// Names that a status holds at most.
const MOST: usize = 20;

/// What is said of a group's drain after a look.
#[must_use]
pub fn drain(old: Option<&DrainStatus>, left: Option<&Known<Left>>, now: &Time) -> Option<DrainStatus> {
    let Some(Ok(left)) = left else {
        // Nobody could look: the minute of emptiness begins anew.
        return old.cloned().map(|old| DrainStatus { empty_since: None, ..old });
    };
    let empty_since = left.is_empty().then(|| old.and_then(|o| o.empty_since.clone()).unwrap_or_else(|| now.clone()));
    if let Some(old) = old.filter(|o| o.empty_since.is_some() == left.is_empty() && since(&o.at, now) < EVERY) {
        return Some(old.clone());
    }
    Some(DrainStatus {
        since: old.map_or_else(|| now.clone(), |o| o.since.clone()),
        at: now.clone(),
        empty_since,
        messages: left.messages(),
        delayed: left.delayed,
        transactions: left.transactions,
        estimated_seconds: old.and_then(|o| estimate(o, left, now)),
        consumers: consumers(old, &left.consumers, now),
        unread_topics: left.unread.keys().take(MOST).cloned().collect(),
    })
}

fn since(then: &Time, now: &Time) -> i64 {
    now.0.as_second() - then.0.as_second()
}

fn estimate(old: &DrainStatus, left: &Left, now: &Time) -> Option<i64> {
    let (read, seconds) = (old.messages - left.messages(), since(&old.at, now));
    (read > 0 && seconds > 0).then(|| left.messages().saturating_mul(seconds) / read)
}

fn consumers(old: Option<&DrainStatus>, left: &BTreeMap<String, i64>, now: &Time) -> Vec<ConsumerLag> {
    let before = |group: &String| old.and_then(|o| o.consumers.iter().find(|c| c.group == *group));
    let lag = |(group, messages): (&String, &i64)| {
        let same = before(group).filter(|b| b.messages <= *messages);
        let progressed_at = same.map_or_else(|| now.clone(), |b| b.progressed_at.clone());
        let stuck = since(&progressed_at, now) >= STUCK;
        ConsumerLag { group: group.clone(), messages: *messages, progressed_at, stuck }
    };
    let mut all: Vec<ConsumerLag> = left.iter().map(lag).collect();
    all.sort_by_key(|c| (std::cmp::Reverse(c.messages), c.group.clone()));
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn left(billing: i64) -> Known<Left> {
        let consumers = if billing > 0 { [("billing".to_owned(), billing)].into() } else { BTreeMap::new() };
        Ok(Left { consumers, ..Left::default() })
    }

    fn looks(all: &[(i64, i64)]) -> DrainStatus {
        let looked = all.iter().fold(None, |old, (second, n)| drain(old.as_ref(), Some(&left(*n)), &at(*second)));
        looked.unwrap()
    }

    #[test]
    fn figures_are_written_every_ten_seconds_and_at_once_when_nothing_is_left() {
        assert_eq!(looks(&[(0, 100), (9, 50)]).messages, 100);
        assert_eq!(looks(&[(0, 100), (10, 50)]).messages, 50);
        let empty = looks(&[(0, 100), (3, 0)]);
        assert_eq!((empty.messages, empty.empty_since), (0, Some(at(3))));
    }

    #[test]
    fn the_time_that_is_left_follows_from_the_last_two_figures() {
        assert_eq!(looks(&[(0, 100)]).estimated_seconds, None);
        assert_eq!(looks(&[(0, 100), (10, 80)]).estimated_seconds, Some(40));
        assert_eq!(looks(&[(0, 100), (10, 120)]).estimated_seconds, None);
    }

    #[test]
    fn a_consumer_group_that_does_not_get_on_for_five_minutes_is_stuck() {
        let stuck = |all: &[(i64, i64)]| looks(all).consumers[0].stuck;
        assert!(!stuck(&[(0, 100), (299, 100)]));
        assert!(stuck(&[(0, 100), (300, 100)]));
        assert!(!stuck(&[(0, 100), (200, 99), (400, 99)]));
    }

    #[test]
    fn emptiness_that_nobody_could_see_begins_anew() {
        let empty = looks(&[(0, 0), (30, 0)]);
        assert_eq!(empty.empty_since, Some(at(0)));
        let unknown = Err(crate::broker_cluster::view::Unknown::not_asked());
        let unseen = drain(Some(&empty), Some(&unknown), &at(40)).unwrap();
        assert_eq!(unseen.empty_since, None);
        assert_eq!(drain(Some(&unseen), Some(&left(0)), &at(41)).unwrap().empty_since, Some(at(41)));
    }
}
