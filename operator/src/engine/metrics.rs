//! Figures about the calls to the engine.

use std::time::Duration;

use gantry_remoting::Code;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Calls to the engine by request and result. Labels are closed sets: the engine's names of some fifty requests, and reasons.
#[derive(Clone)]
pub struct EngineMetrics {
    calls: IntCounterVec,
    seconds: HistogramVec,
}

impl EngineMetrics {
    /// Registers `gantry_engine_calls_total{request,reason}` (the reason is `Succeeded`, or that of the error) and
    /// `gantry_engine_call_seconds{request}`.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let calls =
            Opts::new("gantry_engine_calls_total", "Requests to RocketMQ by what was asked and what became of it.");
        let calls = IntCounterVec::new(calls, &["request", "reason"])?;
        let seconds = HistogramOpts::new(
            "gantry_engine_call_seconds",
            "Time of requests to RocketMQ by what was asked, waiting included.",
        )
        .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 30.0]);
        let seconds = HistogramVec::new(seconds, &["request"])?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(EngineMetrics { calls, seconds })
    }

    pub(super) fn record(&self, request: Code, reason: &'static str, took: Duration) {
        self.calls.with_label_values(&[request.name(), reason]).inc();
        self.seconds.with_label_values(&[request.name()]).observe(took.as_secs_f64());
    }
}
