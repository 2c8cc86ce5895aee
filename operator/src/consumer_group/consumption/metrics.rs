//! The figures of consumer groups for Prometheus, a bounded number of series.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_crds::consumer_group::Consumption;
use prometheus::{IntGaugeVec, Opts, Registry};

use super::Totals;
use crate::metadata::kind::Key;

/// Consumer groups of a cluster that have series of their own, the first ones by name; the rest is summed up as [`OTHERS`].
const NAMED: usize = 500;
/// `consumer_group` of the series that sum up all others.
const OTHERS: &str = "_others";
const LABELS: [&str; 3] = ["namespace", "cluster", "consumer_group"];

/// Gauges of consumer groups. They are the one place where a label is an object's name: nobody can act on a lag without knowing whose it is.
#[derive(Clone)]
pub struct ConsumptionMetrics {
    lag: IntGaugeVec,
    in_flight: IntGaugeVec,
    dead_letters: IntGaugeVec,
    clients: IntGaugeVec,
    tps: IntGaugeVec,
    /// Names with series, by cluster.
    told: Arc<Mutex<BTreeMap<Key, Vec<String>>>>,
}

#[derive(Default)]
struct Row {
    lag: i64,
    in_flight: i64,
    dead_letters: i64,
    clients: i64,
    tps: i64,
}

impl ConsumptionMetrics {
    /// Registers `gantry_consumer_group_{lag_messages,in_flight_messages,dead_letter_messages,clients,messages_per_second}`.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(format!("gantry_consumer_group_{name}"), help), &LABELS)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            lag: gauge("lag_messages", "Messages that a consumer group has not acknowledged.")?,
            in_flight: gauge("in_flight_messages", "Messages delivered to a consumer group and not yet acknowledged.")?,
            dead_letters: gauge("dead_letter_messages", "Messages in a consumer group's dead-letter topic.")?,
            clients: gauge("clients", "Clients of a consumer group that are online.")?,
            tps: gauge("messages_per_second", "Messages that a consumer group consumes per second.")?,
            told: Arc::default(),
        })
    }

    /// The figures of all groups of a cluster, ordered by name. Series of groups that are gone go.
    pub fn set<'a>(&self, cluster: &Key, groups: impl Iterator<Item = (&'a str, &'a Totals, Option<&'a Consumption>)>) {
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        for (i, (name, totals, figures)) in groups.enumerate() {
            let row = rows.entry(if i < NAMED { name } else { OTHERS }).or_default();
            row.lag = totals.lag.values().copied().fold(row.lag, i64::saturating_add);
            if let Some(figures) = figures {
                row.in_flight = figures.topics.iter().map(|t| t.in_flight).fold(row.in_flight, i64::saturating_add);
                row.dead_letters = row.dead_letters.saturating_add(figures.dead_letters);
                row.clients += i64::from(figures.clients.unwrap_or(0));
            }
            #[allow(clippy::cast_possible_truncation, reason = "a float becomes the nearest integer there is")]
            let tps = totals.tps.ceil() as i64;
            row.tps = row.tps.saturating_add(tps);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for name in told.remove(cluster).unwrap_or_default().iter().filter(|n| !rows.contains_key(n.as_str())) {
            self.remove(cluster, name);
        }
        for (name, row) in &rows {
            let labels = [cluster.0.as_str(), cluster.1.as_str(), name];
            self.lag.with_label_values(&labels).set(row.lag);
            self.in_flight.with_label_values(&labels).set(row.in_flight);
            self.dead_letters.with_label_values(&labels).set(row.dead_letters);
            self.clients.with_label_values(&labels).set(row.clients);
            self.tps.with_label_values(&labels).set(row.tps);
        }
        told.insert(cluster.clone(), rows.into_keys().map(str::to_owned).collect());
    }

    /// A cluster is gone.
    pub fn forget(&self, cluster: &Key) {
        let names = self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
        for name in names.unwrap_or_default() {
            self.remove(cluster, &name);
        }
    }

    fn remove(&self, cluster: &Key, name: &str) {
        let labels = [cluster.0.as_str(), cluster.1.as_str(), name];
        for gauge in [&self.lag, &self.in_flight, &self.dead_letters, &self.clients, &self.tps] {
            // It was there, or it was not: both are well.
            let _ = gauge.remove_label_values(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_go_with_their_group() {
        let registry = Registry::new();
        let metrics = ConsumptionMetrics::register(&registry).unwrap();
        let cluster = ("ns".to_owned(), "shop".to_owned());
        let names: Vec<String> = (0..700).map(|i| format!("g{i:03}")).collect();
        let totals = Totals { tps: 0.5, lag: BTreeMap::from([("orders".into(), 2)]) };
        metrics.set(&cluster, names.iter().map(|n| (n.as_str(), &totals, None)));
        let lag = || {
            let families = registry.gather();
            families
                .into_iter()
                .find(|f| f.name().ends_with("_lag_messages"))
                .map(|f| f.get_metric().len())
                .unwrap_or(0)
        };
        assert_eq!(lag(), NAMED + 1);
        assert_eq!(metrics.lag.with_label_values(&["ns", "shop", OTHERS]).get(), 400);
        metrics.set(&cluster, names.iter().take(3).map(|n| (n.as_str(), &totals, None)));
        assert_eq!(lag(), 3);
        metrics.forget(&cluster);
        assert_eq!(lag(), 0);
    }
}
