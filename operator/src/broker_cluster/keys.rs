//! The engine's configuration keys: which there are, and which of a broker's it takes while it runs.

use gantry_crds::names::Component;

use crate::broker_cluster::version::Version;

/// Keys of RocketMQ 5.5.0, one a line: what each role printed of itself when it was asked (requests 26, 319 and 1010), and the setters of the
/// proxy's configuration class, which can't be asked. And of AuthConfig.java, which a broker prints only as far as it is set, the classes that keep users
/// and ACLs; those that demand them would lock out the operator, which has no user yet.
fn known(component: Component) -> &'static str {
    match component {
        Component::NameServer => include_str!("keys/nameserver.txt"),
        Component::Controller => include_str!("keys/controller.txt"),
        Component::Broker => include_str!("keys/broker.txt"),
        Component::Proxy => include_str!("keys/proxy.txt"),
    }
}

/// Newest version whose keys are known. A later one may have more.
const KNOWN_UP_TO: Version = Version(5, 5, 0);

/// Keys that are not in every version that is supported, with the first one that has them: those whose setters the configuration classes of 5.4.0
/// (BrokerConfig, MessageStoreConfig, ProxyConfig) lack. An engine drops a key that it does not have without a word.
const SINCE: &[(Component, Version, &[&str])] = &[
    (
        Component::Broker,
        Version(5, 5, 0),
        &[
            "checkCommitLogOffsetOnRecover",
            "combineCQUseRocksdbForLmq",
            "enableLiteEventMode",
            "enableLitePopLog",
            "enableLmqQuota",
            "iteratorWhenUseRocksdbConsumeQueue",
            "liteEventCheckInterval",
            "liteEventFullDispatchDelayTime",
            "liteEventFullDispatchDelayTimeForWildcardGroup",
            "liteLagCountMetricsEnable",
            "liteLagLatencyCollectEnable",
            "liteLagLatencyMetricsEnable",
            "liteLagLatencyTopK",
            "liteSubscriptionCheckInterval",
            "liteSubscriptionCheckTimeoutMills",
            "liteTtlCheckInterval",
            "maxClientEventCount",
            "maxLiteSubscriptionCount",
            "maxMessageFilterNumForNotification",
            "metricsExportBatchMaxDataPoints",
            "minLiteTTl",
            "persistConsumerOffsetIncrementally",
            "popReviveSkipIfGroupAbsent",
            "timerReputServiceCorePoolSize",
            "timerReputServiceMaxPoolSize",
            "timerReputServiceQueueCapacity",
            "transactionCheckRocksdbCoreThreads",
            "transactionCheckRocksdbMaxThreads",
            "transactionCheckRocksdbQueueCapacity",
            "useMessageFilterForNotification",
            "useSeparateStorePathForRocksdbCQ",
        ],
    ),
    (
        Component::Proxy,
        Version(5, 5, 0),
        &[
            "grpcMaxConcurrentCallsPerConnection",
            "maxLiteRenewNumPerChannel",
            "maxLiteTopicSize",
            "maxSyncLiteSubscriptionRate",
            "tlsKeyPassword",
        ],
    ),
];

/// The first version that has a key, where the given one is before it.
#[must_use]
pub fn too_new(component: Component, version: &str, key: &str) -> Option<Version> {
    let of = |(c, _, keys): &&(Component, Version, &[&str])| *c == component && keys.contains(&key);
    let (_, since, _) = SINCE.iter().find(of)?;
    (Version::of(version)? < *since).then_some(*since)
}

/// Keys that a broker reads each time it needs them (its source, 5.5.0), so that a change takes effect without a restart. Another key may be set
/// while it runs just as well, is then read back as set, and does nothing. `allAckInSyncStateSet` is not among them although brokers would take it: it is
/// Gantry's own and always `true`, the API refuses it, and nothing that is acknowledged may ever depend on a call having come through.
///
/// `haSendHeartbeatInterval` and `haHousekeepingInterval` have to be: a replica that sends a sign of life every five seconds is cut off again and again by a
/// master that waits for three, so that a roll from short times to long ones would end with its first replica.
const LIVE: &[&str] = &[
    "autoCreateSubscriptionGroup",
    "brokerPermission",
    "controllerAddr",
    "controllerHeartBeatTimeoutMills",
    "deleteWhen",
    "diskMaxUsedSpaceRatio",
    "fileReservedTime",
    "haHousekeepingInterval",
    "haMaxTimeSlaveNotCatchup",
    "haSendHeartbeatInterval",
    "minInSyncReplicas",
    "namesrvAddr",
    "rejectTransactionMessage",
    "slaveReadEnable",
    "startAcceptSendRequestTimeStamp",
    "transactionCheckMax",
    "transactionTimeOut",
    "waitTimeMillsInHeartbeatQueue",
    "waitTimeMillsInPullQueue",
    "waitTimeMillsInSendQueue",
];

/// Key of a broker: what its routes let clients do, 2 to write, 4 to read, 6 both. It steers producers, it does not refuse them.
pub const PERMISSION: &str = "brokerPermission";
/// [`PERMISSION`] of a broker that only lets read.
pub const CLOSED: &str = "4";
/// Key of a broker: until then, in milliseconds of the epoch, it refuses every message of a producer.
pub const FENCE: &str = "startAcceptSendRequestTimeStamp";
/// [`FENCE`] far enough away: the year 2286, with as many digits as now.
pub const NEVER: &str = "9999999999999";

/// Whether a broker takes the key while it runs.
#[must_use]
pub fn is_live(key: &str) -> bool {
    LIVE.contains(&key)
}

/// `None`: the role has the key, or is of a version whose keys are not known here. Otherwise the key that was probably meant, where one is near.
#[must_use]
pub fn unknown(component: Component, version: &str, key: &str) -> Option<Option<&'static str>> {
    if is_later(version) || known(component).lines().any(|k| k == key) {
        return None;
    }
    let nearest = known(component).lines().min_by_key(|k| distance(k, key))?;
    // A third of the letters wrong is another word.
    Some((distance(nearest, key) * 3 <= key.len()).then_some(nearest))
}

fn is_later(version: &str) -> bool {
    Version::of(version).is_none_or(|v| v > KNOWN_UP_TO)
}

/// Levenshtein's distance, letters of another case counted as the same.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_nearly_right_is_named() {
        let of = |component, key| unknown(component, "5.5.0", key);
        assert_eq!(of(Component::Broker, "fileReservedTime"), None);
        assert_eq!(of(Component::Broker, "fileReserveTime"), Some(Some("fileReservedTime")));
        assert_eq!(of(Component::Broker, "FILERESERVEDTIME"), Some(Some("fileReservedTime")));
        assert_eq!(of(Component::Broker, "colour"), Some(None));
        assert_eq!(of(Component::Proxy, "grpcServerPort"), None);
        assert_eq!(of(Component::NameServer, "listenPrt"), Some(Some("listenPort")));
        assert_eq!(
            of(Component::Controller, "scanNotActiveBrokerIntervall"),
            Some(Some("scanNotActiveBrokerInterval"))
        );
    }

    #[test]
    fn keys_of_a_version_that_came_later_are_not_judged() {
        assert_eq!(unknown(Component::Broker, "5.6.0", "fileReserveTime"), None);
        assert!(unknown(Component::Broker, "5.4.0", "fileReserveTime").is_some());
    }

    #[test]
    fn a_key_that_only_a_later_version_has_is_named_with_that_version() {
        let of = |component, version, key| too_new(component, version, key).map(|v| v.to_string());
        assert_eq!(of(Component::Broker, "5.4.0", "enableLmqQuota").as_deref(), Some("5.5.0"));
        assert_eq!(of(Component::Broker, "5.5.0", "enableLmqQuota"), None);
        assert_eq!(of(Component::Proxy, "5.4.0", "enableLmqQuota"), None);
        assert_eq!(of(Component::Broker, "5.4.0", "fileReservedTime"), None);
        for (component, _, keys) in SINCE {
            keys.iter().for_each(|key| assert_eq!(unknown(*component, "5.5.0", key), None, "{key}"));
        }
    }

    #[test]
    fn every_live_key_is_a_key() {
        for key in LIVE {
            assert_eq!(unknown(Component::Broker, "5.5.0", key), None, "{key}");
        }
    }
}
