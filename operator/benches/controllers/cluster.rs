//! Three controllers of one type, a name server and a broker group of two, as bare processes under names that can be moved to other addresses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_remoting::blocking::{ask, call};
use gantry_remoting::controller::{GetMetadata, GetSyncStateData, Metadata, ReplicasInfo};
use gantry_remoting::{Code, Command, ResponseCode};

use crate::processes::{BROKER, CONTROLLER, Machine, NAME_SERVER, jars};

/// Longest time for one question.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest time for one answer among many, also where each waits for a disk.
const NO_ANSWER: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often a jRaft controller takes a snapshot here, in seconds; the engine's own is once an hour.
const SNAPSHOT_SECONDS: u32 = 20;
/// Sizes that Gantry gives a controller where the user gives none.
const MEMORY: [&str; 2] = ["-Xmx88m", "-XX:MaxDirectMemorySize=48m"];

/// The broker group.
pub const GROUP: &str = "shop-broker-0";
/// Controllers.
pub const ALL: [usize; 3] = [0, 1, 2];

/// What keeps the controllers' state in agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    DLedger,
    JRaft,
}

/// All processes of one trial; gone with it.
pub struct Cluster {
    pub machine: Machine,
    type_: Type,
    /// Addresses of the controllers' names now.
    addresses: [String; 3],
    /// What stands for /etc/hosts here.
    hosts: PathBuf,
    up: [bool; 3],
    written: u64,
}

fn ip(arguments: &[&str]) -> Result<()> {
    ensure!(Program::new("ip").args(arguments).status()?.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}

fn controller(i: usize) -> String {
    format!("controller-{i}")
}

fn port(i: usize) -> usize {
    9770 + i
}

impl Cluster {
    /// Starts everything; `hosts` is the file that stands for /etc/hosts.
    pub fn start(type_: Type, hosts: PathBuf) -> Result<Self> {
        let addresses = ALL.map(|i| format!("10.98.0.{}", i + 1));
        for address in &addresses {
            ip(&["address", "replace", &format!("{address}/32"), "dev", "lo"])?;
        }
        let up = [false; 3];
        let mut cluster = Cluster { machine: Machine::new(jars()), type_, addresses, hosts, up, written: 0 };
        cluster.name_addresses()?;
        let store = cluster.machine.store("name-server");
        let own = format!("kvConfigPath={store}/kv.json\nconfigStorePath={store}/own.properties\n");
        cluster.machine.start("name-server", NAME_SERVER, &format!("listenPort=9876\nbindAddress=127.0.0.1\n{own}"));
        for i in ALL {
            cluster.start_controller(i);
        }
        Ok(cluster)
    }

    fn name_addresses(&self) -> Result<()> {
        let lines: String = ALL.iter().map(|i| format!("{} {}\n", self.addresses[*i], controller(*i))).collect();
        fs::write(&self.hosts, format!("127.0.0.1 localhost\n{lines}")).context("write the names' addresses")
    }

    pub fn start_controller(&mut self, i: usize) {
        let store = self.machine.store(&controller(i));
        let rpc = |separator: &str, prefix: fn(usize) -> String| {
            ALL.map(|i| format!("{}{}:{}", prefix(i), controller(i), port(i))).join(separator)
        };
        let own = match self.type_ {
            Type::DLedger => {
                let peers = rpc(";", |i| format!("n{i}-"));
                format!(
                    "controllerDLegerGroup=shop\ncontrollerDLegerPeers={peers}\ncontrollerDLegerSelfId=n{i}\nbindAddress=0.0.0.0\n"
                )
            }
            Type::JRaft => {
                let raft = |i| format!("{}:{}", controller(i), 9880 + i);
                format!(
                    "controllerType=jRaft\njRaftGroupId=shop\njRaftServerId={}\njRaftInitConf={}\njRaftControllerRPCAddr={}\n\
                     jRaftSnapshotIntervalSecs={SNAPSHOT_SECONDS}\njRaftScanWaitTimeoutMs=6000\n",
                    raft(i),
                    ALL.map(raft).join(","),
                    rpc(",", |_| String::new())
                )
            }
        };
        let config = format!(
            "{own}controllerStorePath={store}\nconfigStorePath={store}/own.properties\nscanNotActiveBrokerInterval=1000\n"
        );
        self.machine.start(&controller(i), (CONTROLLER.0, MEMORY), &config);
        self.up[i] = true;
    }

    pub fn kill_controller(&mut self, i: usize) {
        self.machine.kill(&controller(i));
        self.up[i] = false;
    }

    pub fn wipe_controller(&self, i: usize) {
        self.machine.lose_disk(&controller(i));
    }

    pub fn hang_controller(&mut self, i: usize) {
        self.machine.signal(&controller(i), "STOP");
        self.up[i] = false;
    }

    pub fn wake_controller(&mut self, i: usize) {
        self.machine.signal(&controller(i), "CONT");
        self.up[i] = true;
    }

    /// The controller of this number has another address from now on, and nobody has the old one.
    pub fn move_controller(&mut self, i: usize) -> Result<()> {
        let old = std::mem::replace(&mut self.addresses[i], format!("10.98.0.{}", i + 101));
        ip(&["address", "del", &format!("{old}/32"), "dev", "lo"])?;
        ip(&["address", "add", &format!("{}/32", self.addresses[i]), "dev", "lo"])?;
        self.name_addresses()
    }

    /// Brokers as Gantry configures them, in small.
    pub fn start_broker(&mut self, i: usize) {
        let name = format!("broker-{i}");
        let store = self.machine.store(&name);
        let port = 10911 + 10 * i;
        let controllers = ALL.map(|i| format!("{}:{}", controller(i), self::port(i))).join(";");
        let config = format!(
            "brokerClusterName=shop\nbrokerName={GROUP}\nbrokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={port}\n\
             haListenPort={}\nnamesrvAddr=127.0.0.1:9876\nenableControllerMode=true\ncontrollerAddr={controllers}\nallAckInSyncStateSet=true\n\
             storePathRootDir={store}\nstorePathEpochFile={store}/epochFileCheckpoint\nstorePathBrokerIdentity={store}/brokerIdentity\n\
             controllerHeartBeatTimeoutMills=5000\nhaMaxTimeSlaveNotCatchup=6000\ncheckSyncStateSetPeriod=1000\n\
             mappedFileSizeCommitLog=16777216\nmappedFileSizeConsumeQueue=60000\nmappedFileSizeTimerLog=1048576\nmaxIndexNum=40000\n\
             maxHashSlotNum=10000\ncompactionMappedFileSize=10485760\nmaxOffsetMapSize=1048576\nautoCreateTopicEnable=false\n\
             autoCreateSubscriptionGroup=false\ntimerFlushIntervalMs=10000\n",
            port + 1
        );
        self.machine.start(&name, BROKER, &config);
    }

    fn address(&self, i: usize) -> String {
        format!("{}:{}", self.addresses[i], port(i))
    }

    pub fn metadata(&self, i: usize) -> Option<Metadata> {
        ask(&self.address(i), &GetMetadata, PATIENCE).ok()
    }

    /// The controller that says of itself that it leads, and answers a question that only a leader answers.
    pub fn leader(&self) -> Option<usize> {
        ALL.into_iter()
            .filter(|i| self.up[*i])
            .find(|i| self.metadata(*i).is_some_and(|m| m.is_leader) && self.groups_of(*i).is_some())
    }

    fn groups_of(&self, i: usize) -> Option<Option<ReplicasInfo>> {
        let question = GetSyncStateData { broker_names: vec![GROUP.to_owned()] };
        ask(&self.address(i), &question, PATIENCE).ok().map(|mut groups| groups.remove(GROUP))
    }

    /// The broker group as the leader has it.
    pub fn group(&self) -> Option<ReplicasInfo> {
        self.groups_of(self.leader()?)?
    }

    /// The broker that leads, and is alive to the controllers.
    pub fn master(&self) -> Option<usize> {
        let group = self.group()?;
        let address = group.master_address.clone()?;
        let alive = |r: &&gantry_remoting::controller::ReplicaIdentity| r.alive == Some(true);
        let replica = group.in_sync_replicas.iter().filter(alive).find(|r| r.broker_address == address)?;
        Some(usize::from(replica.broker_address.ends_with("10921")))
    }

    pub fn in_sync(&self) -> usize {
        self.group().map_or(0, |g| g.in_sync_replicas.iter().filter(|r| r.alive == Some(true)).count())
    }

    /// A change that the leader acknowledges only when a majority has it: a replica of a group of its own gets another address.
    pub fn write(&mut self) -> bool {
        self.leader().is_some_and(|leader| self.write_to(leader))
    }

    fn write_to(&mut self, leader: usize) -> bool {
        self.written += 1;
        let of_trial =
            |code| Command { code, ..Command::request(Code::ControllerGetReplicaInfo) }.with("brokerName", "trial");
        let register = of_trial(1003)
            .with("clusterName", "shop")
            .with("brokerId", 1)
            .with("brokerAddress", format!("127.0.0.1:{}", 20_000 + self.written % 10_000))
            .with("invokeTime", 0);
        let address = self.address(leader);
        let Ok(reply) = call(&address, &register, PATIENCE) else { return false };
        if reply.response_code() == ResponseCode::ControllerBrokerNeedToBeRegistered {
            let apply = of_trial(1013)
                .with("clusterName", "shop")
                .with("appliedBrokerId", 1)
                .with("registerCheckCode", "127.0.0.1:20000;1");
            return call(&address, &apply, PATIENCE).is_ok_and(|r| r.response_code() == ResponseCode::Success);
        }
        reply.response_code() == ResponseCode::Success
    }

    /// That many changes, one after the other; how long one took.
    pub fn writes(&mut self, n: u32) -> Result<Duration> {
        let leader = self.leader().context("no controller leads")?;
        let begun = Instant::now();
        for _ in 0..n {
            ensure!(self.write_to(leader), "a change was not acknowledged");
        }
        Ok(begun.elapsed() / n)
    }

    /// Heartbeats of a broker that nobody knows, one after the other over one connection for each of `brokers`.
    pub fn heartbeats(&self, brokers: u32, each: u32) -> Result<()> {
        let address = self.address(self.leader().context("no controller leads")?);
        let beat = |address: String, id: u32| -> Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(NO_ANSWER))?;
            let number = Command { code: 904, ..Command::request(Code::ControllerGetReplicaInfo) };
            let beat = number
                .with("clusterName", "shop")
                .with("brokerName", "shop-broker-trial")
                .with("brokerAddr", "shop-broker-trial-0.shop-broker.production.svc.cluster.local:10911")
                .with("brokerId", id)
                .with("epoch", 1)
                .with("maxOffset", 1)
                .with("confirmOffset", 1)
                .with("heartbeatTimeoutMills", 600_000);
            for _ in 0..each {
                stream.write_all(&beat.encode()?)?;
                let mut length = [0; 4];
                stream.read_exact(&mut length)?;
                let mut rest = vec![0; usize::try_from(u32::from_be_bytes(length))?];
                stream.read_exact(&mut rest)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let one = |id| {
                let address = address.clone();
                scope.spawn(move || beat(address, id))
            };
            let beats: Vec<_> = (1..=brokers).map(one).collect();
            beats.into_iter().try_for_each(|b| b.join().map_err(|_| anyhow::anyhow!("a thread failed"))?)
        })
    }

    /// Every controller that runs answers and names the same leader.
    pub fn agrees(&self) -> bool {
        let leaders: Vec<_> =
            ALL.iter().filter(|i| self.up[**i]).map(|i| self.metadata(*i).and_then(|m| m.leader_address)).collect();
        leaders.iter().all(|l| l.is_some() && *l == leaders[0])
    }

    /// Bytes and processor seconds: what `/proc` says of a controller that runs.
    pub fn usage(&self, i: usize) -> Result<(u64, f64)> {
        let pid = self.machine.pid(&controller(i));
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Fields 14 and 15, user and system time in hundredths of a second; the name before them may hold blanks.
        let fields = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Ok((resident.unwrap_or(0u64) * 1024, ticks as f64 / 100.0))
    }

    /// Bytes written to disk so far by a controller that runs.
    pub fn written_to_disk(&self, i: usize) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.machine.pid(&controller(i))))?;
        Ok(io.lines().find_map(|l| l.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0))
    }

    /// Whether every controller that runs has taken a snapshot.
    pub fn has_snapshots(&self) -> bool {
        let taken = |i: &usize| {
            let store = PathBuf::from(self.machine.store(&controller(*i)));
            let folder = match self.type_ {
                Type::DLedger => store.join(format!("dledger-n{i}/snapshot")),
                Type::JRaft => store.join("snapshot"),
            };
            let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.any(|e| e.file_name().to_string_lossy().starts_with("snapshot_"))
        };
        ALL.iter().filter(|i| self.up[**i]).all(taken)
    }
}

/// Looks until it is so: how long that took, or nothing when it was not so within `limit`.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if so() {
            return Some(begun.elapsed());
        }
        std::thread::sleep(LOOK);
    }
    None
}
