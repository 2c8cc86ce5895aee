//! A RocketMQ of bare processes under the names that pods of BrokerCluster `shop` in namespace `bench` would have: hack/bench-topics resolves them.

use crate::processes::{BROKER, CONTROLLER, Machine, NAME_SERVER, jars};

/// Names and addresses, as they stand in the file that hack/bench-topics puts over /etc/hosts.
pub const HOSTS: [(&str, &str); 5] = [
    ("127.0.1.1", "shop-nameserver-0.shop-nameserver.bench.svc.cluster.local"),
    ("127.0.1.2", "shop-controller-0.shop-controller.bench.svc.cluster.local"),
    ("127.0.1.3", "shop-broker-0-0.shop-broker.bench.svc.cluster.local"),
    ("127.0.1.4", "shop-broker-0-1.shop-broker.bench.svc.cluster.local"),
    // Nothing listens there: who asks is told at once.
    ("127.0.1.5", "shop-proxy-default.bench.svc.cluster.local"),
];

/// What the engine runs as.
pub const SIZE: &str = "one name server, one controller, one broker group of two replicas with 256 MiB of heap each";

/// Starts all of it.
pub fn start() -> Machine {
    let mut machine = Machine::new(jars());
    let [name_server, controller, ..] = HOSTS.map(|(_, host)| host);
    let store = machine.store("nameserver");
    let own = format!("kvConfigPath={store}/kv.json\nconfigStorePath={store}/own.properties\n");
    machine.start("nameserver", NAME_SERVER, &format!("listenPort=9876\nbindAddress=127.0.1.1\n{own}"));
    let store = machine.store("controller");
    machine.start(
        "controller",
        CONTROLLER,
        &format!(
            "controllerType=jRaft\njRaftGroupId=shop\njRaftServerId={controller}:9880\njRaftInitConf={controller}:9880\n\
             jRaftControllerRPCAddr={controller}:9878\ncontrollerStorePath={store}\nconfigStorePath={store}/own.properties\n"
        ),
    );
    for (i, (address, host)) in HOSTS[2..4].iter().enumerate() {
        let name = format!("broker-{i}");
        let store = machine.store(&name);
        let config = format!(
            "brokerClusterName=shop\nbrokerName=shop-broker-0\nbrokerIP1={host}\nbrokerIP2={host}\nbindAddress={address}\nlistenPort=10911\n\
             haListenPort={}\nnamesrvAddr={name_server}:9876\nenableControllerMode=true\ncontrollerAddr={controller}:9878\n\
             storePathRootDir={store}\nstorePathEpochFile={store}/epochFileCheckpoint\nstorePathBrokerIdentity={store}/brokerIdentity\n\
             mappedFileSizeCommitLog=16777216\nmappedFileSizeConsumeQueue=60000\nmappedFileSizeTimerLog=1048576\nmaxIndexNum=40000\n\
             maxHashSlotNum=10000\ncompactionMappedFileSize=10485760\nmaxOffsetMapSize=1048576\nautoCreateTopicEnable=false\n\
             autoCreateSubscriptionGroup=false\ntimerFlushIntervalMs=10000\n",
            10912 + 10 * i
        );
        machine.start(&name, (BROKER.0, ["-Xmx256m", "-XX:MaxDirectMemorySize=256m"]), &config);
    }
    machine
}
