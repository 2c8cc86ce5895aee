//! What every pass over an object has at hand. Time and the engine come in through here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use crate::config::Settings;
use crate::engine::Engine;
use crate::labels::MANAGER;
use crate::leader::Leadership;
use crate::metrics::Metrics;

/// Shortest and longest wait after a failure; doubled from one to the next.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// What every pass over an object has at hand.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Settings of the process.
    pub settings: Settings,
    /// RocketMQ.
    pub engine: Arc<dyn Engine>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Figures about the operator itself.
    pub metrics: Metrics,
    /// Sends Events; one for the whole process because it folds repeats.
    pub recorder: Recorder,
    failures: Mutex<HashMap<String, u32>>,
    clock: Clock,
}

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Context {
    /// For one process.
    #[must_use]
    pub fn new(
        client: Client,
        settings: Settings,
        engine: Arc<dyn Engine>,
        leadership: Leadership,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(settings.identity.clone()) };
        let recorder = Recorder::new(client.clone(), reporter);
        let clock: Clock = Arc::new(Timestamp::now);
        Self { client, settings, engine, leadership, metrics, recorder, failures: Mutex::default(), clock }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The time, for conditions.
    #[must_use]
    pub fn now(&self) -> Time {
        // Whole seconds: that is what the API server keeps, and what a condition is compared with later.
        Time(Timestamp::from_second((self.clock)().as_second()).unwrap_or_default())
    }

    /// How long to wait after one more failure of this object: 1 s, 2 s, 4 s … 5 min.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let n = failures.entry(object.to_owned()).or_insert(0);
        *n += 1;
        backoff(*n)
    }

    /// Forgets the failures of an object.
    pub fn succeeded(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

/// The wait after so many failures in a row.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let seconds: Vec<u64> = (1..12).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
