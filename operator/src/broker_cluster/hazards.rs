//! What is known to go wrong with versions of the engine: defects that lose something, steps from one version to another that must not be made. Data
//! first; each entry has its source. Pure.

use std::collections::BTreeMap;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::version::Version;

/// Something that is known to go wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Name, for annotation `gantry.dev/accept-hazards`.
    pub name: &'static str,
    /// Where it does.
    pub when: When,
    /// What goes wrong.
    pub why: &'static str,
    /// What to write instead.
    pub instead: &'static str,
    /// Whether people may take the risk: never where messages are lost.
    pub acceptable: bool,
    /// Where it is known from.
    pub source: &'static str,
}

/// Where a hazard lies.
#[derive(Debug, PartialEq, Eq)]
pub enum When {
    /// In running a version, from the first to the last one, with more than one replica.
    Replicated(Version, Version),
    /// In running a version, from the first to the last one that is known, with more than one replica and one of these keys.
    ReplicatedWith(Version, Version, &'static [(&'static str, &'static str)]),
    /// In a step from this version or a later one to one before it, where brokers have one of these keys.
    Back(Version, &'static [(&'static str, &'static str)]),
    /// In a step of more than one minor version.
    SkippedMinor,
}

/// All that is known. To add one: its source, and a row in the table of docs/how-to/upgrade.md.
pub const HAZARDS: &[Hazard] = &[
    Hazard {
        name: "replicas-forget-topics",
        when: When::Replicated(Version(5, 3, 2), Version(5, 4, 0)),
        why: "a replica deletes all its topics and consumer groups each time that it copies them anew: one that becomes master then has none but those that are declared as Topic or ConsumerGroup and put back",
        instead: "write version: 5.5.0 or later",
        acceptable: true,
        // SlaveSynchronize.java of 5.4.0 deletes outside of its `if`, that of 5.5.0 within.
        source: "rocketmq #9984",
    },
    Hazard {
        name: "replicas-tier-twice",
        when: When::ReplicatedWith(
            Version(5, 4, 0),
            Version(5, 5, 0),
            &[("messageStorePlugIn", "org.apache.rocketmq.tieredstore.TieredMessageStore")],
        ),
        why: "every replica uploads to the tiered store as if it were alone, and keeps to itself what it has uploaded: files of one overwrite those of another",
        instead: "write brokers.replicas: 1, or remove messageStorePlugIn",
        acceptable: false,
        // TieredMessageStore.java of 5.5.0 does not ask for the broker's role; the change that would have (#8218) was never merged.
        source: "rocketmq #8066",
    },
    Hazard {
        name: "light-queues-go-back",
        when: When::Back(Version(5, 5, 0), &[("enableLmq", "true")]),
        why: "versions before 5.5.0 know neither Lite topics nor where 5.5.0 keeps light queues: messages in them could not be read",
        instead: "write the version that runs",
        acceptable: false,
        // TopicMessageType.java of 5.4.0 has no LITE; CombineConsumeQueueStore keeps light queues since 5.5.0.
        source: "rocketmq #10174",
    },
    Hazard {
        name: "rocksdb-goes-back",
        when: When::Back(
            Version(5, 5, 1),
            &[
                ("storeType", "defaultRocksDB"),
                ("rocksdbCQDoubleWriteEnable", "true"),
                ("timerRocksDBEnable", "true"),
                ("transRocksDBEnable", "true"),
                ("popConsumerKVServiceEnable", "true"),
                ("useSingleRocksDBForAllConfigs", "true"),
            ],
        ),
        why: "5.5.1 writes queues, timers or consumers' state with another RocksDB than versions before it, which are not known to read that",
        instead: "write the version that runs",
        acceptable: false,
        source: "rocketmq #10334",
    },
    Hazard {
        name: "skipped-minor",
        when: When::SkippedMinor,
        why: "nobody tests replicas and masters whose versions are more than one minor version apart",
        instead: "go over the versions between, one after the other",
        acceptable: true,
        source: "no test of apache/rocketmq does",
    },
];

impl Hazard {
    /// A sentence that says what to write instead.
    #[must_use]
    pub fn sentence(&self) -> String {
        let accept = if self.acceptable {
            format!("; or accept it with annotation {}: {}", gantry_crds::ACCEPT_HAZARDS_ANNOTATION, self.name)
        } else {
            String::new()
        };
        format!("{} ({}): {}{accept}", self.why, self.source, self.instead)
    }

    fn is_accepted(&self, cluster: &Cluster) -> bool {
        self.acceptable && cluster.accepted.contains(self.name)
    }
}

/// What speaks against running a version.
#[must_use]
pub fn of_version(cluster: &Cluster, version: &str) -> Option<&'static Hazard> {
    let version = Version::of(version)?;
    let replicated = cluster.brokers.replicas > 1;
    let config = &cluster.brokers.pods.config;
    let has = |(key, value): &(&str, &str)| config.get(*key).is_some_and(|v| v == value);
    HAZARDS.iter().filter(|h| !h.is_accepted(cluster)).find(|h| match h.when {
        When::Replicated(first, last) => replicated && first <= version && version <= last,
        When::ReplicatedWith(first, last, keys) => {
            replicated && first <= version && version <= last && keys.iter().any(has)
        }
        When::Back(..) | When::SkippedMinor => false,
    })
}

/// What speaks against a step from one version to another. `keys`: what brokers have now.
#[must_use]
pub fn of_step(cluster: &Cluster, keys: &BTreeMap<String, String>, from: &str, to: &str) -> Option<&'static Hazard> {
    let (from, to) = (Version::of(from)?, Version::of(to)?);
    let declared = &cluster.brokers.pods.config;
    let has = |(key, value): &(&str, &str)| [keys, declared].iter().any(|k| k.get(*key).is_some_and(|v| v == value));
    HAZARDS.iter().filter(|h| !h.is_accepted(cluster)).find(|h| match h.when {
        When::Replicated(..) | When::ReplicatedWith(..) => false,
        When::Back(across, keys) => from >= across && to < across && keys.iter().any(has),
        When::SkippedMinor => from.0 != to.0 || from.1.abs_diff(to.1) > 1,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gantry_crds::BrokerCluster;
    use serde_json::{Value, json};

    use super::*;
    use crate::broker_cluster::parse::parse;
    use crate::config::Settings;

    fn cluster(spec: Value, accepts: &str) -> Cluster {
        let object: BrokerCluster = serde_json::from_value(json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster", "spec": spec,
            "metadata": {"name": "shop", "namespace": "ns", "uid": "u", "annotations": {"gantry.dev/accept-hazards": accepts}},
        }))
        .unwrap();
        parse(&object, &Settings::default()).unwrap()
    }

    fn name(hazard: Option<&Hazard>) -> &str {
        hazard.map_or("", |h| h.name)
    }

    #[test]
    fn versions_that_lose_something_are_known() {
        let of = |version, replicas, accepts| {
            let cluster = cluster(json!({"brokers": {"replicas": replicas}}), accepts);
            name(of_version(&cluster, version)).to_owned()
        };
        for (version, replicas, accepts, wanted) in [
            ("5.4.0", 3, "", "replicas-forget-topics"),
            ("5.3.4", 2, "", "replicas-forget-topics"),
            ("5.3.1", 2, "", ""),
            ("5.4.0", 1, "", ""),
            ("5.5.0", 3, "", ""),
            ("5.4.0", 3, "another, replicas-forget-topics", ""),
        ] {
            assert_eq!(of(version, replicas, accepts), wanted, "{version} with {replicas}, {accepts:?}");
        }
    }

    #[test]
    fn a_feature_that_replicas_do_not_bear_is_refused_where_there_are_some() {
        let plug_in = "org.apache.rocketmq.tieredstore.TieredMessageStore";
        for (version, replicas, value, wanted) in [
            ("5.5.0", 2, plug_in, "replicas-tier-twice"),
            ("5.5.0", 1, plug_in, ""),
            ("5.5.0", 2, "org.example.Another", ""),
            ("5.6.0", 2, plug_in, ""),
        ] {
            let spec = json!({"brokers": {"replicas": replicas, "config": {"messageStorePlugIn": value}}});
            let found = name(of_version(&cluster(spec, "replicas-tier-twice"), version)).to_owned();
            assert_eq!(found, wanted, "{version} with {replicas} and {value}");
        }
    }

    #[test]
    fn steps_that_lose_something_are_known_by_what_brokers_have_and_by_what_is_declared() {
        let of = |from, to, key: &str, value: &str, accepts| {
            let keys = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let nothing = cluster(json!({}), accepts);
            let declared = cluster(json!({"brokers": {"config": {key: value}}}), accepts);
            let found = name(of_step(&nothing, &keys, from, to)).to_owned();
            assert_eq!(found, name(of_step(&declared, &BTreeMap::new(), from, to)));
            found
        };
        for (from, to, key, value, accepts, wanted) in [
            ("5.5.0", "5.4.0", "fileReservedTime", "48", "", ""),
            ("5.5.0", "5.4.0", "enableLmq", "true", "", "light-queues-go-back"),
            ("5.5.0", "5.4.0", "enableLmq", "false", "", ""),
            ("5.4.0", "5.5.0", "enableLmq", "true", "", ""),
            ("5.5.0", "5.4.0", "enableLmq", "true", "light-queues-go-back", "light-queues-go-back"),
            ("5.5.1", "5.5.0", "storeType", "defaultRocksDB", "", "rocksdb-goes-back"),
            ("5.5.1", "5.5.0", "storeType", "default", "", ""),
            ("5.6.0", "5.4.0", "fileReservedTime", "48", "", "skipped-minor"),
            ("5.4.0", "5.6.0", "fileReservedTime", "48", "", "skipped-minor"),
            ("5.4.0", "5.6.0", "fileReservedTime", "48", "skipped-minor", ""),
        ] {
            assert_eq!(of(from, to, key, value, accepts), wanted, "{from} to {to} with {key}={value}, {accepts:?}");
        }
    }

    #[test]
    fn every_hazard_has_a_name_of_its_own_a_source_and_a_place_in_the_documents() {
        let names: BTreeSet<&str> = HAZARDS.iter().map(|h| h.name).collect();
        assert_eq!(names.len(), HAZARDS.len());
        let page = include_str!("../../../docs/how-to/upgrade.md");
        for hazard in HAZARDS {
            assert!(page.contains(&format!("`{}`", hazard.name)), "docs/how-to/upgrade.md has no row {}", hazard.name);
            assert!(!hazard.source.is_empty() && !hazard.instead.is_empty());
            assert_eq!(hazard.sentence().contains("gantry.dev/accept-hazards"), hazard.acceptable, "{}", hazard.name);
        }
    }
}
