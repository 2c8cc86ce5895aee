//! Names that belong to the engine: nobody declares, counts or imports them.

/// Where the engine keeps transactions that are not decided, and who reads them.
pub const HALF: (&str, &str) = ("RMQ_SYS_TRANS_HALF_TOPIC", "CID_RMQ_SYS_TRANS");

/// Topics that 5.5.0 makes by itself (TopicValidator.java, TopicConfigManager.java), beside prefixes and those named after the cluster.
const TOPICS: [&str; 8] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
    "DefaultHeartBeatSyncerTopic",
];

/// Consumer groups that 5.5.0 makes by itself (MixAll.java), beside prefixes, and the proxies' own.
const GROUPS: [&str; 9] = [
    "DEFAULT_CONSUMER",
    "DEFAULT_PRODUCER",
    "TOOLS_CONSUMER",
    "SCHEDULE_CONSUMER",
    "FILTERSRV_CONSUMER",
    "__MONITOR_CONSUMER",
    "SELF_TEST_C_GROUP",
    "SELF_TEST_P_GROUP",
    "CID_DefaultHeartBeatSyncerTopic",
];

/// Whether a topic belongs to the engine: its own, retry and dead-letter topics, and those named after the cluster or one of its broker groups.
#[must_use]
pub fn is_system_topic(name: &str, cluster: &str, broker_groups: &[String]) -> bool {
    TOPICS.contains(&name)
        || ["%", "RMQ_SYS_", "rmq_sys_"].iter().any(|p| name.starts_with(p))
        || name == cluster
        || name.strip_prefix(cluster) == Some("_REPLY_TOPIC")
        || broker_groups.iter().any(|g| g == name)
}

/// Whether a consumer group belongs to the engine.
#[must_use]
pub fn is_system_group(name: &str) -> bool {
    GROUPS.contains(&name)
        || ["%", "CID_RMQ_SYS_", "CID_ONSAPI", "CID_ONS-HTTP", "CID_SYS_RMQ_", "CLIENT_INNER_"]
            .iter()
            .any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_makes_is_its_own_and_the_rest_is_not() {
        let groups = ["shop-broker-0".to_owned()];
        let system = |name: &str| is_system_topic(name, "shop", &groups);
        for name in [
            "TBW102",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "rmq_sys_REVIVE_LOG_shop",
            "%RETRY%g",
            "%DLQ%g",
            "shop",
            "shop_REPLY_TOPIC",
            "shop-broker-0",
        ] {
            assert!(system(name), "{name}");
        }
        for name in ["orders", "shopping", "shop-broker-1", "TBW1"] {
            assert!(!system(name), "{name}");
        }
        assert!(
            is_system_group("CID_RMQ_SYS_TRANS") && is_system_group("CID_ONSAPI_OWNER") && !is_system_group("billing")
        );
    }
}
