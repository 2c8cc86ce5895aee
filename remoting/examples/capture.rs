//! Captures what a running engine answers, for the tests in `tests/bodies.rs`. `tests/fixtures/README.md` says how to use it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use gantry_remoting::controller::GetMetadata;
use gantry_remoting::{Code, Command, blocking};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name_server, controllers, master, replica, hide, folder] = arguments.as_slice() else {
        return Err("usage: capture NAMESERVER CONTROLLER,CONTROLLER… MASTER REPLICA FOLDER-TO-HIDE OUTPUT".into());
    };
    let controllers: Vec<&str> = controllers.split(',').collect();
    let leads = |address: &&&str| {
        let metadata = blocking::ask(address, &GetMetadata, Duration::from_secs(5));
        metadata.is_ok_and(|metadata| metadata.is_leader)
    };
    let leader = *controllers.iter().find(leads).ok_or("no controller leads")?;
    let follower = *controllers.iter().find(|address| **address != leader).ok_or("there is only one controller")?;
    for (name, command) in questions() {
        let address = match name.split('-').next() {
            Some("nameserver") => name_server,
            Some("leader") => leader,
            Some("follower") => follower,
            Some("replica") => replica,
            _ => master,
        };
        let text = ask(address, &command)?.replace(hide, "/rocketmq");
        std::fs::write(Path::new(folder).join(format!("{name}.txt")), text)?;
        println!("{name}");
    }
    Ok(())
}

fn questions() -> Vec<(&'static str, Command)> {
    let ask = Command::request;
    let topic = |name: &str, kind: &str| {
        format!(
            r#"{{"topicConfigList":[{{"topicName":"{name}","readQueueNums":2,"writeQueueNums":2,"perm":6,"attributes":{{"+message.type":"{kind}"}}}}]}}"#
        )
    };
    let elect = |group: &str, id: u64| {
        let request = ask(Code::ControllerElectMaster).with("clusterName", "demo").with("brokerName", group);
        request.with("brokerId", id).with("designateElect", true)
    };
    let clean = ask(Code::CleanBrokerData).with("clusterName", "demo").with("brokerName", "broker-a");
    vec![
        ("nameserver-cluster", ask(Code::GetBrokerClusterInfo)),
        ("nameserver-config", ask(Code::GetNamesrvConfig)),
        ("nameserver-route", ask(Code::GetRouteinfoByTopic).with("topic", "orders")),
        ("nameserver-route-unknown", ask(Code::GetRouteinfoByTopic).with("topic", "nope")),
        ("nameserver-wipe", ask(Code::WipeWritePermOfBroker).with("brokerName", "broker-a")),
        ("nameserver-add", ask(Code::AddWritePermOfBroker).with("brokerName", "broker-a")),
        ("nameserver-not-supported", ask(Code::GetBrokerRuntimeInfo)),
        ("leader-metadata", ask(Code::ControllerGetMetadataInfo)),
        ("follower-metadata", ask(Code::ControllerGetMetadataInfo)),
        ("leader-sync-state", ask(Code::ControllerGetSyncStateData).body(r#"["broker-a","nope"]"#)),
        ("follower-sync-state", ask(Code::ControllerGetSyncStateData).body(r#"["broker-a"]"#)),
        ("leader-replica-info", ask(Code::ControllerGetReplicaInfo).with("brokerName", "broker-a")),
        ("leader-replica-info-unknown", ask(Code::ControllerGetReplicaInfo).with("brokerName", "nope")),
        ("leader-config", ask(Code::GetControllerConfig)),
        ("leader-elect-same", elect("broker-a", 1)),
        ("leader-elect-impossible", elect("broker-a", 9)),
        ("leader-elect-unknown-group", elect("nope", 1)),
        ("leader-clean-living", clean.with("brokerControllerIdsToClean", 2).with("isCleanLivingBroker", false)),
        ("master-runtime", ask(Code::GetBrokerRuntimeInfo)),
        ("replica-runtime", ask(Code::GetBrokerRuntimeInfo)),
        ("master-ha", ask(Code::GetBrokerHaStatus)),
        ("replica-ha", ask(Code::GetBrokerHaStatus)),
        ("master-epochs", ask(Code::GetBrokerEpochCache)),
        ("replica-epochs", ask(Code::GetBrokerEpochCache)),
        ("master-config", ask(Code::GetBrokerConfig)),
        ("master-config-black-listed", ask(Code::UpdateBrokerConfig).body("rocketmqHome=/x\n")),
        ("master-topics", ask(Code::GetAllTopicConfig)),
        ("master-topic", ask(Code::GetTopicConfig).with("topic", "orders")),
        ("master-topic-unknown", ask(Code::GetTopicConfig).with("topic", "nope")),
        ("master-topics-created", ask(Code::UpdateAndCreateTopicList).body(topic("invoices", "NORMAL"))),
        ("master-topics-refused", ask(Code::UpdateAndCreateTopicList).body(topic("receipts", "WRONG"))),
        ("master-topic-stats", ask(Code::GetTopicStatsInfo).with("topic", "orders")),
        ("master-topic-stats-unknown", ask(Code::GetTopicStatsInfo).with("topic", "nope")),
        ("master-groups", ask(Code::GetAllSubscriptiongroupConfig)),
        ("master-group", ask(Code::GetSubscriptiongroupConfig).with("group", "billing")),
        ("master-consume-stats", ask(Code::GetConsumeStats).with("consumerGroup", "billing")),
        ("master-consume-stats-none", ask(Code::GetConsumeStats).with("consumerGroup", "nobody")),
        ("master-consumers", ask(Code::GetConsumerConnectionList).with("consumerGroup", "billing")),
        ("master-consumers-offline", ask(Code::GetConsumerConnectionList).with("consumerGroup", "nobody")),
    ]
}

/// The answer as it came, not as this crate understands it: the header, a line feed, the body.
fn ask(address: &str, command: &Command) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&command.encode()?)?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    let mut rest = vec![0; u32::from_be_bytes(word) as usize];
    stream.read_exact(&mut rest)?;
    let (word, rest) = rest.split_first_chunk::<4>().ok_or("a frame without a header")?;
    let (header, body) = rest.split_at((u32::from_be_bytes(*word) & 0x00ff_ffff) as usize);
    Ok(format!("{}\n{}", std::str::from_utf8(header)?, std::str::from_utf8(body)?))
}
