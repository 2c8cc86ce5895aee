//! Figures about the operator itself. Labels are kinds and reasons, closed sets, never names of objects; but for those of consumer groups, which
//! are bounded in number.

use crate::consumer_group::consumption::metrics::ConsumptionMetrics;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Figures about the operator itself.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// `gantry_reconciles_total{kind,reason}`: passes over objects by outcome; `Succeeded` or the reason of the error.
    pub reconciles: IntCounterVec,
    /// `gantry_reconcile_seconds`: time of a pass.
    pub seconds: Histogram,
    /// `gantry_kubernetes_writes_total{kind,action}`: writes to the API server.
    pub writes: IntCounterVec,
    /// `gantry_steps_total{action}`: disruptive steps taken.
    pub steps: IntCounterVec,
    /// `gantry_changes_total{action}`: changes of the engine that disturb nobody, e.g. `Forget`: an id of a replica that is gone.
    pub changes: IntCounterVec,
    /// `gantry_metadata_repairs_total{kind,reason}`: topics, consumer groups, offsets, users and ACLs that a broker had lost or that were edited there, put right.
    pub repairs: IntCounterVec,
    /// `gantry_metadata_waiting{kind}`: topics and consumer groups that wait for their turn.
    pub waiting: IntGaugeVec,
    /// `gantry_consumer_group_*`: how far consumer groups are.
    pub consumption: ConsumptionMetrics,
    /// `gantry_leader`: 1 while this process leads.
    pub leader: IntGauge,
}

impl Metrics {
    /// A new set.
    ///
    /// # Errors
    /// Where two figures had one name, which would be a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let m = Self {
            reconciles: IntCounterVec::new(
                Opts::new("gantry_reconciles_total", "Passes over objects by kind and outcome."),
                &["kind", "reason"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new("gantry_reconcile_seconds", "Time of one pass over an object, in seconds.")
                    .buckets(vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            )?,
            writes: IntCounterVec::new(
                Opts::new("gantry_kubernetes_writes_total", "Writes to the API server by kind and action."),
                &["kind", "action"],
            )?,
            steps: IntCounterVec::new(
                Opts::new("gantry_steps_total", "Disruptive steps taken, by action."),
                &["action"],
            )?,
            changes: IntCounterVec::new(
                Opts::new("gantry_changes_total", "Changes of the engine that disturb nobody, by action."),
                &["action"],
            )?,
            repairs: IntCounterVec::new(
                Opts::new(
                    "gantry_metadata_repairs_total",
                    "Topics, consumer groups, offsets, users and ACLs that a broker had lost or that were edited there, put right, by kind and reason.",
                ),
                &["kind", "reason"],
            )?,
            waiting: IntGaugeVec::new(
                Opts::new("gantry_metadata_waiting", "Topics and consumer groups that wait for their turn, by kind."),
                &["kind"],
            )?,
            consumption: ConsumptionMetrics::register(&registry)?,
            leader: IntGauge::new("gantry_leader", "1 while this process holds the leader lease.")?,
            registry,
        };
        m.registry.register(Box::new(m.reconciles.clone()))?;
        m.registry.register(Box::new(m.seconds.clone()))?;
        m.registry.register(Box::new(m.writes.clone()))?;
        m.registry.register(Box::new(m.steps.clone()))?;
        m.registry.register(Box::new(m.changes.clone()))?;
        m.registry.register(Box::new(m.repairs.clone()))?;
        m.registry.register(Box::new(m.waiting.clone()))?;
        m.registry.register(Box::new(m.leader.clone()))?;
        Ok(m)
    }

    /// Where other parts register their figures.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All figures in Prometheus' text format.
    ///
    /// # Errors
    /// Where they can't be written.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
