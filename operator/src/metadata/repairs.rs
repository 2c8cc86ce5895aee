//! What the engine had lost or somebody edited, put right: counted, and told in Events.

use std::collections::BTreeMap;

use gantry_crds::condition::Reason;
use kube::runtime::events::EventType;

use crate::apply::tell;
use crate::context::Context;
use crate::engine::EngineError;
use crate::metadata::kind::{Key, Kind};
use crate::metadata::work::Work;

/// Events on single objects in one pass: a broker that lost ten thousand topics is told once, on its BrokerCluster.
const EVENTS: usize = 20;

/// Something that was in the engine as declared, and no longer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The object that declares it.
    pub key: Key,
    /// Name in the engine.
    pub name: String,
    /// The broker group.
    pub group: String,
    /// `Restored`, `DriftReverted` or `ReplicaRefreshed`.
    pub reason: Reason,
}

impl Repair {
    fn sentence(&self, kind: &str) -> String {
        let Self { name, group, .. } = self;
        match self.reason {
            Reason::Restored => format!("{group} had lost {kind} {name}: put it back"),
            Reason::ReplicaRefreshed => format!("a replica of {group} did not copy {kind} {name}: made it copy anew"),
            _ => format!("{kind} {name} was edited on {group}: put it right"),
        }
    }
}

/// Counts and tells the repairs that did not fail.
pub async fn announce<K: Kind>(
    ctx: &Context,
    work: &Work,
    objects: &[std::sync::Arc<K::Object>],
    repairs: &[Repair],
    failed: &BTreeMap<String, EngineError>,
) {
    let done: Vec<&Repair> = repairs.iter().filter(|r| !failed.contains_key(&r.name)).collect();
    let mut by_reason: BTreeMap<Reason, Vec<&Repair>> = BTreeMap::new();
    for repair in &done {
        by_reason.entry(repair.reason).or_default().push(repair);
    }
    for (reason, repairs) in by_reason {
        ctx.metrics.repairs.with_label_values(&[K::NAME, reason.as_str()]).inc_by(repairs.len() as u64);
        if let Some(cluster) = &work.cluster {
            let first: Vec<String> = repairs.iter().take(3).map(|r| r.sentence(K::NAME)).collect();
            let more = repairs.len().saturating_sub(first.len());
            let note = if more == 0 { first.join("; ") } else { format!("{}; and {more} more", first.join("; ")) };
            tell(ctx, &**cluster, EventType::Warning, reason, format!("Repair {}", K::NAME), note).await;
        }
    }
    for repair in done.into_iter().take(EVENTS) {
        let Some(object) = objects.iter().find(|o| K::parse(o).key == repair.key) else { continue };
        tell(ctx, &**object, EventType::Warning, repair.reason, "Repair".into(), repair.sentence(K::NAME)).await;
    }
}
