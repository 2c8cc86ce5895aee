//! What was refused is tried again after 1 s, 2 s, 4 s … 5 min, each for itself: nobody else waits for it, and an edit ends the waiting.

use std::collections::BTreeMap;

use crate::context::backoff;
use crate::metadata::kind::{Declared, Key};

/// Seconds after which nobody wants any more what was due and was not tried.
const FORGOTTEN: i64 = 600;

/// What declares something: another one is another try.
pub type Declaration = Vec<(Key, Option<i64>, bool)>;

/// What one object declares.
#[must_use]
pub fn declaration(declared: &Declared) -> (Key, Option<i64>, bool) {
    (declared.key.clone(), declared.generation, declared.deleting())
}

/// What was refused, by kind and name, and when it is tried again.
#[derive(Debug)]
pub struct Retries<E>(BTreeMap<(&'static str, String), Retry<E>>);

#[derive(Debug)]
struct Retry<E> {
    of: Declaration,
    failures: u32,
    /// In seconds of the epoch.
    until: i64,
    error: E,
}

impl<E> Default for Retries<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<E> Retries<E> {
    /// Why this is not tried now, or `None`.
    #[must_use]
    pub fn waits(&self, kind: &'static str, name: &str, of: &Declaration, now: i64) -> Option<&E> {
        let retry = self.0.get(&(kind, name.to_owned()))?;
        (retry.of == *of && now < retry.until).then_some(&retry.error)
    }

    /// It was refused. Seconds until it is tried again.
    pub fn refused(&mut self, kind: &'static str, name: &str, of: Declaration, now: i64, error: E) -> i64 {
        self.0.retain(|_, retry| now - retry.until < FORGOTTEN);
        let key = (kind, name.to_owned());
        let failures = self.0.get(&key).filter(|retry| retry.of == of).map_or(0, |retry| retry.failures) + 1;
        let wait = i64::try_from(backoff(failures).as_secs()).unwrap_or(FORGOTTEN);
        self.0.insert(key, Retry { of, failures, until: now + wait, error });
        wait
    }

    /// It was taken.
    pub fn taken(&mut self, kind: &'static str, name: &str) {
        self.0.remove(&(kind, name.to_owned()));
    }

    /// Whether nothing was refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seconds until the next try.
    #[must_use]
    pub fn next(&self, now: i64) -> Option<i64> {
        self.0.values().map(|retry| retry.until - now).filter(|wait| *wait > 0).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(generation: i64) -> Declaration {
        vec![(("ns".into(), "orders".into()), Some(generation), false)]
    }

    #[test]
    fn each_refusal_doubles_the_time_until_five_minutes_and_an_edit_or_success_ends_it() {
        let mut retries = Retries::default();
        let mut now = 1000;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(retries.refused("Topic", "orders", of(1), now, "no"), wait);
            assert_eq!(retries.next(now), Some(wait));
            assert_eq!(retries.waits("Topic", "orders", &of(1), now + wait - 1), Some(&"no"));
            assert_eq!(retries.waits("Topic", "orders", &of(1), now + wait), None);
            assert_eq!(retries.waits("Topic", "orders", &of(2), now), None, "edited");
            assert_eq!(retries.waits("ConsumerGroup", "orders", &of(1), now), None, "another kind");
            now += wait;
        }
        assert_eq!(retries.refused("Topic", "orders", of(2), now, "no"), 1, "what was edited begins anew");
        retries.taken("Topic", "orders");
        assert!(retries.is_empty());
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten() {
        let mut retries = Retries::default();
        retries.refused("Topic", "orders", of(1), 1000, ());
        retries.refused("Topic", "other", of(1), 1000 + 2 * FORGOTTEN, ());
        retries.taken("Topic", "other");
        assert!(retries.is_empty());
    }
}
