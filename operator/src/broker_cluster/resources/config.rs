//! The engine's configuration files, one ConfigMap per component and broker group, named by its content: a changed file is a new
//! ConfigMap, a changed pod template and so a roll of just these pods, while pods of the old revision keep what they started with.

use std::collections::BTreeMap;

use gantry_crds::names::{self, Component};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::broker_cluster::cluster::{Cluster, Pods};
use crate::broker_cluster::keys;
use crate::broker_cluster::resources::metadata;
use crate::labels;

/// Where the data volume of controllers and brokers is mounted.
pub const DATA: &str = "/var/lib/rocketmq";

/// The file of what a broker takes while it runs.
pub const LIVE_FILE: &str = "live.conf";

/// Heap from which the G1 collector pays off, in MiB; below it the serial collector needs less memory and fewer threads.
const G1_FROM: i64 = 1024;

/// Keys that say how many threads store messages, each with a buffer that it keeps.
const STORING_THREADS: [&str; 4] = [
    "sendMessageThreadPoolNums",
    "putMessageFutureThreadPoolNums",
    "ackMessageThreadPoolNums",
    "endTransactionThreadPoolNums",
];

/// Name servers'.
#[must_use]
pub fn name_server(cluster: &Cluster) -> ConfigMap {
    let keys = pairs([
        ("listenPort", names::NAME_SERVER_PORT.to_string()),
        ("kvConfigPath", "/run/rocketmq/kvConfig.json".into()),
        ("configStorePath", "/run/rocketmq/namesrv.properties".into()),
    ]);
    let pods = &cluster.name_servers.pods;
    config_map(
        cluster,
        pods,
        cluster.component(Component::NameServer),
        "nameserver.conf",
        properties(keys, &pods.config),
    )
}

/// Controllers'.
#[must_use]
pub fn controller(cluster: &Cluster) -> ConfigMap {
    let mut keys = pairs([
        // docs/design/0009-controller-type.md.
        ("controllerType", "jRaft".into()),
        ("jRaftGroupId", cluster.name.clone()),
        ("jRaftServerId", format!("${{HOST}}:{}", names::CONTROLLER_RAFT_PORT)),
        ("jRaftInitConf", cluster.raft_addresses().join(",")),
        // In the same order: who leads at the one address is asked at the other.
        ("jRaftControllerRPCAddr", cluster.controller_addresses().join(",")),
        // Every heartbeat is an entry of the log, which is read again at a start: ten minutes of it, not the engine's hour.
        ("jRaftSnapshotIntervalSecs", "600".into()),
        // A controller that starts first hears from every broker (they look for it every 3 s): with the engine's 1 s a start of all of them calls masters
        // dead that are well.
        ("jRaftScanWaitTimeoutMs", "6000".into()),
        ("controllerStorePath", format!("{DATA}/controller")),
        // Not on the volume: what an admin switched while it ran must not outlive a restart, the BrokerCluster is the truth.
        ("configStorePath", "/run/rocketmq/controller.properties".into()),
        ("enableElectUncleanMaster", "false".into()),
        ("notifyBrokerRoleChanged", "true".into()),
        // How often it looks for masters that it has not heard of: the engine's 5 s would come on top of their time.
        ("scanNotActiveBrokerInterval", "1000".into()),
    ]);
    keys.extend(metrics(cluster));
    let pods = &cluster.controllers.pods;
    config_map(
        cluster,
        pods,
        cluster.component(Component::Controller),
        "controller.conf",
        properties(keys, &pods.config),
    )
}

/// A broker group's, but for what a broker takes while it runs.
#[must_use]
pub fn broker(cluster: &Cluster, group: &str) -> ConfigMap {
    let mut keys = broker_keys(cluster, group);
    keys.retain(|key, _| !keys::is_live(key));
    config_map(cluster, &cluster.brokers.pods, group.to_owned(), "broker.conf", properties(keys, &BTreeMap::new()))
}

/// What a broker takes while it runs, of the same name for ever: a change of it is told to the running brokers and rolls nothing; those that start
/// later read it.
#[must_use]
pub fn broker_live(cluster: &Cluster, group: &str) -> ConfigMap {
    let text = properties(live_keys(cluster, group), &BTreeMap::new());
    ConfigMap {
        metadata: metadata(cluster, Component::Broker, live_name(group)),
        data: Some([(LIVE_FILE.to_owned(), text)].into()),
        ..ConfigMap::default()
    }
}

/// Name of the ConfigMap of what a broker takes while it runs.
#[must_use]
pub fn live_name(group: &str) -> String {
    format!("{group}-live")
}

/// What the brokers of a group should have of the keys that they take while they run.
#[must_use]
pub fn live_keys(cluster: &Cluster, group: &str) -> BTreeMap<String, String> {
    let mut keys = broker_keys(cluster, group);
    keys.retain(|key, _| keys::is_live(key));
    keys
}

/// All keys of a broker: Gantry's, and over them the user's.
fn broker_keys(cluster: &Cluster, group: &str) -> BTreeMap<String, String> {
    let mut keys = pairs([
        ("brokerClusterName", cluster.name.clone()),
        ("brokerName", group.to_owned()),
        // A name, not an address: pods come back with another address and keep their name.
        ("brokerIP1", "${HOST}".into()),
        ("brokerIP2", "${HOST}".into()),
        ("listenPort", names::BROKER_PORT.to_string()),
        ("haListenPort", names::BROKER_HA_PORT.to_string()),
        ("namesrvAddr", cluster.name_server_addresses().join(";")),
        ("enableControllerMode", "true".into()),
        ("controllerAddr", cluster.controller_addresses().join(";")),
        ("storePathRootDir", format!("{DATA}/store")),
        ("storePathEpochFile", format!("{DATA}/store/epochFileCheckpoint")),
        ("storePathBrokerIdentity", format!("{DATA}/store/brokerIdentity")),
        // A master that hangs or is cut off is replaced when the controllers have not heard of it for 4 s (it says something every second), not for the
        // engine's 10 s and up to 5 more; a slave holds writes up until it has not caught up for 6 s, not for 15 s and up to 5 more. Shorter times
        // would call a busy node dead: a needless switch costs a second, and never a message.
        ("controllerHeartBeatTimeoutMills", "4000".into()),
        ("haMaxTimeSlaveNotCatchup", "6000".into()),
        ("checkSyncStateSetPeriod", "1000".into()),
        // A replica's signs of life, half a second apart, have to come well within the time below.
        ("haSendHeartbeatInterval", "500".into()),
        // So long a silent slave is waited for: the engine's 20 s are 20 s without an acknowledged message. The API's rule on brokers.config names this
        // default and the one above.
        ("haHousekeepingInterval", "3000".into()),
        // Every replica of the sync state set holds a message before it is acknowledged.
        ("allAckInSyncStateSet", "true".into()),
        ("minInSyncReplicas", cluster.min_in_sync_of(group).to_string()),
        ("slaveReadEnable", "true".into()),
        ("autoCreateTopicEnable", "false".into()),
        ("autoCreateSubscriptionGroup", "false".into()),
        ("transientStorePoolEnable", "false".into()),
        ("warmMapedFileEnable", "false".into()),
        ("flushDiskType", "ASYNC_FLUSH".into()),
        ("timerWheelEnable", "true".into()),
        // The engine writes the whole wheel out once a second, 28 % of a core on an idle broker; what was not written is read again from the log.
        ("timerFlushIntervalMs", "10000".into()),
        // A name server that came back knows its brokers again within 10 s, not within the engine's 30 s.
        ("registerNameServerPeriod", "10000".into()),
        // The engine's 200 ms turns one pause of a busy node into "broker busy" at clients.
        ("waitTimeMillsInSendQueue", "1000".into()),
        // Fixed for ever: files of another length are refused. The engine's 1 GiB never rolls on a small volume, so nothing could be deleted there.
        ("mappedFileSizeCommitLog", (256 << 20).to_string()),
        ("maxOffsetMapSize", (16 << 20).to_string()),
        ("deleteWhen", "04".into()),
        ("fileReservedTime", "72".into()),
        // Read and write, from the start.
        (keys::PERMISSION, "6".into()),
        (keys::FENCE, "0".into()),
    ]);
    keys.extend(metrics(cluster));
    keys.extend(cluster.brokers.pods.config.iter().map(|(k, v)| (k.clone(), v.trim().to_owned())));
    // A group on its way in or out is closed whatever the user says, also where a broker of it starts anew.
    if !cluster.phase_of(group).is_open() {
        keys.insert(keys::PERMISSION.into(), keys::CLOSED.into());
    }
    if cluster.is_fenced(group) {
        keys.insert(keys::FENCE.into(), keys::NEVER.into());
    }
    keys
}

/// Proxies'.
#[must_use]
pub fn proxy(cluster: &Cluster) -> ConfigMap {
    let access = cluster.endpoints.first().map(|e| {
        names::service_host(&names::endpoint_service(&cluster.name, &e.name), &cluster.namespace, &cluster.domain)
    });
    let mut keys = json!({
        "rocketMQClusterName": cluster.name,
        "proxyClusterName": cluster.name,
        "proxyName": "${POD_NAME}",
        "proxyMode": "CLUSTER",
        "namesrvAddr": cluster.name_server_addresses().join(";"),
        "grpcServerPort": names::PROXY_GRPC_PORT,
        "remotingListenPort": names::PROXY_REMOTING_PORT,
        // Only an identity among proxies in cluster mode, never an address that anybody dials.
        "localServeAddr": "${POD_NAME}",
        // What 4.x clients are told in place of every broker; the port they are told is always remotingListenPort.
        "remotingAccessAddr": access,
        // gRPC clients are told the host and port that they asked, so any Service port will do.
        "useEndpointPortFromRequest": true,
        // Routes of a master that is gone are believed so long, in seconds: the engine's 20 s are 20 s of failing sends. Only topics in use are asked for.
        "topicRouteServiceCacheRefreshSeconds": 1,
        // At least the longest long poll, so that a poll in flight ends by itself when the proxy goes.
        "grpcShutdownTimeSeconds": 20,
        // A remoting client that changed proxies counts twice in its group, and half of its queues are read by nobody, until its old connection is
        // forgotten: two heartbeats of 30 s and some, not the engine's 120 s.
        "channelExpiredTimeout": 70_000,
        "enablePrintJstack": false,
    });
    if cluster.metrics {
        // PROM; before 5.5.0 a proxy does not start with the name.
        keys["metricsExporterType"] = 2.into();
        keys["metricsPromExporterHost"] = "0.0.0.0".into();
        keys["metricsPromExporterPort"] = names::METRICS_PORT.into();
    }
    let pods = &cluster.proxies.pods;
    for (key, value) in &pods.config {
        keys[key] = typed(value);
    }
    let text = format!("{keys:#}\n");
    config_map(cluster, pods, cluster.component(Component::Proxy), "proxy.json", text)
}

/// The proxy reads JSON with types: what reads as a number or truth value is given as such.
fn typed(value: &str) -> Value {
    match serde_json::from_str(value) {
        Ok(v @ (Value::Bool(_) | Value::Number(_))) => v,
        _ => Value::String(value.into()),
    }
}

fn metrics(cluster: &Cluster) -> BTreeMap<String, String> {
    if !cluster.metrics {
        return BTreeMap::new();
    }
    pairs([
        ("metricsExporterType", "PROM".into()),
        ("metricsPromExporterHost", "0.0.0.0".into()),
        ("metricsPromExporterPort", names::METRICS_PORT.to_string()),
    ])
}

fn pairs<const N: usize>(keys: [(&str, String); N]) -> BTreeMap<String, String> {
    keys.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// Java properties, sorted, the user's keys over Gantry's defaults. Backslashes would be escapes there.
fn properties(mut keys: BTreeMap<String, String>, user: &BTreeMap<String, String>) -> String {
    keys.extend(user.iter().map(|(k, v)| (k.clone(), v.clone())));
    keys.iter().map(|(k, v)| format!("{k}={}\n", v.replace('\\', "\\\\"))).collect()
}

/// One option a line, as `java @file` reads it. The entry point adds class path, home, logging and the main class.
fn jvm_options(pods: &Pods) -> String {
    let m = pods.memory;
    let mut lines = vec![
        format!("-Xms{}m", m.heap),
        format!("-Xmx{}m", m.heap),
        format!("-XX:MaxDirectMemorySize={}m", m.direct),
        "-XX:MaxMetaspaceSize=128m".into(),
        "-XX:ReservedCodeCacheSize=64m".into(),
        "-Xss512k".into(),
        if m.heap < G1_FROM { "-XX:+UseSerialGC" } else { "-XX:+UseG1GC" }.into(),
        "-XX:+ExitOnOutOfMemoryError".into(),
        // A crash report belongs into the log, not into a file of a pod that is gone.
        "-XX:+ErrorFileToStdout".into(),
        "-XX:-UsePerfData".into(),
        "-XX:-OmitStackTraceInFastThrow".into(),
        // Without it a jRaft controller's first snapshot fails on Java 17 and leaves the group without a leader for good.
        "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED".into(),
    ];
    let more: &[&str] = match pods.component {
        // Without TLS: making a key that nobody uses took a name server two minutes of a busy node.
        Component::NameServer => &["-XX:TieredStopAtLevel=1", "-Dtls.server.mode=disabled"],
        // Its serializer looks into java.lang and fills the log with what it may not see.
        Component::Controller => {
            &["-XX:TieredStopAtLevel=1", "-Dtls.server.mode=disabled", "--add-opens=java.base/java.lang=ALL-UNNAMED"]
        }
        // netty's buffers beside the JDK's: those of the threads that store messages must never wait for those of connections.
        Component::Broker => &[
            "-Dtls.server.mode=disabled",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "-Dio.netty.tryReflectionSetAccessible=true",
        ],
        // One budget: otherwise netty, and the netty that gRPC brings along, would each count it once more.
        Component::Proxy => &["-Dio.netty.maxDirectMemory=0", "-Dio.grpc.netty.shaded.io.netty.maxDirectMemory=0"],
    };
    lines.extend(more.iter().map(|o| (*o).to_owned()));
    if pods.component == Component::Broker {
        let threads = STORING_THREADS.iter().filter_map(|key| pods.config.get(*key)?.trim().parse::<i64>().ok());
        let threads = threads.map(|n| n.clamp(0, 1024)).sum();
        lines.push(format!("-Dio.netty.maxDirectMemory={}", m.netty(threads) << 20));
    }
    // The JVM refuses to start with two collectors: the user's takes the place of ours.
    let collector = |o: &str| o.starts_with("-XX:+Use") && o.ends_with("GC");
    if pods.jvm_options.iter().any(|o| collector(o)) {
        lines.retain(|o| !collector(o));
    }
    lines.extend(pods.jvm_options.iter().cloned());
    lines.join("\n") + "\n"
}

/// Standard output only; the loggers that are off write several lines a second, a jRaft controller's some for every heartbeat of every broker (elections
/// are in jRaft's own).
const LOGBACK: &str = r#"<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %logger{20} %t - %m%n</pattern></encoder>
  </appender>
  <logger name="RocketmqTraffic" level="OFF"/>
  <logger name="RocketmqWaterMark" level="OFF"/>
  <logger name="RocketmqProxyWatermark" level="OFF"/>
  <logger name="RocketmqController" level="ERROR"/>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
"#;

fn config_map(cluster: &Cluster, pods: &Pods, prefix: String, file: &str, text: String) -> ConfigMap {
    let data = BTreeMap::from([
        (file.to_owned(), text),
        ("jvm.options".to_owned(), jvm_options(pods)),
        ("logback.xml".to_owned(), LOGBACK.to_owned()),
    ]);
    let content: String = data.iter().map(|(k, v)| format!("{k}\n{v}\n")).collect();
    ConfigMap {
        metadata: metadata(cluster, pods.component, format!("{prefix}-{}", labels::stamp(&content))),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use gantry_crds::status::GroupPhase;

    use super::*;

    #[test]
    fn a_group_on_its_way_starts_closed_whatever_the_user_says() {
        let object = serde_json::json!({
            "apiVersion": "rocketmq.gantry.dev/v1alpha1", "kind": "BrokerCluster",
            "metadata": {"name": "shop", "namespace": "ns", "uid": "u"},
            "spec": {"brokers": {"config": {"brokerPermission": "2"}}},
        });
        let object = serde_json::from_value(object).unwrap();
        let mut cluster = crate::broker_cluster::parse::parse(&object, &crate::config::Settings::default()).unwrap();
        let of = |cluster: &Cluster| {
            let keys = live_keys(cluster, "shop-broker-0");
            (keys[keys::PERMISSION].clone(), keys[keys::FENCE].clone())
        };
        assert_eq!(of(&cluster), ("2".into(), "0".into()));
        cluster.brokers.extent.phases.insert("shop-broker-0".into(), GroupPhase::Opening);
        assert_eq!(of(&cluster), ("4".into(), "0".into()));
        cluster.brokers.extent.fenced.insert("shop-broker-0".into());
        assert_eq!(of(&cluster), ("4".into(), keys::NEVER.into()));
    }
}
