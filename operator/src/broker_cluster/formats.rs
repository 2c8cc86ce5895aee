//! Keys of brokers that say how messages are stored: changed, they would leave behind what is stored otherwise. Data first. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;

use crate::broker_cluster::cluster::Cluster;
use crate::broker_cluster::extent;
use crate::broker_cluster::hold::Hold;
use crate::broker_cluster::view::Observed;

/// A key that says how something is stored.
struct Format {
    key: &'static str,
    /// What it is where nothing says otherwise; ours, else the engine's.
    default: &'static str,
    /// Whether `true` may follow on `false`, though not the other way round.
    may_begin: bool,
    why: &'static str,
}

const FORMATS: &[Format] = &[
    // rocketmq #8600: with another type messages that are there can't be consumed.
    Format { key: "storeType", default: "default", may_begin: false, why: "queues of another type are not read" },
    // RocksDBConsumeQueueStore.java, 5.5.0: a broker that finds queues at the other place does not start.
    Format {
        key: "useSeparateStorePathForRocksdbCQ",
        default: "false",
        may_begin: false,
        why: "a broker that finds queues at the other place does not start",
    },
    // rocketmq #8829: ConfigManagerV2 does not read what the first one wrote.
    Format {
        key: "useSingleRocksDBForAllConfigs",
        default: "false",
        may_begin: false,
        why: "topics, groups and offsets that are kept otherwise are not read",
    },
    // RIP-82, rocketmq #9786.
    Format {
        key: "timerRocksDBEnable",
        default: "false",
        may_begin: true,
        why: "delayed messages that are in RocksDB would not be delivered",
    },
    Format {
        key: "transRocksDBEnable",
        default: "false",
        may_begin: true,
        why: "transactions that are in RocksDB would not be decided",
    },
    // RIP-73, rocketmq #9025.
    Format {
        key: "popConsumerKVServiceEnable",
        default: "false",
        may_begin: true,
        why: "messages that consumers hold would not come back to them",
    },
    // MappedFileQueue.java: "length not matched message store config value, please check it manually".
    Format {
        key: "mappedFileSizeCommitLog",
        default: "268435456",
        may_begin: false,
        why: "a broker refuses files of another length",
    },
    Format {
        key: "mappedFileSizeConsumeQueue",
        default: "6000000",
        may_begin: false,
        why: "a broker refuses files of another length",
    },
];

/// What brokers were last told by their file: of the first group that there is.
#[must_use]
pub fn live(cluster: &Cluster, observed: &Observed) -> Option<BTreeMap<String, String>> {
    let set = cluster.groups().iter().find_map(|g| extent::set(&observed.live, g))?;
    let volumes = set.spec.as_ref()?.template.spec.as_ref()?.volumes.iter().flatten();
    let names: Vec<&String> = volumes.filter_map(|v| v.config_map.as_ref()).map(|c| &c.name).collect();
    let mut maps = observed.live.config_maps.iter().filter(|m| names.contains(&&m.name_any()));
    let text = maps.find_map(|m| m.data.as_ref()?.get("broker.conf"))?;
    Some(text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// Keeps what can't be changed as it is, and says so.
pub fn keep(cluster: &mut Cluster, observed: &Observed, holds: &mut Vec<Hold>) {
    let Some(live) = live(cluster, observed) else { return };
    let config = &mut cluster.brokers.pods.config;
    for format in FORMATS {
        let of = |keys: &BTreeMap<String, String>| keys.get(format.key).map_or(format.default, |v| v.trim()).to_owned();
        let (is, declared) = (of(&live), of(config));
        if is == declared || (format.may_begin && declared == "true") {
            continue;
        }
        let (key, why) = (format.key, format.why);
        holds.push(Hold::FormatFixed { key: key.into(), live: is.clone(), declared, why: why.into() });
        // As it was written, or not: another text would restart brokers for nothing.
        match live.get(key) {
            Some(value) => config.insert(key.to_owned(), value.clone()),
            None => config.remove(key),
        };
    }
}
